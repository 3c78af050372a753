/* attention_avx2.c - one query head against one block of 32 keys and values.
 *
 * Scores   4 keys at a time, two accumulators each (lanes 0-7 and 8-15): 8 chains
 *          hide the latency of the fused adds and 16 registers hold them all. The
 *          trees of 8 keys are folded together, see tree8_of_8.
 * Values   8 registers of acc (64 floats) stay put while all visible values pass;
 *          wider values are done in strips of 64, then one register at a time.
 */
#include "kernel/kernel_impl.h"
#include "kernel/x86/lanes_avx2.h"

enum { KEYS = 4, STRIP = 8 };

/* out[j] = lanes 0-7 plus lanes 8-15 of q . k_j, for 4 keys. */
static DP_ALWAYS_INLINE void dot_4_keys(__m256 out[KEYS], const float *q, const uint16_t *k,
                                        size_t dim)
{
    __m256 lo[KEYS], hi[KEYS];
    size_t i = 0;

    for (int j = 0; j < KEYS; j++)
        lo[j] = hi[j] = _mm256_setzero_ps();
    for (; i + 16 <= dim; i += 16) {
        __m256 q_lo = _mm256_loadu_ps(q + i);
        __m256 q_hi = _mm256_loadu_ps(q + i + 8);
        for (int j = 0; j < KEYS; j++) {
            const uint16_t *kj = k + (size_t)j * dim + i;
            lo[j] = _mm256_fmadd_ps(q_lo, load_f16(kj), lo[j]);
            hi[j] = _mm256_fmadd_ps(q_hi, load_f16(kj + 8), hi[j]);
        }
    }
    if (dim - i >= 8) {
        for (int j = 0; j < KEYS; j++)
            lo[j] =
                _mm256_fmadd_ps(_mm256_loadu_ps(q + i), load_f16(k + (size_t)j * dim + i), lo[j]);
        i += 8;
    }
    for (int j = 0; i < dim && j < KEYS; j++) {
        /* The last lanes are blended in: even adding 0 would turn a -0 into +0. */
        __m256i lanes = first_lanes(dim - i);
        __m256 kj = load_f16_tail(k + (size_t)j * dim + i, dim - i);
        __m256 *v = dim % 16 < 8 ? &lo[j] : &hi[j];
        __m256 sum = _mm256_fmadd_ps(_mm256_maskload_ps(q + i, lanes), kj, *v);
        *v = _mm256_blendv_ps(*v, sum, _mm256_castsi256_ps(lanes));
    }
    for (int j = 0; j < KEYS; j++)
        out[j] = _mm256_add_ps(lo[j], hi[j]);
}

static inline __m256 dot_8_keys(const float *q, const uint16_t *k, size_t dim)
{
    __m256 v[8];

    dot_4_keys(v, q, k, dim);
    dot_4_keys(v + KEYS, q, k + KEYS * dim, dim);
    return tree8_of_8(v);
}

/* acc[0..8 count) = acc * shrink + the values of the visible keys, key after key. */
static DP_ALWAYS_INLINE void add_values(float *acc, const uint16_t *v, const float *p,
                                        const dp_attend *a, float shrink, bool is_first, int count)
{
    __m256 sum[STRIP];

    for (int i = 0; i < count; i++) {
        sum[i] = _mm256_setzero_ps();
        if (!is_first)
            sum[i] = _mm256_mul_ps(_mm256_loadu_ps(acc + 8 * i), _mm256_set1_ps(shrink));
    }
    for (uint32_t j = a->begin; j < a->end; j++) {
        const uint16_t *vj = v + (size_t)j * a->value_dim;
        __m256 pj = _mm256_set1_ps(p[j]);
        for (int i = 0; i < count; i++)
            sum[i] = _mm256_fmadd_ps(pj, load_f16(vj + 8 * i), sum[i]);
    }
    for (int i = 0; i < count; i++)
        _mm256_storeu_ps(acc + 8 * i, sum[i]);
}

