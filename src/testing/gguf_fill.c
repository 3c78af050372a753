#include "testing/gguf_fill.h"

#include <math.h>
#include <string.h>

/* Uniform integers lo .. lo + n - 1 have mean square (n^2 - 1) / 12 + mid^2. In
 * types with an offset it removes the middle; in the others the scale's random
 * sign makes the mean 0 and the half step of asymmetry stays in the rms. */
#define RMS_2BIT   1.1180 /* 0..3 about 1.5 */
#define RMS_3BIT   2.3452 /* -4..3 */
#define RMS_4BIT   4.6098 /* 0..15 about 7.5 */
#define RMS_4BIT_S 4.6368 /* -8..7 */
#define RMS_5BIT   9.2331 /* 0..31 about 15.5 */
#define RMS_5BIT_S 9.2466 /* -16..15 */
#define RMS_6BIT_S 18.4797
#define RMS_8BIT_S 73.9020
#define RMS_E2M1   5.8523 /* 0 1 2 3 4 6 8 12, the doubled table */

/* Codebook entries at random indices, as the integers that kernel.h makes of them. */
#define RMS_IQ1     6.2472 /* in eighths */
#define RMS_IQ2_XXS 23.1177
#define RMS_IQ2_XS  24.2173
#define RMS_IQ2_S   24.4303
#define RMS_IQ3_XXS 30.8487
#define RMS_IQ3_S   7.5942
#define RMS_IQ4     67.4389
#define RMS_TQ1     0.8173 /* -1 .. 1 */
#define RMS_TQ2     1.2247 /* -1 .. 2 */

/* The scales inside the K types' super-blocks. */
#define RMS_SCALE_Q2 11.7260 /* 8..15 */
#define RMS_SCALE_Q3 18.4797 /* -32..31 */
#define RMS_SCALE_Q4 36.5171 /* 0..63, also Q5_K */
#define RMS_SCALE_Q6 25.2488 /* 8..39 */

/* The odd scales of IQ types: 1 .. 15 and 1 .. 31. */
#define RMS_ODD_3BIT 9.2195
#define RMS_ODD_4BIT 18.4662

/* What divides std to give d, and how many d the offset is (0: none). */
static const struct row {
    dp_dtype type;
    float divisor, offset;
} rows[] = {
    { DP_Q4_0, RMS_4BIT_S, 0 },
    { DP_Q4_1, RMS_4BIT, -7.5f },
    { DP_Q5_0, RMS_5BIT_S, 0 },
    { DP_Q5_1, RMS_5BIT, -15.5f },
    { DP_Q8_0, RMS_8BIT_S, 0 },
    { DP_Q2_K, RMS_2BIT *RMS_SCALE_Q2, 1.5f }, /* the K types subtract */
    { DP_Q3_K, RMS_3BIT *RMS_SCALE_Q3, 0 },
    { DP_Q4_K, RMS_4BIT *RMS_SCALE_Q4, 7.5f },
    { DP_Q5_K, RMS_5BIT *RMS_SCALE_Q4, 15.5f },
    { DP_Q6_K, RMS_6BIT_S *RMS_SCALE_Q6, 0 },
    { DP_MXFP4, RMS_E2M1, 0 },
    { DP_IQ1_S, RMS_IQ1 *RMS_ODD_3BIT / 8, 0 },
    { DP_IQ1_M, RMS_IQ1 *RMS_ODD_3BIT / 8, 0 },
    { DP_IQ2_XXS, RMS_IQ2_XXS *RMS_ODD_4BIT / 8, 0 },
    { DP_IQ2_XS, RMS_IQ2_XS *RMS_ODD_4BIT / 8, 0 },
    { DP_IQ2_S, RMS_IQ2_S *RMS_ODD_4BIT / 8, 0 },
    { DP_IQ3_XXS, RMS_IQ3_XXS *RMS_ODD_4BIT / 4, 0 },
    { DP_IQ3_S, RMS_IQ3_S *RMS_ODD_4BIT, 0 },
    { DP_IQ4_NL, RMS_IQ4, 0 },
    { DP_IQ4_XS, RMS_IQ4 *RMS_6BIT_S, 0 },
    { DP_TQ1_0, RMS_TQ1, 0 },
    { DP_TQ2_0, RMS_TQ2, 0 },
    { DP_F32, 1, 0 },
    { DP_F16, 1, 0 },
    { DP_BF16, 1, 0 },
};

