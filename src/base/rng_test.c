#include "testing/check.h"

#include <math.h>

#include "base/rng.h"

/* Against an independent computation of splitmix64 and xoshiro256** (whole
 * numbers of any length, reduced mod 2^64). */
static void test_known_numbers(void **state)
{
    static const struct {
        uint64_t seed;
        uint64_t want[4];
    } rows[] = {
        { 0, { 0x99ec5f36cb75f2b4, 0xbf6e1f784956452a, 0x1a5f849d4933e6e0, 0x6aa594f1262d2d2c } },
        { 1, { 0xb3f2af6d0fc710c5, 0x853b559647364cea, 0x92f89756082a4514, 0x642e1c7bc266a3a7 } },
        { UINT64_MAX,
          { 0x8f5520d52a7ead08, 0xc476a018caa1802d, 0x81de31c0d260469e, 0xbf658d7e065f3c2f } },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_rng rng;

        dp_rng_init(&rng, rows[i].seed);
        for (size_t k = 0; k < 4; k++) {
            uint64_t x = dp_rng_u64(&rng);
            CHECK(x == rows[i].want[k], "seed %zu, number %zu: %llx", i, k, (unsigned long long)x);
        }
    }
}

static void test_ranges(void **state)
{
    static const uint64_t bounds[] = { 1, 2, 3, 10, 1000, (uint64_t)1 << 63, UINT64_MAX };
    uint32_t counts[10] = { 0 };
    dp_rng rng;

    dp_rng_init(&rng, 1);
    for (size_t i = 0; i < DP_ARRAY_LEN(bounds); i++)
        for (int k = 0; k < 1000; k++)
            CHECK(dp_rng_below(&rng, bounds[i]) < bounds[i], "bound %zu", i);
    for (int k = 0; k < 100000; k++) {
        double unit = dp_rng_unit(&rng);
        CHECK(unit >= 0 && unit < 1, "%g", unit);
        counts[dp_rng_below(&rng, 10)]++;
    }
    for (int i = 0; i < 10; i++) /* 10 standard deviations */
        CHECK(counts[i] > 9050 && counts[i] < 10950, "%d: %u", i, counts[i]);
}

static void test_normal(void **state)
{
    const int count = 100000;
    double sum = 0;
    double sum_of_squares = 0;
    dp_rng rng;

    dp_rng_init(&rng, 2);
    for (int i = 0; i < count; i++) {
        double x = dp_rng_normal(&rng);
        CHECK(isfinite(x), "%g", x);
        sum += x;
        sum_of_squares += x * x;
    }
    CHECK(fabs(sum / count) < 0.03, "mean %g", sum / count);
    CHECK(fabs(sum_of_squares / count - 1) < 0.05, "variance %g", sum_of_squares / count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_numbers),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_normal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
