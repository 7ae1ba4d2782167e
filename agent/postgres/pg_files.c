#include "agent/postgres/pg_files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define READ_MAX (1024 * 1024)
#define SLOT_KEEP_MB_MAX (16U * 1024)
#define SLOT_KEEP_MB_MIN 128U
#define INCLUDE_MARK "# written by the agent"

static int
fail_errno(struct err *err, const char *path)
{
    return err_set(err, errno == ENOSPC ? HA_ENOSPC : HA_EIO, "%s: %s", path, strerror(errno));
}

static int
sync_parent(const char *path, struct err *err)
{
    char dir[PG_PATH_MAX];
    char *slash;
    int fd;
    int rc = HA_OK;

    (void)snprintf(dir, sizeof dir, "%s", path);
    slash = strrchr(dir, '/');
    if (slash != NULL) {
        slash[slash == dir ? 1 : 0] = '\0';
    }
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        rc = fail_errno(err, dir);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

static bool
write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(fd, data, len);

        if (n < 0 && errno != EINTR) {
            return false;
        }
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static int
write_file(const struct postgres *pg,
           const char *path,
           struct pg_text *text,
           bool is_synced,
           struct err *err)
{
    char temp[PG_PATH_MAX + 8];
    int rc = HA_OK;
    int fd;

    if (text->has_failed) {
        pg_text_free(text);
        return err_set(err, HA_ENOMEM, "%s: %s", path, err_code_text(HA_ENOMEM));
    }
    (void)snprintf(temp, sizeof temp, "%s.tmp", path);
    (void)unlink(temp);
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        rc = fail_errno(err, temp);
        pg_text_free(text);
        return rc;
    }
    if ((geteuid() == 0 && fchown(fd, pg->config.uid, pg->config.gid) != 0) ||
        !write_all(fd, text->data == NULL ? "" : text->data, text->len) ||
        (is_synced && fsync(fd) != 0)) {
        rc = fail_errno(err, temp);
    }
    (void)close(fd);
    pg_text_free(text);
    if (rc == HA_OK && rename(temp, path) != 0) {
        rc = fail_errno(err, path);
    }
    if (rc != HA_OK) {
        (void)unlink(temp);
        return rc;
    }
    return is_synced ? sync_parent(path, err) : HA_OK;
}

int
pg_files_put(const struct postgres *pg, const char *path, struct pg_text *text, struct err *err)
{
    return write_file(pg, path, text, false, err);
}

int
pg_files_write(const struct postgres *pg, const char *path, struct pg_text *text, struct err *err)
{
    return write_file(pg, path, text, true, err);
}

int
pg_files_read(const char *path, char **out, struct err *err)
{
    char *data = malloc(READ_MAX + 1);
    size_t len = 0;
    ssize_t n = 1;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || data == NULL) {
        const int rc = fd < 0 && errno == ENOENT ? HA_ENOTFOUND : HA_EIO;

        if (fd >= 0) {
            (void)close(fd);
        }
        free(data);
        return err_set(err, rc, "%s: %s", path, strerror(errno));
    }
    while (n > 0 && len < READ_MAX) {
        n = read(fd, data + len, READ_MAX - len);
        len += n > 0 ? (size_t)n : 0;
    }
    (void)close(fd);
    data[len] = '\0';
    if (n != 0) {
        free(data);
        return err_set(err, HA_EIO, "%s: cannot be read as a small text", path);
    }
    *out = data;
    return HA_OK;
}

void
pg_slot_name(const char *address, char out[PG_SLOT_NAME_MAX])
{
    size_t len = (size_t)snprintf(out, PG_SLOT_NAME_MAX, "hawser_");

    for (; *address != '\0' && len + 1 < PG_SLOT_NAME_MAX; address++) {
        const char c = (char)(*address >= 'A' && *address <= 'Z' ? *address - 'A' + 'a' : *address);
        const bool is_plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

        out[len++] = (char)(is_plain ? c : '_');
    }
    out[len] = '\0';
}

int
pg_files_write_passfile(struct postgres *pg, const char *path, struct err *err)
{
    struct pg_text text = {0};

    pg_text_add(&text, "*:*:*:");
    pg_text_add_passfile(&text, pg->config.replication_user);
    pg_text_add(&text, ":");
    pg_text_add_passfile(&text, pg->config.replication_password);
    pg_text_add(&text, "\n");
    return pg_files_put(pg, path, &text, err);
}