#define SPREAD_RMS 1.0103f /* of factors even in 0.75 .. 1.25 */

static uint32_t f32_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Rounds to nearest even; too large becomes infinity. */
static uint16_t f16_from_f32(float x)
{
    uint32_t bits = f32_bits(x);
    uint32_t sign = bits >> 16 & 0x8000;
    float magnitude = fabsf(x);

    if (magnitude >= 65520)
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x1p-14f) /* subnormal: adding 0.5 aligns the point, and rounds */
        return (uint16_t)(sign | (f32_bits(magnitude + 0.5f) - f32_bits(0.5f)));
    bits &= 0x7fffffff;
    bits += 0xfff + (bits >> 13 & 1); /* half of the dropped bits, odd rounds up */
    return (uint16_t)(sign | ((bits - (112u << 23)) >> 13));
}

bool dp_gguf_fill_init(dp_gguf_fill *fill, dp_dtype type, float mean, float std)
{
    const struct row *row = NULL;
    float d;
    int exponent;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].type == type)
            row = &rows[i];
    if (!row || (mean != 0 && dp_dtype_get(type)->block_elems != 1))
        return false;
    *fill = (dp_gguf_fill){ .type = type, .mean = mean, .std = std };
    d = std / row->divisor;
    for (int i = 0; i < 64; i++) {
        float spread = (0.75f + 0.5f * ((float)i + 0.5f) / 64) / SPREAD_RMS;

        fill->d[i] = f16_from_f32(d * spread);
        fill->offset[i] = f16_from_f32(d * spread * row->offset);
    }
    if (type == DP_MXFP4 && d > 0) {
        /* Scales are powers of two, 2^(e - 128) on the doubled table: mix the two
         * around d, whose squares are 1 and 4 of the lesser one's, so that the
         * mean square comes out. */
        float fraction = frexpf(d, &exponent) * 2; /* d = fraction * 2^(exponent - 1), 1 to 2 */

        fill->e = (uint8_t)DP_MAX(0, DP_MIN(exponent - 1 + 128, 253));
        fill->e_odds = (uint8_t)lrintf((fraction * fraction - 1) / 3 * 255);
    }
    return true;
}

static void random_bytes(dp_rng *rng, uint8_t *out, size_t size)
{
    size_t at = 0;
    uint64_t x;

    for (; size - at >= 8; at += 8) {
        x = dp_rng_u64(rng);
        memcpy(out + at, &x, 8);
    }
    if (at < size) {
        x = dp_rng_u64(rng);
        memcpy(out + at, &x, size - at);
    }
}

/* Close to normal, mean 0 and variance 1: four 16-bit uniforms summed. One draw
 * and no logarithm, which is what makes a file of floats as fast as any other. */
static float bell(dp_rng *rng)
{
    uint64_t x = dp_rng_u64(rng);
    int32_t sum = (int32_t)((x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48));

    return (float)(sum - 131070) * (1 / 37837.2f);
}

static void fill_floats(const dp_gguf_fill *fill, dp_rng *rng, uint8_t *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float x = fill->mean + fill->std * bell(rng);
        uint32_t bits = f32_bits(x);

        if (fill->type == DP_F32) {
            memcpy(out + i * 4, &x, 4);
        } else {
            uint16_t half = fill->type == DP_F16
                                ? f16_from_f32(x)
                                : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
            memcpy(out + i * 2, &half, 2);
        }
    }
}

