/* dequant_test.c - every field of every format, against blocks worked out by hand.
 *
 * Blocks are built here from the values they should mean, by placing bits one by
 * one at positions counted from the formats' descriptions; the decoder takes the
 * bytes apart. Nothing is shared with it.
 */
#include <math.h>
#include "base/rng.h"
#include "kernel/dequant_vectors.h"
#include "kernel/kernel.h"
#include "testing/check.h"
#include "testing/gguf_fill.h"

/* Puts the low `count` bits of value at bit `bit` of byte `byte`. */
static void put(uint8_t *bytes, int byte, int bit, int count, int value)
{
    for (int i = 0; i < count; i++)
        if (value >> i & 1)
            bytes[byte] = (uint8_t)(bytes[byte] | 1 << (bit + i));
}

static void put_f16(uint8_t *bytes, int byte, uint16_t half)
{
    bytes[byte] = (uint8_t)half;
    bytes[byte + 1] = (uint8_t)(half >> 8);
}

static void expect(dp_dtype type, const uint8_t *block, const double *want)
{
    const dp_dtype_info *info = dp_dtype_get(type);
    float got[512];

    /* Twice in a row: the second block must be found. */
    uint8_t row[512];
    memcpy(row, block, info->block_bytes);
    memcpy(row + info->block_bytes, block, info->block_bytes);
    CHECK(dp_dequantize_row(type, got, row, 2u * info->block_elems), "%s", info->name);
    for (int i = 0; i < 2 * info->block_elems; i++) {
        float value = (float)want[i % info->block_elems];
        CHECK(got[i] == value, "%s: element %d is %g, should be %g", info->name, i, got[i], value);
    }
}

/* 0x3400 is 0.25, 0xc000 is -2, 0x4200 is 3. */

/* ---- 32-element types ---- */

static int draw(dp_rng *rng, int from, int to)
{
    return from + (int)dp_rng_below(rng, (uint64_t)(to - from + 1));
}

static void q4_0(dp_rng *rng)
{
    uint8_t b[18] = { 0 };
    double want[32];

    put_f16(b, 0, 0xc000);
    for (int i = 0; i < 32; i++) {
        int q = draw(rng, 0, 15);
        put(b, 2 + i % 16, i < 16 ? 0 : 4, 4, q);
        want[i] = -2.0 * (q - 8);
    }
    expect(DP_Q4_0, b, want);
}

static void q4_1(dp_rng *rng)
{
    uint8_t b[20] = { 0 };
    double want[32];

    put_f16(b, 0, 0x3400);
    put_f16(b, 2, 0x4200);
    for (int i = 0; i < 32; i++) {
        int q = draw(rng, 0, 15);
        put(b, 4 + i % 16, i < 16 ? 0 : 4, 4, q);
        want[i] = 0.25 * q + 3;
    }
    expect(DP_Q4_1, b, want);
}

/* Q5_0 (at 2) and Q5_1 (at 4): 32 fifth bits in element order, then nibbles. */
static void fives(uint8_t *b, int at, int i, int q)
{
    put(b, at + i / 8, i % 8, 1, q >> 4);
    put(b, at + 4 + i % 16, i < 16 ? 0 : 4, 4, q);
}

static void q5_0(dp_rng *rng)
{
    uint8_t b[22] = { 0 };
    double want[32];

    put_f16(b, 0, 0x3400);
    for (int i = 0; i < 32; i++) {
        int q = draw(rng, 0, 31);
        fives(b, 2, i, q);
        want[i] = 0.25 * (q - 16);
    }
    expect(DP_Q5_0, b, want);
}

static void q5_1(dp_rng *rng)
{
    uint8_t b[24] = { 0 };
    double want[32];

    put_f16(b, 0, 0xc000);
    put_f16(b, 2, 0x3400);
    for (int i = 0; i < 32; i++) {
        int q = draw(rng, 0, 31);
        fives(b, 4, i, q);
        want[i] = -2.0 * q + 0.25;
    }
    expect(DP_Q5_1, b, want);
}

