#include "tier/forecast.h"

#include <math.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "testing/check.h"

#define EXPERTS 16

static dp_forecast *open_forecast(uint32_t layers, uint32_t experts)
{
    dp_forecast *f;
    dp_error err;

    CHECK_OK(dp_forecast_open(&f, layers, experts, &err), err);
    return f;
}

/* Of experts that follow each other in a ring, the one that comes next is due first, the
 * one that was just wanted last, although all have the same rate. */
static void test_learns_what_follows(void **unused)
{
    dp_forecast *f = open_forecast(2, 4);

    for (uint32_t t = 0; t < 4000; t++)
        dp_forecast_demand(f, 1, &(uint32_t){ t % 4 }, 1);
    /* 3 was last */
    /* 1 when all is learned: it always comes */
    CHECK(dp_forecast_steps(f, 1, 0) < 1.2f, "%g", (double)dp_forecast_steps(f, 1, 0));
    CHECK(dp_forecast_steps(f, 1, 0) < dp_forecast_steps(f, 1, 1), "0 before 1");
    CHECK(dp_forecast_steps(f, 1, 1) < dp_forecast_steps(f, 1, 2), "1 before 2");
    CHECK(dp_forecast_steps(f, 1, 2) < dp_forecast_steps(f, 1, 3), "2 before 3");
    CHECK(dp_forecast_steps(f, 0, 0) == (float)DP_FORECAST_STEPS_MAX, "a layer nobody wanted");
    dp_forecast_close(f);
}

/* Independent demands: what is left is the rate, and steps are its inverse. */
static void test_rates(void **unused)
{
    static const double rates[EXPERTS] = { 1, 0.5, 0.25, 0.1, 0.02 };
    dp_forecast *f = open_forecast(1, EXPERTS);
    dp_rng rng;

    dp_rng_init(&rng, 3);
    for (uint32_t t = 0; t < 20000; t++) {
        uint32_t set[EXPERTS], count = 0;
        for (uint32_t e = 0; e < EXPERTS; e++)
            if (dp_rng_unit(&rng) < rates[e])
                set[count++] = e;
        dp_forecast_demand(f, 0, set, count);
    }
    for (uint32_t e = 0; e < 4; e++) {
        double ratio = (double)dp_forecast_steps(f, 0, e) * rates[e];
        CHECK(ratio > 0.6 && ratio < 1.6, "expert %u: %g of its rate", e, ratio);
        CHECK(dp_forecast_steps(f, 0, e) < dp_forecast_steps(f, 0, e + 1), "expert %u", e);
    }
    CHECK(dp_forecast_steps(f, 0, EXPERTS - 1) > 1000, "never wanted");
    dp_forecast_close(f);
}

/* Whatever comes: sets of all sizes, the same set for ever, then others. */
static void test_bounds(void **unused)
{
    static const uint32_t counts[] = { 1, 4, EXPERTS, 8, 9, 0 };
    dp_forecast *f = open_forecast(1, EXPERTS);
    dp_rng rng;

    dp_rng_init(&rng, 9);
    for (uint32_t t = 0; t < 30000; t++) {
        uint32_t set[EXPERTS], count = counts[t / 1000 % DP_ARRAY_LEN(counts)];
        uint32_t shift = t % 3000 < 1500 ? 0 : (uint32_t)dp_rng_below(&rng, EXPERTS);
        for (uint32_t i = 0; i < count; i++)
            set[i] = (i + shift) % EXPERTS;
        dp_forecast_demand(f, 0, set, count);
        for (uint32_t e = 0; e < EXPERTS; e++) {
            float steps = dp_forecast_steps(f, 0, e);
            CHECK(isfinite(steps) && steps >= 1 && (double)steps <= DP_FORECAST_STEPS_MAX,
                  "step %u expert %u: %g", t, e, (double)steps);
        }
    }
    dp_forecast_close(f);
}

static void test_many_experts_go_without_weights(void **unused)
{
    dp_forecast *f = open_forecast(1, DP_FORECAST_EXPERTS_MAX + 1);

    for (uint32_t t = 0; t < 100; t++)
        dp_forecast_demand(f, 0, (uint32_t[]){ 5, DP_FORECAST_EXPERTS_MAX }, 2);
    CHECK(dp_forecast_steps(f, 0, 5) < 2, "%g", (double)dp_forecast_steps(f, 0, 5));
    dp_forecast_close(f);
}

static void test_memory_is_short(void **unused)
{
    dp_mem_stats before, after;
    dp_status st = DP_E_NOMEM;
    dp_forecast *f = NULL;
    uint64_t failures = 0;

    dp_mem_stats_read(&before);
    for (uint64_t n = 0; st == DP_E_NOMEM; n++) {
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_forecast_open(&f, 2, 8, NULL);
        failures += dp_fault_disarm(DP_FAULT_MEM);
        CHECK((st == DP_OK) == (f != NULL), "allocation %d", (int)n);
    }
    CHECK(st == DP_OK && failures == 11, "%d failed", (int)failures);
    dp_forecast_close(f);
    dp_mem_stats_read(&after);
    CHECK(before.heap_blocks == after.heap_blocks, "nothing leaked");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns_what_follows),
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_many_experts_go_without_weights),
        cmocka_unit_test(test_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
