/*
 * clock.h - the only place where the agent reads a clock.
 */
#ifndef HA_SHELL_CLOCK_H
#define HA_SHELL_CLOCK_H

#include <stdint.h>

#include "base/mono.h"

/* Now on CLOCK_BOOTTIME. */
struct mono clock_mono(void);

/* Unix time in milliseconds, for people only: nothing is decided by it. */
uint64_t clock_wall_ms(void);

#endif
