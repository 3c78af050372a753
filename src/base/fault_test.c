#include "testing/check.h"

#include "base/fault.h"

static void test_visits(void **state)
{
    static const struct {
        uint64_t first, run;
        const char *want; /* x: the visit fails */
    } rows[] = {
        { 0, 1, "x....." }, { 0, 3, "xxx..." },          { 2, 2, "..xx.." },
        { 2, 0, "......" }, { 4, UINT64_MAX, "....xx" }, { 99, 1, "......" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        uint64_t failed_count = 0;
        uint64_t told;

        dp_fault_arm(DP_FAULT_READ, rows[i].first, rows[i].run);
        for (size_t n = 0; rows[i].want[n]; n++) {
            bool must_fail = dp_fault_visit(DP_FAULT_READ);
            CHECK(must_fail == (rows[i].want[n] == 'x'), "row %zu, visit %zu", i, n);
            CHECK(!dp_fault_visit(DP_FAULT_MEM), "another point");
            failed_count += must_fail;
        }
        told = dp_fault_disarm(DP_FAULT_READ);
        CHECK(told == failed_count, "row %zu", i);
        CHECK(!dp_fault_visit(DP_FAULT_READ), "disarmed");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_visits) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
