/* DIR/state: a memory of the last applied state. Whatever is wrong with it: then there is none. */
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "base/crc32c.h"
#include "store/durable.h"
#include "store/fs_replace.h"
#include "store/snapshot.h"

#define CACHE_NAME "state"
#define CACHE_NEW_NAME "state.new"
#define CACHE_MAGIC "hwstat01"
#define HEADER_BYTES 24 /* magic, u64 index, u32 0, u32 CRC of all this and of the state */
#define CRC_OFFSET 20

static uint32_t
cache_crc(const uint8_t *file, size_t len)
{
    return crc32c(crc32c(0, file, CRC_OFFSET), file + HEADER_BYTES, len - HEADER_BYTES);
}

static int
cache_decode(const uint8_t *file, size_t len, struct state *state, uint64_t *index)
{
    struct codec_reader r;
    char magic[8];
    uint64_t found;

    if (len < HEADER_BYTES) {
        return HA_ENOTFOUND;
    }
    codec_reader_init(&r, file, HEADER_BYTES);
    codec_get_bytes(&r, magic, sizeof magic);
    found = codec_get_u64(&r);
    (void)codec_get_u32(&r);
    if (memcmp(magic, CACHE_MAGIC, sizeof magic) != 0 ||
        codec_get_u32(&r) != cache_crc(file, len) ||
        snapshot_decode(state, file + HEADER_BYTES, len - HEADER_BYTES) != HA_OK) {
        return HA_ENOTFOUND;
    }
    *index = found;
    return HA_OK;
}

int
state_cache_load(struct fs *fs, const char *dir, struct state *state, uint64_t *index)
{
    char path[FS_PATH_MAX];
    void *file = NULL;
    size_t len = 0;
    int rc;

    if (fs_path(path, dir, CACHE_NAME, NULL) != HA_OK ||
        fs->read_all(fs, path, &file, &len, NULL) != HA_OK) {
        return HA_ENOTFOUND;
    }
    rc = cache_decode(file, len, state, index);
    free(file);
    return rc;
}

/* Beside the old file and then over it, so that a crash of the process leaves one of the two. */
static int
cache_write(struct fs *fs, const char *dir, const uint8_t *bytes, size_t len)
{
    char path[FS_PATH_MAX];
    char path_new[FS_PATH_MAX];
    int file = -1;
    int rc = fs_path(path, dir, CACHE_NAME, NULL);

    if (rc == HA_OK) {
        rc = fs_path(path_new, dir, CACHE_NEW_NAME, NULL);
    }
    if (rc == HA_OK) {
        rc = fs->open(fs, path_new, true, &file, NULL);
    }
    if (rc != HA_OK) {
        return rc;
    }
    rc = fs->truncate(fs, file, 0, NULL);
    if (rc == HA_OK) {
        rc = fs->write_at(fs, file, 0, bytes, len, NULL);
    }
    (void)fs->close(fs, file);
    if (rc == HA_OK) {
        rc = fs->rename(fs, path_new, path, NULL);
    }
    if (rc != HA_OK) {
        (void)fs->unlink(fs, path_new, NULL); /* gives the space of a full disk back */
    }
    return rc;
}

int
state_cache_save(struct fs *fs, const char *dir, const struct state *state, uint64_t index)
{
    const size_t size = HEADER_BYTES + SNAPSHOT_BYTES_MAX;
    uint8_t *const bytes = calloc(1, size);
    struct codec_writer w;
    size_t len;
    int rc;

    if (bytes == NULL) {
        return HA_ENOMEM;
    }
    len = snapshot_encode(state, bytes + HEADER_BYTES, SNAPSHOT_BYTES_MAX);
    ENSURE(len > 0, "SNAPSHOT_BYTES_MAX is always enough");
    len += HEADER_BYTES;
    codec_writer_init(&w, bytes, HEADER_BYTES);
    codec_put_bytes(&w, CACHE_MAGIC, 8);
    codec_put_u64(&w, index);
    codec_put_u32(&w, 0);
    codec_put_u32(&w, cache_crc(bytes, len));
    rc = cache_write(fs, dir, bytes, len);
    free(bytes);
    return rc;
}
