/* crc.h - CRC-32 as in zip and PNG (polynomial 0xEDB88320): finds torn and rotten bytes, proves
 * nothing against a forger. Any thread. */
#ifndef DP_BASE_CRC_H
#define DP_BASE_CRC_H

#include "base/base.h"

/* Of bytes [size] behind what gave `crc` (0 at the start). */
uint32_t dp_crc32(uint32_t crc, const void *bytes, size_t size);

#endif
