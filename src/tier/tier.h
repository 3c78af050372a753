/* tier.h - who holds which bytes of the model, where, until when.
 *
 * Room     Pages are registered once (ranges of the model's files), then leased.
 *          A lease is the right to read a resident page until released. The
 *          tier loads what is missing, evicts what the policy says, and never
 *          holds more slot bytes than its budget, promised before any I/O.
 *
 * Page     ABSENT --want--> LOADING --loaded--> RESIDENT --evict--> ABSENT
 *                              '----failed----> ABSENT
 *
 * Invariants
 *   (1) leases > 0 only in RESIDENT; bytes are read only under a lease and
 *       never written after loading.
 *   (2) evict needs leases == 0 and the page not pinned.
 *   (3) one load per page at a time; all who want it share it.
 *   (4) bytes of all slots (loading, resident, free but kept) <= budget_bytes; after a
 *       smaller budget was set, as soon as leases and loads that hold more have ended.
 *   (5) a failed load leaves no slot behind and reaches everyone who waits.
 *   (6) demand is served before prefetch; a prefetch never evicts a page hinted in
 *       this step or the last and neither wanted nor given up since (demand evicts such
 *       pages last), leaves room for the largest page a demand could need, and gives its
 *       own room back when a demand waits for it.
 *
 * Hits     A page is a hit when it is RESIDENT at the moment it is wanted, a
 *          prefetch hit when a prefetch for it is in flight or brought it in
 *          unused, else a miss. Only EXPERT pages count in the expert numbers.
 *
 * Waiting  Whoever holds a lease while waiting for another needs both to fit. A
 *          batch asks for nothing but one page's room at a time to make
 *          progress: leases of a batch should be released as they are used.
 *          Pages that wait for room get it in the order they were wanted, over
 *          all batches (the argument why nobody waits for ever: tier_load.c).
 *
 * Streams  Pages that every step uses once, in order, and that cannot all stay, are
 *          read ahead by wanting them early: a batch of one page each, begun k
 *          pages before its use, with room for k + 1. Prefetching them would not
 *          do, for all that could make room was used in this step (6).
 *
 * Threads  Any; one lock inside, never held across I/O.
 */
#ifndef DP_TIER_TIER_H
#define DP_TIER_TIER_H

#include "base/clock.h"
#include "base/list.h"
#include "doppler/stats.h"
#include "tier/policy.h"
#include "tier/source.h"

typedef struct dp_tier dp_tier;
typedef uint32_t dp_page_id;

#define DP_PAGE_NONE      UINT32_MAX
#define DP_PAGE_PARTS_MAX 24 /* a dense layer of DeepSeek-V3 has 13 tensors */
#define DP_PAGES_MAX      (1u << 22)
#define DP_TIER_BATCH_MAX 4096 /* pages in one want: experts of a layer */

typedef enum dp_page_kind {
    DP_PAGE_ALWAYS,
    DP_PAGE_EXPERT,
    DP_PAGE_ADAPTER, /* what an adapter adds to one page of the model */
    DP_PAGE_KIND_COUNT
} dp_page_kind;

typedef struct dp_page_part {
    uint32_t file_index;
    uint64_t offset, size; /* bytes of that file; size > 0 */
} dp_page_part;

typedef struct dp_page_desc {
    dp_page_kind kind;
    uint32_t layer, index; /* for reports: which layer, which expert */
    uint32_t part_count;
    dp_page_part parts[DP_PAGE_PARTS_MAX]; /* read in this order */
} dp_page_desc;

/* Who hears what is wanted: recorders and shadow caches. */
typedef struct dp_tier_observer {
    /* A counted want of experts of one layer, in the order wanted; is_hit as in "Hits".
     * Under the tier's lock: quick, and no calls back. NULL: none. */
    void (*demand)(void *user, uint32_t layer, const uint32_t *experts, const uint8_t *is_hit,
                   uint32_t count);
    void *user;
} dp_tier_observer;

typedef struct dp_tier_config {
    uint64_t budget_bytes; /* for slots */
    const dp_policy *policy;
    dp_source *source;     /* borrowed; outlives the tier */
    const dp_clock *clock; /* borrowed */
    /* Layers 0 .. layer_count - 1 have experts 0 .. expert_count - 1, some layers none.
     * 0: no experts, or none whose next use shall be forecast. */
    uint32_t layer_count, expert_count;
} dp_tier_config;

typedef struct dp_lease {
    dp_page_id page;
    const uint8_t *const *parts; /* [part_count] data of each part; valid until released */
    struct dp_page *_page;
} dp_lease;

dp_status dp_tier_open(dp_tier **out, const dp_tier_config *config, dp_error *err);
/* Cancels what loads, waits for it, frees everything. No lease may be held. */
void dp_tier_close(dp_tier *tier);

/* Registers a page, at any time: numbers count up, those of removed pages come again.
 * Its largest page must fit beside what is pinned before it is wanted. DP_E_NOMEM,
 * DP_E_LIMIT. */
dp_status dp_tier_add_page(dp_tier *tier, const dp_page_desc *desc, dp_page_id *out, dp_error *err);
/* Forgets a page that is neither leased, wanted nor pinned; waits for a load of it to
 * be given up. */
void dp_tier_remove_page(dp_tier *tier, dp_page_id page);
uint64_t dp_tier_page_bytes(const dp_tier *tier, dp_page_id page); /* slot bytes it takes */
size_t dp_tier_page_count(const dp_tier *tier);
bool dp_tier_is_pinned(dp_tier *tier, dp_page_id page);

