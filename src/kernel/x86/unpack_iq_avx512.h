/* unpack_iq_avx512.h - the IQ and TQ super-blocks of 16 rows, turned to words a lane.
 *
 * Room     As unpack_k_avx512.h: word t of sub-block s holds weights 32 s + 4 t ... + 3 of
 *          row r in lane r, unsigned by a bias. Indices are looked up in two ways, by what
 *          the processor has: 16-bit lookups, or 8-bit ones with VBMI.
 */
#ifndef DP_KERNEL_X86_UNPACK_IQ_AVX512_H
#define DP_KERNEL_X86_UNPACK_IQ_AVX512_H

#ifdef __AVX512VBMI__
#include "kernel/x86/iq_words_vbmi.h"
#else
#include "kernel/x86/iq_words_avx512.h"
#endif

static DP_ALWAYS_INLINE void words_iq4_xs(__m512i word[8], const k_raw *raw)
{
    const __m512i values =
        _mm512_xor_si512(_mm512_broadcast_i32x4(load16((const uint8_t *)dp_iq4_values)),
                         _mm512_set1_epi8(-128)); /* the bias */

#pragma GCC unroll 4
    for (int t = 0; t < 4; t++) {
        word[t] = _mm512_shuffle_epi8(values, bits8(raw->index[t], 0, 4, 0));
        word[t + 4] = _mm512_shuffle_epi8(values, bits8(raw->index[t], 4, 4, 0));
    }
}

/* 32 bytes have digit s of sub-blocks 0 to 4, 16 bytes two digits each of 5, 6 and half of 7,
 * four bytes the rest. */
static DP_ALWAYS_INLINE void words_tq1_0(__m512i word[8], const k_raw *raw, int s)
{
#pragma GCC unroll 8
    for (int t = 0; t < 8; t++) {
        const int n = 2 * (s - 5) + t / 4; /* of the 16 bytes */

        if (s < 5)
            word[t] = ternary_digit(raw->index[t], s);
        else if (n < 5)
            word[t] = ternary_digit(raw->index[8 + t % 4], n);
        else
            word[t] = ternary_digit(raw->index[12], t - 4);
    }
}

/* The eight words of sub-block s. */
static DP_ALWAYS_INLINE void k_words(dp_dtype type, __m512i word[8], k_raw *raw, int s)
{
    switch (type) {
    case DP_IQ1_S:
    case DP_IQ1_M:
        words_iq1(type, word, raw, s);
        break;
    case DP_IQ2_XXS:
    case DP_IQ2_XS:
    case DP_IQ2_S:
        words_iq2(type, word, raw, s);
        break;
    case DP_IQ3_XXS:
    case DP_IQ3_S:
        words_iq3(type, word, raw, s);
        break;
    case DP_IQ4_XS:
        words_iq4_xs(word, raw);
        break;
    case DP_TQ1_0:
        words_tq1_0(word, raw, s);
        break;
    default: /* DP_TQ2_0: two bits each, 32 bytes have four sub-blocks */
#pragma GCC unroll 8
        for (int t = 0; t < 8; t++)
            word[t] = bits8(raw->index[s / 4 * 8 + t], s % 4 * 2, 2, 0);
        break;
    }
}

#endif
