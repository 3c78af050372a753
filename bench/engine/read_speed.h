/* read_speed.h - how fast a file's drive gives bytes to this engine's own reads.
 *
 * Room     Reads a file past the page cache by base/aio.h, as a run of doppler does:
 *          requests of one size, so many with the system at a time, each `range` bytes in a
 *          row and then on to a place at random. Memory is touched before the clock starts.
 */
#ifndef DP_BENCH_READ_SPEED_H
#define DP_BENCH_READ_SPEED_H

#include "base/aio.h"

typedef struct drive_config {
    dp_aio_engine engine;
    uint64_t request_bytes, range_bytes; /* multiples of DP_FILE_SECTOR */
    uint64_t total_bytes;
    uint32_t depth;
    uint64_t seed;
} drive_config;

/* Bytes per second. The file holds at least one range. */
dp_status drive_speed(double *out, const char *path, const drive_config *config, dp_error *err);

#endif
