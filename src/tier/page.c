#include "tier/page.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

#define PART_ALIGN ((uint64_t)64) /* vectors load whole cache lines */

/* Places part after part in the slot; false when the sum does not fit a number. */
static bool lay_out(dp_page *page, const dp_page_desc *desc, dp_source *source)
{
    uint64_t end = 0;

    for (uint32_t i = 0; i < desc->part_count; i++) {
        const dp_page_part *part = &desc->parts[i];
        dp_source_fit fit;
        uint64_t align;

        DP_ASSERT(part->size > 0);
        fit = source->ops->fit(source, part->file_index, part->offset, part->size);
        align = fit.room % DP_SLOT_ALIGN == 0 ? DP_SLOT_ALIGN : PART_ALIGN;
        if (!dp_u64_add(end, align - 1, &end))
            return false;
        end = dp_align_down(end, align);
        page->places[i] = (dp_page_place){ *part, end, fit.lead };
        if (!dp_u64_add(end, fit.room, &end))
            return false;
        page->data_bytes += part->size; /* room >= size */
    }
    if (end > INT64_MAX)
        return false;
    page->bytes = dp_align_up(end, DP_SLOT_ALIGN);
    return true;
}

dp_status dp_page_open(dp_page **out, const dp_page_desc *desc, dp_source *source, dp_error *err)
{
    uint32_t count = desc->part_count;
    size_t tables = count * (sizeof(dp_page_place) + sizeof(uint8_t *));
    dp_page *page = NULL;
    dp_status st = DP_OK;

    *out = NULL;
    if (count == 0 || count > DP_PAGE_PARTS_MAX) {
        st = dp_fail(err, DP_E_LIMIT, "layer %u: a page of %u parts, must be 1 to %u", desc->layer,
                     count, DP_PAGE_PARTS_MAX);
        goto done;
    }
    page = dp_alloc_zero(1, sizeof *page + tables);
    if (!page) {
        st = dp_fail(err, DP_E_NOMEM, "layer %u: no memory for the table of a page", desc->layer);
        goto done;
    }
    page->kind = desc->kind;
    page->layer = desc->layer;
    page->index = desc->index;
    page->part_count = count;
    page->data = (const uint8_t **)(void *)&page->places[count];
    page->evict_item.at = DP_HEAP_NOWHERE;
    dp_link_init(&page->queue_link);
    dp_link_init(&page->hint_link);
    if (!lay_out(page, desc, source)) {
        st = dp_fail(err, DP_E_LIMIT, "layer %u: a page larger than any memory", desc->layer);
        goto done;
    }

    *out = page;
    page = NULL;
done:
    dp_page_close(page);
    return st;
}

void dp_page_close(dp_page *page)
{
    dp_free(page);
}

const char *dp_page_text(char out[48], const dp_page *page)
{
    if (page->kind == DP_PAGE_EXPERT)
        snprintf(out, 48, "expert %u of layer %u", page->index, page->layer);
    else if (page->kind == DP_PAGE_ADAPTER && page->index == UINT32_MAX)
        snprintf(out, 48, "an adapter's layer %u", page->layer);
    else if (page->kind == DP_PAGE_ADAPTER)
        snprintf(out, 48, "an adapter's expert %u of layer %u", page->index, page->layer);
    else
        snprintf(out, 48, "layer %u", page->layer);
    return out;
}
