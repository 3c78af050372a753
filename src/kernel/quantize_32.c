/* Types with blocks of 32. The rules are in quantize.h. */
#include <math.h>
#include <string.h>
#include "kernel/quantize_impl.h"

#ifndef DP_QUANTIZE_SET
#define DP_QUANTIZE_SET ref
#endif

/* To the nearest whole number, halves away from 0. Exact: t and its distance to
 * |x| are floats. |x| < 2^31. */
static float nearest(float x)
{
    float a = fabsf(x), t = (float)(int32_t)a;

    t += a - t >= 0.5f;
    return x < 0 ? -t : t;
}

static float largest_magnitude(const float *x)
{
    float m = 0;

    for (int i = 0; i < DP_QK; i++)
        m = fabsf(x[i]) > m ? fabsf(x[i]) : m;
    return m;
}

void DP_QUANTIZE_NAME(q8_0)(void *out, const float *x, size_t k)
{
    dp_block_q8_0 *b = out;

    for (; k > 0; k -= DP_QK, x += DP_QK, b++) {
        float d = largest_magnitude(x) / 127;
        float inverse = d >= DP_QUANTIZE_TINY ? 1 / d : 0;

        b->d = dp_f16_from_f32(d);
        for (int i = 0; i < DP_QK; i++)
            b->qs[i] = (int8_t)nearest(x[i] * inverse);
    }
}

/* Q4_0 and Q5_0: q from 0 to 2 * half - 1, meaning d * (q - half). */
static uint16_t quantize_signed(uint8_t q[DP_QK], const float *x, int half)
{
    float largest = 0, d, inverse;

    for (int i = 0; i < DP_QK; i++) /* with its sign; of equals the first */
        largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    d = largest / (float)-half;
    inverse = fabsf(d) >= DP_QUANTIZE_TINY ? 1 / d : 0;
    for (int i = 0; i < DP_QK; i++) {
        int step = (int)(x[i] * inverse + ((float)half + 0.5f));
        int top = 2 * half - 1;

        q[i] = (uint8_t)(step > top ? top : step);
    }
    return dp_f16_from_f32(d);
}

