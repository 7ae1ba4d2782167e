/*
 * change.h - what the verbs that change something share.
 */
#ifndef HA_TOOLS_HACTL_CHANGE_H
#define HA_TOOLS_HACTL_CHANGE_H

#include "agent/net/http_auth.h"
#include "tools/hactl/picture.h"

struct change {
    struct context *context;
    struct http_auth auth;
    int64_t begun_ms;
    int64_t until_ms;
    char text[256]; /* what the last agent said */
};

/* EXIT_USAGE where there is no secret to sign with. */
enum exit_status change_init(struct change *ch, struct context *c);

/* Says it to one agent after the other until one took it, or refused it. */
enum exit_status change_post(struct change *ch, const char *path, const json_t *body);

/* The newest picture, or NULL; with it the answers, to be freed. */
const json_t *change_look(struct change *ch, struct answers *answers, bool is_patient);

/* Waits until `primary` holds a live lease and is open; with `or_any`, until anybody does. */
enum exit_status change_wait_open(struct change *ch, const char *primary, bool or_any);

/* Says what came of it, and ends the change. */
enum exit_status change_report(struct change *ch, enum exit_status status, const char *done);

/* The address of a member that is named by address or name; `who` itself when there is none. */
void change_resolve(const json_t *picture, const char *who, char out[64]);

/* From now on only the agent of that member is spoken to. */
bool change_speak_to(struct change *ch, const char *who, char address[64]);

#endif
