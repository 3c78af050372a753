/* replay_policy - hit rates of every policy on a recorded routing trace, without a model.
 *
 * usage: replay_policy TRACE LAYERS EXPERTS TOP_K
 *
 * TRACE holds one byte an expert: [token][layer][k]. One cache for all layers in units of
 * experts, as the tier has it for experts of one size: a layer's experts are wanted
 * together, hits stay, misses evict the lowest score. One JSON line a policy and size. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "tier/heap.h"
#include "tier/policy.h"

#define TRACE_MAX ((size_t)1 << 30)
#define TOP_K_MAX 64

typedef struct trace {
    const uint8_t *experts; /* [step_count][layer_count][top_k] */
    size_t step_count;
    uint32_t layer_count, expert_count, top_k;
} trace;

typedef struct page {
    dp_heap_item item; /* in the heap: resident and not wanted now */
    dp_page_heat heat;
    bool is_resident;
} page;

typedef struct cache {
    const dp_policy *policy;
    page *pages; /* [layer_count * expert_count] */
    dp_heap heap;
    uint32_t resident_count, capacity;
    uint64_t order, hit_count, want_count;
} cache;

static page *page_of(dp_heap_item *item)
{
    return (page *)(void *)((char *)item - offsetof(page, item));
}

/* Hits leave the heap before misses look for room, as a batch of the tier does. */
static void want_layer(cache *cache, page **wanted, uint32_t count, uint64_t tick)
{
    for (uint32_t i = 0; i < count; i++) {
        cache->want_count++;
        cache->hit_count += wanted[i]->is_resident;
        if (wanted[i]->is_resident)
            dp_heap_remove(&cache->heap, &wanted[i]->item);
        cache->policy->touch(&wanted[i]->heat, tick);
        wanted[i]->item.order = ++cache->order;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (wanted[i]->is_resident)
            continue;
        if (cache->resident_count == cache->capacity) {
            dp_heap_item *victim = cache->heap.items[0];
            dp_heap_remove(&cache->heap, victim);
            page_of(victim)->is_resident = false;
            cache->resident_count--;
        }
        cache->resident_count++;
        wanted[i]->is_resident = true;
    }
    for (uint32_t i = 0; i < count; i++) {
        wanted[i]->item.score = cache->policy->score(&wanted[i]->heat);
        dp_heap_add(&cache->heap, &wanted[i]->item);
    }
}

static void replay(cache *cache, const trace *trace)
{
    const uint8_t *expert = trace->experts;

    for (size_t step = 0; step < trace->step_count; step++) {
        for (uint32_t layer = 0; layer < trace->layer_count; layer++) {
            page *wanted[TOP_K_MAX];
            for (uint32_t k = 0; k < trace->top_k; k++)
                wanted[k] = &cache->pages[layer * trace->expert_count + *expert++];
            want_layer(cache, wanted, trace->top_k, step + 1);
        }
    }
}

static bool run(const trace *trace, const dp_policy *policy, double share)
{
    uint32_t page_count = trace->layer_count * trace->expert_count;
    cache cache = { policy, .capacity = (uint32_t)(share * page_count + 0.5) };
    bool is_done = false;

    cache.pages = dp_alloc_zero(page_count, sizeof(page));
    if (cache.pages && dp_heap_reserve(&cache.heap, page_count)) {
        for (uint32_t i = 0; i < page_count; i++)
            cache.pages[i].item.at = DP_HEAP_NOWHERE;
        replay(&cache, trace);
        printf("{\"bench\":\"replay_policy\",\"policy\":\"%s\",\"half_life_ticks\":%g,"
               "\"cache_share\":%.3f,\"cache_experts\":%u,\"wants\":%llu,\"hit_rate\":%.4f}\n",
               policy->name, DP_POLICY_HALF_LIFE_TICKS, share, cache.capacity,
               (unsigned long long)cache.want_count,
               (double)cache.hit_count / (double)cache.want_count);
        is_done = true;
    }
    dp_heap_deinit(&cache.heap);
    dp_free(cache.pages);
    return is_done;
}

/* Every byte names an expert, and a layer's experts fit the smallest cache. */
static bool is_valid(const trace *trace, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (trace->experts[i] >= trace->expert_count)
            return false;
    return trace->step_count > 0;
}

int main(int argc, char **argv)
{
    static const double shares[] = { 0.125, 0.1875, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875 };
    static const dp_policy *const policies[] = { &dp_policy_lru, &dp_policy_lfru };
    trace trace;
    char *bytes;
    size_t size;
    dp_error err;

    if (argc != 5) {
        fprintf(stderr, "usage: replay_policy TRACE LAYERS EXPERTS TOP_K\n");
        return 2;
    }
    if (dp_file_read_all(&bytes, &size, argv[1], TRACE_MAX, &err)) {
        fprintf(stderr, "replay_policy: %s\n", err.text);
        return 1;
    }
    trace = (struct trace){ (const uint8_t *)bytes, 0, (uint32_t)atoi(argv[2]),
                            (uint32_t)atoi(argv[3]), (uint32_t)atoi(argv[4]) };
    if (trace.top_k > 0 && trace.top_k <= TOP_K_MAX && trace.layer_count > 0)
        trace.step_count = size / trace.layer_count / trace.top_k;
    if (!is_valid(&trace, size)) {
        fprintf(stderr, "replay_policy: %s: not a trace of that shape\n", argv[1]);
        dp_free(bytes);
        return 1;
    }
    for (size_t p = 0; p < DP_ARRAY_LEN(policies); p++)
        for (size_t i = 0; i < DP_ARRAY_LEN(shares); i++)
            if (!run(&trace, policies[p], shares[i]))
                fprintf(stderr, "replay_policy: no memory\n");
    dp_free(bytes);
    return 0;
}
