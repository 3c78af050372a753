/* policy.h - who leaves when room is needed: pure functions over counters.
 *
 * A policy gives each resident page a score; the lowest leaves, and of equal ones
 * the page used longer ago. It sees nothing but the page's counters and how often
 * the page was wanted since it came, so that a recorded trace can be replayed
 * against it (sim.h).
 *
 * A score changes by a demand for the page or for another page of its layer: time may
 * pass for all pages, but must not reorder two that nothing happened to. So
 * pages wait in a heap. (Exponential aging is such a policy: see policy.c.) One whose
 * scores move with the layer says so, and the layer is scored anew.
 */
#ifndef DP_TIER_POLICY_H
#define DP_TIER_POLICY_H

#include "base/base.h"

typedef struct dp_page_heat {
    uint64_t last_use;  /* tick of the last demand */
    uint64_t use_count; /* demands since the page was first seen */
    float frequency;    /* aged count, as of tick `last_use` ... */
    float slow;         /* ... and the one that ages slowly */
    double due;         /* tick of the next demand, as a forecast has it (forecast.h) */
} dp_page_heat;

typedef struct dp_policy {
    const char *name;    /* as the option --policy has it */
    const char *summary; /* which leaves first */
    bool moves_layer;    /* a demand for a page changes scores of its layer */
    /* Lower leaves first. Finite. hits: demands since the page came into this cache. */
    double (*score)(const dp_page_heat *heat, uint32_t hits);
} dp_policy;

extern const dp_policy dp_policy_lru;
extern const dp_policy dp_policy_slru; /* recency; pages that proved themselves stay longer */
extern const dp_policy dp_policy_lfru; /* frequency with aging */
extern const dp_policy dp_policy_lfu;  /* frequency with slow aging */
extern const dp_policy dp_policy_hot;  /* frequency of all times */
extern const dp_policy dp_policy_next; /* the latest next use, as forecast */

#define DP_POLICY_COUNT 6
extern const dp_policy *const dp_policies[DP_POLICY_COUNT];

/* Of a demand in the aged counts. */
#define DP_POLICY_HALF_LIFE_TICKS      128.0
#define DP_POLICY_SLOW_HALF_LIFE_TICKS 2048.0
/* By this many ticks a page that was hit outlives one that was not. */
#define DP_POLICY_PROVEN_TICKS 32.0

/* A demand at `tick` (one tick a step of the model); it is due again in the next. A
 * forecast may know better, and writes `due` after this. */
void dp_heat_touch(dp_page_heat *heat, uint64_t tick);

const dp_policy *dp_policy_find(const char *name); /* NULL: unknown */

#endif
