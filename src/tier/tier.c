#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "tier/tier_impl.h"

#define PAGES_FIRST      256          /* then twice as many each time, up to DP_PAGES_MAX */
#define PROGRESS_WAIT_NS 100000000ull /* so that a canceled pin ends soon */

/* Tables of experts, by layer and number. */
static dp_status open_experts(dp_tier *tier, const dp_tier_config *config, dp_error *err)
{
    uint64_t count = (uint64_t)config->layer_count * config->expert_count;

    if (count == 0)
        return DP_OK;
    if (count > DP_PAGES_MAX)
        return dp_fail(err, DP_E_LIMIT, "the model has more than %u experts", DP_PAGES_MAX);
    tier->layer_count = config->layer_count;
    tier->expert_count = config->expert_count;
    tier->experts = dp_alloc_zero((size_t)count, sizeof(dp_page *));
    tier->expert_batch = dp_alloc(tier->expert_count, sizeof *tier->expert_batch);
    tier->expert_hits = dp_alloc(tier->expert_count, sizeof *tier->expert_hits);
    if (!tier->experts || !tier->expert_batch || !tier->expert_hits)
        return dp_fail(err, DP_E_NOMEM, "tier: no memory for a table of %llu experts",
                       (unsigned long long)count);
    return dp_forecast_open(&tier->forecast, tier->layer_count, tier->expert_count, err);
}

dp_status dp_tier_open(dp_tier **out, const dp_tier_config *config, dp_error *err)
{
    dp_tier *tier;
    dp_status st;

    *out = NULL;
    tier = dp_alloc_zero(1, sizeof *tier);
    if (!tier)
        return dp_fail(err, DP_E_NOMEM, "tier: no memory for its tables");
    tier->policy = config->policy;
    tier->source = config->source;
    tier->clock = config->clock;
    dp_mutex_init(&tier->lock);
    dp_cond_init(&tier->changed);
    /* No sum of bytes below wraps. */
    dp_slots_init(&tier->slots, DP_MIN(config->budget_bytes, (uint64_t)INT64_MAX / 2));
    dp_link_init(&tier->queue);
    dp_link_init(&tier->loads);
    dp_link_init(&tier->batches);
    dp_link_init(&tier->hinted);
    st = open_experts(tier, config, err);
    if (!st) {
        *out = tier;
        tier = NULL;
    }
    dp_tier_close(tier);
    return st;
}

void dp_tier_close(dp_tier *tier)
{
    if (!tier)
        return;
    dp_mutex_lock(&tier->lock);
    DP_CHECK(tier->lease_count == 0 && dp_link_is_alone(&tier->batches));
    dp_tier_cancel_unwanted_locked(tier, UINT64_MAX);
    while (!dp_link_is_alone(&tier->loads))
        dp_cond_wait(&tier->changed, &tier->lock);
    dp_mutex_unlock(&tier->lock);

    for (uint32_t i = 0; i < tier->page_count; i++) {
        if (!tier->pages[i])
            continue;
        dp_slots_release(&tier->slots, tier->pages[i]->slot);
        dp_page_close(tier->pages[i]);
    }
    dp_slots_deinit(&tier->slots);
    dp_heap_deinit(&tier->evictable);
    dp_free(tier->pages);
    dp_free(tier->experts);
    dp_free(tier->expert_batch);
    dp_free(tier->expert_hits);
    dp_forecast_close(tier->forecast);
    dp_cond_deinit(&tier->changed);
    dp_mutex_deinit(&tier->lock);
    dp_free(tier);
}

/* Caller holds tier->lock. Room in the tables for one page more, in the heap too: a
 * page that ends its last lease finds its place without asking for memory. */
static dp_status reserve_page_locked(dp_tier *tier, dp_error *err)
{
    uint32_t capacity = tier->page_capacity ? 2 * tier->page_capacity : PAGES_FIRST;
    dp_page **pages;

    if (tier->hole_count || tier->page_count < tier->page_capacity)
        return DP_OK;
    if (tier->page_count == DP_PAGES_MAX)
        return dp_fail(err, DP_E_LIMIT, "the model has more than %u pages", DP_PAGES_MAX);
    if (!dp_heap_reserve(&tier->evictable, capacity))
        return dp_fail(err, DP_E_NOMEM, "tier: no memory for a table of %u pages", capacity);
    pages = dp_realloc(tier->pages, capacity, sizeof(dp_page *));
    if (!pages)
        return dp_fail(err, DP_E_NOMEM, "tier: no memory for a table of %u pages", capacity);
    tier->pages = pages;
    tier->page_capacity = capacity;
    return DP_OK;
}

/* Caller holds tier->lock; there is room. */
static dp_page_id place_page_locked(dp_tier *tier, dp_page *page)
{
    dp_page_id id = tier->page_count;

    if (tier->hole_count) {
        for (id = 0; tier->pages[id];)
            id++;
        tier->hole_count--;
    } else {
        tier->page_count++;
    }
    tier->pages[id] = page;
    return id;
}

