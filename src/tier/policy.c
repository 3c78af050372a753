#include "tier/policy.h"

#include <math.h>
#include <string.h>

static float aged(float count, double ticks, double half_life)
{
    return (float)(1 + count * exp2(-ticks / half_life));
}

void dp_heat_touch(dp_page_heat *heat, uint64_t tick)
{
    double ticks = (double)(tick - heat->last_use);

    heat->frequency = aged(heat->frequency, ticks, DP_POLICY_HALF_LIFE_TICKS);
    heat->slow = aged(heat->slow, ticks, DP_POLICY_SLOW_HALF_LIFE_TICKS);
    heat->last_use = tick;
    heat->use_count++;
    heat->due = (double)tick + 1;
}

/* Least recently used: right where use comes in bursts, and the yardstick for
 * everything else. */
static double lru_score(const dp_page_heat *heat, uint32_t hits)
{
    return (double)heat->last_use;
}

/* Segmented: what was wanted once leaves before what was wanted again. A proven page
 * counts as used a while later than it was, instead of living in a segment of its own:
 * the segment's share of the cache would be one more number to choose. */
static double slru_score(const dp_page_heat *heat, uint32_t hits)
{
    return (double)heat->last_use + (hits ? DP_POLICY_PROVEN_TICKS : 0);
}

/* Each demand counts 1 when it happens and half of that a half-life later, so that
 * what was popular in another text fades. The aged count at a time t is
 * count * 2^((last_use - t) / half-life). Its logarithm depends on t by a term that is
 * the same for all pages: leaving it out keeps the order, and scores need no
 * update as time passes. A page that was never demanded counts as one demand,
 * long ago. */
static double aged_score(float count, uint64_t last_use, double half_life)
{
    return log2(count > 0 ? (double)count : 1) + (double)last_use / half_life;
}

static double lfru_score(const dp_page_heat *heat, uint32_t hits)
{
    return aged_score(heat->frequency, heat->last_use, DP_POLICY_HALF_LIFE_TICKS);
}

static double lfu_score(const dp_page_heat *heat, uint32_t hits)
{
    return aged_score(heat->slow, heat->last_use, DP_POLICY_SLOW_HALF_LIFE_TICKS);
}

static double hot_score(const dp_page_heat *heat, uint32_t hits)
{
    return (double)heat->use_count;
}

/* What Belady's rule does, with a forecast in place of the future. */
static double next_score(const dp_page_heat *heat, uint32_t hits)
{
    return -heat->due;
}

const dp_policy dp_policy_lru = { "lru", "the least recently used", false, lru_score };
const dp_policy dp_policy_slru = { "slru", "as lru, pages wanted but once before others", false,
                                   slru_score };
const dp_policy dp_policy_lfru = { "lfru", "the least frequently used, aged over 128 steps", false,
                                   lfru_score };
const dp_policy dp_policy_lfu = { "lfu", "the least frequently used, aged over 2048 steps", false,
                                  lfu_score };
const dp_policy dp_policy_hot = { "hot", "the least used of all times", false, hot_score };
const dp_policy dp_policy_next = { "next", "the one whose next use is forecast latest", true,
                                   next_score };

const dp_policy *const dp_policies[DP_POLICY_COUNT] = {
    &dp_policy_lru, &dp_policy_slru, &dp_policy_lfru,
    &dp_policy_lfu, &dp_policy_hot,  &dp_policy_next,
};

const dp_policy *dp_policy_find(const char *name)
{
    for (size_t i = 0; i < DP_POLICY_COUNT; i++)
        if (!strcmp(name, dp_policies[i]->name))
            return dp_policies[i];
    return NULL;
}
