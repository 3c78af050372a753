/* quantize_test.c - quantizers against the decoder, published bounds, and each other.
 *
 * Bounds are of two kinds. "Published": what the format's own tools accept of a
 * quantizer (llama.cpp, tests/test-quantize-fns.cpp): on x[i] = 0.1 + 2 cos(i), 4096
 * values, sqrt(sum of squared differences) / 4096 is at most 0.002 for types of four bits
 * and more. Ours: relative rms error on Gaussian rows, a little above what was
 * measured (docs/quantize.md has the numbers).
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include "base/rng.h"
#include "kernel/quantize.h"
#include "testing/check.h"

#define K         4096
#define ROW_BYTES (K * sizeof(float))

static const struct row {
    dp_dtype type;
    double gauss_max; /* relative rms error on Gaussian rows */
} rows[] = {
    { DP_F32, 0 },      { DP_F16, 2.2e-4 },  { DP_BF16, 1.7e-3 }, { DP_Q8_0, 5.5e-3 },
    { DP_Q4_0, 0.088 }, { DP_Q4_1, 0.08 },   { DP_Q5_0, 0.044 },  { DP_Q5_1, 0.0385 },
    { DP_Q4_K, 0.072 }, { DP_Q5_K, 0.0355 }, { DP_Q6_K, 0.0172 }, { DP_MXFP4, 0.113 },
};
#define ROW_COUNT DP_ARRAY_LEN(rows)

static const char *name_of(dp_dtype type)
{
    return dp_dtype_get(type)->name;
}

static void fill_gauss(float *x, size_t n, uint64_t seed, float std)
{
    dp_rng rng;

    dp_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = dp_rng_normal(&rng) * std;
}

/* There and back. */
static void round_trip(dp_dtype type, float *back, const float *x, size_t k)
{
    static uint8_t bytes[ROW_BYTES];

    CHECK(dp_quantize_row(dp_kernels_find(NULL), type, bytes, x, k), "%s", name_of(type));
    CHECK(dp_dequantize_row(type, back, bytes, k), "%s", name_of(type));
}

static double distance(const float *a, const float *b, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum);
}

static double length(const float *a, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * a[i];
    return sqrt(sum);
}

static void test_published(void **state)
{
    static float x[K], back[K];

    for (int i = 0; i < K; i++)
        x[i] = (float)(0.1 + 2 * cos(i));
    for (size_t r = 0; r < ROW_COUNT; r++) {
        double error;

        round_trip(rows[r].type, back, x, K);
        error = distance(x, back, K) / K;
        printf("%s: %.6f of 0.002\n", name_of(rows[r].type), error);
        CHECK(error <= 0.002, "%s: %g", name_of(rows[r].type), error);
    }
}

static void test_gauss(void **state)
{
    static float x[K], back[K];

    for (size_t r = 0; r < ROW_COUNT; r++) {
        double error = 0, size = 0;

        for (uint64_t seed = 0; seed < 8; seed++) {
            fill_gauss(x, K, seed, 0.02f);
            round_trip(rows[r].type, back, x, K);
            error += pow(distance(x, back, K), 2);
            size += pow(length(x, K), 2);
        }
        error = sqrt(error / size);
        printf("%s: relative error %.5f, at most %.5f\n", name_of(rows[r].type), error,
               rows[r].gauss_max);
        CHECK(error <= rows[r].gauss_max, "%s: %g", name_of(rows[r].type), error);
    }
}

/* Rows that try what is special: by index, what `rows` of data there are. */
#define DATA_COUNT 9
static void make_data(float *x, int which)
{
    fill_gauss(x, K, (uint64_t)which + 100, 1);
    for (int i = 0; i < K; i++)
        switch (which) {
        case 0: /* zeros, of both signs */
            x[i] = i % 3 ? 0 : -0.0f;
            break;
        case 1: /* one value a block */
            x[i] = (float)(i / 32) - 60;
            break;
        case 2: /* only positive: no line goes below 0 */
            x[i] = 5 + x[i];
            break;
        case 3: /* only negative */
            x[i] = -5 - fabsf(x[i]);
            break;
        case 4: /* one large value in a run of small ones */
            x[i] *= i % 64 == 17 ? 1000 : 1e-3f;
            break;
        case 5: /* below the least f16 */
            x[i] *= 1e-9f;
            break;
        case 6: /* subnormal */
            x[i] *= 1e-40f;
            break;
        case 7: /* as large as may be */
            x[i] = i % 2 ? 65504 : -65504;
            break;
        default:
            break;
        }
}

