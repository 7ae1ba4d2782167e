/*
 * fuzz.h - the entry of a fuzz target, as libFuzzer and replay.c call it.
 */
#ifndef HA_TESTS_FUZZ_H
#define HA_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#endif
