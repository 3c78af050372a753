/* dequant_iq_ref.c - what the bytes of the IQ and TQ super-blocks mean. Definition, not
 * speed.
 *
 * Each type comes out as q, scale[] and d of dp_ints256, all exact: the fractions that
 * the formats write (a scale of s + 1/2, a shift of 1/8) are multiplied out of the
 * integers into d, as a power of two.
 */
#include <string.h>
#include "kernel/kernel_impl.h"
#include "kernel/ref/iq_codes.h"

static const uint16_t iq2_xxs_codes[256] = { DP_IQ2_XXS_CODES(DP_IQ_CODE) };
static const uint16_t iq2_xs_codes[512] = { DP_IQ2_XS_CODES(DP_IQ_CODE) };
static const uint16_t iq2_s_codes[1024] = { DP_IQ2_S_CODES(DP_IQ_CODE) };
static const uint16_t iq1_codes[2048] = { DP_IQ1_CODES(DP_IQ_CODE) };
static const uint16_t iq3_xxs_codes[256] = { DP_IQ3_XXS_CODES(DP_IQ_CODE) };
static const uint16_t iq3_s_codes[512] = { DP_IQ3_S_CODES(DP_IQ_CODE) };

static const int8_t iq2_values[4] = { 8, 25, 43, 0 }; /* code 3 is in no entry */
static const int8_t iq3_xxs_values[8] = { 4, 12, 20, 28, 36, 44, 52, 62 };
static const int8_t iq3_s_values[8] = { 1, 3, 5, 7, 9, 11, 13, 15 };

const int8_t dp_iq4_values[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113 };

static uint32_t load_u16(const uint8_t *p)
{
    return (uint32_t)(p[0] | p[1] << 8);
}

static uint32_t load_u32(const uint8_t *p)
{
    return load_u16(p) | load_u16(p + 2) << 16;
}

static void set_all_scales(dp_ints256 *out, int16_t scale)
{
    for (int s = 0; s < 16; s++)
        out->scale[s] = scale;
}

/* Scales of 32 weights, s of 8: both halves. */
static void set_scale32(dp_ints256 *out, int s, int scale)
{
    out->scale[2 * s] = out->scale[2 * s + 1] = (int16_t)scale;
}

/* ---- codebooks ---- */

static void octet(int8_t q[8], uint16_t code, uint32_t signs)
{
    for (int i = 0; i < 8; i++) {
        int8_t value = iq2_values[code >> (2 * i) & 3];
        q[i] = (int8_t)(signs >> i & 1 ? -value : value);
    }
}

/* The two quartets that share a byte of signs. */
static void quartets(int8_t q[8], const int8_t values[8], uint16_t low, uint16_t high,
                     uint32_t signs)
{
    uint32_t code = (uint32_t)low | (uint32_t)high << 16;

    for (int i = 0; i < 8; i++) {
        int8_t value = values[code >> (4 * i) & 7];
        q[i] = (int8_t)(signs >> i & 1 ? -value : value);
    }
}

/* Seven signs are stored, the eighth makes the number of minus signs even. */
static uint32_t even_signs(uint32_t seven)
{
    uint32_t parity = seven ^ seven >> 4;

    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return seven | (parity & 1) << 7;
}

/* For each 32 weights: four indices, then a word of four times seven signs and, on top,
 * four bits of scale. */
static void unpack_iq2_xxs(dp_ints256 *out, const dp_block_iq2_xxs *b)
{
    for (int s = 0; s < 8; s++) {
        uint32_t word = load_u32(b->qs + 8 * s + 4);

        for (int g = 0; g < 4; g++)
            octet(out->q + 32 * s + 8 * g, iq2_xxs_codes[b->qs[8 * s + g]],
                  even_signs(word >> (7 * g) & 127));
        set_scale32(out, s, (int)(2 * (word >> 28) + 1));
    }
}