/* Every table gives the same bytes, and what they mean is a number not further
 * from the value than the largest of its block. */
static void test_tables(void **state)
{
    static uint8_t want[ROW_BYTES + 1], got[ROW_BYTES + 1];
    static float x[K], back[K];

    for (size_t r = 0; r < ROW_COUNT; r++) {
        dp_dtype type = rows[r].type;
        uint64_t size;

        CHECK(dp_dtype_row_bytes(type, K, &size), "%s", name_of(type));
        for (int which = 0; which < DATA_COUNT; which++) {
            make_data(x, which);
            CHECK(dp_quantize_row(&dp_kernels_ref, type, want, x, K), "%s", name_of(type));
            for (size_t i = 0; dp_kernels_all[i]; i++) {
                if (!dp_kernels_all[i]->usable())
                    continue;
                memset(got, 0xa5, sizeof got);
                CHECK(dp_quantize_row(dp_kernels_all[i], type, got, x, K), "%s", name_of(type));
                CHECK(memcmp(got, want, size) == 0, "%s of %s, data %d", dp_kernels_all[i]->name,
                      name_of(type), which);
                CHECK(got[size] == 0xa5, "%s: written past the row", name_of(type));
            }
            CHECK(dp_dequantize_row(type, back, want, K), "%s", name_of(type));
            for (int i = 0; i < K; i++) {
                float largest = 0;

                for (int j = i / 256 * 256; j < i / 256 * 256 + 256; j++)
                    largest = fmaxf(largest, fabsf(x[j]));
                CHECK(fabsf(back[i] - x[i]) <= largest * 1.01f, "%s, data %d: %g is %g",
                      name_of(type), which, x[i], back[i]);
            }
        }
    }
}

/* A row's blocks do not know of each other: any split gives the same bytes. */
static void test_split(void **state)
{
    static uint8_t whole[ROW_BYTES], parts[ROW_BYTES];
    static float x[K];

    fill_gauss(x, K, 7, 1);
    for (size_t r = 0; r < ROW_COUNT; r++) {
        const dp_kernels *kernels = dp_kernels_find(NULL);
        uint64_t size, part;

        CHECK(dp_dtype_row_bytes(rows[r].type, K, &size), "size");
        CHECK(dp_dtype_row_bytes(rows[r].type, 256, &part), "size");
        dp_quantize_row(kernels, rows[r].type, whole, x, K);
        for (size_t i = 0; i < K / 256; i++)
            dp_quantize_row(kernels, rows[r].type, parts + i * part, x + i * 256, 256);
        CHECK(memcmp(whole, parts, size) == 0, "%s", name_of(rows[r].type));
    }
}

