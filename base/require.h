/*
 * require.h - assertions that stay in the shipped program.
 *
 * A broken contract means that the next thing this process does is unknown.
 * For an agent that decides who may write, stopping is the safe answer: the
 * database dies with it and another member takes over.
 *
 * Errors: a failed assertion prints file, line, expression and note to
 *         standard error and calls abort().
 */
#ifndef HA_BASE_REQUIRE_H
#define HA_BASE_REQUIRE_H

/* The caller broke the contract. `note` names the invariant or the reason. */
#define REQUIRE(cond, note)                                                                        \
    ((cond) ? (void)0 : require_failed("REQUIRE", #cond, (note), __FILE__, __LINE__))

/* We broke our own promise. */
#define ENSURE(cond, note)                                                                         \
    ((cond) ? (void)0 : require_failed("ENSURE", #cond, (note), __FILE__, __LINE__))

#define HA_MUST_CHECK __attribute__((warn_unused_result))
#define HA_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define HA_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Never returns. Used by the macros above only. */
_Noreturn void
require_failed(const char *kind, const char *cond, const char *note, const char *file, int line);

#endif
