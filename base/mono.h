/*
 * mono.h - a moment on this host's CLOCK_BOOTTIME, in milliseconds.
 *
 * BOOTTIME runs on through suspend and knows no steps. A one-field struct, so
 * that a moment, a length and a wall-clock time cannot be mixed up by accident.
 * Moments of two hosts are not comparable.
 *
 * Clock: none is read here; the shell reads it and hands moments on.
 */
#ifndef HA_BASE_MONO_H
#define HA_BASE_MONO_H

#include <stdbool.h>
#include <stdint.h>

struct mono {
    int64_t ms; /* since boot */
};

static inline struct mono
mono_ms(int64_t ms)
{
    return (struct mono){ms};
}

static inline struct mono
mono_add(struct mono at, int64_t ms)
{
    return (struct mono){at.ms + ms};
}

/* a - b in milliseconds. */
static inline int64_t
mono_sub(struct mono a, struct mono b)
{
    return a.ms - b.ms;
}

/* True when `at` has been reached at `now`. */
static inline bool
mono_reached(struct mono now, struct mono at)
{
    return now.ms >= at.ms;
}

static inline bool
mono_before(struct mono a, struct mono b)
{
    return a.ms < b.ms;
}

#endif