/* What a type can say exactly comes back exactly. */
static void test_exact(void **state)
{
    static const float fours[16] = { 0, 0.5f,  1,  1.5f,  2,  3,  4,  6,
                                     0, -0.5f, -1, -1.5f, -2, -3, -4, -6 };
    static float x[K], back[K];
    dp_rng rng;

    dp_rng_init(&rng, 3);
    for (int i = 0; i < K; i++) { /* a binade of its own for each block */
        int scale = i / 32 % 120 - 60;

        x[i] = ldexpf(i % 32 == 5 ? 6 : fours[dp_rng_below(&rng, 16)], scale);
    }
    round_trip(DP_MXFP4, back, x, K);
    CHECK(distance(x, back, K) == 0, "MXFP4");

    for (int i = 0; i < K; i++)
        x[i] = 0.125f * (float)(i % 32 == 9 ? -8 : (int)dp_rng_below(&rng, 16) - 8);
    round_trip(DP_Q4_0, back, x, K);
    CHECK(distance(x, back, K) == 0, "Q4_0");
    for (int i = 0; i < K; i++)
        x[i] = 0.125f * (float)(i % 32 == 9 ? 127 : (int)dp_rng_below(&rng, 255) - 127);
    round_trip(DP_Q8_0, back, x, K);
    CHECK(distance(x, back, K) == 0, "Q8_0");
    for (int i = 0; i < K; i++)
        x[i] = 0.5f * (float)(i % 32 < 2 ? i % 2 * 15 : (int)dp_rng_below(&rng, 16)) + 3;
    round_trip(DP_Q4_1, back, x, K);
    CHECK(distance(x, back, K) == 0, "Q4_1");
    for (int i = 0; i < K; i++)
        x[i] = 0.5f * (float)(i % 32 < 2 ? i % 2 * 31 : (int)dp_rng_below(&rng, 32)) - 9;
    round_trip(DP_Q5_1, back, x, K);
    CHECK(distance(x, back, K) == 0, "Q5_1");
}

/* Of a lone value and zeros, MXFP4's exponent: the rule's, or a neighbour that is nearer. */
static void test_mxfp4_scale(void **state)
{
    static const struct {
        float x, want;
    } cases[] = {
        { 6, 6 },
        { 1, 1 },
        { 7.9f, 8 }, /* the rule would cut it to 6 */
        { 5.1f, 6 },
        { 4.9f, 4 },
        { -7, -6 }, /* as near to 8: the rule's */
        { 0x1p100f, 0x1p100f },
        { 0x1p-126f, 0x1p-126f },
        { 0, 0 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++) {
        float x[32] = { 0 }, back[32];

        x[3] = cases[i].x;
        round_trip(DP_MXFP4, back, x, 32);
        CHECK(back[3] == cases[i].want, "%g is %g, expected %g", cases[i].x, back[3],
              cases[i].want);
    }
}

static void test_check(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY, 65505, -65505 };
    static float x[100];

    CHECK(dp_quantize_check(x, 100, 65504) == 100, "zeros");
    for (size_t b = 0; b < DP_ARRAY_LEN(bad); b++)
        for (size_t at = 0; at < 100; at++) {
            x[at] = bad[b];
            if (at + 1 < 100)
                x[at + 1] = NAN;
            CHECK(dp_quantize_check(x, 100, 65504) == at, "%g at %zu", bad[b], at);
            x[at] = 65504;
            CHECK(dp_quantize_check(x, at + 1, 65504) == at + 1, "good through %zu", at);
            x[at] = 0;
            if (at + 1 < 100)
                x[at + 1] = 0;
        }
    CHECK(dp_quantize_max(DP_F32) == FLT_MAX && dp_quantize_max(DP_Q4_K) == 65504, "limits");
    x[0] = dp_quantize_max(DP_BF16);
    round_trip(DP_BF16, x + 1, x, 1);
    CHECK(x[1] == x[0], "the largest bf16 comes back");
}

static void test_has(void **state)
{
    float x[256] = { 0 };
    uint8_t out[1024];

    for (int type = 0; type < DP_DTYPE_END; type++) {
        bool is_known = dp_dtype_get((uint32_t)type) != NULL;

        if (is_known)
            CHECK(dp_quantize_row(dp_kernels_find(NULL), (dp_dtype)type, out, x, 256) ==
                      dp_quantize_has((dp_dtype)type),
                  "%s", name_of((dp_dtype)type));
    }
    CHECK(!dp_quantize_has(DP_IQ4_XS) && dp_quantize_has(DP_Q6_K), "some do, some do not");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published), cmocka_unit_test(test_gauss),
        cmocka_unit_test(test_tables),    cmocka_unit_test(test_split),
        cmocka_unit_test(test_exact),     cmocka_unit_test(test_mxfp4_scale),
        cmocka_unit_test(test_check),     cmocka_unit_test(test_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
