#include "base/assert.h"
#include "tier/tier_impl.h"

#define HINTED_SCORE 1e300 /* above every policy's: whatever it was, it is wanted next */

static bool is_hit(const dp_page *page)
{
    return page->state == DP_PAGE_RESIDENT && !page->is_prefetched;
}

/* Caller holds tier->lock. The layer's own place in the step, in ticks: of two pages due in
 * the same step the one of the later layer is due later. */
static double phase_locked(const dp_tier *tier, const dp_page *page)
{
    return tier->layer_count ? (double)page->layer / tier->layer_count : 0;
}

double dp_tier_score_locked(const dp_tier *tier, const dp_page *page)
{
    return page->hint_end ? HINTED_SCORE : tier->policy->score(&page->heat, page->hits);
}

void dp_tier_rescore_locked(dp_tier *tier, dp_page *page)
{
    if (page->evict_item.at != DP_HEAP_NOWHERE)
        dp_heap_move(&tier->evictable, &page->evict_item, dp_tier_score_locked(tier, page));
}

/* Caller holds tier->lock. The set of experts wanted tells about all of their layer. */
static void forecast_locked(dp_tier *tier, uint32_t layer, uint32_t count)
{
    dp_page **pages = tier->experts + (size_t)layer * tier->expert_count;
    const float *steps;
    double now;

    dp_forecast_demand(tier->forecast, layer, tier->expert_batch, count);
    steps = dp_forecast_layer(tier->forecast, layer);
    now = (double)tier->tick + (double)layer / tier->layer_count;
    for (uint32_t e = 0; e < tier->expert_count; e++) {
        if (!pages[e])
            continue;
        pages[e]->heat.due = now + (double)steps[e];
        if (tier->policy->moves_layer)
            dp_tier_rescore_locked(tier, pages[e]);
    }
}

/* Caller holds tier->lock. */
static bool is_contended_locked(const dp_tier *tier)
{
    return tier->all_bytes > tier->slots.budget_bytes;
}

void dp_tier_note_demand_locked(dp_tier *tier, const dp_page_id *pages, size_t count)
{
    uint32_t expert_count = 0, layer = UINT32_MAX;

    DP_ASSERT(dp_mutex_is_held(&tier->lock));
    for (size_t i = 0; i < count; i++) {
        dp_page *page = tier->pages[pages[i]];

        dp_heat_touch(&page->heat, tier->tick);
        page->heat.due += phase_locked(tier, page);
        if (page->kind != DP_PAGE_EXPERT || page->layer >= tier->layer_count ||
            page->index >= tier->expert_count || (expert_count && page->layer != layer))
            continue;
        layer = page->layer;
        tier->expert_hits[expert_count] = is_hit(page);
        tier->expert_batch[expert_count++] = page->index;
    }
    if (expert_count && tier->observer.demand)
        tier->observer.demand(tier->observer.user, layer, tier->expert_batch, tier->expert_hits,
                              expert_count);
    /* Where all pages fit, nobody leaves, and there is nothing to choose. */
    if (expert_count && is_contended_locked(tier))
        forecast_locked(tier, layer, expert_count);
}

void dp_tier_set_policy(dp_tier *tier, const dp_policy *policy)
{
    dp_mutex_lock(&tier->lock);
    tier->policy = policy;
    for (uint32_t i = 0; i < tier->page_count; i++)
        if (tier->pages[i])
            dp_tier_rescore_locked(tier, tier->pages[i]);
    dp_mutex_unlock(&tier->lock);
}

void dp_tier_set_observer(dp_tier *tier, const dp_tier_observer *observer)
{
    dp_mutex_lock(&tier->lock);
    tier->observer = *observer;
    dp_mutex_unlock(&tier->lock);
}

uint64_t dp_tier_shared_bytes(dp_tier *tier, bool *is_contended)
{
    uint64_t bytes;

    dp_mutex_lock(&tier->lock);
    *is_contended = is_contended_locked(tier);
    bytes = tier->slots.budget_bytes - DP_MIN(tier->pinned_bytes, tier->slots.budget_bytes);
    dp_mutex_unlock(&tier->lock);
    return bytes;
}
