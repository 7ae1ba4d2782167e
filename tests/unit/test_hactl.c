/*
 * Goal:   hactl tells what the agents say, believes the one that knows the newest reign, and ends
 *         with the right exit status; its tables are those of tests/golden/.
 * Method: agents are played by the real HTTP server on a thread, which serves golden pictures and
 *         checks signatures; hactl runs in this process. `test_hactl --rewrite` writes tables anew.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <uv.h>

#include "agent/net/http.h"
#include "agent/net/http_auth.h"
#include "agent/net/secret_derive.h"
#include "tests/unit/golden.h"
#include "tools/hactl/hactl.h"
#include "tools/hactl/picture.h"
#include "tools/hactl/render.h"

#define AGENTS 2
#define ARGS_MAX 8

/* An agent, as the test plays it. */
struct agent {
    struct http_server *server;
    char url[32];
    json_t *status; /* what /hawser/status shows; NULL = 503 without JSON */
    int post_status;
    bool is_deaf;
    unsigned n_posts;
    unsigned n_unsigned;
    char posted[4][160]; /* path and body */
};

static struct agent agents[AGENTS];
static uv_loop_t loop;
static uv_async_t stop;
static pthread_t thread;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct http_auth auth;

/* ---- the agents ---- */

static void
answer_json(struct http_exchange *exchange, int status, const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    const struct http_answer answer = {.status = status,
                                       .content_type = "application/json",
                                       .body = text,
                                       .body_len = strlen(text)};

    http_answer(exchange, &answer);
    free(text);
}

/* A declaration takes at once: the new primary is declared, reigns and is open. */
static void
obey(struct agent *agent, const char *body)
{
    json_t *said = json_loads(body, 0, NULL);
    json_t *primary = json_object_get(said, "primary");

    for (size_t i = 0; primary != NULL && i < AGENTS; i++) {
        json_t *status = agents[i].status;
        json_t *declaration = json_object_get(status, "declaration");

        if (status == NULL || agent->post_status != 200) {
            continue;
        }
        (void)json_object_set(declaration, "primary", primary);
        (void)json_object_set_new(
            declaration,
            "generation",
            json_integer(json_integer_value(json_object_get(declaration, "generation")) + 1));
        (void)json_object_set(status, "leader", primary);
        (void)json_object_set(status, "holder", primary);
    }
    json_decref(said);
}

static void
on_post(struct agent *agent, const struct http_request *request, struct http_exchange *exchange)
{
    const struct http_auth_request signed_request = {.method = request->method_text,
                                                     .target = request->target,
                                                     .body = request->body,
                                                     .body_len = request->body_len};
    const char *header = http_request_header(request, "authorization");
    json_t *o;
    int status = agent->post_status;

    if (http_auth_check(&auth, &signed_request, header, (int64_t)time(NULL), NULL) != HA_OK) {
        agent->n_unsigned++;
        status = 401;
    } else {
        (void)snprintf(agent->posted[agent->n_posts++ % 4],
                       sizeof agent->posted[0],
                       "%s %s",
                       request->path,
                       request->body);
        if (!agent->is_deaf) {
            obey(agent, request->body);
        }
    }
    o = json_pack("{s:s}", "text", status == 200 ? "done" : "no, for a reason");
    answer_json(exchange, status, o);
    json_decref(o);
}

static void
on_request(void *data, const struct http_request *request, struct http_exchange *exchange)
{
    struct agent *agent = data;
    const struct http_answer nothing = {.status = 503};
    char *page = NULL;
    json_t *json;

    (void)pthread_mutex_lock(&mutex);
    if (request->method == HTTP_METHOD_POST) {
        on_post(agent, request, exchange);
    } else if (agent->status == NULL) {
        http_answer(exchange, &nothing);
    } else if (strcmp(request->path, "/hawser/status") == 0) {
        answer_json(exchange, 200, agent->status);
    } else {
        page = golden_read(strcmp(request->path, "/hawser/history") == 0 ? "reigns.json"
                                                                         : "explain_primary.json");
        json = json_loads(page, 0, NULL);
        answer_json(exchange, 200, json);
        json_decref(json);
        free(page);
    }
    (void)pthread_mutex_unlock(&mutex);
}