static void q8_0(dp_rng *rng)
{
    uint8_t b[34] = { 0 };
    double want[32];

    put_f16(b, 0, 0x4200);
    for (int i = 0; i < 32; i++) {
        int q = i == 5 ? -128 : draw(rng, -128, 127);
        put(b, 2 + i, 0, 8, q);
        want[i] = 3.0 * q;
    }
    expect(DP_Q8_0, b, want);
}

static void mxfp4(dp_rng *rng)
{
    static const double e2m1[8] = { 0, 0.5, 1, 1.5, 2, 3, 4, 6 };
    static const int exponents[] = { 0, 1, 2, 100, 127, 128, 200, 252 };

    for (size_t n = 0; n < DP_ARRAY_LEN(exponents); n++) {
        uint8_t b[17] = { 0 };
        double want[32];

        b[0] = (uint8_t)exponents[n];
        for (int i = 0; i < 32; i++) {
            int code = i < 16 ? i : draw(rng, 0, 15);
            put(b, 1 + i % 16, i < 16 ? 0 : 4, 4, code);
            want[i] = ldexp(code & 8 ? -e2m1[code & 7] : e2m1[code & 7], exponents[n] - 127);
        }
        expect(DP_MXFP4, b, want);
    }
}

/* ---- K types ---- */

/* The 6-bit scale and min of sub-block s, among 12 bytes at `at`. The first four
 * lie whole in bytes s and s + 4. Of the others, the low four bits share byte
 * s + 4 and the top two are above the whole ones. */
static void six_bit_pair(uint8_t *b, int at, int s, int scale, int min)
{
    if (s < 4) {
        put(b, at + s, 0, 6, scale);
        put(b, at + s + 4, 0, 6, min);
        return;
    }
    put(b, at + s + 4, 0, 4, scale);
    put(b, at + s + 4, 4, 4, min);
    put(b, at + s - 4, 6, 2, scale >> 4);
    put(b, at + s, 6, 2, min >> 4);
}

/* Q4_K has no fifth bits: five_at is 0. */
static void q4_k_or_q5_k(dp_rng *rng, dp_dtype type, int five_at, int nibbles_at)
{
    uint8_t b[176] = { 0 };
    double want[256];

    put_f16(b, 0, 0x3400);
    put_f16(b, 2, 0xc000);
    for (int s = 0; s < 8; s++) {
        int scale = draw(rng, 0, 63), min = draw(rng, 0, 63);

        six_bit_pair(b, 4, s, scale, min);
        for (int l = 0; l < 32; l++) {
            int q = draw(rng, 0, five_at ? 31 : 15);
            put(b, nibbles_at + s / 2 * 32 + l, s % 2 ? 4 : 0, 4, q);
            if (five_at)
                put(b, five_at + l, s, 1, q >> 4);
            want[s * 32 + l] = 0.25 * scale * q - -2.0 * min;
        }
    }
    expect(type, b, want);
}

static void q4_k(dp_rng *rng)
{
    q4_k_or_q5_k(rng, DP_Q4_K, 0, 16);
}

static void q5_k(dp_rng *rng)
{
    q4_k_or_q5_k(rng, DP_Q5_K, 16, 48);
}

static void q6_k(dp_rng *rng)
{
    uint8_t b[210] = { 0 };
    double want[256];

    put_f16(b, 208, 0xc000);
    for (int half = 0; half < 2; half++)
        for (int group = 0; group < 4; group++) /* of 32 */
            for (int l = 0; l < 32; l++) {
                int s = half * 8 + group * 2 + l / 16;
                int scale = s == 3 ? -128 : s * 16 - 125;
                int q = draw(rng, 0, 63);

                put(b, half * 64 + group % 2 * 32 + l, group / 2 * 4, 4, q);
                put(b, 128 + half * 32 + l, group * 2, 2, q >> 4);
                put(b, 192 + s, 0, 8, scale);
                want[half * 128 + group * 32 + l] = -2.0 * scale * (q - 32);
            }
    expect(DP_Q6_K, b, want);
}

