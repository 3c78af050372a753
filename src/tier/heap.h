/* heap.h - pages that may leave, the one to leave first on top.
 *
 * Room     A binary heap over intrusive items: each knows its place, so that a
 *          page that is leased leaves the heap in log n wherever it stands.
 *          Thousands of pages change places a token; a scan for each would cost
 *          as much as small reads.
 *
 * Order    Lower score first; of equal scores the lower order.
 *
 * Threads  One at a time (the tier's lock).
 */
#ifndef DP_TIER_HEAP_H
#define DP_TIER_HEAP_H

#include "base/base.h"

#define DP_HEAP_NOWHERE UINT32_MAX

typedef struct dp_heap_item {
    double score;   /* in a heap: changed by dp_heap_move alone */
    uint64_t order; /* of the last use: recency breaks ties */
    uint32_t at;    /* place in the heap, DP_HEAP_NOWHERE: in none */
} dp_heap_item;

typedef struct dp_heap {
    dp_heap_item **items; /* [capacity] */
    uint32_t count, capacity;
} dp_heap;

/* Room for `capacity` items in all. False when memory is short: unchanged. A
 * zeroed heap is an empty one. */
bool dp_heap_reserve(dp_heap *heap, uint32_t capacity);
void dp_heap_deinit(dp_heap *heap);

void dp_heap_add(dp_heap *heap, dp_heap_item *item); /* within what was reserved */
void dp_heap_remove(dp_heap *heap, dp_heap_item *item);
void dp_heap_move(dp_heap *heap, dp_heap_item *item,
                  double score); /* to its place by a new score */
/* The first `max` items in the order of leaving, fewer if there are no more: returns how many. Of
 * the order of max squared, however many there are. */
#define DP_HEAP_FIRST_MAX 16
uint32_t dp_heap_first(const dp_heap *heap, dp_heap_item **out, uint32_t max);
bool dp_heap_before(const dp_heap_item *a, const dp_heap_item *b); /* a leaves before b */

#endif
