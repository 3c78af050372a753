/* float_avx512.c - norms, rotations, activations and conversions, 16 lanes at a time.
 *
 * Every loop runs over whole registers and masks the last one, so there is one body
 * and no scalar tail. Memory-bound at any length that matters: one accumulator and
 * no unrolling beyond the compiler's. */
#include "kernel/kernel_impl.h"
#include "kernel/x86/lanes_avx512.h"

void dp_rmsnorm_avx512(float *out, const float *x, const float *g, size_t n, float eps)
{
    __m512 v = _mm512_setzero_ps();
    __m512 r;

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = first_lanes(n - i);
        __m512 xi = _mm512_maskz_loadu_ps(lanes, x + i);
        v = _mm512_fmadd_ps(xi, xi, v); /* squares: adding 0 * 0 changes no lane */
    }
    r = _mm512_set1_ps(1.0f / sqrtf(tree16(v) / (float)n + eps));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = first_lanes(n - i);
        __m512 xi = _mm512_maskz_loadu_ps(lanes, x + i);
        __m512 gi = _mm512_maskz_loadu_ps(lanes, g + i);
        _mm512_mask_storeu_ps(out + i, lanes, _mm512_mul_ps(_mm512_mul_ps(xi, r), gi));
    }
}

/* 8 pairs a register: lanes 2i and 2i + 1 hold a and b of pair i. */
static void rope_pairs(float *x, size_t pairs, const float *cos_i, const float *sin_i)
{
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);

    for (size_t i = 0; i < pairs; i += 8) {
        __mmask16 lanes = first_lanes(2 * (pairs - i));
        __mmask8 one_each = (__mmask8)first_lanes(DP_MIN(pairs - i, 8));
        __m512 ab = _mm512_maskz_loadu_ps(lanes, x + 2 * i);
        __m512 ba = _mm512_permute_ps(ab, 0xb1);
        __m512 c = _mm512_castps256_ps512(_mm256_maskz_loadu_ps(one_each, cos_i + i));
        __m512 s = _mm512_castps256_ps512(_mm256_maskz_loadu_ps(one_each, sin_i + i));
        __m512 along = _mm512_mul_ps(ab, _mm512_permutexvar_ps(twice, c));
        __m512 across = _mm512_mul_ps(ba, _mm512_permutexvar_ps(twice, s));
        __m512 sum = _mm512_add_ps(along, across);

        sum = _mm512_mask_sub_ps(sum, 0x5555, along, across); /* a lanes: a cos - b sin */
        _mm512_mask_storeu_ps(x + 2 * i, lanes, sum);
    }
}

/* 16 pairs at once: all a in one register, all b in another. */
static void rope_halves(float *x, size_t pairs, const float *cos_i, const float *sin_i)
{
    for (size_t i = 0; i < pairs; i += 16) {
        __mmask16 lanes = first_lanes(pairs - i);
        __m512 a = _mm512_maskz_loadu_ps(lanes, x + i);
        __m512 b = _mm512_maskz_loadu_ps(lanes, x + pairs + i);
        __m512 c = _mm512_maskz_loadu_ps(lanes, cos_i + i);
        __m512 s = _mm512_maskz_loadu_ps(lanes, sin_i + i);
        __m512 a_new = _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s));
        __m512 b_new = _mm512_add_ps(_mm512_mul_ps(a, s), _mm512_mul_ps(b, c));

        _mm512_mask_storeu_ps(x + i, lanes, a_new);
        _mm512_mask_storeu_ps(x + pairs + i, lanes, b_new);
    }
}

void dp_rope_avx512(float *x, size_t heads, size_t head_stride, size_t rope_dim,
                    dp_rope_layout layout, const float *cos_i, const float *sin_i)
{
    for (size_t h = 0; h < heads; h++) {
        if (layout == DP_ROPE_HALVES)
            rope_halves(x + h * head_stride, rope_dim / 2, cos_i, sin_i);
        else
            rope_pairs(x + h * head_stride, rope_dim / 2, cos_i, sin_i);
    }
}

