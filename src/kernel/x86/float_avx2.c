/* float_avx2.c - norms, rotations, activations and conversions, 8 lanes at a time.
 *
 * Sums follow the contract's 16 lanes, so they step by 16 with two accumulators;
 * everything else steps by 8. A whole register is loaded plainly and only the last
 * one is masked: masked stores are slow on some AVX2 machines. */
#include "kernel/kernel_impl.h"
#include "kernel/x86/lanes_avx2.h"

/* x[i .. i+7], 0 from n on. */
static DP_ALWAYS_INLINE __m256 load8(const float *x, size_t i, size_t n)
{
    if (i + 8 <= n)
        return _mm256_loadu_ps(x + i);
    return i < n ? _mm256_maskload_ps(x + i, first_lanes(n - i)) : _mm256_setzero_ps();
}

static DP_ALWAYS_INLINE void store8(float *x, size_t i, size_t n, __m256 value)
{
    if (i + 8 <= n)
        _mm256_storeu_ps(x + i, value);
    else
        _mm256_maskstore_ps(x + i, first_lanes(n - i), value);
}

void dp_rmsnorm_avx2(float *out, const float *x, const float *g, size_t n, float eps)
{
    __m256 lo = _mm256_setzero_ps();
    __m256 hi = _mm256_setzero_ps();
    __m256 r;

    for (size_t i = 0; i < n; i += 16) {
        __m256 a = load8(x, i, n);
        __m256 b = load8(x, i + 8, n);

        lo = _mm256_fmadd_ps(a, a, lo); /* squares: adding 0 * 0 changes no lane */
        hi = _mm256_fmadd_ps(b, b, hi);
    }
    r = _mm256_set1_ps(1.0f / sqrtf(tree8(_mm256_add_ps(lo, hi)) / (float)n + eps));
    for (size_t i = 0; i < n; i += 8)
        store8(out, i, n, _mm256_mul_ps(_mm256_mul_ps(load8(x, i, n), r), load8(g, i, n)));
}

/* 4 pairs a register: lanes 2i and 2i + 1 hold a and b of pair i. */
static void rope_pairs(float *x, size_t pairs, const float *cos_i, const float *sin_i)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);

    for (size_t i = 0; i < pairs; i += 4) {
        __m128i one_each = _mm256_castsi256_si128(first_lanes(pairs - i));
        __m256 ab = load8(x, 2 * i, 2 * pairs);
        __m256 ba = _mm256_permute_ps(ab, 0xb1);
        __m256 c = _mm256_castps128_ps256(_mm_maskload_ps(cos_i + i, one_each));
        __m256 s = _mm256_castps128_ps256(_mm_maskload_ps(sin_i + i, one_each));

        ab = _mm256_mul_ps(ab, _mm256_permutevar8x32_ps(c, twice));
        ba = _mm256_mul_ps(ba, _mm256_permutevar8x32_ps(s, twice));
        store8(x, 2 * i, 2 * pairs, _mm256_addsub_ps(ab, ba)); /* a lanes subtract */
    }
}

/* 8 pairs at once: all a in one register, all b in another. */
static void rope_halves(float *x, size_t pairs, const float *cos_i, const float *sin_i)
{
    for (size_t i = 0; i < pairs; i += 8) {
        __m256 a = load8(x, i, pairs);
        __m256 b = load8(x + pairs, i, pairs);
        __m256 c = load8(cos_i, i, pairs);
        __m256 s = load8(sin_i, i, pairs);

        store8(x, i, pairs, _mm256_sub_ps(_mm256_mul_ps(a, c), _mm256_mul_ps(b, s)));
        store8(x + pairs, i, pairs, _mm256_add_ps(_mm256_mul_ps(a, s), _mm256_mul_ps(b, c)));
    }
}

void dp_rope_avx2(float *x, size_t heads, size_t head_stride, size_t rope_dim,
                  dp_rope_layout layout, const float *cos_i, const float *sin_i)
{
    for (size_t h = 0; h < heads; h++) {
        if (layout == DP_ROPE_HALVES)
            rope_halves(x + h * head_stride, rope_dim / 2, cos_i, sin_i);
        else
            rope_pairs(x + h * head_stride, rope_dim / 2, cos_i, sin_i);
    }
}

