/*
 * hapool: environment -> files -> Pgpool, and beside it for as long as it runs.
 */
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/hapool/hapool.h"

#define FIRST_LOOK_MS 1000
#define WAIT_SAID_MS 15000 /* "still waiting" is said so often */

struct hapool {
    struct hapool_config config;
    int signals;
    pid_t child;
    bool is_stopping;
    bool is_root; /* it may be again, to read secrets that are root's alone */
    struct hapool_patience patience;
    int64_t secrets_seen;
};

static void HA_PRINTF(2, 3) say(const char *event, const char *fmt, ...)
{
    va_list args;

    (void)printf("hapool: %s: ", event);
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)printf("\n");
    (void)fflush(stdout);
}

static int
read_version(struct hapool_config *config, struct err *err)
{
    const char *const argv[] = {config->pgpool, "--version", NULL};
    char text[256];
    const char *at;
    unsigned major;
    unsigned minor;

    if (hapool_capture(argv, NULL, text, sizeof text) != HA_OK ||
        (at = strstr(text, "version ")) == NULL ||
        sscanf(at, "version %u.%u", &major, &minor) != 2) {
        return err_set(err, HA_EFAILED, "HAPOOL_PGPOOL=%s does not run", config->pgpool);
    }
    config->version = major * 100 + minor;
    if (config->version < 403) {
        return err_set(
            err, HA_EVERSION, "Pgpool-II %u.%u; 4.3 is the oldest that will do", major, minor);
    }
    return HA_OK;
}

/* pcp_node_info -w reads ~/.pcppass of whoever runs it in the container. */
static void
link_passfile(const struct hapool_config *config)
{
    const char *home = getenv("HOME");
    char path[HAPOOL_PATH_MAX + 16];
    char to[HAPOOL_PATH_MAX + 16];

    if (home == NULL || home[0] != '/' || strlen(home) >= HAPOOL_PATH_MAX) {
        return;
    }
    (void)snprintf(path, sizeof path, "%s/.pcppass", home);
    (void)snprintf(to, sizeof to, "%s/pcppass", config->run_dir);
    if (symlink(to, path) != 0 && errno != EEXIST) {
        say("pcppass", "%s: %s; the pcp_* tools need PCPPASSFILE=%s", path, strerror(errno), to);
    }
}

/* As root: the directory is made, the tools' password file is left for `docker exec`, and the
 * rights are laid down. What is run has lost them for good: a program that is executed cannot
 * take up what its parent laid down. hapool itself takes them up to read the secrets again. */
static int
drop_rights(struct hapool *h, struct err *err)
{
    const struct hapool_config *config = &h->config;
    const struct passwd *pw = getpwnam("postgres");

    if (mkdir(config->run_dir, 0700) != 0 && errno != EEXIST) {
        return err_set(err, HA_EIO, "HAPOOL_RUN_DIR=%s: %s", config->run_dir, strerror(errno));
    }
    link_passfile(config);
    if (geteuid() != 0) {
        return HA_OK;
    }
    if (pw == NULL) {
        return err_set(err, HA_ENOTFOUND, "there is no user postgres to run Pgpool as");
    }
    if (chown(config->run_dir, pw->pw_uid, pw->pw_gid) != 0 || setgroups(0, NULL) != 0 ||
        setgid(pw->pw_gid) != 0 || setresuid(pw->pw_uid, pw->pw_uid, 0) != 0) {
        return err_set(err, HA_EFAILED, "cannot become postgres: %s", strerror(errno));
    }
    h->is_root = true;
    return HA_OK;
}