static void
on_stop(uv_async_t *handle)
{
    for (size_t i = 0; i < AGENTS; i++) {
        http_close(agents[i].server, NULL, NULL);
    }
    uv_close((uv_handle_t *)handle, NULL);
}

static void *
serve(void *data)
{
    (void)data;
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    return NULL;
}

static int
start(void **state)
{
    uint8_t key[KEY_BYTES];
    struct err err;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    if (secret_derive_cluster("secret", 6, key) != HA_OK ||
        http_auth_init(&auth, key, sizeof key, (int64_t)time(NULL) - 1) != HA_OK ||
        uv_loop_init(&loop) != 0 || uv_async_init(&loop, &stop, on_stop) != 0) {
        return -1;
    }
    for (size_t i = 0; i < AGENTS; i++) {
        const struct http_config config = {.loop = &loop,
                                           .host = "127.0.0.1",
                                           .port = 0,
                                           .data = &agents[i],
                                           .on_request = on_request};

        if (http_open(&config, &agents[i].server, &err) != HA_OK) {
            return -1;
        }
        (void)snprintf(agents[i].url,
                       sizeof agents[i].url,
                       "http://127.0.0.1:%u",
                       http_port(agents[i].server));
    }
    return pthread_create(&thread, NULL, serve, NULL);
}

static void
show(struct agent *agent, const char *golden)
{
    char *text = golden == NULL ? NULL : golden_read(golden);

    (void)pthread_mutex_lock(&mutex);
    json_decref(agent->status);
    agent->status = text == NULL ? NULL : json_loads(text, 0, NULL);
    agent->post_status = 200;
    agent->is_deaf = false;
    agent->n_posts = 0;
    agent->n_unsigned = 0;
    memset(agent->posted, 0, sizeof agent->posted);
    (void)pthread_mutex_unlock(&mutex);
    assert_true(golden == NULL || agent->status != NULL);
    free(text);
}

static int
finish(void **state)
{
    (void)state;
    (void)uv_async_send(&stop);
    (void)pthread_join(thread, NULL);
    for (size_t i = 0; i < AGENTS; i++) {
        json_decref(agents[i].status);
    }
    return uv_loop_close(&loop);
}

/* ---- hactl ---- */

struct said {
    enum exit_status status;
    char out[8192];
    char err[2048];
};

/* Runs hactl with words; %1 and %2 stand for the agents' URLs. */
static void
run(struct said *said, const char *const *words)
{
    char *argv[ARGS_MAX + 2];
    char texts[ARGS_MAX + 1][128];
    FILE *out = fmemopen(said->out, sizeof said->out, "w");
    FILE *err = fmemopen(said->err, sizeof said->err, "w");
    int argc = 0;

    memset(said, 0, sizeof *said);
    assert_non_null(out);
    assert_non_null(err);
    (void)snprintf(texts[argc++], sizeof texts[0], "hactl");
    for (; *words != NULL; words++) {
        assert_true(argc <= ARGS_MAX);
        if (strcmp(*words, "%1,%2") == 0) {
            (void)snprintf(texts[argc++], sizeof texts[0], "%s,%s", agents[0].url, agents[1].url);
        } else {
            (void)snprintf(texts[argc++], sizeof texts[0], "%s", *words);
        }
    }
    for (int i = 0; i < argc; i++) {
        argv[i] = texts[i];
    }
    argv[argc] = NULL;
    said->status = hactl_run(argc, argv, out, err);
    (void)fclose(out);
    (void)fclose(err);
}

#define RUN(said, ...) run(said, (const char *const[]){__VA_ARGS__, NULL})
#define ASK(said, ...) RUN(said, __VA_ARGS__, "--url", "%1,%2")

static void
check_status(const struct said *said, enum exit_status status)
{
    if (said->status != status) {
        fail_msg(
            "exit %d, not %d; out \"%s\", err \"%s\"", said->status, status, said->out, said->err);
    }
}

/* ---- tests ---- */

