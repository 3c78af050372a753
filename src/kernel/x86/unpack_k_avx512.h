/* unpack_k_avx512.h - super-blocks of 16 rows, turned to words a lane.
 *
 * Room     For each K type: its scales (k_begin) and its weights, 8 words a
 *          sub-block of 32 (k_words), from bytes that k_load has turned. Word t of
 *          sub-block s holds weights 32 s + 4 t ... + 3 of row r in lane r, biases
 *          still on, so that they are unsigned. The formats: dequant_ref.c.
 *
 *          `type` is a constant wherever these are called, so each switch folds.
 */
#ifndef DP_KERNEL_X86_UNPACK_K_AVX512_H
#define DP_KERNEL_X86_UNPACK_K_AVX512_H

#include "kernel/x86/super_avx512.h"

static DP_ALWAYS_INLINE bool k_has_min(dp_dtype type)
{
    return type == DP_Q4_K || type == DP_Q5_K || type == DP_Q2_K;
}

/* Scales cover 32 weights, not 16. */
static DP_ALWAYS_INLINE bool k_has_wide_scales(dp_dtype type)
{
    return type == DP_Q4_K || type == DP_Q5_K;
}

/* Some u8 * s8 products of pairs leave 16 bits. */
static DP_ALWAYS_INLINE bool k_is_wide(dp_dtype type)
{
    (void)type;
    return false;
}

/* What was added to each weight. */
static DP_ALWAYS_INLINE int k_bias(dp_dtype type)
{
    return type == DP_Q6_K ? 32 : 4;
}

/* ---- scales ---- */

/* Q4_K, Q5_K: the first 16 bytes are d, dmin and three words of 6-bit numbers. */
static DP_ALWAYS_INLINE void head_q4_k(k_head *h, const rows16 *rows, size_t offset)
{
    __m512i word[4], scale[2], min[2];

    turn16(word, rows, offset);
    scale[0] = and8(word[1], 63);
    min[0] = and8(word[2], 63);
    scale[1] = _mm512_or_si512(and8(word[3], 15), and8(_mm512_srli_epi32(word[1], 2), 48));
    min[1] = _mm512_or_si512(and8(_mm512_srli_epi32(word[3], 4), 15),
                             and8(_mm512_srli_epi32(word[2], 2), 48));
    h->d = low_f16(word[0]);
    h->dmin = high_f16(word[0]);
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        h->scale[s] = byte_unsigned(scale[s / 4], s % 4);
        h->pair[s] = byte_pair(min[s / 4], s % 4, s % 4);
    }
}

static DP_ALWAYS_INLINE void head_q2_k(k_head *h, const rows16 *rows, size_t offset)
{
    __m512i word[4], d = gather_u32(rows, offset + offsetof(dp_block_q2_k, d));

    turn16(word, rows, offset);
    h->d = low_f16(d);
    h->dmin = high_f16(d);
#pragma GCC unroll 16
    for (int s = 0; s < 16; s++)
        h->scale[s] = byte_unsigned(and8(word[s / 4], 15), s % 4);
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++)
        h->pair[s] =
            byte_pair(and8(_mm512_srli_epi32(word[s / 2], 4), 15), s % 2 * 2, s % 2 * 2 + 1);
}

/* The block's last 16 bytes: two of qs, twelve of scales, d. */
static DP_ALWAYS_INLINE void head_q3_k(k_head *h, const rows16 *rows, size_t offset)
{
    __m512i word[4], low[2], high, scale[4];

    turn16(word, rows, offset + sizeof(dp_block_q3_k) - 16);
    h->d = high_f16(word[3]);
    low[0] = _mm512_or_si512(_mm512_srli_epi32(word[0], 16), _mm512_slli_epi32(word[1], 16));
    low[1] = _mm512_or_si512(_mm512_srli_epi32(word[1], 16), _mm512_slli_epi32(word[2], 16));
    high = _mm512_or_si512(_mm512_srli_epi32(word[2], 16), _mm512_slli_epi32(word[3], 16));
    scale[0] = _mm512_or_si512(and8(low[0], 15), and8(_mm512_slli_epi32(high, 4), 48));
    scale[1] = _mm512_or_si512(and8(low[1], 15), and8(_mm512_slli_epi32(high, 2), 48));
    scale[2] = _mm512_or_si512(and8(_mm512_srli_epi32(low[0], 4), 15), and8(high, 48));
    scale[3] = _mm512_or_si512(and8(_mm512_srli_epi32(low[1], 4), 15),
                               and8(_mm512_srli_epi32(high, 2), 48));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        scale[i] = _mm512_sub_epi8(scale[i], _mm512_set1_epi8(32));
    signed_scales(h, scale);
}

