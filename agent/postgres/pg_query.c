#include "agent/postgres/pg_query.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum session_phase {
    PHASE_DOWN = 0,
    PHASE_CONNECTING,
    PHASE_IDLE,
    PHASE_ASKING,
};

struct pg_session {
    struct pg_session_config config; /* texts are in `memory` */
    char *memory;
    enum session_phase phase;
    PGconn *conn;
    PGresult *result;  /* what the question has brought so far */
    uv_poll_t *poll;   /* on the heap: a fresh one for each step of a connect */
    uv_timer_t *timer; /* the deadline; also starts a question, so that no answer comes at once */
    char *sql;         /* the question, until it is sent */
    unsigned timeout_ms;
    pg_answer_fn done;
    void *data;
};

static void session_step(struct pg_session *s);

static void
on_closed_free(uv_handle_t *handle)
{
    free(handle);
}

static void
poll_drop(struct pg_session *s)
{
    if (s->poll != NULL) {
        uv_close((uv_handle_t *)s->poll, on_closed_free);
        s->poll = NULL;
    }
}

static void
on_poll(uv_poll_t *poll, int status, int events)
{
    /* A refused connect shows as EBADF and a stopped handle: libpq is asked what it means. */
    (void)status;
    (void)events;
    session_step(poll->data);
}

/*
 * Watches libpq's socket. libpq closes its socket and opens another inside PQconnectPoll, often
 * under the same number, so the old handle always goes (poll_drop() before the call) and a new one
 * is armed after it: "nothing changed" cannot be told from outside.
 */
static bool
poll_arm(struct pg_session *s, int events)
{
    poll_drop(s);
    s->poll = malloc(sizeof *s->poll);
    if (s->poll == NULL) {
        return false;
    }
    if (uv_poll_init(s->config.loop, s->poll, PQsocket(s->conn)) != 0) {
        free(s->poll);
        s->poll = NULL;
        return false;
    }
    s->poll->data = s;
    return uv_poll_start(s->poll, events, on_poll) == 0;
}

static void
session_drop(struct pg_session *s)
{
    poll_drop(s);
    (void)uv_timer_stop(s->timer);
    PQclear(s->result);
    s->result = NULL;
    if (s->conn != NULL) {
        PQfinish(s->conn);
        s->conn = NULL;
    }
    s->phase = PHASE_DOWN;
}

/* One line: the server's messages come with line ends and a prefix of their own. */
static void
copy_line(char *out, size_t size, const char *text)
{
    size_t len = 0;

    for (; *text != '\0' && len + 1 < size; text++) {
        const bool is_blank = *text == '\n' || *text == '\t' || *text == '\r';

        if (!is_blank || (len > 0 && out[len - 1] != ' ')) {
            out[len++] = is_blank ? ' ' : *text;
        }
    }
    while (len > 0 && out[len - 1] == ' ') {
        len--;
    }
    out[len] = '\0';
}

/* Ends the question: the callback is the last thing that touches the session. */
static void
session_answer(struct pg_session *s, struct pg_answer *answer, PGresult *result)
{
    const pg_answer_fn done = s->done;

    free(s->sql);
    s->sql = NULL;
    s->done = NULL;
    answer->result = result;
    done(s->data, answer);
    PQclear(result);
}

/* The connection is of no use any more. */
static void
session_fail(struct pg_session *s, int rc, const char *text)
{
    char line[512];
    struct pg_answer answer = {.rc = rc, .text = line};

    copy_line(line, sizeof line, text);
    session_drop(s);
    if (s->done != NULL) {
        session_answer(s, &answer, NULL);
    }
}

/* An error that the server gave a state, and that did not come from the session's own end. */
static bool
is_refusal(const PGresult *result)
{
    const char *state = result == NULL ? NULL : PQresultErrorField(result, PG_DIAG_SQLSTATE);

    return state != NULL && strncmp(state, "57P", 3) != 0;
}

