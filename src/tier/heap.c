#include "tier/heap.h"

#include "base/assert.h"
#include "base/mem.h"

bool dp_heap_reserve(dp_heap *heap, uint32_t capacity)
{
    dp_heap_item **items;

    if (capacity <= heap->capacity)
        return true;
    items = dp_realloc(heap->items, capacity, sizeof(dp_heap_item *));
    if (!items)
        return false;
    heap->items = items;
    heap->capacity = capacity;
    return true;
}

void dp_heap_deinit(dp_heap *heap)
{
    dp_free(heap->items);
    *heap = (dp_heap){ 0 };
}

bool dp_heap_before(const dp_heap_item *a, const dp_heap_item *b)
{
    return a->score != b->score ? a->score < b->score : a->order < b->order;
}

static void put(dp_heap *heap, uint32_t at, dp_heap_item *item)
{
    heap->items[at] = item;
    item->at = at;
}

/* Finds the place for an item on the way up from the hole at `at`. */
static void sift_up(dp_heap *heap, uint32_t at, dp_heap_item *item)
{
    while (at > 0 && dp_heap_before(item, heap->items[(at - 1) / 2])) {
        put(heap, at, heap->items[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(heap, at, item);
}

/* Moves the hole at `at` down to a leaf and fills it from there with the item:
 * it came from a leaf, so it will rarely rise again. */
static void sift_down(dp_heap *heap, uint32_t at, dp_heap_item *item)
{
    for (uint32_t child = 2 * at + 1; child < heap->count; child = 2 * at + 1) {
        if (child + 1 < heap->count && dp_heap_before(heap->items[child + 1], heap->items[child]))
            child++;
        put(heap, at, heap->items[child]);
        at = child;
    }
    sift_up(heap, at, item);
}

void dp_heap_add(dp_heap *heap, dp_heap_item *item)
{
    DP_CHECK(heap->count < heap->capacity && item->at == DP_HEAP_NOWHERE);
    sift_up(heap, heap->count++, item);
}

void dp_heap_remove(dp_heap *heap, dp_heap_item *item)
{
    uint32_t hole = item->at;
    dp_heap_item *last;

    DP_CHECK(hole < heap->count && heap->items[hole] == item);
    last = heap->items[--heap->count];
    item->at = DP_HEAP_NOWHERE;
    if (last == item)
        return;
    /* The hole's parents are not after its children, so an item that must rise
     * from the hole does so from wherever sift_down left it. */
    sift_down(heap, hole, last);
}

void dp_heap_move(dp_heap *heap, dp_heap_item *item, double score)
{
    DP_CHECK(item->at < heap->count && heap->items[item->at] == item);
    if (score < item->score) {
        item->score = score;
        sift_up(heap, item->at, item);
    } else if (score > item->score) {
        item->score = score;
        sift_down(heap, item->at, item);
    }
}

uint32_t dp_heap_first(const dp_heap *heap, dp_heap_item **out, uint32_t max)
{
    uint32_t open[DP_HEAP_FIRST_MAX + 1] = { 0 }; /* places whose parents are in `out` */
    uint32_t open_count = heap->count > 0, count = 0;

    DP_ASSERT(max <= DP_HEAP_FIRST_MAX);
    while (count < max && open_count) {
        uint32_t best = 0, at;

        for (uint32_t i = 1; i < open_count; i++)
            if (dp_heap_before(heap->items[open[i]], heap->items[open[best]]))
                best = i;
        at = open[best];
        open[best] = open[--open_count];
        out[count++] = heap->items[at];
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < heap->count; child++)
            open[open_count++] = child;
    }
    return count;
}