/* A signal that came within `ms`, or 0. */
static int
wait_signal(const struct hapool *h, int ms)
{
    struct pollfd p = {.fd = h->signals, .events = POLLIN};
    struct signalfd_siginfo info;

    if (poll(&p, 1, ms) > 0 && read(h->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        return (int)info.ssi_signo;
    }
    return 0;
}

/* The time of the newest change among the secret files. */
static int64_t
secrets_changed_at(void)
{
    static const char *const names[] = {
        "POSTGRES_PASSWORD_FILE", "PCP_PASSWORD_FILE", "PGPOOL_USERS_FILE"};
    int64_t newest = 0;

    for (size_t i = 0; i < HA_COUNT_OF(names); i++) {
        const char *path = getenv(names[i]);
        struct stat st;

        if (path != NULL && path[0] != 0 && stat(path, &st) == 0) {
            const int64_t at = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;

            newest = at > newest ? at : newest;
        }
    }
    return newest;
}

/* The first Pgpool starts when somebody may write; false when it is told to end before. */
static bool
wait_primary(struct hapool *h, struct hapool_fact *fact)
{
    int64_t said = 0;

    for (;;) {
        hapool_ask(&h->config, fact);
        if (fact->primary[0] != 0) {
            say("start",
                "%s is the primary of reign %llu",
                fact->primary,
                (unsigned long long)fact->reign);
            return true;
        }
        if (said == 0 || hapool_now_ms() - said > WAIT_SAID_MS) {
            said = hapool_now_ms();
            say("wait",
                fact->reign == 0 ? "no agent answers yet on port %u"
                                 : "the agents know no primary yet (port %u)",
                h->config.port_http);
        }
        switch (wait_signal(h, 300)) {
        case SIGTERM:
        case SIGINT:
        case SIGQUIT:
            return false;
        default:
            break;
        }
    }
}

/* Pgpool is made to read its files again. */
static void
render_again(struct hapool *h, const char *what)
{
    struct err err = {0};

    if (hapool_render(&h->config, NULL, &err) != HA_OK) {
        say("reload", "%s", err.text);
        return;
    }
    (void)kill(h->child, SIGHUP);
    say("reload", "%s", what);
}

/* What Pgpool cannot take while it runs. */
static bool
needs_restart(const struct hapool_config *a, const struct hapool_config *b)
{
    return a->port != b->port || a->port_pcp != b->port_pcp || a->n_children != b->n_children ||
           a->max_pool != b->max_pool;
}

static int
read_as_root(const struct hapool *h, struct hapool_config *out, struct err *err)
{
    const uid_t uid = geteuid();
    int rc;

    if (!h->is_root) {
        return hapool_config_read(out, err);
    }
    if (seteuid(0) != 0) {
        return err_set(err, HA_EFAILED, "cannot read the secrets as root: %s", strerror(errno));
    }
    rc = hapool_config_read(out, err);
    REQUIRE(seteuid(uid) == 0, "rights can always be laid down");
    return rc;
}

static void
reload(struct hapool *h)
{
    static struct hapool_config next;
    struct err err = {0};
    bool is_stuck;

    if (read_as_root(h, &next, &err) != HA_OK) {
        say("reload", "%s; the old files stay", err.text);
        return;
    }
    is_stuck = needs_restart(&h->config, &next);
    /* The servers stay as Pgpool has numbered them: a slot is never taken out or moved. */
    memcpy(next.nodes, h->config.nodes, sizeof next.nodes);
    next.n_nodes = h->config.n_nodes;
    next.version = h->config.version;
    memcpy(&h->config, &next, sizeof next);
    hapool_config_wipe(&next);
    render_again(h,
                 is_stuck ? "Pgpool reads its files again; ports and the number of children need "
                            "a new container"
                          : "Pgpool reads its files again");
}

/* Members that the environment of this container does not name. */
static void
add_members(struct hapool *h, const struct hapool_fact *fact)
{
    char text[HAPOOL_ADDRESS_MAX + 64];

    for (unsigned i = 0; i < fact->n_new; i++) {
        say("member", "%s is new: node %u", fact->added[i], h->config.n_nodes + i);
    }
    if (hapool_config_add(&h->config, fact) > 0 && h->child > 0) {
        (void)snprintf(text, sizeof text, "Pgpool gets %u servers in all", h->config.n_nodes);
        render_again(h, text);
    }
}

static int64_t
follow(struct hapool *h)
{
    struct hapool_fact fact;
    char text[256];
    const int64_t ms = hapool_follow(&h->config, &h->patience, &fact, text, sizeof text);

    if (text[0] != 0) {
        say("repair", "%s", text);
    }
    add_members(h, &fact);
    return ms;
}

/* What the child's end means for the container. */
static int
reap(struct hapool *h)
{
    int status = 0;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == h->child) {
            h->child = 0;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
    }
    return -1;
}

static int
stay(struct hapool *h)
{
    int64_t look_at = hapool_now_ms() + FIRST_LOOK_MS;

    for (;;) {
        const int64_t left = look_at - hapool_now_ms();
        const int number = wait_signal(h, left > 0 ? (int)left : 0);
        const int status = reap(h);

        if (h->child == 0) {
            say("end", "Pgpool ended with %d", status);
            return h->is_stopping ? 0 : status == 0 ? 1 : status;
        }
        if (number == SIGHUP) {
            reload(h);
        } else if (number == SIGTERM || number == SIGINT || number == SIGQUIT) {
            h->is_stopping = true;
            (void)kill(h->child, SIGINT); /* fast: clients would not leave by themselves */
        }
        if (hapool_now_ms() >= look_at) {
            if (secrets_changed_at() != h->secrets_seen) {
                h->secrets_seen = secrets_changed_at();
                reload(h);
            }
            look_at = follow(h) + hapool_now_ms();
        }
    }
}

