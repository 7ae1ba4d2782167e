/* Fuzz target: no bytes crash the decoder of raft/message.h, and what it accepts it can encode. */
#include <stdlib.h>

#include "raft/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t out[MESSAGE_BYTES_MAX];
    struct raft_message m;
    uint64_t to;
    unsigned n;

    if (message_decode(&m, &to, data, size) == HA_OK) {
        if (message_encode(&m, m.server_id, to, out, sizeof out, &n) == 0) {
            abort();
        }
        message_free(&m);
    }
    return 0;
}
