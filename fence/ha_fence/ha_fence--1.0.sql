-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION ha_fence" to load this file. \quit

CREATE FUNCTION ha_fence_status(
    OUT active boolean,     -- is a lease asked for here? false on a standby
    OUT lease text,         -- "the lease is live", or what is wrong
    OUT reign bigint,
    OUT rest_ms bigint,     -- until the deadline
    OUT renewals bigint,
    OUT refused bigint,     -- commands that got SQLSTATE 25006
    OUT cut bigint,         -- connections that were cut without an acknowledgement
    OUT lease_file text)
RETURNS record
AS 'MODULE_PATHNAME', 'ha_fence_status'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
