#include "store/command.h"

#include <string.h>

#include "base/codec.h"
#include "store/declaration_codec.h"

#define COMMAND_FORMAT 1

static void
put_sync(struct codec_writer *w, const struct command *c)
{
    codec_put_u64(w, c->sync.reign);
    codec_put_u64(w, c->sync.generation);
    codec_put_u64(w, c->sync.epoch);
    codec_put_u64(w, c->sync.set);
    codec_put_u8(w, c->sync.count);
    codec_put_u8(w, c->sync.lost);
}

static void
put_recover(struct codec_writer *w, const struct command *c)
{
    codec_put_u64(w, c->recover.era);
    codec_put_u64(w, c->recover.survivor);
    codec_put_u64(w, c->recover.wall_ms);
    codec_put_bool(w, c->recover.is_failover);
    codec_put_u32(w, c->recover.n_dead);
    w->failed = w->failed || c->recover.n_dead > HA_MEMBERS_MAX;
    for (uint32_t i = 0; i < c->recover.n_dead && i < HA_MEMBERS_MAX; i++) {
        codec_put_text(w, c->recover.dead[i]);
    }
}

static void
get_recover(struct codec_reader *r, struct command *c)
{
    c->recover.era = codec_get_u64(r);
    c->recover.survivor = codec_get_u64(r);
    c->recover.wall_ms = codec_get_u64(r);
    c->recover.is_failover = codec_get_bool(r);
    c->recover.n_dead = codec_get_u32(r);
    r->failed = r->failed || c->recover.n_dead > HA_MEMBERS_MAX;
    for (uint32_t i = 0; !r->failed && i < c->recover.n_dead; i++) {
        codec_get_text(r, c->recover.dead[i], sizeof c->recover.dead[i]);
    }
}

static void
put_opened(struct codec_writer *w, const struct command *c)
{
    codec_put_u64(w, c->opened.reign);
    codec_put_u64(w, c->opened.holder);
    codec_put_u64(w, c->opened.sysid);
    codec_put_u64(w, c->opened.fork_lsn);
    codec_put_u64(w, c->opened.lineage);
    codec_put_u32(w, c->opened.timeline);
}

static void
put_members(struct codec_writer *w, const struct command *c)
{
    codec_put_u64(w, c->members.generation);
    codec_put_text(w, c->members.spec.address);
    codec_put_u8(w, c->members.spec.kind);
    codec_put_u64(w, c->members.nonce);
}

static void
get_members(struct codec_reader *r, struct command *c)
{
    c->members.generation = codec_get_u64(r);
    codec_get_text(r, c->members.spec.address, sizeof c->members.spec.address);
    c->members.spec.kind = codec_get_u8(r);
    c->members.nonce = codec_get_u64(r);
}

static void
put_rebuild(struct codec_writer *w, const struct command *c)
{
    codec_put_u64(w, c->rebuild.member);
    codec_put_u64(w, c->rebuild.reign);
    codec_put_u64(w, c->rebuild.sysid);
    codec_put_u8(w, c->rebuild.rung);
}

static void
get_rebuild(struct codec_reader *r, struct command *c)
{
    c->rebuild.member = codec_get_u64(r);
    c->rebuild.reign = codec_get_u64(r);
    c->rebuild.sysid = codec_get_u64(r);
    c->rebuild.rung = codec_get_u8(r);
}

static void
put_body(struct codec_writer *w, const struct command *c)
{
    switch ((enum command_type)c->type) {
    case COMMAND_FOUND:
        codec_put_u64(w, c->found.cluster_id);
        declaration_put(w, &c->found.declaration);
        break;
    case COMMAND_REGISTER:
        codec_put_text(w, c->member_register.address);
        codec_put_text(w, c->member_register.name);
        codec_put_u64(w, c->member_register.nonce);
        break;
    case COMMAND_DECLARE:
        codec_put_text(w, c->declare.declarer);
        declaration_put(w, &c->declare.declaration);
        codec_put_bool(w, c->declare.is_anew);
        break;
    case COMMAND_MEMBER_ADD:
    case COMMAND_MEMBER_REMOVE:
    case COMMAND_MEMBER_REPLACE:
        put_members(w, c);
        break;
    case COMMAND_REBUILD:
        put_rebuild(w, c);
        break;
    case COMMAND_SETTLE:
        codec_put_u64(w, c->settle.generation);
        codec_put_u64(w, c->settle.holder);
        break;
    case COMMAND_APPOINT:
        codec_put_u64(w, c->appoint.reign);
        codec_put_u64(w, c->appoint.holder);
        codec_put_u64(w, c->appoint.epoch);
        codec_put_u64(w, c->appoint.wall_ms);
        codec_put_text(w, c->appoint.why);
        break;
    case COMMAND_HANDOVER:
        codec_put_u64(w, c->handover.reign);
        codec_put_u64(w, c->handover.to);
        break;
    case COMMAND_VACATE:
        codec_put_u64(w, c->vacate.reign);
        codec_put_u64(w, c->vacate.holder);
        codec_put_u64(w, c->vacate.final_lsn);
        codec_put_text(w, c->vacate.why);
        break;
    case COMMAND_OPENED:
        put_opened(w, c);
        break;
    case COMMAND_SYNC:
        put_sync(w, c);
        break;
    case COMMAND_SETTINGS:
        codec_put_u32(w, c->settings.lease_ms);
        codec_put_u64(w, c->settings.max_lag);
        codec_put_u8(w, c->settings.failover);
        break;
    case COMMAND_PAUSE:
    case COMMAND_RESUME:
        break;
    case COMMAND_RECOVER:
        put_recover(w, c);
        break;
    case COMMAND_TYPE_COUNT:
    default:
        w->failed = true;
        break;
    }
}

