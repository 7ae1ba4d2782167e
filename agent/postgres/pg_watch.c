/*
 * The steady look at a running server: one question over one session, every 100 ms, or 5 ms while
 * somebody waits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/postgres/pg_files.h"
#include "agent/postgres/pg_history.h"
#include "agent/postgres/pg_impl.h"
#include "agent/postgres/pg_text.h"
#include "agent/postgres/pg_wal.h"

#define TIMELINES_AHEAD 64 /* that a standby may have received without a restartpoint between */
#define LOOK_MS 100
#define LOOK_HURRIED_MS 5
#define LOOK_OPERATION_MS 2
#define LOOK_TIMEOUT_MS 2000
#define CONNECT_RETRY_MS 20
#define STEADY_MS 2000
#define UPKEEP_TIMEOUT_MS (3600 * 1000)
#define UPKEEP_RETRY_MS 5000
#define NO_LEASE_STATE "25006"

struct pg_watch {
    struct pg_session *session;
    struct pg_session *upkeep; /* of a primary: what a rewind to it needs */
    bool has_granted;
    bool is_checkpointing;
    uint64_t upkeep_at_ms;
    uv_timer_t timer;
    bool is_running;
    bool is_hurried;     /* by an operation */
    bool is_lost;        /* the last look failed and the log has it */
    uint64_t judged_lsn; /* up to where the timeline of the WAL was looked at */
};

enum column {
    COL_IN_RECOVERY = 0,
    COL_FLUSHED,  /* of a primary */
    COL_TIMELINE, /* of a primary: of the WAL it writes */
    COL_RECEIVED,
    COL_REPLAYED,
    COL_RECEIVER_STATUS,
    COL_RECEIVED_TIMELINE,
    COL_RECEIVER_PID,
    COL_CHECKPOINT_TIMELINE,
    COL_END_TIMELINE,
    COL_STARTUP_WAITS,
    COL_SYSID,
    COL_LEASE_FILE,
    COL_SENDER,
    COL_SEGMENT_BYTES,
};

/*
 * pg_stat_wal_receiver hides a receiver that is still connecting, pg_stat_activity does not.
 * The two waits of the startup process are those for WAL that is not there. The lease file alone
 * proves nothing: without the module, what stands on the command line is kept as it is. Only
 * the module shows a status.
 */
static const char LOOK[] =
    "SELECT r, CASE WHEN r THEN NULL ELSE pg_current_wal_flush_lsn() END,"
    " CASE WHEN r THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,"
    " pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), w.status, w.received_tli,"
    " (SELECT max(pid) FROM pg_stat_activity WHERE backend_type = 'walreceiver'),"
    " c.timeline_id, m.min_recovery_end_timeline,"
    " (SELECT bool_or(wait_event IN ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval'))"
    "  FROM pg_stat_activity WHERE backend_type = 'startup'),"
    " s.system_identifier, CASE WHEN current_setting('ha_fence.status', true) <> ''"
    "  THEN current_setting('ha_fence.lease_file', true) END, w.sender_host,"
    " pg_size_bytes(current_setting('wal_segment_size'))"
    " FROM (SELECT pg_is_in_recovery() AS r) q"
    " LEFT JOIN pg_stat_wal_receiver w ON true,"
    " pg_control_checkpoint() c, pg_control_recovery() m, pg_control_system() s";

static void look_ask(struct postgres *pg);

static uint64_t
get_lsn(const struct pg_answer *answer, int column)
{
    uint64_t lsn = 0;

    (void)pg_lsn_parse(pg_answer_get(answer, 0, column), &lsn);
    return lsn;
}

static uint64_t
get_number(const struct pg_answer *answer, int column, int base)
{
    return strtoull(pg_answer_get(answer, 0, column), NULL, base);
}

static uint64_t
max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/*
 * Nothing shows on which timeline a standby is that was started again and streams from nobody: its
 * control file names the one of its last restartpoint. Recovery reads a segment from the newest
 * timeline of its history that has a file for it; so what it has replayed beyond the fork of a
 * timeline, out of a segment of that timeline, is of that timeline.
 */
