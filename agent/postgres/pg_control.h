/*
 * pg_control.h - what the control file of a stopped server says.
 *
 * The text comes from pg_controldata of the data directory's own major version,
 * run with LC_ALL=C: the file's layout differs between majors. Only its first
 * eight bytes, the system identifier, are the same in all, and are read directly.
 *
 * pg_control_parse() is pure and fit for hostile input.
 */
#ifndef HA_POSTGRES_PG_CONTROL_H
#define HA_POSTGRES_PG_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct pg_control {
    uint64_t sysid;
    bool is_shut_down;       /* "shut down" or "shut down in recovery" */
    bool was_primary;        /* it was no standby when it last ran */
    uint32_t timeline;       /* of the latest checkpoint, or of the minimum recovery end if later */
    uint64_t checkpoint_lsn; /* latest checkpoint location */
    uint64_t min_recovery_lsn; /* 0 = none */
};

/* Takes the output of pg_controldata apart. HA_ECORRUPT names the line that misses or is bad. */
int pg_control_parse(const char *text, struct pg_control *out, struct err *err) HA_MUST_CHECK;

/* System identifier of the data directory, from the control file itself. HA_ENOTFOUND: no file. */
int pg_control_read_sysid(const char *pgdata, uint64_t *sysid, struct err *err) HA_MUST_CHECK;

#endif
