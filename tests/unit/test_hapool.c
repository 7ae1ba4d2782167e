/*
 * Goal:   hapool writes the names that each version of Pgpool-II knows, believes of the agents'
 *         answers only what it can use, numbers its servers for good, and tells Pgpool the
 *         difference in the measured order.
 * Method: an environment and answers made by hand; the files are read back.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "tools/hapool/hapool.h"

static struct hapool_config config;
static char dir[] = "/tmp/test-hapool-XXXXXX";

static void
begin(void)
{
    struct err err = {0};

    (void)setenv("PRIMARY_IP", "10.0.0.3", 1);
    (void)setenv("REPLICAS_IP", "10.0.0.1, 10.0.0.2", 1);
    (void)setenv("POSTGRES_PASSWORD", "it's $ecret", 1);
    (void)setenv("HAPOOL_RUN_DIR", dir, 1);
    assert_int_equal(hapool_config_read(&config, &err), HA_OK);
    config.version = 403;
}

static char *
slurp(const char *name)
{
    static char text[16384];
    char path[128];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    (void)fclose(f);
    return text;
}

static void
renamed_settings_go_by_version(void **state)
{
    static const struct {
        unsigned version;
        const char *socket;
        const char *work;
    } rows[] = {{403, "\nsocket_dir = '", "\nlogdir = '"},
                {404, "\nunix_socket_directories = '", "\nlogdir = '"},
                {406, "\nunix_socket_directories = '", "\nlogdir = '"},
                {407, "\nunix_socket_directories = '", "\nwork_dir = '"}};
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(rows); i++) {
        const char *text;

        begin();
        config.version = rows[i].version;
        assert_int_equal(hapool_render(&config, NULL, &err), HA_OK);
        text = slurp("pgpool.conf");
        assert_non_null(strstr(text, rows[i].socket));
        assert_non_null(strstr(text, rows[i].work));
        assert_true((strstr(text, "\nsocket_dir") != NULL) == (rows[i].version == 403));
        assert_true((strstr(text, "\nlogdir") != NULL) == (rows[i].version < 407));
        assert_null(strstr(text, "$ecret"));
    }
}

/* Each of these once let Pgpool move, or keep, what the agents say otherwise; docs/gateway.md. */
static void
pgpool_decides_nothing_by_itself(void **state)
{
    static const char *const settings[] = {"health_check_period = 0",
                                           "failover_on_backend_error = off",
                                           "failover_on_backend_shutdown = off",
                                           "failover_command = ''",
                                           "follow_primary_command = ''",
                                           "auto_failback = off",
                                           "detach_false_primary = off",
                                           "search_primary_node_timeout = 1",
                                           "sr_check_period = 0",
                                           "enable_shared_relcache = off",
                                           "use_watchdog = off",
                                           "backend_flag0 = 'ALLOW_TO_FAILOVER'",
                                           "enable_pool_hba = on"};
    struct err err = {0};

    (void)state;
    begin();
    assert_int_equal(hapool_render(&config, NULL, &err), HA_OK);
    for (size_t i = 0; i < HA_COUNT_OF(settings); i++) {
        char line[128];

        (void)snprintf(line, sizeof line, "\n%s\n", settings[i]);
        if (strstr(slurp("pgpool.conf"), line) == NULL) {
            fail_msg("pgpool.conf has no line \"%s\"", settings[i]);
        }
    }
}

static void
a_secret_that_is_given_twice_is_refused(void **state)
{
    struct err err = {0};

    (void)state;
    begin();
    (void)setenv("POSTGRES_PASSWORD", "one", 1);
    (void)setenv("POSTGRES_PASSWORD_FILE", "/dev/null", 1);
    assert_int_equal(hapool_config_read(&config, &err), HA_EINVAL);
    assert_non_null(strstr(err.text, "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE"));
    assert_null(strstr(err.text, "one;"));
    (void)unsetenv("POSTGRES_PASSWORD_FILE");
}

