/*
 * Programs that run to their end (initdb, pg_basebackup, pg_controldata, scripts), and what
 * children write: kept for error texts, forwarded to the log.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/postgres/pg_impl.h"

#define LINES_A_SECOND 100
#define TOOL_OUTPUT_MAX (64 * 1024)

void
pg_tail_add(struct pg_tail *tail, const char *line)
{
    (void)snprintf(tail->lines[tail->n % PG_TAIL_LINES], PG_TAIL_LINE_MAX, "%s", line);
    tail->n++;
}

static bool
tells_much(const char *line)
{
    static const char *const SIGNS[] = {"FATAL:",
                                        "PANIC:",
                                        "ERROR:",
                                        "error:",
                                        "HINT:",
                                        "DETAIL:",
                                        "haagent:",
                                        "haguard: cannot",
                                        "haguard: ends",
                                        "invalid",
                                        "could not",
                                        "unrecognized",
                                        "must "};

    for (size_t i = 0; i < HA_COUNT_OF(SIGNS); i++) {
        if (strstr(line, SIGNS[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* With only the telling lines, or with all of them. Returns how many there were. */
static size_t
tail_join(const struct pg_tail *tail, bool is_choosy, char *out, size_t size)
{
    const size_t first = tail->n > PG_TAIL_LINES ? tail->n - PG_TAIL_LINES : 0;
    size_t len = 0;
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = first; i < tail->n && len + 1 < size; i++) {
        const char *line = tail->lines[i % PG_TAIL_LINES];

        if (!is_choosy || tells_much(line)) {
            const int more = snprintf(out + len, size - len, "%s%s", len > 0 ? "; " : "", line);

            len += more > 0 ? (size_t)more : 0;
            n++;
        }
    }
    return n;
}

void
pg_tail_text(const struct pg_tail *tail, char *out, size_t size)
{
    if (tail_join(tail, true, out, size) == 0) {
        (void)tail_join(tail, false, out, size);
    }
}

void
pg_forward_line(struct postgres *pg, const char *line)
{
    const uint64_t second = uv_now(pg->config.loop) / 1000;
    const bool is_debug = strstr(line, "DEBUG:") != NULL || strstr(line, "DEBUG1:") != NULL;
    struct pg_log_budget *b = &pg->budget;

    pg_tail_add(&pg->tail, line);
    if (b->second != second) {
        if (b->dropped > 0) {
            postgres_log(pg, PG_LOG_WARN, "postgres_log", "%u lines left out", b->dropped);
        }
        *b = (struct pg_log_budget){.second = second};
    }
    if (b->used++ >= LINES_A_SECOND) {
        b->dropped++;
        return;
    }
    postgres_log(pg, is_debug ? PG_LOG_DEBUG : PG_LOG_INFO, "postgres_log", "%s", line);
}

static void
output_keep(struct postgres *pg, const char *line)
{
    const size_t len = strlen(line);

    if (pg->tool_output_len + len + 2 > TOOL_OUTPUT_MAX) {
        return;
    }
    memcpy(pg->tool_output + pg->tool_output_len, line, len);
    pg->tool_output_len += len;
    pg->tool_output[pg->tool_output_len++] = '\n';
    pg->tool_output[pg->tool_output_len] = '\0';
}

static void
on_line(void *data, const char *line)
{
    struct postgres *pg = data;

    if (pg->tool_line != NULL) {
        pg->tool_line(pg, line);
    } else if (pg->is_tool_output_kept) {
        output_keep(pg, line);
    } else {
        pg_forward_line(pg, line);
    }
}

static void
on_gone(void *data, int status)
{
    struct postgres *pg = data;
    void (*const done)(struct postgres *, int) = pg->tool_done;

    pg->tool = NULL;
    pg->tool_done = NULL;
    pg->tool_line = NULL;
    if (pg->is_looking || !postgres_check_canceled(pg)) {
        done(pg, status);
    }
}

const char *const *
pg_guarded_argv(const struct postgres *pg,
                const char *const argv[],
                bool has_lease,
                struct pg_guarded *out)
{
    const struct postgres_config *c = &pg->config;
    size_t n = 0;

