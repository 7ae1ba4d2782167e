#include "agent/gateway/pcp_wire.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGES_MAX 512 /* of one session; a server that never ends is cut off */
#define HEX_BYTES 33
#define FIELDS_MAX 24

/* The texts of one message's body; they point into it. */
struct fields {
    size_t n;
    const char *at[FIELDS_MAX];
};

static const struct {
    char request;
    char answer;
} VERBS[PCP_VERB_COUNT] = {
    [PCP_NODE_COUNT] = {'L', 'l'},
    [PCP_NODE_INFO] = {'I', 'i'},
    [PCP_DETACH] = {'D', 'd'},
    [PCP_ATTACH] = {'C', 'c'},
    [PCP_PROMOTE] = {'J', 'd'},
    [PCP_RELOAD] = {'Z', 'z'},
};

/* ---- out ---- */

static void
put(struct pcp_session *s, char type, const void *body, size_t len)
{
    const uint32_t total = (uint32_t)len + 4;
    const uint8_t head[5] = {(uint8_t)type,
                             (uint8_t)(total >> 24),
                             (uint8_t)(total >> 16),
                             (uint8_t)(total >> 8),
                             (uint8_t)total};

    REQUIRE(s->out_len + sizeof head + len <= sizeof s->out, "requests are short");
    memcpy(s->out + s->out_len, head, sizeof head);
    if (len > 0) {
        memcpy(s->out + s->out_len + sizeof head, body, len);
    }
    s->out_len += sizeof head + len;
}

static void
put_op(struct pcp_session *s, const struct pcp_op *op)
{
    char body[32] = "";
    int len = 0;

    switch ((enum pcp_verb)op->verb) {
    case PCP_NODE_INFO:
        len = snprintf(body, sizeof body, "-1") + 1;
        break;
    case PCP_DETACH:
    case PCP_ATTACH:
        len = snprintf(body, sizeof body, "%d", op->node) + 1;
        break;
    case PCP_PROMOTE:
        len = snprintf(body, sizeof body, "%d ", op->node) + 1;
        body[len++] = 'n'; /* no switchover: PostgreSQL was promoted already */
        break;
    case PCP_RELOAD:
        body[0] = 'l'; /* this Pgpool alone */
        len = 1;
        break;
    case PCP_NODE_COUNT:
    case PCP_VERB_COUNT:
    default:
        break;
    }
    put(s, VERBS[op->verb].request, body, (size_t)len);
}

static void
put_next(struct pcp_session *s)
{
    if (s->at < s->n_ops) {
        put_op(s, &s->ops[s->at]);
        return;
    }
    put(s, 'X', NULL, 0);
    s->step = PCP_STEP_DONE;
}

static int
md5_hex(const void *data, size_t len, char out[HEX_BYTES])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (EVP_Digest(data, len, digest, &n, EVP_md5(), NULL) != 1 || n != 16) {
        return HA_EFAILED;
    }
    for (size_t i = 0; i < 16; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
    }
    OPENSSL_cleanse(digest, sizeof digest);
    return HA_OK;
}

/* md5hex(md5hex(md5hex(password) + user) + salt) */
static int
put_auth(struct pcp_session *s, const uint8_t salt[4])
{
    char text[HEX_BYTES + PCP_USER_MAX];
    char hex[HEX_BYTES];
    char body[PCP_USER_MAX + HEX_BYTES];
    size_t n;

    if (md5_hex(s->password, strlen(s->password), text) != HA_OK) {
        return err_set(&s->err, HA_EFAILED, "OpenSSL has no MD5, which PCP needs");
    }
    memcpy(text + 32, s->user, strlen(s->user));
    if (md5_hex(text, 32 + strlen(s->user), hex) != HA_OK) {
        return err_set(&s->err, HA_EFAILED, "OpenSSL has no MD5, which PCP needs");
    }
    memcpy(text, hex, 32);
    memcpy(text + 32, salt, 4);
    if (md5_hex(text, 36, hex) != HA_OK) {
        return err_set(&s->err, HA_EFAILED, "OpenSSL has no MD5, which PCP needs");
    }
    OPENSSL_cleanse(text, sizeof text);
    n = strlen(s->user) + 1;
    memcpy(body, s->user, n);
    memcpy(body + n, hex, HEX_BYTES);
    put(s, 'R', body, n + HEX_BYTES);
    return HA_OK;
}

