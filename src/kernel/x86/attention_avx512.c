/* attention_avx512.c - one query head against one block of 32 keys and values.
 *
 * Scores   16 keys at a time, one accumulator each, so 16 independent chains hide
 *          the latency of the fused adds and a piece of q is loaded once for all.
 *          Their 16 trees are then folded together: each step halves the lanes per
 *          key and packs two keys into a register, so 16 sums cost 15 additions and
 *          come out as one register of scores.
 * Values   8 registers of acc (128 floats) stay put while all visible values pass;
 *          wider values are done in strips of 128, then one register at a time.
 */
#include "kernel/kernel_impl.h"
#include "kernel/x86/lanes_avx512.h"

enum { KEYS = 16, STRIP = 8 };

/* The tree16 of a[0..15], key j's in lane j. Overwrites a. */
static DP_ALWAYS_INLINE __m512 tree16_of_16(__m512 a[KEYS])
{
    /* The last two steps leave key 4g + i at lane 4 swap(g) + swap(i), where swap
     * exchanges 1 and 2: its own inverse. */
    const __m512i order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);

    /* v[j] += v[j+8]: 8 lanes of key i, 8 lanes of key i + 8. */
    for (int i = 0; i < 8; i++)
        a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[i], a[i + 8], 0x44),
                             _mm512_shuffle_f32x4(a[i], a[i + 8], 0xee));
    /* v[j] += v[j+4]: 4 lanes each of keys i, i + 8, i + 4, i + 12. */
    for (int i = 0; i < 4; i++)
        a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[i], a[i + 4], 0x88),
                             _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd));
    /* v[j] += v[j+2]: in each quarter, 2 lanes of key i, 2 lanes of key i + 2. */
    for (int i = 0; i < 2; i++)
        a[i] = _mm512_add_ps(_mm512_shuffle_ps(a[i], a[i + 2], 0x44),
                             _mm512_shuffle_ps(a[i], a[i + 2], 0xee));
    /* v[j] += v[j+1]: in each quarter, keys +0, +2, +1, +3. */
    a[0] = _mm512_add_ps(_mm512_shuffle_ps(a[0], a[1], 0x88), _mm512_shuffle_ps(a[0], a[1], 0xdd));
    return _mm512_permutexvar_ps(order, a[0]);
}

/* q . k_j for 16 keys. */
static DP_ALWAYS_INLINE __m512 dot_16_keys(const float *q, const uint16_t *k, size_t dim)
{
    __m512 v[KEYS];
    size_t i = 0;

    for (int j = 0; j < KEYS; j++)
        v[j] = _mm512_setzero_ps();
    for (; i + 16 <= dim; i += 16) {
        __m512 qi = _mm512_loadu_ps(q + i);
        for (int j = 0; j < KEYS; j++)
            v[j] = _mm512_fmadd_ps(qi, load_f16(k + (size_t)j * dim + i), v[j]);
    }
    if (i < dim) {
        __mmask16 lanes = first_lanes(dim - i);
        __m512 qi = _mm512_maskz_loadu_ps(lanes, q + i);
        for (int j = 0; j < KEYS; j++) {
            __m512 kj = load_f16_masked(lanes, k + (size_t)j * dim + i);
            v[j] = _mm512_mask3_fmadd_ps(qi, kj, v[j], lanes);
        }
    }
    return tree16_of_16(v);
}

/* acc[0..16 count) = acc * shrink + the values of the visible keys, key after key. */
static DP_ALWAYS_INLINE void add_values(float *acc, const uint16_t *v, const float *p,
                                        const dp_attend *a, float shrink, bool is_first, int count,
                                        __mmask16 lanes)
{
    __m512 sum[STRIP];

    for (int i = 0; i < count; i++) {
        sum[i] = _mm512_setzero_ps();
        if (!is_first) {
            __m512 old = _mm512_maskz_loadu_ps(lanes, acc + 16 * i);
            sum[i] = _mm512_mul_ps(old, _mm512_set1_ps(shrink));
        }
    }
    for (uint32_t j = a->begin; j < a->end; j++) {
        const uint16_t *vj = v + (size_t)j * a->value_dim;
        __m512 pj = _mm512_set1_ps(p[j]);
        for (int i = 0; i < count; i++) {
            __m512 value = lanes == 0xffff ? load_f16(vj + 16 * i) : load_f16_masked(lanes, vj);
            sum[i] = _mm512_fmadd_ps(pj, value, sum[i]);
        }
    }
    for (int i = 0; i < count; i++)
        _mm512_mask_storeu_ps(acc + 16 * i, lanes, sum[i]);
}

void dp_attend_avx512(dp_attend_state *state, const dp_attend *a)
{
    const __m512 lowest = _mm512_set1_ps(-INFINITY);
    const __m512 scale = _mm512_set1_ps(a->scale);
    uint32_t visible = (uint32_t)((1ull << a->end) - (1ull << a->begin));
    bool is_first = state->max == -INFINITY;
    float p[DP_KV_BLOCK];
    __m512 s[2], max16;
    float max, shrink;
    uint32_t i = 0;

    /* Scores of 32 keys in two registers; a half with no visible key is not read. */
    for (int half = 0; half < 2; half++) {
        __mmask16 keys = (__mmask16)(visible >> 16 * half);
        s[half] = lowest;
        if (keys) {
            __m512 dots = dot_16_keys(a->q, a->k + (size_t)half * KEYS * a->key_dim, a->key_dim);
            s[half] = _mm512_mask_mul_ps(lowest, keys, scale, dots);
        }
    }

    /* Invisible keys stand at -infinity, so exp16 gives them 0. */
    max16 = _mm512_max_ps(s[0], s[1]);
    max = _mm512_reduce_max_ps(max16);
    max = max > state->max ? max : state->max;
    for (int half = 0; half < 2; half++) {
        s[half] = exp16(_mm512_sub_ps(s[half], _mm512_set1_ps(max)));
        _mm512_storeu_ps(p + 16 * half, s[half]);
    }
    shrink = _mm512_cvtss_f32(exp16(_mm512_set1_ps(state->max - max)));
    state->sum = fmaf(is_first ? 0.0f : state->sum, shrink, tree16(_mm512_add_ps(s[0], s[1])));
    state->max = max;

    for (; i + 16 * STRIP <= a->value_dim; i += 16 * STRIP)
        add_values(state->acc + i, a->v + i, p, a, shrink, is_first, STRIP, 0xffff);
    for (; i + 64 <= a->value_dim; i += 64)
        add_values(state->acc + i, a->v + i, p, a, shrink, is_first, 4, 0xffff);
    for (; i < a->value_dim; i += 16)
        add_values(state->acc + i, a->v + i, p, a, shrink, is_first, 1,
                   first_lanes(a->value_dim - i));
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
