#include "agent/postgres/pg_initdb_args.h"

#include <string.h>

/* Cuts POSTGRES_INITDB_ARGS into words, quotes and backslashes as a shell takes them. */
static int
split_words(char *text, const char *words[], size_t max, struct err *err)
{
    size_t n = 0;
    char *to = text;
    const char *from = text;

    while (*(from += strspn(from, " \t\r\n")) != '\0') {
        char quote = '\0';

        if (n == max) {
            return err_set(err, HA_EINVAL, "POSTGRES_INITDB_ARGS: too many words");
        }
        words[n++] = to;
        for (; *from != '\0' && (quote != '\0' || strchr(" \t\r\n", *from) == NULL); from++) {
            if (quote == '\0' && (*from == '\'' || *from == '"')) {
                quote = *from;
            } else if (quote != '\0' && *from == quote) {
                quote = '\0';
            } else {
                from += *from == '\\' && quote != '\'' && from[1] != '\0' ? 1 : 0;
                *to++ = *from;
            }
        }
        if (quote != '\0') {
            return err_set(err, HA_EINVAL, "POSTGRES_INITDB_ARGS: a quote is not closed");
        }
        from += *from != '\0' ? 1 : 0;
        *to++ = '\0';
    }
    return (int)n;
}

/* What initdb is told by the agent, nobody else may tell it. */
static bool
is_owned_option(const char *word)
{
    static const char *const OWNED[] = {"-D",
                                        "--pgdata",
                                        "-U",
                                        "--username",
                                        "-W",
                                        "--pwprompt",
                                        "--pwfile",
                                        "-X",
                                        "--waldir",
                                        "-S",
                                        "--sync-only",
                                        "-N",
                                        "--no-sync",
                                        "-A",
                                        "--auth"};

    for (size_t i = 0; i < HA_COUNT_OF(OWNED); i++) {
        const size_t len = strlen(OWNED[i]);
        const bool is_short = OWNED[i][1] != '-';

        if (strncmp(word, OWNED[i], len) == 0 &&
            (is_short || word[len] == '\0' || word[len] == '=' || word[len] == '-')) {
            return true;
        }
    }
    return false;
}

int
pg_initdb_words(char *text, const char *words[], size_t max, struct err *err)
{
    const int n = split_words(text, words, max, err);

    for (int i = 0; i < n; i++) {
        if (is_owned_option(words[i])) {
            return err_set(err, HA_EINVAL, "POSTGRES_INITDB_ARGS: %s is the agent's", words[i]);
        }
    }
    return n;
}

bool
pg_initdb_needs_encoding(const char *args, char *const env[])
{
    if (strstr(args, "-E") != NULL || strstr(args, "--encoding") != NULL ||
        strstr(args, "--locale") != NULL) {
        return false;
    }
    for (; *env != NULL; env++) {
        const bool is_locale = strncmp(*env, "LC_ALL=", 7) == 0 || strncmp(*env, "LANG=", 5) == 0 ||
                               strncmp(*env, "LC_CTYPE=", 9) == 0;
        const char *const value = strchr(*env, '=');

        if (is_locale && value != NULL && value[1] != '\0' && strcmp(value, "=C") != 0 &&
            strcmp(value, "=POSIX") != 0) {
            return false;
        }
    }
    return true;
}
