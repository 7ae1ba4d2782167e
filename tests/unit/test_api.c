/*
 * Goal:   a gateway is sent to the primary only while it holds a live lease and its PostgreSQL is
 *         open; every page says what the picture says; nothing malformed becomes a request.
 * Method: pictures of a core (core_scenes.h), rendered; status codes in a table, pages compared
 *         with tests/golden/. `test_api --rewrite` writes those anew.
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

#include "agent/net/api.h"
#include "tests/unit/core_scenes.h"
#include "tests/unit/golden.h"

static struct core core;

static struct api_view
view_of(const struct core *shown)
{
    return (struct api_view){.core = shown,
                             .now = shown->now,
                             .wall_ms = SCENE_WALL_MS,
                             .port_database = 5432,
                             .port_http = 8008};
}

static struct api_answer
ask_at(const char *target, struct mono now)
{
    struct api_view view = view_of(&core);
    struct http_request request = {.method = HTTP_METHOD_GET, .method_text = "GET"};
    struct api_answer answer;
    char path[128];
    const char *query = strchr(target, '?');

    view.now = now;
    (void)snprintf(path, sizeof path, "%.*s", (int)strcspn(target, "?"), target);
    request.target = target;
    request.path = path;
    request.query = query == NULL ? "" : query + 1;
    assert_false(api_is_change(&request));
    api_handle(&view, &request, &answer);
    return answer;
}

static int
status_of(const char *target)
{
    struct api_answer answer = ask_at(target, core.now);
    const int status = answer.http.status;

    api_answer_free(&answer);
    return status;
}

static void
check_status(const char *target, int status)
{
    if (status_of(target) != status) {
        fail_msg("%s gives %d, not %d", target, status_of(target), status);
    }
}

/* ---- health ---- */

static void
health_checks_follow_lease_and_role(void **state)
{
    static const struct {
        const char *target;
        int primary, standby, witness, lost;
    } rows[] = {
        /* clang-format off */
        {"/",                                    200, 503, 503, 503},
        {"/primary",                             200, 503, 503, 503},
        {"/master",                              200, 503, 503, 503},
        {"/read-write",                          200, 503, 503, 503},
        {"/leader",                              200, 503, 503, 503},
        {"/standby-leader",                      503, 503, 503, 503},
        {"/replica",                             503, 200, 503, 200},
        {"/replica/x",                           503, 200, 503, 200},
        {"/replica?lag=1kB",                     503, 200, 503, 200},
        {"/replica?lag=288",                     503, 200, 503, 200},
        {"/replica?lag=287",                     503, 503, 503, 503},
        {"/replica?lag=lots",                    503, 200, 503, 200},
        {"/replica?replication_state=streaming", 503, 200, 503, 503},
        {"/replica?tag_nofailover=true",         503, 503, 503, 503},
        {"/replica?tag_clonefrom=true",          503, 503, 503, 503},
        {"/read-only",                           200, 200, 503, 200},
        {"/async",                               503, 200, 503, 200},
        {"/sync",                                503, 503, 503, 503},
        {"/quorum",                              503, 503, 503, 503},
        {"/read-only-sync",                      200, 503, 503, 503},
        {"/health",                              200, 200, 503, 200},
        {"/liveness",                            200, 200, 200, 200},
        {"/readiness",                           200, 200, 503, 503},
        {"/readiness?lag=1",                     200, 503, 503, 503},
        {"/readiness?lag=256&mode=write",        200, 200, 503, 503},
        {"/nonsense",                            503, 503, 503, 503},
        {"/patroni",                             200, 200, 200, 200},
        {"/cluster",                             200, 200, 200, 200},
        {"/history",                             200, 200, 200, 200},
        {"/metrics",                             200, 200, 200, 200},
        {"/hawser/status",                       200, 200, 200, 200},
        {"/hawser/nonsense",                     404, 404, 404, 404},
        /* clang-format on */
    };

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(rows); i++) {
        scene_healthy(&core, 0);
        check_status(rows[i].target, rows[i].primary);
        scene_healthy(&core, 1);
        check_status(rows[i].target, rows[i].standby);
        scene_healthy(&core, 3);
        check_status(rows[i].target, rows[i].witness);
        scene_primary_lost(&core);
        check_status(rows[i].target, rows[i].lost);
    }
}

