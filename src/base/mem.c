#include "base/mem.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/fault.h"

/* What drives write into lies in few pieces in huge pages: a request of 1 MiB into pages of
 * 4 KiB has 256, more than many drives take at once; and kernels read it with fewer misses of
 * the translation. Below: short-lived buffers that are not worth a call. */
#define HUGE_PAGES_FROM ((size_t)64 << 10)
#define HUGE_PAGE       ((size_t)2 << 20)

/* A huge page lies within what is mapped when it is first touched: of a region of 2.7 MiB alone
 * a third is, of regions cut from one large mapping all. Cutting touches at most one huge page
 * past what is promised, so it begins where that is little. */
#define CHUNK_BYTES    ((size_t)64 << 20)
#define CHUNK_CUTS_MAX (CHUNK_BYTES / 2)
#define CHUNKS_FROM    ((uint64_t)128 << 20) /* bytes mapped */

static struct {
    _Atomic uint64_t heap_bytes;
    _Atomic uint64_t heap_blocks;
    _Atomic uint64_t map_bytes;
    _Atomic uint64_t map_regions;
} live;

/* What is left of the last large mapping; counted when it is cut. */
static struct {
    pthread_mutex_t lock; /* guards the rest */
    uint8_t *at;
    size_t size;
} chunk = { .lock = PTHREAD_MUTEX_INITIALIZER };

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

static void *map(size_t bytes)
{
    void *region = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (region == MAP_FAILED)
        return NULL;
    if (bytes >= HUGE_PAGES_FROM)
        madvise(region, bytes, MADV_HUGEPAGE); /* a wish: kernels without it are fine too */
    return region;
}

static void unmap(void *region, size_t bytes)
{
    int failed = munmap(region, bytes);

    DP_CHECK(!failed);
}

/* Caller holds chunk.lock. Another chunk, at a huge page's boundary; false: no memory. */
static bool begin_chunk(void)
{
    uint8_t *region = map(CHUNK_BYTES + HUGE_PAGE);
    size_t lead;

    if (!region)
        return false;
    lead = (size_t)(dp_align_up((uint64_t)(uintptr_t)region, HUGE_PAGE) - (uintptr_t)region);
    if (lead)
        unmap(region, lead);
    if (lead < HUGE_PAGE)
        unmap(region + lead + CHUNK_BYTES, HUGE_PAGE - lead);
    if (chunk.size)
        unmap(chunk.at, chunk.size);
    chunk.at = region + lead;
    chunk.size = CHUNK_BYTES;
    return true;
}

static void *cut(size_t bytes)
{
    void *region = NULL;

    pthread_mutex_lock(&chunk.lock);
    if (bytes <= chunk.size || begin_chunk()) {
        region = chunk.at;
        chunk.at += bytes;
        chunk.size -= bytes;
    }
    pthread_mutex_unlock(&chunk.lock);
    return region;
}

void *dp_map_acquire(size_t size)
{
    void *region = NULL;
    size_t bytes;

    if (!region_size(size, &bytes) || dp_fault_visit(DP_FAULT_MEM))
        return NULL;
    if (bytes >= HUGE_PAGES_FROM && bytes <= CHUNK_CUTS_MAX &&
        atomic_load_explicit(&live.map_bytes, memory_order_relaxed) >= CHUNKS_FROM)
        region = cut(bytes);
    if (!region)
        region = map(bytes);
    if (!region)
        return NULL;
    add(&live.map_bytes, bytes);
    add(&live.map_regions, 1);
    return region;
}

void dp_map_release(void *region, size_t size)
{
    size_t bytes = 0;

    if (!region)
        return;
    DP_CHECK(region_size(size, &bytes));
    unmap(region, bytes);
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