void dp_exp_avx2(float *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        store8(out, i, n, exp8(load8(x, i, n)));
}

/* The sum of exp(x_i - max) in the contract's order, each left in x. */
static __m256 exp_and_sum(float *x, size_t n, __m256 max)
{
    __m256 v[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() };

    for (size_t i = 0; i < n; i += 8) {
        __m256 e = exp8(_mm256_sub_ps(load8(x, i, n), max));

        if (i + 8 > n)
            e = _mm256_and_ps(e, _mm256_castsi256_ps(first_lanes(n - i)));
        v[i / 8 % 2] = _mm256_add_ps(v[i / 8 % 2], e); /* e >= 0: adding +0 changes no lane */
        store8(x, i, n, e);
    }
    return _mm256_set1_ps(tree8(_mm256_add_ps(v[0], v[1])));
}

void dp_softmax_avx2(float *x, size_t n)
{
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    __m256 max = lowest;
    __m256 sum;

    for (size_t i = 0; i < n; i += 8) {
        __m256 xi = load8(x, i, n);

        if (i + 8 > n)
            xi = _mm256_blendv_ps(lowest, xi, _mm256_castsi256_ps(first_lanes(n - i)));
        max = _mm256_max_ps(max, xi);
    }
    sum = exp_and_sum(x, n, _mm256_set1_ps(max8(max)));
    for (size_t i = 0; i < n; i += 8)
        store8(x, i, n, _mm256_div_ps(load8(x, i, n), sum));
}

void dp_swiglu_avx2(float *out, const float *g, const float *u, size_t n)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 sign = _mm256_set1_ps(-0.0f);

    for (size_t i = 0; i < n; i += 8) {
        __m256 gi = load8(g, i, n);
        __m256 e = exp8(_mm256_xor_ps(gi, sign));

        gi = _mm256_mul_ps(_mm256_div_ps(gi, _mm256_add_ps(one, e)), load8(u, i, n));
        store8(out, i, n, gi);
    }
}

void dp_swiglu_clamped_avx2(float *out, const float *g, const float *u, size_t n, float alpha,
                            float limit)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 most = _mm256_set1_ps(limit), least = _mm256_set1_ps(-limit);
    const __m256 minus_alpha = _mm256_set1_ps(-alpha);

    for (size_t i = 0; i < n; i += 8) { /* the value second: a NaN passes */
        __m256 a = _mm256_min_ps(most, load8(g, i, n));
        __m256 b = _mm256_min_ps(most, _mm256_max_ps(least, load8(u, i, n)));
        __m256 e = exp8(_mm256_mul_ps(minus_alpha, a));

        a = _mm256_div_ps(a, _mm256_add_ps(one, e));
        store8(out, i, n, _mm256_mul_ps(a, _mm256_add_ps(b, one)));
    }
}

void dp_add_avx2(float *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        store8(out, i, n, _mm256_add_ps(load8(out, i, n), load8(x, i, n)));
}

void dp_add_scaled_avx2(float *out, const float *x, float s, size_t n)
{
    const __m256 scale = _mm256_set1_ps(s);

    for (size_t i = 0; i < n; i += 8)
        store8(out, i, n, _mm256_fmadd_ps(scale, load8(x, i, n), load8(out, i, n)));
}

void dp_f16_from_f32_avx2(uint16_t *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m128i halves = _mm256_cvtps_ph(load8(x, i, n), _MM_FROUND_TO_NEAREST_INT);
        uint16_t whole[8];

        if (i + 8 <= n) {
            _mm_storeu_si128((__m128i *)(out + i), halves);
        } else {
            _mm_storeu_si128((__m128i *)whole, halves);
            memcpy(out + i, whole, (n - i) * sizeof *out);
        }
    }
}

void dp_f32_from_f16_avx2(float *out, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        store8(out, i, n, i + 8 <= n ? load_f16(x + i) : load_f16_tail(x + i, n - i));
}
