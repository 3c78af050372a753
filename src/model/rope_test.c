#include "model/rope.h"

#include <math.h>

#include "testing/check.h"

static dp_rope rope;

static dp_hparams plain(uint32_t dim, float base)
{
    return (dp_hparams){ .rope_dim = dim,
                         .rope_base = base,
                         .rope_factor = 1,
                         .rope_attn_factor = 1,
                         .yarn_beta_fast = 32,
                         .yarn_beta_slow = 1 };
}

static void check_near(double found, double want, double bound, const char *what, uint32_t i)
{
    CHECK(fabs(found - want) <= bound, "%s %u: %.9g, expected %.9g", what, i, found, want);
}

static void plain_pairs_slow_down_geometrically(void **unused)
{
    dp_hparams hp = plain(8, 10000);

    dp_rope_init(&rope, &hp, NULL, true);
    CHECK(rope.pair_count == 4 && rope.magnitude == 1, "%u pairs", rope.pair_count);
    for (uint32_t i = 0; i < 4; i++)
        check_near(rope.theta[i], (double[]){ 1, 0.1, 0.01, 0.001 }[i], 1e-15, "pair", i);
}

static void angles_are_position_times_speed(void **unused)
{
    static const uint32_t positions[] = { 0, 1, 129, 131071, (1u << 24) - 1 };
    dp_hparams hp = plain(128, 500000);
    float cosines[64], sines[64];

    dp_rope_init(&rope, &hp, NULL, true);
    for (size_t p = 0; p < DP_ARRAY_LEN(positions); p++) {
        dp_rope_angles(&rope, positions[p], cosines, sines);
        for (uint32_t i = 0; i < 64; i++) {
            long double angle = positions[p] * powl(500000, -2.0L * i / 128);
            /* The angle itself is good to a few parts in 2^53. */
            check_near(cosines[i], (double)cosl(angle), 1e-7, "cos", i);
            check_near(sines[i], (double)sinl(angle), 1e-7, "sin", i);
        }
    }
}

static void divisors_divide(void **unused)
{
    dp_hparams hp = plain(8, 10000);

    dp_rope_init(&rope, &hp, (float[]){ 1, 1.25, 2, 8 }, true);
    for (uint32_t i = 0; i < 4; i++)
        check_near(rope.theta[i], (double[]){ 1, 0.08, 0.005, 0.000125 }[i], 1e-15, "pair", i);
}

static void linear_scaling_divides_all(void **unused)
{
    dp_hparams hp = plain(64, 10000);

    hp.rope_scaling = DP_ROPE_LINEAR;
    hp.rope_factor = 4;
    dp_rope_init(&rope, &hp, NULL, true);
    CHECK(rope.magnitude == 1, "%g", rope.magnitude);
    for (uint32_t i = 0; i < 32; i++)
        check_near(rope.theta[i], pow(10000, -(double)i / 32) / 4, 1e-15, "pair", i);
}

/* gpt-oss: factor 32 over 4096, base 150000, 64 values. DeepSeek-V3: 40 over 4096,
 * base 10000, 64 values. Ends of the ramp as both models' references have them. */
static const struct {
    float base, factor;
    bool rounds;
    double low, high, magnitude;
} yarns[] = {
    { 150000, 32, false, 8.0928, 17.3980, 1.34657 },
    { 150000, 32, true, 8, 18, 1.34657 },
    { 10000, 40, true, 10, 23, 1.36889 },
    { 10000, 40, false, 10.4722, 22.5132, 1.36889 },
};

static void yarn_blends_by_its_ramp(void **unused)
{
    for (size_t y = 0; y < DP_ARRAY_LEN(yarns); y++) {
        dp_hparams hp = plain(64, yarns[y].base);

        hp.rope_scaling = DP_ROPE_YARN;
        hp.rope_factor = yarns[y].factor;
        hp.rope_original_context = 4096;
        dp_rope_init(&rope, &hp, NULL, yarns[y].rounds);
        check_near(rope.magnitude, yarns[y].magnitude, 1e-5, "magnitude of", (uint32_t)y);
        for (uint32_t i = 0; i < 32; i++) {
            double ramp = (i - yarns[y].low) / (yarns[y].high - yarns[y].low);
            double share = fmin(fmax(ramp, 0), 1);
            double want = 1 - share + share / yarns[y].factor;
            check_near(rope.theta[i] * pow(yarns[y].base, i / 32.0), want, 3e-5, "pair", i);
        }
    }
}

static void yarn_magnitude_is_in_cos_and_sin(void **unused)
{
    dp_hparams hp = plain(64, 150000);
    float cosines[32], sines[32];

    hp.rope_scaling = DP_ROPE_YARN;
    hp.rope_factor = 32;
    hp.rope_attn_factor = 0.5f;
    hp.rope_original_context = 4096;
    dp_rope_init(&rope, &hp, NULL, true);
    for (uint32_t position = 0; position < 300; position += 43) {
        dp_rope_angles(&rope, position, cosines, sines);
        for (uint32_t i = 0; i < 32; i++)
            check_near(hypot(cosines[i], sines[i]), 1.3465736 / 2, 1e-6, "pair", i);
    }
    hp.yarn_log_multiplier = 0.1f; /* the magnitude is the softmax's then */
    dp_rope_init(&rope, &hp, NULL, true);
    check_near(rope.magnitude, 0.5, 1e-9, "magnitude with a multiplier", 0);
}

/* A context so short that the ramp would begin and end below pair 0. */
static void yarn_of_a_short_context_stays_in_range(void **unused)
{
    dp_hparams hp = plain(64, 10000);

    hp.rope_scaling = DP_ROPE_YARN;
    hp.rope_factor = 4;
    hp.rope_original_context = 1;
    dp_rope_init(&rope, &hp, NULL, true);
    for (uint32_t i = 0; i < 32; i++) {
        double want = pow(10000, -(double)i / 32) / (i ? 4 : 1);
        check_near(rope.theta[i], want, 1e-12, "pair", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_pairs_slow_down_geometrically),
        cmocka_unit_test(angles_are_position_times_speed),
        cmocka_unit_test(divisors_divide),
        cmocka_unit_test(linear_scaling_divides_all),
        cmocka_unit_test(yarn_blends_by_its_ramp),
        cmocka_unit_test(yarn_magnitude_is_in_cos_and_sin),
        cmocka_unit_test(yarn_of_a_short_context_stays_in_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