static void
leader_is_one_line_and_a_reason_when_there_is_none(void **state)
{
    struct said said;

    (void)state;
    show(&agents[0], "status_healthy.json");
    show(&agents[1], "status_healthy_n2.json");
    ASK(&said, "leader");
    check_status(&said, EXIT_YES);
    assert_string_equal(said.out, "10.0.0.1\n");
    assert_string_equal(said.err, "");
    show(&agents[0], NULL);
    show(&agents[1], "status_primary_lost.json");
    ASK(&said, "leader");
    check_status(&said, EXIT_NO);
    assert_string_equal(said.out, "");
    assert_string_equal(said.err,
                        "hactl: there is no primary: writes wait for 10.0.0.1, or for another "
                        "declaration (rule 230)\n");
}

static void
an_agent_that_is_cut_off_is_not_believed(void **state)
{
    struct said said;

    (void)state;
    /* The first still shows the old primary; the second knows a newer reign. */
    show(&agents[0], "status_healthy.json");
    show(&agents[1], "status_healthy_n2.json");
    (void)pthread_mutex_lock(&mutex);
    (void)json_object_set_new(json_object_get(agents[1].status, "reign"), "reign", json_integer(3));
    (void)json_object_set_new(agents[1].status, "leader", json_string("10.0.0.2"));
    (void)pthread_mutex_unlock(&mutex);
    ASK(&said, "leader");
    check_status(&said, EXIT_YES);
    assert_string_equal(said.out, "10.0.0.2\n");
    /* The newest reign has no live lease yet: then there is no primary, whatever the first says. */
    (void)pthread_mutex_lock(&mutex);
    (void)json_object_set_new(agents[1].status, "leader", json_null());
    (void)pthread_mutex_unlock(&mutex);
    ASK(&said, "leader");
    check_status(&said, EXIT_NO);
    /* Of one reign, the agent that hears the holder knows better than the one that does not. */
    for (size_t deaf = 0; deaf < AGENTS; deaf++) {
        show(&agents[1 - deaf], "status_healthy.json");
        show(&agents[deaf], "status_healthy_n2.json");
        (void)pthread_mutex_lock(&mutex);
        (void)json_object_set_new(agents[deaf].status, "leader", json_null());
        (void)pthread_mutex_unlock(&mutex);
        ASK(&said, "leader");
        check_status(&said, EXIT_YES);
        assert_string_equal(said.out, "10.0.0.1\n");
    }
}

static void
nobody_answers_is_another_answer_than_no(void **state)
{
    struct said said;

    (void)state;
    RUN(&said, "leader", "--url", "http://127.0.0.1:9");
    check_status(&said, EXIT_UNREACHABLE);
    assert_non_null(strstr(said.err, "http://127.0.0.1:9"));
    show(&agents[0], NULL);
    show(&agents[1], NULL);
    ASK(&said, "status");
    check_status(&said, EXIT_UNREACHABLE);
}

static void
wrong_usage_says_so_and_asks_nobody(void **state)
{
    static const char *const rows[][3] = {{"frobnicate", NULL, NULL},
                                          {"declare", NULL, NULL},
                                          {"leader", "n1", NULL},
                                          {"status", "--timeout", "soon"},
                                          {"status", "--frobnicate", NULL},
                                          {"declare", "n1", "--number=-1"},
                                          {"status", "--color=blue", NULL}};
    struct said said;

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(rows); i++) {
        run(&said, (const char *const[]){rows[i][0], rows[i][1], rows[i][2], NULL});
        check_status(&said, EXIT_USAGE);
        assert_memory_equal(said.err, "hactl: ", 7);
    }
    RUN(&said, "--help");
    check_status(&said, EXIT_YES);
    assert_non_null(strstr(said.out, "switchover [TO]"));
    RUN(&said, "declare", "--help");
    check_status(&said, EXIT_YES);
    assert_non_null(strstr(said.out, "Example: hactl declare"));
}

static void
a_declaration_is_signed_and_taken(void **state)
{
    struct said said;

    (void)state;
    show(&agents[0], "status_healthy.json");
    show(&agents[1], "status_healthy_n2.json");
    ASK(&said, "declare", "n2", "--wait", "--number", "7");
    check_status(&said, EXIT_YES);
    assert_string_equal(said.out, "declaration 4: primary 10.0.0.2\n");
    assert_int_equal(agents[0].n_posts, 1);
    assert_string_equal(agents[0].posted[0],
                        "/hawser/declare {\"primary\":\"10.0.0.2\",\"number\":7}");
    assert_int_equal(agents[0].n_unsigned, 0);
    ASK(&said, "pause");
    check_status(&said, EXIT_YES);
    assert_string_equal(agents[0].posted[1], "/hawser/pause {}");
}

