#include "tier/sim.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "testing/check.h"
#include "tier/source_fake.h"
#include "tier/tier.h"

#define LAYERS     3
#define EXPERTS    8
#define PAGE_BYTES 4096

static const uint64_t page_bytes[LAYERS] = { PAGE_BYTES, PAGE_BYTES, PAGE_BYTES };
static const dp_sim_shape shape = { LAYERS, EXPERTS, page_bytes };

/* Steps of all layers, each wanting `count` distinct experts, low numbers more often. */
static void make_demands(dp_demands *out, uint32_t steps, uint32_t layers, uint32_t experts,
                         uint32_t count, uint64_t seed)
{
    dp_rng rng;

    dp_rng_init(&rng, seed);
    dp_demands_init(out, SIZE_MAX / 2);
    for (uint32_t s = 0; s < steps; s++)
        for (uint32_t l = 0; l < layers; l++) {
            uint32_t set[EXPERTS], n = 0;
            uint64_t taken = 0;
            while (n < count) {
                uint64_t e = dp_rng_below(&rng, dp_rng_below(&rng, experts) + 1);
                if (!(taken >> e & 1))
                    set[n++] = (uint32_t)e;
                taken |= (uint64_t)1 << e;
            }
            CHECK(dp_demands_add(out, l == 0, l, set, n), "memory");
        }
}

/* A list in order of use, searched from its end: nothing of it is in the simulation. */
static uint64_t lru_hits_by_list(const dp_demands *demands, uint32_t capacity)
{
    uint32_t list[LAYERS * EXPERTS], held = 0;
    uint64_t hits = 0;
    dp_demand d;
    size_t at = 0;

    while (dp_demands_next(demands, &at, &d))
        for (uint32_t i = 0; i < d.count; i++) {
            uint32_t page = d.layer * EXPERTS + d.experts[i], found = held;
            for (uint32_t j = 0; j < held; j++)
                if (list[j] == page)
                    found = j;
            hits += found < held;
            if (found == held && held < capacity)
                held++;
            else if (found == held)
                found = 0;
            for (uint32_t j = found; j + 1 < held; j++)
                list[j] = list[j + 1];
            list[held - 1] = page;
        }
    return hits;
}

/* With one expert a demand the batch has no part in it. */
static void test_lru_is_a_list(void **unused)
{
    dp_demands demands;

    make_demands(&demands, 2000, LAYERS, EXPERTS, 1, 1);
    for (uint32_t capacity = 1; capacity <= LAYERS * EXPERTS; capacity++) {
        dp_sim_cache cache = { &dp_policy_lru, (uint64_t)capacity * PAGE_BYTES };
        dp_error err;
        dp_sim *sim;
        CHECK_OK(dp_sim_open(&sim, &shape, &cache, 1, &err), err);
        dp_sim_replay(sim, &demands);
        CHECK(dp_sim_result(sim, 0)->wants == 2000 * LAYERS, "all of them");
        CHECK(dp_sim_result(sim, 0)->hits == lru_hits_by_list(&demands, capacity), "%u pages: %llu",
              capacity, (unsigned long long)dp_sim_result(sim, 0)->hits);
        dp_sim_close(sim);
    }
    dp_demands_deinit(&demands);
}

/* The most hits any choice of victims gives, by trying all. held: a set of pages. */
static uint32_t most_hits(const uint8_t *pages, uint32_t count, uint32_t held, uint32_t capacity)
{
    uint32_t page, best = 0;

    if (count == 0)
        return 0;
    page = 1u << pages[0];
    if (held & page)
        return 1 + most_hits(pages + 1, count - 1, held, capacity);
    if ((uint32_t)__builtin_popcount(held) < capacity)
        return most_hits(pages + 1, count - 1, held | page, capacity);
    for (uint32_t victim = 1; victim <= held; victim <<= 1)
        if (held & victim) {
            uint32_t hits = most_hits(pages + 1, count - 1, (held & ~victim) | page, capacity);
            best = DP_MAX(best, hits);
        }
    return best;
}