static void
session_complete(struct pg_session *s)
{
    char line[512] = "";
    PGresult *result = s->result;
    struct pg_answer answer = {.text = line, .version = PQserverVersion(s->conn)};
    const ExecStatusType status = PQresultStatus(result);

    /* The fence refuses and then ends the session: the refusal is the answer, not the end. */
    if (result == NULL || (PQstatus(s->conn) != CONNECTION_OK && !is_refusal(result))) {
        session_fail(s, HA_EUNREACHABLE, PQerrorMessage(s->conn));
        return;
    }
    s->result = NULL;
    (void)uv_timer_stop(s->timer);
    s->phase = PHASE_IDLE;
    poll_drop(s);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK || status == PGRES_EMPTY_QUERY) {
        answer.n_rows = PQntuples(result);
    } else {
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

        answer.rc = HA_EREFUSED;
        (void)snprintf(answer.sqlstate, sizeof answer.sqlstate, "%s", state == NULL ? "" : state);
        copy_line(line, sizeof line, PQresultErrorMessage(result));
    }
    session_answer(s, &answer, result);
}

/* Keeps the newest result, but an error stays. */
static void
result_keep(struct pg_session *s, PGresult *result)
{
    if (s->result != NULL && PQresultStatus(s->result) == PGRES_FATAL_ERROR) {
        PQclear(result);
        return;
    }
    PQclear(s->result);
    s->result = result;
}

static void
asking_step(struct pg_session *s)
{
    const int flushed = PQflush(s->conn);

    if (flushed < 0 || PQconsumeInput(s->conn) == 0) {
        if (is_refusal(s->result)) {
            session_complete(s);
        } else {
            session_fail(s, HA_EUNREACHABLE, PQerrorMessage(s->conn));
        }
        return;
    }
    while (PQisBusy(s->conn) == 0) {
        PGresult *result = PQgetResult(s->conn);

        if (result == NULL) {
            session_complete(s);
            return;
        }
        result_keep(s, result);
    }
    if (!poll_arm(s, UV_READABLE | (flushed > 0 ? UV_WRITABLE : 0))) {
        session_fail(s, HA_EUNREACHABLE, "the socket cannot be watched");
    }
}

static void
on_deadline(uv_timer_t *timer)
{
    struct pg_session *s = timer->data;

    session_fail(s,
                 HA_ETIMEOUT,
                 s->phase == PHASE_CONNECTING ? "no connection in time" : "no answer in time");
}

static void
question_send(struct pg_session *s)
{
    s->phase = PHASE_ASKING;
    (void)uv_timer_start(s->timer, on_deadline, s->timeout_ms, 0);
    if (PQsendQuery(s->conn, s->sql) == 0) {
        session_fail(s, HA_EUNREACHABLE, PQerrorMessage(s->conn));
        return;
    }
    asking_step(s);
}

static void
connecting_step(struct pg_session *s)
{
    int events = UV_READABLE;

    poll_drop(s);
    switch (PQconnectPoll(s->conn)) {
    case PGRES_POLLING_OK:
        (void)PQsetnonblocking(s->conn, 1);
        question_send(s);
        return;
    case PGRES_POLLING_FAILED:
        session_fail(s, HA_EUNREACHABLE, PQerrorMessage(s->conn));
        return;
    case PGRES_POLLING_WRITING:
        events = UV_WRITABLE;
        break;
    case PGRES_POLLING_READING:
    case PGRES_POLLING_ACTIVE:
    default:
        break;
    }
    if (!poll_arm(s, events)) {
        session_fail(s, HA_EUNREACHABLE, "the socket cannot be watched");
    }
}

static void
session_step(struct pg_session *s)
{
    if (s->phase == PHASE_CONNECTING) {
        connecting_step(s);
    } else {
        asking_step(s);
    }
}

/* Every setting is given, so that no PG* variable of the agent's environment can speak. */
static void
connect_begin(struct pg_session *s)
{
    const struct pg_session_config *c = &s->config;
    const bool is_socket = c->host[0] == '/';
    char port[8];
    const char *const keys[] = {"host",
                                "hostaddr",
                                "port",
                                "user",
                                "dbname",
                                "password",
                                "passfile",
                                "service",
                                "application_name",
                                "options",
                                "replication",
                                "sslmode",
                                "gssencmode",
                                "channel_binding",
                                "requirepeer",
                                "target_session_attrs",
                                "client_encoding",
                                "tcp_user_timeout",
                                NULL};
    const char *const values[] = {c->host,
                                  is_socket ? "" : c->host,
                                  port,
                                  c->user,
                                  c->database,
                                  "",
                                  c->passfile[0] != '\0' ? c->passfile : "/dev/null/none",
                                  "",
                                  "hawser",
                                  "",
                                  c->is_replication ? "true" : "false",
                                  "prefer",
                                  "disable",
                                  "prefer",
                                  "",
                                  "any",
                                  "UTF8",
                                  "5000",
                                  NULL};

    (void)snprintf(port, sizeof port, "%u", (unsigned)c->port);
    s->phase = PHASE_CONNECTING;
    (void)uv_timer_start(s->timer, on_deadline, c->connect_ms, 0);
    s->conn = PQconnectStartParams(keys, values, 0);
    if (s->conn == NULL || PQstatus(s->conn) == CONNECTION_BAD) {
        session_fail(
            s, HA_EUNREACHABLE, s->conn == NULL ? "out of memory" : PQerrorMessage(s->conn));
        return;
    }
    /* The first wait is for writing, before any PQconnectPoll: so says its manual. */
    if (!poll_arm(s, UV_WRITABLE)) {
        session_fail(s, HA_EUNREACHABLE, "the socket cannot be watched");
    }
}

