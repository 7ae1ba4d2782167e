/*
 * address.h - the one text form of an IP address.
 *
 * Addresses are compared as text everywhere: each is brought into this form where it
 * enters, from an environment or from a request.
 */
#ifndef HA_NET_ADDRESS_H
#define HA_NET_ADDRESS_H

#include <stdbool.h>

#include "store/state.h"

/* False when it is no literal. "::ffff:10.0.0.1" becomes "10.0.0.1". */
bool address_normalise(const char *text, char out[HA_ADDRESS_MAX]);

#endif
