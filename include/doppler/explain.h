/* explain.h - why a run hit as often as it did: policies, cache sizes, latencies, prefetch.
 *
 * Shadow caches follow a part of the run (tier/shadow.h); their last burst of steps is the
 * window that curves and the bound are computed on, each from an empty cache.
 */
#ifndef DOPPLER_EXPLAIN_H
#define DOPPLER_EXPLAIN_H

#include "doppler/engine.h"
#include "doppler/stats.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DP_EXPLAIN_POLICIES_MAX 8
#define DP_EXPLAIN_POINTS_MAX   8
#define DP_EXPLAIN_TIERS_MAX    4

typedef struct dp_explain_policy {
    const char *name, *summary;
    double live;   /* hit rate of its shadow, on an average of bursts */
    double window; /* and over the window */
} dp_explain_policy;

typedef struct dp_explain_point { /* hit rates over the window, by memory for experts */
    double share;                 /* of all experts */
    uint64_t bytes;
    double used, lru, belady; /* used: by the policy in use */
} dp_explain_point;

typedef struct dp_explain_tier {
    const char *name; /* "disk"; "swarm": from elsewhere, its cache included */
    uint64_t read_bytes;
    uint64_t busy_ns; /* something was being read */
    dp_page_times times;
} dp_explain_tier;

typedef struct dp_explain {
    char policy[8];                   /* in use */
    bool is_auto;                     /* it was chosen, and may change */
    bool is_contended;                /* not all pages fit; else nobody ever leaves */
    bool has_window;                  /* shadows followed the run, so that what follows is known */
    uint32_t changes;                 /* of the policy */
    uint32_t bursts;                  /* that shadows have judged */
    uint32_t layers_followed, layers; /* of those with experts */
    double shadow_time_share;         /* of the run, spent on shadows */
    uint64_t expert_bytes, cache_bytes; /* all experts; memory they share */
    uint64_t window_steps;
    double window_used, window_belady; /* hit rates at cache_bytes; regret is their difference */
    dp_explain_policy policies[DP_EXPLAIN_POLICIES_MAX];
    uint32_t policy_count;
    dp_explain_point points[DP_EXPLAIN_POINTS_MAX];
    uint32_t point_count;
    dp_explain_tier tiers[DP_EXPLAIN_TIERS_MAX];
    uint32_t tier_count;
    uint64_t prefetch_hits, prefetch_useful_bytes, prefetch_wasted_bytes;
    char heat[12]; /* "off", "new", "restored" */
} dp_explain;

/* Between steps; takes tens of milliseconds and memory beside the budget. DP_E_NOMEM. */
DP_API dp_status dp_engine_explain(dp_engine *engine, dp_explain *out, dp_error *err);

#ifdef __cplusplus
}
#endif
#endif