static DP_ALWAYS_INLINE void head_q6_k(k_head *h, const rows16 *rows, size_t offset)
{
    __m512i scale[4];

    turn16(scale, rows, offset + offsetof(dp_block_q6_k, scales));
    h->d = gather_f16(rows, offset + offsetof(dp_block_q6_k, d));
    signed_scales(h, scale);
}

/* ---- weights ---- */

typedef struct k_raw {
    __m512i low[16]; /* nibbles or pairs of bits */
    __m512i high[8]; /* the bits above them */
} k_raw;

static DP_ALWAYS_INLINE void k_begin(dp_dtype type, k_head *h, k_raw *raw, const rows16 *rows,
                                     size_t offset)
{
    (void)raw;
    h->dmin = _mm512_setzero_ps();
    if (type == DP_Q4_K || type == DP_Q5_K)
        head_q4_k(h, rows, offset);
    else if (type == DP_Q2_K)
        head_q2_k(h, rows, offset);
    else if (type == DP_Q3_K)
        head_q3_k(h, rows, offset);
    else
        head_q6_k(h, rows, offset);
}

/* Sub-blocks that share bytes: 64 weights for nibbles, 128 where pairs of bits do. */
static DP_ALWAYS_INLINE int k_part_subs(dp_dtype type)
{
    return k_has_wide_scales(type) ? 2 : 4;
}

/* The bytes of the part that begins with sub-block s, a multiple of k_part_subs. */
static DP_ALWAYS_INLINE void k_load(dp_dtype type, k_raw *raw, const rows16 *rows, size_t offset,
                                    int s)
{
    size_t part = (size_t)(s / k_part_subs(type));

    if (type == DP_Q4_K)
        turn32(raw->low, rows, offset + offsetof(dp_block_q4_k, qs) + part * 32);
    if (type == DP_Q5_K) {
        turn32(raw->low, rows, offset + offsetof(dp_block_q5_k, qs) + part * 32);
        if (part == 0)
            turn32(raw->high, rows, offset + offsetof(dp_block_q5_k, qh));
    }
    if (type == DP_Q2_K)
        turn32(raw->low, rows, offset + offsetof(dp_block_q2_k, qs) + part * 32);
    if (type == DP_Q3_K) {
        turn32(raw->low, rows, offset + offsetof(dp_block_q3_k, qs) + part * 32);
        if (part == 0)
            turn32(raw->high, rows, offset + offsetof(dp_block_q3_k, hmask));
    }
    if (type == DP_Q6_K) {
        turn32(raw->low, rows, offset + offsetof(dp_block_q6_k, ql) + part * 64);
        turn32(raw->low + 8, rows, offset + offsetof(dp_block_q6_k, ql) + part * 64 + 32);
        turn32(raw->high, rows, offset + offsetof(dp_block_q6_k, qh) + part * 32);
    }
}

/* The eight words of sub-block s, after the k_load of its part. */
static DP_ALWAYS_INLINE void k_words(dp_dtype type, __m512i word[8], k_raw *raw, int s)
{
#pragma GCC unroll 8
    for (int t = 0; t < 8; t++) {
        if (type == DP_Q4_K || type == DP_Q5_K)
            word[t] = bits8(raw->low[t], s % 2 * 4, 4, 0);
        if (type == DP_Q2_K || type == DP_Q3_K)
            word[t] = bits8(raw->low[t], s % 4 * 2, 2, 0);
        if (type == DP_Q6_K)
            word[t] = _mm512_or_si512(bits8(raw->low[s % 2 * 8 + t], s % 4 / 2 * 4, 4, 0),
                                      bits8(raw->high[t], s % 4 * 2, 2, 4));
        if (type == DP_Q5_K)
            word[t] = _mm512_or_si512(word[t], bits8(raw->high[t], s, 1, 4));
        if (type == DP_Q3_K)
            word[t] = _mm512_or_si512(word[t], bits8(raw->high[t], s, 1, 2));
    }
}

#endif