void dp_exp_avx512(float *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = first_lanes(n - i);
        _mm512_mask_storeu_ps(out + i, lanes, exp16(_mm512_maskz_loadu_ps(lanes, x + i)));
    }
}

void dp_softmax_avx512(float *x, size_t n)
{
    __m512 lowest = _mm512_set1_ps(-INFINITY);
    __m512 max = lowest;
    __m512 v = _mm512_setzero_ps();
    __m512 sum;

    for (size_t i = 0; i < n; i += 16)
        max = _mm512_max_ps(max, _mm512_mask_loadu_ps(lowest, first_lanes(n - i), x + i));
    max = _mm512_set1_ps(_mm512_reduce_max_ps(max));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = first_lanes(n - i);
        __m512 e = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, x + i), max));

        v = _mm512_mask_add_ps(v, lanes, v, e);
        _mm512_mask_storeu_ps(x + i, lanes, e);
    }
    sum = _mm512_set1_ps(tree16(v));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = first_lanes(n - i);
        __m512 e = _mm512_maskz_loadu_ps(lanes, x + i);
        _mm512_mask_storeu_ps(x + i, lanes, _mm512_div_ps(e, sum));
    }
}

void dp_swiglu_avx512(float *out, const float *g, const float *u, size_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 sign = _mm512_set1_ps(-0.0f);

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = first_lanes(n - i);
        __m512 gi = _mm512_maskz_loadu_ps(lanes, g + i);
        __m512 ui = _mm512_maskz_loadu_ps(lanes, u + i);
        __m512 e = exp16(_mm512_xor_ps(gi, sign));

        gi = _mm512_mul_ps(_mm512_div_ps(gi, _mm512_add_ps(one, e)), ui);
        _mm512_mask_storeu_ps(out + i, lanes, gi);
    }
}

void dp_swiglu_clamped_avx512(float *out, const float *g, const float *u, size_t n, float alpha,
                              float limit)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 most = _mm512_set1_ps(limit), least = _mm512_set1_ps(-limit);
    const __m512 minus_alpha = _mm512_set1_ps(-alpha);

    for (size_t i = 0; i < n; i += 16) { /* the value second: a NaN passes */
        __mmask16 lanes = first_lanes(n - i);
        __m512 a = _mm512_min_ps(most, _mm512_maskz_loadu_ps(lanes, g + i));
        __m512 b = _mm512_max_ps(least, _mm512_maskz_loadu_ps(lanes, u + i));
        __m512 e = exp16(_mm512_mul_ps(minus_alpha, a));

        b = _mm512_add_ps(_mm512_min_ps(most, b), one);
        a = _mm512_div_ps(a, _mm512_add_ps(one, e));
        _mm512_mask_storeu_ps(out + i, lanes, _mm512_mul_ps(a, b));
    }
}

void dp_add_avx512(float *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = first_lanes(n - i);
        __m512 sum = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, out + i),
                                   _mm512_maskz_loadu_ps(lanes, x + i));
        _mm512_mask_storeu_ps(out + i, lanes, sum);
    }
}

void dp_add_scaled_avx512(float *out, const float *x, float s, size_t n)
{
    const __m512 scale = _mm512_set1_ps(s);

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = first_lanes(n - i);
        __m512 sum = _mm512_fmadd_ps(scale, _mm512_maskz_loadu_ps(lanes, x + i),
                                     _mm512_maskz_loadu_ps(lanes, out + i));
        _mm512_mask_storeu_ps(out + i, lanes, sum);
    }
}

void dp_f16_from_f32_avx512(uint16_t *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = first_lanes(n - i);
        __m512 xi = _mm512_maskz_loadu_ps(lanes, x + i);
        __m256i halves = _mm512_cvtps_ph(xi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_mask_storeu_epi16(out + i, lanes, halves);
    }
}

void dp_f32_from_f16_avx512(float *out, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 lanes = first_lanes(n - i);
        _mm512_mask_storeu_ps(out + i, lanes, load_f16_masked(lanes, x + i));
    }
}
