/* tier_impl.h - the tier's inside, shared by tier*.c and by nobody else.
 *
 * Files    tier.c        pages, pins, budget, ticks: the slow calls
 *          tier_batch.c  wants, waiting, leases
 *          tier_demand.c what a demand teaches: counters, forecast, scores
 *          tier_load.c   room, eviction, loads, prefetch
 *          tier_stats.c  counters and latencies
 *          tier_check.c  the invariants as a function, for tests
 */
#ifndef DP_TIER_TIER_IMPL_H
#define DP_TIER_TIER_IMPL_H

#include "base/thread.h"
#include "tier/forecast.h"
#include "tier/page.h"

/* What became of a want. */
typedef enum dp_want { DP_WANT_HIT, DP_WANT_PREFETCH_HIT, DP_WANT_MISS, DP_WANT_COUNT } dp_want;

/* dp_tier_batch._state: what the batch still has coming of a page. */
typedef enum dp_claim {
    DP_CLAIM_WAITING, /* counted in want_count; once the page is RESIDENT, in lease_count */
    DP_CLAIM_LEASED,  /* a hit: counted in lease_count */
    DP_CLAIM_SERVED,  /* its lease is the caller's */
    DP_CLAIM_FAILED   /* counted nowhere */
} dp_claim;

typedef struct dp_load {
    dp_tier *tier;
    dp_page *page;
    bool is_canceled; /* by us: waiters that came later get a new load, not an error */
    uint32_t pending; /* reads that have not ended */
    uint32_t ended;   /* bit i: reads[i] has; DP_PAGE_PARTS_MAX bits */
    uint64_t arrived_bytes;
    dp_error error;         /* the first */
    dp_link link;           /* tier->loads, oldest first */
    dp_source_read reads[]; /* [page->part_count] */
} dp_load;

_Static_assert(DP_PAGE_PARTS_MAX <= 32, "dp_load.ended has a bit for each part");

struct dp_tier {
    dp_source *source;
    const dp_clock *clock;
    uint32_t layer_count, expert_count; /* as configured; without experts 0 */
    dp_tier_observer observer;          /* its functions may be NULL */

    /* Guards all below and the pages. Taken before locks of the source; never
     * held across I/O or a caller's function. */
    dp_mutex lock;
    dp_cond changed; /* a page arrived or failed; a load ended */

    const dp_policy *policy;
    dp_forecast *forecast;  /* NULL: no experts */
    dp_page **experts;      /* [layer_count * expert_count]; NULL: not registered */
    uint32_t *expert_batch; /* [expert_count] the experts of a demand ... */
    uint8_t *expert_hits;   /* ... and which of them are hits */

    dp_page **pages; /* [page_count] */
    uint32_t page_count, page_capacity;
    uint32_t hole_count;    /* of pages[], NULL: removed */
    uint64_t largest_bytes; /* of an unpinned page */
    uint64_t pinned_bytes;
    uint64_t all_bytes; /* of all pages */

    dp_slots slots;
    dp_heap evictable;
    uint64_t evictable_bytes; /* slot bytes of the pages in it */

    dp_link queue; /* of QUEUED pages, first wanted first */
    dp_link loads;
    uint64_t busy_begin_ns; /* `loads` is not empty: since then */
    dp_link batches;        /* begun, not ended */
    dp_link hinted;         /* pages, see page.h */

    uint64_t tick;
    uint64_t use_count;     /* orders demands and prefetches */
    uint64_t arrival_count; /* orders arrivals */
    uint64_t turn_ns;       /* the last arrival that somebody waited for */
    uint64_t lease_count;   /* of all pages */
    uint64_t wants[DP_PAGE_KIND_COUNT][DP_WANT_COUNT];
    dp_tier_stats stats; /* what is counted as it happens */
};

/* All of these: the caller holds tier->lock. */

/* tier_demand.c: pages are wanted; before any is claimed. */
void dp_tier_note_demand_locked(dp_tier *tier, const dp_page_id *pages, size_t count);
/* By the policy of now; lower leaves first, what is hinted last. */
double dp_tier_score_locked(const dp_tier *tier, const dp_page *page);
/* The page's place among those that may leave, if it is one, after something changed. */
void dp_tier_rescore_locked(dp_tier *tier, dp_page *page);

/* tier_load.c: after anything that may have made room or need of it (a lease or a
 * load ended, a want, another budget): serves the queue, shrinks to the budget. */
void dp_tier_settle_locked(dp_tier *tier);
/* Puts an ABSENT page that is wanted at the end of the queue. */
void dp_tier_enqueue_locked(dp_tier *tier, dp_page *page);
/* The page is used now, by demand or prefetch. Not while it may be evicted. */
void dp_tier_note_use_locked(dp_tier *tier, dp_page *page);
/* A RESIDENT page without leases waits to be evicted, unless it is pinned. */
void dp_tier_allow_evict_locked(dp_tier *tier, dp_page *page);
void dp_tier_forbid_evict_locked(dp_tier *tier, dp_page *page);
/* Cancels what loads for nobody: of pages last used before `tick_end`. True: at
 * least one slot was given back at once. */
bool dp_tier_cancel_unwanted_locked(dp_tier *tier, uint64_t tick_end);

/* The page is not hinted any more. */
void dp_tier_forget_hint_locked(dp_tier *tier, dp_page *page);
/* A tick began: hints that are over. */
void dp_tier_expire_hints_locked(dp_tier *tier);

/* Takes the memory of a page nobody leases, wants or has pinned; releases the lock
 * while it waits for reads to end. */
void dp_tier_vacate_locked(dp_tier *tier, dp_page *page);

/* tier_batch.c: every batch that waits for the page hears why it will not come. */
void dp_tier_fail_claims_locked(dp_tier *tier, dp_page *page, const dp_error *error);

/* tier_stats.c */
void dp_tier_count_latency_locked(dp_tier *tier, dp_latency *latency, uint64_t ns);

/* tier_check.c: stops the program where an invariant of tier.h or page.h does not
 * hold. Takes the lock; slow. Any thread, between calls. */
void dp_tier_check(dp_tier *tier);

#endif
