#include "raft/fsm.h"

#include "base/require.h"
#include "store/apply.h"
#include "store/snapshot.h"

static int
fsm_apply(struct raft_fsm *raft, const struct raft_buffer *buf, void **result)
{
    struct fsm *fsm = raft->data;

    fsm->answer = apply_bytes(&fsm->state, buf->base, buf->len);
    fsm->is_changed = true;
    if (fsm->answer == HA_ECORRUPT || fsm->answer == HA_EVERSION) {
        fsm->n_unread++;
    }
    if (fsm->on_apply != NULL) {
        fsm->on_apply(fsm->data, buf->base, buf->len, fsm->answer);
    }
    *result = &fsm->answer;
    return 0;
}

static int
fsm_snapshot(struct raft_fsm *raft, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct fsm *fsm = raft->data;
    struct raft_buffer *buf = raft_malloc(sizeof *buf);

    if (buf == NULL) {
        return RAFT_NOMEM;
    }
    buf->base = raft_malloc(SNAPSHOT_BYTES_MAX);
    if (buf->base == NULL) {
        raft_free(buf);
        return RAFT_NOMEM;
    }
    buf->len = snapshot_encode(&fsm->state, buf->base, SNAPSHOT_BYTES_MAX);
    ENSURE(buf->len > 0, "SNAPSHOT_BYTES_MAX is always enough");
    *bufs = buf;
    *n_bufs = 1;
    return 0;
}

static int
fsm_restore(struct raft_fsm *raft, struct raft_buffer *buf)
{
    struct fsm *fsm = raft->data;

    if (snapshot_decode(&fsm->state, buf->base, buf->len) != HA_OK) {
        fsm->is_broken = true;
        return RAFT_CORRUPT;
    }
    fsm->is_changed = true;
    raft_free(buf->base);
    return 0;
}

void
fsm_init(struct fsm *fsm)
{
    *fsm = (struct fsm){0};
    state_init(&fsm->state);
    fsm->raft.version = 1;
    fsm->raft.data = fsm;
    fsm->raft.apply = fsm_apply;
    fsm->raft.snapshot = fsm_snapshot;
    fsm->raft.restore = fsm_restore;
}