static void
get_sync(struct codec_reader *r, struct command *c)
{
    c->sync.reign = codec_get_u64(r);
    c->sync.generation = codec_get_u64(r);
    c->sync.epoch = codec_get_u64(r);
    c->sync.set = codec_get_u64(r);
    c->sync.count = codec_get_u8(r);
    c->sync.lost = codec_get_u8(r);
}

static void
get_opened(struct codec_reader *r, struct command *c)
{
    c->opened.reign = codec_get_u64(r);
    c->opened.holder = codec_get_u64(r);
    c->opened.sysid = codec_get_u64(r);
    c->opened.fork_lsn = codec_get_u64(r);
    c->opened.lineage = codec_get_u64(r);
    c->opened.timeline = codec_get_u32(r);
}

static void
get_body(struct codec_reader *r, struct command *c)
{
    switch ((enum command_type)c->type) {
    case COMMAND_FOUND:
        c->found.cluster_id = codec_get_u64(r);
        declaration_get(r, &c->found.declaration);
        break;
    case COMMAND_REGISTER:
        codec_get_text(r, c->member_register.address, sizeof c->member_register.address);
        codec_get_text(r, c->member_register.name, sizeof c->member_register.name);
        c->member_register.nonce = codec_get_u64(r);
        break;
    case COMMAND_DECLARE:
        codec_get_text(r, c->declare.declarer, sizeof c->declare.declarer);
        declaration_get(r, &c->declare.declaration);
        c->declare.is_anew = codec_get_bool(r);
        break;
    case COMMAND_MEMBER_ADD:
    case COMMAND_MEMBER_REMOVE:
    case COMMAND_MEMBER_REPLACE:
        get_members(r, c);
        break;
    case COMMAND_REBUILD:
        get_rebuild(r, c);
        break;
    case COMMAND_SETTLE:
        c->settle.generation = codec_get_u64(r);
        c->settle.holder = codec_get_u64(r);
        break;
    case COMMAND_APPOINT:
        c->appoint.reign = codec_get_u64(r);
        c->appoint.holder = codec_get_u64(r);
        c->appoint.epoch = codec_get_u64(r);
        c->appoint.wall_ms = codec_get_u64(r);
        codec_get_text(r, c->appoint.why, sizeof c->appoint.why);
        break;
    case COMMAND_HANDOVER:
        c->handover.reign = codec_get_u64(r);
        c->handover.to = codec_get_u64(r);
        break;
    case COMMAND_VACATE:
        c->vacate.reign = codec_get_u64(r);
        c->vacate.holder = codec_get_u64(r);
        c->vacate.final_lsn = codec_get_u64(r);
        codec_get_text(r, c->vacate.why, sizeof c->vacate.why);
        break;
    case COMMAND_OPENED:
        get_opened(r, c);
        break;
    case COMMAND_SYNC:
        get_sync(r, c);
        break;
    case COMMAND_SETTINGS:
        c->settings.lease_ms = codec_get_u32(r);
        c->settings.max_lag = codec_get_u64(r);
        c->settings.failover = codec_get_u8(r);
        break;
    case COMMAND_PAUSE:
    case COMMAND_RESUME:
        break;
    case COMMAND_RECOVER:
        get_recover(r, c);
        break;
    case COMMAND_TYPE_COUNT:
    default:
        r->failed = true;
        break;
    }
}

size_t
command_encode(const struct command *command, void *out, size_t size)
{
    struct codec_writer w;

    codec_writer_init(&w, out, size);
    codec_put_u8(&w, COMMAND_FORMAT);
    codec_put_u8(&w, command->type);
    codec_put_u64(&w, command->origin);
    codec_put_u64(&w, command->counter);
    put_body(&w, command);
    codec_put_padding(&w, 8);
    return w.failed ? 0 : w.len;
}

int
command_decode(struct command *command, const void *bytes, size_t len)
{
    struct codec_reader r;

    memset(command, 0, sizeof *command);
    codec_reader_init(&r, bytes, len);
    if (codec_get_u8(&r) != COMMAND_FORMAT && !r.failed) {
        return HA_EVERSION;
    }
    command->type = codec_get_u8(&r);
    command->origin = codec_get_u64(&r);
    command->counter = codec_get_u64(&r);
    get_body(&r, command);
    while (!r.failed && r.left > 0) { /* what is left may only be padding */
        if (r.left >= 8 || codec_get_u8(&r) != 0) {
            return HA_ECORRUPT;
        }
    }
    return r.failed || len % 8 != 0 ? HA_ECORRUPT : HA_OK;
}

const char *
command_type_text(uint8_t type)
{
    static const char *const TEXT[COMMAND_TYPE_COUNT] = {
        [COMMAND_FOUND] = "found",
        [COMMAND_REGISTER] = "register",
        [COMMAND_DECLARE] = "declare",
        [COMMAND_MEMBER_ADD] = "member_add",
        [COMMAND_MEMBER_REMOVE] = "member_remove",
        [COMMAND_MEMBER_REPLACE] = "member_replace",
        [COMMAND_SETTLE] = "settle",
        [COMMAND_APPOINT] = "appoint",
        [COMMAND_HANDOVER] = "handover",
        [COMMAND_VACATE] = "vacate",
        [COMMAND_OPENED] = "opened",
        [COMMAND_SYNC] = "sync",
        [COMMAND_SETTINGS] = "settings",
        [COMMAND_PAUSE] = "pause",
        [COMMAND_RESUME] = "resume",
        [COMMAND_RECOVER] = "recover",
        [COMMAND_REBUILD] = "rebuild",
    };

    return type < COMMAND_TYPE_COUNT && TEXT[type] != NULL ? TEXT[type] : "unknown";
}
