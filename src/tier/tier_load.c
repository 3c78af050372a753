/* Room and loads: who waits, who leaves, what is read.
 *
 * Why nobody waits for ever. Suppose a caller waits in dp_tier_next and no page
 * of its batch is ready. Then its page loads, which ends, or is queued. Look at
 * the first page of the queue, which is served before all others.
 *
 *   - Its batch was refused unless it fits beside the pinned pages alone, and
 *     neither pinning nor shrinking may break that. So it lacks room only while
 *     other slots are leased or loading.
 *   - Loads end. Those that nobody waits for are canceled on the spot.
 *   - Leases are of two kinds. Those a batch has not been served yet are handed
 *     out before that batch may wait: whoever waits in next holds none, and two
 *     batches cannot block each other by them. Those the caller has been served
 *     are in use and end with the use - unless the caller keeps them while it
 *     waits, which tier.h allows only to those for whom both fit.
 *   - When the last of them ends, settle runs and serves the first page.
 *
 * A page that came for a batch is leased to it at once and so cannot be evicted
 * before the batch saw it: every page is loaded once for each time it is wanted
 * at most, and no two batches can steal room from each other in turns. */
#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "tier/tier_impl.h"

/* A kept slot may be larger than the page by this part of it. It covers how sectors
 * widen ranges differently; tensors of another type shall not waste the budget. */
#define SLACK_PART 16

/* Of so many that are to leave next, one goes first whose slot the page can have as it is: to
 * resize a slot has the system zero memory, and splits its huge pages. */
#define LEAVERS DP_HEAP_FIRST_MAX

void dp_tier_enqueue_locked(dp_tier *tier, dp_page *page)
{
    page->state = DP_PAGE_QUEUED;
    dp_link_insert(&tier->queue, &page->queue_link);
}

void dp_tier_note_use_locked(dp_tier *tier, dp_page *page)
{
    page->tick = tier->tick;
    page->evict_item.order = ++tier->use_count;
}

void dp_tier_allow_evict_locked(dp_tier *tier, dp_page *page)
{
    if (page->is_pinned)
        return;
    page->evict_item.score = dp_tier_score_locked(tier, page);
    dp_heap_add(&tier->evictable, &page->evict_item);
    tier->evictable_bytes += page->slot->capacity;
}

void dp_tier_forbid_evict_locked(dp_tier *tier, dp_page *page)
{
    dp_heap_remove(&tier->evictable, &page->evict_item);
    tier->evictable_bytes -= page->slot->capacity;
}

static void drop_slot_locked(dp_tier *tier, dp_page *page)
{
    dp_slots_release(&tier->slots, page->slot);
    page->slot = NULL;
    page->is_prefetched = false;
    page->is_warm = false;
    page->hits = 0;
    page->state = DP_PAGE_ABSENT;
}

static void evict_locked(dp_tier *tier, dp_page *page)
{
    DP_CHECK(page->state == DP_PAGE_RESIDENT && page->lease_count == 0 && !page->is_pinned);
    dp_tier_forbid_evict_locked(tier, page);
    if (page->is_prefetched)
        tier->stats.prefetch_wasted_bytes += page->data_bytes;
    tier->stats.evictions++;
    drop_slot_locked(tier, page);
}

static dp_page *page_of(dp_heap_item *item)
{
    return DP_LISTED(item, dp_page, evict_item);
}

/* Not hinted in this step or the last, or wanted since: what a prefetch may evict (6). A page
 * used in this step is not spared: its next use is further away than that of most others. */
static bool is_idle(const dp_tier *tier, const dp_page *page)
{
    return page->hint_end == 0 || page->hint_end < tier->tick;
}

/* Puts the item where it belongs among the first ones, in order; the last of too many is lost. */
static void insert(dp_heap_item **first, uint32_t *count, dp_heap_item *item)
{
    uint32_t at = *count;

    if (at < LEAVERS)
        ++*count;
    else if (!dp_heap_before(item, first[--at]))
        return;
    for (; at > 0 && dp_heap_before(item, first[at - 1]); at--)
        first[at] = first[at - 1];
    first[at] = item;
}

/* Those that leave next, in order, for a demand or for a prefetch. Prefetches are few enough for
 * a scan. */
static uint32_t leavers_locked(const dp_tier *tier, bool is_prefetch, dp_heap_item **first)
{
    const dp_heap *heap = &tier->evictable;
    uint32_t count = 0;

    if (!is_prefetch)
        return dp_heap_first(heap, first, LEAVERS);
    for (uint32_t i = 0; i < heap->count; i++)
        if (is_idle(tier, page_of(heap->items[i])))
            insert(first, &count, heap->items[i]);
    return count;
}

