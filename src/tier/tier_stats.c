#include <math.h>

#include "base/assert.h"
#include "tier/tier_impl.h"

#define BUCKETS_PER_OCTAVE 4
#define BUCKET_FIRST_NS    1000.0

void dp_tier_count_latency_locked(dp_tier *tier, dp_latency *latency, uint64_t ns)
{
    double octaves = log2(DP_MAX((double)ns, BUCKET_FIRST_NS) / BUCKET_FIRST_NS);
    uint32_t bucket = (uint32_t)(octaves * BUCKETS_PER_OCTAVE);

    DP_ASSERT(dp_mutex_is_held(&tier->lock));
    latency->buckets[DP_MIN(bucket, DP_LATENCY_BUCKETS - 1)]++;
    latency->max_ns = DP_MAX(latency->max_ns, ns);
}

uint64_t dp_latency_count(const dp_latency *latency)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < DP_LATENCY_BUCKETS; i++)
        total += latency->buckets[i];
    return total;
}

uint64_t dp_latency_quantile(const dp_latency *latency, double q)
{
    uint64_t total = dp_latency_count(latency);
    uint64_t below = 0;

    for (uint32_t i = 0; i < DP_LATENCY_BUCKETS; i++) {
        below += latency->buckets[i];
        /* the bucket's middle, as ratios go: at most 9 % off */
        if (below && (double)below >= q * (double)total)
            return (uint64_t)(BUCKET_FIRST_NS * exp2((i + 0.5) / BUCKETS_PER_OCTAVE));
    }
    return 0;
}

void dp_tier_stats_read(dp_tier *tier, dp_tier_stats *out)
{
    const uint64_t *expert = tier->wants[DP_PAGE_EXPERT];
    const uint64_t *always = tier->wants[DP_PAGE_ALWAYS];

    dp_mutex_lock(&tier->lock);
    *out = tier->stats;
    if (!dp_link_is_alone(&tier->loads))
        out->busy_ns += dp_clock_now_ns(tier->clock) - tier->busy_begin_ns;
    out->budget_bytes = tier->slots.budget_bytes;
    out->slot_bytes = dp_slots_bytes(&tier->slots);
    out->slot_bytes_max = tier->slots.bytes_max;
    out->pinned_bytes = tier->pinned_bytes;
    out->page_bytes_max = tier->largest_bytes;
    out->page_count = tier->page_count - tier->hole_count;
    out->lease_count = tier->lease_count;
    for (uint32_t i = 0; i < tier->page_count; i++)
        out->resident_count += tier->pages[i] && tier->pages[i]->state == DP_PAGE_RESIDENT;
    out->expert_hits = expert[DP_WANT_HIT];
    out->expert_misses = expert[DP_WANT_MISS];
    out->expert_prefetch_hits = expert[DP_WANT_PREFETCH_HIT];
    out->always_hits = always[DP_WANT_HIT];
    out->always_misses = always[DP_WANT_MISS];
    out->always_prefetch_hits = always[DP_WANT_PREFETCH_HIT];
    dp_mutex_unlock(&tier->lock);
}