static void test_belady_is_the_best(void **unused)
{
    const uint64_t one = 1;
    const dp_sim_shape flat = { 1, 6, &one };

    for (uint64_t seed = 0; seed < 40; seed++) {
        uint32_t capacity = 2 + seed % 3;
        uint8_t pages[14];
        dp_demands demands;
        dp_demand d;
        uint64_t hits, wants;
        size_t at = 0;
        make_demands(&demands, 14, 1, 6, 1, seed);
        for (uint32_t i = 0; dp_demands_next(&demands, &at, &d); i++)
            pages[i] = (uint8_t)d.experts[0];
        CHECK(dp_sim_belady(&demands, &flat, capacity, &hits, &wants, NULL) == DP_OK, "memory");
        CHECK(wants == 14 && hits == most_hits(pages, 14, 0, capacity), "seed %d: %d hits",
              (int)seed, (int)hits);
        dp_demands_deinit(&demands);
    }
}

/* The tier itself, asked for the same pages. */
static uint64_t tier_hits(const dp_demands *demands, const dp_policy *policy, uint32_t capacity)
{
    dp_page_desc desc = { .kind = DP_PAGE_EXPERT, .part_count = 1 };
    dp_tier_config config = {
        (uint64_t)capacity * PAGE_BYTES, policy, NULL, &dp_clock_real, .layer_count = LAYERS,
        .expert_count = EXPERTS
    };
    dp_page_id id, wanted[EXPERTS];
    uint8_t scratch[EXPERTS];
    dp_source_fake fake;
    dp_tier_stats stats;
    dp_tier *tier;
    dp_demand d;
    size_t at = 0;

    dp_source_fake_init(&fake, 1);
    config.source = &fake.base;
    CHECK(dp_tier_open(&tier, &config, NULL) == DP_OK, "memory");
    for (uint32_t p = 0; p < LAYERS * EXPERTS; p++) {
        desc.layer = p / EXPERTS;
        desc.index = p % EXPERTS;
        desc.parts[0] = (dp_page_part){ 0, (uint64_t)p * PAGE_BYTES, PAGE_BYTES };
        CHECK(dp_tier_add_page(tier, &desc, &id, NULL) == DP_OK && id == p, "page %u", p);
    }
    while (dp_demands_next(demands, &at, &d)) {
        dp_tier_batch batch;
        dp_lease leases[EXPERTS];
        size_t index;
        if (d.begins_step)
            dp_tier_tick(tier);
        for (uint32_t i = 0; i < d.count; i++)
            wanted[i] = d.layer * EXPERTS + d.experts[i];
        CHECK(dp_tier_want(tier, wanted, d.count, scratch, &batch, NULL) == DP_OK, "want");
        dp_source_fake_end_all(&fake);
        for (uint32_t i = 0; i < d.count; i++)
            CHECK(dp_tier_next(&batch, &leases[i], &index, 0, NULL) == DP_OK, "page %u", i);
        dp_tier_batch_end(&batch);
        for (uint32_t i = 0; i < d.count; i++)
            dp_tier_release(tier, &leases[i]);
    }
    dp_tier_stats_read(tier, &stats);
    dp_tier_close(tier);
    dp_source_fake_deinit(&fake);
    return stats.expert_hits;
}

static void test_does_what_the_tier_does(void **unused)
{
    dp_demands demands;

    make_demands(&demands, 600, LAYERS, EXPERTS, 3, 4);
    for (size_t p = 0; p < DP_POLICY_COUNT; p++)
        for (uint32_t capacity = 4; capacity < LAYERS * EXPERTS; capacity += 5) {
            dp_sim_cache cache = { dp_policies[p], (uint64_t)capacity * PAGE_BYTES };
            dp_error err;
            dp_sim *sim;
            CHECK_OK(dp_sim_open(&sim, &shape, &cache, 1, &err), err);
            dp_sim_replay(sim, &demands);
            CHECK(dp_sim_result(sim, 0)->hits == tier_hits(&demands, dp_policies[p], capacity),
                  "%s with %u pages", dp_policies[p]->name, capacity);
            dp_sim_close(sim);
        }
    dp_demands_deinit(&demands);
}