/* The page that leaves for one of `bytes`. NULL: none may. */
static dp_page *victim_locked(const dp_tier *tier, uint64_t bytes, uint64_t slack, bool is_prefetch)
{
    dp_heap_item *first[LEAVERS];
    uint32_t count = leavers_locked(tier, is_prefetch, first);

    for (uint32_t i = 0; i < count; i++) {
        dp_page *page = page_of(first[i]);
        if (page->slot->capacity >= bytes && page->slot->capacity - bytes <= slack)
            return page;
    }
    return count ? page_of(first[0]) : NULL;
}

static uint64_t idle_bytes_locked(dp_tier *tier)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < tier->evictable.count; i++) {
        dp_page *page = page_of(tier->evictable.items[i]);
        if (is_idle(tier, page))
            bytes += page->slot->capacity;
    }
    return bytes;
}

/* Whether evicting what may be evicted would make room. Asked first, so that nothing
 * leaves in vain. */
static bool can_have_room_locked(dp_tier *tier, const dp_page *page, bool is_prefetch)
{
    uint64_t budget = tier->slots.budget_bytes;
    uint64_t fixed = tier->slots.used_bytes - tier->evictable_bytes;

    if (!is_prefetch)
        return fixed + page->bytes <= budget;
    return fixed + page->bytes + tier->largest_bytes <= budget &&
           tier->slots.used_bytes - idle_bytes_locked(tier) + page->bytes <= budget;
}

/* Gives the page a slot, evicting as needed: before reading, because the budget is
 * promised and not measured. DP_E_BUSY without a sentence; DP_E_NOMEM. */
static dp_status acquire_slot_locked(dp_tier *tier, dp_page *page, bool is_prefetch, dp_error *err)
{
    /* Pinned pages take exactly what was counted for them. */
    uint64_t slack = page->is_pinned ? 0 : page->bytes / SLACK_PART;
    dp_status st;

    if (!can_have_room_locked(tier, page, is_prefetch))
        return DP_E_BUSY;
    for (;;) {
        dp_page *victim;
        st = dp_slots_acquire(&tier->slots, page->bytes, slack, &page->slot);
        if (st != DP_E_BUSY)
            break;
        victim = victim_locked(tier, page->bytes, slack, is_prefetch);
        DP_CHECK(victim);
        evict_locked(tier, victim);
    }
    if (st) {
        char name[48];
        return dp_fail(err, st, "%s: the system has no memory for its %llu bytes",
                       dp_page_text(name, page), (unsigned long long)page->bytes);
    }
    return DP_OK;
}

/* How long it took; who is wanted uncounted, or no expert where there are some, does not count. */
static void count_arrival_locked(dp_tier *tier, const dp_page *page)
{
    uint64_t now = dp_clock_now_ns(tier->clock);

    if (!page->latency || (page->kind != DP_PAGE_EXPERT && tier->expert_count))
        return;
    dp_tier_count_latency_locked(tier, page->latency, now - page->want_ns);
    if (page->latency == &tier->stats.times.ahead)
        return;
    dp_tier_count_latency_locked(tier, &tier->stats.times.turn,
                                 now - DP_MAX(page->want_ns, tier->turn_ns));
    tier->turn_ns = now;
}

/* The page came: who waited for it has it leased before anybody can evict it. */
static void arrive_locked(dp_tier *tier, dp_page *page)
{
    page->state = DP_PAGE_RESIDENT;
    page->arrival = ++tier->arrival_count;
    tier->stats.loads++;
    count_arrival_locked(tier, page);
    if (page->is_warm) { /* from here on as if it had been demanded */
        page->is_warm = false;
        page->is_prefetched = false;
    }
    if (page->want_count == 0) {
        dp_tier_allow_evict_locked(tier, page);
        return;
    }
    page->lease_count = page->want_count;
    tier->lease_count += page->want_count;
    page->want_count = 0;
}

/* All reads of the load have ended. Frees it. */
static void end_load_locked(dp_tier *tier, dp_load *load)
{
    dp_page *page = load->page;

    dp_link_remove(&load->link);
    if (dp_link_is_alone(&tier->loads))
        tier->stats.busy_ns += dp_clock_now_ns(tier->clock) - tier->busy_begin_ns;
    page->load = NULL;
    if (load->error.status == DP_OK) {
        arrive_locked(tier, page);
    } else {
        if (page->is_prefetched)
            tier->stats.prefetch_wasted_bytes += load->arrived_bytes;
        if (!load->is_canceled)
            tier->stats.load_failures++;
        drop_slot_locked(tier, page); /* (5) */
        if (page->want_count && load->is_canceled) {
            /* Wanted after we gave it up: it was here before all that wait. */
            page->state = DP_PAGE_QUEUED;
            dp_link_insert(tier->queue.next, &page->queue_link);
        } else if (page->want_count) {
            dp_tier_fail_claims_locked(tier, page, &load->error);
        }
    }
    dp_free(load);
    dp_cond_broadcast(&tier->changed);
}