/* ---- in ---- */

static void
split(struct fields *f, const uint8_t *body, size_t len)
{
    f->n = 0;
    while (len > 0 && f->n < FIELDS_MAX) {
        const uint8_t *end = memchr(body, 0, len);

        if (end == NULL) {
            return; /* a text without its end is none */
        }
        f->at[f->n++] = (const char *)body;
        len -= (size_t)(end - body) + 1;
        body = end + 1;
    }
}

static bool
parse_u64(const char *text, uint64_t max, uint64_t *out)
{
    char *end = NULL;

    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    *out = strtoull(text, &end, 10);
    return *end == 0 && *out <= max;
}

/* host port status quarantine pg_status weight role pg_role [delay by time] delay ... */
static int
take_node(struct pcp_session *s, const struct fields *f)
{
    /* The word before is "NodeInfo": 1 + 12 up to 4.3, 1 + 13 from 4.4; more may come. */
    const size_t delay_at = f->n >= 14 ? 10 : 9;
    struct pcp_node *node;
    uint64_t port;
    uint64_t status;
    uint64_t role;

    if (s->n_nodes == PCP_NODES_MAX) {
        return err_set(&s->err, HA_ETOOBIG, "more than %d nodes", PCP_NODES_MAX);
    }
    if (f->n < 13 || strlen(f->at[1]) >= PCP_HOST_MAX || !parse_u64(f->at[2], 65535, &port) ||
        !parse_u64(f->at[3], 255, &status) || !parse_u64(f->at[7], 255, &role)) {
        return err_set(&s->err, HA_ECORRUPT, "a node that cannot be read");
    }
    node = &s->nodes[s->n_nodes++];
    memset(node, 0, sizeof *node);
    memcpy(node->host, f->at[1], strlen(f->at[1]));
    node->port = (uint16_t)port;
    node->status = (uint8_t)status;
    node->role = (uint8_t)role;
    if (!parse_u64(f->at[delay_at], UINT64_MAX, &node->delay)) {
        node->delay = 0;
    }
    return HA_OK;
}

/* An answer to the operation that is under way. */
static int
take_answer(struct pcp_session *s, const struct fields *f)
{
    const uint8_t verb = s->ops[s->at].verb;
    const char *word = f->n > 0 ? f->at[0] : "";
    uint64_t count;

    if (verb == PCP_NODE_INFO && strcmp(word, "ArraySize") == 0) {
        s->n_nodes = 0;
        return HA_OK;
    }
    if (verb == PCP_NODE_INFO && strcmp(word, "NodeInfo") == 0) {
        return take_node(s, f);
    }
    if (verb == PCP_NODE_INFO && strcmp(word, "CommandComplete") == 0) {
        s->has_nodes = true;
    }
    if (verb == PCP_NODE_COUNT && f->n >= 2 && parse_u64(f->at[1], 1024, &count)) {
        s->node_count = (int32_t)count;
    }
    s->at++;
    put_next(s);
    return HA_OK;
}

/* Fields of a letter and a text each; M is for people. */
static int
take_error(struct pcp_session *s, const struct fields *f)
{
    const char *text = "no reason given";
    bool is_fatal = false;

    for (size_t i = 0; i < f->n; i++) {
        if (f->at[i][0] == 'M') {
            text = f->at[i] + 1;
        } else if (f->at[i][0] == 'S') {
            is_fatal = strcmp(f->at[i] + 1, "FATAL") == 0;
        }
    }
    if (s->step != PCP_STEP_OPS) {
        return err_set(&s->err, HA_EAUTH, "user %s: %.200s", s->user, text);
    }
    if (s->err.code == HA_OK) {
        (void)err_set(&s->err, HA_EREFUSED, "%.200s", text);
    }
    if (is_fatal) {
        return s->err.code;
    }
    s->at++;
    put_next(s);
    return HA_OK;
}

