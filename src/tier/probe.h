/* probe.h - how a drive is read fastest: measured, and the choice among what was measured.
 *
 * Room     A grid of ways (request size, depth, direct or through the page cache,
 *          engine) is run on one open file by base/aio.h, the queue a run uses.
 *          Ways that keep few bytes under way come first; a way whose first
 *          requests alone would outlast its time, by the best rate so far, is left
 *          out. So a slow drive is judged by fewer ways and not by more time.
 *          Each way is run twice, in two rounds, and the faster run counts: what
 *          slows one down is other programs.
 *
 * Cache    Ways through the page cache drop the window's cached pages first, of
 *          this file alone.
 *
 * Threads  One at a time.
 */
#ifndef DP_TIER_PROBE_H
#define DP_TIER_PROBE_H

#include "base/aio.h"
#include "base/clock.h"
#include "doppler/doctor.h"

#define DP_PROBE_FLIGHT_MAX (128 * DP_MIB) /* bytes under way: more is memory no run would give */
#define DP_PROBE_FLIGHT_LEAST                                                                      \
    (8 * DP_MIB) /* fewer are over before a thread that sends more gets a
                                              turn beside those that compute: some 3 ms */
#define DP_PROBE_DEPTH_LEAST                                                                       \
    8 /* a page is several ranges that lie apart, and none of them is longer */
#define DP_PROBE_WINDOW_MAX   (8 * DP_GIB)  /* of a file: what a probe reads in its time */
#define DP_PROBE_WINDOW_LEAST (64 * DP_MIB) /* smaller files lie in a drive's own cache */

typedef struct dp_probe_config {
    const dp_file *file; /* borrowed; its first bytes are read */
    const char *path;    /* for messages */
    uint64_t limit_ns;   /* about: what is under way is waited for */
    bool is_quick;       /* fewer ways */
    uint64_t flight_max; /* bytes of memory to read into */
    const dp_clock *clock;
} dp_probe_config;

/* Fills best, rows, latencies, file_bytes, seconds. DP_E_IO, DP_E_NOMEM. */
dp_status dp_probe_run(dp_drive_probe *out, const dp_probe_config *config, dp_error *err);

/* Which row to run with, of those that are ample for a run (or, where none was measured, of all):
 * of those within 3 % of the fastest, a direct one if there is any (the page cache competes with
 * the budget), then the one that keeps the fewest bytes under way, then the fewest requests.
 * DP_PROBE_NONE: no row was measured. Pure. */
#define DP_PROBE_NONE UINT32_MAX
uint32_t dp_probe_choose(const dp_probe_row *rows, uint32_t count);

/* The ways to try, in order, without rates; how many (at most DP_PROBE_ROWS_MAX). Pure. */
uint32_t dp_probe_ways(dp_probe_row rows[DP_PROBE_ROWS_MAX], bool has_direct, bool has_uring,
                       bool is_quick);

#endif
