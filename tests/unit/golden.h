/*
 * golden.h - a text is compared with the one under tests/golden/.
 *
 * `test_NAME --rewrite` writes the files anew; the change is then reviewed as a diff.
 *
 * Include cmocka.h first. GOLDEN_DIR comes from meson.build.
 */
#ifndef HA_TESTS_UNIT_GOLDEN_H
#define HA_TESTS_UNIT_GOLDEN_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool golden_is_rewriting;

static inline void
golden_init(int argc, char **argv)
{
    golden_is_rewriting = argc == 2 && strcmp(argv[1], "--rewrite") == 0;
}

/* The file's text, malloc()ed; NULL when there is none. */
static inline char *
golden_read(const char *name)
{
    char path[512];
    char *text = calloc(1, 256 * 1024);
    FILE *file;

    assert_non_null(text);
    (void)snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, name);
    file = fopen(path, "re");
    if (file == NULL) {
        free(text);
        return NULL;
    }
    assert_true(fread(text, 1, 256 * 1024 - 1, file) > 0);
    assert_int_equal(fclose(file), 0);
    return text;
}

static inline void
golden_check(const char *name, const char *text)
{
    char *wanted;

    if (golden_is_rewriting) {
        char path[512];
        FILE *file;

        (void)snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, name);
        file = fopen(path, "we");
        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        assert_int_equal(fclose(file), 0);
        return;
    }
    wanted = golden_read(name);
    if (wanted == NULL || strcmp(wanted, text) != 0) {
        print_error("--- %s is\n%s\n--- and should be\n%s\n",
                    name,
                    text,
                    wanted == NULL ? "(no such file)" : wanted);
        free(wanted);
        fail_msg("%s differs; if that is right, run this test with --rewrite", name);
    }
    free(wanted);
}

#endif