static void
the_primary_check_fails_the_moment_the_lease_is_over(void **state)
{
    struct api_answer answer;

    (void)state;
    scene_healthy(&core, 0);
    answer = ask_at("/primary", mono_ms(SCENE_NOW_MS + 1799));
    assert_int_equal(answer.http.status, 200);
    api_answer_free(&answer);
    /* The core has not been told of this moment yet. */
    answer = ask_at("/primary", mono_ms(SCENE_NOW_MS + 1800));
    assert_int_equal(answer.http.status, 503);
    api_answer_free(&answer);
}

static void
a_holder_whose_postgresql_is_not_open_is_no_primary(void **state)
{
    (void)state;
    scene_healthy(&core, 0);
    core.pg.run = PG_RUN_STARTING;
    check_status("/primary", 503);
    scene_healthy(&core, 0);
    core.pg.is_in_recovery = true;
    check_status("/primary", 503);
    scene_healthy(&core, 0);
    core.durable_saved.opened_reign = 1;
    check_status("/primary", 503);
    scene_healthy(&core, 0);
    core.state.is_vacant = true;
    check_status("/primary", 503);
}

static void
without_a_leader_of_the_group_nobody_is_ready_but_the_holder(void **state)
{
    (void)state;
    scene_healthy(&core, 1);
    core.raft.leader = 0;
    check_status("/readiness", 503);
    check_status("/async", 503);
    check_status("/replica", 200);
    scene_healthy(&core, 0);
    core.raft.leader = 0;
    check_status("/readiness", 200);
    check_status("/read-only-sync", 200);
}

static void
a_standby_that_hangs_is_no_server_of_reads(void **state)
{
    static const uint8_t useless[] = {HEALTH_HUNG, HEALTH_DATA_GONE};

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(useless); i++) {
        scene_healthy(&core, 1);
        core.verdict = useless[i];
        check_status("/replica", 503);
        check_status("/read-only", 503);
        check_status("/async", 503);
        check_status("/readiness", 503);
        check_status("/health", 200);
        core.verdict = HEALTH_DISK_LOW; /* it still answers */
        check_status("/replica", 200);
        check_status("/readiness", 200);
    }
}

static void
a_loop_that_no_longer_tells_the_core_the_time_is_not_alive(void **state)
{
    struct api_answer answer;

    (void)state;
    scene_healthy(&core, 0);
    answer = ask_at("/liveness", mono_ms(SCENE_NOW_MS + 6000));
    assert_int_equal(answer.http.status, 503);
    assert_null(answer.http.body);
    api_answer_free(&answer);
}

/* ---- pages ---- */