static void q2_k(dp_rng *rng)
{
    uint8_t b[84] = { 0 };
    double want[256];

    put_f16(b, 80, 0x4200);
    put_f16(b, 82, 0x3400);
    for (int s = 0; s < 16; s++) {
        int scale = draw(rng, 0, 15), min = draw(rng, 0, 15);

        put(b, s, 0, 4, scale);
        put(b, s, 4, 4, min);
        for (int j = 0; j < 16; j++) {
            int q = draw(rng, 0, 3);
            put(b, 16 + s / 8 * 32 + s % 2 * 16 + j, s % 8 / 2 * 2, 2, q);
            want[s * 16 + j] = 3.0 * scale * q - 0.25 * min;
        }
    }
    expect(DP_Q2_K, b, want);
}

static void q3_k(dp_rng *rng)
{
    uint8_t b[110] = { 0 };
    double want[256];

    put_f16(b, 108, 0x3400);
    for (int s = 0; s < 16; s++) {
        int scale = draw(rng, 0, 63);

        put(b, 96 + (s < 8 ? s : s - 8), s < 8 ? 0 : 4, 4, scale);
        put(b, 96 + 8 + s % 4, s / 4 * 2, 2, scale >> 4);
        for (int j = 0; j < 16; j++) {
            int i = s * 16 + j, q = draw(rng, 0, 7);
            put(b, 32 + i / 128 * 32 + i % 32, i % 128 / 32 * 2, 2, q);
            put(b, i % 32, i / 32, 1, q >> 2); /* clear: 4 less */
            want[i] = 0.25 * (scale - 32) * (q - 4);
        }
    }
    expect(DP_Q3_K, b, want);
}

static void formats(void **state)
{
    static void (*const all[])(dp_rng *) = { q4_0, q4_1, q5_0, q5_1, q8_0, mxfp4,
                                             q4_k, q5_k, q6_k, q2_k, q3_k };
    dp_rng rng;

    dp_rng_init(&rng, 3);
    for (size_t i = 0; i < DP_ARRAY_LEN(all); i++)
        for (int n = 0; n < 50; n++)
            all[i](&rng);
}

static void literal_blocks(void **state)
{
    /* d = 1; bytes 0x01 ... 0x0f, 0xf8: low nibbles first. */
    static const uint8_t q4_0_bytes[18] = { 0x00, 0x3c, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07,
                                            0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0xf8 };
    /* e = 128: twice E2M1. 0x9a is 1 (code 10: -1) low, -0.5 (code 9) high. */
    static const uint8_t mxfp4_bytes[17] = { 128, 0x9a, 0x7f };
    float x[32];

    CHECK(dp_dequantize_row(DP_Q4_0, x, q4_0_bytes, 32), "Q4_0");
    CHECK(x[0] == -7 && x[7] == 0 && x[14] == 7 && x[15] == 0 && x[16] == -8 && x[31] == 7,
          "%g %g %g %g", x[0], x[15], x[16], x[31]);
    CHECK(dp_dequantize_row(DP_MXFP4, x, mxfp4_bytes, 32), "MXFP4");
    CHECK(x[0] == -2 && x[1] == -12 && x[2] == 0 && x[16] == -1 && x[17] == 12, "%g %g %g %g", x[0],
          x[1], x[16], x[17]);
}

/* ---- IQ and TQ types: what another program decodes ---- */

/* The byte of d that has its exponent; IQ1_M keeps d in the top nibbles of four half words. */
static size_t exponent_at(dp_dtype type)
{
    return type == DP_IQ1_M ? 55 : type == DP_TQ1_0 ? 53 : type == DP_TQ2_0 ? 65 : 1;
}

