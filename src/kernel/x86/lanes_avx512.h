/* lanes_avx512.h - 16 floats in one register: tails, exp, the tree sum.
 *
 * Room     A register's lane j is lane j of the contract (kernel.h), so 16 lanes
 *          cost one accumulator. Tails are masked: a lane past the end is loaded
 *          as 0 and never changes an accumulator.
 */
#ifndef DP_KERNEL_X86_LANES_AVX512_H
#define DP_KERNEL_X86_LANES_AVX512_H

#include <immintrin.h>

#include "kernel/ref/exp_poly.h"

/* The first `left` of 16 lanes, all of them from 16 up. */
static inline __mmask16 first_lanes(size_t left)
{
    return left >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << left) - 1);
}

/* v[j] += v[j+8], then +4, +2, +1; only the low lanes of each step matter. */
static inline float tree16(__m512 v)
{
    __m256 v8 = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 v4 = _mm_add_ps(_mm256_castps256_ps128(v8), _mm256_extractf128_ps(v8, 1));
    __m128 v2 = _mm_add_ps(v4, _mm_movehl_ps(v4, v4));

    return _mm_cvtss_f32(_mm_add_ss(v2, _mm_movehdup_ps(v2)));
}

/* dp_exp_poly in every lane. */
static inline __m512 exp16(__m512 x)
{
    const __m512 round = _mm512_set1_ps(DP_EXP_ROUND);
    __mmask16 is_zero = _mm512_cmp_ps_mask(x, _mm512_set1_ps(DP_EXP_MIN), _CMP_LE_OQ);
    __m512 rounded, n, r, p;
    __m512i scale;

    x = _mm512_min_ps(_mm512_set1_ps(DP_EXP_MAX), x); /* this order lets a NaN through */
    rounded = _mm512_add_ps(_mm512_mul_ps(x, _mm512_set1_ps(DP_EXP_LOG2E)), round);
    n = _mm512_sub_ps(rounded, round);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-DP_EXP_LN2), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-DP_EXP_REST), r);
    p = _mm512_fmadd_ps(_mm512_set1_ps(DP_EXP_C6), r, _mm512_set1_ps(DP_EXP_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(DP_EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(DP_EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(DP_EXP_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    scale = _mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(rounded), 23),
                             _mm512_set1_epi32(0x3f800000));
    return _mm512_mask_mul_ps(_mm512_setzero_ps(), (__mmask16)~is_zero, p,
                              _mm512_castsi512_ps(scale));
}

/* 16 halves widened; lanes outside the mask are 0 and not read. */
static inline __m512 load_f16(const uint16_t *x)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)x));
}

static inline __m512 load_f16_masked(__mmask16 lanes, const uint16_t *x)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, x));
}

#endif
