/*
 * secret_derive.h - the secrets that follow from another one when nobody sets them.
 *
 * Agents and hactl share this file: who has the superuser's password, or the cluster
 * secret, comes to the same keys everywhere.
 *
 * Memory: the caller's; it wipes what it no longer needs with key_wipe().
 */
#ifndef HA_NET_SECRET_DERIVE_H
#define HA_NET_SECRET_DERIVE_H

#include <stddef.h>
#include <stdint.h>

#include "agent/net/key.h"

#define SECRET_TEXT_BYTES (2 * KEY_BYTES + 1)

/* HA_CLUSTER_SECRET, out of the superuser's password. */
int secret_derive_cluster(const char *password,
                          size_t password_len,
                          uint8_t out[KEY_BYTES]) HA_MUST_CHECK;

/* REPLICATION_PASSWORD, out of the cluster secret: hexadecimal digits and a NUL. */
int secret_derive_replication(const uint8_t *cluster,
                              size_t cluster_len,
                              char out[SECRET_TEXT_BYTES]) HA_MUST_CHECK;

#endif
