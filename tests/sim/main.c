/*
 * sim - runs histories.
 *
 *   sim --seed N [--trace] [--without 3,5]    one history; --trace tells it
 *   sim --seed N --minimise                   leaves out every fault that it does not need
 *   sim --seeds A..B [--faults-ms MS]         many, each in a process of its own
 *   sim --soak SECONDS                        new ones until that much real time has passed
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/sim.h"

#define FAULTS_MS 30000
#define SETTLE_US (60000LL * SIM_MS)

struct options {
    uint64_t from;
    uint64_t to;
    int64_t soak_s;
    int64_t faults_ms;
    bool is_one;
    bool is_trace;
    bool is_minimising;
    bool is_quiet;
    unsigned stop_after;
    bool without[SIM_PLAN_MAX];
};

/* Of a run in a child, in memory that both see. */
struct result {
    bool is_done;
    bool is_broken;
    char broken[400];
    int64_t virtual_us;
    int64_t healed_us;
    uint64_t n_acks;
    uint64_t n_steps;
    uint64_t n_reigns;
};

/* Calm for one second is what counts: a moment of health may be chance. */
static void
settle(struct sim *sim, struct result *r)
{
    const int64_t begin = sim->now;
    int64_t since = 0;
    char why[160] = "";

    faults_end(sim);
    while (sim->now < begin + SETTLE_US + 2000 * SIM_MS) {
        if (!sim_run(sim, sim->now + 100 * SIM_MS)) {
            return;
        }
        if ((sim->now - begin) / SIM_MS % 5000 < 100) {
            faults_operator(sim);
        }
        if (oracle_healthy(sim, why) < 0) {
            since = 0;
        } else if (since == 0) {
            since = sim->now;
        } else if (sim->now - since >= 1000 * SIM_MS) {
            r->healed_us = since - begin;
            return;
        }
    }
    sim_violation(sim, NULL, "60 s after the last fault the cluster is not whole: %s", why);
}

static void
run_one(const struct options *o, uint64_t seed, struct result *r)
{
    struct sim *sim = sim_new(seed, o->faults_ms);
    int64_t end = 0;

    sim->is_trace = o->is_trace;
    for (unsigned i = 0; i < sim->n_plan; i++) {
        sim->plan[i].is_left_out = o->without[i];
        if (!o->without[i] && sim->plan[i].at + sim->plan[i].length > end) {
            end = sim->plan[i].at + sim->plan[i].length;
        }
    }
    sim_trace(sim,
              NULL,
              "seed %" PRIu64 ": %u nodes, %u declared members, failover %s, lease %u ms, %s",
              seed,
              sim->n,
              sim->declaration.n_members,
              sim->declaration.failover == FAILOVER_AUTO ? "auto" : "declared",
              sim->declaration.lease_ms,
              sim->has_guardian ? "with guardian" : "without guardian");
    if (sim_run(sim, end > sim->faults_end ? end : sim->faults_end)) {
        settle(sim, r);
    }
    r->is_broken = sim->is_broken;
    memcpy(r->broken, sim->broken, sizeof r->broken);
    r->virtual_us = sim->now;
    r->n_acks = sim->n_acks;
    r->n_steps = sim->n_steps;
    for (uint64_t k = SIM_REIGNS_MAX; k > 0 && r->n_reigns == 0; k--) {
        r->n_reigns = sim->holder_of[k - 1] != 0 ? k - 1 : 0;
    }
    r->is_done = true;
}

