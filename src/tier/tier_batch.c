#include "base/assert.h"
#include "base/status.h"
#include "tier/tier_impl.h"

static dp_page *page_at(const dp_tier_batch *batch, size_t i)
{
    return batch->_tier->pages[batch->_pages[i]];
}

/* Caller holds tier->lock. Every page exists and fits beside what is pinned. */
static dp_status check_fit_locked(dp_tier *tier, const dp_page_id *pages, size_t count,
                                  dp_error *err)
{
    uint64_t budget = tier->slots.budget_bytes;

    for (size_t i = 0; i < count; i++) {
        const dp_page *page;
        DP_CHECK(pages[i] < tier->page_count);
        page = tier->pages[pages[i]];
        if (!page->is_pinned && page->bytes + tier->pinned_bytes > budget) {
            char name[48];
            return dp_fail(err, DP_E_BUDGET,
                           "%s takes %llu bytes: more than the %llu that are not pinned of %llu "
                           "for weights (--ram)",
                           dp_page_text(name, page), (unsigned long long)page->bytes,
                           (unsigned long long)(budget - DP_MIN(budget, tier->pinned_bytes)),
                           (unsigned long long)budget);
        }
    }
    return DP_OK;
}

/* Caller holds tier->lock. The want takes part in what is there or on its way, or
 * joins the queue. */
static dp_claim claim_locked(dp_tier *tier, dp_page *page, bool is_counted)
{
    switch (page->state) {
    case DP_PAGE_RESIDENT:
        if (page->lease_count == 0 && !page->is_pinned)
            dp_tier_forbid_evict_locked(tier, page);
        page->lease_count++;
        tier->lease_count++;
        return DP_CLAIM_LEASED;
    case DP_PAGE_LOADING:
        if (page->want_count == 0)
            for (uint32_t i = 0; i < page->part_count; i++)
                if (!(page->load->ended >> i & 1))
                    tier->source->ops->promote(tier->source, &page->load->reads[i]);
        break;
    case DP_PAGE_ABSENT:
        dp_tier_enqueue_locked(tier, page);
        break;
    case DP_PAGE_QUEUED:
        break;
    }
    if (page->want_count++ == 0) {
        page->want_ns = dp_clock_now_ns(tier->clock);
        page->latency = !is_counted                      ? NULL
                        : page->state == DP_PAGE_LOADING ? &tier->stats.times.covered
                                                         : &tier->stats.times.demand;
    }
    return DP_CLAIM_WAITING;
}

/* Caller holds tier->lock; before the claim changes anything. */
static void count_want_locked(dp_tier *tier, dp_page *page)
{
    dp_want want = page->state == DP_PAGE_RESIDENT ? DP_WANT_HIT : DP_WANT_MISS;

    if (page->is_prefetched)
        want = DP_WANT_PREFETCH_HIT;
    page->hits += want == DP_WANT_HIT;
    tier->wants[page->kind][want]++;
}

static dp_status want(dp_tier *tier, const dp_page_id *pages, size_t count, uint8_t *scratch,
                      dp_tier_batch *batch, bool is_counted, dp_error *err)
{
    dp_status st = DP_OK;

    *batch = (dp_tier_batch){ ._pages = pages, ._count = count, ._state = scratch };
    if (count > DP_TIER_BATCH_MAX)
        return dp_fail(err, DP_E_LIMIT, "%zu pages wanted together, at most %d", count,
                       DP_TIER_BATCH_MAX);
    dp_mutex_lock(&tier->lock);
    st = check_fit_locked(tier, pages, count, err);
    if (st)
        goto done;
    batch->_tier = tier;
    dp_link_insert(&tier->batches, &batch->_link);
    if (is_counted)
        dp_tier_note_demand_locked(tier, pages, count);
    /* All hits are leased before the first miss looks for room: no page of the batch
     * leaves for another one of it. */
    for (size_t i = 0; i < count; i++) {
        dp_page *page = tier->pages[pages[i]];
        if (is_counted)
            count_want_locked(tier, page);
        batch->_state[i] = (uint8_t)claim_locked(tier, page, is_counted);
        if (page->is_prefetched)
            tier->stats.prefetch_useful_bytes += page->data_bytes;
        page->is_prefetched = false;
        dp_tier_forget_hint_locked(tier, page);
        if (is_counted)
            dp_tier_note_use_locked(tier, page);
    }
    dp_tier_settle_locked(tier);
done:
    dp_mutex_unlock(&tier->lock);
    return st;
}

dp_status dp_tier_want(dp_tier *tier, const dp_page_id *pages, size_t count, uint8_t *scratch,
                       dp_tier_batch *batch, dp_error *err)
{
    return want(tier, pages, count, scratch, batch, true, err);
}

dp_status dp_tier_want_uncounted(dp_tier *tier, const dp_page_id *pages, size_t count,
                                 uint8_t *scratch, dp_tier_batch *batch, dp_error *err)
{
    return want(tier, pages, count, scratch, batch, false, err);
}

void dp_tier_fail_claims_locked(dp_tier *tier, dp_page *page, const dp_error *error)
{
    page->want_count = 0;
    for (dp_link *link = tier->batches.next; link != &tier->batches; link = link->next) {
        dp_tier_batch *batch = DP_LISTED(link, dp_tier_batch, _link);
        for (size_t i = 0; i < batch->_count; i++) {
            if (batch->_state[i] != DP_CLAIM_WAITING || page_at(batch, i) != page)
                continue;
            batch->_state[i] = DP_CLAIM_FAILED;
            if (batch->_error.status == DP_OK) {
                batch->_error = *error;
                batch->_failed_index = i;
            }
        }
    }
}