/* Sizes differ by layer, one has no experts, some demands are outside of the shape. */
static void test_bytes_and_strangers(void **unused)
{
    static const uint64_t bytes[3] = { 100, 0, 300 };
    static const dp_sim_shape odd = { 3, 4, bytes };
    static const dp_sim_cache cache = { &dp_policy_lru, 400 };
    static const struct {
        uint32_t layer, expert, hits; /* hits after it */
    } rows[] = {
        { 0, 1, 0 }, { 2, 1, 0 }, { 0, 1, 1 }, { 2, 1, 2 },
        { 1, 0, 2 }, { 7, 0, 2 }, { 0, 9, 2 }, { 2, 2, 2 }, /* 300 bytes: both leave */
        { 0, 1, 2 }, { 2, 2, 3 }, { 0, 2, 3 }, { 2, 2, 4 },
    };
    uint64_t hits, wants;
    dp_demands demands;
    dp_error err;
    dp_sim *sim;

    dp_demands_init(&demands, 1000);
    CHECK_OK(dp_sim_open(&sim, &odd, &cache, 1, &err), err);
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        uint16_t expert = (uint16_t)rows[i].expert;
        dp_sim_demand(sim, &(dp_demand){ true, rows[i].layer, 1, &expert });
        CHECK(dp_demands_add(&demands, true, rows[i].layer, &rows[i].expert, 1), "memory");
        CHECK(dp_sim_result(sim, 0)->hits == rows[i].hits, "row %zu: %d", i,
              (int)dp_sim_result(sim, 0)->hits);
    }
    CHECK(dp_sim_result(sim, 0)->missed_bytes == 3 * 100 + 2 * 300, "bytes");
    dp_sim_set_capacity(sim, 0, 100);
    dp_sim_forget(sim);
    dp_sim_replay(sim, &demands);
    CHECK(dp_sim_result(sim, 0)->wants == 9 && dp_sim_result(sim, 0)->hits == 2, "%d",
          (int)dp_sim_result(sim, 0)->hits);
    CHECK(dp_sim_belady(&demands, &odd, 400, &hits, &wants, NULL) == DP_OK, "memory");
    CHECK(wants == 9 && hits == 5, "%d of %d", (int)hits, (int)wants);
    CHECK(dp_sim_total_bytes(&odd) == 1600, "total");
    dp_sim_close(sim);
    dp_demands_deinit(&demands);
}

static void test_memory_is_short(void **unused)
{
    dp_sim_cache caches[DP_SIM_CACHES_MAX + 1] = { { &dp_policy_next, 10 },
                                                   { &dp_policy_lru, 10 } };
    dp_mem_stats before, after;
    dp_status st = DP_E_NOMEM;
    dp_demands demands;
    uint64_t hits, wants;
    dp_sim *sim = NULL;

    make_demands(&demands, 10, LAYERS, EXPERTS, 2, 4);
    dp_mem_stats_read(&before);
    for (uint64_t n = 0; st == DP_E_NOMEM; n++) {
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_sim_open(&sim, &shape, caches, 2, NULL);
        dp_fault_disarm(DP_FAULT_MEM);
    }
    CHECK(st == DP_OK, "it gets through");
    dp_sim_close(sim);
    st = DP_E_NOMEM;
    for (uint64_t n = 0; st == DP_E_NOMEM; n++) {
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_sim_belady(&demands, &shape, 10, &hits, &wants, NULL);
        dp_fault_disarm(DP_FAULT_MEM);
    }
    CHECK(st == DP_OK && wants == 10 * LAYERS * 2, "it gets through");
    CHECK(dp_sim_open(&sim, &shape, caches, DP_SIM_CACHES_MAX + 1, NULL) == DP_E_LIMIT, "caches");
    CHECK(dp_sim_open(&sim, &(dp_sim_shape){ 40000, 1, page_bytes }, caches, 1, NULL) == DP_E_LIMIT,
          "layers");
    dp_mem_stats_read(&after);
    CHECK(before.heap_blocks == after.heap_blocks, "nothing leaked");
    dp_demands_deinit(&demands);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lru_is_a_list),           cmocka_unit_test(test_belady_is_the_best),
        cmocka_unit_test(test_does_what_the_tier_does), cmocka_unit_test(test_bytes_and_strangers),
        cmocka_unit_test(test_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
