/*
 * crc32c.h - the Castagnoli CRC (RFC 3720, appendix B.4) that guards what lies on disk.
 */
#ifndef HA_BASE_CRC32C_H
#define HA_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC of `len` bytes, going on from `crc` (0 to begin). */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
