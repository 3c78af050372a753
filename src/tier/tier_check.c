#include "base/assert.h"
#include "tier/tier_impl.h"

typedef struct sums {
    uint64_t used_bytes, evictable_bytes, pinned_bytes, lease_count;
    uint32_t queued_count, loading_count, evictable_count;
} sums;

/* Claims of all batches on the page that count in want_count or lease_count. */
static uint32_t count_claims(dp_tier *tier, const dp_page *page)
{
    uint32_t count = 0;

    for (dp_link *link = tier->batches.next; link != &tier->batches; link = link->next) {
        dp_tier_batch *batch = DP_LISTED(link, dp_tier_batch, _link);
        for (size_t i = 0; i < batch->_count; i++)
            count += tier->pages[batch->_pages[i]] == page &&
                     (batch->_state[i] == DP_CLAIM_WAITING || batch->_state[i] == DP_CLAIM_LEASED);
    }
    return count;
}

/* Invariants (1) to (3) of page.h. */
static void check_page(dp_tier *tier, const dp_page *page, sums *sums)
{
    bool is_here = page->state == DP_PAGE_RESIDENT;
    bool is_loading = page->state == DP_PAGE_LOADING;
    bool is_queued = page->state == DP_PAGE_QUEUED;
    bool is_evictable = is_here && page->lease_count == 0 && !page->is_pinned;
    uint32_t claim_count = count_claims(tier, page);

    DP_CHECK(page->lease_count == 0 || is_here);
    DP_CHECK(page->want_count == 0 || is_queued || is_loading);
    DP_CHECK(page->want_count > 0 || !is_queued);
    DP_CHECK(is_here ? page->lease_count >= claim_count : page->want_count == claim_count);
    DP_CHECK((page->slot != NULL) == (is_here || is_loading));
    DP_CHECK((page->load != NULL) == is_loading);
    DP_CHECK(dp_link_is_alone(&page->queue_link) == !is_queued);
    DP_CHECK((page->evict_item.at != DP_HEAP_NOWHERE) == is_evictable);
    DP_CHECK(page->pinned_bytes >= (page->is_pinned ? page->bytes : 0));
    DP_CHECK(page->is_pinned || page->pinned_bytes == 0);
    DP_CHECK(!page->is_pinned || !page->slot || page->slot->capacity <= page->pinned_bytes);
    DP_CHECK(!page->is_prefetched || (is_here ? page->lease_count == 0 : is_loading));
    if (page->slot) {
        DP_CHECK(page->slot->capacity >= page->bytes);
        sums->used_bytes += page->slot->capacity;
        sums->evictable_bytes += is_evictable ? page->slot->capacity : 0;
    }
    sums->evictable_count += is_evictable;
    sums->queued_count += is_queued;
    sums->loading_count += is_loading;
    sums->lease_count += page->lease_count;
    sums->pinned_bytes += page->pinned_bytes;
}

static uint32_t list_count(const dp_link *head)
{
    uint32_t count = 0;

    for (const dp_link *link = head->next; link != head; link = link->next)
        count++;
    return count;
}

/* (4), and that nothing is left to do: settle has run after the last change. */
static void check_room(dp_tier *tier)
{
    const dp_slots *slots = &tier->slots;
    uint64_t fixed = slots->used_bytes - tier->evictable_bytes;

    if (dp_slots_bytes(slots) > slots->budget_bytes)
        DP_CHECK(slots->kept_bytes == 0 && tier->evictable.count == 0);
    if (!dp_link_is_alone(&tier->queue)) {
        dp_page *first = DP_LISTED(tier->queue.next, dp_page, queue_link);
        DP_CHECK(fixed + first->bytes > slots->budget_bytes);
        for (dp_link *link = tier->loads.next; link != &tier->loads; link = link->next) {
            dp_load *load = DP_LISTED(link, dp_load, link);
            DP_CHECK(load->is_canceled || load->page->want_count || load->page->is_pinned);
        }
    }
}

static void check_hints(dp_tier *tier)
{
    size_t count = 0;

    for (uint32_t i = 0; i < tier->page_count; i++) {
        const dp_page *page = tier->pages[i];
        if (!page)
            continue;
        DP_CHECK((page->hint_end != 0) == !dp_link_is_alone(&page->hint_link));
        count += page->hint_end != 0;
    }
    DP_CHECK(count == list_count(&tier->hinted));
}

void dp_tier_check(dp_tier *tier)
{
    sums sums = { 0 };

    dp_mutex_lock(&tier->lock);
    for (uint32_t i = 0; i < tier->page_count; i++)
        if (tier->pages[i])
            check_page(tier, tier->pages[i], &sums);
    DP_CHECK(sums.used_bytes == tier->slots.used_bytes);
    DP_CHECK(sums.evictable_bytes == tier->evictable_bytes);
    DP_CHECK(sums.evictable_count == tier->evictable.count);
    DP_CHECK(sums.pinned_bytes == tier->pinned_bytes);
    DP_CHECK(sums.lease_count == tier->lease_count);
    DP_CHECK(sums.queued_count == list_count(&tier->queue));
    DP_CHECK(sums.loading_count == list_count(&tier->loads));
    check_room(tier);
    check_hints(tier);
    dp_mutex_unlock(&tier->lock);
}
