/* flat_tier.c - what src/model calls of tier/tier.h, without paging: a double for steps_bench.c.
 *
 * Room     Every page is read when it is registered, into one region of budget_bytes, and stays
 *          there. A want hands out pointers, in the order of its pages. No lock, no counts, no
 *          heat, nobody waits: what an engine that loads its model whole would do. A program that
 *          links this file takes nothing of tier.c from the library.
 *
 * Threads  One.
 */
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "tier/source_wait.h"
#include "tier/tier.h"

#define PART_ALIGN 64 /* a cache line */

typedef struct flat_page {
    const uint8_t *parts[DP_PAGE_PARTS_MAX];
    uint64_t bytes;
} flat_page;

struct dp_tier {
    dp_source *source;
    uint8_t *region; /* [budget_bytes], of which used */
    uint64_t budget_bytes, used;
    flat_page *pages; /* [count] of capacity */
    uint32_t count, capacity;
};

dp_status dp_tier_open(dp_tier **out, const dp_tier_config *config, dp_error *err)
{
    dp_tier *tier = dp_alloc_zero(1, sizeof *tier);

    *out = NULL;
    if (!tier)
        return dp_fail(err, DP_E_NOMEM, "flat tier: no memory");
    *tier = (dp_tier){ .source = config->source,
                       .region = dp_map_acquire(config->budget_bytes),
                       .budget_bytes = config->budget_bytes };
    if (!tier->region) {
        dp_free(tier);
        return dp_fail(err, DP_E_NOMEM, "flat tier: %llu bytes",
                       (unsigned long long)config->budget_bytes);
    }
    *out = tier;
    return DP_OK;
}

void dp_tier_close(dp_tier *tier)
{
    if (!tier)
        return;
    dp_map_release(tier->region, tier->budget_bytes);
    dp_free(tier->pages);
    dp_free(tier);
}

static dp_status read_part(dp_tier *tier, const dp_page_part *part, const uint8_t **data,
                           dp_error *err)
{
    uint64_t at = dp_align_up(tier->used, PART_ALIGN);

    if (part->size > tier->budget_bytes - DP_MIN(at, tier->budget_bytes))
        return dp_fail(err, DP_E_BUDGET, "flat tier: the model takes more than %llu bytes",
                       (unsigned long long)tier->budget_bytes);
    tier->used = at + part->size;
    *data = tier->region + at;
    return dp_source_wait_read(tier->source, part->file_index, part->offset, tier->region + at,
                               part->size, NULL, err);
}

dp_status dp_tier_add_page(dp_tier *tier, const dp_page_desc *desc, dp_page_id *out, dp_error *err)
{
    dp_status st = DP_OK;
    flat_page page = { 0 };

    for (uint32_t i = 0; i < desc->part_count && !st; i++) {
        st = read_part(tier, &desc->parts[i], &page.parts[i], err);
        page.bytes += desc->parts[i].size;
    }
    if (st)
        return st;
    if (tier->count == tier->capacity) {
        uint32_t capacity = DP_MAX(2 * tier->capacity, 1024u);
        flat_page *pages = dp_realloc(tier->pages, capacity, sizeof *pages);
        if (!pages)
            return dp_fail(err, DP_E_NOMEM, "flat tier: %u pages", capacity);
        tier->pages = pages;
        tier->capacity = capacity;
    }
    tier->pages[tier->count] = page;
    *out = tier->count++;
    return DP_OK;
}

void dp_tier_remove_page(dp_tier *tier, dp_page_id page)
{
    DP_CHECK(page < tier->count); /* its bytes stay: adapters alone are removed */
}

uint64_t dp_tier_page_bytes(const dp_tier *tier, dp_page_id page)
{
    return tier->pages[page].bytes;
}

size_t dp_tier_page_count(const dp_tier *tier)
{
    return tier->count;
}

bool dp_tier_is_pinned(dp_tier *tier, dp_page_id page)
{
    return page < tier->count;
}

dp_status dp_tier_pin(dp_tier *tier, const dp_page_id *pages, size_t count,
                      bool (*progress)(void *user, uint64_t done, uint64_t total), void *user,
                      dp_error *err)
{
    return DP_OK; /* all of them are */
}

dp_status dp_tier_want(dp_tier *tier, const dp_page_id *pages, size_t count, uint8_t *scratch,
                       dp_tier_batch *batch, dp_error *err)
{
    batch->_tier = tier;
    batch->_pages = pages;
    batch->_count = count;
    batch->_served = 0;
    return DP_OK;
}

dp_status dp_tier_want_uncounted(dp_tier *tier, const dp_page_id *pages, size_t count,
                                 uint8_t *scratch, dp_tier_batch *batch, dp_error *err)
{
    return dp_tier_want(tier, pages, count, scratch, batch, err);
}

dp_status dp_tier_next(dp_tier_batch *batch, dp_lease *lease, size_t *index, uint64_t timeout_ns,
                       dp_error *err)
{
    if (batch->_served == batch->_count)
        return DP_E_NOTFOUND;
    *index = batch->_served++;
    lease->page = batch->_pages[*index];
    lease->parts = batch->_tier->pages[lease->page].parts;
    return DP_OK;
}

void dp_tier_release(dp_tier *tier, dp_lease *lease)
{
    lease->page = DP_PAGE_NONE;
}

void dp_tier_batch_end(dp_tier_batch *batch)
{
    batch->_tier = NULL;
}

dp_status dp_tier_acquire(dp_tier *tier, dp_page_id page, dp_lease *lease, uint64_t timeout_ns,
                          dp_error *err)
{
    lease->page = page;
    lease->parts = tier->pages[page].parts;
    return DP_OK;
}

void dp_tier_prefetch(dp_tier *tier, const dp_page_id *pages, size_t count, uint64_t due)
{
}

void dp_tier_give_up(dp_tier *tier, const dp_page_id *pages, size_t count)
{
}

void dp_tier_tick(dp_tier *tier)
{
}

uint64_t dp_tier_shared_bytes(dp_tier *tier, bool *is_contended)
{
    *is_contended = false;
    return tier->budget_bytes;
}

void dp_tier_stats_read(dp_tier *tier, dp_tier_stats *out)
{
    memset(out, 0, sizeof *out);
}
