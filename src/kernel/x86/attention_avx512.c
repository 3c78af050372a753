/* attention_avx512.c - query heads against one block of 32 keys and values.
 *
 * Scores   4 heads by 4 keys at a time, or 1 head by 16: one accumulator each, so 16
 *          independent chains hide the latency of the fused adds, and a piece of a
 *          key is widened from f16 once for 4 heads. The 16 trees are then folded
 *          together: each step halves the lanes per sum and packs two sums into a
 *          register, so 16 sums cost 15 additions and come out as one register.
 * Values   16 registers of acc stay put while all visible values pass: 64 floats of
 *          4 heads, or 128 of one in 8; wider values are done in strips, what is
 *          left one register at a time.
 */
#include "kernel/kernel_impl.h"
#include "kernel/x86/lanes_avx512.h"

enum { SUMS = 16, HEADS = 4, KEYS = SUMS / HEADS };

/* 16 keys or values as floats; of the second, those of the mask: others are 0 and not read. */
static DP_ALWAYS_INLINE __m512 load(dp_dtype type, const void *x)
{
    return type == DP_F32 ? _mm512_loadu_ps(x) : load_f16(x);
}

static DP_ALWAYS_INLINE __m512 load_masked(dp_dtype type, __mmask16 lanes, const void *x)
{
    return type == DP_F32 ? _mm512_maskz_loadu_ps(lanes, x) : load_f16_masked(lanes, x);
}

/* The tree16 of a[0..15], that of a[j] in lane j. Overwrites a. */
static DP_ALWAYS_INLINE __m512 tree16_of_16(__m512 a[SUMS])
{
    /* The last two steps leave sum 4g + i at lane 4 swap(g) + swap(i), where swap
     * exchanges 1 and 2: its own inverse. */
    const __m512i order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);

    /* v[j] += v[j+8]: 8 lanes of sum i, 8 lanes of sum i + 8. */
    for (int i = 0; i < 8; i++)
        a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[i], a[i + 8], 0x44),
                             _mm512_shuffle_f32x4(a[i], a[i + 8], 0xee));
    /* v[j] += v[j+4]: 4 lanes each of sums i, i + 8, i + 4, i + 12. */
    for (int i = 0; i < 4; i++)
        a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[i], a[i + 4], 0x88),
                             _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd));
    /* v[j] += v[j+2]: in each quarter, 2 lanes of sum i, 2 lanes of sum i + 2. */
    for (int i = 0; i < 2; i++)
        a[i] = _mm512_add_ps(_mm512_shuffle_ps(a[i], a[i + 2], 0x44),
                             _mm512_shuffle_ps(a[i], a[i + 2], 0xee));
    /* v[j] += v[j+1]: in each quarter, sums +0, +2, +1, +3. */
    a[0] = _mm512_add_ps(_mm512_shuffle_ps(a[0], a[1], 0x88), _mm512_shuffle_ps(a[0], a[1], 0xdd));
    return _mm512_permutexvar_ps(order, a[0]);
}

/* q_h . k_j for `heads` heads by SUMS / heads keys: lane h * keys + j. */
static DP_ALWAYS_INLINE __m512 dot_tile(const dp_attend *a, const float *q, const void *k,
                                        int heads, dp_dtype type)
{
    const int keys = SUMS / heads;
    size_t dim = a->key_dim, i = 0;
    __m512 v[SUMS];

    for (int s = 0; s < SUMS; s++)
        v[s] = _mm512_setzero_ps();
    for (; i + 16 <= dim; i += 16) {
        __m512 qi[HEADS];
        for (int h = 0; h < heads; h++)
            qi[h] = _mm512_loadu_ps(q + h * a->q_stride + i);
        for (int j = 0; j < keys; j++) {
            __m512 kj = load(type, dp_attend_at(type, k, (size_t)j * dim + i));
            for (int h = 0; h < heads; h++)
                v[h * keys + j] = _mm512_fmadd_ps(qi[h], kj, v[h * keys + j]);
        }
    }
    for (int j = 0; i < dim && j < keys; j++) {
        __mmask16 lanes = first_lanes(dim - i);
        __m512 kj = load_masked(type, lanes, dp_attend_at(type, k, (size_t)j * dim + i));
        for (int h = 0; h < heads; h++) {
            __m512 qi = _mm512_maskz_loadu_ps(lanes, q + h * a->q_stride + i);
            v[h * keys + j] = _mm512_mask3_fmadd_ps(qi, kj, v[h * keys + j], lanes);
        }
    }
    return tree16_of_16(v);
}

/* p[h][j] = q_h . k_j. Keys of which none of a tile is visible are not read. */
static DP_ALWAYS_INLINE void dot_block(float p[][DP_KV_BLOCK], const dp_attend *a, const float *q,
                                       uint32_t visible, int heads, dp_dtype type)
{
    const uint32_t keys = SUMS / (uint32_t)heads, tile = (1u << keys) - 1;

    for (uint32_t j = 0; j < DP_KV_BLOCK; j += keys) {
        __m512 dots;
        if (!(visible >> j & tile))
            continue;
        dots = dot_tile(a, q, dp_attend_at(type, a->k, (size_t)j * a->key_dim), heads, type);
        if (heads == 1) {
            _mm512_storeu_ps(p[0] + j, dots);
            continue;
        }
        _mm_storeu_ps(p[0] + j, _mm512_castps512_ps128(dots));
        _mm_storeu_ps(p[1] + j, _mm512_extractf32x4_ps(dots, 1));
        _mm_storeu_ps(p[2] + j, _mm512_extractf32x4_ps(dots, 2));
        _mm_storeu_ps(p[3] + j, _mm512_extractf32x4_ps(dots, 3));
    }
}

