/* Made-up blocks must decode to values of the wanted size, or models built of
 * them overflow. The decoders here are written from the format's description,
 * apart from the kernels', so that one mistake cannot hide in both. */
#include "testing/gguf_fill.h"

#include <math.h>

#include "base/base.h"
#include "testing/check.h"

static float f16(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    float x =
        exponent ? ldexpf(1024 + (float)fraction, exponent - 25) : ldexpf((float)fraction, -24);

    return h & 0x8000 ? -x : x;
}

static float load_f16(const uint8_t *b)
{
    return f16((uint16_t)(b[0] | b[1] << 8));
}

static int nibble(const uint8_t *qs, int i) /* of 32: low halves first */
{
    return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
}

static int bit(const uint8_t *bits, int i)
{
    return bits[i / 8] >> i % 8 & 1;
}

/* The 6-bit scale or minimum s of 8 in the 12 bytes of Q4_K and Q5_K. */
static int scale_q4_k(const uint8_t *b, int s, bool is_min)
{
    if (s < 4)
        return b[s + (is_min ? 4 : 0)] & 63;
    return (is_min ? b[s + 4] >> 4 : b[s + 4] & 15) | (b[s - (is_min ? 0 : 4)] >> 6) << 4;
}

static float decode_k(dp_dtype type, const uint8_t *b, int i)
{
    int s = i / 32, q = 0;

    if (type == DP_Q2_K) {
        int scale = b[i / 16];

        q = b[16 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
        return load_f16(b + 80) * (float)((scale & 15) * q) -
               load_f16(b + 82) * (float)(scale >> 4);
    }
    if (type == DP_Q3_K) {
        const uint8_t *c = b + 96;
        int j = i / 16, scale;

        q = (b[32 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3) - (b[i % 32] >> s & 1 ? 0 : 4);
        scale = (j < 8 ? c[j] & 15 : c[j - 8] >> 4) | (c[8 + j % 4] >> j / 4 * 2 & 3) << 4;
        return load_f16(b + 108) * (float)((scale - 32) * q);
    }
    if (type == DP_Q6_K) {
        int l = i % 32, group = i % 128 / 32;
        int low = b[i / 128 * 64 + group % 2 * 32 + l];
        int high = b[128 + i / 128 * 32 + l];

        q = ((group < 2 ? low & 15 : low >> 4) | (high >> group * 2 & 3) << 4) - 32;
        return load_f16(b + 208) * (float)((int8_t)b[192 + i / 16] * q);
    }
    q = b[(type == DP_Q4_K ? 16 : 48) + i / 64 * 32 + i % 32];
    q = s % 2 ? q >> 4 : q & 15;
    if (type == DP_Q5_K)
        q |= (b[16 + i % 32] >> s & 1) << 4;
    return load_f16(b) * (float)(scale_q4_k(b + 4, s, false) * q) -
           load_f16(b + 2) * (float)scale_q4_k(b + 4, s, true);
}

static float decode(dp_dtype type, const uint8_t *b, int i)
{
    static const float e2m1[] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6 };
    uint32_t bits;
    float x;
    int q;

    switch (type) {
    case DP_F32:
        memcpy(&x, b, 4);
        return x;
    case DP_F16:
        return load_f16(b);
    case DP_BF16:
        bits = (uint32_t)(b[0] | b[1] << 8) << 16;
        memcpy(&x, &bits, 4);
        return x;
    case DP_Q4_0:
        return load_f16(b) * (float)(nibble(b + 2, i) - 8);
    case DP_Q4_1:
        return load_f16(b) * (float)nibble(b + 4, i) + load_f16(b + 2);
    case DP_Q5_0:
        return load_f16(b) * (float)((nibble(b + 6, i) | bit(b + 2, i) << 4) - 16);
    case DP_Q5_1:
        return load_f16(b) * (float)(nibble(b + 8, i) | bit(b + 4, i) << 4) + load_f16(b + 2);
    case DP_Q8_0:
        return load_f16(b) * (float)(int8_t)b[2 + i];
    case DP_MXFP4:
        q = nibble(b + 1, i);
        return ldexpf(q & 8 ? -e2m1[q & 7] : e2m1[q & 7], b[0] - 127);
    default:
        return decode_k(type, b, i);
    }
}

static const dp_dtype types[] = { DP_F32,  DP_F16,  DP_BF16, DP_Q4_0, DP_Q4_1, DP_Q5_0, DP_Q5_1,
                                  DP_Q8_0, DP_Q2_K, DP_Q3_K, DP_Q4_K, DP_Q5_K, DP_Q6_K, DP_MXFP4 };
/* Those whose values kernel/dequant_test.c looks at: the codebooks are there. */
static const dp_dtype others[] = { DP_IQ1_S, DP_IQ1_M,  DP_IQ2_XXS, DP_IQ2_XS, DP_IQ2_S, DP_IQ3_XXS,
                                   DP_IQ3_S, DP_IQ4_NL, DP_IQ4_XS,  DP_TQ1_0,  DP_TQ2_0 };

#define BYTES 300000

static void test_rms(void **state)
{
    static const float stds[] = { 1, 0.02f, 0.0015f };
    static uint8_t bytes[BYTES];

    for (size_t i = 0; i < DP_ARRAY_LEN(types) * DP_ARRAY_LEN(stds); i++) {
        dp_dtype type = types[i / DP_ARRAY_LEN(stds)];
        const dp_dtype_info *info = dp_dtype_get(type);
        double std = (double)stds[i % DP_ARRAY_LEN(stds)], sum = 0, square = 0;
        size_t blocks = BYTES / info->block_bytes, count = blocks * info->block_elems;
        dp_gguf_fill fill;
        dp_rng rng;

        dp_rng_init(&rng, 7);
        CHECK(dp_gguf_fill_init(&fill, type, 0, (float)std), "%s", info->name);
        dp_gguf_fill_run(&fill, &rng, bytes, blocks);
        for (size_t j = 0; j < count; j++) {
            double x = (double)decode(type, bytes + j / info->block_elems * info->block_bytes,
                                      (int)(j % info->block_elems));

            sum += x;
            square += x * x;
        }
        square = sqrt(square / (double)count);
        CHECK(fabs(square / std - 1) < 0.02, "%s: rms %g, wanted %g", info->name, square, std);
        CHECK(fabs(sum / (double)count) < 0.02 * std, "%s: mean %g of rms %g", info->name,
              sum / (double)count, std);
    }
}

static void test_ones(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(types); i++) {
        const dp_dtype_info *info = dp_dtype_get(types[i]);
        uint8_t bytes[400];
        double sum = 0;
        dp_gguf_fill fill;
        dp_rng rng;

        dp_rng_init(&rng, 7);
        if (!dp_gguf_fill_init(&fill, types[i], 1, 0.1f)) {
            CHECK(info->block_elems != 1, "%s", info->name);
            continue;
        }
        dp_gguf_fill_run(&fill, &rng, bytes, 100);
        for (size_t j = 0; j < 100; j++)
            sum += (double)decode(types[i], bytes + j * info->block_bytes, 0);
        CHECK(fabs(sum / 100 - 1) < 0.05, "%s: mean %g", info->name, sum / 100);
    }
}