static void
check_page(const char *target, const char *golden)
{
    struct api_answer answer = ask_at(target, core.now);
    json_t *json;
    char *text;

    assert_int_equal(answer.http.status, 200);
    json = json_loadb(answer.http.body, answer.http.body_len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    if (json_object_get(json, "agent") != NULL) { /* no golden file hangs on our version */
        (void)json_object_set_new(json_object_get(json, "agent"), "version", json_string("1.2.3"));
    }
    text = json_dumps(json, JSON_INDENT(2));
    assert_non_null(text);
    golden_check(golden, text);
    free(text);
    json_decref(json);
    api_answer_free(&answer);
}

static void
pages_say_what_the_picture_says(void **state)
{
    (void)state;
    scene_healthy(&core, 0);
    check_page("/hawser/status", "status_healthy.json");
    check_page("/hawser/explain", "explain_primary.json");
    check_page("/hawser/history", "reigns.json");
    check_page("/patroni", "patroni_primary.json");
    check_page("/cluster", "patroni_cluster.json");
    check_page("/history", "patroni_history.json");
    scene_healthy(&core, 1);
    check_page("/patroni", "patroni_standby.json");
    check_page("/hawser/status", "status_healthy_n2.json");
    scene_primary_lost(&core);
    check_page("/hawser/status", "status_primary_lost.json");
    check_page("/cluster", "patroni_cluster_primary_lost.json");
    scene_gateways(&core);
    check_page("/hawser/status", "status_gateways.json");
    scene_founding(&core);
    check_page("/hawser/status", "status_founding.json");
    check_page("/cluster", "patroni_cluster_founding.json");
}

static void
a_primary_that_is_not_heard_of_is_not_shown_as_one(void **state)
{
    struct api_answer answer;
    json_t *json;

    (void)state;
    scene_healthy(&core, 1);
    scene_peer(&core, 0)->status.lease_left_ms = 60000;
    scene_peer(&core, 0)->heard_at = mono_ms(SCENE_NOW_MS - 700);
    answer = ask_at("/hawser/status", core.now);
    json = json_loadb(answer.http.body, answer.http.body_len, 0, NULL);
    assert_true(json_is_null(json_object_get(json, "leader")));
    json_decref(json);
    api_answer_free(&answer);
}

static void
metrics_have_patronis_names(void **state)
{
    struct api_answer answer;

    (void)state;
    scene_healthy(&core, 0);
    SCENE_TEXT(core.config.name, "a\"b\\c");
    answer = ask_at("/metrics", core.now);
    golden_check("metrics_primary.txt", answer.http.body);
    api_answer_free(&answer);
}

static void
a_name_that_is_not_utf8_breaks_no_page(void **state)
{
    struct api_answer answer;
    json_t *json;

    (void)state;
    scene_healthy(&core, 0);
    SCENE_TEXT(core.state.members[1].name, "\xff\xfe");
    SCENE_TEXT(scene_peer(&core, 2)->status.why, "\xc3\x28");
    answer = ask_at("/hawser/status", core.now);
    json = json_loadb(answer.http.body, answer.http.body_len, 0, NULL);
    assert_non_null(json);
    json_decref(json);
    api_answer_free(&answer);
}

static void
monitors_find_the_fields_that_they_read(void **state)
{
    static const char *const keys[] = {"name", "role", "state", "timeline"};
    struct api_answer answer;
    json_t *json;
    json_t *members;
    int major = 0;
    int minor = 0;

    (void)state;
    scene_healthy(&core, 2);
    answer = ask_at("/cluster", core.now);
    json = json_loadb(answer.http.body, answer.http.body_len, 0, NULL);
    members = json_object_get(json, "members");
    assert_int_equal(json_array_size(members), 3);
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *m = json_array_get(members, i);

        for (size_t k = 0; k < HA_COUNT_OF(keys); k++) {
            assert_non_null(json_object_get(m, keys[k]));
        }
        assert_int_equal(i == 0, json_object_get(m, "lag") == NULL);
    }
    json_decref(json);
    api_answer_free(&answer);
    answer = ask_at("/patroni", core.now);
    json = json_loadb(answer.http.body, answer.http.body_len, 0, NULL);
    assert_int_equal(
        sscanf(json_string_value(json_object_get(json_object_get(json, "patroni"), "version")),
               "%d.%d",
               &major,
               &minor),
        2);
    assert_int_equal(major, 4);
    json_decref(json);
    api_answer_free(&answer);
}

/* ---- requests ---- */

static bool
parse(enum http_method method, const char *path, const char *body, struct event *event, int *status)
{
    const struct api_view view = view_of(&core);
    const struct http_request request = {
        .method = method, .path = path, .query = "", .body = body, .body_len = strlen(body)};
    struct api_answer refusal = {0};
    const bool is_good = api_parse_request(&view, &request, event, &refusal);

    assert_true(api_is_change(&request));
    *status = is_good ? 200 : refusal.http.status;
    api_answer_free(&refusal);
    return is_good;
}

static void
a_declaration_becomes_an_event(void **state)
{
    struct event e;
    int status;

    (void)state;
    scene_healthy(&core, 0);
    assert_true(parse(HTTP_METHOD_POST,
                      "/hawser/declare",
                      "{\"primary\":\"::ffff:10.0.0.2\",\"number\":9}",
                      &e,
                      &status));
    assert_false(e.request.is_anew);
    assert_true(parse(HTTP_METHOD_POST,
                      "/hawser/declare",
                      "{\"primary\":\"10.0.0.2\",\"anew\":true,\"number\":9}",
                      &e,
                      &status));
    assert_true(e.request.is_anew);
    assert_int_equal(e.type, EVENT_REQUEST);
    assert_int_equal(e.request.type, REQUEST_DECLARE);
    assert_string_equal(e.request.primary, "10.0.0.2");
    assert_int_equal(e.request.number, 9);
    assert_true(parse(HTTP_METHOD_POST, "/hawser/pause", "", &e, &status));
    assert_int_equal(e.request.type, REQUEST_PAUSE);
    assert_true(parse(HTTP_METHOD_POST, "/hawser/resume", "{}", &e, &status));
    assert_int_equal(e.request.type, REQUEST_RESUME);
}

