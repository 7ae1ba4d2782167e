# Hawser's two images.
#
#   docker build --target database -t hawser-database .
#   docker build --target pgpool -t hawser-pgpool .
#
# --build-arg DEBIAN=trixie --build-arg PG_MAJOR=17 makes them of Debian 13: PostgreSQL 17,
# Pgpool-II 4.6, libraft 0.22.
#
# Where the build's network has no name service of its own, add --network host.

ARG DEBIAN=bookworm
ARG BASE=debian:${DEBIAN}-slim

# ---- the programs ----
FROM ${BASE} AS tools
ARG PG_MAJOR=15
ENV DEBIAN_FRONTEND=noninteractive
# Packages that are unpacked without what they depend on: of the server's only the headers are wanted
# (it asks for a whole LLVM); Debian 12 has llhttp as four files of C in a package of Node.js only.
RUN set -eux; \
    apt-get update; \
    llhttp="$(apt-cache search --names-only '^libllhttp-dev$' | cut -d ' ' -f 1)"; \
    apt-get install -y --no-install-recommends \
        gcc libc6-dev meson pkg-config \
        libcurl4-openssl-dev libjansson-dev libkrb5-dev libpq-dev libraft-dev libssl-dev \
        libuv1-dev libyaml-dev $llhttp; \
    mkdir /tmp/unpack; cd /tmp/unpack; \
    apt-get download "postgresql-server-dev-${PG_MAJOR}" "postgresql-client-${PG_MAJOR}"; \
    [ -n "$llhttp" ] || apt-get download node-llhttp; \
    for package in *.deb; do dpkg -x "$package" /; done; \
    rm -rf /tmp/unpack /var/lib/apt/lists/*

FROM tools AS build
WORKDIR /src
COPY meson.build meson_options.txt ./
COPY base base
COPY store store
COPY raft raft
COPY agent agent
COPY fence fence
COPY tools tools
COPY docs docs
RUN set -eux; \
    meson setup /build --prefix /usr --libdir lib --buildtype release -Dstrip=true -Dtests=false; \
    meson compile -C /build; \
    DESTDIR=/out meson install -C /build --no-rebuild; \
    rm -rf /out/usr/share/man

# ---- database: agent and PostgreSQL ----
FROM ${BASE} AS database-packages
ARG PG_MAJOR=15
ENV DEBIAN_FRONTEND=noninteractive
# The user has the number that it has in the official image, so that its volumes fit. So do the
# locale and the directories.
RUN set -eux; \
    groupadd -r postgres --gid=999; \
    useradd -r -g postgres --uid=999 --home-dir=/var/lib/postgresql --shell=/bin/bash postgres; \
    install -d -o postgres -g postgres /var/lib/postgresql; \
    apt-get update; \
    apt-get install -y --no-install-recommends postgresql-common; \
    sed -ri 's/^#?create_main_cluster *=.*$/create_main_cluster = false/' \
        /etc/postgresql-common/createcluster.conf; \
    libraries="$(apt-cache depends libraft-dev libllhttp-dev 2>/dev/null | \
        sed -n 's/^ *Depends: \(lib\(raft\|llhttp\)[0-9].*\)/\1/p')"; \
    apt-get install -y --no-install-recommends \
        "postgresql-${PG_MAJOR}" libcurl4 libjansson4 libuv1 $libraries tini xz-utils zstd; \
    localedef -i en_US -c -f UTF-8 -A /usr/share/locale/locale.alias en_US.UTF-8; \
    rm -rf /var/lib/apt/lists/* "/usr/lib/postgresql/${PG_MAJOR}/lib/bitcode"; \
    install -d /docker-entrypoint-initdb.d

FROM database-packages AS database
ARG PG_MAJOR=15
ARG VERSION=0.1.0
ARG REVISION=unknown
COPY --from=build /out/usr/sbin/haagent /usr/sbin/
COPY --from=build /out/usr/bin/hactl /usr/bin/
COPY --from=build /out/usr/lib/hawser /usr/lib/hawser
COPY --from=build /out/usr/share/postgresql /usr/share/postgresql
ENV PATH=$PATH:/usr/lib/postgresql/${PG_MAJOR}/bin \
    LANG=en_US.utf8 \
    PG_MAJOR=${PG_MAJOR} \
    PGDATA=/var/lib/postgresql/data \
    HA_STATE_DIR=/var/lib/postgresql/hawser
# One volume holds data and the agent's own state: they are lost together or not at all.
VOLUME /var/lib/postgresql
EXPOSE 5432 7420 8008
# The agent turns it into a hand-over and a fast shutdown.
STOPSIGNAL SIGTERM
# "The agent is alive", not "PostgreSQL answers": a standby that is being copied for hours is well,
# and Swarm kills what is not.
HEALTHCHECK --interval=10s --timeout=30s --start-period=120s --retries=6 \
    CMD ["/usr/sbin/haagent", "--health"]
# tini reaps what PostgreSQL's children leave behind. When the agent dies, all else does.
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["/usr/sbin/haagent"]
LABEL org.opencontainers.image.title="hawser-database" \
      org.opencontainers.image.description="PostgreSQL ${PG_MAJOR} with Hawser's agent" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# ---- pgpool: the gateway ----
FROM ${BASE} AS pgpool-packages
ARG PG_MAJOR=15
ENV DEBIAN_FRONTEND=noninteractive
RUN set -eux; \
    apt-get update; \
    apt-get install -y --no-install-recommends \
        pgpool2 "postgresql-client-${PG_MAJOR}" libjansson4 tini; \
    rm -rf /var/lib/apt/lists/*

FROM pgpool-packages AS pgpool
ARG VERSION=0.1.0
ARG REVISION=unknown
COPY --from=build /out/usr/sbin/hapool /usr/sbin/
EXPOSE 9999 9898
STOPSIGNAL SIGTERM
# Patient: each question logs in to every server, and a gateway that is killed answers nobody.
HEALTHCHECK --interval=15s --timeout=30s --start-period=60s --retries=8 \
    CMD ["/usr/sbin/hapool", "--health"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["/usr/sbin/hapool"]
LABEL org.opencontainers.image.title="hawser-pgpool" \
      org.opencontainers.image.description="Pgpool-II that follows Hawser's primary" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
