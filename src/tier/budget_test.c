#include "tier/budget.h"

#include "testing/check.h"

#define M DP_MIB

static void test_promises(void **unused)
{
    dp_budget budget;
    dp_error err;

    dp_budget_init(&budget, 100 * M);
    CHECK_OK(dp_budget_promise(&budget, DP_BUDGET_KV, 60 * M, &err), err);
    CHECK(dp_budget_promise(&budget, DP_BUDGET_WEIGHTS, 41 * M, &err) == DP_E_BUDGET, "too much");
    CHECK(!strcmp(err.text, "weights need 41.0 MiB, but 40.0 MiB of 100 MiB is left: allow more "
                            "(--ram)"),
          "%s", err.text);
    CHECK(dp_budget_left(&budget) == 40 * M, "nothing was promised");
    CHECK_OK(dp_budget_promise(&budget, DP_BUDGET_WEIGHTS, 40 * M, &err), err);
    CHECK(dp_budget_promise(&budget, DP_BUDGET_KV, UINT64_MAX, &err) == DP_E_BUDGET, "no wrap");
    CHECK(strstr(err.text, "--ctx"), "%s", err.text);
    CHECK_OK(dp_budget_promise(&budget, DP_BUDGET_TABLES, 0, &err), err);
    dp_budget_return(&budget, DP_BUDGET_KV, 60 * M);
    CHECK(dp_budget_left(&budget) == 60 * M, "returned");
    dp_budget_deinit(&budget);
}

static void test_auto(void **unused)
{
    static const struct {
        dp_sysmem memory;
        uint64_t reserve, budget;
    } rows[] = {
        { { 16384 * M, 10240 * M, UINT64_MAX, 0 }, 1024 * M, 9216 * M },
        { { 4096 * M, 2048 * M, UINT64_MAX, 0 }, 512 * M, 1536 * M },
        { { 65536 * M, 60000 * M, 8192 * M, 2192 * M }, 600 * M, 5400 * M }, /* the group is less */
        { { 65536 * M, 4000 * M, 8192 * M, 2192 * M }, 512 * M, 3488 * M },
        { { 65536 * M, 4000 * M, 1024 * M, 2192 * M }, 48 * M, 0 }, /* more used than allowed */
        { { 8192 * M, 0, UINT64_MAX, 0 }, 512 * M, 3584 * M },      /* not told what is available */
        { { 1024 * M, 300 * M, UINT64_MAX, 0 }, 75 * M, 225 * M },  /* a small container */
        { { 1024 * M, 60 * M, UINT64_MAX, 0 }, 48 * M, 12 * M },
    };
    uint64_t reserve = 0;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        uint64_t budget = dp_budget_auto_from(&rows[i].memory, &reserve);
        CHECK(budget == rows[i].budget && reserve == rows[i].reserve, "row %zu: %llu %llu", i,
              (unsigned long long)(budget / M), (unsigned long long)(reserve / M));
    }
    CHECK(dp_budget_auto(&reserve) < UINT64_MAX / 2 && reserve >= 48 * M, "this machine");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_promises),
        cmocka_unit_test(test_auto),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
