/* demands.h - which experts of which layers a run wanted, in order: the stream that
 * caches are simulated on.
 *
 * Room     A bounded list of demands. One demand is what a step wants of one
 *          layer, together and at once. Kept in 16-bit words, for a few thousand
 *          steps of the largest models are a megabyte or two.
 *
 * Threads  One at a time.
 */
#ifndef DP_TIER_DEMANDS_H
#define DP_TIER_DEMANDS_H

#include "base/base.h"

#define DP_DEMANDS_LAYERS_MAX  32767u
#define DP_DEMANDS_EXPERTS_MAX 65535u
#define DP_DEMANDS_SET_MAX     4096u /* as many pages as one batch of the tier */

typedef struct dp_demands {
    uint16_t *words;
    size_t count, capacity, count_max; /* words */
} dp_demands;

typedef struct dp_demand {
    bool begins_step;
    uint32_t layer, count;
    const uint16_t *experts; /* [count]; borrowed until the list grows */
} dp_demand;

void dp_demands_init(dp_demands *demands, size_t words_max);
void dp_demands_deinit(dp_demands *demands);
void dp_demands_reset(dp_demands *demands); /* empty again, memory kept */

/* False when the list is full or memory is short: unchanged. */
bool dp_demands_add(dp_demands *demands, bool begins_step, uint32_t layer, const uint32_t *experts,
                    uint32_t count);
/* The demand at *at, which starts at 0 and moves on; false at the end. */
bool dp_demands_next(const dp_demands *demands, size_t *at, dp_demand *out);

#endif
