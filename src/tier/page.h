/* page.h - one movable piece of the model: its ranges, its slot, who counts on it.
 *
 * Room     Tables only. Who moves a page from state to state is tier_load.c.
 *
 * States   as in tier.h; QUEUED is an ABSENT page that is wanted and waits for
 *          room.
 *
 *          ABSENT --want--> QUEUED --room--> LOADING --> RESIDENT --> ABSENT
 *             '---------prefetch--------------^
 *
 * Invariants
 *   (1) lease_count > 0 only in RESIDENT; want_count > 0 only in QUEUED and LOADING,
 *       and always in QUEUED. An arrival turns wants into leases.
 *   (2) slot != NULL in LOADING and RESIDENT alone, load != NULL in LOADING alone.
 *   (3) in the heap: RESIDENT, lease_count == 0, not pinned.
 *
 * Threads  The tier's lock; what open sets is read without.
 */
#ifndef DP_TIER_PAGE_H
#define DP_TIER_PAGE_H

#include "tier/heap.h"
#include "base/list.h"
#include "tier/slot.h"
#include "tier/tier.h"

typedef enum dp_page_state {
    DP_PAGE_ABSENT,
    DP_PAGE_QUEUED,
    DP_PAGE_LOADING,
    DP_PAGE_RESIDENT
} dp_page_state;

typedef struct dp_page_place {
    dp_page_part part;
    uint64_t at;   /* of the part's room in the slot */
    uint32_t lead; /* slack before the data */
} dp_page_place;

typedef struct dp_page {
    /* set by open */
    dp_page_kind kind;
    uint32_t layer, index;
    uint32_t part_count;
    uint64_t bytes;      /* slot bytes */
    uint64_t data_bytes; /* of all parts */

    dp_page_state state;
    bool is_pinned;
    bool is_warm;       /* LOADING to begin warm: no step waits for it or makes it stale */
    bool is_prefetched; /* a prefetch brings or brought it, and nobody wanted it yet */
    uint32_t lease_count;
    uint32_t want_count;   /* batches that wait for it */
    dp_latency *latency;   /* of the tier: where the time it takes to come counts; or NULL */
    uint64_t want_ns;      /* when the first who wants it began, or the load for nobody did */
    uint64_t arrival;      /* RESIDENT: counts pages in the order they came */
    uint64_t tick;         /* of the last demand or prefetch */
    uint64_t hint_end;     /* hinted and not wanted since: the last tick that spares it; else 0 */
    dp_link hint_link;     /* listed then */
    uint64_t pinned_bytes; /* its share of the tier's */
    dp_page_heat heat;
    uint32_t hits; /* since it came */
    dp_slot *slot;
    struct dp_load *load;
    dp_heap_item evict_item;
    dp_link queue_link;

    const uint8_t **data;   /* [part_count] RESIDENT: data of each part */
    dp_page_place places[]; /* [part_count] */
} dp_page;

/* A page laid out as the source wants its ranges. DP_E_NOMEM, DP_E_LIMIT. */
dp_status dp_page_open(dp_page **out, const dp_page_desc *desc, dp_source *source, dp_error *err);
void dp_page_close(dp_page *page); /* NULL is fine */

/* "expert 3 of layer 7", "layer 7", into out[48]. */
const char *dp_page_text(char out[48], const dp_page *page);

#endif
