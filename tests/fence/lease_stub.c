/*
 * lease_stub.c - an agent that does nothing but keep a lease page, for tests.
 *
 *   lease_stub PATH REIGN LEASE_MS MARGIN_MS [-- command args...]
 *
 * Renews every LEASE_MS / 4 as a holder would whose every question is answered at once, and,
 * as a holder must, never again once its deadline has passed. With a command, starts it as
 * its child. Orders come on standard input, one a line:
 *
 *   hold N     live for N ms from now, no renewals
 *   lease N    renew from now on with leases of N ms, even after an expiry (a fresh answer of the
 *              quorum)
 *   revoke     no lease
 *   quit       revoke and end; so does the end of the input
 *
 * Each order is answered with "ok DEADLINE_MS". Prints "child PID" and "exit STATUS".
 */
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fence/lease_page.h"

struct stub {
    struct lease_page page;
    int64_t lease_ms;
    int64_t margin_ms;
    struct mono deadline;
    bool renews;
    pid_t child;
};

static struct mono
now(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_BOOTTIME, &ts);
    return mono_ms((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

static void
renew(struct stub *stub, bool is_fresh)
{
    const struct mono sent_at = now();

    if (!is_fresh && mono_reached(sent_at, stub->deadline)) {
        stub->renews = false;
        return;
    }
    stub->deadline = mono_add(sent_at, stub->lease_ms - stub->margin_ms);
    lease_page_set(&stub->page, stub->deadline, sent_at);
}

static bool
obey(struct stub *stub, const char *order)
{
    if (strncmp(order, "hold ", 5) == 0) {
        stub->renews = false;
        stub->deadline = mono_add(now(), strtol(order + 5, NULL, 10));
        lease_page_set(&stub->page, stub->deadline, now());
    } else if (strncmp(order, "lease ", 6) == 0) {
        stub->lease_ms = strtol(order + 6, NULL, 10);
        stub->renews = true;
        renew(stub, true);
    } else if (strcmp(order, "revoke\n") == 0) {
        stub->renews = false;
        stub->deadline = mono_ms(0);
        lease_page_revoke(&stub->page);
    } else {
        return false;
    }
    printf("ok %lld\n", (long long)stub->deadline.ms);
    return true;
}

static void
reap(struct stub *stub)
{
    int status;

    if (stub->child > 0 && waitpid(stub->child, &status, WNOHANG) == stub->child) {
        printf("exit %d\n", status);
        stub->child = 0;
    }
}

static void
spawn(struct stub *stub, char *const *command)
{
    stub->child = fork();
    if (stub->child == 0) {
        (void)close(0);
        (void)dup2(2, 1);
        (void)execv(command[0], command);
        _exit(127);
    }
    printf("child %d\n", (int)stub->child);
}

int
main(int argc, char **argv)
{
    struct stub stub = {.renews = true};
    struct err err = {0};
    char order[128];

    if (argc < 5) {
        fprintf(stderr, "usage: lease_stub PATH REIGN LEASE_MS MARGIN_MS [-- command]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    stub.lease_ms = strtol(argv[3], NULL, 10);
    stub.margin_ms = strtol(argv[4], NULL, 10);
    if (lease_page_create(&stub.page, argv[1], strtoul(argv[2], NULL, 10), &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    renew(&stub, true);
    printf("ok %lld\n", (long long)stub.deadline.ms);
    if (argc > 6) {
        spawn(&stub, argv + 6);
    }
    for (;;) {
        struct pollfd in = {.fd = 0, .events = POLLIN};

        if (poll(&in, 1, (int)(stub.lease_ms / 4)) > 0 &&
            (fgets(order, sizeof order, stdin) == NULL || !obey(&stub, order))) {
            break;
        }
        if (stub.renews) {
            renew(&stub, false);
        }
        reap(&stub);
    }
    lease_page_close(&stub.page);
    return 0;
}
