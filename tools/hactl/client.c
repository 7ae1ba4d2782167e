#include "tools/hactl/client.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "agent/net/http_auth.h"

#define BODY_MAX ((size_t)4 * 1024 * 1024)
#define CONNECT_MS 1000L
#define AFTER_LEADER_MS 300

struct transfer {
    CURL *curl;
    char url[HACTL_URL_MAX + 64];
    char *body;
    size_t len;
    bool is_done;
    char error[CURL_ERROR_SIZE];
};

int64_t
client_now_ms(void)
{
    struct timespec t;

    REQUIRE(clock_gettime(CLOCK_MONOTONIC, &t) == 0, "there is a clock");
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void
client_sleep_ms(int64_t ms)
{
    (void)poll(NULL, 0, (int)ms);
}

static size_t
on_body(char *data, size_t size, size_t n, void *user)
{
    struct transfer *t = user;
    char *grown;

    if (t->len + size * n > BODY_MAX || (grown = realloc(t->body, t->len + size * n + 1)) == NULL) {
        return 0;
    }
    t->body = grown;
    memcpy(t->body + t->len, data, size * n);
    t->len += size * n;
    t->body[t->len] = 0;
    return size * n;
}

static bool
transfer_init(struct transfer *t, const char *url, const char *path, long timeout_ms)
{
    memset(t, 0, sizeof *t);
    t->curl = curl_easy_init();
    if (t->curl == NULL) {
        return false;
    }
    (void)snprintf(t->url, sizeof t->url, "%s%s", url, path);
    (void)curl_easy_setopt(t->curl, CURLOPT_URL, t->url);
    /* A stack's HTTP_PROXY is not meant for the agents. */
    (void)curl_easy_setopt(t->curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(t->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(t->curl, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(t->curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    (void)curl_easy_setopt(t->curl, CURLOPT_TIMEOUT_MS, timeout_ms);
    (void)curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
    (void)curl_easy_setopt(t->curl, CURLOPT_ERRORBUFFER, t->error);
    (void)curl_easy_setopt(t->curl, CURLOPT_PRIVATE, t);
    return true;
}

static void
transfer_finish(struct transfer *t, CURLcode code, struct answer *out)
{
    t->is_done = true;
    if (code != CURLE_OK) {
        (void)snprintf(out->error,
                       sizeof out->error,
                       "%.120s",
                       t->error[0] != 0 ? t->error : curl_easy_strerror(code));
        return;
    }
    (void)curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &out->status);
    if (t->len > 0) {
        out->json = json_loadb(t->body, t->len, JSON_REJECT_DUPLICATES, NULL);
    }
    if (out->json == NULL) {
        (void)snprintf(out->error, sizeof out->error, "HTTP %ld without JSON", out->status);
    }
}

static void
transfer_fini(struct transfer *t)
{
    curl_easy_cleanup(t->curl);
    free(t->body);
}

/* Takes what has ended; true when an answer among it knows a leader. */
static bool
collect(CURLM *multi, struct transfer *transfers, struct answers *out)
{
    bool is_leader_known = false;
    CURLMsg *message;
    int n_left;

    while ((message = curl_multi_info_read(multi, &n_left)) != NULL) {
        char *at = NULL;

        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &at);
        for (size_t i = 0; i < out->n; i++) {
            if (at == (char *)&transfers[i]) {
                transfer_finish(&transfers[i], message->data.result, &out->at[i]);
                is_leader_known |= json_is_string(json_object_get(out->at[i].json, "leader"));
            }
        }
    }
    return is_leader_known;
}

void
client_ask_all(const struct agents *agents, const char *path, struct answers *out)
{
    struct transfer *transfers = calloc(HACTL_AGENTS_MAX, sizeof *transfers);
    CURLM *multi = curl_multi_init();
    int64_t until = client_now_ms() + CLIENT_ASK_MS;
    int n_running = 1;

    REQUIRE(transfers != NULL && multi != NULL, "there is memory");
    memset(out, 0, sizeof *out);
    out->n = agents->n;
    for (size_t i = 0; i < agents->n; i++) {
        out->at[i].url = agents->urls[i];
        REQUIRE(transfer_init(&transfers[i], agents->urls[i], path, CLIENT_ASK_MS),
                "curl has memory");
        (void)curl_multi_add_handle(multi, transfers[i].curl);
    }
    while (n_running > 0 && client_now_ms() < until) {
        if (curl_multi_perform(multi, &n_running) != CURLM_OK) {
            break;
        }
        if (collect(multi, transfers, out) && client_now_ms() + AFTER_LEADER_MS < until) {
            until = client_now_ms() + AFTER_LEADER_MS;
        }
        if (n_running > 0) {
            (void)curl_multi_poll(multi, NULL, 0, 50, NULL);
        }
    }
    (void)collect(multi, transfers, out);
    for (size_t i = 0; i < agents->n; i++) {
        if (!transfers[i].is_done) {
            (void)snprintf(out->at[i].error, sizeof out->at[i].error, "no answer in time");
        }
        (void)curl_multi_remove_handle(multi, transfers[i].curl);
        transfer_fini(&transfers[i]);
    }
    (void)curl_multi_cleanup(multi);
    free(transfers);
}

/* The header that signs a request; "" when it cannot be made. */
static void
sign(const struct http_auth *auth, const char *path, const char *body, char *out, size_t size)
{
    const struct http_auth_request request = {
        .method = "POST", .target = path, .body = body, .body_len = strlen(body)};
    char value[HTTP_AUTH_HEADER_MAX];
    uint8_t nonce[HTTP_AUTH_NONCE_BYTES];

    out[0] = 0;
    if (getrandom(nonce, sizeof nonce, 0) == (ssize_t)sizeof nonce &&
        http_auth_sign(auth, &request, (int64_t)time(NULL), nonce, value) == HA_OK) {
        (void)snprintf(out, size, "Authorization: %s", value);
    }
}

void
client_post(const char *url,
            const char *path,
            const json_t *body,
            const struct http_auth *auth,
            struct answer *out)
{
    struct curl_slist *headers = NULL;
    struct transfer t;
    char header[HTTP_AUTH_HEADER_MAX + 32];
    char *text = body == NULL ? strdup("{}") : json_dumps(body, JSON_COMPACT);

    memset(out, 0, sizeof *out);
    out->url = url;
    REQUIRE(text != NULL && transfer_init(&t, url, path, CLIENT_POST_MS), "there is memory");
    sign(auth, path, text, header, sizeof header);
    headers = curl_slist_append(headers, header);
    headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    (void)curl_easy_setopt(t.curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(t.curl, CURLOPT_POSTFIELDS, text);
    transfer_finish(&t, curl_easy_perform(t.curl), out);
    transfer_fini(&t);
    curl_slist_free_all(headers);
    free(text);
}

void
answer_free(struct answer *answer)
{
    json_decref(answer->json);
    answer->json = NULL;
}

void
answers_free(struct answers *answers)
{
    for (size_t i = 0; i < answers->n; i++) {
        answer_free(&answers->at[i]);
    }
    answers->n = 0;
}