/* How to reach the upstream. No password in it: the passfile is named instead. */
static void
add_conninfo(const struct postgres *pg, struct pg_text *text)
{
    struct pg_text info = {0};
    char name[PG_SLOT_NAME_MAX];

    pg_slot_name(pg->config.self, name);
    pg_text_add(&info, "host=");
    pg_text_add_conninfo(&info, pg->follow);
    pg_text_add(&info, " port=%u user=", (unsigned)pg->config.port);
    pg_text_add_conninfo(&info, pg->config.replication_user);
    pg_text_add(&info, " passfile=");
    pg_text_add_conninfo(&info, pg->follow_passfile);
    pg_text_add(&info,
                " application_name=%s connect_timeout=3 keepalives=1 keepalives_idle=2"
                " keepalives_interval=1 keepalives_count=3 tcp_user_timeout=5000"
                " sslmode=prefer gssencmode=disable%s",
                name,
                /* For the worker that copies failover slots; the WAL receiver needs none. */
                pg_logical_is_on(pg) ? " dbname=postgres" : "");
    text->has_failed |= info.has_failed;
    pg_text_add(text, "primary_conninfo = ");
    pg_text_add_conf(text, info.data == NULL ? "" : info.data);
    pg_text_add(text, "\nprimary_slot_name = '%s'\n", name);
    pg_text_free(&info);
}

/* What an absent member may hold back: half of what is free when the agent starts. */
static unsigned
slot_keep_mb(struct postgres *pg)
{
    struct statvfs fs;
    uint64_t half;

    if (pg->slot_keep_mb == 0 && statvfs(pg->config.pgdata, &fs) == 0) {
        half = (uint64_t)fs.f_bavail * fs.f_frsize / 2 >> 20;
        pg->slot_keep_mb = half > SLOT_KEEP_MB_MAX   ? SLOT_KEEP_MB_MAX
                           : half < SLOT_KEEP_MB_MIN ? SLOT_KEEP_MB_MIN
                                                     : (unsigned)half;
    }
    return pg->slot_keep_mb == 0 ? SLOT_KEEP_MB_MAX : pg->slot_keep_mb;
}

/* Defaults of ours that POSTGRESQL_CONF may override, then its settings, then what we own. */
int
pg_files_write_settings(struct postgres *pg, struct err *err)
{
    struct pg_text text = {0};
    char names[HA_MEMBERS_MAX * (PG_SLOT_NAME_MAX + 3) + 16];
    int rc;

    pg_text_add(&text,
                "# Written by the agent; changes are lost. Use POSTGRESQL_CONF.\n"
                "wal_level = replica\n"
                "max_wal_senders = 16\n"
                "max_replication_slots = 16\n"
                "wal_keep_size = 512MB\n"
                "max_slot_wal_keep_size = %uMB\n"
                "wal_sender_timeout = 10s\n",
                slot_keep_mb(pg));
    pg_logical_add_defaults(pg, &text);
    for (size_t i = 0; i < pg->extra.n; i++) {
        if (strcmp(pg->extra.settings[i].name, "shared_preload_libraries") != 0) {
            pg_text_add(&text, "%s = ", pg->extra.settings[i].name);
            pg_text_add_conf(&text, pg->extra.settings[i].value);
            pg_text_add(&text, "\n");
        }
    }
    pg_text_add(&text,
                "hot_standby = on\n"
                "wal_log_hints = on\n"
                "password_encryption = 'scram-sha-256'\n"
                "restart_after_crash = off\n"
                "recovery_target_timeline = 'latest'\n"
                "wal_retrieve_retry_interval = 200ms\n"
                "wal_receiver_timeout = 5s\n"
                "wal_receiver_status_interval = 1s\n");
    pg_sync_text(pg, names, sizeof names);
    pg_text_add(&text, "synchronous_standby_names = ");
    pg_text_add_conf(&text, names);
    pg_text_add(&text, "\n");
    pg_logical_add_owned(pg, &text);
    if (pg->follow[0] == '\0') {
        /* A WAL receiver that starts after this with the old conninfo finds no password. */
        (void)unlink(pg->follow_passfile);
        pg_text_add(&text, "primary_conninfo = ''\nprimary_slot_name = ''\n");
    } else {
        rc = pg_files_write_passfile(pg, pg->follow_passfile, err);
        if (rc != HA_OK) {
            pg_text_free(&text);
            return rc;
        }
        add_conninfo(pg, &text);
    }
    return pg_files_put(pg, pg->settings_path, &text, err);
}

static void
add_hba_line(struct pg_text *text, const char *database, const char *user, const char *address)
{
    const char *const width =
        strchr(address, '/') != NULL ? "" : (strchr(address, ':') != NULL ? "/128" : "/32");

    pg_text_add(text, "host %s ", database);
    if (user != NULL) {
        pg_text_add_name(text, user);
    } else {
        pg_text_add(text, "all");
    }
    pg_text_add(text, " %s%s scram-sha-256\n", address, width);
}

