/* attention_avx2.c - query heads against one block of 32 keys and values.
 *
 * Scores   4 dot products at a time, two accumulators each (lanes 0-7 and 8-15): 8
 *          chains hide the latency of the fused adds and 16 registers hold them
 *          all. They are 4 keys of one head, or 2 keys of 2 heads, for which a key
 *          is widened from f16 once. The trees of 8 are folded together, see
 *          tree8_of_8.
 * Values   8 registers of acc (64 floats, or 32 of 2 heads) stay put while all visible
 *          values pass; wider values are done in strips, what is left one register
 *          at a time.
 */
#include "kernel/kernel_impl.h"
#include "kernel/x86/lanes_avx2.h"

enum { SUMS = 4, HEADS = 2, STRIP = 8 };

/* 8 keys or values as floats; of the second, the first `left` (1..7): others are 0 and not
 * read. */
static DP_ALWAYS_INLINE __m256 load(dp_dtype type, const void *x)
{
    return type == DP_F32 ? _mm256_loadu_ps(x) : load_f16(x);
}

static DP_ALWAYS_INLINE __m256 load_tail(dp_dtype type, const void *x, size_t left)
{
    return type == DP_F32 ? _mm256_maskload_ps(x, first_lanes(left)) : load_f16_tail(x, left);
}

/* out[h * keys + j] = lanes 0-7 plus lanes 8-15 of q_h . k_j, for `heads` heads and
 * SUMS / heads keys. */
static DP_ALWAYS_INLINE void dot_tile(__m256 out[SUMS], const dp_attend *a, const float *q,
                                      const void *k, int heads, dp_dtype type)
{
    const int keys = SUMS / heads;
    size_t dim = a->key_dim, i = 0;
    __m256 lo[SUMS], hi[SUMS];

    for (int s = 0; s < SUMS; s++)
        lo[s] = hi[s] = _mm256_setzero_ps();
    for (; i + 16 <= dim; i += 16)
        for (int j = 0; j < keys; j++) {
            const void *kj = dp_attend_at(type, k, (size_t)j * dim + i);
            __m256 k_lo = load(type, kj), k_hi = load(type, dp_attend_at(type, kj, 8));
            for (int h = 0; h < heads; h++) {
                const float *qi = q + h * a->q_stride + i;
                int s = h * keys + j;
                lo[s] = _mm256_fmadd_ps(_mm256_loadu_ps(qi), k_lo, lo[s]);
                hi[s] = _mm256_fmadd_ps(_mm256_loadu_ps(qi + 8), k_hi, hi[s]);
            }
        }
    if (dim - i >= 8) {
        for (int s = 0; s < SUMS; s++)
            lo[s] = _mm256_fmadd_ps(_mm256_loadu_ps(q + s / keys * a->q_stride + i),
                                    load(type, dp_attend_at(type, k, (size_t)(s % keys) * dim + i)),
                                    lo[s]);
        i += 8;
    }
    for (int s = 0; i < dim && s < SUMS; s++) {
        /* The last lanes are blended in: even adding 0 would turn a -0 into +0. */
        __m256i lanes = first_lanes(dim - i);
        __m256 kj = load_tail(type, dp_attend_at(type, k, (size_t)(s % keys) * dim + i), dim - i);
        __m256 qi = _mm256_maskload_ps(q + s / keys * a->q_stride + i, lanes);
        __m256 *v = dim % 16 < 8 ? &lo[s] : &hi[s];
        __m256 sum = _mm256_fmadd_ps(qi, kj, *v);
        *v = _mm256_blendv_ps(*v, sum, _mm256_castsi256_ps(lanes));
    }
    for (int s = 0; s < SUMS; s++)
        out[s] = _mm256_add_ps(lo[s], hi[s]);
}

/* p[h][j .. j + 8 / heads) = q_h . k_j. */
static DP_ALWAYS_INLINE void dot_8(float p[][DP_KV_BLOCK], const dp_attend *a, const float *q,
                                   uint32_t j, int heads, dp_dtype type)
{
    const int keys = SUMS / heads;
    const void *k = dp_attend_at(type, a->k, (size_t)j * a->key_dim);
    const void *k_next = dp_attend_at(type, k, (size_t)keys * a->key_dim);
    __m256 v[8], w[SUMS], dots;

    dot_tile(v, a, q, k, heads, type);
    dot_tile(w, a, q, k_next, heads, type);
    if (heads == 1) {
        memcpy(v + SUMS, w, sizeof w);
        _mm256_storeu_ps(p[0] + j, tree8_of_8(v));
        return;
    }
    /* v and w are keys 0, 1 and 2, 3 of head 0, then of head 1. */
    memcpy(v + 6, w + 2, 2 * sizeof *w);
    memcpy(v + 4, v + 2, 2 * sizeof *v);
    memcpy(v + 2, w, 2 * sizeof *w);
    dots = tree8_of_8(v);
    _mm_storeu_ps(p[0] + j, _mm256_castps256_ps128(dots));
    _mm_storeu_ps(p[1] + j, _mm256_extractf128_ps(dots, 1));
}

/* All visible keys of the block; a run of which none is visible is not read. */
static DP_ALWAYS_INLINE void dot_block(float p[][DP_KV_BLOCK], const dp_attend *a, const float *q,
                                       int heads, dp_dtype type)
{
    const uint32_t keys = 8 / (uint32_t)heads;

    for (uint32_t j = 0; j < DP_KV_BLOCK; j += keys)
        if (j < a->end && j + keys > a->begin)
            dot_8(p, a, q, j, heads, type);
}

/* Turns products into weights and moves the state's maximum and sum on. Returns what
 * acc is multiplied by. */