static void
on_begin(uv_timer_t *timer)
{
    struct pg_session *s = timer->data;

    if (s->phase == PHASE_IDLE) {
        question_send(s);
    } else {
        connect_begin(s);
    }
}

int
pg_session_ask(
    struct pg_session *s, const char *sql, unsigned timeout_ms, pg_answer_fn done, void *data)
{
    if (s->done != NULL) {
        return HA_EBUSY;
    }
    s->sql = strdup(sql);
    if (s->sql == NULL) {
        return HA_ENOMEM;
    }
    s->timeout_ms = timeout_ms;
    s->done = done;
    s->data = data;
    (void)uv_timer_start(s->timer, on_begin, 0, 0);
    return HA_OK;
}

bool
pg_session_is_busy(const struct pg_session *s)
{
    return s->done != NULL;
}

bool
pg_session_is_open(const struct pg_session *s)
{
    return s->phase == PHASE_IDLE;
}

void
pg_session_reset(struct pg_session *s)
{
    if (s->done == NULL) {
        session_drop(s);
    }
}

const char *
pg_answer_get(const struct pg_answer *answer, int row, int column)
{
    const PGresult *result = answer->result;

    if (result == NULL || row >= PQntuples(result) || column >= PQnfields(result)) {
        return "";
    }
    return PQgetvalue(result, row, column);
}

int
pg_session_open(const struct pg_session_config *config, struct pg_session **out, struct err *err)
{
    const char *texts[] = {config->host, config->user, config->database, config->passfile};
    struct pg_session *s = calloc(1, sizeof *s);
    size_t size = 0;
    char *at;

    for (size_t i = 0; i < HA_COUNT_OF(texts); i++) {
        size += strlen(texts[i]) + 1;
    }
    if (s != NULL) {
        s->memory = malloc(size);
        s->timer = malloc(sizeof *s->timer);
    }
    if (s == NULL || s->memory == NULL || s->timer == NULL) {
        if (s != NULL) {
            free(s->memory);
            free(s->timer);
        }
        free(s);
        return err_set(err, HA_ENOMEM, "SQL session: %s", err_code_text(HA_ENOMEM));
    }
    at = s->memory;
    for (size_t i = 0; i < HA_COUNT_OF(texts); i++) {
        const size_t len = strlen(texts[i]) + 1;

        texts[i] = memcpy(at, texts[i], len);
        at += len;
    }
    s->config = *config;
    s->config.host = texts[0];
    s->config.user = texts[1];
    s->config.database = texts[2];
    s->config.passfile = texts[3];
    (void)uv_timer_init(config->loop, s->timer);
    s->timer->data = s;
    *out = s;
    return HA_OK;
}

void
pg_session_close(struct pg_session *s)
{
    if (s == NULL) {
        return;
    }
    session_drop(s);
    uv_close((uv_handle_t *)s->timer, on_closed_free);
    free(s->sql);
    free(s->memory);
    free(s);
}

char *
pg_scram_verifier(const char *user, const char *password, struct err *err)
{
    /* With the algorithm named, libpq asks no server; but it wants a connection object. */
    PGconn *conn = PQconnectStart("host=/nonexistent user=nobody dbname=none");
    char *made = conn == NULL ? NULL : PQencryptPasswordConn(conn, password, user, "scram-sha-256");
    char *out = made == NULL ? NULL : strdup(made);

    if (out == NULL) {
        (void)err_set(err, HA_EFAILED, "no SCRAM verifier could be made for role \"%s\"", user);
    }
    PQfreemem(made);
    PQfinish(conn);
    return out;
}