static void
refused_and_not_done_are_told_apart(void **state)
{
    struct said said;

    (void)state;
    show(&agents[0], "status_healthy.json");
    show(&agents[1], "status_healthy_n2.json");
    agents[0].post_status = 409;
    ASK(&said, "declare", "n2");
    check_status(&said, EXIT_REFUSED);
    assert_non_null(strstr(said.err, "no, for a reason"));
    assert_int_equal(agents[1].n_posts, 0);
    /* Busy is no refusal: the next one is asked. */
    agents[0].post_status = 503;
    ASK(&said, "declare", "n2");
    check_status(&said, EXIT_YES);
    assert_int_equal(agents[1].n_posts, 1);
    agents[1].post_status = 503;
    ASK(&said, "resume");
    check_status(&said, EXIT_UNREACHABLE);
    (void)setenv("POSTGRES_PASSWORD", "another", 1);
    ASK(&said, "resume");
    check_status(&said, EXIT_REFUSED);
    (void)unsetenv("POSTGRES_PASSWORD");
    ASK(&said, "resume");
    check_status(&said, EXIT_USAGE);
    assert_non_null(strstr(said.err, "HA_CLUSTER_SECRET_FILE"));
    (void)setenv("POSTGRES_PASSWORD", "secret", 1);
}

static void
a_restart_goes_to_the_agent_of_that_node(void **state)
{
    struct said said;

    (void)state;
    show(&agents[0], "status_healthy.json");
    show(&agents[1], "status_healthy_n2.json");
    ASK(&said, "restart", "n2");
    check_status(&said, EXIT_YES);
    assert_memory_equal(said.out, "10.0.0.2: PostgreSQL was restarted, after ", 42);
    assert_int_equal(agents[0].n_posts, 0);
    assert_string_equal(agents[1].posted[0], "/hawser/restart {}");
    ASK(&said, "reload", "10.0.0.1");
    check_status(&said, EXIT_YES);
    assert_string_equal(agents[0].posted[0], "/hawser/reload {}");
    assert_int_equal(agents[1].n_posts, 1);
    ASK(&said, "reinit", "n2");
    check_status(&said, EXIT_YES);
    assert_string_equal(agents[1].posted[1], "/hawser/reinit {}");
    agents[1].post_status = 503; /* busy: no other agent can do it */
    ASK(&said, "restart", "n2");
    check_status(&said, EXIT_UNREACHABLE);
    assert_int_equal(agents[0].n_posts, 1);
    agents[0].post_status = 409;
    ASK(&said, "restart", "n1");
    check_status(&said, EXIT_REFUSED);
    ASK(&said, "restart", "n7");
    check_status(&said, EXIT_REFUSED);
    assert_int_equal(agents[1].n_posts, 3);
}

static void
a_plan_tells_the_steps_and_changes_nothing(void **state)
{
    struct said said;

    (void)state;
    show(&agents[0], "status_healthy.json");
    show(&agents[1], "status_healthy_n2.json");
    ASK(&said, "plan", "PRIMARY=10.0.0.2");
    check_status(&said, EXIT_YES);
    golden_check("hactl_plan_switchover.txt", said.out);
    ASK(&said, "plan", "n1");
    check_status(&said, EXIT_YES);
    assert_non_null(strstr(said.out, "nothing to do"));
    ASK(&said, "plan", "w");
    check_status(&said, EXIT_REFUSED);
    ASK(&said, "plan", "10.9.9.9");
    check_status(&said, EXIT_REFUSED);
    ASK(&said, "plan", "n2", "--json");
    check_status(&said, EXIT_YES);
    assert_non_null(strstr(said.out, "\"kind\": \"switchover\""));
    assert_int_equal(agents[0].n_posts + agents[1].n_posts, 0);
}