static void decoding_matches_vectors(void **state)
{
    static uint8_t blocks[DEQUANT_VECTOR_BLOCKS * sizeof(dp_block_iq4_xs)];
    static float values[DEQUANT_VECTOR_BLOCKS * DP_QK_K];

    for (size_t v = 0; v < DP_ARRAY_LEN(dequant_vectors); v++) {
        const dequant_vector *want = &dequant_vectors[v];
        const dp_dtype_info *info = dp_dtype_get(want->type);
        size_t size = (size_t)DEQUANT_VECTOR_BLOCKS * info->block_bytes;
        size_t count = (size_t)DEQUANT_VECTOR_BLOCKS * info->block_elems;
        uint64_t word, hash = 0xcbf29ce484222325u;
        uint32_t bits;
        dp_rng rng;

        CHECK(dp_dequantize_row(want->type, values, want->block, info->block_elems), "%s",
              info->name);
        for (size_t i = 0; i < info->block_elems; i++)
            CHECK(values[i] == want->unit * want->value[i], "%s: element %zu is %g, should be %g",
                  info->name, i, values[i], want->unit * want->value[i]);

        dp_rng_init(&rng, want->type);
        for (size_t i = 0; i < size; i += 8) { /* whole words: 1024 blocks are */
            word = dp_rng_u64(&rng);
            memcpy(blocks + i, &word, 8);
        }
        for (size_t i = exponent_at(want->type); i < size; i += info->block_bytes)
            blocks[i] = (uint8_t)((blocks[i] & 0xbf) | 0x20); /* d is normal, near 1 */
        CHECK(dp_dequantize_row(want->type, values, blocks, count), "%s", info->name);
        for (size_t i = 0; i < count; i++) {
            memcpy(&bits, &values[i], sizeof bits);
            hash = (hash ^ bits) * 0x100000001b3u;
        }
        CHECK(hash == want->hash, "%s: %016llx, should be %016llx", info->name,
              (unsigned long long)hash, (unsigned long long)want->hash);
    }
}

/* Blocks made for tests and made-up models have the size of values that was asked for. */
static void filled_blocks_are_sane(void **state)
{
    static const float stds[] = { 1, 0.02f, 0.0015f };
    enum { BLOCKS = 1000 };
    static uint8_t blocks[BLOCKS * sizeof(dp_block_iq4_xs)];
    static float values[BLOCKS * DP_QK_K];

    for (size_t v = 0; v < DP_ARRAY_LEN(dequant_vectors) * DP_ARRAY_LEN(stds); v++) {
        const dp_dtype type = dequant_vectors[v / DP_ARRAY_LEN(stds)].type;
        const dp_dtype_info *info = dp_dtype_get(type);
        double std = (double)stds[v % DP_ARRAY_LEN(stds)], sum = 0, square = 0;
        size_t count = (size_t)BLOCKS * info->block_elems;
        dp_gguf_fill fill;
        dp_rng rng;

        dp_rng_init(&rng, 5);
        CHECK(dp_gguf_fill_init(&fill, type, 0, (float)std), "%s", info->name);
        dp_gguf_fill_run(&fill, &rng, blocks, BLOCKS);
        CHECK(dp_dequantize_row(type, values, blocks, count), "%s", info->name);
        for (size_t i = 0; i < count; i++) {
            sum += (double)values[i];
            square += (double)values[i] * (double)values[i];
        }
        square = sqrt(square / (double)count);
        CHECK(fabs(square / std - 1) < 0.03, "%s: rms %g, wanted %g", info->name, square, std);
        CHECK(fabs(sum / (double)count) < 0.03 * std, "%s: mean %g of rms %g", info->name,
              sum / (double)count, std);
    }
}

/* ---- scalars and plain floats ---- */

static double f16_by_formula(uint16_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double magnitude = exponent == 0    ? ldexp(fraction, -24)
                       : exponent == 31 ? (fraction ? NAN : INFINITY)
                                        : ldexp(1024 + fraction, exponent - 25);

    return bits >> 15 ? -magnitude : magnitude;
}

