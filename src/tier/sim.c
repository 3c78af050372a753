#include "tier/sim.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "tier/forecast.h"
#include "tier/heap.h"

typedef struct sim_page {
    dp_heap_item item; /* in the heap: resident and not wanted now */
    uint32_t hits;     /* since it came */
    bool is_resident;
} sim_page;

typedef struct sim_cache {
    dp_sim_cache face;
    uint64_t used_bytes;
    dp_heap heap;
    sim_page *pages; /* [layer_count * expert_count] */
} sim_cache;

struct dp_sim {
    dp_sim_shape shape;
    uint64_t *page_bytes; /* ours */
    dp_page_heat *heats;  /* [layer_count * expert_count] */
    dp_forecast *forecast;
    uint64_t tick, order;
    uint32_t *wanted; /* [DP_DEMANDS_SET_MAX] experts of the demand */
    sim_cache *caches;
    uint32_t cache_count;
};

uint64_t dp_sim_total_bytes(const dp_sim_shape *shape)
{
    uint64_t total = 0;

    for (uint32_t l = 0; l < shape->layer_count; l++)
        total += shape->page_bytes[l] * shape->expert_count;
    return total;
}

static dp_status copy_shape(dp_sim *sim, const dp_sim_shape *shape, dp_error *err)
{
    if (shape->layer_count > DP_DEMANDS_LAYERS_MAX || shape->expert_count > DP_DEMANDS_EXPERTS_MAX)
        return dp_fail(err, DP_E_LIMIT, "simulation: %u layers of %u experts, at most %u of %u",
                       shape->layer_count, shape->expert_count, DP_DEMANDS_LAYERS_MAX,
                       DP_DEMANDS_EXPERTS_MAX);
    sim->page_bytes = dp_alloc(shape->layer_count, sizeof *sim->page_bytes);
    if (!sim->page_bytes)
        return dp_fail(err, DP_E_NOMEM, "simulation: no memory");
    for (uint32_t l = 0; l < shape->layer_count; l++)
        sim->page_bytes[l] = shape->page_bytes[l];
    sim->shape = *shape;
    sim->shape.page_bytes = sim->page_bytes;
    return DP_OK;
}

static bool open_cache(sim_cache *cache, const dp_sim_cache *face, size_t page_count)
{
    cache->face.policy = face->policy;
    cache->face.capacity_bytes = face->capacity_bytes;
    cache->pages = dp_alloc_zero(page_count, sizeof *cache->pages);
    if (!cache->pages || !dp_heap_reserve(&cache->heap, (uint32_t)page_count))
        return false;
    for (size_t i = 0; i < page_count; i++)
        cache->pages[i].item.at = DP_HEAP_NOWHERE;
    return true;
}

static dp_status open_tables(dp_sim *sim, const dp_sim_cache *caches, uint32_t count, dp_error *err)
{
    size_t page_count = (size_t)sim->shape.layer_count * sim->shape.expert_count;
    bool wants_forecast = false;

    sim->heats = dp_alloc_zero(page_count, sizeof *sim->heats);
    sim->wanted = dp_alloc(DP_DEMANDS_SET_MAX, sizeof *sim->wanted);
    sim->caches = dp_alloc_zero(count, sizeof *sim->caches);
    if (!sim->heats || !sim->wanted || !sim->caches)
        return dp_fail(err, DP_E_NOMEM, "simulation: no memory for %zu pages", page_count);
    for (; sim->cache_count < count; sim->cache_count++) {
        bool is_open =
            open_cache(&sim->caches[sim->cache_count], &caches[sim->cache_count], page_count);
        wants_forecast = wants_forecast || caches[sim->cache_count].policy->moves_layer;
        if (!is_open) {
            sim->cache_count++; /* half open: closed with the rest */
            return dp_fail(err, DP_E_NOMEM, "simulation: no memory for %zu pages", page_count);
        }
    }
    return wants_forecast ? dp_forecast_open(&sim->forecast, sim->shape.layer_count,
                                             sim->shape.expert_count, err)
                          : DP_OK;
}

dp_status dp_sim_open(dp_sim **out, const dp_sim_shape *shape, const dp_sim_cache *caches,
                      uint32_t count, dp_error *err)
{
    dp_sim *sim = dp_alloc_zero(1, sizeof *sim);
    dp_status st;

    *out = NULL;
    if (!sim)
        return dp_fail(err, DP_E_NOMEM, "simulation: no memory");
    if (count > DP_SIM_CACHES_MAX)
        st =
            dp_fail(err, DP_E_LIMIT, "simulation: %u caches, at most %d", count, DP_SIM_CACHES_MAX);
    else
        st = copy_shape(sim, shape, err);
    if (!st)
        st = open_tables(sim, caches, count, err);
    if (!st) {
        *out = sim;
        sim = NULL;
    }
    dp_sim_close(sim);
    return st;
}

void dp_sim_close(dp_sim *sim)
{
    if (!sim)
        return;
    for (uint32_t i = 0; i < sim->cache_count; i++) {
        dp_heap_deinit(&sim->caches[i].heap);
        dp_free(sim->caches[i].pages);
    }
    dp_free(sim->caches);
    dp_free(sim->wanted);
    dp_forecast_close(sim->forecast);
    dp_free(sim->heats);
    dp_free(sim->page_bytes);
    dp_free(sim);
}