static uint32_t
timeline_of_wal(const struct postgres *pg, const struct pg_facts *f, uint64_t segment_bytes)
{
    const uint64_t segment = f->replay_lsn == 0 ? 0 : (f->replay_lsn - 1) / segment_bytes;
    const uint64_t per_id = 0x100000000ULL / segment_bytes;
    uint32_t timeline = f->timeline;

    for (uint32_t t = f->timeline + 1; t <= f->timeline + TIMELINES_AHEAD; t++) {
        char path[PG_PATH_MAX + 64];
        struct pg_facts of_t = {0};

        (void)snprintf(path,
                       sizeof path,
                       "%s/pg_wal/%08X%08X%08X",
                       pg->config.pgdata,
                       (unsigned)t,
                       (unsigned)(segment / per_id),
                       (unsigned)(segment % per_id));
        if (access(path, F_OK) != 0) {
            continue;
        }
        pg_history_read(pg->config.pgdata, t, &of_t);
        if (of_t.timeline_before >= timeline && f->replay_lsn > of_t.fork_lsn) {
            timeline = t;
        }
    }
    return timeline;
}

static void
facts_of_standby(struct postgres *pg, const struct pg_answer *answer, struct pg_facts *f)
{
    const uint64_t checkpoint_tli = get_number(answer, COL_CHECKPOINT_TIMELINE, 10);
    const uint64_t end_tli = get_number(answer, COL_END_TIMELINE, 10);
    const uint64_t received_tli = get_number(answer, COL_RECEIVED_TIMELINE, 10);
    const uint64_t newest = max_of(received_tli, max_of(checkpoint_tli, end_tli));
    const uint64_t segment_bytes = get_number(answer, COL_SEGMENT_BYTES, 10);
    bool is_new;

    /* Told to follow another one, it streams from the old one for some milliseconds more. */
    f->is_streaming = strcmp(pg_answer_get(answer, 0, COL_RECEIVER_STATUS), "streaming") == 0 &&
                      strcmp(pg_answer_get(answer, 0, COL_SENDER), pg->follow) == 0;
    if (!f->is_streaming) {
        pg->look.streams_since_ms = 0;
    } else if (pg->look.streams_since_ms == 0) {
        pg->look.streams_since_ms = uv_now(pg->config.loop);
    } else if (uv_now(pg->config.loop) - pg->look.streams_since_ms > STEADY_MS) {
        f->misses_wal = false; /* not the moment of each try */
    }
    f->has_receiver = pg_answer_get(answer, 0, COL_RECEIVER_PID)[0] != '\0';
    f->replay_lsn = get_lsn(answer, COL_REPLAYED);
    f->lsn = max_of(get_lsn(answer, COL_RECEIVED), f->replay_lsn);
    /* What was received once counts for as long as the server runs: the receiver may be gone. */
    is_new = newest > f->timeline;
    f->timeline = (uint32_t)max_of(f->timeline, newest);
    if (received_tli == 0 && segment_bytes != 0 && f->replay_lsn != pg->watch->judged_lsn &&
        pg_answer_get(answer, 0, COL_STARTUP_WAITS)[0] == 't') {
        const uint32_t of_wal = timeline_of_wal(pg, f, segment_bytes);

        pg->watch->judged_lsn = f->replay_lsn;
        is_new = is_new || of_wal > f->timeline;
        f->timeline = of_wal;
    }
    if (is_new || (f->timeline > 1 && f->timeline_before == 0)) {
        pg_history_read(pg->config.pgdata, f->timeline, f);
    }
}

static void
facts_of_primary(const struct postgres *pg, const struct pg_answer *answer, struct pg_facts *f)
{
    const uint32_t timeline = (uint32_t)get_number(answer, COL_TIMELINE, 16);

    f->is_streaming = false;
    f->has_receiver = false;
    f->replay_lsn = 0;
    memset(f->upstream, 0, sizeof f->upstream);
    f->lsn = get_lsn(answer, COL_FLUSHED);
    if (f->timeline != timeline || pg->facts.is_in_recovery || pg->look.n == 0) {
        f->timeline = timeline;
        pg_history_read(pg->config.pgdata, timeline, f);
    }
}

/* From what was handed over last. Positions count at every look: the lag of a standby is made of
 * its own and of the primary's, and gateways and people go by it while nothing else happens. */
static bool
facts_differ(const struct postgres *pg, const struct pg_facts *new)
{
    return memcmp(&pg->facts_told, new, sizeof *new) != 0;
}