static const char PICTURE[] =
    "{\"reign\": {\"reign\": %d}, \"holder\": \"10.0.0.1\", \"declaration\": {\"max_lag\": 100},"
    " \"members\": ["
    "{\"address\": \"10.0.0.1\", \"kind\": \"database\", \"is_fresh\": true, \"state\": "
    "\"running\","
    " \"lease_left_ms\": %d, \"is_in_recovery\": false, \"timeline\": 3,"
    " \"lineage\": \"00a1\", \"is_closed\": %s},"
    "{\"address\": \"10.0.0.2\", \"kind\": \"database\", \"is_fresh\": true, \"state\": "
    "\"streaming\","
    " \"is_streaming\": true, \"is_in_recovery\": true, \"upstream\": \"10.0.0.1\","
    " \"timeline\": %d, \"lineage\": \"%s\", \"replay_lag\": %d, \"health\": \"%s\"},"
    "{\"address\": \"10.0.0.3\", \"kind\": \"database\", \"is_fresh\": true, \"state\": "
    "\"running\","
    " \"is_in_recovery\": false, \"timeline\": 2},"
    "{\"address\": \"10.0.0.4\", \"kind\": \"database\", \"is_fresh\": true, \"state\": "
    "\"creating replica\"},"
    "{\"address\": \"' OR 1\", \"kind\": \"database\"},"
    "{\"address\": \"10.0.0.9\", \"kind\": \"witness\"}]}";

/* What an agent says; of the standby 10.0.0.2 from `timeline` on. */
struct said {
    int reign;
    int lease;
    bool is_closed;
    int timeline;
    const char *lineage;
    int lag;
    const char *health;
};

static const struct said SAID_WELL = {7, 900, false, 3, "00a1", 50, "well"};

static void
put_picture(const struct said *s, char *text, size_t size)
{
    (void)snprintf(text,
                   size,
                   PICTURE,
                   s->reign,
                   s->lease,
                   s->is_closed ? "true" : "false",
                   s->timeline,
                   s->lineage,
                   s->lag,
                   s->health);
}

static bool
parse_said(struct said said, struct hapool_fact *fact)
{
    char text[2048];

    put_picture(&said, text, sizeof text);
    return hapool_fact_parse(&config, text, fact);
}

static bool
parse(int lease, int timeline, struct hapool_fact *fact)
{
    struct said said = SAID_WELL;

    said.lease = lease;
    said.timeline = timeline;
    return parse_said(said, fact);
}

static void
only_what_the_agents_prove_is_believed(void **state)
{
    struct said said = SAID_WELL;
    struct hapool_fact fact;

    (void)state;
    begin();
    assert_true(parse(900, 3, &fact));
    assert_string_equal(fact.primary, "10.0.0.1");
    assert_true(fact.is_standby[1]);
    assert_true(fact.is_harmful[2]); /* out of recovery, and not the holder */
    assert_false(fact.is_standby[2]);
    assert_int_equal(fact.n_new, 1);
    assert_string_equal(fact.added[0], "10.0.0.4");
    assert_true(parse(900, 2, &fact)); /* another timeline is no standby of it */
    assert_false(fact.is_standby[1]);
    said.lineage = "00a2";
    assert_true(parse_said(said, &fact)); /* nor is another fork of that number */
    assert_false(fact.is_standby[1]);
    said = SAID_WELL;
    said.is_closed = true;
    assert_true(parse_said(said, &fact)); /* no clients before it may serve them */
    assert_string_equal(fact.primary, "");
    said = SAID_WELL;
    said.lag = 101;
    assert_true(parse_said(said, &fact)); /* too far behind to be read from */
    assert_false(fact.is_standby[1]);
    said = SAID_WELL;
    said.health = "hung";
    assert_true(parse_said(said, &fact)); /* a session there would wait for ever */
    assert_false(fact.is_standby[1]);
    assert_true(fact.is_harmful[1]);
    said.health = "disk low";
    assert_true(parse_said(said, &fact));
    assert_true(fact.is_standby[1]);
    assert_false(fact.is_harmful[1]);
    assert_true(parse(0, 3, &fact)); /* no lease, no primary, no standbys of it */
    assert_string_equal(fact.primary, "");
    assert_false(fact.is_standby[1]);
    assert_false(hapool_fact_parse(&config, "{\"reign\": ", &fact));
    assert_false(hapool_fact_parse(&config, "[1, {}]", &fact));
    assert_false(hapool_fact_parse(&config, "{\"reign\": 7, \"members\": 3}", &fact));
}

