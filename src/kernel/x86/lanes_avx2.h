/* lanes_avx2.h - 16 floats in two registers: tails, exp, the tree sum.
 *
 * Room     Registers lo and hi hold lanes 0-7 and 8-15 of the contract (kernel.h).
 *          Tails are masked: a lane past the end is loaded as 0 and never changes
 *          an accumulator.
 */
#ifndef DP_KERNEL_X86_LANES_AVX2_H
#define DP_KERNEL_X86_LANES_AVX2_H

#include <immintrin.h>

#include "base/base.h"
#include "kernel/ref/exp_poly.h"

/* Ones in the first `left` of 8 lanes, in all of them from 8 up. */
static inline __m256i first_lanes(size_t left)
{
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)DP_MIN(left, 8)), index);
}

/* v[j] += v[j+4], then +2, +1: the end of tree16, once lo + hi did the first step. */
static inline float tree8(__m256 v)
{
    __m128 v4 = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 v2 = _mm_add_ps(v4, _mm_movehl_ps(v4, v4));

    return _mm_cvtss_f32(_mm_add_ss(v2, _mm_movehdup_ps(v2)));
}

/* The tree8 of a[0..7], key j's in lane j: two registers become one at each step. */
static inline __m256 tree8_of_8(const __m256 a[8])
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256 b[4], c[2];

    /* v[j] += v[j+4]: low half key 2i, high half key 2i + 1. */
    for (int i = 0; i < 4; i++)
        b[i] = _mm256_add_ps(_mm256_permute2f128_ps(a[2 * i], a[2 * i + 1], 0x20),
                             _mm256_permute2f128_ps(a[2 * i], a[2 * i + 1], 0x31));
    /* v[j] += v[j+2]: keys 4i, 4i + 2 in the low half, 4i + 1, 4i + 3 in the high. */
    for (int i = 0; i < 2; i++)
        c[i] = _mm256_add_ps(_mm256_shuffle_ps(b[2 * i], b[2 * i + 1], 0x44),
                             _mm256_shuffle_ps(b[2 * i], b[2 * i + 1], 0xee));
    /* v[j] += v[j+1]: even keys in the low half, odd keys in the high. */
    b[0] = _mm256_add_ps(_mm256_shuffle_ps(c[0], c[1], 0x88), _mm256_shuffle_ps(c[0], c[1], 0xdd));
    return _mm256_permutevar8x32_ps(b[0], order);
}

static inline float max8(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/* dp_exp_poly in every lane. */
static inline __m256 exp8(__m256 x)
{
    const __m256 round = _mm256_set1_ps(DP_EXP_ROUND);
    __m256 is_zero = _mm256_cmp_ps(x, _mm256_set1_ps(DP_EXP_MIN), _CMP_LE_OQ);
    __m256 rounded, n, r, p;
    __m256i scale;

    x = _mm256_min_ps(_mm256_set1_ps(DP_EXP_MAX), x); /* this order lets a NaN through */
    rounded = _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(DP_EXP_LOG2E)), round);
    n = _mm256_sub_ps(rounded, round);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-DP_EXP_LN2), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-DP_EXP_REST), r);
    p = _mm256_fmadd_ps(_mm256_set1_ps(DP_EXP_C6), r, _mm256_set1_ps(DP_EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(DP_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(DP_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(DP_EXP_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    scale = _mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(rounded), 23),
                             _mm256_set1_epi32(0x3f800000));
    return _mm256_andnot_ps(is_zero, _mm256_mul_ps(p, _mm256_castsi256_ps(scale)));
}

/* 8 halves widened; of the second, the first `left` (1..7), the rest 0 and not read. */
static inline __m256 load_f16(const uint16_t *x)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x));
}

static inline __m256 load_f16_tail(const uint16_t *x, size_t left)
{
    uint16_t whole[8] = { 0 };

    memcpy(whole, x, left * sizeof *x);
    return load_f16(whole);
}

#endif