static void
look_take(struct postgres *pg, const struct pg_answer *answer)
{
    struct pg_facts f;
    struct pg_look *look = &pg->look;

    memcpy(&f, &pg->facts, sizeof f); /* with its padding: the two are compared as bytes */
    f.is_in_recovery = pg_answer_get(answer, 0, COL_IN_RECOVERY)[0] == 't';
    f.data = f.is_in_recovery ? PG_DATA_STANDBY : PG_DATA_PRIMARY;
    f.sysid = get_number(answer, COL_SYSID, 10);
    if (f.is_in_recovery) {
        facts_of_standby(pg, answer, &f);
    } else {
        facts_of_primary(pg, answer, &f);
    }
    look->receiver_pid = (pid_t)get_number(answer, COL_RECEIVER_PID, 10);
    look->received_lsn = get_lsn(answer, COL_RECEIVED);
    look->is_local_wal_replayed = pg_answer_get(answer, 0, COL_STARTUP_WAITS)[0] == 't';
    (void)snprintf(
        look->lease_file, sizeof look->lease_file, "%s", pg_answer_get(answer, 0, COL_LEASE_FILE));
    if (facts_differ(pg, &f)) {
        postgres_tell(pg);
    }
    if (pg->facts.is_in_recovery && !f.is_in_recovery && pg->look.n > 0) {
        pg_sync_on_promoted(pg);
    }
    memcpy(&pg->facts, &f, sizeof f);
}

static unsigned
look_pause(const struct postgres *pg)
{
    if (pg->look.n == 0) {
        return CONNECT_RETRY_MS;
    }
    if (pg->look.is_refused) {
        return LOOK_MS; /* each refusal is a line in the server's log and costs a session */
    }
    if (pg->watch->is_hurried) {
        return LOOK_OPERATION_MS;
    }
    return pg->is_watched ? LOOK_HURRIED_MS : LOOK_MS;
}

static void
on_timer(uv_timer_t *timer)
{
    look_ask(timer->data);
}

static void
look_later(struct postgres *pg)
{
    if (pg->watch->is_running) {
        (void)uv_timer_start(&pg->watch->timer, on_timer, look_pause(pg), 0);
    }
}

/* The edge only: a server that is starting or stopping refuses many looks in a row. */
static void
look_failed(struct postgres *pg, const struct pg_answer *answer)
{
    struct pg_watch *w = pg->watch;

    if (!w->is_lost && pg->facts.run == PG_RUN_UP) {
        w->is_lost = true;
        postgres_log(pg, PG_LOG_WARN, "look_failed", "%s", answer->text);
    }
}

/* --- what a rewind to this primary needs --- */

static void
on_upkeep(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    struct pg_watch *w = pg->watch;

    if (answer->rc != HA_OK) {
        w->upkeep_at_ms = uv_now(pg->config.loop) + UPKEEP_RETRY_MS;
        postgres_log(pg, PG_LOG_WARN, "upkeep", "%s", answer->text);
    } else if (!w->is_checkpointing) {
        w->has_granted = true;
        postgres_log(pg, PG_LOG_INFO, "upkeep", "pg_rewind may take others back to this primary");
    }
    w->is_checkpointing = false;
    pg_session_reset(w->upkeep);
}

/* The functions that pg_rewind's manual names, for the role that may copy all of it anyway. Not
 * waiting for a standby: none may be there. */
static void
ask_grants(struct postgres *pg)
{
    static const char FUNCTIONS[] =
        "pg_catalog.pg_ls_dir(text, boolean, boolean),"
        " pg_catalog.pg_stat_file(text, boolean),"
        " pg_catalog.pg_read_binary_file(text),"
        " pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)";
    struct pg_text sql = {0};

    pg_text_add(&sql,
                "SET LOCAL synchronous_commit = 'local'; GRANT EXECUTE ON FUNCTION %s TO ",
                FUNCTIONS);
    pg_text_add_name(&sql, pg->config.replication_user);
    if (!sql.has_failed) {
        (void)pg_session_ask(pg->watch->upkeep, sql.data, UPKEEP_TIMEOUT_MS, on_upkeep, pg);
    }
    pg_text_free(&sql);
}

/*
 * Once for each start as a primary the rights; and a checkpoint after a promotion, for until then
 * the control file names the timeline before, which is all that pg_rewind looks at.
 */
static void
upkeep_care(struct postgres *pg, uint32_t checkpoint_timeline)
{
    struct pg_watch *w = pg->watch;

    if (pg->facts.is_in_recovery || pg->facts.run != PG_RUN_UP || pg_session_is_busy(w->upkeep) ||
        uv_now(pg->config.loop) < w->upkeep_at_ms) {
        return;
    }
    if (!w->has_granted) {
        ask_grants(pg);
    } else if (checkpoint_timeline != 0 && checkpoint_timeline < pg->facts.timeline) {
        w->is_checkpointing =
            pg_session_ask(w->upkeep, "CHECKPOINT", UPKEEP_TIMEOUT_MS, on_upkeep, pg) == HA_OK;
    }
}

