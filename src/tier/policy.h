/* policy.h - who leaves when room is needed: pure functions over counters.
 *
 * A policy gives each resident page a score; the lowest leaves, and of equal ones
 * the page used longer ago. It sees nothing but the page's counters, so that a
 * recorded trace can be replayed against it.
 *
 * A score changes by touching alone: time may pass for all pages, but must not
 * reorder two that nobody touches. So pages wait in a heap and are never scored
 * again. (Exponential aging is such a policy: see policy.c.)
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
    /* Lower leaves first. Finite. */
    double (*score)(const dp_page_heat *heat);
} dp_policy;

extern const dp_policy dp_policy_lru;
extern const dp_policy dp_policy_lfru; /* frequency with exponential aging */

/* Of a demand in the aged count. Replaying 42,000 tokens of a 7 x 32 expert model
 * (bench/tier/replay_policy.c), hit rates are within 0.003 of the best for 64 to 512
 * ticks and every cache size; a shorter one follows a change of text sooner. */
#define DP_POLICY_HALF_LIFE_TICKS 128.0

const dp_policy *dp_policy_find(const char *name); /* NULL: unknown */

#endif
