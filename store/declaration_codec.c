#include "store/declaration_codec.h"

#include <string.h>

void
declaration_put(struct codec_writer *w, const struct declaration *d)
{
    if (d->n_members > HA_MEMBERS_MAX) {
        w->failed = true;
        return;
    }
    codec_put_u64(w, d->number);
    codec_put_text(w, d->primary);
    codec_put_u32(w, d->lease_ms);
    codec_put_u64(w, d->max_lag);
    codec_put_u8(w, d->failover);
    codec_put_u8(w, d->sync);
    codec_put_u8(w, d->sync_count);
    codec_put_u8(w, d->n_members);
    for (size_t i = 0; i < d->n_members; i++) {
        codec_put_text(w, d->members[i].address);
        codec_put_u8(w, d->members[i].kind);
    }
}

void
declaration_get(struct codec_reader *r, struct declaration *d)
{
    memset(d, 0, sizeof *d);
    d->number = codec_get_u64(r);
    codec_get_text(r, d->primary, sizeof d->primary);
    d->lease_ms = codec_get_u32(r);
    d->max_lag = codec_get_u64(r);
    d->failover = codec_get_u8(r);
    d->sync = codec_get_u8(r);
    d->sync_count = codec_get_u8(r);
    d->n_members = codec_get_u8(r);
    if (d->n_members > HA_MEMBERS_MAX) {
        r->failed = true;
        d->n_members = 0;
    }
    for (size_t i = 0; i < d->n_members; i++) {
        codec_get_text(r, d->members[i].address, sizeof d->members[i].address);
        d->members[i].kind = codec_get_u8(r);
    }
}
