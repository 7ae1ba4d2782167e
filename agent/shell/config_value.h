/*
 * config_value.h - the words of a configuration: numbers, sizes, choices, addresses.
 *
 * Pure: the same text gives the same answer. HA_EINVAL and "NAME=value: what is wrong;
 * allowed: ..." on anything else.
 */
#ifndef HA_SHELL_CONFIG_VALUE_H
#define HA_SHELL_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/state.h"

/* A plain decimal number within bounds. */
int config_parse_number(const char *name,
                        const char *value,
                        uint64_t min,
                        uint64_t max,
                        uint64_t *out,
                        struct err *err) HA_MUST_CHECK;

/* Bytes: a number and, maybe, kB, MB or GB (powers of 1024, as PostgreSQL counts). */
int config_parse_bytes(const char *name, const char *value, uint64_t *out, struct err *err)
    HA_MUST_CHECK;

/* One of the words in `choices`, which ends with NULL; its index. */
int config_parse_choice(const char *name,
                        const char *value,
                        const char *const choices[],
                        uint8_t *out,
                        struct err *err) HA_MUST_CHECK;

/* An IPv4 or IPv6 literal of one host, in its one normal form. */
int config_parse_address(const char *name,
                         const char *value,
                         char out[HA_ADDRESS_MAX],
                         struct err *err) HA_MUST_CHECK;

/* Addresses with commas or blanks between; none at all is allowed. */
int config_parse_addresses(const char *name,
                           const char *value,
                           char out[HA_MEMBERS_MAX][HA_ADDRESS_MAX],
                           size_t *n,
                           struct err *err) HA_MUST_CHECK;

/* Networks ("10.0.0.0/8") with commas or blanks between, as one text with commas. */
int config_parse_networks(
    const char *name, const char *value, char *out, size_t size, struct err *err) HA_MUST_CHECK;

#endif