/* Turns products into weights and moves the state's maximum and sum on. Returns what
 * acc is multiplied by. */
static DP_ALWAYS_INLINE float weigh(dp_attend_state *state, float p[DP_KV_BLOCK], float scale,
                                    uint32_t visible)
{
    const __m512 lowest = _mm512_set1_ps(-INFINITY);
    bool is_first = state->max == -INFINITY;
    float max, shrink;
    __m512 s[2];

    for (int half = 0; half < 2; half++) {
        __mmask16 keys = (__mmask16)(visible >> 16 * half);
        __m512 dots = _mm512_maskz_loadu_ps(keys, p + 16 * half);
        s[half] = _mm512_mask_mul_ps(lowest, keys, _mm512_set1_ps(scale), dots);
    }

    /* Invisible keys stand at -infinity, so exp16 gives them 0. */
    max = _mm512_reduce_max_ps(_mm512_max_ps(s[0], s[1]));
    max = max > state->max ? max : state->max;
    for (int half = 0; half < 2; half++) {
        s[half] = exp16(_mm512_sub_ps(s[half], _mm512_set1_ps(max)));
        _mm512_storeu_ps(p + 16 * half, s[half]);
    }
    shrink = _mm512_cvtss_f32(exp16(_mm512_set1_ps(state->max - max)));
    state->sum = fmaf(is_first ? 0.0f : state->sum, shrink, tree16(_mm512_add_ps(s[0], s[1])));
    state->max = max;
    return shrink;
}

struct weights { /* of a block's keys, by head */
    float p[HEADS][DP_KV_BLOCK];
    float shrink[HEADS];
    bool is_first[HEADS];
};

/* acc[at .. at + 16 count) = acc * shrink + the values of the visible keys, key after
 * key, for each head. */
static DP_ALWAYS_INLINE void add_values(dp_attend_state *states, const dp_attend *a,
                                        const struct weights *w, uint32_t at, int heads, int count,
                                        __mmask16 lanes, dp_dtype type)
{
    __m512 sum[16];

    for (int h = 0; h < heads; h++)
        for (int i = 0; i < count; i++) {
            sum[h * count + i] = _mm512_setzero_ps();
            if (!w->is_first[h]) {
                __m512 old = _mm512_maskz_loadu_ps(lanes, states[h].acc + at + 16 * i);
                sum[h * count + i] = _mm512_mul_ps(old, _mm512_set1_ps(w->shrink[h]));
            }
        }
    for (uint32_t j = a->begin; j < a->end; j++) {
        const void *vj = dp_attend_at(type, a->v, (size_t)j * a->v_stride + at);
        for (int i = 0; i < count; i++) {
            __m512 value = lanes == 0xffff ? load(type, dp_attend_at(type, vj, 16 * (size_t)i))
                                           : load_masked(type, lanes, vj);
            for (int h = 0; h < heads; h++)
                sum[h * count + i] =
                    _mm512_fmadd_ps(_mm512_set1_ps(w->p[h][j]), value, sum[h * count + i]);
        }
    }
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < count; i++)
            _mm512_mask_storeu_ps(states[h].acc + at + 16 * i, lanes, sum[h * count + i]);
}

static DP_ALWAYS_INLINE void attend(dp_attend_state *states, const dp_attend *a, const float *q,
                                    int heads, dp_dtype type)
{
    uint32_t visible = (uint32_t)((1ull << a->end) - (1ull << a->begin));
    struct weights w;
    uint32_t i = 0;

    dot_block(w.p, a, q, visible, heads, type);
    for (int h = 0; h < heads; h++) {
        w.is_first[h] = states[h].max == -INFINITY;
        w.shrink[h] = weigh(&states[h], w.p[h], a->scale, visible);
    }
    for (; heads == 1 && i + 128 <= a->value_dim; i += 128)
        add_values(states, a, &w, i, heads, 8, 0xffff, type);
    for (; i + 64 <= a->value_dim; i += 64)
        add_values(states, a, &w, i, heads, 4, 0xffff, type);
    for (; i < a->value_dim; i += 16)
        add_values(states, a, &w, i, heads, 1, first_lanes(a->value_dim - i), type);
}

static DP_ALWAYS_INLINE void attend_all(dp_attend_state *states, const dp_attend *a, dp_dtype type)
{
    uint32_t h = 0;

    for (; h + HEADS <= a->heads; h += HEADS)
        attend(states + h, a, a->q + h * a->q_stride, HEADS, type);
    for (; h < a->heads; h++)
        attend(states + h, a, a->q + h * a->q_stride, 1, type);
}

void dp_attend_avx512_f16(dp_attend_state *states, const dp_attend *a)
{
    attend_all(states, a, DP_F16);
}

void dp_attend_avx512_f32(dp_attend_state *states, const dp_attend *a)
{
    attend_all(states, a, DP_F32);
}

void dp_attend_finish_avx512(dp_attend_state *state, float *out, uint32_t value_dim,
                             const float *sink)
{
    float shrink = 1.0f;

    if (sink) {
        float max = *sink > state->max ? *sink : state->max;

        shrink = dp_exp_poly(state->max - max);
        state->sum = fmaf(state->sum, shrink, dp_exp_poly(*sink - max));
        state->max = max;
    }
    for (uint32_t i = 0; i < value_dim; i += 16) {
        __mmask16 lanes = first_lanes(value_dim - i);
        __m512 acc = _mm512_maskz_loadu_ps(lanes, state->acc + i);

        acc = _mm512_mul_ps(acc, _mm512_set1_ps(shrink));
        _mm512_mask_storeu_ps(state->acc + i, lanes, acc);
        _mm512_mask_storeu_ps(out + i, lanes, _mm512_div_ps(acc, _mm512_set1_ps(state->sum)));
    }
}
