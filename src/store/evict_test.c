#include "store/evict.h"

#include "base/rng.h"
#include "testing/check.h"

#define H DP_EVICT_HALF_S

static void heat_fades_by_half(void **unused)
{
    static const struct {
        double warmth, now, want;
    } rows[] = {
        { 1000, 1000, 1 },
        { 1000, 1000 + H, 0.5 },
        { 1000, 1000 + 10 * H, 1.0 / 1024 },
        { 1000 + 3 * H, 1000, 8 },
        { DP_EVICT_COLD, 1000, 0.0 },
    };

    for (size_t r = 0; r < DP_ARRAY_LEN(rows); r++) {
        double heat = dp_evict_heat(rows[r].warmth, rows[r].now);

        CHECK(fabs(heat - rows[r].want) < 1e-12, "row %zu: %g", r, heat);
    }
}

/* Against the plain sum over all touches of 2^-(age / half-life). */
static void warmth_is_the_sum_of_faded_touches(void **unused)
{
    dp_rng rng;

    dp_rng_init(&rng, 5);
    for (int run = 0; run < 200; run++) {
        double warmth = DP_EVICT_COLD, now = 1.7e9, sum = 0;

        for (int i = 0; i < 50; i++) {
            double step = dp_rng_unit(&rng) * 3 * H;
            uint32_t touches = 1 + (uint32_t)dp_rng_below(&rng, 4);

            now += step;
            sum = sum * exp2(-step / H) + touches;
            warmth = dp_evict_touch(warmth, now, touches);
            CHECK(fabs(dp_evict_heat(warmth, now) - sum) < 1e-6 * sum, "%g, not %g",
                  dp_evict_heat(warmth, now), sum);
        }
    }
    CHECK(dp_evict_touch(1e9 + 1000 * H, 1e9, 1) == 1e9 + 1000 * H, "far in the future");
}

static void order_is_class_then_warmth_then_place(void **unused)
{
    static const dp_evict_item sorted[] = {
        { DP_EVICT_COLD, NULL, 3, DP_PIECE_EXPERT },
        { DP_EVICT_COLD, NULL, 9, DP_PIECE_EXPERT },
        { 10, NULL, 1, DP_PIECE_EXPERT },
        { 11, NULL, 0, DP_PIECE_EXPERT },
        { DP_EVICT_COLD, NULL, 0, DP_PIECE_ALWAYS },
        { 5, NULL, 0, DP_PIECE_ALWAYS },
        { DP_EVICT_COLD, NULL, 0, DP_PIECE_HEADER },
    };

    for (size_t a = 0; a < DP_ARRAY_LEN(sorted); a++) {
        for (size_t b = 0; b < DP_ARRAY_LEN(sorted); b++)
            CHECK(dp_evict_before(&sorted[a], &sorted[b]) == (a < b), "%zu, %zu", a, b);
    }
    CHECK(!dp_evict_is_worth_more(&sorted[1], &sorted[0]), "equals do not take places");
    CHECK(dp_evict_is_worth_more(&sorted[2], &sorted[1]), "a touch does");
    CHECK(dp_evict_is_worth_more(&sorted[4], &sorted[3]), "a class does");
}

/* The list keeps the same items that sorting all of them would put first. */
static void a_list_has_the_first_to_leave(void **unused)
{
    dp_evict_item all[300], kept[300];
    dp_rng rng;

    dp_rng_init(&rng, 6);
    for (int run = 0; run < 300; run++) {
        uint32_t count = (uint32_t)dp_rng_below(&rng, 300);
        dp_evict_list list = { kept, 0, 1 + (uint32_t)dp_rng_below(&rng, 60), false };

        for (uint32_t i = 0; i < count; i++) {
            all[i] = (dp_evict_item){ (double)dp_rng_below(&rng, 40), NULL, i,
                                      (uint8_t)dp_rng_below(&rng, 3) };
            dp_evict_offer(&list, &all[i]);
        }
        dp_evict_sort(&list);
        CHECK(list.count == DP_MIN(count, list.capacity), "%u of %u", list.count, count);
        CHECK(list.is_cut == (count > list.capacity), "cut");
        for (uint32_t i = 0; i < list.count; i++) {
            uint32_t earlier = 0;

            for (uint32_t k = 0; k < count; k++)
                earlier += dp_evict_before(&all[k], &list.items[i]);
            CHECK(earlier == i, "run %d: place %u has %u before it", run, i, earlier);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heat_fades_by_half),
        cmocka_unit_test(warmth_is_the_sum_of_faded_touches),
        cmocka_unit_test(order_is_class_then_warmth_then_place),
        cmocka_unit_test(a_list_has_the_first_to_leave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
