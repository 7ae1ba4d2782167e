/*
 * listen.h - listening sockets and socket options, before libuv gets to see them.
 *
 * Made by hand, so that a port that is in use is a plain error return: a libuv
 * handle that failed half-way could be freed only by running the loop.
 */
#ifndef HA_NET_LISTEN_H
#define HA_NET_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/err.h"

/*
 * A non-blocking, close-on-exec socket that is bound and listens. `host` is an IPv4 or IPv6
 * literal ("::" takes IPv4 as well). HA_EBUSY: the port is in use; HA_EINVAL: not a literal.
 */
int listen_tcp(const char *host, uint16_t port, int *fd, struct err *err) HA_MUST_CHECK;

/* An address from its literal. False when it is none. */
bool listen_parse(const char *host, uint16_t port, struct sockaddr_storage *out);

/* The remote address of a connected handle as a literal, IPv4 in IPv6 as IPv4; "?" if unknown. */
void listen_remote(const uv_tcp_t *tcp, char *out, size_t size);

#endif