/* An agent on `address` that gives each caller that answer; "" = it accepts and says nothing. */
static pid_t
agent(const char *address, uint16_t *port, const char *answer)
{
    const int one = 1;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t len = sizeof at;
    pid_t pid;

    assert_int_equal(inet_pton(AF_INET, address, &at.sin_addr), 1);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *port = ntohs(at.sin_port);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when a test ends before it is done with */
    }
    while (pid == 0) {
        char request[512];
        const int c = accept(fd, NULL, NULL);

        if (c < 0) {
            _exit(1);
        }
        if (answer[0] != 0 && recv(c, request, sizeof request, 0) > 0) {
            (void)send(c, answer, strlen(answer), MSG_NOSIGNAL);
            (void)close(c);
        }
    }
    (void)close(fd);
    return pid;
}

/* Of three agents: who is cut off with a former holder, who knows the next one, who is silent. */
static void
the_highest_reign_counts_and_a_silent_agent_hides_none(void **state)
{
    static const char *const addresses[] = {"127.0.0.1", "127.0.0.2", "127.0.0.3"};
    static char answers[3][4096];
    struct said said = SAID_WELL;
    struct hapool_fact fact;

    (void)state;
    for (unsigned newest = 0; newest < 3; newest++) {
        pid_t pids[3];

        begin();
        config.port_http = 0;
        for (unsigned i = 0; i < 3; i++) {
            char text[2048];

            said.reign = i == newest ? 8 : 7;
            said.lease = i == newest ? 0 : 900; /* the old ones have a primary still */
            put_picture(&said, text, sizeof text);
            (void)snprintf(
                answers[i], sizeof answers[i], "HTTP/1.1 200 OK\r\nA: b\r\n\r\n%s", text);
            answers[i][i == (newest + 1) % 3 ? 0 : sizeof answers[i] - 1] = 0;
            (void)snprintf(config.nodes[i], HAPOOL_ADDRESS_MAX, "%s", addresses[i]);
            pids[i] = agent(addresses[i], &config.port_http, answers[i]);
        }
        hapool_ask(&config, &fact);
        for (unsigned i = 0; i < 3; i++) {
            (void)kill(pids[i], SIGKILL);
            (void)waitpid(pids[i], NULL, 0);
        }
        assert_int_equal(fact.reign, 8);
        assert_string_equal(fact.primary, "");
    }
}

/* Of two that know the same reign, the one that hears the primary knows more. */
static void
who_hears_the_primary_is_believed_beside_one_that_does_not(void **state)
{
    static char deaf[4096];
    static char hears[4096];
    struct said said = SAID_WELL;
    struct hapool_fact fact;
    char text[2048];

    (void)state;
    put_picture(&said, text, sizeof text);
    (void)snprintf(hears, sizeof hears, "HTTP/1.1 200 OK\r\n\r\n%s", text);
    said.lease = 0;
    put_picture(&said, text, sizeof text);
    (void)snprintf(deaf, sizeof deaf, "HTTP/1.1 200 OK\r\n\r\n%s", text);
    for (unsigned first = 0; first < 2; first++) {
        pid_t pids[2];

        begin();
        config.port_http = 0;
        config.n_nodes = 2;
        for (unsigned i = 0; i < 2; i++) {
            (void)snprintf(config.nodes[i], HAPOOL_ADDRESS_MAX, "127.0.0.%u", i + 1);
            pids[i] = agent(config.nodes[i], &config.port_http, i == first ? hears : deaf);
        }
        hapool_ask(&config, &fact);
        for (unsigned i = 0; i < 2; i++) {
            (void)kill(pids[i], SIGKILL);
            (void)waitpid(pids[i], NULL, 0);
        }
        assert_string_equal(fact.primary, "10.0.0.1");
    }
}

