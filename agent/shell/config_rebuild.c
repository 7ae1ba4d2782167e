/*
 * How data that must be replaced are: HA_REWIND, HA_CLONE_FROM, HA_CLONE_RATE, HA_KEEP_OLD; and how
 * long WAL is kept for who is away: HA_SLOT_TTL.
 */
#include <stdio.h>
#include <string.h>

#include "agent/shell/config_internal.h"

#define RATE_MIN (32ULL << 10) /* what pg_basebackup takes */
#define RATE_MAX (1ULL << 30)
#define SLOT_TTL_S 86400
#define SLOT_TTL_MAX_S (30 * 86400)

static int
read_source(struct core_config *core, struct err *err)
{
    const char *value = config_env("HA_CLONE_FROM");

    core->clone_from[0] = 0;
    if (value == NULL || strcmp(value, "primary") == 0) {
        return HA_OK;
    }
    if (strcmp(value, "replica") == 0) {
        (void)snprintf(core->clone_from, sizeof core->clone_from, "%s", value);
        return HA_OK;
    }
    return config_parse_address("HA_CLONE_FROM", value, core->clone_from, err);
}

static int
read_rate(struct config *out, struct err *err)
{
    const char *value = config_env("HA_CLONE_RATE");

    out->clone_rate = 0;
    if (value != NULL && config_parse_bytes("HA_CLONE_RATE", value, &out->clone_rate, err) != 0) {
        return HA_EINVAL;
    }
    if (out->clone_rate != 0 && (out->clone_rate < RATE_MIN || out->clone_rate > RATE_MAX)) {
        return err_set(
            err, HA_EINVAL, "HA_CLONE_RATE=%s: out of bounds; allowed: 32kB to 1GB, or 0", value);
    }
    return HA_OK;
}

int
config_read_rebuild(struct config *out, struct err *err)
{
    static const char *const switches[] = {"off", "on", NULL};
    const char *rewind = config_env("HA_REWIND");
    const char *keep = config_env("HA_KEEP_OLD");
    const char *ttl = config_env("HA_SLOT_TTL");
    uint64_t ttl_s = SLOT_TTL_S;
    uint64_t keep_old = 0;
    uint8_t is_on = 1;

    if ((rewind != NULL && config_parse_choice("HA_REWIND", rewind, switches, &is_on, err) != 0) ||
        (keep != NULL && config_parse_number("HA_KEEP_OLD", keep, 0, 9, &keep_old, err) != 0) ||
        (ttl != NULL &&
         config_parse_number("HA_SLOT_TTL", ttl, 0, SLOT_TTL_MAX_S, &ttl_s, err) != 0) ||
        read_source(&out->core, err) != HA_OK || read_rate(out, err) != HA_OK) {
        return HA_EINVAL;
    }
    out->core.is_rewind_off = is_on == 0;
    out->core.slot_ttl_ms = (uint32_t)ttl_s * 1000;
    out->keep_old = (unsigned)keep_old;
    return HA_OK;
}