static int
take_message(struct pcp_session *s, uint8_t type, const uint8_t *body, size_t len)
{
    struct fields f;

    split(&f, body, len);
    if (type == 'N') {
        return HA_OK; /* a notice */
    }
    if (type == 'E') {
        return take_error(s, &f);
    }
    if (s->step == PCP_STEP_SALT && type == 'm' && len >= 4) {
        s->step = PCP_STEP_AUTH;
        return put_auth(s, body);
    }
    if (s->step == PCP_STEP_AUTH && type == 'r') {
        if (f.n == 0 || strcmp(f.at[0], "AuthenticationOK") != 0) {
            return err_set(&s->err, HA_EAUTH, "user %s was not let in", s->user);
        }
        s->step = PCP_STEP_OPS;
        put_next(s);
        return HA_OK;
    }
    if (s->step == PCP_STEP_OPS && type == (uint8_t)VERBS[s->ops[s->at].verb].answer) {
        return take_answer(s, &f);
    }
    return err_set(&s->err, HA_ECORRUPT, "an answer of type %u that nothing asked for", type);
}

void
pcp_session_init(struct pcp_session *session,
                 const char *user,
                 const char *password,
                 const struct pcp_op *ops,
                 size_t n_ops)
{
    REQUIRE(strlen(user) < PCP_USER_MAX && strlen(password) < PCP_PASSWORD_MAX &&
                n_ops <= PCP_OPS_MAX,
            "the caller has checked these");
    memset(session, 0, sizeof *session);
    memcpy(session->user, user, strlen(user));
    memcpy(session->password, password, strlen(password));
    for (size_t i = 0; i < n_ops; i++) {
        REQUIRE(ops[i].verb > 0 && ops[i].verb < PCP_VERB_COUNT, "a verb of the list");
        session->ops[i] = ops[i];
    }
    session->n_ops = n_ops;
    put(session, 'M', NULL, 0);
}

/* Type and length make five bytes; the length counts itself. */
static size_t
message_size(const struct pcp_session *s)
{
    const uint32_t length =
        (uint32_t)s->in[1] << 24 | (uint32_t)s->in[2] << 16 | (uint32_t)s->in[3] << 8 | s->in[4];

    return length >= 4 && length < PCP_MESSAGE_MAX ? length + 1 : 0;
}

int
pcp_session_feed(struct pcp_session *s, const uint8_t *data, size_t len)
{
    while (len > 0 && s->step != PCP_STEP_DONE) {
        const size_t want = s->in_len < 5 ? 5 : message_size(s);
        const size_t n = want - s->in_len < len ? want - s->in_len : len;
        size_t size;
        int rc;

        memcpy(s->in + s->in_len, data, n);
        s->in_len += n;
        data += n;
        len -= n;
        if (s->in_len < 5) {
            continue;
        }
        size = message_size(s);
        if (size == 0 || s->n_messages == MESSAGES_MAX) {
            return err_set(&s->err, HA_ECORRUPT, "what answers there does not speak PCP");
        }
        if (s->in_len < size) {
            continue;
        }
        s->n_messages++;
        s->in_len = 0;
        rc = take_message(s, s->in[0], s->in + 5, size - 5);
        if (rc != HA_OK) {
            return rc;
        }
    }
    return HA_OK;
}

int
pcp_session_close(struct pcp_session *s)
{
    if (s->step == PCP_STEP_DONE) {
        return s->err.code;
    }
    if (s->err.code != HA_OK) {
        return s->err.code;
    }
    return err_set(&s->err, HA_EUNREACHABLE, "it closed the connection before it had answered");
}

void
pcp_session_wipe(struct pcp_session *session)
{
    OPENSSL_cleanse(session->password, sizeof session->password);
}