/* Nobody is the primary; who leads Raft alone knows whether the third is gone for good. */
static void
who_leads_raft_says_who_is_away(void **state)
{
    static const char picture[] =
        "HTTP/1.1 200 OK\r\n\r\n{\"reign\": {\"reign\": 7}, \"holder\": \"127.0.0.3\","
        " \"raft\": {\"is_ready\": %s, \"term\": %d}, \"members\": ["
        "{\"address\": \"127.0.0.2\", \"kind\": \"database\"%s},"
        "{\"address\": \"127.0.0.3\", \"kind\": \"database\"%s}]}";
    static const struct {
        int terms[2]; /* 0 = it does not lead */
        const char *wants[2];
        bool is_away;
        uint64_t led_term;
    } rows[] = {
        {{0, 4}, {"", ", \"gateway\": \"away\""}, true, 4},
        {{4, 0}, {", \"gateway\": \"away\"", ""}, true, 4},
        {{4, 0}, {", \"gateway\": \"as it is\"", ""}, false, 4},
        {{3, 4}, {", \"gateway\": \"away\"", ", \"gateway\": \"standby\""}, false, 4},
        {{4, 3}, {", \"gateway\": \"away\"", ", \"gateway\": \"standby\""}, true, 4},
        {{0, 0}, {"", ""}, false, 0},
    };

    (void)state;
    for (size_t r = 0; r < HA_COUNT_OF(rows); r++) {
        static char answers[2][1024];
        struct hapool_fact fact;
        pid_t pids[2];

        begin();
        config.port_http = 0;
        for (unsigned i = 0; i < 3; i++) {
            (void)snprintf(config.nodes[i], HAPOOL_ADDRESS_MAX, "127.0.0.%u", i + 1);
        }
        for (unsigned i = 0; i < 2; i++) {
            const int term = rows[r].terms[i];

            (void)snprintf(answers[i],
                           sizeof answers[i],
                           picture,
                           term > 0 ? "true" : "false",
                           term > 0 ? term : 9,
                           "",
                           rows[r].wants[i]);
            pids[i] = agent(config.nodes[i], &config.port_http, answers[i]);
        }
        hapool_ask(&config, &fact);
        for (unsigned i = 0; i < 2; i++) {
            (void)kill(pids[i], SIGKILL);
            (void)waitpid(pids[i], NULL, 0);
        }
        assert_string_equal(fact.primary, "");
        assert_int_equal(fact.led_term, rows[r].led_term);
        assert_int_equal(fact.is_away[2], rows[r].is_away);
        assert_false(fact.is_away[1]);
    }
}

/* The agents of the servers only know who leads: that one, a witness, is asked as well. */
static void
a_witness_that_leads_raft_is_asked_too(void **state)
{
    static const char of_a_server[] =
        "HTTP/1.1 200 OK\r\n\r\n{\"reign\": {\"reign\": 7}, \"holder\": \"127.0.0.1\","
        " \"raft\": {\"is_ready\": false, \"term\": 4, \"leader\": \"127.0.0.9\"},"
        " \"members\": []}";
    static const char of_the_witness[] =
        "HTTP/1.1 200 OK\r\n\r\n{\"reign\": {\"reign\": 7}, \"holder\": \"127.0.0.1\","
        " \"raft\": {\"is_ready\": true, \"term\": 4, \"leader\": \"127.0.0.9\"}, \"members\": ["
        "{\"address\": \"127.0.0.1\", \"kind\": \"database\", \"gateway\": \"away\"}]}";
    struct hapool_fact fact;
    pid_t pids[2];

    (void)state;
    begin();
    config.port_http = 0;
    config.n_nodes = 2;
    (void)snprintf(config.nodes[0], HAPOOL_ADDRESS_MAX, "127.0.0.1");
    (void)snprintf(config.nodes[1], HAPOOL_ADDRESS_MAX, "127.0.0.2");
    pids[0] = agent("127.0.0.2", &config.port_http, of_a_server);
    pids[1] = agent("127.0.0.9", &config.port_http, of_the_witness);
    hapool_ask(&config, &fact);
    for (unsigned i = 0; i < 2; i++) {
        (void)kill(pids[i], SIGKILL);
        (void)waitpid(pids[i], NULL, 0);
    }
    assert_int_equal(fact.led_term, 4);
    assert_true(fact.is_away[0]);
    assert_false(fact.is_away[1]);
}

