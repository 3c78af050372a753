/* sim.h - what other caches would have held: hits of policies and sizes on a stream
 * of demands, without a byte of the model.
 *
 * Room     Counters of every expert, shared by all simulated caches, for they
 *          depend on the demands alone; and for every cache which pages it
 *          would hold. The same policies as the tier's, in the same order of
 *          events: of a demand, hits are counted first and cannot leave, misses
 *          evict the lowest score, arrivals count.
 *
 * Belady   The rule that knows the future: what is wanted latest leaves. No policy
 *          that has to hold each demanded page can hit more often, for pages of one size;
 *          with several sizes it is a good bound and not a proof.
 *          Source: Belady 1966; Mattson et al. 1970.
 *
 * Threads  One at a time.
 */
#ifndef DP_TIER_SIM_H
#define DP_TIER_SIM_H

#include "doppler/status.h"
#include "tier/demands.h"
#include "tier/policy.h"

#define DP_SIM_CACHES_MAX 256

typedef struct dp_sim_shape {
    uint32_t layer_count, expert_count;
    const uint64_t *page_bytes; /* [layer_count] of an expert; 0: the layer has none. Borrowed */
} dp_sim_shape;

typedef struct dp_sim_cache {
    const dp_policy *policy;
    uint64_t capacity_bytes;
    uint64_t hits, wants, missed_bytes; /* since open or the last dp_sim_forget */
} dp_sim_cache;

typedef struct dp_sim dp_sim;

/* Caches, all empty, as `caches` [count] says (its counts are not read). DP_E_NOMEM,
 * DP_E_LIMIT. */
dp_status dp_sim_open(dp_sim **out, const dp_sim_shape *shape, const dp_sim_cache *caches,
                      uint32_t count, dp_error *err);
void dp_sim_close(dp_sim *sim); /* NULL is fine */

/* The next demand: a layer and experts within the shape, distinct. Others are ignored. */
void dp_sim_demand(dp_sim *sim, const dp_demand *demand);
/* All of the list, in order. */
void dp_sim_replay(dp_sim *sim, const dp_demands *demands);

const dp_sim_cache *dp_sim_result(const dp_sim *sim, uint32_t cache);
void dp_sim_forget(dp_sim *sim); /* counts from here; the caches keep what they hold */
/* Another budget; what is too much leaves. */
void dp_sim_set_capacity(dp_sim *sim, uint32_t cache, uint64_t capacity_bytes);

/* Hits of Belady's rule on the whole list, from an empty cache. DP_E_NOMEM. */
dp_status dp_sim_belady(const dp_demands *demands, const dp_sim_shape *shape,
                        uint64_t capacity_bytes, uint64_t *hits, uint64_t *wants, dp_error *err);

/* Bytes of all pages of the shape. */
uint64_t dp_sim_total_bytes(const dp_sim_shape *shape);

#endif