/* Client networks, comma-separated; pg_find.c has checked their characters. */
static void
add_networks(struct pg_text *text, const char *networks)
{
    static const char SEPARATORS[] = ", ";
    char one[64];

    if (networks[strspn(networks, SEPARATORS)] == '\0') {
        pg_text_add(text, "host all all all scram-sha-256\n");
        return;
    }
    while (*(networks += strspn(networks, SEPARATORS)) != '\0') {
        const size_t len = strcspn(networks, SEPARATORS);

        (void)snprintf(one, sizeof one, "%.*s", (int)len, networks);
        add_hba_line(text, "all", NULL, one);
        networks += len;
    }
}

int
pg_files_write_access(struct postgres *pg, struct err *err)
{
    static const char *const LOOPBACK[] = {"127.0.0.1", "::1"};
    const char *const repl = pg->config.replication_user;
    const bool is_open = !pg_sync_is_closed(pg);
    struct pg_text hba = {0};
    struct pg_text ident = {0};
    int rc;

    pg_text_add(&hba, "# Written by the agent; changes are lost.\nlocal all ");
    pg_text_add_name(&hba, pg->config.superuser);
    pg_text_add(&hba, " peer map=hawser\n");
    if (is_open) {
        pg_text_add(&hba, "local all all scram-sha-256\n");
    }
    for (size_t i = 0; i < HA_COUNT_OF(LOOPBACK); i++) {
        add_hba_line(&hba, "replication", repl, LOOPBACK[i]);
        add_hba_line(&hba, "all", is_open ? NULL : repl, LOOPBACK[i]);
    }
    for (size_t i = 0; i < pg->n_members; i++) {
        add_hba_line(&hba, "replication", repl, pg->members[i]);
        add_hba_line(&hba, "all", is_open ? NULL : repl, pg->members[i]);
    }
    if (is_open) {
        add_networks(&hba, pg->config.client_networks);
    }

    pg_text_add(&ident, "# Written by the agent; changes are lost.\nhawser root ");
    pg_text_add_name(&ident, pg->config.superuser);
    pg_text_add(&ident, "\nhawser ");
    pg_text_add_name(&ident, pg->os_user);
    pg_text_add(&ident, " ");
    pg_text_add_name(&ident, pg->config.superuser);
    pg_text_add(&ident, "\n");

    rc = pg_files_put(pg, pg->ident_path, &ident, err);
    if (rc != HA_OK) {
        pg_text_free(&hba);
        return rc;
    }
    return pg_files_put(pg, pg->hba_path, &hba, err);
}

/* --- in PGDATA --- */

/* Name of the setting that a line of postgresql.auto.conf gives; false for comments and blanks. */
static bool
line_setting(const char *line, size_t len, char name[PG_CONF_NAME_MAX])
{
    size_t at = 0;
    size_t n = 0;

    while (at < len && (line[at] == ' ' || line[at] == '\t')) {
        at++;
    }
    while (at < len && n + 1 < PG_CONF_NAME_MAX && strchr(" \t=#\r", line[at]) == NULL) {
        name[n++] = line[at++];
    }
    name[n] = '\0';
    return n > 0;
}

/* Takes owned settings out of postgresql.auto.conf, which would win over the included file. */
static int
scrub_auto_conf(struct postgres *pg, const char *pgdata, struct err *err)
{
    char path[PG_PATH_MAX + 32];
    char name[PG_CONF_NAME_MAX];
    struct pg_text kept = {0};
    bool is_changed = false;
    char *old;
    int rc;

    (void)snprintf(path, sizeof path, "%s/postgresql.auto.conf", pgdata);
    rc = pg_files_read(path, &old, err);
    if (rc != HA_OK) {
        return rc == HA_ENOTFOUND ? HA_OK : rc;
    }
    for (const char *line = old; *line != '\0';) {
        const size_t len = strcspn(line, "\n");

        if (line_setting(line, len, name) && pg_conf_is_owned(name)) {
            postgres_log(pg, PG_LOG_INFO, "setting_removed", "%s: %s is the agent's", path, name);
            is_changed = true;
        } else {
            pg_text_add_bytes(&kept, line, len);
            pg_text_add_bytes(&kept, "\n", 1);
        }
        line += len + (line[len] == '\n' ? 1 : 0);
    }
    free(old);
    if (!is_changed) {
        pg_text_free(&kept);
        return HA_OK;
    }
    return pg_files_write(pg, path, &kept, err);
}