/* Loads pages and keeps them for the tier's life; progress (may be NULL) is called on
 * the calling thread with bytes done of bytes in all, a few times a second at least
 * and with all of them at the end, and returns false to cancel.
 * Nothing is pinned then. DP_E_BUDGET when they do not fit together with the largest
 * page that stays unpinned, DP_E_NOMEM, DP_E_IO ..., DP_E_CANCELED. */
dp_status dp_tier_pin(dp_tier *tier, const dp_page_id *pages, size_t count,
                      bool (*progress)(void *user, uint64_t done, uint64_t total), void *user,
                      dp_error *err);

/* Pinned pages may leave again, when room is needed. Others are passed over. */
void dp_tier_unpin(dp_tier *tier, const dp_page_id *pages, size_t count);

/* A set of pages wanted together: hits first, then arrivals as they complete. Not
 * moved between want and end. One thread at a time. */
typedef struct dp_tier_batch {
    dp_tier *_tier; /* NULL: not begun */
    const dp_page_id *_pages;
    size_t _count, _served;
    uint8_t *_state; /* [count] */
    size_t _failed_index;
    dp_error _error; /* the first page that failed ends the batch */
    dp_link _link;
} dp_tier_batch;

/* Begins a batch: counts hits and misses, leases the hits, starts loading the
 * misses in order as far as there is room. pages [count] are distinct and, with
 * scratch [count], stay the caller's and alive until dp_tier_batch_end.
 * DP_E_BUDGET when a page can never fit; otherwise errors come from next. */
dp_status dp_tier_want(dp_tier *tier, const dp_page_id *pages, size_t count, uint8_t *scratch,
                       dp_tier_batch *batch, dp_error *err);

/* The same without counting hits and misses or touching heat: for pages that are to stay,
 * and for pages of a want that ended early. */
dp_status dp_tier_want_uncounted(dp_tier *tier, const dp_page_id *pages, size_t count,
                                 uint8_t *scratch, dp_tier_batch *batch, dp_error *err);

/* The next ready page: *index is its place in pages. Waits at most timeout_ns
 * (DP_E_TIMEOUT; ask again). DP_E_NOTFOUND, without a sentence, when all were
 * served: ordinary. The first page that could not be loaded ends the batch: the
 * error says why, *index which, and further calls repeat it. */
dp_status dp_tier_next(dp_tier_batch *batch, dp_lease *lease, size_t *index, uint64_t timeout_ns,
                       dp_error *err);
void dp_tier_release(dp_tier *tier, dp_lease *lease);
/* Returns what was not served; leases stay. Always call it: after a failed want, and
 * twice, it does nothing. */
void dp_tier_batch_end(dp_tier_batch *batch);

/* One page, waiting: want, next, end. */
dp_status dp_tier_acquire(dp_tier *tier, dp_page_id page, dp_lease *lease, uint64_t timeout_ns,
                          dp_error *err);

/* Hints: starts loads on idle bandwidth and free or evictable room (6), those with the
 * lowest `due` first. Never fails; a hint that cannot be followed now is dropped. One that
 * nobody wanted by the end of the next step is canceled if it still loads. */
void dp_tier_prefetch(dp_tier *tier, const dp_page_id *pages, size_t count, uint64_t due);
/* Hints that turned out wrong: as if they had not been given, but for what has come. Those
 * that somebody wants are passed over. */
void dp_tier_give_up(dp_tier *tier, const dp_page_id *pages, size_t count);

/* All zero: nobody. While nothing is wanted. */
void dp_tier_set_observer(dp_tier *tier, const dp_tier_observer *observer);
/* What pages that are not pinned share of the budget. *is_contended: they do not all fit, so
 * that someone has to leave. */
uint64_t dp_tier_shared_bytes(dp_tier *tier, bool *is_contended);

/* Another policy from now on; what is resident is scored anew. */
void dp_tier_set_policy(dp_tier *tier, const dp_policy *policy);

/* Fills free room, in this order until there is no more, on idle bandwidth: what shall be
 * there before anybody asks. Once it came it is as if it had been demanded, and a hit
 * when it is. Never fails. */
void dp_tier_warm(dp_tier *tier, const dp_page_id *pages, size_t count);

/* A new step of the model: the policies' clock. */
void dp_tier_tick(dp_tier *tier);

/* Changes the budget; shrinking evicts at once what it can and the rest as
 * leases end. DP_E_BUDGET when pinned pages and the largest page do not fit. */
dp_status dp_tier_set_budget(dp_tier *tier, uint64_t budget_bytes, dp_error *err);

typedef struct dp_tier_stats {
    uint64_t budget_bytes, slot_bytes, slot_bytes_max, pinned_bytes;
    uint64_t page_bytes_max; /* of those not pinned */
    uint64_t page_count, resident_count, lease_count;
    uint64_t expert_hits, expert_misses, expert_prefetch_hits;
    uint64_t always_hits, always_misses, always_prefetch_hits;
    uint64_t loads, load_failures, evictions;
    uint64_t read_bytes;            /* data bytes that arrived, all sources */
    uint64_t prefetch_useful_bytes; /* of pages wanted after all */
    uint64_t prefetch_wasted_bytes; /* that arrived, and left unused */
    uint64_t wait_ns;               /* callers waited for pages */
    uint64_t busy_ns;               /* something was being read */
    dp_page_times times; /* of experts (without any, of all pages) that were wanted counted */
} dp_tier_stats;

void dp_tier_stats_read(dp_tier *tier, dp_tier_stats *out);
#endif
