#include "agent/postgres/pg_control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/postgres/pg_wal.h"

#define VALUE_MAX 128

/* Copies the value behind "label" (at the beginning of a line); false when there is none. */
static bool
value_of(const char *text, const char *label, char out[VALUE_MAX])
{
    const size_t label_len = strlen(label);

    while (text != NULL && *text != '\0') {
        if (strncmp(text, label, label_len) == 0) {
            const char *value = text + label_len + strspn(text + label_len, " ");
            const size_t len = strcspn(value, "\r\n");

            if (len == 0 || len >= VALUE_MAX) {
                return false;
            }
            memcpy(out, value, len);
            out[len] = '\0';
            return true;
        }
        text = strchr(text, '\n');
        text = text == NULL ? NULL : text + 1;
    }
    return false;
}

static bool
number_parse(const char *text, uint64_t max, uint64_t *out)
{
    char *end;

    if (*text < '0' || *text > '9') {
        return false;
    }
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && *out <= max;
}

static int
number_of(const char *text, const char *label, uint64_t max, uint64_t *out, struct err *err)
{
    char value[VALUE_MAX];

    if (!value_of(text, label, value) || !number_parse(value, max, out)) {
        return err_set(err, HA_ECORRUPT, "pg_controldata: no usable line \"%s\"", label);
    }
    return HA_OK;
}

static int
lsn_of(const char *text, const char *label, uint64_t *out, struct err *err)
{
    char value[VALUE_MAX];

    if (!value_of(text, label, value) || !pg_lsn_parse(value, out)) {
        return err_set(err, HA_ECORRUPT, "pg_controldata: no usable line \"%s\"", label);
    }
    return HA_OK;
}

int
pg_control_parse(const char *text, struct pg_control *out, struct err *err)
{
    char state[VALUE_MAX];
    uint64_t timeline = 0;
    uint64_t end_timeline = 0;
    int rc = number_of(text, "Database system identifier:", UINT64_MAX, &out->sysid, err);

    if (rc == HA_OK) {
        rc = lsn_of(text, "Latest checkpoint location:", &out->checkpoint_lsn, err);
    }
    if (rc == HA_OK) {
        rc = number_of(text, "Latest checkpoint's TimeLineID:", UINT32_MAX, &timeline, err);
    }
    if (rc == HA_OK) {
        rc = lsn_of(text, "Minimum recovery ending location:", &out->min_recovery_lsn, err);
    }
    if (rc == HA_OK) {
        rc = number_of(text, "Min recovery ending loc's timeline:", UINT32_MAX, &end_timeline, err);
    }
    if (rc == HA_OK && !value_of(text, "Database cluster state:", state)) {
        rc =
            err_set(err, HA_ECORRUPT, "pg_controldata: no usable line \"Database cluster state:\"");
    }
    if (rc != HA_OK) {
        return rc;
    }
    out->timeline = (uint32_t)(end_timeline > timeline ? end_timeline : timeline);
    out->is_shut_down =
        strcmp(state, "shut down") == 0 || strcmp(state, "shut down in recovery") == 0;
    out->was_primary =
        strcmp(state, "shut down in recovery") != 0 && strcmp(state, "in archive recovery") != 0;
    return HA_OK;
}

int
pg_control_read_sysid(const char *pgdata, uint64_t *sysid, struct err *err)
{
    char path[4096];
    uint64_t v = 0;
    ssize_t len;
    int fd;

    (void)snprintf(path, sizeof path, "%s/global/pg_control", pgdata);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return err_set(err,
                       errno == ENOENT || errno == ENOTDIR ? HA_ENOTFOUND : HA_EIO,
                       "%s: %s",
                       path,
                       strerror(errno));
    }
    len = pread(fd, &v, sizeof v, 0);
    (void)close(fd);
    if (len != (ssize_t)sizeof v || v == 0) {
        return err_set(err, HA_ECORRUPT, "%s: no system identifier in it", path);
    }
    *sysid = v;
    return HA_OK;
}