/* Q4_1 and Q5_1: q from 0 to top, meaning d * q + m. */
static uint16_t quantize_offset(uint8_t q[DP_QK], uint16_t *m, const float *x, int top)
{
    float min = x[0], max = x[0], d, inverse;

    for (int i = 1; i < DP_QK; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    d = (max - min) / (float)top;
    inverse = d >= DP_QUANTIZE_TINY ? 1 / d : 0;
    for (int i = 0; i < DP_QK; i++) {
        int step = (int)((x[i] - min) * inverse + 0.5f);

        q[i] = (uint8_t)(step > top ? top : step);
    }
    *m = dp_f16_from_f32(min);
    return dp_f16_from_f32(d);
}

static void pack_nibbles(uint8_t qs[16], const uint8_t q[DP_QK])
{
    for (int i = 0; i < 16; i++)
        qs[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void pack_fifths(uint8_t qh[4], const uint8_t q[DP_QK])
{
    memset(qh, 0, 4);
    for (int i = 0; i < DP_QK; i++)
        qh[i / 8] = (uint8_t)(qh[i / 8] | (q[i] >> 4) << i % 8);
}

void DP_QUANTIZE_NAME(q4_0)(void *out, const float *x, size_t k)
{
    dp_block_q4_0 *b = out;
    uint8_t q[DP_QK];

    for (; k > 0; k -= DP_QK, x += DP_QK, b++) {
        b->d = quantize_signed(q, x, 8);
        pack_nibbles(b->qs, q);
    }
}

void DP_QUANTIZE_NAME(q5_0)(void *out, const float *x, size_t k)
{
    dp_block_q5_0 *b = out;
    uint8_t q[DP_QK];

    for (; k > 0; k -= DP_QK, x += DP_QK, b++) {
        b->d = quantize_signed(q, x, 16);
        pack_nibbles(b->qs, q);
        pack_fifths(b->qh, q);
    }
}

void DP_QUANTIZE_NAME(q4_1)(void *out, const float *x, size_t k)
{
    dp_block_q4_1 *b = out;
    uint8_t q[DP_QK];
    uint16_t m;

    for (; k > 0; k -= DP_QK, x += DP_QK, b++) {
        b->d = quantize_offset(q, &m, x, 15);
        b->m = m;
        pack_nibbles(b->qs, q);
    }
}

void DP_QUANTIZE_NAME(q5_1)(void *out, const float *x, size_t k)
{
    dp_block_q5_1 *b = out;
    uint8_t q[DP_QK];
    uint16_t m;

    for (; k > 0; k -= DP_QK, x += DP_QK, b++) {
        b->d = quantize_offset(q, &m, x, 31);
        b->m = m;
        pack_nibbles(b->qs, q);
        pack_fifths(b->qh, q);
    }
}

/* ---- MXFP4: 2^(e-127) times 0, 0.5, 1, 1.5, 2, 3, 4, 6 ---- */

/* Exponent of x > 0: floor(log2 x); of anything below the least normal number -127. */
static int exponent_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return (int)(bits >> 23 & 255) - 127;
}

static float inverse_unit(int e)
{
    return 2 * dp_f32_from_e8m0_half((uint8_t)(254 - e));
}

/* A magnitude in units of 2^(e-127), rounded: steps of 0.5 below 2, of 1 below 4, of 2
 * up to 6, halves to the even step, which is the even code. Adding and taking away a
 * number whose last bit is the step rounds to it. */
static float round_e2m1(float a)
{
    float by_half = (a + 0x1.8p22f) - 0x1.8p22f;
    float by_one = (a + 0x1.8p23f) - 0x1.8p23f;
    float by_two = (a + 0x1.8p24f) - 0x1.8p24f;
    float r = a < 4 ? by_one : by_two;

    r = a < 2 ? by_half : r;
    return a < 5 ? r : a > 5 ? 6 : 4;
}

/* Squared error of x [32] in units of 2^(e-127), in units of their own. */
static float error_mxfp4(const float *x, int e)
{
    float inverse = inverse_unit(e), lanes[8] = { 0 };

    for (int i = 0; i < DP_QK; i += 8)
        for (int j = 0; j < 8; j++) {
            float a = fabsf(x[i + j]) * inverse, off = a - round_e2m1(a);

            lanes[j] += off * off;
        }
    for (int half = 4; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            lanes[j] += lanes[j + half];
    return lanes[0];
}

/* The codes count the midpoints below a magnitude; one that lies on a midpoint goes to
 * the even code, so every other midpoint counts only what is above it. */
static void encode_mxfp4(uint8_t q[DP_QK], const float *x, int e)
{
    float inverse = inverse_unit(e);

    for (int i = 0; i < DP_QK; i++) {
        float a = fabsf(x[i]) * inverse;
        int code = (a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) +
                   (a >= 3.5f) + (a > 5);

        q[i] = (uint8_t)(code | (x[i] < 0 ? 8 : 0));
    }
}

/* The rule's exponent, or a neighbour that is better: one step up a unit's square is
 * four times as large. */
static int choose_exponent(const float *x)
{
    int rule = exponent_of(largest_magnitude(x)) - 2 + 127, best_e = rule < 0 ? 0 : rule;
    float best = error_mxfp4(x, best_e);

    if (rule >= 0 && rule < 254 && 4 * error_mxfp4(x, rule + 1) < best) {
        best = 4 * error_mxfp4(x, rule + 1);
        best_e = rule + 1;
    }
    if (rule > 0 && error_mxfp4(x, rule - 1) < 4 * best)
        best_e = rule - 1;
    return best_e;
}

void DP_QUANTIZE_NAME(mxfp4)(void *out, const float *x, size_t k)
{
    dp_block_mxfp4 *b = out;
    uint8_t q[DP_QK];

    for (; k > 0; k -= DP_QK, x += DP_QK, b++) {
        int e = choose_exponent(x);

        encode_mxfp4(q, x, e);
        b->e = (uint8_t)e;
        pack_nibbles(b->qs, q);
    }
}
