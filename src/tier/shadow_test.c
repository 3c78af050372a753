#include "tier/shadow.h"

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"
#include "tier/demands_make.h"

#define STEPS     6000
#define STEP_NS   50000000ull /* a slow model: there is time for all work */
#define PAGE_SIZE ((uint64_t)1 << 20)

static const uint64_t page_bytes[MADE_LAYERS] = { PAGE_SIZE, PAGE_SIZE, PAGE_SIZE,
                                                  PAGE_SIZE, PAGE_SIZE, PAGE_SIZE };
static const dp_sim_shape shape = { MADE_LAYERS, MADE_EXPERTS, page_bytes };

/* Time passes with steps and, a little, with every look. */
typedef struct test_clock {
    dp_clock face;
    uint64_t now_ns, look_ns;
} test_clock;

static uint64_t test_now(const dp_clock *clock)
{
    test_clock *c = (test_clock *)(void *)clock;

    c->now_ns += c->look_ns;
    return c->now_ns;
}

/* A cache that follows the shadows' advice, beside one of each policy: all of the stream. */
static double follow(dp_shadow *shadow, test_clock *clock, dp_demands_maker *maker,
                     uint64_t capacity, double *best, uint32_t *changes)
{
    dp_sim_cache caches[DP_POLICY_COUNT];
    dp_shadow_report report;
    uint64_t hits = 0, wants = 0;
    dp_error err;
    dp_sim *sim;

    for (uint32_t p = 0; p < DP_POLICY_COUNT; p++)
        caches[p] = (dp_sim_cache){ dp_policies[p], capacity };
    CHECK_OK(dp_sim_open(&sim, &shape, caches, DP_POLICY_COUNT, &err), err);
    dp_shadow_set_capacity(shadow, capacity);
    for (uint32_t s = 0; s < STEPS; s++) {
        const dp_policy *policy = dp_shadow_step(shadow);
        uint32_t chosen = 0;
        while (dp_policies[chosen] != policy)
            chosen++;
        clock->now_ns += STEP_NS;
        dp_demands_maker_step(maker);
        for (uint32_t l = 0; l < MADE_LAYERS; l++) {
            uint16_t set[MADE_USED];
            uint64_t before = dp_sim_result(sim, chosen)->hits;
            for (uint32_t i = 0; i < MADE_USED; i++)
                set[i] = (uint16_t)maker->set[l][i];
            dp_shadow_demand(shadow, l, maker->set[l], MADE_USED);
            dp_sim_demand(sim, &(dp_demand){ l == 0, l, MADE_USED, set });
            /* what a cache of the chosen policy gains here; the cost of changing caches is
             * not in it, changes are few */
            hits += dp_sim_result(sim, chosen)->hits - before;
            wants += MADE_USED;
        }
    }
    *best = 0;
    for (uint32_t p = 0; p < DP_POLICY_COUNT; p++) {
        const dp_sim_cache *c = dp_sim_result(sim, p);
        *best = DP_MAX(*best, (double)c->hits / (double)c->wants);
    }
    dp_shadow_report_read(shadow, &report);
    *changes = report.changes;
    dp_sim_close(sim);
    return (double)hits / (double)wants;
}

/* Whatever the stream and whichever policy it began with, the one chosen is at most a point
 * below the best. */
