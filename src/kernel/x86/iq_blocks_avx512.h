/* iq_blocks_avx512.h - the IQ and TQ super-blocks of 16 rows: what is known of each type, its
 * scales, and its bytes turned to words a lane, before indices are looked up
 * (iq_words_avx512.h, iq_words_vbmi.h). The formats: dequant_iq_ref.c.
 *
 * `type` is a constant wherever these are called, so each switch folds.
 */
#ifndef DP_KERNEL_X86_IQ_BLOCKS_AVX512_H
#define DP_KERNEL_X86_IQ_BLOCKS_AVX512_H

#include "kernel/x86/super_avx512.h"

/* ---- facts ---- */

static DP_ALWAYS_INLINE bool k_has_min(dp_dtype type)
{
    (void)type;
    return false;
}

/* Scales cover 32 weights (or more), not 16. */
static DP_ALWAYS_INLINE bool k_has_wide_scales(dp_dtype type)
{
    return type != DP_IQ1_M && type != DP_IQ2_XS && type != DP_IQ2_S;
}

/* Some u8 * s8 products of pairs leave 16 bits. */
static DP_ALWAYS_INLINE bool k_is_wide(dp_dtype type)
{
    return type == DP_IQ4_XS;
}

/* What was added to each weight. */
static DP_ALWAYS_INLINE int k_bias(dp_dtype type)
{
    switch (type) {
    case DP_IQ1_S:
    case DP_IQ1_M:
        return 9;
    case DP_IQ3_S:
        return 16;
    case DP_IQ4_XS:
        return 128;
    case DP_TQ1_0:
    case DP_TQ2_0:
        return 1;
    default:
        return 64;
    }
}

/* k_begin brings everything but the weights of IQ4_XS, which come a sub-block at a time. */
static DP_ALWAYS_INLINE int k_part_subs(dp_dtype type)
{
    return type == DP_IQ4_XS ? 1 : 8;
}

/* ---- what k_begin brings ---- */

typedef struct k_raw {
    __m512i index[16]; /* bytes of indices, or half words; of IQ4_XS and TQ the weights */
    __m512i sign[8];   /* for each sub-block: byte g has the signs of octet g */
    __m512i high[4];   /* bits of indices above the eighth */
} k_raw;

/* Byte g of each lane four times. */
static DP_ALWAYS_INLINE __m512i copy_byte(__m512i v, int g)
{
    const __m512i first =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));

    return _mm512_shuffle_epi8(v, _mm512_add_epi8(first, _mm512_set1_epi8((char)g)));
}

/* Seven bits a byte; the eighth makes their number even. */
static DP_ALWAYS_INLINE __m512i even_signs(__m512i seven)
{
    const __m512i odd = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0));
    __m512i low = _mm512_shuffle_epi8(odd, seven);
    __m512i high = _mm512_shuffle_epi8(odd, and8(_mm512_srli_epi32(seven, 4), 7));

    return _mm512_ternarylogic_epi32(seven, low, high, 0xf6); /* a | (b ^ c) */
}

static DP_ALWAYS_INLINE __m512i and32(__m512i v, uint32_t mask)
{
    return _mm512_and_si512(v, _mm512_set1_epi32((int)mask));
}

static DP_ALWAYS_INLINE __m512i or3(__m512i a, __m512i b, __m512i c)
{
    return _mm512_ternarylogic_epi32(a, b, c, 0xfe);
}

/* Four times seven bits and four bits of scale. */
static DP_ALWAYS_INLINE __m512i signs_packed(__m512i word)
{
    __m512i low = _mm512_or_si512(and32(word, 0x7f), and32(_mm512_slli_epi32(word, 1), 0x7f00));

    return even_signs(or3(low, and32(_mm512_slli_epi32(word, 2), 0x7f0000),
                          and32(_mm512_slli_epi32(word, 3), 0x7f000000)));
}

/* IQ2_XS: the top seven bits of four half words. */
static DP_ALWAYS_INLINE __m512i signs_above(__m512i first, __m512i second)
{
    __m512i low = _mm512_or_si512(and32(_mm512_srli_epi32(first, 9), 0x7f),
                                  and32(_mm512_srli_epi32(first, 17), 0x7f00));

    return even_signs(or3(low, and32(_mm512_slli_epi32(second, 7), 0x7f0000),
                          and32(_mm512_srli_epi32(second, 1), 0x7f000000)));
}

/* ---- scales ---- */

