/* policy.h - who leaves when room is needed: pure functions over counters.
 *
 * A policy gives each resident page a score; the lowest leaves. It sees nothing
 * but the page's counters, so that a recorded trace can be replayed against it.
 */
#ifndef DP_TIER_POLICY_H
#define DP_TIER_POLICY_H

#include "base/base.h"

typedef struct dp_page_heat {
    uint64_t last_use;  /* tick of the last demand */
    uint64_t use_count; /* demands since the page was first seen */
    float frequency;    /* aged count, as of tick `last_use` */
} dp_page_heat;

typedef struct dp_policy {
    const char *name; /* "lru", "lfru" */
    /* A demand at `tick` (one tick a step of the model). */
    void (*touch)(dp_page_heat *heat, uint64_t tick);
    /* Lower leaves first. */
    double (*score)(const dp_page_heat *heat, uint64_t tick);
} dp_policy;

extern const dp_policy dp_policy_lru;
extern const dp_policy dp_policy_lfru; /* frequency with exponential aging, recency breaks ties */

const dp_policy *dp_policy_find(const char *name); /* NULL: unknown */

#endif