/* --- the look --- */

static void
on_look(void *data, const struct pg_answer *answer)
{
    struct postgres *pg = data;
    const bool is_no_lease =
        answer->rc == HA_EREFUSED && strcmp(answer->sqlstate, NO_LEASE_STATE) == 0;

    if (answer->rc == HA_OK && answer->n_rows > 0) {
        look_take(pg, answer);
    } else if (!is_no_lease) {
        look_failed(pg, answer);
        look_later(pg);
        return;
    }
    if (is_no_lease && pg->facts.is_in_recovery) {
        /* The fence speaks on a primary only: somebody promoted this server by hand. */
        pg->facts.is_in_recovery = false;
        pg->facts.is_streaming = false;
        pg->facts.data = PG_DATA_PRIMARY;
        postgres_log(pg, PG_LOG_WARN, "promoted_by_hand", "it left recovery without a lease");
        postgres_tell(pg);
    }
    pg->watch->is_lost = false;
    pg->look.is_refused = is_no_lease;
    pg->look.answered = pg->look.asked;
    pg->look.n++;
    if (pg->facts.run == PG_RUN_STARTING) {
        postgres_set_run(pg, PG_RUN_UP);
    }
    pg_server_on_look(pg);
    pg_slots_care(pg);
    pg_logical_care(pg);
    pg_roles_care(pg);
    pg_sync_on_look(pg);
    if (answer->rc == HA_OK) {
        upkeep_care(pg, (uint32_t)get_number(answer, COL_CHECKPOINT_TIMELINE, 10));
    }
    look_later(pg);
}

static void
look_ask(struct postgres *pg)
{
    struct pg_watch *w = pg->watch;

    if (!w->is_running || pg_session_is_busy(w->session)) {
        return;
    }
    pg->look.asked++;
    if (pg_session_ask(w->session, LOOK, LOOK_TIMEOUT_MS, on_look, pg) != HA_OK) {
        look_later(pg);
    }
}

void
pg_watch_look_now(struct postgres *pg)
{
    if (pg->watch->is_running) {
        (void)uv_timer_start(&pg->watch->timer, on_timer, 0, 0);
    }
}

void
pg_watch_hurry(struct postgres *pg, bool is_hurried)
{
    pg->watch->is_hurried = is_hurried;
    if (is_hurried) {
        pg_watch_look_now(pg);
    }
}

void
pg_watch_start(struct postgres *pg)
{
    pg->watch->is_running = true;
    pg->watch->has_granted = false;
    pg->watch->upkeep_at_ms = 0;
    pg->watch->judged_lsn = 0;
    pg->look.n = 0;
    look_later(pg);
    pg_canary_start(pg);
}

void
pg_watch_stop(struct postgres *pg)
{
    struct pg_watch *w = pg->watch;

    w->is_running = false;
    w->is_hurried = false;
    w->is_lost = false;
    (void)uv_timer_stop(&w->timer);
    pg_canary_stop(pg);
    pg_roles_stop(pg);
    pg_slots_stop(pg);
    pg_logical_stop(pg);
    pg_sync_stop(pg);
}

static void
on_closed(uv_handle_t *handle)
{
    struct postgres *pg = handle->data;

    free(pg->watch);
    pg->watch = NULL;
    postgres_handle_closed(pg);
}

void
pg_watch_close(struct postgres *pg)
{
    pg_watch_stop(pg);
    pg_session_close(pg->watch->session);
    pg_session_close(pg->watch->upkeep);
    pg->watch->session = pg->watch->upkeep = NULL;
    uv_close((uv_handle_t *)&pg->watch->timer, on_closed);
}

int
pg_watch_open(struct postgres *pg, struct err *err)
{
    struct pg_watch *w = calloc(1, sizeof *w);
    int rc;

    if (w == NULL) {
        return err_set(err, HA_ENOMEM, "watch: %s", err_code_text(HA_ENOMEM));
    }
    rc = pg_server_session(pg, pg->config.run_dir, "postgres", &w->session, err);
    if (rc == HA_OK) {
        rc = pg_server_session(pg, pg->config.run_dir, "postgres", &w->upkeep, err);
    }
    if (rc != HA_OK) {
        pg_session_close(w->session);
        free(w);
        return rc;
    }
    (void)uv_timer_init(pg->config.loop, &w->timer);
    w->timer.data = pg;
    pg->watch = w;
    return HA_OK;
}
