/*
 * api_picture.h - the members as one agent sees them, in words; what all renderings share.
 *
 * Only the API's own files include it.
 */
#ifndef HA_NET_API_PICTURE_H
#define HA_NET_API_PICTURE_H

#include <jansson.h>

#include "agent/net/api.h"

#define PICTURE_LSN_MAX 24
#define PICTURE_TIME_MAX 40

struct picture_member {
    const char *address;
    const char *name; /* its address while its name is unknown */
    uint64_t id;      /* 0 before the cluster is founded */
    uint8_t kind;     /* enum member_kind */
    bool is_self;
    bool is_known; /* something was heard of it at some time: `status` holds */
    bool is_fresh;
    int64_t age_ms; /* since then */
    struct status status;
    bool is_leader; /* the lease is live and its PostgreSQL is a primary that is up */
    bool has_lag;   /* its lag behind the leader (or the last one) is known */
    uint64_t lag;   /* bytes, by what it received */
    uint64_t replay_lag;
    const char *role;  /* primary, holder, replica, witness */
    const char *state; /* see docs/http-api.md */
};

struct picture {
    const struct api_view *view;
    bool has_lease; /* this member, at view->now */
    bool is_leader; /* and its PostgreSQL is a primary that is up */
    size_t n;
    struct picture_member members[HA_MEMBER_SLOTS]; /* by name, then address */
    const struct picture_member *self;              /* NULL: not among the members */
    const struct picture_member *leader;            /* or NULL */
};

void picture_make(struct picture *picture, const struct api_view *view);

/* The address of a member id, or NULL. */
const char *picture_address(const struct picture *picture, uint64_t id);

/* Patroni's word for the state of a PostgreSQL. `op` is enum pg_op, 0 for another member's. */
const char *picture_pg_state(const struct pg_facts *pg, uint8_t op);

/* "0/3000060". */
void picture_lsn(uint64_t lsn, char out[PICTURE_LSN_MAX]);

/* "2026-11-22T21:00:00.123+00:00" from Unix time in ms. */
void picture_time(uint64_t wall_ms, char out[PICTURE_TIME_MAX]);

/* "as it is", "away", "standby" or "primary": enum gateway_want. */
const char *picture_want_text(uint8_t want);

/* ---- JSON; a text that is not UTF-8 becomes "?" ---- */

void put_text(json_t *object, const char *key, const char *text);
void put_text_or_null(json_t *object, const char *key, const char *text);
void put_int(json_t *object, const char *key, int64_t value);
void put_u64(json_t *object, const char *key, uint64_t value);
void put_bool(json_t *object, const char *key, bool value);
void put_lsn(json_t *object, const char *key, uint64_t lsn);
void put_id(json_t *object, const char *key, uint64_t id); /* 16 hex digits, or null for 0 */

/* ---- renderings, each a new reference ---- */

json_t *api_patroni_json(const struct picture *picture);
json_t *api_cluster_json(const struct picture *picture);
json_t *api_history_json(const struct picture *picture); /* Patroni's shape */
json_t *api_config_json(const struct picture *picture);
json_t *api_status_json(const struct picture *picture);
json_t *api_gateways_json(const struct picture *picture); /* an array */
json_t *api_reigns_json(const struct picture *picture);   /* ours */
json_t *api_sync_json(const struct picture *picture);     /* api_sync.c */
json_t *api_explain_json(const struct picture *picture);

/* malloc()ed text, NULL without memory. */
char *api_metrics_text(const struct picture *picture);

/* The health rules: 200 or 503; 503 for a word that is none of them, as Patroni has it. */
int api_health_status(const struct picture *picture, const char *word, const char *query);

/* ---- answers ---- */

/* Takes the reference. */
void api_answer_json(struct api_answer *out, int status, json_t *take_json);
void api_answer_empty(struct api_answer *out, int status);

/* {"code":..., "text":...} */
void api_answer_error(struct api_answer *out, int status, const char *fmt, ...) HA_PRINTF(3, 4);

#endif
