/* shadow.h - which policy would have hit most: small caches that follow the run beside it.
 *
 * Room     Records bursts of demands as they come, replays each through one simulated
 *          cache a policy (sim.h) in the pauses between steps, compares, and says
 *          which policy to use. A cache of its own for a few layers stands for all
 *          (as SHARDS samples pages; whole layers, because policies learn
 *          within one), with their share of the memory.
 *
 * Cost     Work is done while less than DP_SHADOW_TIME_SHARE of the time since
 *          open was spent on it; what was recorded waits, and nothing is recorded
 *          meanwhile. Memory is at most a DP_SHADOW_BYTES_PART of the experts'.
 *
 * Changes  Another policy is taken when it hit at least DP_SHADOW_MARGIN more often,
 *          on an average over the last bursts, for two bursts in a row; at once
 *          when it is DP_SHADOW_CLEAR_MARGIN.
 *
 * Threads  One at a time.
 */
#ifndef DP_TIER_SHADOW_H
#define DP_TIER_SHADOW_H

#include "base/clock.h"
#include "tier/sim.h"

#define DP_SHADOW_TIME_SHARE   0.003
#define DP_SHADOW_BYTES_PART   256
#define DP_SHADOW_PAGES_MAX    2048
#define DP_SHADOW_BURST_STEPS  256
#define DP_SHADOW_MARGIN       0.004
#define DP_SHADOW_CLEAR_MARGIN 0.04

typedef struct dp_shadow dp_shadow;

/* capacity_bytes: memory that experts share, changed later by dp_shadow_set_capacity.
 * first: the policy in use. *out is NULL on DP_OK where shadows would take too much. */
dp_status dp_shadow_open(dp_shadow **out, const dp_sim_shape *shape, const dp_policy *first,
                         const dp_clock *clock, dp_error *err);
void dp_shadow_close(dp_shadow *shadow); /* NULL is fine */
void dp_shadow_set_capacity(dp_shadow *shadow, uint64_t capacity_bytes);

/* A demand of the step that runs. Copies. */
void dp_shadow_demand(dp_shadow *shadow, uint32_t layer, const uint32_t *experts, uint32_t count);
/* A step begins: works as long as there is time for it. The policy to use from now on. */
const dp_policy *dp_shadow_step(dp_shadow *shadow);

typedef struct dp_shadow_report {
    double hit_rate[DP_POLICY_COUNT]; /* of each of dp_policies, on an average of bursts */
    uint32_t bursts, changes;         /* judged; of policy */
    uint32_t layers, layers_all;      /* that are followed, of how many */
    double time_share;                /* spent on it */
    /* The last burst that was recorded whole, and what stands for all memory there. */
    const dp_demands *window;
    dp_sim_shape window_shape; /* borrowed: until the next call */
    uint64_t window_capacity_bytes;
} dp_shadow_report;

void dp_shadow_report_read(const dp_shadow *shadow, dp_shadow_report *out);

#endif
