#include "base/mem.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/fault.h"

/* Neighbours become one region of the system's, and a huge page may span several of them, so
 * that rounding wastes nothing. What drives write into lies in few pieces then: a request of
 * 1 MiB into pages of 4 KiB has 256, more than many drives take at once. Below: short-lived
 * buffers that are not worth a call. */
#define HUGE_PAGES_FROM ((size_t)64 << 10)

static struct {
    _Atomic uint64_t heap_bytes;
    _Atomic uint64_t heap_blocks;
    _Atomic uint64_t map_bytes;
    _Atomic uint64_t map_regions;
} live;

/* Counters order nothing: relaxed is enough. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void subtract(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_sub_explicit(counter, n, memory_order_relaxed);
}

static void count_block(void *block)
{
    add(&live.heap_bytes, malloc_usable_size(block));
    add(&live.heap_blocks, 1);
}

/* The product as malloc wants it: never 0, so that every block is distinct. */
static bool block_size(size_t count, size_t size, size_t *out)
{
    uint64_t bytes;

    if (!dp_u64_mul(count, size, &bytes) || bytes > PTRDIFF_MAX)
        return false;
    *out = bytes ? (size_t)bytes : 1;
    return true;
}

void *dp_alloc_zero(size_t count, size_t size)
{
    size_t bytes;
    void *block;

    if (!block_size(count, size, &bytes) || dp_fault_visit(DP_FAULT_MEM))
        return NULL;
    block = calloc(1, bytes);
    if (block)
        count_block(block);
    return block;
}

void *dp_alloc(size_t count, size_t size)
{
    size_t bytes;
    void *block;

    if (!block_size(count, size, &bytes) || dp_fault_visit(DP_FAULT_MEM))
        return NULL;
    block = malloc(bytes);
    if (block)
        count_block(block);
    return block;
}

void *dp_realloc(void *block, size_t count, size_t size)
{
    size_t bytes;
    size_t bytes_before;
    void *resized;

    if (!block)
        return dp_alloc(count, size);
    if (!block_size(count, size, &bytes) || dp_fault_visit(DP_FAULT_MEM))
        return NULL;
    bytes_before = malloc_usable_size(block);
    resized = realloc(block, bytes);
    if (!resized)
        return NULL;
    add(&live.heap_bytes, malloc_usable_size(resized));
    subtract(&live.heap_bytes, bytes_before);
    return resized;
}

char *dp_strndup(const char *text, size_t size)
{
    uint64_t bytes;
    char *copy;

    if (!dp_u64_add(size, 1, &bytes))
        return NULL;
    copy = dp_alloc(1, (size_t)bytes);
    if (!copy)
        return NULL;
    if (size)
        memcpy(copy, text, size);
    copy[size] = 0;
    return copy;
}

void dp_free(void *block)
{
    if (!block)
        return;
    subtract(&live.heap_bytes, malloc_usable_size(block));
    subtract(&live.heap_blocks, 1);
    free(block);
}

/* Whole pages; at least one, so that every region is distinct. */
static bool region_size(size_t size, size_t *out)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (size > PTRDIFF_MAX - page)
        return false;
    *out = (size_t)dp_align_up(size ? size : 1, page);
    return true;
}

void *dp_map_acquire(size_t size)
{
    size_t bytes;
    void *region;

    if (!region_size(size, &bytes) || dp_fault_visit(DP_FAULT_MEM))
        return NULL;
    region = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED)
        return NULL;
    if (bytes >= HUGE_PAGES_FROM)
        madvise(region, bytes, MADV_HUGEPAGE); /* a wish: kernels without it are fine too */
    add(&live.map_bytes, bytes);
    add(&live.map_regions, 1);
    return region;
}

void dp_map_release(void *region, size_t size)
{
    size_t bytes = 0;
    int failed;

    if (!region)
        return;
    DP_CHECK(region_size(size, &bytes));
    failed = munmap(region, bytes);
    DP_CHECK(!failed);
    subtract(&live.map_bytes, bytes);
    subtract(&live.map_regions, 1);
}

void *dp_map_resize(void *region, size_t size, size_t new_size)
{
    size_t bytes = 0, new_bytes;
    void *resized;

    DP_CHECK(region_size(size, &bytes));
    if (!region_size(new_size, &new_bytes) || (new_bytes > bytes && dp_fault_visit(DP_FAULT_MEM)))
        return NULL;
    resized = mremap(region, bytes, new_bytes, MREMAP_MAYMOVE);
    if (resized == MAP_FAILED)
        return NULL;
    if (new_bytes >= HUGE_PAGES_FROM)
        madvise(resized, new_bytes, MADV_HUGEPAGE);
    add(&live.map_bytes, new_bytes);
    subtract(&live.map_bytes, bytes);
    return resized;
}

void dp_mem_stats_read(dp_mem_stats *out)
{
    out->heap_bytes = atomic_load_explicit(&live.heap_bytes, memory_order_relaxed);
    out->heap_blocks = atomic_load_explicit(&live.heap_blocks, memory_order_relaxed);
    out->map_bytes = atomic_load_explicit(&live.map_bytes, memory_order_relaxed);
    out->map_regions = atomic_load_explicit(&live.map_regions, memory_order_relaxed);
}
