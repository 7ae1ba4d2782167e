/*
 * health.h - is the local PostgreSQL sick? Judged from what was observed, and when.
 *
 * agent/postgres gathers (struct pg_probe): a canary commits once a second, new sessions
 * are tried, the file system and the server's processes are looked at. Here is decided what
 * that means. A judgement needs silence for a whole limit, from one that was heard before:
 * a server that is slow because the machine is busy answers late, but answers.
 *
 * Clock:  passed in.
 * Memory: plain data.
 * Errors: none; every input is a valid input.
 */
#ifndef HA_CORE_HEALTH_H
#define HA_CORE_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/pg_probe.h"
#include "base/mono.h"

enum health_verdict {
    HEALTH_UNKNOWN = 0, /* nothing was observed since the server came up */
    HEALTH_WELL,
    HEALTH_DATA_GONE,   /* the data directory is another one, or none */
    HEALTH_READ_ONLY,   /* its file system takes no writes */
    HEALTH_HUNG,        /* no commit, or no new session, or a stopped postmaster */
    HEALTH_DISK_LOW,    /* it would soon end by itself, and badly */
    HEALTH_DISK_SILENT, /* the file system does not answer */
    HEALTH_COUNT,
};

struct health {
    struct mono done_at;      /* {0} = never since the start; so all that follow */
    struct mono session_at;   /* a new session was answered */
    struct mono running_at;   /* the postmaster was not stopped */
    struct mono host_at;      /* the file system answered */
    struct mono tried_new_at; /* a new session was tried and not answered, first after session_at */
    unsigned n_gone;          /* looks in a row */
    unsigned n_read_only;
    bool is_low;
    uint64_t fill_per_s; /* bytes, between the last two looks */
    struct pg_probe server;
    struct pg_probe host;
};

/* The server came up, or is gone: forgets everything. */
void health_reset(struct health *h);

/* Takes an observation. `reserve` = bytes that should stay free, 0 = not watched. */
void health_note(struct health *h, const struct pg_probe *probe, uint64_t reserve, struct mono now);

/* This agent itself did not run for a while: it heard nothing because it did not listen. */
void health_excuse(struct health *h, struct mono now);

/* What holds now, by silences of `limit_ms` (0 = nothing is ever hung or silent). */
enum health_verdict health_judge(const struct health *h, int64_t limit_ms, struct mono now);

/* False where clients only wait, or find nothing: no gateway sends them there. */
bool health_serves(uint8_t verdict);

/* One word for status and API; and a sentence with figures for people. */
const char *health_text(uint8_t verdict);
void health_why(const struct health *h, uint8_t verdict, struct mono now, char *out, size_t size);

#endif