/* Nine bits of index below seven of signs; a scale nibble for each 16 weights. */
static void unpack_iq2_xs(dp_ints256 *out, const dp_block_iq2_xs *b)
{
    for (int g = 0; g < 32; g++) {
        uint32_t word = load_u16(b->qs + 2 * g);
        octet(out->q + 8 * g, iq2_xs_codes[word & 511], even_signs(word >> 9));
    }
    for (int s = 0; s < 16; s++)
        out->scale[s] = (int16_t)(2 * (b->scales[s / 2] >> (s % 2 * 4) & 15) + 1);
}

/* Indices of eight bits and two more in qh, all signs stored. */
static void unpack_iq2_s(dp_ints256 *out, const dp_block_iq2_s *b)
{
    for (int g = 0; g < 32; g++) {
        uint32_t high = b->qh[g / 4] >> (g % 4 * 2) & 3u;
        octet(out->q + 8 * g, iq2_s_codes[b->qs[g] | high << 8], b->signs[g]);
    }
    for (int s = 0; s < 16; s++)
        out->scale[s] = (int16_t)(2 * (b->scales[s / 2] >> (s % 2 * 4) & 15) + 1);
}

/* 64 indices of four weights, then for each 32 weights the word that IQ2_XXS has. */
static void unpack_iq3_xxs(dp_ints256 *out, const dp_block_iq3_xxs *b)
{
    for (int g = 0; g < 32; g++) {
        uint32_t word = load_u32(b->signs + g / 4 * 4);

        quartets(out->q + 8 * g, iq3_xxs_values, iq3_xxs_codes[b->qs[2 * g]],
                 iq3_xxs_codes[b->qs[2 * g + 1]], even_signs(word >> (g % 4 * 7) & 127));
        set_scale32(out, g / 4, (int)(2 * (word >> 28) + 1));
    }
}

/* The ninth bit of index i is bit i of qh; all signs stored; a scale nibble for each 32. */
static void unpack_iq3_s(dp_ints256 *out, const dp_block_iq3_s *b)
{
    for (int g = 0; g < 32; g++) {
        uint32_t high = b->qh[g / 4] >> (g % 4 * 2);
        uint16_t first = iq3_s_codes[b->qs[2 * g] | (high & 1) << 8];
        uint16_t second = iq3_s_codes[b->qs[2 * g + 1] | (high >> 1 & 1) << 8];

        quartets(out->q + 8 * g, iq3_s_values, first, second, b->signs[g]);
    }
    for (int s = 0; s < 8; s++)
        set_scale32(out, s, 2 * (b->scales[s / 2] >> (s % 2 * 4) & 15) + 1);
}

/* Eighths: -1, 0 or 1, and a shift of an eighth that eight or more neighbours share. */
static void shifted_octet(int8_t q[8], uint16_t code, bool is_down)
{
    for (int i = 0; i < 8; i++)
        q[i] = (int8_t)(8 * ((code >> (2 * i) & 3) - 1) + (is_down ? -1 : 1));
}

/* A half word for each 32 weights: four times three bits of index, three of scale, the
 * shift's sign. */
static void unpack_iq1_s(dp_ints256 *out, const dp_block_iq1_s *b)
{
    for (int s = 0; s < 8; s++) {
        uint32_t word = load_u16(b->qh + 2 * s);

        for (int g = 0; g < 4; g++) {
            uint32_t index = b->qs[4 * s + g] | (word >> (3 * g) & 7) << 8;
            shifted_octet(out->q + 32 * s + 8 * g, iq1_codes[index], word >> 15);
        }
        set_scale32(out, s, (int)(2 * (word >> 12 & 7) + 1));
    }
}

/* A nibble for each 8 weights: three bits of index and the shift's sign. Four half words
 * hold four scales of three bits each, and above them a quarter of d. */
static uint16_t unpack_iq1_m(dp_ints256 *out, const dp_block_iq1_m *b)
{
    uint32_t d = 0;

    for (int g = 0; g < 32; g++) {
        uint32_t high = b->qh[g / 2] >> (g % 2 * 4) & 15u;
        shifted_octet(out->q + 8 * g, iq1_codes[b->qs[g] | (high & 7) << 8], high >> 3);
    }
    for (int i = 0; i < 4; i++) {
        uint32_t word = load_u16(b->scales + 2 * i);

        for (int j = 0; j < 4; j++)
            out->scale[4 * i + j] = (int16_t)(2 * (word >> (3 * j) & 7) + 1);
        d |= word >> 12 << (4 * i);
    }
    return (uint16_t)d;
}