static void
a_new_member_gets_the_next_number_and_no_other_changes(void **state)
{
    struct hapool_fact fact;
    struct err err = {0};

    (void)state;
    begin();
    assert_true(parse(900, 3, &fact));
    assert_int_equal(hapool_config_add(&config, &fact), 1);
    assert_int_equal(config.n_nodes, 4);
    assert_string_equal(config.nodes[0], "10.0.0.1");
    assert_string_equal(config.nodes[3], "10.0.0.4");
    assert_int_equal(hapool_render(&config, NULL, &err), HA_OK);
    assert_non_null(strstr(slurp("pgpool.conf"), "backend_hostname3 = '10.0.0.4'"));
    assert_true(parse(900, 3, &fact));
    assert_int_equal(fact.n_new, 0); /* it is known now */
    while (config.n_nodes < HAPOOL_NODES_MAX) {
        (void)snprintf(config.nodes[config.n_nodes++], HAPOOL_ADDRESS_MAX, "10.1.0.1");
    }
    memset(config.nodes[3], 0, HAPOOL_ADDRESS_MAX);
    assert_true(parse(900, 3, &fact));
    assert_int_equal(fact.n_new, 0); /* no room */
}

static void
the_start_state_has_verified_servers_alone(void **state)
{
    struct hapool_fact fact;
    struct err err = {0};

    (void)state;
    begin();
    assert_true(parse(900, 3, &fact));
    assert_int_equal(hapool_render(&config, &fact, &err), HA_OK);
    assert_string_equal(slurp("pgpool_status"), "up\nup\ndown\n");
}

static void
view(struct pcp_session *session, int primary, const int *is_up)
{
    memset(session, 0, sizeof *session);
    session->n_nodes = 3;
    for (int i = 0; i < 3; i++) {
        (void)snprintf(session->nodes[i].host, PCP_HOST_MAX, "10.0.0.%d", i + 1);
        session->nodes[i].status = is_up[i] ? PCP_STATUS_UP : PCP_STATUS_DOWN;
        session->nodes[i].role = i == primary ? PCP_ROLE_PRIMARY : PCP_ROLE_STANDBY;
    }
}

static void
assert_told(const struct hapool_fact *fact, const struct pcp_session *session, const char *wanted)
{
    static const char letters[PCP_VERB_COUNT] = {
        [PCP_DETACH] = 'D', [PCP_ATTACH] = 'A', [PCP_PROMOTE] = 'P'};
    struct pcp_op ops[PCP_OPS_MAX];
    const size_t n = hapool_difference(&config, fact, session, ops);
    char told[64] = "";

    for (size_t k = 0; k < n; k++) {
        (void)snprintf(told + strlen(told),
                       sizeof told - strlen(told),
                       "%c%d ",
                       letters[ops[k].verb],
                       ops[k].node);
    }
    assert_string_equal(told, wanted);
}

static void
differences_are_told_in_the_measured_order(void **state)
{
    static const struct {
        int primary;
        int is_up[3];
        const char *told;
    } rows[] = {
        {0, {1, 1, 0}, ""},        /* as it is */
        {0, {1, 0, 0}, "A1 "},     /* a verified standby */
        {0, {1, 1, 1}, "D2 "},     /* the stale one */
        {2, {1, 1, 1}, "D2 P0 "},  /* it was taken for the primary; the standby comes next */
        {-1, {0, 1, 0}, "A0 A1 "}, /* promote needs a node that is up */
    };
    static struct pcp_session session;
    struct hapool_fact fact;

    (void)state;
    begin();
    assert_true(parse(900, 3, &fact));
    for (size_t i = 0; i < HA_COUNT_OF(rows); i++) {
        view(&session, rows[i].primary, rows[i].is_up);
        assert_told(&fact, &session, rows[i].told);
    }
    memset(&fact, 0, sizeof fact); /* nothing is known: nothing is told */
    assert_told(&fact, &session, "");
}