/* Caller holds tier->lock. The first hit not served, else the earliest arrival;
 * _count when nothing is ready. */
static size_t find_ready_locked(const dp_tier_batch *batch)
{
    size_t found = batch->_count;

    for (size_t i = 0; i < batch->_count; i++) {
        if (batch->_state[i] == DP_CLAIM_LEASED)
            return i;
        if (batch->_state[i] == DP_CLAIM_WAITING && page_at(batch, i)->state == DP_PAGE_RESIDENT &&
            (found == batch->_count || page_at(batch, i)->arrival < page_at(batch, found)->arrival))
            found = i;
    }
    return found;
}

/* Caller holds tier->lock. */
static dp_status fail_timeout_locked(const dp_tier_batch *batch, uint64_t timeout_ns, dp_error *err)
{
    char name[48] = "a page";

    for (size_t i = 0; i < batch->_count; i++) {
        if (batch->_state[i] == DP_CLAIM_WAITING) {
            dp_page_text(name, page_at(batch, i));
            break;
        }
    }
    return dp_fail(err, DP_E_TIMEOUT, "%s did not come within %.3f s (%s)", name,
                   (double)timeout_ns / 1e9, batch->_tier->source->name);
}

/* Caller holds tier->lock. Waits until a page is ready (its index), all were served
 * (DP_E_NOTFOUND), one failed or time is up. */
static dp_status wait_ready_locked(dp_tier_batch *batch, size_t *index, uint64_t timeout_ns,
                                   dp_error *err)
{
    dp_tier *tier = batch->_tier;
    uint64_t now = dp_clock_now_ns(&dp_clock_real);
    uint64_t end = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;

    for (;;) {
        if (batch->_error.status) {
            *index = batch->_failed_index;
            return dp_fail(err, batch->_error.status, "%s", batch->_error.text);
        }
        if (batch->_served == batch->_count)
            return DP_E_NOTFOUND;
        *index = find_ready_locked(batch);
        if (*index < batch->_count)
            return DP_OK;
        if (now >= end)
            return fail_timeout_locked(batch, timeout_ns, err);
        dp_cond_wait_for(&tier->changed, &tier->lock, end - now);
        now = dp_clock_now_ns(&dp_clock_real);
    }
}

dp_status dp_tier_next(dp_tier_batch *batch, dp_lease *lease, size_t *index, uint64_t timeout_ns,
                       dp_error *err)
{
    dp_tier *tier = batch->_tier;
    uint64_t begin_ns = dp_clock_now_ns(tier->clock);
    dp_status st;

    *lease = (dp_lease){ .page = DP_PAGE_NONE };
    dp_mutex_lock(&tier->lock);
    st = wait_ready_locked(batch, index, timeout_ns, err);
    if (st == DP_OK) {
        dp_page *page = page_at(batch, *index);
        batch->_state[*index] = DP_CLAIM_SERVED;
        batch->_served++;
        *lease = (dp_lease){ batch->_pages[*index], page->data, page };
    }
    tier->stats.wait_ns += dp_clock_now_ns(tier->clock) - begin_ns;
    dp_mutex_unlock(&tier->lock);
    return st;
}

/* Caller holds tier->lock. */
static void unlease_locked(dp_tier *tier, dp_page *page)
{
    DP_CHECK(page->lease_count > 0);
    tier->lease_count--;
    if (--page->lease_count == 0)
        dp_tier_allow_evict_locked(tier, page);
}

void dp_tier_release(dp_tier *tier, dp_lease *lease)
{
    if (!lease->_page)
        return;
    dp_mutex_lock(&tier->lock);
    unlease_locked(tier, lease->_page);
    dp_tier_settle_locked(tier);
    dp_mutex_unlock(&tier->lock);
    *lease = (dp_lease){ .page = DP_PAGE_NONE };
}

/* Caller holds tier->lock. */
static void give_up_claim_locked(dp_tier *tier, dp_page *page, dp_claim claim)
{
    if (claim == DP_CLAIM_SERVED || claim == DP_CLAIM_FAILED)
        return;
    if (page->state == DP_PAGE_RESIDENT) {
        unlease_locked(tier, page);
        return;
    }
    /* A load that nobody waits for any more goes on: its bytes are half here. It is
     * canceled when somebody needs its room. */
    if (--page->want_count == 0 && page->state == DP_PAGE_QUEUED) {
        dp_link_remove(&page->queue_link);
        page->state = DP_PAGE_ABSENT;
    }
}

void dp_tier_batch_end(dp_tier_batch *batch)
{
    dp_tier *tier = batch->_tier;

    if (!tier)
        return;
    dp_mutex_lock(&tier->lock);
    dp_link_remove(&batch->_link);
    for (size_t i = 0; i < batch->_count; i++)
        give_up_claim_locked(tier, page_at(batch, i), (dp_claim)batch->_state[i]);
    dp_tier_settle_locked(tier);
    dp_mutex_unlock(&tier->lock);
    batch->_tier = NULL;
}

dp_status dp_tier_acquire(dp_tier *tier, dp_page_id page, dp_lease *lease, uint64_t timeout_ns,
                          dp_error *err)
{
    dp_tier_batch batch;
    uint8_t state;
    size_t index;
    dp_status st;

    *lease = (dp_lease){ .page = DP_PAGE_NONE };
    st = dp_tier_want(tier, &page, 1, &state, &batch, err);
    if (st)
        return st;
    st = dp_tier_next(&batch, lease, &index, timeout_ns, err);
    dp_tier_batch_end(&batch);
    return st;
}