/* A read ended: with its bytes, with an error, or taken back. The first error stays. */
static void end_read_locked(dp_load *load, uint32_t i, const dp_error *error)
{
    DP_CHECK(load->pending > 0 && !(load->ended >> i & 1));
    load->ended |= 1u << i;
    load->pending--;
    if (!error) {
        load->arrived_bytes += load->reads[i].size;
        load->tier->stats.read_bytes += load->reads[i].size;
    } else if (load->error.status == DP_OK) {
        load->error = *error;
    }
}

/* Takes back what the source has not begun; `done` of the rest will run. */
static void cancel_reads_locked(dp_load *load)
{
    static const dp_error canceled = { DP_E_CANCELED, "canceled" };
    dp_source *source = load->tier->source;

    for (uint32_t i = 0; i < load->page->part_count; i++)
        if (!(load->ended >> i & 1) && source->ops->cancel(source, &load->reads[i]))
            end_read_locked(load, i, &canceled);
}

/* dp_source_read.done */
static void read_done(dp_source_read *read, const dp_error *error)
{
    dp_load *load = read->user;
    dp_tier *tier = load->tier;
    bool is_first_error;

    dp_mutex_lock(&tier->lock);
    is_first_error = error && load->error.status == DP_OK;
    end_read_locked(load, (uint32_t)(read - load->reads), error);
    if (is_first_error)
        cancel_reads_locked(load);
    if (load->pending == 0) {
        end_load_locked(tier, load);
        dp_tier_settle_locked(tier);
    }
    dp_mutex_unlock(&tier->lock);
}

static void submit_locked(dp_tier *tier, dp_load *load, bool is_prefetch, uint64_t due)
{
    dp_page *page = load->page;

    for (uint32_t i = 0; i < page->part_count; i++) {
        const dp_page_place *place = &page->places[i];
        dp_source_read *read = &load->reads[i];

        read->file_index = place->part.file_index;
        read->offset = place->part.offset;
        read->size = place->part.size;
        read->room = page->slot->bytes + place->at;
        read->is_prefetch = is_prefetch;
        read->due = due;
        read->done = read_done;
        read->user = load;
        page->data[i] = (const uint8_t *)read->room + place->lead;
        tier->source->ops->submit(tier->source, read);
    }
}

/* ABSENT or QUEUED -> LOADING. The page's state is unchanged on failure: DP_E_BUSY
 * without a sentence when there is no room now, DP_E_NOMEM. */
static dp_status start_load_locked(dp_tier *tier, dp_page *page, bool is_prefetch, uint64_t due,
                                   dp_error *err)
{
    size_t size = sizeof(dp_load) + page->part_count * sizeof(dp_source_read);
    dp_load *load;
    dp_status st;

    st = acquire_slot_locked(tier, page, is_prefetch, err);
    if (st)
        return st;
    load = dp_alloc_zero(1, size);
    if (!load) {
        char name[48];
        dp_slots_release(&tier->slots, page->slot);
        page->slot = NULL;
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for the table of a load",
                       dp_page_text(name, page));
    }
    load->tier = tier;
    load->page = page;
    load->pending = page->part_count;
    if (dp_link_is_alone(&tier->loads))
        tier->busy_begin_ns = dp_clock_now_ns(tier->clock);
    dp_link_insert(&tier->loads, &load->link);
    dp_link_remove(&page->queue_link);
    page->load = load;
    page->state = DP_PAGE_LOADING;
    submit_locked(tier, load, is_prefetch, due);
    return DP_OK;
}

/* A load that nobody waits for. True: it has ended, and its slot is free. */
static bool cancel_load_locked(dp_tier *tier, dp_load *load)
{
    bool has_ended;

    load->is_canceled = true;
    cancel_reads_locked(load);
    has_ended = load->pending == 0;
    if (has_ended)
        end_load_locked(tier, load);
    return has_ended;
}

bool dp_tier_cancel_unwanted_locked(dp_tier *tier, uint64_t tick_end)
{
    bool is_any_ended = false;
    dp_link *next;

    for (dp_link *link = tier->loads.next; link != &tier->loads; link = next) {
        dp_load *load = DP_LISTED(link, dp_load, link);
        dp_page *page = load->page;

        next = link->next;
        if (load->is_canceled || page->want_count || page->is_pinned || page->tick >= tick_end ||
            (page->is_warm && tick_end != UINT64_MAX))
            continue;
        is_any_ended |= cancel_load_locked(tier, load);
    }
    return is_any_ended;
}

