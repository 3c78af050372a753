/* unpack_32_avx512.h - 32-element blocks of 16 rows, turned to words a lane.
 *
 * Room     q32_get gives the eight words of a block (word t holds weights 4t ...
 *          4t + 3 of row r in lane r, biased to be unsigned) and its scales. The
 *          bias is undone by adding q32_bias times the sum of x. The formats:
 *          dequant_ref.c.
 *
 *          `type` is a constant wherever these are called, so each switch folds.
 */
#ifndef DP_KERNEL_X86_UNPACK_32_AVX512_H
#define DP_KERNEL_X86_UNPACK_32_AVX512_H

#include "kernel/x86/rows_avx512.h"

typedef struct q32_block {
    __m512i word[8];
    __m512 d, m; /* m is set for Q4_1 and Q5_1 */
} q32_block;

static DP_ALWAYS_INLINE bool q32_has_min(dp_dtype type)
{
    return type == DP_Q4_1 || type == DP_Q5_1;
}

/* Unsigned weights use all eight bits. */
static DP_ALWAYS_INLINE bool q32_is_wide(dp_dtype type)
{
    return type == DP_Q8_0 || type == DP_IQ4_NL;
}

/* Minus what was added to each weight to make it unsigned. */
static DP_ALWAYS_INLINE int q32_bias(dp_dtype type)
{
    return type == DP_Q4_0                        ? -8
           : type == DP_Q5_0                      ? -16
           : type == DP_Q8_0 || type == DP_IQ4_NL ? -128
           : type == DP_MXFP4                     ? -12
                                                  : 0;
}

/* Sixteen bytes of nibbles: low ones are elements 0-15, high ones 16-31. */
static DP_ALWAYS_INLINE void nibble_words(__m512i word[8], const rows16 *rows, size_t offset)
{
    const __m512i mask = _mm512_set1_epi8(15);
    __m512i raw[4];

    turn16(raw, rows, offset);
#pragma GCC unroll 4
    for (int t = 0; t < 4; t++) {
        word[t] = _mm512_and_si512(raw[t], mask);
        word[t + 4] = _mm512_and_si512(_mm512_srli_epi32(raw[t], 4), mask);
    }
}

/* Bit 4t + b of each lane becomes bit 4 of byte b of word t: the byte that holds it
 * is copied to all four, and each tests a bit of its own. */
static DP_ALWAYS_INLINE void add_fifth_bits(__m512i word[8], __m512i fifths)
{
    const __m512i first =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
    const __m512i low = _mm512_set1_epi32(0x08040201), high = _mm512_set1_epi32((int)0x80402010);
    const __m512i sixteen = _mm512_set1_epi8(16);

#pragma GCC unroll 4
    for (int t = 0; t < 8; t += 2) {
        __m512i copies =
            _mm512_shuffle_epi8(fifths, _mm512_add_epi8(first, _mm512_set1_epi8((char)(t / 2))));
        word[t] =
            _mm512_mask_add_epi8(word[t], _mm512_test_epi8_mask(copies, low), word[t], sixteen);
        word[t + 1] = _mm512_mask_add_epi8(word[t + 1], _mm512_test_epi8_mask(copies, high),
                                           word[t + 1], sixteen);
    }
}

/* Doubled E2M1, biased by 12. */
static DP_ALWAYS_INLINE void look_up_mxfp4(__m512i word[8])
{
    const __m512i table = _mm512_broadcast_i32x4(
        _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));

#pragma GCC unroll 8
    for (int t = 0; t < 8; t++)
        word[t] = _mm512_shuffle_epi8(table, word[t]);
}

/* Biased by 128, which is the other sign bit. */
static DP_ALWAYS_INLINE void look_up_iq4(__m512i word[8])
{
    const __m512i table = _mm512_xor_si512(
        _mm512_broadcast_i32x4(load16((const uint8_t *)dp_iq4_values)), _mm512_set1_epi8(-128));

#pragma GCC unroll 8
    for (int t = 0; t < 8; t++)
        word[t] = _mm512_shuffle_epi8(table, word[t]);
}

/* 2^(e - 128); the two smallest are subnormal. */
static DP_ALWAYS_INLINE __m512 scale_mxfp4(const rows16 *rows, size_t offset)
{
    __m512i e = _mm512_cvtepu8_epi32(gather_u8(rows, offset));
    __m512i normal, subnormal;

    normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    return _mm512_castsi512_ps(
        _mm512_mask_mov_epi32(normal, _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2)), subnormal));
}

static DP_ALWAYS_INLINE void get_q8_0(q32_block *b, const rows16 *rows, size_t offset)
{
    turn16(b->word, rows, offset + 2);
    turn16(b->word + 4, rows, offset + 18);
#pragma GCC unroll 8
    for (int t = 0; t < 8; t++)
        b->word[t] = _mm512_xor_si512(b->word[t], _mm512_set1_epi8(-128));
    b->d = gather_f16(rows, offset);
}

static DP_ALWAYS_INLINE void q32_get(dp_dtype type, q32_block *b, const rows16 *rows, size_t offset)
{
    __m512i head[4], scales;

    if (type == DP_Q8_0) {
        get_q8_0(b, rows, offset);
        return;
    }
    nibble_words(b->word, rows, offset + block_bytes(type) - 16);
    if (type == DP_MXFP4) {
        look_up_mxfp4(b->word);
        b->d = scale_mxfp4(rows, offset);
    }
    if (type == DP_IQ4_NL)
        look_up_iq4(b->word);
    if (type == DP_Q4_0 || type == DP_IQ4_NL)
        b->d = gather_f16(rows, offset);
    if (type == DP_Q4_1) {
        scales = gather_u32(rows, offset);
        b->d = low_f16(scales);
        b->m = high_f16(scales);
    }
    if (type == DP_Q5_0) { /* d, the fifth bits, ... */
        turn16(head, rows, offset);
        add_fifth_bits(b->word, _mm512_or_si512(_mm512_srli_epi32(head[0], 16),
                                                _mm512_slli_epi32(head[1], 16)));
        b->d = low_f16(head[0]);
    }
    if (type == DP_Q5_1) { /* d, m, the fifth bits, ... */
        turn16(head, rows, offset);
        add_fifth_bits(b->word, head[1]);
        b->d = low_f16(head[0]);
        b->m = high_f16(head[0]);
    }
}

#endif