static void
a_plan_says_why_it_would_wait(void **state)
{
    struct said said;

    (void)state;
    show(&agents[0], NULL);
    show(&agents[1], "status_primary_lost.json");
    ASK(&said, "plan", "n1"); /* the lost one itself */
    check_status(&said, EXIT_NO);
    golden_check("hactl_plan_waits.txt", said.out);
    ASK(&said, "plan", "n2");
    golden_check("hactl_plan_failover.txt", said.out);
    show(&agents[1], "status_healthy_n2.json");
    (void)pthread_mutex_lock(&mutex);
    (void)json_object_set_new(agents[1].status, "is_paused", json_true());
    (void)pthread_mutex_unlock(&mutex);
    ASK(&said, "plan", "n2");
    check_status(&said, EXIT_NO);
    assert_non_null(strstr(said.out, "It would wait: the cluster is paused"));
}

static void
switchover_goes_to_the_standby_with_the_most_wal(void **state)
{
    struct said said;

    (void)state;
    show(&agents[0], "status_healthy.json");
    show(&agents[1], "status_healthy_n2.json");
    ASK(&said, "switchover");
    check_status(&said, EXIT_YES);
    assert_memory_equal(said.out, "10.0.0.2 is the primary, after ", 31);
    assert_string_equal(agents[0].posted[0],
                        "/hawser/declare {\"primary\":\"10.0.0.2\",\"anew\":true}");
    assert_int_equal(agents[0].n_posts, 1);
    ASK(&said, "switchover", "n2");
    check_status(&said, EXIT_YES);
    assert_string_equal(said.out, "10.0.0.2 is the primary already\n");
    ASK(&said, "switchover", "w");
    check_status(&said, EXIT_REFUSED);
    ASK(&said, "switchover", "n7");
    check_status(&said, EXIT_REFUSED);
}

static void
switchover_means_it_though_it_was_said_before(void **state)
{
    struct said said;

    (void)state;
    /* n1 is declared, but n2 reigns since a failover: n1's words again would be no news. */
    show(&agents[0], "status_healthy.json");
    show(&agents[1], "status_healthy.json");
    (void)pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < AGENTS; i++) {
        (void)json_object_set_new(agents[i].status, "leader", json_string("10.0.0.2"));
        (void)json_object_set_new(agents[i].status, "holder", json_string("10.0.0.2"));
    }
    (void)pthread_mutex_unlock(&mutex);
    ASK(&said, "switchover", "n1");
    check_status(&said, EXIT_YES);
    assert_int_equal(agents[0].n_posts, 1);
    assert_string_equal(agents[0].posted[0],
                        "/hawser/declare {\"primary\":\"10.0.0.1\",\"anew\":true}");
}

static void
waiting_has_an_end(void **state)
{
    struct said said;

    (void)state;
    show(&agents[0], "status_healthy.json");
    show(&agents[1], "status_healthy_n2.json");
    agents[0].is_deaf = true; /* the words are taken, and nothing comes of them */
    ASK(&said, "declare", "n2", "--wait", "--timeout", "0.2");
    check_status(&said, EXIT_YES); /* they were no news, and there is a primary */
    ASK(&said, "switchover", "n2", "--timeout", "0.2");
    check_status(&said, EXIT_NO);
    assert_memory_equal(said.err, "hactl: not yet: ", 16);
    show(&agents[0], "status_founding.json");
    show(&agents[1], "status_founding.json");
    ASK(&said, "declare", "n1", "--wait", "--timeout", "0.2");
    check_status(&said, EXIT_UNREACHABLE);
    assert_non_null(strstr(said.err, "no cluster yet"));
}

static void
every_verb_speaks_json(void **state)
{
    static const char *const verbs[] = {
        "leader", "status", "members", "topology", "history", "explain", "version", "dsn", "uri"};
    struct said said;

    (void)state;
    show(&agents[0], "status_healthy.json");
    show(&agents[1], "status_healthy_n2.json");
    for (size_t i = 0; i < HA_COUNT_OF(verbs); i++) {
        json_t *json;

        ASK(&said, verbs[i], "--json");
        check_status(&said, EXIT_YES);
        json = json_loads(said.out, JSON_REJECT_DUPLICATES, NULL);
        if (json == NULL) {
            fail_msg("%s --json: %s", verbs[i], said.out);
        }
        json_decref(json);
    }
    ASK(&said, "switchover", "n2", "--json");
    check_status(&said, EXIT_YES);
    assert_non_null(strstr(said.out, "\"done\": true"));
}

