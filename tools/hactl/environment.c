/*
 * What the environment tells hactl: whom to ask, and how to sign.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/net/http_auth.h"
#include "agent/net/secret_derive.h"
#include "agent/net/secret_text.h"
#include "tools/hactl/hactl.h"

#define DEFAULT_PORT "8008"
#define SEPARATORS ", \t\r\n"

/* An empty variable counts as one that is not set, as in the agent. */
static const char *
get(const char *name)
{
    const char *value = getenv(name);

    return value == NULL || value[0] == 0 ? NULL : value;
}

/* Adds http://host:port once; a word that is a URL already keeps what it says. */
static int
add_agent(struct agents *out, const char *word, const char *port, struct err *err)
{
    const bool is_url = strncmp(word, "http://", 7) == 0 || strncmp(word, "https://", 8) == 0;
    const char *colon = strchr(word, ':');
    char url[HACTL_URL_MAX];
    int len;

    if (is_url) {
        len = snprintf(url, sizeof url, "%s", word);
    } else if (colon != NULL && strchr(colon + 1, ':') != NULL && word[0] != '[') {
        len = snprintf(url, sizeof url, "http://[%s]:%s", word, port); /* a bare IPv6 address */
    } else if (colon != NULL && (word[0] != '[' || strstr(word, "]:") != NULL)) {
        len = snprintf(url, sizeof url, "http://%s", word); /* host:port */
    } else {
        len = snprintf(url, sizeof url, "http://%s:%s", word, port);
    }
    if (len < 0 || (size_t)len >= sizeof url) {
        return err_set(err, HA_EINVAL, "%.60s...: too long for an agent's URL", word);
    }
    while (len > 0 && url[len - 1] == '/') {
        url[--len] = 0;
    }
    for (size_t i = 0; i < out->n; i++) {
        if (strcmp(out->urls[i], url) == 0) {
            return HA_OK;
        }
    }
    if (out->n == HACTL_AGENTS_MAX) {
        return err_set(err, HA_EINVAL, "more than %d agents are named", HACTL_AGENTS_MAX);
    }
    memcpy(out->urls[out->n++], url, sizeof url);
    return HA_OK;
}

static int
add_list(struct agents *out, const char *list, const char *port, struct err *err)
{
    int rc = HA_OK;

    while (list != NULL && rc == HA_OK) {
        char word[256];
        size_t len;

        list += strspn(list, SEPARATORS);
        len = strcspn(list, SEPARATORS);
        if (len == 0) {
            break;
        }
        (void)snprintf(word, sizeof word, "%.*s", (int)len, list);
        list += len;
        rc = add_agent(out, word, port, err);
    }
    return rc;
}

int
environment_agents(const char *url, struct agents *out, struct err *err)
{
    static const char *const lists[] = {"PRIMARY_IP", "REPLICAS_IP", "WITNESS_IPS", "NODE_IP"};
    const char *port = get("HA_HTTP_PORT");
    int rc;

    out->n = 0;
    port = port == NULL ? DEFAULT_PORT : port;
    rc = add_list(out, url != NULL ? url : get("HA_URL"), port, err);
    for (size_t i = 0; rc == HA_OK && url == NULL && get("HA_URL") == NULL && i < 4; i++) {
        rc = add_list(out, get(lists[i]), port, err);
    }
    if (rc == HA_OK && out->n == 0) {
        rc = add_agent(out, "127.0.0.1", port, err);
    }
    return rc;
}

bool
environment_wants_color(uint8_t choice, FILE *to)
{
    const char *term = get("TERM");

    if (choice != COLOR_AUTO) {
        return choice == COLOR_ALWAYS;
    }
    return isatty(fileno(to)) == 1 && get("NO_COLOR") == NULL &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

const char *
environment_database(void)
{
    const char *database = get("POSTGRES_DB");

    if (database == NULL) {
        database = get("POSTGRES_USER");
    }
    return database == NULL ? "postgres" : database;
}

int
environment_auth(struct http_auth *auth, struct err *err)
{
    struct secret_text secret;
    uint8_t key[KEY_BYTES];
    int rc = secret_text_read(
        "HA_CLUSTER_SECRET", get("HA_CLUSTER_SECRET"), get("HA_CLUSTER_SECRET_FILE"), &secret, err);

    if (rc == HA_OK && secret.len > 0) {
        rc = http_auth_init(auth, (const uint8_t *)secret.bytes, secret.len, 0);
    } else if (rc == HA_OK) {
        rc = secret_text_read("POSTGRES_PASSWORD",
                              get("POSTGRES_PASSWORD"),
                              get("POSTGRES_PASSWORD_FILE"),
                              &secret,
                              err);
        if (rc == HA_OK && secret.len == 0) {
            rc = err_set(err,
                         HA_EINVAL,
                         "a request must be signed: HA_CLUSTER_SECRET_FILE or "
                         "POSTGRES_PASSWORD_FILE must name the file that the agents have");
        }
        if (rc == HA_OK && (rc = secret_derive_cluster(secret.bytes, secret.len, key)) == HA_OK) {
            rc = http_auth_init(auth, key, sizeof key, 0);
        }
    }
    key_wipe(&secret, sizeof secret);
    key_wipe(key, sizeof key);
    return rc;
}
