/*
 * picture.h - the cluster as the agents' answers to /hawser/status tell it.
 *
 * Memory: borrowed from the answers.
 */
#ifndef HA_TOOLS_PICTURE_H
#define HA_TOOLS_PICTURE_H

#include "tools/hactl/client.h"

/*
 * The best of the pictures: that of the newest reign; of those, one that knows a live lease; of
 * those, that of the agent that leads Raft. NULL when nobody answered.
 */
const json_t *picture_best(const struct answers *answers);

/* Why writes wait, in the words of whoever knows best. */
void picture_reason(const struct answers *answers, const json_t *best, char *out, size_t size);

/* "" or 0 for what is not there; `path` is "reign" or "declaration.primary". */
const char *picture_text(const json_t *json, const char *path);
int64_t picture_int(const json_t *json, const char *path);
bool picture_bool(const json_t *json, const char *path);

/* The member with that name or address, or NULL. */
const json_t *picture_member(const json_t *picture, const char *who);

/* The standby to switch over to: it streams and has the most WAL; NULL when there is none. */
const json_t *picture_best_standby(const json_t *picture);

/* The byte position behind "0/3000060"; 0 for anything else. */
uint64_t picture_lsn_bytes(const char *text);

#endif
