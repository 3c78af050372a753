/* source_fake.h - a source whose reads end when the test says. Included by tests only.
 *
 * Room     Files have no end; the byte at an offset follows from both numbers, so
 *          that data can be checked anywhere. Or they are given. Reads wait until the test ends one,
 *          by its place among the waiting or by a seeded choice.
 *
 * Threads  Any.
 */
#ifndef DP_TIER_SOURCE_FAKE_H
#define DP_TIER_SOURCE_FAKE_H

#include "base/rng.h"
#include "base/thread.h"
#include "base/list.h"
#include "tier/source.h"

typedef struct dp_source_fake {
    dp_source base;
    bool is_direct;              /* fits ranges to sectors */
    const dp_source_part *files; /* NULL: one without an end */
    const uint8_t *const *bytes; /* [file_count] of `files`; NULL: made up */
    uint32_t file_count;
    uint32_t late_percent; /* of cancels that come too late, by the seed */
    dp_mutex lock;         /* guards what follows */
    dp_cond changed;
    dp_link waiting; /* reads, first submitted first */
    uint32_t waiting_count;
    bool is_over; /* stopped: end_any waits no more */
    uint64_t submit_count, prefetch_count, promote_count, cancel_count;
    dp_rng rng;
} dp_source_fake;

void dp_source_fake_init(dp_source_fake *fake, uint64_t seed);
void dp_source_fake_deinit(dp_source_fake *fake); /* nothing waits */

uint8_t dp_source_fake_byte(uint32_t file_index, uint64_t offset);

/* Ends the read at place `index` of those waiting: with its data, or with an error of
 * that status. False when fewer wait. */
bool dp_source_fake_end(dp_source_fake *fake, uint32_t index, dp_status st);
/* Ends one by the seed, failing fail_percent of them. False: none waits, and with
 * is_waiting also that the fake was stopped. */
bool dp_source_fake_end_any(dp_source_fake *fake, uint32_t fail_percent, bool is_waiting);
void dp_source_fake_end_all(dp_source_fake *fake); /* all with data, those that come too */
void dp_source_fake_stop(dp_source_fake *fake);

#endif