static void
addresses_for_clients(void **state)
{
    struct said said;

    (void)state;
    show(&agents[0], "status_healthy.json");
    show(&agents[1], NULL);
    ASK(&said, "dsn");
    assert_string_equal(said.out, "host=10.0.0.1 port=5432\n");
    ASK(&said, "uri");
    assert_string_equal(said.out,
                        "postgres://10.0.0.1:5432,10.0.0.2:5432,10.0.0.3:5432/postgres"
                        "?target_session_attrs=read-write&connect_timeout=2\n");
    ASK(&said, "uri", "--read-only");
    assert_non_null(strstr(said.out, "=prefer-standby&"));
    ASK(&said, "dsn", "--read-only");
    assert_string_equal(said.out, "host=10.0.0.2 port=5432\n");
}

static void
agents_are_found_in_the_environment(void **state)
{
    struct agents list;
    struct err err;

    (void)state;
    assert_int_equal(environment_agents(NULL, &list, &err), HA_OK);
    assert_int_equal(list.n, 1);
    assert_string_equal(list.urls[0], "http://127.0.0.1:8008");
    (void)setenv("PRIMARY_IP", "10.0.0.1", 1);
    (void)setenv("REPLICAS_IP", "10.0.0.2, fd00::3", 1);
    (void)setenv("NODE_IP", "10.0.0.2", 1);
    (void)setenv("HA_HTTP_PORT", "81", 1);
    assert_int_equal(environment_agents(NULL, &list, &err), HA_OK);
    assert_int_equal(list.n, 3);
    assert_string_equal(list.urls[1], "http://10.0.0.2:81");
    assert_string_equal(list.urls[2], "http://[fd00::3]:81");
    (void)setenv("HA_URL", "https://db.example:1/ n3:9", 1);
    assert_int_equal(environment_agents(NULL, &list, &err), HA_OK);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.urls[0], "https://db.example:1");
    assert_string_equal(list.urls[1], "http://n3:9");
    assert_int_equal(environment_agents("[::1]:7", &list, &err), HA_OK);
    assert_string_equal(list.urls[0], "http://[::1]:7");
    (void)unsetenv("PRIMARY_IP");
    (void)unsetenv("REPLICAS_IP");
    (void)unsetenv("NODE_IP");
    (void)unsetenv("HA_HTTP_PORT");
    (void)unsetenv("HA_URL");
}

static void
check_text(const char *golden_json, void (*render)(const json_t *, FILE *), const char *golden)
{
    char *text = golden_read(golden_json);
    json_t *json = json_loads(text, 0, NULL);
    char out[8192] = "";
    FILE *to = fmemopen(out, sizeof out, "w");

    assert_non_null(json);
    assert_non_null(to);
    render(json, to);
    (void)fclose(to);
    golden_check(golden, out);
    json_decref(json);
    free(text);
}

static void
plain_status(const json_t *picture, FILE *to)
{
    render_status(picture, false, to);
}

static void
colored_status(const json_t *picture, FILE *to)
{
    render_status(picture, true, to);
}