static void
what_is_no_request_is_refused_and_told_why(void **state)
{
    static const struct {
        enum http_method method;
        const char *path;
        const char *body;
        int status;
    } rows[] = {
        {HTTP_METHOD_POST, "/hawser/declare", "", 400},
        {HTTP_METHOD_POST, "/hawser/declare", "[]", 400},
        {HTTP_METHOD_POST, "/hawser/declare", "{\"primary\":\"10.0.0.2\"", 400},
        {HTTP_METHOD_POST, "/hawser/declare", "{\"primary\":7}", 400},
        {HTTP_METHOD_POST, "/hawser/declare", "{\"primary\":\"10.0.0.2\",\"number\":-1}", 400},
        {HTTP_METHOD_POST, "/hawser/declare", "{\"primary\":\"10.0.0.2\",\"number\":\"1\"}", 400},
        {HTTP_METHOD_POST, "/hawser/declare", "{\"primary\":\"10.0.0.2\",\"force\":true}", 400},
        {HTTP_METHOD_POST,
         "/hawser/declare",
         "{\"primary\":\"10.0.0.1\",\"primary\":\"10.0.0.2\"}",
         400},
        {HTTP_METHOD_POST, "/hawser/declare", "{\"primary\":\"n2\"}", 422},
        {HTTP_METHOD_POST, "/hawser/declare", "{\"primary\":\"10.0.0.7\"}", 422},
        {HTTP_METHOD_POST, "/hawser/declare", "{\"primary\":\"10.0.0.9\"}", 422},
        {HTTP_METHOD_POST, "/hawser/pause", "{\"for\":1}", 400},
        {HTTP_METHOD_PUT, "/hawser/pause", "", 405},
        {HTTP_METHOD_POST, "/switchover", "{}", 404},
    };
    struct event e;
    int status;

    (void)state;
    scene_healthy(&core, 0);
    for (size_t i = 0; i < HA_COUNT_OF(rows); i++) {
        if (parse(rows[i].method, rows[i].path, rows[i].body, &e, &status) ||
            status != rows[i].status) {
            fail_msg("%s %s: %d, not %d", rows[i].path, rows[i].body, status, rows[i].status);
        }
    }
}

static void
an_outcome_has_its_status_code(void **state)
{
    static const int rows[][2] = {
        {HA_OK, 200}, {HA_EREFUSED, 409}, {HA_EBUSY, 503}, {HA_EAUTH, 401}, {HA_EUNKNOWN, 504}};

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(rows); i++) {
        struct api_answer answer;

        api_reply(rows[i][0], "why", &answer);
        assert_int_equal(answer.http.status, rows[i][1]);
        api_answer_free(&answer);
    }
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_checks_follow_lease_and_role),
        cmocka_unit_test(the_primary_check_fails_the_moment_the_lease_is_over),
        cmocka_unit_test(a_holder_whose_postgresql_is_not_open_is_no_primary),
        cmocka_unit_test(without_a_leader_of_the_group_nobody_is_ready_but_the_holder),
        cmocka_unit_test(a_standby_that_hangs_is_no_server_of_reads),
        cmocka_unit_test(a_loop_that_no_longer_tells_the_core_the_time_is_not_alive),
        cmocka_unit_test(pages_say_what_the_picture_says),
        cmocka_unit_test(a_primary_that_is_not_heard_of_is_not_shown_as_one),
        cmocka_unit_test(metrics_have_patronis_names),
        cmocka_unit_test(a_name_that_is_not_utf8_breaks_no_page),
        cmocka_unit_test(monitors_find_the_fields_that_they_read),
        cmocka_unit_test(a_declaration_becomes_an_event),
        cmocka_unit_test(what_is_no_request_is_refused_and_told_why),
        cmocka_unit_test(an_outcome_has_its_status_code),
    };

    golden_init(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
