/*
 * err.h - error codes and the text that goes with one.
 *
 * Functions that can fail return int: 0, or one of the negative HA_E* codes
 * below. Where a person will want to know more, they take a `struct err`: the
 * leaf writes the text, each caller may prefix it, the edge prints it once.
 *
 * Memory: a struct err is plain data; nothing is allocated.
 */
#ifndef HA_BASE_ERR_H
#define HA_BASE_ERR_H

#include "base/require.h"

/* code, text */
#define HA_ERR_LIST(X)                                                                             \
    X(HA_EINVAL, -1, "invalid argument or input")                                                  \
    X(HA_EIO, -2, "input/output error")                                                            \
    X(HA_ENOSPC, -3, "no space left on device")                                                    \
    X(HA_ECORRUPT, -4, "damaged data")                                                             \
    X(HA_ENOTFOUND, -5, "not found")                                                               \
    X(HA_EBUSY, -6, "busy")                                                                        \
    X(HA_ETIMEOUT, -7, "timed out")                                                                \
    X(HA_EREFUSED, -8, "refused")                                                                  \
    X(HA_ENOTLEADER, -9, "not the Raft leader")                                                    \
    X(HA_EUNKNOWN, -10, "outcome unknown")                                                         \
    X(HA_EUNREACHABLE, -11, "unreachable")                                                         \
    X(HA_EAUTH, -12, "authentication failed")                                                      \
    X(HA_ETOOBIG, -13, "too big")                                                                  \
    X(HA_EEXIST, -14, "exists already")                                                            \
    X(HA_ENOMEM, -15, "out of memory")                                                             \
    X(HA_EVERSION, -16, "unsupported version")                                                     \
    X(HA_ECANCELED, -17, "canceled")                                                               \
    X(HA_EFAILED, -18, "failed")

#define HA_ERR_ENUM(name, value, text) name = (value),
enum ha_error { HA_OK = 0, HA_ERR_LIST(HA_ERR_ENUM) };
#undef HA_ERR_ENUM

#define HA_ERR_TEXT_MAX 512

struct err {
    int code;                   /* HA_OK or an HA_E* */
    char text[HA_ERR_TEXT_MAX]; /* a sentence for a person, never a secret */
};

/* The constant text of a code; "unknown error" for one that is not in the list. */
const char *err_code_text(int code);

/* Sets code and text, returns `code`: `return err_set(...)` reads well. `err` may be NULL. */
int err_set(struct err *err, int code, const char *fmt, ...) HA_PRINTF(3, 4);

/* Puts "prefix: " before the text that is there; returns err->code. `err` may be NULL. */
int err_prefix(struct err *err, const char *fmt, ...) HA_PRINTF(2, 3);

#endif