static int
run(struct hapool *h)
{
    struct hapool_fact fact;
    struct err err = {0};
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGQUIT);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    h->signals = signalfd(-1, &set, SFD_CLOEXEC);
    h->secrets_seen = secrets_changed_at();
    do { /* until all members are among the nodes, so that the start state has them */
        if (!wait_primary(h, &fact)) {
            return 0;
        }
        add_members(h, &fact);
    } while (fact.n_new > 0);
    if (hapool_render(&h->config, &fact, &err) != HA_OK ||
        (h->child = hapool_start(&h->config, &err)) < 0) {
        say("start", "%s", err.text);
        return 1;
    }
    return stay(h);
}

/* A query through Pgpool, and the role that Pgpool has for the primary that the agents name. Who
 * waits for a primary is well: a restart would not bring one. */
static int
health(const struct hapool_config *config)
{
    char passfile[HAPOOL_PATH_MAX + 16];
    char port[8];
    char socket[HAPOOL_PATH_MAX + 32];
    char text[256];
    const char *const argv[] = {"psql",
                                "-X",
                                "-A",
                                "-t",
                                "-h",
                                config->run_dir,
                                "-p",
                                port,
                                "-U",
                                config->users[0].name,
                                "-d",
                                config->database,
                                "-c",
                                "SELECT 'alive'",
                                NULL};
    const struct pcp_op look = {.verb = PCP_NODE_INFO};
    struct pcp_session session;
    struct hapool_fact fact;

    (void)snprintf(passfile, sizeof passfile, "%s/pgpass", config->run_dir);
    (void)snprintf(port, sizeof port, "%u", config->port);
    (void)snprintf(socket, sizeof socket, "%s/.s.PGSQL.%s", config->run_dir, port);
    if (access(socket, F_OK) != 0) { /* Pgpool is not started yet; when it ends, so does hapool */
        (void)printf("waits for a primary\n");
        return 0;
    }
    if (hapool_capture(argv, passfile, text, sizeof text) != HA_OK || strcmp(text, "alive") != 0) {
        (void)printf("a query through Pgpool fails: %s\n", text);
        return 1;
    }
    if (hapool_pcp(config, &look, 1, &session) != HA_OK) {
        (void)printf("%s\n", session.err.text);
        return 1;
    }
    hapool_ask(config, &fact);
    for (uint32_t i = 0; i < session.n_nodes; i++) {
        if (session.nodes[i].role == PCP_ROLE_PRIMARY && fact.primary[0] != 0 &&
            strcmp(session.nodes[i].host, fact.primary) != 0 &&
            session.nodes[i].status != PCP_STATUS_DOWN) {
            (void)printf(
                "Pgpool takes %s as the primary, it is %s\n", session.nodes[i].host, fact.primary);
            return 1;
        }
    }
    (void)printf("alive; the primary is %s\n", fact.primary[0] == 0 ? "unknown" : fact.primary);
    return 0;
}

int
main(int argc, char **argv)
{
    static struct hapool h;
    struct err err = {0};
    const char *mode = argc > 1 ? argv[1] : "";

    if (argc > 2 || (argc == 2 && strcmp(mode, "--health") != 0 && strcmp(mode, "--check") != 0)) {
        (void)fprintf(stderr, "usage: hapool [--check | --health]\n");
        return 2;
    }
    if (hapool_config_read(&h.config, &err) != HA_OK) {
        (void)fprintf(stderr, "hapool: %s\n", err.text);
        return 1;
    }
    if (strcmp(mode, "--health") == 0) {
        return health(&h.config);
    }
    if (read_version(&h.config, &err) != HA_OK ||
        (mode[0] == 0 && drop_rights(&h, &err) != HA_OK)) {
        (void)fprintf(stderr, "hapool: %s\n", err.text);
        return 1;
    }
    if (strcmp(mode, "--check") == 0) {
        (void)printf("the environment is right: %u servers, Pgpool-II %u.%u\n",
                     h.config.n_nodes,
                     h.config.version / 100,
                     h.config.version % 100);
        return 0;
    }
    return run(&h);
}
