/* Belady's rule over a recorded list of demands: see sim.h. */
#include "base/mem.h"
#include "base/status.h"
#include "tier/heap.h"
#include "tier/sim.h"

#define NEVER UINT32_MAX

typedef struct future_page {
    dp_heap_item item; /* in the heap: resident and not wanted now */
    uint32_t last;     /* place of its last demand so far, NEVER: none */
    bool is_resident;
} future_page;

typedef struct future {
    const dp_sim_shape *shape;
    future_page *pages;
    uint32_t *next; /* [wants] which demand wants the same page next */
    dp_heap heap;
    uint64_t used_bytes, capacity_bytes, hits;
} future;

static bool is_inside(const dp_sim_shape *shape, const dp_demand *demand)
{
    return demand->layer < shape->layer_count && shape->page_bytes[demand->layer] != 0;
}

static uint32_t count_wants(const dp_demands *demands)
{
    dp_demand demand;
    uint64_t count = 0;
    size_t at = 0;

    while (dp_demands_next(demands, &at, &demand))
        count += demand.count;
    return (uint32_t)DP_MIN(count, NEVER - 1);
}

static future_page *page_at(const future *f, const dp_demand *demand, uint32_t i)
{
    return &f->pages[(size_t)demand->layer * f->shape->expert_count + demand->experts[i]];
}

/* Links each want to the demand that wants its page next. */
static void look_ahead(future *f, const dp_demands *demands)
{
    uint32_t want = 0, event = 0;
    dp_demand demand;
    size_t at = 0;

    for (; dp_demands_next(demands, &at, &demand); event++) {
        if (!is_inside(f->shape, &demand))
            continue;
        for (uint32_t i = 0; i < demand.count; i++) {
            future_page *page;
            if (demand.experts[i] >= f->shape->expert_count)
                continue;
            page = page_at(f, &demand, i);
            if (page->last != NEVER)
                f->next[page->last] = event;
            page->last = want;
            f->next[want++] = NEVER;
        }
    }
}

static void make_room(future *f, uint64_t bytes)
{
    while (bytes <= f->capacity_bytes && f->heap.count &&
           f->used_bytes + bytes > f->capacity_bytes) {
        future_page *page = (future_page *)(void *)f->heap.items[0]; /* item comes first */
        size_t index = (size_t)(page - f->pages);
        dp_heap_remove(&f->heap, &page->item);
        page->is_resident = false;
        f->used_bytes -= f->shape->page_bytes[index / f->shape->expert_count];
    }
}

/* wants: of the demand, with their next uses. Returns how many were inside. */
static uint32_t serve(future *f, const dp_demand *demand, const uint32_t *next)
{
    uint64_t bytes = f->shape->page_bytes[demand->layer];
    uint32_t count = 0;

    for (uint32_t i = 0; i < demand->count; i++)
        if (demand->experts[i] < f->shape->expert_count) {
            future_page *page = page_at(f, demand, i);
            page->item.order = next[count++];
            f->hits += page->is_resident;
            if (page->is_resident)
                dp_heap_remove(&f->heap, &page->item);
        }
    for (uint32_t i = 0; i < demand->count; i++)
        if (demand->experts[i] < f->shape->expert_count) {
            future_page *page = page_at(f, demand, i);
            if (page->is_resident)
                continue;
            make_room(f, bytes);
            page->is_resident = f->used_bytes + bytes <= f->capacity_bytes;
            f->used_bytes += page->is_resident ? bytes : 0;
        }
    for (uint32_t i = 0; i < demand->count; i++)
        if (demand->experts[i] < f->shape->expert_count) {
            future_page *page = page_at(f, demand, i);
            page->item.score = -(double)page->item.order;
            if (page->is_resident)
                dp_heap_add(&f->heap, &page->item);
        }
    return count;
}

dp_status dp_sim_belady(const dp_demands *demands, const dp_sim_shape *shape,
                        uint64_t capacity_bytes, uint64_t *hits, uint64_t *wants, dp_error *err)
{
    size_t page_count = (size_t)shape->layer_count * shape->expert_count;
    future f = { .shape = shape, .capacity_bytes = capacity_bytes };
    dp_status st = DP_OK;
    dp_demand demand;
    uint32_t want = 0;
    size_t at = 0;

    *hits = *wants = 0;
    f.pages = dp_alloc_zero(page_count, sizeof *f.pages);
    f.next = dp_alloc((size_t)count_wants(demands) + 1, sizeof *f.next);
    if (!f.pages || !f.next || !dp_heap_reserve(&f.heap, (uint32_t)page_count)) {
        st = dp_fail(err, DP_E_NOMEM, "simulation: no memory for %zu pages", page_count);
        goto done;
    }
    for (size_t i = 0; i < page_count; i++) {
        f.pages[i].last = NEVER;
        f.pages[i].item.at = DP_HEAP_NOWHERE;
    }
    look_ahead(&f, demands);
    while (dp_demands_next(demands, &at, &demand))
        if (is_inside(shape, &demand))
            want += serve(&f, &demand, f.next + want);
    *hits = f.hits;
    *wants = want;
done:
    dp_heap_deinit(&f.heap);
    dp_free(f.next);
    dp_free(f.pages);
    return st;
}
