/* dequant_ref.c - what the bytes of each weight format mean. Definition, not speed.
 *
 * Every product of a scale and an integer below is exact in float but Q6_K's
 * last one, so each value is rounded at most once. The IQ and TQ types, which are
 * wholly exact, are in dequant_iq_ref.c.
 */
#include <math.h>
#include <string.h>
#include "kernel/kernel_impl.h"

/* ---- scalars ---- */

static float f32_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

float dp_f32_from_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t exponent = (bits >> 10) & 31;
    uint32_t fraction = bits & 0x3ff;

    if (exponent == 31) /* infinity; a NaN comes out quiet, as hardware does */
        return f32_of_bits(sign | 0x7f800000u | fraction << 13 | (fraction ? 0x400000u : 0));
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24, exact in f32 */
        float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return f32_of_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
}

/* The 13 bits that do not fit are rounded to nearest even by adding half a unit,
 * less one when the last kept bit is even; a carry runs into the exponent, which
 * is what rounding up to the next power of two (or infinity) needs. */
uint16_t dp_f16_from_f32(float x)
{
    uint32_t bits, sign, magnitude;

    memcpy(&bits, &x, sizeof bits);
    sign = bits >> 16 & 0x8000;
    magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000u) /* NaN: kept, quiet */
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x1ff));
    if (magnitude >= 0x47800000u) /* 2^16 and above */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000u) { /* below 2^-14: a multiple of 2^-24 */
        float units = f32_of_bits(magnitude) * 0x1p24f;
        return (uint16_t)(sign | (uint32_t)lrintf(units));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((magnitude >> 13) - ((127 - 15) << 10)));
}

float dp_f32_from_bf16(uint16_t bits)
{
    return f32_of_bits((uint32_t)bits << 16);
}

uint16_t dp_bf16_from_f32(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >>
                      16); /* a carry runs into the exponent */
}

float dp_f32_from_e8m0_half(uint8_t e)
{
    /* 2^(e-128): the two smallest are subnormal in f32. */
    return e < 2 ? f32_of_bits(0x00200000u << e) : f32_of_bits((uint32_t)(e - 1) << 23);
}

/* ---- blocks of 32: element j beside element j + 16 in one byte ---- */

static void nibbles32(int8_t q[32], const uint8_t qs[16], int bias)
{
    for (int j = 0; j < 16; j++) {
        q[j] = (int8_t)((qs[j] & 15) - bias);
        q[j + 16] = (int8_t)((qs[j] >> 4) - bias);
    }
}

/* Fifth bits: bit i of the 32 in qh is element i's. */
static void fives32(int8_t q[32], const uint8_t qs[16], const uint8_t qh[4], int bias)
{
    nibbles32(q, qs, bias);
    for (int i = 0; i < 32; i++)
        q[i] = (int8_t)(q[i] + ((qh[i / 8] >> (i % 8) & 1) << 4));
}

static void unpack_mxfp4(dp_ints32 *out, const dp_block_mxfp4 *b)
{
    static const int8_t doubled_e2m1[16] = {
        0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12
    };

    nibbles32(out->q, b->qs, 0);
    for (int i = 0; i < 32; i++)
        out->q[i] = doubled_e2m1[out->q[i]];
    out->d = dp_f32_from_e8m0_half(b->e);
}

bool dp_ints32_unpack(dp_ints32 *out, dp_dtype type, const void *block)
{
    const dp_block_q4_0 *q4_0 = block;
    const dp_block_q4_1 *q4_1 = block;
    const dp_block_q5_0 *q5_0 = block;
    const dp_block_q5_1 *q5_1 = block;
    const dp_block_q8_0 *q8_0 = block;
    const dp_block_iq4_nl *iq4_nl = block;
    uint16_t halves[2] = { 0, 0 }; /* d and m */

    switch (type) {
    case DP_Q4_0:
        nibbles32(out->q, q4_0->qs, 8);
        memcpy(halves, block, 2);
        break;
    case DP_Q4_1:
        nibbles32(out->q, q4_1->qs, 0);
        memcpy(halves, block, 4);
        break;
    case DP_Q5_0:
        fives32(out->q, q5_0->qs, q5_0->qh, 16);
        memcpy(halves, block, 2);
        break;
    case DP_Q5_1:
        fives32(out->q, q5_1->qs, q5_1->qh, 0);
        memcpy(halves, block, 4);
        break;
    case DP_Q8_0:
        memcpy(out->q, q8_0->qs, 32);
        memcpy(halves, block, 2);
        break;
    case DP_MXFP4:
        unpack_mxfp4(out, block);
        out->m = 0;
        return true;
    case DP_IQ4_NL:
        nibbles32(out->q, iq4_nl->qs, 0);
        for (int i = 0; i < 32; i++)
            out->q[i] = dp_iq4_values[out->q[i]];
        memcpy(halves, block, 2);
        break;
    default:
        return false;
    }
    out->d = dp_f32_from_f16(halves[0]);
    out->m = dp_f32_from_f16(halves[1]);
    return true;
}

/* ---- super-blocks of 256 ---- */

void dp_scales_q4_k(uint8_t scale[8], uint8_t min[8], const uint8_t packed[12])
{
    for (int s = 0; s < 4; s++) {
        scale[s] = packed[s] & 63;
        min[s] = packed[s + 4] & 63;
        scale[s + 4] = (uint8_t)((packed[s + 8] & 15) | (packed[s] >> 6) << 4);
        min[s + 4] = (uint8_t)((packed[s + 8] >> 4) | (packed[s + 4] >> 6) << 4);
    }
}

/* Two bits each: a run of 32 bytes holds 128 elements, the lowest pair of bits
 * the first 32 of them, and so on. */
