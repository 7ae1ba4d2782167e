/*
 * secret_text.h - a secret as an environment names it: NAME, or the file in NAME_FILE.
 *
 * A text about a secret names the variable and the file, never what is in it. Agents and
 * hactl share this file, so that they take the same bytes from the same words.
 *
 * Memory: plain data; the owner wipes it with key_wipe().
 */
#ifndef HA_NET_SECRET_TEXT_H
#define HA_NET_SECRET_TEXT_H

#include <stddef.h>

#include "base/err.h"

#define SECRET_TEXT_MAX 1024 /* bytes, with a NUL behind them */

/* One line of text, or the bytes of a derived key; NUL behind it. */
struct secret_text {
    size_t len;
    char bytes[SECRET_TEXT_MAX];
};

/*
 * `value` and `path` are what NAME and NAME_FILE say, NULL = not set; both is an error. Line ends
 * behind the text are left out. `out->len` is 0 when neither is set.
 */
int secret_text_read(const char *name,
                     const char *value,
                     const char *path,
                     struct secret_text *out,
                     struct err *err) HA_MUST_CHECK;

#endif
