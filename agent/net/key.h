/*
 * key.h - keys for one purpose each, out of the cluster secret.
 *
 * HKDF-SHA256 (RFC 5869). The label names the purpose, so that a key that
 * leaks or is misused in one place says nothing about any other.
 *
 * Memory: the caller's; it wipes `out` with key_wipe() when done.
 */
#ifndef HA_NET_KEY_H
#define HA_NET_KEY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define KEY_BYTES 32
#define KEY_LABEL_PEER "hawser peer v1"
#define KEY_LABEL_HTTP "hawser http v1"

/* From a secret of at least one byte. `context` (may be "") tells keys of one label apart. */
int key_derive(const uint8_t *secret,
               size_t secret_len,
               const char *label,
               const char *context,
               uint8_t out[KEY_BYTES]) HA_MUST_CHECK;

/* Overwrites in a way that the compiler may not leave out. */
void key_wipe(void *data, size_t len);

#endif