static void every_f16(void **state)
{
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        double want = f16_by_formula((uint16_t)bits);
        float got = dp_f32_from_f16((uint16_t)bits);

        if (isnan(want)) {
            CHECK(isnan(got) && isnan(dp_f32_from_f16(dp_f16_from_f32(got))), "%04x", bits);
            continue;
        }
        CHECK(got == want && !signbit(got) == !(bits >> 15), "%04x: %g", bits, got);
        CHECK(dp_f16_from_f32(got) == bits, "%04x: back to %04x", bits, dp_f16_from_f32(got));
    }
}

/* Between two neighbours: below, at and above the middle. */
static void rounding_to_f16(void **state)
{
    for (uint32_t bits = 0; bits < 0x7bff; bits++) {
        double low = f16_by_formula((uint16_t)bits), high = f16_by_formula((uint16_t)(bits + 1));
        float middle = (float)((low + high) / 2);

        CHECK(dp_f16_from_f32(middle) == bits + (bits & 1), "%04x: middle", bits);
        CHECK(dp_f16_from_f32(nextafterf(middle, 0)) == bits, "%04x: below", bits);
        CHECK(dp_f16_from_f32(nextafterf(-middle, -INFINITY)) == (bits + 1 + 0x8000),
              "%04x: above, negative", bits);
    }
    CHECK(dp_f16_from_f32(65519.99f) == 0x7bff, "largest");
    CHECK(dp_f16_from_f32(65520.0f) == 0x7c00, "a tie to the even one above: infinity");
    CHECK(dp_f16_from_f32(-1e30f) == 0xfc00 && dp_f16_from_f32(-INFINITY) == 0xfc00, "-infinity");
    CHECK(dp_f16_from_f32(0x1p-149f) == 0, "to zero");
}

static void other_scalars(void **state)
{
    CHECK(dp_f32_from_bf16(0x3f80) == 1 && dp_f32_from_bf16(0xc2c8) == -100, "bf16");
    for (int e = 0; e < 256; e++)
        CHECK(dp_f32_from_e8m0_half((uint8_t)e) == ldexp(1, e - 128), "e8m0 %d", e);
}

static void float_rows(void **state)
{
    static const float f32[3] = { 1.5f, -2, 0x1p-140f };
    static const uint16_t f16[3] = { 0x3e00, 0xc000, 0x0001 }, bf16[3] = { 0x3fc0, 0xc000, 0x0001 };
    float x[3];

    CHECK(dp_dequantize_row(DP_F32, x, f32, 3) && memcmp(x, f32, sizeof x) == 0, "F32");
    CHECK(dp_dequantize_row(DP_F16, x, f16, 3) && x[0] == 1.5f && x[1] == -2 && x[2] == 0x1p-24f,
          "F16");
    CHECK(dp_dequantize_row(DP_BF16, x, bf16, 3) && x[0] == 1.5f && x[1] == -2 && x[2] == 0x1p-133f,
          "BF16");
}

static void types_without_a_decoder(void **state)
{
    uint8_t row[512] = { 0 };
    float x[256];

    for (uint32_t type = 0; type < DP_DTYPE_END; type++)
        if (dp_dtype_get(type) && dp_act_for(type) == DP_ACT_NONE)
            CHECK(!dp_dequantize_row(type, x, row, 0), "%s", dp_dtype_get(type)->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats),
        cmocka_unit_test(literal_blocks),
        cmocka_unit_test(decoding_matches_vectors),
        cmocka_unit_test(filled_blocks_are_sane),
        cmocka_unit_test(every_f16),
        cmocka_unit_test(rounding_to_f16),
        cmocka_unit_test(other_scalars),
        cmocka_unit_test(float_rows),
        cmocka_unit_test(types_without_a_decoder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