static void twos256(int8_t q[256], const uint8_t qs[64])
{
    for (int i = 0; i < 256; i++)
        q[i] = (int8_t)(qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3);
}

static void unpack_q2_k(dp_ints256 *out, const dp_block_q2_k *b)
{
    twos256(out->q, b->qs);
    for (int s = 0; s < 16; s++) {
        out->scale[s] = b->scales[s] & 15;
        out->min[s] = b->scales[s] >> 4;
    }
}

/* Scale s: its low nibble is in byte s % 8, its two high bits in byte 8 + s % 4. */
static void unpack_q3_k(dp_ints256 *out, const dp_block_q3_k *b)
{
    twos256(out->q, b->qs);
    for (int i = 0; i < 256; i++)
        if (!(b->hmask[i % 32] >> (i / 32) & 1))
            out->q[i] = (int8_t)(out->q[i] - 4);
    for (int s = 0; s < 16; s++) {
        int low = b->scales[s % 8] >> (s / 8 * 4) & 15;
        int high = b->scales[8 + s % 4] >> (s / 4 * 2) & 3;
        out->scale[s] = (int16_t)((low | high << 4) - 32);
        out->min[s] = 0;
    }
}

/* Four bits each: a run of 32 bytes holds 64 elements, low nibbles first. */
static void nibbles256(int8_t q[256], const uint8_t qs[128])
{
    for (int i = 0; i < 256; i++)
        q[i] = (int8_t)(qs[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15);
}

static void repeat_scales(dp_ints256 *out, const uint8_t packed[12])
{
    uint8_t scale[8], min[8];

    dp_scales_q4_k(scale, min, packed);
    for (int s = 0; s < 16; s++) {
        out->scale[s] = scale[s / 2];
        out->min[s] = min[s / 2];
    }
}

static void unpack_q5_k(dp_ints256 *out, const dp_block_q5_k *b)
{
    nibbles256(out->q, b->qs);
    for (int i = 0; i < 256; i++)
        out->q[i] = (int8_t)(out->q[i] | (b->qh[i % 32] >> (i / 32) & 1) << 4);
    repeat_scales(out, b->scales);
}

/* Each half of 128: low nibbles of 64 bytes, then their high nibbles; the upper
 * two bits as in Q2_K. */
static void unpack_q6_k(dp_ints256 *out, const dp_block_q6_k *b)
{
    twos256(out->q, b->qh);
    for (int i = 0; i < 256; i++) {
        int low = b->ql[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
        out->q[i] = (int8_t)((low | out->q[i] << 4) - 32);
    }
    for (int s = 0; s < 16; s++) {
        out->scale[s] = b->scales[s];
        out->min[s] = 0;
    }
}

bool dp_ints256_unpack(dp_ints256 *out, dp_dtype type, const void *block)
{
    const dp_block_q4_k *q4_k = block;
    const uint8_t *bytes = block;
    uint16_t halves[2] = { 0, 0 }; /* d and dmin */

    switch (type) {
    case DP_Q2_K:
        unpack_q2_k(out, block);
        memcpy(halves, bytes + offsetof(dp_block_q2_k, d), 4);
        break;
    case DP_Q3_K:
        unpack_q3_k(out, block);
        memcpy(halves, bytes + offsetof(dp_block_q3_k, d), 2);
        break;
    case DP_Q4_K:
        nibbles256(out->q, q4_k->qs);
        repeat_scales(out, q4_k->scales);
        memcpy(halves, bytes, 4);
        break;
    case DP_Q5_K:
        unpack_q5_k(out, block);
        memcpy(halves, bytes, 4);
        break;
    case DP_Q6_K:
        unpack_q6_k(out, block);
        memcpy(halves, bytes + offsetof(dp_block_q6_k, d), 2);
        break;
    default:
        return dp_ints256_unpack_iq(out, type, block);
    }
    out->d = dp_f32_from_f16(halves[0]);
    out->dmin = dp_f32_from_f16(halves[1]);
    return true;
}

/* ---- rows ---- */

static void dequantize_float(dp_dtype type, float *out, const uint8_t *row, size_t k)
{
    uint16_t half;

    for (size_t i = 0; i < k; i++) {
        if (type == DP_F32) {
            memcpy(&out[i], row + i * 4, 4);
            continue;
        }
        memcpy(&half, row + i * 2, 2);
        out[i] = type == DP_F16 ? dp_f32_from_f16(half) : dp_f32_from_bf16(half);
    }
}

bool dp_dequantize_row(dp_dtype type, float *out, const void *row, size_t k)
{
    const dp_dtype_info *info = dp_dtype_get(type);
    const uint8_t *at = row;
    dp_ints32 b32;
    dp_ints256 b256;

    switch (dp_act_for(type)) {
    case DP_ACT_F32:
        dequantize_float(type, out, row, k);
        return true;
    case DP_ACT_Q8_32:
        for (size_t b = 0; b < k / DP_QK; b++, at += info->block_bytes) {
            dp_ints32_unpack(&b32, type, at);
            for (size_t i = 0; i < DP_QK; i++)
                out[b * DP_QK + i] = b32.d * b32.q[i] + b32.m;
        }
        return true;
    case DP_ACT_Q8_256:
        for (size_t b = 0; b < k / DP_QK_K; b++, at += info->block_bytes) {
            dp_ints256_unpack(&b256, type, at);
            for (size_t i = 0; i < DP_QK_K; i++)
                out[b * DP_QK_K + i] =
                    b256.d * b256.scale[i / 16] * b256.q[i] - b256.dmin * b256.min[i / 16];
        }
        return true;
    default:
        return false;
    }
}
