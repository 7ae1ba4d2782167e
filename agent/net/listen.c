#include "agent/net/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 128

bool
listen_parse(const char *host, uint16_t port, struct sockaddr_storage *out)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    memset(out, 0, sizeof *out);
    if (uv_ip4_addr(host, port, &v4) == 0) {
        memcpy(out, &v4, sizeof v4);
        return true;
    }
    if (uv_ip6_addr(host, port, &v6) == 0) {
        memcpy(out, &v6, sizeof v6);
        return true;
    }
    return false;
}

int
listen_tcp(const char *host, uint16_t port, int *fd, struct err *err)
{
    struct sockaddr_storage at;
    const int on = 1;
    const int off = 0;

    if (!listen_parse(host, port, &at)) {
        return err_set(err, HA_EINVAL, "\"%s\" is not an IP address to listen on", host);
    }
    const int s = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s < 0) {
        return err_set(err, HA_EIO, "no socket for %s port %u: %s", host, port, strerror(errno));
    }
    const socklen_t len = at.ss_family == AF_INET6 ? (socklen_t)sizeof(struct sockaddr_in6)
                                                   : (socklen_t)sizeof(struct sockaddr_in);
    (void)setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (at.ss_family == AF_INET6) {
        (void)setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if (bind(s, (const struct sockaddr *)&at, len) != 0 || listen(s, BACKLOG) != 0) {
        const int why = errno;
        close(s);
        return err_set(err,
                       why == EADDRINUSE ? HA_EBUSY : HA_EIO,
                       "cannot listen on %s port %u: %s",
                       host,
                       port,
                       strerror(why));
    }
    *fd = s;
    return HA_OK;
}

void
listen_remote(const uv_tcp_t *tcp, char *out, size_t size)
{
    struct sockaddr_storage at;
    int len = (int)sizeof at;

    memset(&at, 0, sizeof at);
    (void)snprintf(out, size, "?");
    if (uv_tcp_getpeername(tcp, (struct sockaddr *)&at, &len) != 0) {
        return;
    }
    if (at.ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, &at, sizeof v6);
        if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
            (void)inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], out, (socklen_t)size);
        } else {
            (void)inet_ntop(AF_INET6, &v6.sin6_addr, out, (socklen_t)size);
        }
    } else if (at.ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, &at, sizeof v4);
        (void)inet_ntop(AF_INET, &v4.sin_addr, out, (socklen_t)size);
    }
}