static void
gateways_are_shown_beside_the_cluster_and_mismatches_are_marked(void **state)
{
    struct said said;
    json_t *list;

    (void)state;
    show(&agents[0], "status_healthy.json"); /* this one does not lead, and knows none */
    show(&agents[1], "status_gateways.json");
    ASK(&said, "gateway");
    check_status(&said, EXIT_NO);
    golden_check("hactl_gateway.txt", said.out);
    ASK(&said, "gateway", "--json");
    list = json_loads(said.out, 0, NULL);
    assert_int_equal(json_array_size(list), 3);
    assert_true(json_is_true(json_object_get(json_array_get(list, 0), "is_right")));
    assert_true(json_is_true(json_object_get(json_array_get(list, 2), "is_password_refused")));
    json_decref(list);
    /* The one that is right alone. */
    (void)pthread_mutex_lock(&mutex);
    list = json_object_get(agents[1].status, "gateways");
    (void)json_array_remove(list, 2);
    (void)json_array_remove(list, 1);
    (void)pthread_mutex_unlock(&mutex);
    ASK(&said, "gateway");
    check_status(&said, EXIT_YES);
    assert_null(strstr(said.out, "MISMATCH"));
    /* Nobody leads: what was seen is of yesterday. */
    (void)pthread_mutex_lock(&mutex);
    (void)json_object_set_new(json_object_get(agents[1].status, "raft"), "is_ready", json_false());
    (void)pthread_mutex_unlock(&mutex);
    ASK(&said, "gateway");
    check_status(&said, EXIT_NO);
    assert_non_null(strstr(said.err, "no agent leads"));
    show(&agents[1], "status_healthy_n2.json");
    ASK(&said, "gateway");
    check_status(&said, EXIT_NO);
    assert_non_null(strstr(said.err, "PGPOOL_HOSTS"));
    show(&agents[0], NULL);
    show(&agents[1], NULL);
    ASK(&said, "gateway");
    check_status(&said, EXIT_UNREACHABLE);
}

static void
tables_look_like_the_golden_ones(void **state)
{
    (void)state;
    check_text("status_healthy.json", plain_status, "hactl_status_healthy.txt");
    check_text("status_primary_lost.json", plain_status, "hactl_status_primary_lost.txt");
    check_text("status_primary_lost.json", colored_status, "hactl_status_colored.txt");
    check_text("status_founding.json", plain_status, "hactl_status_founding.txt");
    check_text("status_healthy.json", render_members, "hactl_members.txt");
    check_text("status_healthy.json", render_topology, "hactl_topology.txt");
    check_text("status_primary_lost.json", render_topology, "hactl_topology_primary_lost.txt");
    check_text("status_primary_lost.json", render_explain_all, "hactl_explain_all.txt");
    check_text("explain_primary.json", render_explain, "hactl_explain.txt");
    check_text("reigns.json", render_history, "hactl_history.txt");
}

static void
an_lsn_is_a_number(void **state)
{
    (void)state;
    assert_true(picture_lsn_bytes("1/2") == 0x100000002ULL);
    assert_true(picture_lsn_bytes("0/FF") < picture_lsn_bytes("0/100"));
    assert_true(picture_lsn_bytes("unknown") == 0);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leader_is_one_line_and_a_reason_when_there_is_none),
        cmocka_unit_test(an_agent_that_is_cut_off_is_not_believed),
        cmocka_unit_test(nobody_answers_is_another_answer_than_no),
        cmocka_unit_test(wrong_usage_says_so_and_asks_nobody),
        cmocka_unit_test(a_declaration_is_signed_and_taken),
        cmocka_unit_test(refused_and_not_done_are_told_apart),
        cmocka_unit_test(a_restart_goes_to_the_agent_of_that_node),
        cmocka_unit_test(a_plan_tells_the_steps_and_changes_nothing),
        cmocka_unit_test(a_plan_says_why_it_would_wait),
        cmocka_unit_test(switchover_goes_to_the_standby_with_the_most_wal),
        cmocka_unit_test(switchover_means_it_though_it_was_said_before),
        cmocka_unit_test(waiting_has_an_end),
        cmocka_unit_test(every_verb_speaks_json),
        cmocka_unit_test(addresses_for_clients),
        cmocka_unit_test(agents_are_found_in_the_environment),
        cmocka_unit_test(gateways_are_shown_beside_the_cluster_and_mismatches_are_marked),
        cmocka_unit_test(tables_look_like_the_golden_ones),
        cmocka_unit_test(an_lsn_is_a_number),
    };

    golden_init(argc, argv);
    /* The runner asks for its own format in the environment, which the tests empty. */
    if (getenv("CMOCKA_MESSAGE_OUTPUT") != NULL) {
        cmocka_set_message_output(CM_OUTPUT_TAP);
    }
    (void)clearenv();
    (void)setenv("POSTGRES_PASSWORD", "secret", 1);
    return cmocka_run_group_tests(tests, start, finish);
}
