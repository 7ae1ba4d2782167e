#include "agent/postgres/pg_conf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const OWNED[] = {
    "archive_cleanup_command",
    "cluster_name",
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "hot_standby",
    "ident_file",
    "include",
    "include_dir",
    "include_if_exists",
    "listen_addresses",
    "password_encryption",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_end_command",
    "restart_after_crash",
    "synchronized_standby_slots",
    "synchronous_standby_names",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "wal_log_hints",
    "wal_receiver_status_interval",
    "wal_receiver_timeout",
    "wal_retrieve_retry_interval",
};

/* Lower bounds: a cluster needs that much to clone and to stream. */
static const struct {
    const char *name;
    unsigned long least;
} BOUNDS[] = {
    {"max_wal_senders", 10},
    {"max_replication_slots", 10},
};

bool
pg_conf_is_owned(const char *name)
{
    if (strcasecmp(name, "ha_fence.reads") == 0) {
        return false; /* stale reads may be opened on purpose, here alone */
    }
    if (strncasecmp(name, "ha_fence.", 9) == 0 ||
        strncasecmp(name, "recovery_target", strlen("recovery_target")) == 0) {
        return true;
    }
    for (size_t i = 0; i < HA_COUNT_OF(OWNED); i++) {
        if (strcasecmp(name, OWNED[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool
is_name(const char *name)
{
    const char *at = name;

    for (; *at != '\0'; at++) {
        const bool is_letter = (*at >= 'a' && *at <= 'z') || *at == '_';
        const bool is_digit = *at >= '0' && *at <= '9';

        if (!is_letter && (at == name || (!is_digit && *at != '.' && *at != '$'))) {
            return false;
        }
    }
    return at > name && at - name < PG_CONF_NAME_MAX && at[-1] != '.';
}

/* Cuts blanks at both ends, in place. */
static char *
trim(char *text)
{
    static const char BLANKS[] = " \t\r\n";
    size_t len;

    text += strspn(text, BLANKS);
    len = strlen(text);
    while (len > 0 && strchr(BLANKS, text[len - 1]) != NULL) {
        len--;
    }
    text[len] = '\0';
    return text;
}

/* 'it''s' becomes it's, in place. False when the quotes do not match. */
static bool
unquote(char *value)
{
    char *to = value;
    const char *from = value;

    if (*from != '\'') {
        return true;
    }
    for (from++; *from != '\0'; from++) {
        if (*from == '\'' && from[1] == '\'') {
            from++;
        } else if (*from == '\'') {
            *to = '\0';
            return from[1] == '\0';
        }
        *to++ = *from;
    }
    return false;
}

static bool
has_control_character(const char *value)
{
    for (; *value != '\0'; value++) {
        if ((unsigned char)*value < 0x20 || *value == 0x7f) {
            return true;
        }
    }
    return false;
}

/* Why this name and value cannot stand, or NULL. */
static const char *
setting_fault(const struct pg_conf *conf, const char *name, const char *value)
{
    if (!is_name(name)) {
        return "this is not the name of a setting";
    }
    if (pg_conf_is_owned(name)) {
        return "the agent owns this setting";
    }
    if (pg_conf_get(conf, name) != NULL) {
        return "the setting is named twice";
    }
    if (has_control_character(value)) {
        return "the value holds a control character";
    }
    if (strcmp(name, "wal_level") == 0 && strcasecmp(value, "replica") != 0 &&
        strcasecmp(value, "logical") != 0) {
        return "only replica and logical are allowed";
    }
    for (size_t i = 0; i < HA_COUNT_OF(BOUNDS); i++) {
        if (strcmp(name, BOUNDS[i].name) == 0 && strtoul(value, NULL, 10) < BOUNDS[i].least) {
            return "the value must be at least 10";
        }
    }
    return NULL;
}

/* One entry, cut to pieces in place. `number` counts from 1. */
static int
split_entry(struct pg_conf *out, char *entry, size_t number, struct err *err)
{
    char *value = strchr(entry, '=');
    const char *fault;
    char *name;

    if (value == NULL) {
        return err_set(err,
                       HA_EINVAL,
                       "POSTGRESQL_CONF: entry %zu, \"%.80s\": there is no '=' in it",
                       number,
                       trim(entry));
    }
    *value = '\0';
    value = trim(value + 1);
    name = trim(entry);
    for (char *at = name; *at != '\0'; at++) {
        *at = (char)(*at >= 'A' && *at <= 'Z' ? *at - 'A' + 'a' : *at);
    }
    fault = unquote(value) ? setting_fault(out, name, value) : "the quotes do not match";
    if (fault == NULL && out->n == PG_CONF_SETTINGS_MAX) {
        fault = "there are too many settings";
    }
    if (fault != NULL) {
        return err_set(
            err, HA_EINVAL, "POSTGRESQL_CONF: entry %zu, \"%.80s\": %s", number, name, fault);
    }
    out->settings[out->n].name = name;
    out->settings[out->n].value = value;
    out->n++;
    return HA_OK;
}

int
pg_conf_split(const char *text, struct pg_conf *out, struct err *err)
{
    char *next;
    size_t number = 0;
    int rc = HA_OK;

    memset(out, 0, sizeof *out);
    out->memory = strdup(text);
    if (out->memory == NULL) {
        return err_set(err, HA_ENOMEM, "POSTGRESQL_CONF: %s", err_code_text(HA_ENOMEM));
    }
    for (char *entry = out->memory; entry != NULL && rc == HA_OK; entry = next) {
        next = strchr(entry, '|');
        if (next != NULL) {
            *next++ = '\0';
        }
        number++;
        if (*trim(entry) != '\0') {
            rc = split_entry(out, trim(entry), number, err);
        }
    }
    if (rc != HA_OK) {
        pg_conf_free(out);
    }
    return rc;
}

void
pg_conf_free(struct pg_conf *conf)
{
    free(conf->memory);
    memset(conf, 0, sizeof *conf);
}

const char *
pg_conf_get(const struct pg_conf *conf, const char *name)
{
    for (size_t i = 0; i < conf->n; i++) {
        if (strcmp(conf->settings[i].name, name) == 0) {
            return conf->settings[i].value;
        }
    }
    return NULL;
}
