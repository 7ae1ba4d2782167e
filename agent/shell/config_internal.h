/*
 * config_internal.h - what the files of the configuration share. Nobody else includes it.
 */
#ifndef HA_SHELL_CONFIG_INTERNAL_H
#define HA_SHELL_CONFIG_INTERNAL_H

#include "agent/shell/config_env.h"
#include "agent/shell/config_value.h"

/* The value of a variable, or NULL when it is not set or empty. REQUIREs that the table has it. */
const char *config_env(const char *name);

/* The same for NAME_FILE of a secret. */
const char *config_env_file(const char *name);

/* Overwrites the value in the process's environment and takes the variable out. */
void config_env_forget(const char *name);

void config_warn(struct config *config, const char *fmt, ...) HA_PRINTF(2, 3);

/* Copies a text that must fit. `fallback` stands in when the variable is not set. */
int config_text(const char *name, const char *fallback, char *out, size_t size, struct err *err)
    HA_MUST_CHECK;

/* config_members.c: PRIMARY_IP, REPLICAS_IP, WITNESS_IPS, POSTGRES_PRIMARY_NODE, NODE_IP. */
int config_read_members(struct config *out, config_self_fn ask, struct err *err) HA_MUST_CHECK;

/* config_members.c: HA_LISTEN. */
int config_read_listen(struct config *out, struct err *err) HA_MUST_CHECK;

/* config_rebuild.c: how data that must be replaced are. */
int config_read_rebuild(struct config *out, struct err *err) HA_MUST_CHECK;

/* config_secret.c: all three secrets; needs the member's kind. */
int config_read_secrets(struct config *out, struct err *err) HA_MUST_CHECK;

/* config_find.c: programs, the fence, the user to run PostgreSQL as. */
int config_read_host(struct config *out, struct err *err) HA_MUST_CHECK;

#endif