/* The include line goes last, so that what it includes wins; an older one goes. */
static int
put_include(struct postgres *pg, const char *pgdata, struct err *err)
{
    char path[PG_PATH_MAX + 32];
    struct pg_text text = {0};
    struct pg_text wanted = {0};
    char *old = NULL;
    bool is_same = false;
    int rc;

    (void)snprintf(path, sizeof path, "%s/postgresql.conf", pgdata);
    rc = pg_files_read(path, &old, err);
    if (rc != HA_OK && rc != HA_ENOTFOUND) {
        return rc;
    }
    pg_text_add(&wanted, "include ");
    pg_text_add_conf(&wanted, pg->settings_path);
    pg_text_add(&wanted, " " INCLUDE_MARK);
    for (const char *line = old == NULL ? "" : old; *line != '\0';) {
        const size_t len = strcspn(line, "\n");
        const char *mark = memmem(line, len, INCLUDE_MARK, strlen(INCLUDE_MARK));

        if (mark == NULL) {
            pg_text_add_bytes(&text, line, len);
            pg_text_add_bytes(&text, "\n", 1);
        } else if (line[len] == '\n' && line[len + 1] == '\0' && len == wanted.len) {
            is_same = wanted.data != NULL && memcmp(line, wanted.data, len) == 0;
        }
        line += len + (line[len] == '\n' ? 1 : 0);
    }
    free(old);
    pg_text_add_bytes(&text, wanted.data == NULL ? "" : wanted.data, wanted.len);
    pg_text_add(&text, "\n");
    text.has_failed |= wanted.has_failed;
    pg_text_free(&wanted);
    if (is_same) {
        pg_text_free(&text);
        return HA_OK;
    }
    return pg_files_write(pg, path, &text, err);
}

int
pg_files_adapt(struct postgres *pg, const char *pgdata, struct err *err)
{
    const int rc = put_include(pg, pgdata, err);

    return rc == HA_OK ? scrub_auto_conf(pg, pgdata, err) : rc;
}

static bool
has_file(const char *pgdata, const char *name)
{
    char path[PG_PATH_MAX + 32];

    (void)snprintf(path, sizeof path, "%s/%s", pgdata, name);
    return access(path, F_OK) == 0;
}

bool
pg_files_has_backup_label(const char *pgdata)
{
    return has_file(pgdata, "backup_label");
}

bool
pg_files_has_standby_signal(const char *pgdata)
{
    return has_file(pgdata, "standby.signal");
}

int
pg_files_write_standby_signal(struct postgres *pg, const char *pgdata, struct err *err)
{
    char path[PG_PATH_MAX + 32];
    struct pg_text empty = {0};

    if (pg_files_has_standby_signal(pgdata)) {
        return HA_OK;
    }
    (void)snprintf(path, sizeof path, "%s/standby.signal", pgdata);
    return pg_files_write(pg, path, &empty, err);
}

/* --- directories --- */

static int
make_dir(const struct postgres *pg, const char *path, mode_t mode, bool is_servers, struct err *err)
{
    const bool is_root = geteuid() == 0;

    if (mkdir(path, mode) != 0) {
        return errno == EEXIST ? HA_OK : fail_errno(err, path);
    }
    if ((is_root && chown(path, is_servers ? pg->config.uid : 0, pg->config.gid) != 0) ||
        chmod(path, mode) != 0) {
        return fail_errno(err, path);
    }
    return HA_OK;
}

/* A directory that PostgreSQL must be able to use, opened up for it where we may. */
static int
open_up(struct postgres *pg, const char *path, int access_mode, mode_t more, struct err *err)
{
    struct stat st;

    if (pg_may_access(pg, path, access_mode)) {
        return HA_OK;
    }
    if (geteuid() != 0 || stat(path, &st) != 0 || chown(path, (uid_t)-1, pg->config.gid) != 0 ||
        chmod(path, (st.st_mode & 07777) | more) != 0) {
        return err_set(err, HA_EREFUSED, "%s: user %s may not use it", path, pg->os_user);
    }
    postgres_log(
        pg, PG_LOG_INFO, "opened_up", "%s: made usable for group of %s", path, pg->os_user);
    return HA_OK;
}

int
pg_files_prepare(struct postgres *pg, struct err *err)
{
    int rc = make_dir(pg, pg->config.state_dir, 0711, false, err);

    if (rc == HA_OK) {
        rc = open_up(pg, pg->config.state_dir, X_OK, 0010, err);
    }
    /* Sticky: backends may make their socket, but not rename the agent's lease page away. */
    if (rc == HA_OK) {
        rc = make_dir(pg, pg->config.run_dir, 01775, false, err);
    }
    if (rc == HA_OK) {
        rc = open_up(pg, pg->config.run_dir, W_OK | X_OK, 01070, err);
    }
    return rc;
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

void
pg_files_remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