/* In a child, so that a failed assertion ends one history only. */
static void
run_apart(const struct options *o, uint64_t seed, struct result *r)
{
    int status = 0;
    pid_t pid;

    memset(r, 0, sizeof *r);
    (void)fflush(NULL);
    pid = fork();
    REQUIRE(pid >= 0, "a process can be made");
    if (pid == 0) {
        if (o->is_quiet) {
            const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

            (void)dup2(null, STDERR_FILENO);
        }
        (void)alarm(120);
        run_one(o, seed, r);
        (void)fflush(NULL);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!r->is_done) {
        r->is_broken = true;
        (void)snprintf(r->broken,
                       sizeof r->broken,
                       "an assertion ended it (signal %d)",
                       WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
}

static double
seconds(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int
run_many(const struct options *o, struct result *r)
{
    const double begin = seconds();
    double virtual_s = 0;
    double healed_s = 0;
    double slowest_s = 0;
    uint64_t n_acks = 0;
    uint64_t n_reigns = 0;
    unsigned n_passed = 0;
    unsigned n_failed = 0;

    for (uint64_t seed = o->from;
         o->soak_s != 0 ? seconds() - begin < (double)o->soak_s : seed <= o->to;
         seed++) {
        run_apart(o, seed, r);
        virtual_s += (double)r->virtual_us / 1e6;
        healed_s += (double)r->healed_us / 1e6;
        slowest_s = (double)r->healed_us / 1e6 > slowest_s ? (double)r->healed_us / 1e6 : slowest_s;
        n_acks += r->n_acks;
        n_reigns += r->n_reigns;
        n_passed += !r->is_broken;
        n_failed += r->is_broken;
        if (r->is_broken) {
            printf("seed %" PRIu64 ": %s\n    sim --seed %" PRIu64 " --faults-ms %" PRId64
                   " --trace\n",
                   seed,
                   r->broken,
                   seed,
                   o->faults_ms);
            (void)fflush(stdout);
        }
        if (o->stop_after != 0 && n_failed >= o->stop_after) {
            break;
        }
    }
    printf("%.0f s of %u clusters in %.1f s: %.0f simulated seconds per second; %" PRIu64
           " writes acknowledged, %" PRIu64 " reigns; whole again after %.1f s on average, %.1f s "
           "at most\n",
           virtual_s,
           n_passed + n_failed,
           seconds() - begin,
           virtual_s / (seconds() - begin),
           n_acks,
           n_reigns,
           healed_s / (n_passed + n_failed),
           slowest_s);
    printf("%u passed, %u failed, 0 skipped\n", n_passed, n_failed);
    return n_failed == 0 ? 0 : 1;
}

/* Greedy: a fault goes when the history breaks without it as well. */
static int
minimise(struct options *o, struct result *r)
{
    o->is_quiet = true;
    run_apart(o, o->from, r);
    if (!r->is_broken) {
        puts("that seed breaks nothing");
        return 1;
    }
    for (unsigned i = 0; i < SIM_PLAN_MAX; i++) {
        o->without[i] = true;
        run_apart(o, o->from, r);
        o->without[i] = r->is_broken;
    }
    run_apart(o, o->from, r);
    printf("%s\n    sim --seed %" PRIu64 " --faults-ms %" PRId64 " --trace --without ",
           r->broken,
           o->from,
           o->faults_ms);
    for (unsigned i = 0; i < SIM_PLAN_MAX; i++) {
        if (o->without[i]) {
            printf("%u,", i);
        }
    }
    puts("");
    return 0;
}

static void
parse_without(struct options *o, char *list)
{
    char *end = list;

    while (*end != 0) {
        const unsigned long i = strtoul(list, &end, 10);

        if (i < SIM_PLAN_MAX && end != list) {
            o->without[i] = true;
        }
        list = *end == ',' ? end + 1 : end;
        if (*list == 0) {
            break;
        }
    }
}

static bool
parse(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const bool has_value = i + 1 < argc;
        char *end;

        if (strcmp(argv[i], "--trace") == 0) {
            o->is_trace = true;
        } else if (strcmp(argv[i], "--minimise") == 0) {
            o->is_minimising = true;
        } else if (strcmp(argv[i], "--quiet") == 0) {
            o->is_quiet = true;
        } else if (strcmp(argv[i], "--seed") == 0 && has_value) {
            o->from = strtoull(argv[++i], NULL, 10);
            o->is_one = true;
        } else if (strcmp(argv[i], "--seeds") == 0 && has_value) {
            o->from = strtoull(argv[++i], &end, 10);
            o->to = strncmp(end, "..", 2) == 0 ? strtoull(end + 2, NULL, 10) : o->from;
        } else if (strcmp(argv[i], "--soak") == 0 && has_value) {
            o->soak_s = (int64_t)strtoll(argv[++i], NULL, 10);
            o->from = (uint64_t)time(NULL) * 1000;
        } else if (strcmp(argv[i], "--faults-ms") == 0 && has_value) {
            o->faults_ms = (int64_t)strtoll(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--stop-after") == 0 && has_value) {
            o->stop_after = (unsigned)strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--without") == 0 && has_value) {
            parse_without(o, argv[++i]);
        } else {
            return false;
        }
    }
    return o->is_one || o->to >= o->from || o->soak_s != 0;
}

int
main(int argc, char **argv)
{
    struct options o = {.from = 1, .to = 100, .faults_ms = FAULTS_MS};
    struct result *r =
        mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    REQUIRE(r != MAP_FAILED, "there is memory for a test");
    if (!parse(&o, argc, argv)) {
        (void)fputs("usage: sim --seed N [--trace] [--minimise] [--without I,J]\n"
                    "       sim --seeds A..B | --soak SECONDS [--faults-ms MS] [--stop-after N]\n",
                    stderr);
        return 2;
    }
    if (o.is_minimising) {
        return minimise(&o, r);
    }
    if (!o.is_one) {
        return run_many(&o, r);
    }
    memset(r, 0, sizeof *r);
    run_one(&o, o.from, r);
    printf("seed %" PRIu64 ": %s%s; %.1f s, %" PRIu64 " writes acknowledged, %" PRIu64 " steps\n",
           o.from,
           r->is_broken ? "BROKEN " : "whole",
           r->broken,
           (double)r->virtual_us / 1e6,
           r->n_acks,
           r->n_steps);
    return r->is_broken ? 1 : 0;
}