/* What the demand changes for all caches alike. */
static void count_demand(dp_sim *sim, uint32_t layer, uint32_t count)
{
    dp_page_heat *heats = sim->heats + (size_t)layer * sim->shape.expert_count;
    double when = (double)sim->tick + (double)layer / sim->shape.layer_count;
    const float *steps;

    for (uint32_t i = 0; i < count; i++)
        dp_heat_touch(&heats[sim->wanted[i]], sim->tick);
    if (!sim->forecast)
        return;
    dp_forecast_demand(sim->forecast, layer, sim->wanted, count);
    steps = dp_forecast_layer(sim->forecast, layer);
    for (uint32_t e = 0; e < sim->shape.expert_count; e++)
        heats[e].due = when + (double)steps[e];
}

static void evict_first(dp_sim *sim, sim_cache *cache)
{
    sim_page *page = (sim_page *)(void *)cache->heap.items[0]; /* item is its first member */
    size_t index = (size_t)(page - cache->pages);

    dp_heap_remove(&cache->heap, &page->item);
    page->is_resident = false;
    page->hits = 0;
    cache->used_bytes -= sim->page_bytes[index / sim->shape.expert_count];
}

/* Hits leave the heap before misses look for room, as a batch of the tier does. */
static void take_hits(dp_sim *sim, sim_cache *cache, sim_page *pages, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        sim_page *page = &pages[sim->wanted[i]];
        cache->face.wants++;
        page->item.order = sim->order + i;
        if (!page->is_resident)
            continue;
        cache->face.hits++;
        page->hits++;
        dp_heap_remove(&cache->heap, &page->item);
    }
}

static void take_misses(dp_sim *sim, sim_cache *cache, sim_page *pages, uint32_t count,
                        uint64_t page_bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        sim_page *page = &pages[sim->wanted[i]];
        if (page->is_resident)
            continue;
        cache->face.missed_bytes += page_bytes;
        if (page_bytes > cache->face.capacity_bytes)
            continue;
        while (cache->heap.count && cache->used_bytes + page_bytes > cache->face.capacity_bytes)
            evict_first(sim, cache);
        if (cache->used_bytes + page_bytes > cache->face.capacity_bytes)
            continue; /* smaller than the demand: it passes through */
        cache->used_bytes += page_bytes;
        page->is_resident = true;
    }
}

static void demand_of_cache(dp_sim *sim, sim_cache *cache, uint32_t layer, uint32_t count)
{
    const dp_page_heat *heats = sim->heats + (size_t)layer * sim->shape.expert_count;
    sim_page *pages = cache->pages + (size_t)layer * sim->shape.expert_count;
    const dp_policy *policy = cache->face.policy;

    take_hits(sim, cache, pages, count);
    if (policy->moves_layer)
        for (uint32_t e = 0; e < sim->shape.expert_count; e++)
            if (pages[e].item.at != DP_HEAP_NOWHERE)
                dp_heap_move(&cache->heap, &pages[e].item, policy->score(&heats[e], pages[e].hits));
    take_misses(sim, cache, pages, count, sim->page_bytes[layer]);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t e = sim->wanted[i];
        if (!pages[e].is_resident)
            continue;
        pages[e].item.score = policy->score(&heats[e], pages[e].hits);
        dp_heap_add(&cache->heap, &pages[e].item);
    }
}

void dp_sim_demand(dp_sim *sim, const dp_demand *demand)
{
    uint32_t count = 0;

    sim->tick += demand->begins_step || sim->tick == 0;
    if (demand->layer >= sim->shape.layer_count || sim->page_bytes[demand->layer] == 0)
        return;
    for (uint32_t i = 0; i < demand->count; i++)
        if (demand->experts[i] < sim->shape.expert_count)
            sim->wanted[count++] = demand->experts[i];
    count_demand(sim, demand->layer, count);
    for (uint32_t i = 0; i < sim->cache_count; i++)
        demand_of_cache(sim, &sim->caches[i], demand->layer, count);
    sim->order += count;
}

void dp_sim_replay(dp_sim *sim, const dp_demands *demands)
{
    dp_demand demand;
    size_t at = 0;

    while (dp_demands_next(demands, &at, &demand))
        dp_sim_demand(sim, &demand);
}

const dp_sim_cache *dp_sim_result(const dp_sim *sim, uint32_t cache)
{
    DP_CHECK(cache < sim->cache_count);
    return &sim->caches[cache].face;
}

void dp_sim_forget(dp_sim *sim)
{
    for (uint32_t i = 0; i < sim->cache_count; i++) {
        dp_sim_cache *face = &sim->caches[i].face;
        face->hits = face->wants = face->missed_bytes = 0;
    }
}

void dp_sim_set_capacity(dp_sim *sim, uint32_t cache, uint64_t capacity_bytes)
{
    DP_CHECK(cache < sim->cache_count);
    sim->caches[cache].face.capacity_bytes = capacity_bytes;
    while (sim->caches[cache].heap.count && sim->caches[cache].used_bytes > capacity_bytes)
        evict_first(sim, &sim->caches[cache]);
}