static inline float weigh(dp_attend_state *state, float p[DP_KV_BLOCK], const dp_attend *a)
{
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    bool is_first = state->max == -INFINITY;
    __m256 max8s = lowest, e[4];
    float max, shrink;

    for (uint32_t j = 0; j < DP_KV_BLOCK; j += 8) {
        __m256i key = _mm256_add_epi32(index, _mm256_set1_epi32((int)j));
        __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)a->begin), key);
        __m256i until = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)a->end), key);
        __m256i visible = _mm256_andnot_si256(before, until);
        __m256 s = _mm256_mul_ps(_mm256_set1_ps(a->scale), _mm256_maskload_ps(p + j, visible));

        e[j / 8] = _mm256_blendv_ps(lowest, s, _mm256_castsi256_ps(visible));
        max8s = _mm256_max_ps(max8s, e[j / 8]);
    }
    max = max8(max8s);

    /* Invisible keys stand at -infinity, so exp8 gives them 0. */
    max = max > state->max ? max : state->max;
    for (int j = 0; j < 4; j++) {
        e[j] = exp8(_mm256_sub_ps(e[j], _mm256_set1_ps(max)));
        _mm256_storeu_ps(p + 8 * j, e[j]);
    }
    /* p_j + p_(j+16) in lanes 0-7 and 8-15, whose sum is the first step of the tree. */
    e[0] = _mm256_add_ps(_mm256_add_ps(e[0], e[2]), _mm256_add_ps(e[1], e[3]));
    shrink = dp_exp_poly(state->max - max);
    state->sum = fmaf(is_first ? 0.0f : state->sum, shrink, tree8(e[0]));
    state->max = max;
    return shrink;
}

struct weights { /* of a block's keys, by head */
    float p[HEADS][DP_KV_BLOCK];
    float shrink[HEADS];
    bool is_first[HEADS];
};

/* acc[at .. at + 8 count) = acc * shrink + the values of the visible keys, key after
 * key, for each head. */
static DP_ALWAYS_INLINE void add_values(dp_attend_state *states, const dp_attend *a,
                                        const struct weights *w, uint32_t at, int heads, int count,
                                        dp_dtype type)
{
    __m256 sum[STRIP];

    for (int h = 0; h < heads; h++)
        for (int i = 0; i < count; i++) {
            const float *acc = states[h].acc + at + 8 * i;
            sum[h * count + i] = _mm256_setzero_ps();
            if (!w->is_first[h])
                sum[h * count + i] =
                    _mm256_mul_ps(_mm256_loadu_ps(acc), _mm256_set1_ps(w->shrink[h]));
        }
    for (uint32_t j = a->begin; j < a->end; j++) {
        const void *vj = dp_attend_at(type, a->v, (size_t)j * a->v_stride + at);
        for (int i = 0; i < count; i++) {
            __m256 value = load(type, dp_attend_at(type, vj, 8 * (size_t)i));
            for (int h = 0; h < heads; h++)
                sum[h * count + i] =
                    _mm256_fmadd_ps(_mm256_set1_ps(w->p[h][j]), value, sum[h * count + i]);
        }
    }
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < count; i++)
            _mm256_storeu_ps(states[h].acc + at + 8 * i, sum[h * count + i]);
}

/* The same for the last 1 to 7 floats of one head. */
static DP_ALWAYS_INLINE void add_values_tail(float *acc, const void *v, const float *p,
                                             const dp_attend *a, float shrink, bool is_first,
                                             size_t left, dp_dtype type)
{
    __m256i lanes = first_lanes(left);
    __m256 sum = _mm256_setzero_ps();

    if (!is_first)
        sum = _mm256_mul_ps(_mm256_maskload_ps(acc, lanes), _mm256_set1_ps(shrink));
    for (uint32_t j = a->begin; j < a->end; j++) {
        __m256 vj = load_tail(type, dp_attend_at(type, v, (size_t)j * a->v_stride), left);
        sum = _mm256_fmadd_ps(_mm256_set1_ps(p[j]), vj, sum);
    }
    _mm256_maskstore_ps(acc, lanes, sum);
}

static DP_ALWAYS_INLINE void attend(dp_attend_state *states, const dp_attend *a, const float *q,
                                    int heads, dp_dtype type)
{
    const uint32_t strip = 8 * STRIP / (uint32_t)heads;
    struct weights w;
    uint32_t i = 0;

    dot_block(w.p, a, q, heads, type);
    for (int h = 0; h < heads; h++) {
        w.is_first[h] = states[h].max == -INFINITY;
        w.shrink[h] = weigh(&states[h], w.p[h], a);
    }
    for (; i + strip <= a->value_dim; i += strip)
        add_values(states, a, &w, i, heads, STRIP / heads, type);
    for (; i + 8 <= a->value_dim; i += 8)
        add_values(states, a, &w, i, heads, 1, type);
    for (int h = 0; i < a->value_dim && h < heads; h++)
        add_values_tail(states[h].acc + i, dp_attend_at(type, a->v, i), w.p[h], a, w.shrink[h],
                        w.is_first[h], a->value_dim - i, type);
}

static DP_ALWAYS_INLINE void attend_all(dp_attend_state *states, const dp_attend *a, dp_dtype type)
{
    uint32_t h = 0;

    for (; h + HEADS <= a->heads; h += HEADS)
        attend(states + h, a, a->q + h * a->q_stride, HEADS, type);
    for (; h < a->heads; h++)
        attend(states + h, a, a->q + h * a->q_stride, 1, type);
}

void dp_attend_avx2_f16(dp_attend_state *states, const dp_attend *a)
{
    attend_all(states, a, DP_F16);
}

void dp_attend_avx2_f32(dp_attend_state *states, const dp_attend *a)
{
    attend_all(states, a, DP_F32);
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