/* Nobody is the primary, nor is one on its way: readers must not wait for a server that is gone. */
static void
who_is_away_is_detached_without_a_primary_but_not_the_last(void **state)
{
    static const struct {
        int primary;
        int is_up[3];
        bool is_away[3];
        const char *told;
    } rows[] = {
        {0, {1, 1, 1}, {false, false, false}, ""},
        {0, {1, 1, 1}, {true, false, false}, "D0 "},
        {0, {1, 1, 1}, {true, false, true}, "D2 D0 "}, /* a search must meet no black hole */
        {0, {1, 0, 1}, {true, false, true}, "D2 "},    /* the last stays */
        {0, {0, 1, 0}, {true, true, true}, ""},
        {-1, {0, 1, 1}, {true, false, false}, ""},
    };
    static struct pcp_session session;
    struct hapool_fact fact;

    (void)state;
    begin();
    for (size_t i = 0; i < HA_COUNT_OF(rows); i++) {
        memset(&fact, 0, sizeof fact);
        memcpy(fact.is_away, rows[i].is_away, sizeof rows[i].is_away);
        view(&session, rows[i].primary, rows[i].is_up);
        assert_told(&fact, &session, rows[i].told);
    }
    assert_true(parse(900, 3, &fact)); /* with a primary: what streams, and yet shall be away */
    fact.is_away[1] = true;
    view(&session, 0, (int[3]){1, 1, 0});
    assert_told(&fact, &session, "D1 ");
    view(&session, 0, (int[3]){1, 0, 0});
    assert_told(&fact, &session, "");
    fact.is_away[0] = true; /* the primary itself is never detached */
    assert_told(&fact, &session, "");
}

static void
only_an_address_tells_who_is_reached(void **state)
{
    static const struct {
        const char *gateways;
        enum hapool_reach reach;
    } rows[] = {
        {"[]", HAPOOL_REACH_NOT},
        {"{}", HAPOOL_REACH_NOT},
        {"[{\"address\": \"10.0.1.13\", \"is_reached\": true}]", HAPOOL_REACH_YES},
        {"[{\"address\": \"10.0.1.13\", \"is_reached\": false}]", HAPOOL_REACH_NOT},
        {"[{\"address\": \"10.0.1.13\"}]", HAPOOL_REACH_NOT},
        {"[{\"address\": \"10.0.1.14\", \"is_reached\": true}]", HAPOOL_REACH_NOT},
        {"[{\"address\": \"10.0.1.14\", \"is_reached\": false},"
         " {\"address\": \"10.0.1.13\", \"is_reached\": true}]",
         HAPOOL_REACH_YES},
        /* Published on the nodes: behind an address that the container does not have. */
        {"[{\"address\": \"192.168.7.1\", \"is_reached\": true}]", HAPOOL_REACH_UNKNOWN},
        {"[{\"address\": \"fd00::13\", \"is_reached\": true}]", HAPOOL_REACH_YES},
        {"[{\"address\": \"fd00::14\", \"is_reached\": true}]", HAPOOL_REACH_NOT},
        {"[{\"address\": \"fd01::13\", \"is_reached\": true}]", HAPOOL_REACH_UNKNOWN},
        {"[{\"address\": 7}, {\"address\": \"x\"}]", HAPOOL_REACH_UNKNOWN},
    };
    struct hapool_net nets[3] = {
        {.family = AF_INET}, {.family = AF_INET}, {.family = AF_INET6, .mask = {255, 255}}};

    (void)state;
    assert_int_equal(inet_pton(AF_INET, "172.18.0.3", nets[0].address), 1);
    assert_int_equal(inet_pton(AF_INET, "255.255.0.0", nets[0].mask), 1);
    assert_int_equal(inet_pton(AF_INET, "10.0.1.13", nets[1].address), 1);
    assert_int_equal(inet_pton(AF_INET, "255.255.255.0", nets[1].mask), 1);
    assert_int_equal(inet_pton(AF_INET6, "fd00::13", nets[2].address), 1);
    for (size_t i = 0; i < HA_COUNT_OF(rows); i++) {
        json_t *gateways = json_loads(rows[i].gateways, 0, NULL);

        assert_non_null(gateways);
        assert_int_equal(hapool_reach(gateways, nets, HA_COUNT_OF(nets)), rows[i].reach);
        json_decref(gateways);
    }
}

/* The ms from `at` on, in steps of 100, after which it is due. */
static int64_t
due_after(struct hapool_patience *p,
          enum hapool_reach reach,
          const struct pcp_session *session,
          const struct pcp_op *op,
          int64_t at)
{
    for (int64_t now = at; now < at + 20000; now += 100) {
        if (hapool_is_due(p, reach, session, op, 1, now)) {
            return now - at;
        }
    }
    return -1;
}