void dp_tier_vacate_locked(dp_tier *tier, dp_page *page)
{
    DP_CHECK(page->lease_count == 0 && page->want_count == 0 && !page->is_pinned);
    if (page->state == DP_PAGE_LOADING && !page->load->is_canceled)
        cancel_load_locked(tier, page->load);
    while (page->state == DP_PAGE_LOADING)
        dp_cond_wait(&tier->changed, &tier->lock);
    if (page->state == DP_PAGE_RESIDENT) {
        dp_tier_forbid_evict_locked(tier, page);
        drop_slot_locked(tier, page);
    }
}

/* After the budget became smaller: what may leave leaves, least useful first. */
static void shrink_locked(dp_tier *tier)
{
    uint64_t budget = tier->slots.budget_bytes;

    for (;;) {
        dp_slots_trim(&tier->slots, budget);
        if (dp_slots_bytes(&tier->slots) <= budget)
            return;
        if (tier->evictable.count)
            evict_locked(tier, page_of(tier->evictable.items[0]));
        else if (!dp_tier_cancel_unwanted_locked(tier, UINT64_MAX))
            return;
    }
}

void dp_tier_settle_locked(dp_tier *tier)
{
    DP_ASSERT(dp_mutex_is_held(&tier->lock));
    shrink_locked(tier);
    while (!dp_link_is_alone(&tier->queue)) {
        dp_page *page = DP_LISTED(tier->queue.next, dp_page, queue_link);
        dp_error error;
        dp_status st;

        st = start_load_locked(tier, page, false, 0, &error);
        if (st == DP_E_BUSY) {
            if (!dp_tier_cancel_unwanted_locked(tier, UINT64_MAX))
                return;
        } else if (st) {
            dp_link_remove(&page->queue_link);
            page->state = DP_PAGE_ABSENT;
            tier->stats.load_failures++;
            dp_tier_fail_claims_locked(tier, page, &error);
            dp_cond_broadcast(&tier->changed);
        }
    }
}

void dp_tier_forget_hint_locked(dp_tier *tier, dp_page *page)
{
    if (!page->hint_end)
        return;
    page->hint_end = 0;
    dp_link_remove(&page->hint_link);
    dp_tier_rescore_locked(tier, page);
}

void dp_tier_expire_hints_locked(dp_tier *tier)
{
    dp_link *next;

    for (dp_link *link = tier->hinted.next; link != &tier->hinted; link = next) {
        dp_page *page = DP_LISTED(link, dp_page, hint_link);

        next = link->next;
        if (page->hint_end < tier->tick)
            dp_tier_forget_hint_locked(tier, page);
    }
}

static void note_hint_locked(dp_tier *tier, dp_page *page)
{
    page->hint_end = tier->tick + 1;
    if (dp_link_is_alone(&page->hint_link))
        dp_link_insert(&tier->hinted, &page->hint_link);
    dp_tier_rescore_locked(tier, page);
}

static void prefetch(dp_tier *tier, const dp_page_id *pages, size_t count, bool is_warm,
                     uint64_t due)
{
    dp_mutex_lock(&tier->lock);
    /* All are spared before the first looks for room: none leaves for another. */
    for (size_t i = 0; i < count; i++) {
        DP_CHECK(pages[i] < tier->page_count);
        note_hint_locked(tier, tier->pages[pages[i]]);
    }
    for (size_t i = 0; i < count; i++) {
        dp_page *page = tier->pages[pages[i]];
        if (page->state != DP_PAGE_ABSENT)
            continue;
        if (!dp_link_is_alone(&tier->queue))
            break; /* demand waits for room (6) */
        if (start_load_locked(tier, page, true, due, NULL) == DP_OK) {
            page->is_prefetched = true;
            page->is_warm = is_warm;
            page->latency = &tier->stats.times.ahead;
            page->want_ns = dp_clock_now_ns(tier->clock);
            dp_tier_note_use_locked(tier, page);
        } else if (is_warm) {
            break; /* the best come first */
        }
    }
    dp_mutex_unlock(&tier->lock);
}

void dp_tier_prefetch(dp_tier *tier, const dp_page_id *pages, size_t count, uint64_t due)
{
    prefetch(tier, pages, count, false, due);
}

void dp_tier_warm(dp_tier *tier, const dp_page_id *pages, size_t count)
{
    prefetch(tier, pages, count, true, UINT64_MAX);
}

void dp_tier_give_up(dp_tier *tier, const dp_page_id *pages, size_t count)
{
    dp_mutex_lock(&tier->lock);
    for (size_t i = 0; i < count; i++) {
        dp_page *page;

        DP_CHECK(pages[i] < tier->page_count);
        page = tier->pages[pages[i]];
        if (page->want_count)
            continue;
        dp_tier_forget_hint_locked(tier, page);
        if (page->state == DP_PAGE_LOADING && page->is_prefetched && !page->is_warm &&
            !page->is_pinned && !page->load->is_canceled)
            cancel_load_locked(tier, page->load);
    }
    dp_tier_settle_locked(tier);
    dp_mutex_unlock(&tier->lock);
}
