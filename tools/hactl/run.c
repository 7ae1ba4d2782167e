/*
 * One command line, from its words to its exit status.
 */
#include <curl/curl.h>
#include <string.h>

#include "tools/hactl/hactl.h"

enum exit_status
hactl_run(int argc, char **argv, FILE *out, FILE *err_out)
{
    static struct context c;
    struct err err = {0};
    enum exit_status status;

    memset(&c, 0, sizeof c);
    c.out = out;
    c.err = err_out;
    status = args_parse(argc, argv, &c.options, &err);
    if (status != EXIT_YES) {
        (void)fprintf(c.err, "hactl: %s\n", err.text);
        return status;
    }
    if (c.options.wants_help) {
        if (c.options.verb == NULL) {
            args_help(c.out);
        } else {
            args_verb_help(c.out, args_verb(c.options.verb));
        }
        return EXIT_YES;
    }
    if (environment_agents(c.options.url, &c.agents, &err) != HA_OK) {
        (void)fprintf(c.err, "hactl: %s\n", err.text);
        return EXIT_USAGE;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        (void)fprintf(c.err, "hactl: libcurl does not start\n");
        return EXIT_UNREACHABLE;
    }
    c.has_color = environment_wants_color(c.options.color, c.out);
    status = args_verb(c.options.verb)->run(&c);
    curl_global_cleanup();
    return status;
}