/* 2 v + 1 for `count` bits of each lane from `from` on. */
static DP_ALWAYS_INLINE __m512i odd_scale(__m512i v, int from, int count)
{
    __m512i twice = from ? _mm512_srli_epi32(v, (unsigned)(from - 1)) : _mm512_slli_epi32(v, 1);

    return _mm512_or_si512(and32(twice, ((1u << count) - 1) << 1), _mm512_set1_epi32(1));
}

static DP_ALWAYS_INLINE __m512i pair_of(__m512i low, __m512i high)
{
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

static DP_ALWAYS_INLINE void put_scale32(k_head *h, int s, __m512i scale)
{
    h->scale[s] = scale;
    h->pair[s] = pair_of(and32(scale, 0xffff), scale);
}

static DP_ALWAYS_INLINE void put_scales16(k_head *h, int s, __m512i first, __m512i second)
{
    h->scale[2 * s] = first;
    h->scale[2 * s + 1] = second;
    h->pair[s] = pair_of(first, second);
}

/* Eight bytes with two scales each, of 16 weights. */
static DP_ALWAYS_INLINE void put_scale_nibbles(k_head *h, __m512i first, __m512i second)
{
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        __m512i word = s < 4 ? first : second;
        put_scales16(h, s, odd_scale(word, s % 4 * 8, 4), odd_scale(word, s % 4 * 8 + 4, 4));
    }
}

static DP_ALWAYS_INLINE void put_ones(k_head *h)
{
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        h->scale[s] = _mm512_set1_epi32(1);
        h->pair[s] = _mm512_set1_epi16(1);
    }
}

static DP_ALWAYS_INLINE __m512 times(__m512 d, float unit)
{
    return _mm512_mul_ps(d, _mm512_set1_ps(unit));
}

/* ---- a type's block: everything turned, scales ready ---- */

static DP_ALWAYS_INLINE void begin_iq2_xxs(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    __m512i word[16];

    turn32(word, rows, at + 2);
    turn32(word + 8, rows, at + 34);
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        raw->index[s] = word[2 * s];
        raw->sign[s] = signs_packed(word[2 * s + 1]);
        put_scale32(h, s, odd_scale(word[2 * s + 1], 28, 4));
    }
    h->d = times(gather_f16(rows, at), 0.125f);
}

static DP_ALWAYS_INLINE void begin_iq2_xs(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    __m512i last[4];

    turn32(raw->index, rows, at + 2);
    turn32(raw->index + 8, rows, at + 34);
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++)
        raw->sign[s] = signs_above(raw->index[2 * s], raw->index[2 * s + 1]);
    turn16(last, rows, at + sizeof(dp_block_iq2_xs) - 16);
    put_scale_nibbles(h, last[2], last[3]);
    h->d = times(gather_f16(rows, at), 0.125f);
}

static DP_ALWAYS_INLINE void begin_iq2_s(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    __m512i last[4];

    turn32(raw->index, rows, at + offsetof(dp_block_iq2_s, qs));
    turn32(raw->sign, rows, at + offsetof(dp_block_iq2_s, signs));
    turn16(last, rows, at + offsetof(dp_block_iq2_s, qh));
    raw->high[0] = last[0];
    raw->high[1] = last[1];
    put_scale_nibbles(h, last[2], last[3]);
    h->d = times(gather_f16(rows, at), 0.125f);
}

static DP_ALWAYS_INLINE void begin_iq3_xxs(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    __m512i word[8];

    turn32(raw->index, rows, at + 2);
    turn32(raw->index + 8, rows, at + 34);
    turn32(word, rows, at + offsetof(dp_block_iq3_xxs, signs));
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        raw->sign[s] = signs_packed(word[s]);
        put_scale32(h, s, odd_scale(word[s], 28, 4));
    }
    h->d = times(gather_f16(rows, at), 0.25f);
}

static DP_ALWAYS_INLINE void begin_iq3_s(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    __m512i last[4];

    turn32(raw->index, rows, at + 2);
    turn32(raw->index + 8, rows, at + 34);
    turn32(raw->sign, rows, at + offsetof(dp_block_iq3_s, signs));
    turn16(last, rows, at + sizeof(dp_block_iq3_s) - 16);
    raw->high[0] = gather_u32(rows, at + offsetof(dp_block_iq3_s, qh));
    raw->high[1] = gather_u32(rows, at + offsetof(dp_block_iq3_s, qh) + 4);
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++)
        put_scale32(h, s, odd_scale(last[3], 4 * s, 4));
    h->d = gather_f16(rows, at);
}