static bool is_forecast(const dp_tier *tier, const dp_page *page)
{
    return page->kind == DP_PAGE_EXPERT && page->layer < tier->layer_count &&
           page->index < tier->expert_count;
}

/* Caller holds tier->lock. Where the forecast finds the page. */
static dp_page **expert_locked(dp_tier *tier, const dp_page *page)
{
    return &tier->experts[(size_t)page->layer * tier->expert_count + page->index];
}

dp_status dp_tier_add_page(dp_tier *tier, const dp_page_desc *desc, dp_page_id *out, dp_error *err)
{
    dp_page *page = NULL;
    dp_status st;

    *out = DP_PAGE_NONE;
    dp_mutex_lock(&tier->lock);
    st = reserve_page_locked(tier, err);
    if (st)
        goto done;
    st = dp_page_open(&page, desc, tier->source, err);
    if (st)
        goto done;
    *out = place_page_locked(tier, page);
    if (is_forecast(tier, page))
        *expert_locked(tier, page) = page;
    tier->largest_bytes = DP_MAX(tier->largest_bytes, page->bytes);
    tier->all_bytes += page->bytes;
done:
    dp_mutex_unlock(&tier->lock);
    return st;
}

uint64_t dp_tier_page_bytes(const dp_tier *tier, dp_page_id page)
{
    DP_CHECK(page < tier->page_count);
    return tier->pages[page]->bytes;
}

size_t dp_tier_page_count(const dp_tier *tier)
{
    return tier->page_count;
}

bool dp_tier_is_pinned(dp_tier *tier, dp_page_id page)
{
    bool is_pinned;

    DP_CHECK(page < tier->page_count);
    dp_mutex_lock(&tier->lock);
    is_pinned = tier->pages[page]->is_pinned;
    dp_mutex_unlock(&tier->lock);
    return is_pinned;
}

/* Caller holds tier->lock. */
static void find_largest_locked(dp_tier *tier)
{
    tier->largest_bytes = 0;
    for (uint32_t i = 0; i < tier->page_count; i++)
        if (tier->pages[i] && !tier->pages[i]->is_pinned)
            tier->largest_bytes = DP_MAX(tier->largest_bytes, tier->pages[i]->bytes);
}

/* Caller holds tier->lock. The largest page that stays unpinned must fit beside all
 * pinned ones: then whatever is wanted can be had. */
static dp_status check_pinned_locked(dp_tier *tier, uint64_t budget_bytes, dp_error *err)
{
    if (tier->pinned_bytes + tier->largest_bytes <= budget_bytes)
        return DP_OK;
    return dp_fail(err, DP_E_BUDGET,
                   "weights that stay (%llu bytes) and the largest page beside them (%llu) do not "
                   "fit in %llu: allow more (--ram)",
                   (unsigned long long)tier->pinned_bytes, (unsigned long long)tier->largest_bytes,
                   (unsigned long long)budget_bytes);
}

/* Caller holds tier->lock. */
static void pin_page_locked(dp_tier *tier, dp_page *page)
{
    if (page->state == DP_PAGE_RESIDENT && page->lease_count == 0)
        dp_tier_forbid_evict_locked(tier, page);
    page->is_pinned = true;
    page->pinned_bytes = page->slot ? page->slot->capacity : page->bytes;
    tier->pinned_bytes += page->pinned_bytes;
}

/* Caller holds tier->lock. */
static void unpin_page_locked(dp_tier *tier, dp_page *page)
{
    page->is_pinned = false;
    tier->pinned_bytes -= page->pinned_bytes;
    page->pinned_bytes = 0;
    if (page->state == DP_PAGE_RESIDENT && page->lease_count == 0)
        dp_tier_allow_evict_locked(tier, page);
}

/* Caller holds tier->lock. */
static void unpin_all_locked(dp_tier *tier, const dp_page_id *pages, const uint8_t *is_new,
                             size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is_new[i])
            unpin_page_locked(tier, tier->pages[pages[i]]);
    find_largest_locked(tier);
    dp_tier_settle_locked(tier);
}

void dp_tier_remove_page(dp_tier *tier, dp_page_id page)
{
    dp_mutex_lock(&tier->lock);
    DP_CHECK(page < tier->page_count && tier->pages[page]);
    dp_tier_vacate_locked(tier, tier->pages[page]);
    tier->all_bytes -= tier->pages[page]->bytes;
    dp_tier_forget_hint_locked(tier, tier->pages[page]);
    if (is_forecast(tier, tier->pages[page]))
        *expert_locked(tier, tier->pages[page]) = NULL;
    dp_page_close(tier->pages[page]);
    tier->pages[page] = NULL;
    tier->hole_count++;
    find_largest_locked(tier);
    dp_tier_settle_locked(tier);
    dp_mutex_unlock(&tier->lock);
}

/* Marks pages before they are loaded, so that room is kept for all of them. is_new
 * [count] tells which were not pinned before; on failure none is. */