/* The same for the last 1 to 7 floats. */
static void add_values_tail(float *acc, const uint16_t *v, const float *p, const dp_attend *a,
                            float shrink, bool is_first, size_t left)
{
    __m256i lanes = first_lanes(left);
    __m256 sum = _mm256_setzero_ps();

    if (!is_first)
        sum = _mm256_mul_ps(_mm256_maskload_ps(acc, lanes), _mm256_set1_ps(shrink));
    for (uint32_t j = a->begin; j < a->end; j++) {
        __m256 vj = load_f16_tail(v + (size_t)j * a->value_dim, left);
        sum = _mm256_fmadd_ps(_mm256_set1_ps(p[j]), vj, sum);
    }
    _mm256_maskstore_ps(acc, lanes, sum);
}

/* p[j] = scale * q . k_j, -infinity where invisible; returns the 8 largest. 8 keys of
 * which none is visible are not read. */
static inline __m256 scores(float p[DP_KV_BLOCK], const dp_attend *a)
{
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    __m256 max = lowest;

    for (uint32_t j = 0; j < DP_KV_BLOCK; j += 8) {
        __m256 s = lowest;

        if (j < a->end && j + 8 > a->begin) {
            __m256i key = _mm256_add_epi32(index, _mm256_set1_epi32((int)j));
            __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)a->begin), key);
            __m256i until = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)a->end), key);
            __m256i visible = _mm256_andnot_si256(before, until);

            s = dot_8_keys(a->q, a->k + (size_t)j * a->key_dim, a->key_dim);
            s = _mm256_mul_ps(_mm256_set1_ps(a->scale), s);
            s = _mm256_blendv_ps(lowest, s, _mm256_castsi256_ps(visible));
        }
        max = _mm256_max_ps(max, s);
        _mm256_storeu_ps(p + j, s);
    }
    return max;
}

void dp_attend_avx2(dp_attend_state *state, const dp_attend *a)
{
    bool is_first = state->max == -INFINITY;
    float p[DP_KV_BLOCK];
    __m256 e[4];
    float max = max8(scores(p, a));
    float shrink;
    uint32_t i = 0;

    /* Invisible keys stand at -infinity, so exp8 gives them 0. */
    max = max > state->max ? max : state->max;
    for (int j = 0; j < 4; j++) {
        e[j] = exp8(_mm256_sub_ps(_mm256_loadu_ps(p + 8 * j), _mm256_set1_ps(max)));
        _mm256_storeu_ps(p + 8 * j, e[j]);
    }
    /* p_j + p_(j+16) in lanes 0-7 and 8-15, whose sum is the first step of the tree. */
    e[0] = _mm256_add_ps(_mm256_add_ps(e[0], e[2]), _mm256_add_ps(e[1], e[3]));
    shrink = dp_exp_poly(state->max - max);
    state->sum = fmaf(is_first ? 0.0f : state->sum, shrink, tree8(e[0]));
    state->max = max;

    for (; i + 8 * STRIP <= a->value_dim; i += 8 * STRIP)
        add_values(state->acc + i, a->v + i, p, a, shrink, is_first, STRIP);
    for (; i + 8 <= a->value_dim; i += 8)
        add_values(state->acc + i, a->v + i, p, a, shrink, is_first, 1);
    if (i < a->value_dim)
        add_values_tail(state->acc + i, a->v + i, p, a, shrink, is_first, a->value_dim - i);
}

void dp_attend_finish_avx2(dp_attend_state *state, float *out, uint32_t value_dim,
                           const float *sink)
{
    float shrink = 1.0f;
    uint32_t i = 0;

    if (sink) {
        float max = *sink > state->max ? *sink : state->max;

        shrink = dp_exp_poly(state->max - max);
        state->sum = fmaf(state->sum, shrink, dp_exp_poly(*sink - max));
        state->max = max;
    }
    for (; i + 8 <= value_dim; i += 8) {
        __m256 acc = _mm256_mul_ps(_mm256_loadu_ps(state->acc + i), _mm256_set1_ps(shrink));

        _mm256_storeu_ps(state->acc + i, acc);
        _mm256_storeu_ps(out + i, _mm256_div_ps(acc, _mm256_set1_ps(state->sum)));
    }
    for (; i < value_dim; i++) {
        state->acc[i] *= shrink;
        out[i] = state->acc[i] / state->sum;
    }
}