    if (c->guardian[0] != '\0') {
        (void)snprintf(out->parent, sizeof out->parent, "%d", (int)getpid());
        (void)snprintf(out->uid, sizeof out->uid, "%u", (unsigned)c->uid);
        (void)snprintf(out->gid, sizeof out->gid, "%u", (unsigned)c->gid);
        out->argv[n++] = c->guardian;
        out->argv[n++] = "--parent-pid";
        out->argv[n++] = out->parent;
        if (has_lease && c->lease_path[0] != '\0') {
            out->argv[n++] = "--lease";
            out->argv[n++] = c->lease_path;
        }
        if (geteuid() == 0) {
            out->argv[n++] = "--uid";
            out->argv[n++] = out->uid;
            out->argv[n++] = "--gid";
            out->argv[n++] = out->gid;
        }
        out->argv[n++] = "--";
    }
    for (; *argv != NULL; argv++) {
        REQUIRE(n < PG_ARGV_MAX - 1, "no command line is that long");
        out->argv[n++] = *argv;
    }
    out->argv[n] = NULL;
    return out->argv;
}

static int
tool_start(struct postgres *pg,
           const char *const argv[],
           bool is_guarded,
           char **env,
           void (*done)(struct postgres *pg, int status),
           struct err *err)
{
    const bool has_guardian = is_guarded && pg->config.guardian[0] != '\0';
    struct pg_guarded guarded;
    struct pg_child_spec spec = {
        .loop = pg->config.loop,
        .argv = has_guardian ? pg_guarded_argv(pg, argv, false, &guarded) : argv,
        .env = env,
        .uid = pg->config.uid,
        .gid = pg->config.gid,
        .is_guardian = has_guardian,
        .quit_signal = has_guardian ? SIGQUIT : SIGTERM,
        .data = pg,
        .n_keep_fds = pg->config.n_inherit_fds,
        .on_line = on_line,
        .on_gone = on_gone,
    };
    int rc;

    REQUIRE(pg->tool == NULL, "one tool at a time");
    if (env == NULL) {
        return HA_ENOMEM;
    }
    /* Whoever takes the volume's lock next must not have it before the last tool is gone. */
    for (size_t i = 0; i < spec.n_keep_fds; i++) {
        spec.keep_fds[i] = pg->config.inherit_fds[i];
    }
    pg->tool_done = done;
    rc = pg_child_start(&spec, &pg->tool, err);
    free(env);
    return rc;
}

/*
 * Below the guardian: the second process of pg_basebackup holds both ends of the pipe from the
 * first, so when the agent and with it the first is killed it would stream on for ever.
 */
int
pg_tool_run(struct postgres *pg,
            const char *const argv[],
            const char *const extra_env[],
            void (*done)(struct postgres *pg, int status),
            struct err *err)
{
    pg->is_tool_output_kept = false;
    pg->tail.n = 0;
    return tool_start(pg, argv, true, pg_child_env(extra_env, false, err), done, err);
}

int
pg_tool_script(struct postgres *pg,
               const char *const argv[],
               const char *const extra_env[],
               void (*done)(struct postgres *pg, int status),
               struct err *err)
{
    pg->is_tool_output_kept = false;
    pg->tail.n = 0;
    return tool_start(pg, argv, true, pg_child_env(extra_env, true, err), done, err);
}

int
pg_tool_capture(struct postgres *pg,
                const char *const argv[],
                void (*done)(struct postgres *pg, int status),
                struct err *err)
{
    static const char *const C_LOCALE[] = {"LC_ALL=C", "LANG=C", NULL};

    if (pg->tool_output == NULL) {
        pg->tool_output = malloc(TOOL_OUTPUT_MAX);
        if (pg->tool_output == NULL) {
            return err_set(err, HA_ENOMEM, "%s: %s", argv[0], err_code_text(HA_ENOMEM));
        }
    }
    pg->tool_output[0] = '\0';
    pg->tool_output_len = 0;
    pg->is_tool_output_kept = true;
    return tool_start(pg, argv, false, pg_child_env(C_LOCALE, false, err), done, err);
}