static dp_status pin_all(dp_tier *tier, const dp_page_id *pages, uint8_t *is_new, size_t count,
                         uint64_t *total_bytes, dp_error *err)
{
    dp_status st;

    *total_bytes = 0;
    dp_mutex_lock(&tier->lock);
    for (size_t i = 0; i < count; i++) {
        dp_page *page;
        DP_CHECK(pages[i] < tier->page_count);
        page = tier->pages[pages[i]];
        is_new[i] = !page->is_pinned;
        *total_bytes += page->data_bytes;
        if (is_new[i])
            pin_page_locked(tier, page);
    }
    find_largest_locked(tier);
    st = check_pinned_locked(tier, tier->slots.budget_bytes, err);
    if (st)
        unpin_all_locked(tier, pages, is_new, count);
    dp_mutex_unlock(&tier->lock);
    return st;
}

typedef struct pin_progress {
    bool (*report)(void *user, uint64_t done, uint64_t total);
    void *user;
    uint64_t done_bytes, total_bytes;
} pin_progress;

/* Loads marked pages, at most DP_TIER_BATCH_MAX. */
static dp_status load_pinned(dp_tier *tier, const dp_page_id *pages, size_t count, uint8_t *scratch,
                             pin_progress *progress, dp_error *err)
{
    dp_tier_batch batch;
    dp_status st;

    st = dp_tier_want_uncounted(tier, pages, count, scratch, &batch, err);
    while (st == DP_OK || st == DP_E_TIMEOUT) {
        dp_lease lease;
        size_t index;
        if (progress->report &&
            !progress->report(progress->user, progress->done_bytes, progress->total_bytes)) {
            st = dp_fail(err, DP_E_CANCELED, "loading was canceled");
            break;
        }
        st = dp_tier_next(&batch, &lease, &index, PROGRESS_WAIT_NS, err);
        if (st == DP_OK) {
            progress->done_bytes += lease._page->data_bytes;
            dp_tier_release(tier, &lease);
        }
    }
    dp_tier_batch_end(&batch);
    return st == DP_E_NOTFOUND ? DP_OK : st;
}

dp_status dp_tier_pin(dp_tier *tier, const dp_page_id *pages, size_t count,
                      bool (*progress)(void *user, uint64_t done, uint64_t total), void *user,
                      dp_error *err)
{
    pin_progress state = { progress, user };
    uint8_t *is_new = NULL;
    uint8_t *scratch = NULL;
    dp_status st = DP_OK;

    is_new = dp_alloc_zero(count, 1);
    scratch = dp_alloc(DP_MIN(count, DP_TIER_BATCH_MAX), 1);
    if (!is_new || !scratch) {
        st = dp_fail(err, DP_E_NOMEM, "tier: no memory to pin %zu pages", count);
        goto done;
    }
    st = pin_all(tier, pages, is_new, count, &state.total_bytes, err);
    if (st)
        goto done;
    for (size_t i = 0; st == DP_OK && i < count; i += DP_TIER_BATCH_MAX) {
        size_t part = DP_MIN(count - i, DP_TIER_BATCH_MAX);
        st = load_pinned(tier, pages + i, part, scratch, &state, err);
    }
    if (st) {
        dp_mutex_lock(&tier->lock);
        unpin_all_locked(tier, pages, is_new, count);
        dp_mutex_unlock(&tier->lock);
    }
done:
    dp_free(is_new);
    dp_free(scratch);
    return st;
}

void dp_tier_unpin(dp_tier *tier, const dp_page_id *pages, size_t count)
{
    dp_mutex_lock(&tier->lock);
    for (size_t i = 0; i < count; i++) {
        DP_CHECK(pages[i] < tier->page_count);
        if (tier->pages[pages[i]]->is_pinned)
            unpin_page_locked(tier, tier->pages[pages[i]]);
    }
    find_largest_locked(tier);
    dp_tier_settle_locked(tier);
    dp_mutex_unlock(&tier->lock);
}

void dp_tier_tick(dp_tier *tier)
{
    dp_mutex_lock(&tier->lock);
    tier->tick++;
    dp_tier_expire_hints_locked(tier);
    if (tier->tick > 1) /* prefetched before the last step: stale */
        dp_tier_cancel_unwanted_locked(tier, tier->tick - 1);
    dp_tier_settle_locked(tier);
    dp_mutex_unlock(&tier->lock);
}

dp_status dp_tier_set_budget(dp_tier *tier, uint64_t budget_bytes, dp_error *err)
{
    dp_status st;

    budget_bytes = DP_MIN(budget_bytes, (uint64_t)INT64_MAX / 2);
    dp_mutex_lock(&tier->lock);
    st = check_pinned_locked(tier, budget_bytes, err);
    if (st == DP_OK) {
        tier->slots.budget_bytes = budget_bytes;
        dp_tier_settle_locked(tier);
    }
    dp_mutex_unlock(&tier->lock);
    return st;
}
