#include "tier/policy.h"

#include "testing/check.h"

#define H ((uint64_t)DP_POLICY_HALF_LIFE_TICKS)
#define S ((uint64_t)DP_POLICY_SLOW_HALF_LIFE_TICKS)
#define P ((uint64_t)DP_POLICY_PROVEN_TICKS)

/* Two pages used at these ticks; which leaves first? -1: a, 1: b, 0: scores are equal. */
static void test_who_leaves(void **unused)
{
    static const struct {
        const char *policy;
        uint64_t a[6], b[6]; /* ticks, ended by 0 */
        int wanted;
        uint32_t a_hits, b_hits; /* since they came */
    } rows[] = {
        { "lru", { 1, 2, 3, 4, 0 }, { 5, 0 }, -1 },
        { "lru", { 7, 0 }, { 5, 6, 0 }, 1 },
        { "lru", { 5, 0 }, { 2, 5, 0 }, 0 },
        { "lfru", { 1, 2, 3, 4, 0 }, { 5, 0 }, 1 },
        { "lfru", { 4, 0 }, { 5, 0 }, -1 },
        { "lfru", { 1, 1 + H, 0 }, { 1 + H, 0 }, 1 },
        { "lfru", { 1, 1, 0 }, { H, 0 }, 1 },      /* twice, a little less than a half-life ago */
        { "lfru", { 1, 1, 0 }, { H + 2, 0 }, -1 }, /* a little more */
        { "lfu", { 1, 1, 0 }, { H + 2, 0 }, 1 },
        { "lfu", { 1, 1, 0 }, { S + 2, 0 }, -1 },
        { "hot", { 1, 1, 0 }, { S + 2, 0 }, 1 },
        { "hot", { 1, 0 }, { S, 0 }, 0 },
        { "slru", { 1, 0 }, { P, 0 }, 1, 1, 0 },
        { "slru", { 1, 0 }, { P + 2, 0 }, -1, 1, 0 },
        { "slru", { 1, 0 }, { P, 0 }, -1, 1, 7 },
        { "next", { 9, 0 }, { 8, 0 }, -1 }, /* unless a forecast says more: due next */
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        const dp_policy *policy = dp_policy_find(rows[i].policy);
        dp_page_heat a = { 0 };
        dp_page_heat b = { 0 };
        double difference;

        for (int j = 0; rows[i].a[j]; j++)
            dp_heat_touch(&a, rows[i].a[j]);
        for (int j = 0; rows[i].b[j]; j++)
            dp_heat_touch(&b, rows[i].b[j]);
        difference = policy->score(&a, rows[i].a_hits) - policy->score(&b, rows[i].b_hits);
        CHECK((difference > 0) - (difference < 0) == rows[i].wanted, "row %zu: %g", i, difference);
    }
}

static void test_find(void **unused)
{
    for (size_t i = 0; i < DP_POLICY_COUNT; i++)
        CHECK(dp_policy_find(dp_policies[i]->name) == dp_policies[i], "%s", dp_policies[i]->name);
    CHECK(dp_policy_find("next") == &dp_policy_next, "next");
    CHECK(dp_policy_find("fifo") == NULL, "fifo");
}

/* Scores stay finite and ordered over any run. */
static void test_long_runs(void **unused)
{
    dp_page_heat often = { 0 };
    dp_page_heat once = { 0 };
    uint64_t tick = 0;

    for (; tick < 1000000; tick++)
        dp_heat_touch(&often, tick);
    dp_heat_touch(&once, tick);
    CHECK(often.frequency > H && often.frequency < 2 * H, "%g", (double)often.frequency);
    CHECK(dp_policy_lfru.score(&often, 0) > dp_policy_lfru.score(&once, 0), "popular");
    dp_heat_touch(&once, tick + 20 * H);
    CHECK(dp_policy_lfru.score(&often, 0) < dp_policy_lfru.score(&once, 0), "forgotten");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_leaves),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_long_runs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
