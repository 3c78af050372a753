/* mem.h - the allocator of every layer: counted, and able to fail on purpose.
 *
 * Two kinds of memory. Heap blocks (dp_alloc ...) are for structures; mapped
 * regions (dp_map_acquire) are for weights, keys and values: page aligned,
 * given back to the system at once when released. Both are counted, so that a
 * budget can include what tables cost, and both pass the fault point "mem", so
 * that tests can make the n-th allocation fail.
 *
 * Threads  Any.
 */
#ifndef DP_BASE_MEM_H
#define DP_BASE_MEM_H

#include "base/base.h"

/* count * size zeroed bytes, NULL when memory is short or the product wraps.
 * A zero-sized request gives a distinct pointer. Release with dp_free. */
void *dp_alloc_zero(size_t count, size_t size);

/* count * size bytes, contents undefined; otherwise as dp_alloc_zero. */
void *dp_alloc(size_t count, size_t size);

/* Resizes a block of dp_alloc (NULL: a new one) to count * size bytes, keeping
 * contents. NULL on failure: the old block is untouched and still the caller's. */
void *dp_realloc(void *block, size_t count, size_t size);

/* A copy of `text` (size bytes and a NUL), or NULL. */
char *dp_strndup(const char *text, size_t size);

void dp_free(void *block); /* NULL is fine */

/* `size` bytes of zeroed, page-aligned memory straight from the system, NULL
 * when it is short. Large regions ask for huge pages. */
void *dp_map_acquire(size_t size);
void dp_map_release(void *region, size_t size); /* the same size; NULL is fine */

/* Another size for a region, which may move: bytes that both sizes have keep what they
 * hold, more are zeroed, and only those cost page faults. NULL when memory is short: the
 * region is as it was. A smaller size never fails. */
void *dp_map_resize(void *region, size_t size, size_t new_size);

typedef struct dp_mem_stats {
    uint64_t heap_bytes;  /* live, with the allocator's own overhead */
    uint64_t heap_blocks; /* live: 0 when nothing leaked */
    uint64_t map_bytes;   /* live, whole pages */
    uint64_t map_regions; /* live */
} dp_mem_stats;

void dp_mem_stats_read(dp_mem_stats *out);

#endif