static void test_chooses_well(void **unused)
{
    static const dp_demands_kind kinds[] = {
        { "uniform", 0, 0, 0 },
        { "skewed", 1.2, 0, 0 },
        { "sticky", 0, 0.9, 0 },
        { "sticky and skewed", 0.8, 0.7, 0 },
        { "skewed, for a while", 1.2, 0, 400 },
    };
    static const double shares[] = { 0.1, 0.375, 0.75 };

    for (size_t k = 0; k < DP_ARRAY_LEN(kinds); k++)
        for (size_t i = 0; i < DP_ARRAY_LEN(shares); i++) {
            const dp_policy *first = i == 1 ? &dp_policy_lru : &dp_policy_next;
            uint64_t total = dp_sim_total_bytes(&shape);
            test_clock clock = { { test_now, 0 }, 1, 100 };
            dp_demands_maker maker;
            dp_shadow *shadow;
            double rate, best;
            uint32_t changes;
            dp_error err;
            dp_demands_maker_init(&maker, &kinds[k], 7);
            CHECK_OK(dp_shadow_open(&shadow, &shape, first, &clock.face, &err), err);
            CHECK(shadow, "there is room for shadows");
            rate = follow(shadow, &clock, &maker, (uint64_t)(shares[i] * (double)total), &best,
                          &changes);
            print_message("%-20s %4.1f%%: %.4f of %.4f, %u changes\n", kinds[k].name,
                          100 * shares[i], rate, best, changes);
            CHECK(rate > best - 0.01, "%s: %g, the best %g", kinds[k].name, rate, best);
            CHECK(changes <= 3, "%s: %u changes", kinds[k].name, changes);
            dp_shadow_close(shadow);
        }
}

/* Where a look at the clock takes long, little is looked at: the share of time is kept. */
static void test_keeps_to_its_share(void **unused)
{
    const dp_demands_kind kind = { "skewed", 1, 0, 0 };
    test_clock clock = { { test_now, 0 }, 1, 20000 };
    dp_shadow_report report;
    dp_demands_maker maker;
    dp_shadow *shadow;
    dp_error err;

    dp_demands_maker_init(&maker, &kind, 7);
    CHECK_OK(dp_shadow_open(&shadow, &shape, &dp_policy_next, &clock.face, &err), err);
    dp_shadow_set_capacity(shadow, 20 * PAGE_SIZE);
    for (uint32_t s = 0; s < STEPS; s++) {
        dp_shadow_step(shadow);
        clock.now_ns += 5000000;
        dp_demands_maker_step(&maker);
        for (uint32_t l = 0; l < MADE_LAYERS; l++)
            dp_shadow_demand(shadow, l, maker.set[l], MADE_USED);
    }
    dp_shadow_report_read(shadow, &report);
    CHECK(report.time_share <= 1.1 * DP_SHADOW_TIME_SHARE, "%g of the time", report.time_share);
    CHECK(report.bursts > 0, "and still something was done");
    CHECK(report.window->count > 0 && report.layers <= report.layers_all, "a window");
    dp_shadow_close(shadow);
}

static void test_small_models_have_none(void **unused)
{
    const uint64_t small[1] = { 1000 };
    dp_shadow *shadow;
    dp_error err;

    CHECK_OK(dp_shadow_open(&shadow, &(dp_sim_shape){ 1, 8, small }, &dp_policy_next,
                            &dp_clock_real, &err),
             err);
    CHECK(!shadow, "8 kB of experts");
}

static void test_memory_is_short(void **unused)
{
    dp_mem_stats before, after;
    dp_status st = DP_E_NOMEM;
    dp_shadow *shadow = NULL;

    dp_mem_stats_read(&before);
    for (uint64_t n = 0; st == DP_E_NOMEM; n++) {
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_shadow_open(&shadow, &shape, &dp_policy_lru, &dp_clock_real, NULL);
        dp_fault_disarm(DP_FAULT_MEM);
        CHECK((st == DP_OK) == (shadow != NULL), "allocation %d", (int)n);
    }
    CHECK(st == DP_OK, "it gets through");
    dp_shadow_set_capacity(shadow, PAGE_SIZE);
    dp_shadow_step(shadow);
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    dp_shadow_demand(shadow, 2, (uint32_t[]){ 1 }, 1); /* lost, and no harm done */
    dp_fault_disarm(DP_FAULT_MEM);
    CHECK(dp_shadow_step(shadow) == &dp_policy_lru, "still");
    dp_shadow_close(shadow);
    dp_mem_stats_read(&after);
    CHECK(before.heap_blocks == after.heap_blocks, "nothing leaked");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chooses_well),
        cmocka_unit_test(test_keeps_to_its_share),
        cmocka_unit_test(test_small_models_have_none),
        cmocka_unit_test(test_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
