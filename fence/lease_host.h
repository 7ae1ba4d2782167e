/*
 * lease_host.h - what ties a deadline to this boot and this time namespace.
 *
 * Errors: 0 on success, -1 when /proc does not tell; then no lease can be used.
 */
#ifndef HA_FENCE_LEASE_HOST_H
#define HA_FENCE_LEASE_HOST_H

#include <stdint.h>

#include "fence/lease_layout.h"

/* Fills `boot_id` (zero padded) and `time_ns` (0 on a kernel without time namespaces). */
int lease_host_read(char boot_id[LEASE_BOOT_ID_MAX], uint64_t *time_ns);

#endif
