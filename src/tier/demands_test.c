#include "tier/demands.h"

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"

static void test_what_was_added_comes_back(void **unused)
{
    static const uint32_t sets[3][4] = { { 1, 2, 3, 4 }, { 0, 65534, 7, 0 }, { 9, 0, 0, 0 } };
    static const uint32_t counts[3] = { 4, 3, 0 };
    dp_demands demands;
    dp_demand d;
    size_t at = 0;

    dp_demands_init(&demands, SIZE_MAX / 2);
    for (uint32_t i = 0; i < 3000; i++)
        CHECK(dp_demands_add(&demands, i % 5 == 0, i % DP_DEMANDS_LAYERS_MAX, sets[i % 3],
                             counts[i % 3]),
              "demand %u", i);
    for (uint32_t i = 0; i < 3000; i++) {
        CHECK(dp_demands_next(&demands, &at, &d), "demand %u", i);
        CHECK(d.begins_step == (i % 5 == 0) && d.layer == i && d.count == counts[i % 3], "%u", i);
        for (uint32_t k = 0; k < d.count; k++)
            CHECK(d.experts[k] == sets[i % 3][k], "demand %u expert %u", i, k);
    }
    CHECK(!dp_demands_next(&demands, &at, &d), "the end");
    dp_demands_reset(&demands);
    at = 0;
    CHECK(!dp_demands_next(&demands, &at, &d), "empty again");
    dp_demands_deinit(&demands);
}

static void test_full_or_no_memory(void **unused)
{
    const uint32_t set[4] = { 1, 2, 3, 4 };
    dp_demands demands;
    dp_mem_stats before, after;

    dp_mem_stats_read(&before);
    dp_demands_init(&demands, 13);
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(!dp_demands_add(&demands, true, 0, set, 4), "no memory");
    dp_fault_disarm(DP_FAULT_MEM);
    CHECK(dp_demands_add(&demands, true, 0, set, 4), "6 words");
    CHECK(dp_demands_add(&demands, true, 0, set, 4), "12 words");
    CHECK(!dp_demands_add(&demands, true, 0, set, 0), "14 words are too many");
    CHECK(demands.count == 12, "unchanged");
    dp_demands_deinit(&demands);
    dp_mem_stats_read(&after);
    CHECK(before.heap_blocks == after.heap_blocks, "nothing leaked");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_added_comes_back),
        cmocka_unit_test(test_full_or_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
