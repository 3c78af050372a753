/* super_avx512.h - what the super-block types have in common: their scales in registers,
 * and the steps that scales and weights are cut out of turned bytes with. */
#ifndef DP_KERNEL_X86_SUPER_AVX512_H
#define DP_KERNEL_X86_SUPER_AVX512_H

#include "kernel/x86/rows_avx512.h"

typedef struct k_head {
    __m512i scale[16]; /* int32, for each 16 weights; for Q4_K and Q5_K [8], for each 32 */
    __m512i pair[8]; /* two int16 to meet the two sums of sub-block s: mins, or scales of biases */
    __m512 d, dmin;
} k_head;

static DP_ALWAYS_INLINE __m512i and8(__m512i v, int mask)
{
    return _mm512_and_si512(v, _mm512_set1_epi8((char)mask));
}

/* Byte n of each lane, as int32. */
static DP_ALWAYS_INLINE __m512i byte_unsigned(__m512i v, int n)
{
    return _mm512_and_si512(_mm512_srli_epi32(v, (unsigned)(8 * n)), _mm512_set1_epi32(255));
}

static DP_ALWAYS_INLINE __m512i byte_signed(__m512i v, int n)
{
    return _mm512_srai_epi32(_mm512_slli_epi32(v, (unsigned)(24 - 8 * n)), 24);
}

/* Bytes a and b of each lane, as two int16, sign extended. */
static DP_ALWAYS_INLINE __m512i byte_pair(__m512i v, int a, int b)
{
    const __m512i pick =
        _mm512_add_epi8(_mm512_set1_epi32(b << 24 | a << 8),
                        _mm512_set_epi32(0x0c000c00, 0x08000800, 0x04000400, 0, 0x0c000c00,
                                         0x08000800, 0x04000400, 0, 0x0c000c00, 0x08000800,
                                         0x04000400, 0, 0x0c000c00, 0x08000800, 0x04000400, 0));

    return _mm512_srai_epi16(_mm512_shuffle_epi8(v, pick), 8);
}

/* Sixteen signed scales in four words, which also weigh the sums of biases. */
static DP_ALWAYS_INLINE void signed_scales(k_head *h, const __m512i scale[4])
{
#pragma GCC unroll 16
    for (int s = 0; s < 16; s++)
        h->scale[s] = byte_signed(scale[s / 4], s % 4);
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++)
        h->pair[s] = byte_pair(scale[s / 2], s % 2 * 2, s % 2 * 2 + 1);
}

static DP_ALWAYS_INLINE void turn32(__m512i out[8], const rows16 *rows, size_t offset)
{
    turn16(out, rows, offset);
    turn16(out + 4, rows, offset + 16);
}

/* Bits [from, from + count) of each byte, moved to bit `to`. Shifts work on words;
 * what crosses a byte's edge is masked away. */
static DP_ALWAYS_INLINE __m512i bits8(__m512i v, int from, int count, int to)
{
    int mask = ((1 << count) - 1) << to;

    if (from > to)
        v = _mm512_srli_epi32(v, (unsigned)(from - to));
    if (from < to)
        v = _mm512_slli_epi32(v, (unsigned)(to - from));
    return and8(v, mask);
}

#endif
