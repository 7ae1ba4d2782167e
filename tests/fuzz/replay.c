/*
 * Goal:   what a fuzzer once found stays fixed, with any compiler.
 * Method: hands every file of the directories in argv to the fuzz target, cut short at every
 *         length, and with each byte changed.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_MAX 65536
#define VARIED_MAX 600 /* longer files are only replayed as they are */

static void
vary(uint8_t *data, size_t len)
{
    for (size_t cut = 0; cut < len; cut++) {
        (void)LLVMFuzzerTestOneInput(data, cut);
    }
    for (size_t i = 0; i < len; i++) {
        const uint8_t kept = data[i];
        static const uint8_t others[] = {0, 1, 0x7f, 0xff, '\r', '\n', ' '};
        for (size_t j = 0; j < sizeof others; j++) {
            data[i] = others[j];
            (void)LLVMFuzzerTestOneInput(data, len);
        }
        data[i] = kept;
    }
}

static int
replay_file(const char *dir, const char *name)
{
    static uint8_t bytes[INPUT_MAX];
    char path[1024];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    const size_t len = fread(bytes, 1, sizeof bytes, file);
    (void)fclose(file);
    /* A copy of the exact size, so that a sanitizer sees a read beyond it. */
    uint8_t *data = malloc(len > 0 ? len : 1);
    if (data == NULL) {
        return -1;
    }
    for (size_t i = 0; i < len; i++) {
        data[i] = bytes[i];
    }
    (void)LLVMFuzzerTestOneInput(data, len);
    if (len <= VARIED_MAX) {
        vary(data, len);
    }
    free(data);
    return 0;
}

int
main(int argc, char **argv)
{
    int n = 0;

    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (dir == NULL) {
            perror(argv[i]);
            return 1;
        }
        const struct dirent *entry;
        while ((entry = readdir(dir)) != NULL) {
            if (entry->d_name[0] == '.') {
                continue;
            }
            if (replay_file(argv[i], entry->d_name) != 0) {
                (void)closedir(dir);
                return 1;
            }
            n++;
        }
        (void)closedir(dir);
    }
    (void)printf("%d files replayed\n", n);
    return n > 0 ? 0 : 1;
}