static DP_ALWAYS_INLINE void begin_iq1_s(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    turn32(raw->index, rows, at + offsetof(dp_block_iq1_s, qs));
    turn16(raw->high, rows, at + offsetof(dp_block_iq1_s, qh));
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++)
        put_scale32(h, s, odd_scale(raw->high[s / 2], s % 2 * 16 + 12, 3));
    h->d = times(gather_f16(rows, at), 0.125f);
}

/* d is in the top nibbles of the scales' four half words. */
static DP_ALWAYS_INLINE __m512 d_of_iq1_m(__m512i first, __m512i second)
{
    __m512i low = _mm512_or_si512(and32(_mm512_srli_epi32(first, 12), 0xf),
                                  and32(_mm512_srli_epi32(first, 24), 0xf0));

    return low_f16(or3(low, and32(_mm512_srli_epi32(second, 4), 0xf00),
                       and32(_mm512_srli_epi32(second, 16), 0xf000)));
}

static DP_ALWAYS_INLINE void begin_iq1_m(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    __m512i last[4];

    turn32(raw->index, rows, at + offsetof(dp_block_iq1_m, qs));
    turn16(raw->high, rows, at + offsetof(dp_block_iq1_m, qh));
    turn16(last, rows, at + sizeof(dp_block_iq1_m) - 16);
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        const int from = s / 2 % 2 * 16 + s % 2 * 6;
        put_scales16(h, s, odd_scale(last[2 + s / 4], from, 3),
                     odd_scale(last[2 + s / 4], from + 3, 3));
    }
    h->d = times(d_of_iq1_m(last[2], last[3]), 0.125f);
}

static DP_ALWAYS_INLINE void begin_iq4_xs(k_head *h, const rows16 *rows, size_t at)
{
    __m512i word[4];

    turn16(word, rows, at); /* d and the scales' high bits, their low ones, ... */
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        __m512i low = and32(_mm512_srli_epi32(word[1], (unsigned)(4 * s)), 15);
        __m512i high = and32(_mm512_srli_epi32(word[0], (unsigned)(12 + 2 * s)), 48);

        put_scale32(h, s, _mm512_sub_epi32(_mm512_or_si512(low, high), _mm512_set1_epi32(32)));
    }
    h->d = low_f16(word[0]);
}

static DP_ALWAYS_INLINE void begin_tq1_0(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    turn32(raw->index, rows, at);
    turn16(raw->index + 8, rows, at + 32);
    raw->index[12] = gather_u32(rows, at + offsetof(dp_block_tq1_0, qh));
    put_ones(h);
    h->d = gather_f16(rows, at + offsetof(dp_block_tq1_0, d));
}

static DP_ALWAYS_INLINE void begin_tq2_0(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    turn32(raw->index, rows, at);
    turn32(raw->index + 8, rows, at + 32);
    put_ones(h);
    h->d = gather_f16(rows, at + offsetof(dp_block_tq2_0, d));
}

static DP_ALWAYS_INLINE void k_begin(dp_dtype type, k_head *h, k_raw *raw, const rows16 *rows,
                                     size_t at)
{
    h->dmin = _mm512_setzero_ps();
    switch (type) {
    case DP_IQ1_S:
        begin_iq1_s(h, raw, rows, at);
        break;
    case DP_IQ1_M:
        begin_iq1_m(h, raw, rows, at);
        break;
    case DP_IQ2_XXS:
        begin_iq2_xxs(h, raw, rows, at);
        break;
    case DP_IQ2_XS:
        begin_iq2_xs(h, raw, rows, at);
        break;
    case DP_IQ2_S:
        begin_iq2_s(h, raw, rows, at);
        break;
    case DP_IQ3_XXS:
        begin_iq3_xxs(h, raw, rows, at);
        break;
    case DP_IQ3_S:
        begin_iq3_s(h, raw, rows, at);
        break;
    case DP_IQ4_XS:
        begin_iq4_xs(h, rows, at);
        break;
    case DP_TQ1_0:
        begin_tq1_0(h, raw, rows, at);
        break;
    default: /* DP_TQ2_0 */
        begin_tq2_0(h, raw, rows, at);
        break;
    }
}

static DP_ALWAYS_INLINE void k_load(dp_dtype type, k_raw *raw, const rows16 *rows, size_t at, int s)
{
    if (type == DP_IQ4_XS)
        turn16(raw->index, rows, at + offsetof(dp_block_iq4_xs, qs) + 16 * (size_t)s);
}

#endif