/* The two random bytes at b choose one of the spread scales, which replaces them. */
static void put_signed(const dp_gguf_fill *fill, uint8_t *b)
{
    uint16_t d = (uint16_t)(fill->d[b[0] & 63] | (b[1] & 0x80) << 8);

    memcpy(b, &d, 2);
}

static void put_with_offset(const dp_gguf_fill *fill, uint8_t *b)
{
    int i = b[0] & 63;

    memcpy(b, &fill->d[i], 2);
    memcpy(b + 2, &fill->offset[i], 2);
}

/* IQ1_M has a quarter of its scale in the top nibble of each of four half words. */
static void put_quarters(const dp_gguf_fill *fill, uint8_t *b)
{
    uint16_t d = (uint16_t)(fill->d[b[1] >> 4 | (b[3] & 0x30)] | (b[7] & 0x80) << 8);

    for (int i = 0; i < 4; i++)
        b[2 * i + 1] = (uint8_t)((b[2 * i + 1] & 15) | (d >> (4 * i) & 15) << 4);
}

/* Eight 6-bit scales, and the same again as minima: the offset is the middle of
 * the quants, so equal minima make every sub-block's mean 0. */
static void put_scales_q4_k(uint8_t *b)
{
    for (int j = 0; j < 4; j++) {
        uint8_t low = b[j] & 63, high = b[j + 4] & 63;

        b[j] = b[j + 4] = (uint8_t)(low | (high >> 4) << 6);
        b[j + 8] = (uint8_t)((high & 15) * 0x11);
    }
}

static void put_scales(const dp_gguf_fill *fill, uint8_t *b)
{
    switch (fill->type) {
    case DP_Q4_0:
    case DP_Q5_0:
    case DP_Q8_0:
    case DP_IQ1_S:
    case DP_IQ2_XXS:
    case DP_IQ2_XS:
    case DP_IQ2_S:
    case DP_IQ3_XXS:
    case DP_IQ3_S:
    case DP_IQ4_NL:
    case DP_IQ4_XS:
        put_signed(fill, b);
        break;
    case DP_IQ1_M:
        put_quarters(fill, b + offsetof(dp_block_iq1_m, scales));
        break;
    case DP_TQ1_0:
        put_signed(fill, b + offsetof(dp_block_tq1_0, d));
        break;
    case DP_TQ2_0:
        put_signed(fill, b + offsetof(dp_block_tq2_0, d));
        break;
    case DP_Q4_1:
    case DP_Q5_1:
        put_with_offset(fill, b);
        break;
    case DP_Q2_K:
        for (int j = 0; j < 16; j++)
            b[j] = (uint8_t)((8 + (b[j] & 7)) * 0x11); /* scale and minimum alike */
        put_with_offset(fill, b + offsetof(dp_block_q2_k, d));
        break;
    case DP_Q3_K: /* any 12 bytes are good scales */
        put_signed(fill, b + offsetof(dp_block_q3_k, d));
        break;
    case DP_Q4_K:
    case DP_Q5_K:
        put_with_offset(fill, b);
        put_scales_q4_k(b + offsetof(dp_block_q4_k, scales));
        break;
    case DP_Q6_K:
        for (int j = 192; j < 208; j++) {
            int scale = 8 + (b[j] & 31);

            b[j] = (uint8_t)(b[j] & 32 ? -scale : scale);
        }
        put_signed(fill, b + offsetof(dp_block_q6_k, d));
        break;
    case DP_MXFP4:
        b[0] = (uint8_t)(fill->e + (b[0] < fill->e_odds));
        break;
    default:
        break;
    }
}

void dp_gguf_fill_run(const dp_gguf_fill *fill, dp_rng *rng, void *out, size_t count)
{
    const dp_dtype_info *info = dp_dtype_get(fill->type);
    uint8_t *bytes = out;

    if (info->block_elems == 1) {
        fill_floats(fill, rng, bytes, count);
        return;
    }
    random_bytes(rng, bytes, count * info->block_bytes);
    for (size_t i = 0; i < count; i++)
        put_scales(fill, bytes + i * info->block_bytes);
}