static void
an_agents_word_comes_first_and_what_was_in_vain_is_told_seldom(void **state)
{
    static const int64_t patience[] = {1500, 200, 5000};
    const struct pcp_op attach = {.verb = PCP_ATTACH, .node = 1};
    const struct pcp_op other = {.verb = PCP_ATTACH, .node = 2};
    static struct pcp_session session;

    (void)state;
    begin();
    for (unsigned reach = 0; reach < HA_COUNT_OF(patience); reach++) {
        struct hapool_patience p = {0};
        const enum hapool_reach r = (enum hapool_reach)reach;

        view(&session, 0, (int[3]){1, 0, 0});
        assert_int_equal(due_after(&p, r, &session, &attach, 1000), patience[reach]);
        assert_int_equal(due_after(&p, r, &session, &attach, p.told_at), 5000); /* in vain */
        assert_int_equal(due_after(&p, r, &session, &other, p.told_at), patience[reach]);
        view(&session, 0, (int[3]){1, 0, 1}); /* it moves: somebody is at work */
        assert_int_equal(due_after(&p, r, &session, &attach, p.told_at + 100100), patience[reach]);
        /* And a moment in which all was right begins it anew. */
        assert_false(hapool_is_due(&p, r, &session, NULL, 0, p.told_at + 300000));
        assert_int_equal(due_after(&p, r, &session, &attach, p.told_at + 300100), patience[reach]);
    }
}

static void
a_leader_that_has_just_begun_leaves_nobody_alone(void **state)
{
    const struct pcp_op attach = {.verb = PCP_ATTACH, .node = 1};
    static struct pcp_session session;
    struct hapool_patience p = {0};

    (void)state;
    begin();
    view(&session, 0, (int[3]){1, 0, 0});
    assert_false(hapool_is_due(&p, HAPOOL_REACH_YES, &session, &attach, 1, 1000));
    assert_false(hapool_is_due(&p, HAPOOL_REACH_NOT, &session, &attach, 1, 2000));
    assert_false(hapool_is_due(&p, HAPOOL_REACH_YES, &session, &attach, 1, 2300));
    assert_false(hapool_is_due(&p, HAPOOL_REACH_NOT, &session, &attach, 1, 2400));
    assert_true(hapool_is_due(&p, HAPOOL_REACH_NOT, &session, &attach, 1, 2600));
}

static int
make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int
remove_dir(void **state)
{
    static const char *const names[] = {"pgpool.conf",
                                        "pool_hba.conf",
                                        "pool_passwd",
                                        "pgpoolkey",
                                        "pcp.conf",
                                        "pgpass",
                                        "pcppass",
                                        "pgpool_status"};
    char path[128];

    (void)state;
    for (size_t i = 0; i < HA_COUNT_OF(names); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    return rmdir(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renamed_settings_go_by_version),
        cmocka_unit_test(pgpool_decides_nothing_by_itself),
        cmocka_unit_test(a_secret_that_is_given_twice_is_refused),
        cmocka_unit_test(only_what_the_agents_prove_is_believed),
        cmocka_unit_test(the_highest_reign_counts_and_a_silent_agent_hides_none),
        cmocka_unit_test(who_hears_the_primary_is_believed_beside_one_that_does_not),
        cmocka_unit_test(who_leads_raft_says_who_is_away),
        cmocka_unit_test(a_witness_that_leads_raft_is_asked_too),
        cmocka_unit_test(a_new_member_gets_the_next_number_and_no_other_changes),
        cmocka_unit_test(the_start_state_has_verified_servers_alone),
        cmocka_unit_test(differences_are_told_in_the_measured_order),
        cmocka_unit_test(who_is_away_is_detached_without_a_primary_but_not_the_last),
        cmocka_unit_test(only_an_address_tells_who_is_reached),
        cmocka_unit_test(an_agents_word_comes_first_and_what_was_in_vain_is_told_seldom),
        cmocka_unit_test(a_leader_that_has_just_begun_leaves_nobody_alone),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