static void test_refused(void **state)
{
    static const dp_dtype refused[] = {
        DP_I8, DP_I64, DP_F64, DP_Q8_1, DP_Q8_K, DP_NVFP4, DP_Q1_0
    };
    dp_gguf_fill fill;

    for (size_t i = 0; i < DP_ARRAY_LEN(refused); i++)
        CHECK(!dp_gguf_fill_init(&fill, refused[i], 0, 1), "type %d", (int)refused[i]);
    for (size_t i = 0; i < DP_ARRAY_LEN(others); i++)
        CHECK(!dp_gguf_fill_init(&fill, others[i], 1, 1), "type %d", (int)others[i]);
}

/* Bytes depend on the seed, not on how a run was cut. */
static void test_runs(void **state)
{
    static uint8_t whole[24 * 256], cut[24 * 256];

    for (size_t i = 0; i < DP_ARRAY_LEN(types) + DP_ARRAY_LEN(others); i++) {
        dp_dtype type = i < DP_ARRAY_LEN(types) ? types[i] : others[i - DP_ARRAY_LEN(types)];
        size_t size = dp_dtype_get(type)->block_bytes;
        dp_gguf_fill fill;
        dp_rng rng;

        CHECK(dp_gguf_fill_init(&fill, type, 0, 1), "type %d", (int)type);
        dp_rng_init(&rng, 3);
        dp_gguf_fill_run(&fill, &rng, whole, 24);
        dp_rng_init(&rng, 3);
        dp_gguf_fill_run(&fill, &rng, cut, 16);
        dp_gguf_fill_run(&fill, &rng, cut + 16 * size, 8);
        CHECK(memcmp(whole, cut, 24 * size) == 0, "type %d", (int)type);
        dp_rng_init(&rng, 4);
        dp_gguf_fill_run(&fill, &rng, cut, 24);
        CHECK(memcmp(whole, cut, 24 * size) != 0, "type %d", (int)type);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rms),
        cmocka_unit_test(test_ones),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_runs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