/* ---- sixteen values, three values ---- */

/* Each 32 weights in 16 bytes, low nibbles first; six bits of scale, split four and two. */
static void unpack_iq4_xs(dp_ints256 *out, const dp_block_iq4_xs *b)
{
    for (int i = 0; i < 256; i++)
        out->q[i] = dp_iq4_values[b->qs[i / 32 * 16 + i % 16] >> (i % 32 / 16 * 4) & 15];
    for (int s = 0; s < 8; s++) {
        int low = b->scales_l[s / 2] >> (s % 2 * 4) & 15,
            high = b->scales_h[s / 4] >> (s % 4 * 2) & 3;
        set_scale32(out, s, (low | high << 4) - 32);
    }
}

/* Five ternary digits a byte, as the fraction byte / 256: times 3^n and without its whole
 * part it begins with digit n, which times 3 and rounded down is that digit. */
static int8_t ternary_digit(uint8_t byte, int n)
{
    static const uint8_t powers[5] = { 1, 3, 9, 27, 81 };
    uint8_t rest = (uint8_t)(byte * powers[n]);

    return (int8_t)((rest * 3 >> 8) - 1);
}

/* Digit n of 32 bytes is 32 neighbours; then the same with 16 bytes; then four digits of 4. */
static void unpack_tq1_0(dp_ints256 *out, const dp_block_tq1_0 *b)
{
    for (int i = 0; i < 160; i++)
        out->q[i] = ternary_digit(b->qs[i % 32], i / 32);
    for (int i = 0; i < 80; i++)
        out->q[160 + i] = ternary_digit(b->qs[32 + i % 16], i / 16);
    for (int i = 0; i < 16; i++)
        out->q[240 + i] = ternary_digit(b->qh[i % 4], i / 4);
    set_all_scales(out, 1);
}

/* Two bits each, laid out as in Q2_K. Nothing forbids a 3, which means 2. */
static void unpack_tq2_0(dp_ints256 *out, const dp_block_tq2_0 *b)
{
    for (int i = 0; i < 256; i++)
        out->q[i] = (int8_t)((b->qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) - 1);
    set_all_scales(out, 1);
}

bool dp_ints256_unpack_iq(dp_ints256 *out, dp_dtype type, const void *block)
{
    const uint8_t *d_at = block; /* most begin with d */
    float unit = 1;
    uint16_t half;

    memcpy(&half, d_at, sizeof half);
    switch (type) {
    case DP_IQ1_S:
        unpack_iq1_s(out, block);
        unit = 0.125f;
        break;
    case DP_IQ1_M:
        half = unpack_iq1_m(out, block);
        unit = 0.125f;
        break;
    case DP_IQ2_XXS:
        unpack_iq2_xxs(out, block);
        unit = 0.125f;
        break;
    case DP_IQ2_XS:
        unpack_iq2_xs(out, block);
        unit = 0.125f;
        break;
    case DP_IQ2_S:
        unpack_iq2_s(out, block);
        unit = 0.125f;
        break;
    case DP_IQ3_XXS:
        unpack_iq3_xxs(out, block);
        unit = 0.25f;
        break;
    case DP_IQ3_S:
        unpack_iq3_s(out, block);
        break;
    case DP_IQ4_XS:
        unpack_iq4_xs(out, block);
        break;
    case DP_TQ1_0:
        unpack_tq1_0(out, block);
        memcpy(&half, d_at + offsetof(dp_block_tq1_0, d), sizeof half);
        break;
    case DP_TQ2_0:
        unpack_tq2_0(out, block);
        memcpy(&half, d_at + offsetof(dp_block_tq2_0, d), sizeof half);
        break;
    default:
        return false;
    }
    memset(out->min, 0, sizeof out->min);
    out->d = dp_f32_from_f16(half) * unit;
    out->dmin = 0;
    return true;
}
