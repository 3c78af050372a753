/* pins.h - which always-used pages stay in memory, and how far ahead the others are
 * read.
 *
 * Room     Pure arithmetic over page sizes. Pages every step reads once, in order,
 *          have no locality: a cache of any policy hits nothing but what it never
 *          gives up. So some stay and the rest is read anew in every step, through
 *          a window of a few pages that is always full: one in use, `ahead` loading.
 *          Those that stay are spread evenly over the step, so that computing with
 *          them and reading the others overlap all the time.
 */
#ifndef DP_ENGINE_PINS_H
#define DP_ENGINE_PINS_H

#include "base/base.h"

typedef struct dp_pins_request {
    const uint64_t *bytes; /* [count] slot bytes, in the order of a step; borrowed */
    uint32_t count;
    uint32_t last_first;  /* so many at the end are the first to stay: a head that is the
                             embedding as well is read at both ends of a step. While not
                             all of them do, one may be asked for beside the order */
    uint64_t slot_bytes;  /* room for pages */
    uint64_t other_bytes; /* the largest page asked for beside the order: an expert, rows
                             of the embedding */
    bool streams;         /* dense: pages are read ahead */
} dp_pins_request;

typedef struct dp_pins {
    uint32_t count, last_first;
    uint32_t stride; /* of the choice (pins.c) */
    uint32_t kept;   /* how many stay */
    uint64_t kept_bytes;
    uint32_t ahead;        /* 0: nothing is read ahead */
    uint64_t window_bytes; /* room kept for pages that pass through */
} dp_pins;

/* All stay when the largest other page fits beside them. Else as many as leave room
 * for it and a window of at least DP_WINDOW_BYTES, shorter where that would take more
 * than a quarter of all. None, and nothing is read ahead, where even two pages are
 * too much. */
void dp_pins_choose(dp_pins *out, const dp_pins_request *request);
/* Whether page i of the order stays. */
bool dp_pins_has(const dp_pins *pins, uint32_t i);

#define DP_WINDOW_BYTES                                                                            \
    ((uint64_t)128 << 20) /* keeps 16 reads of 1 MiB under way over the time
                                                 a step needs to take up a page */

#endif
