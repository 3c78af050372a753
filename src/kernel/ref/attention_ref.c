/* attention_ref.c - the definition of attention over one block of keys and values.
 *
 * A softmax over all keys needs the largest score first. Seen block by block, the
 * sums so far are instead held relative to the largest score so far, and shrunk by
 * exp(old max - new max) whenever that grows (Milakov and Gimelshein 2018,
 * arXiv:1805.02867). Blocks start at fixed positions, so the order of every sum
 * follows from the position alone. */
#include "kernel/kernel_impl.h"
#include "kernel/ref/exp_poly.h"

static DP_ALWAYS_INLINE float load(dp_dtype type, const void *x)
{
    return type == DP_F32 ? *(const float *)x : dp_f32_from_f16(*(const uint16_t *)x);
}

static DP_ALWAYS_INLINE float score_of(const float *q, const void *k, uint32_t dim, float scale,
                                       dp_dtype type)
{
    float v[16] = { 0 };

    for (uint32_t i = 0; i < dim; i++)
        v[i % 16] = fmaf(q[i], load(type, dp_attend_at(type, k, i)), v[i % 16]);
    return scale * dp_tree16(v);
}

static DP_ALWAYS_INLINE void attend_one(dp_attend_state *state, const dp_attend *a, const float *q,
                                        dp_dtype type)
{
    float p[DP_KV_BLOCK] = { 0 };
    float v[16];
    float max = state->max;
    float shrink;
    bool is_first = state->max == -INFINITY;

    for (uint32_t j = a->begin; j < a->end; j++) {
        p[j] = score_of(q, dp_attend_at(type, a->k, (size_t)j * a->key_dim), a->key_dim, a->scale,
                        type);
        max = p[j] > max ? p[j] : max;
    }
    for (uint32_t j = a->begin; j < a->end; j++)
        p[j] = dp_exp_poly(p[j] - max);
    for (int j = 0; j < 16; j++)
        v[j] = p[j] + p[j + 16];

    shrink = dp_exp_poly(state->max - max);
    state->sum = fmaf(is_first ? 0.0f : state->sum, shrink, dp_tree16(v));
    state->max = max;
    for (uint32_t i = 0; i < a->value_dim; i++) {
        float acc = is_first ? 0.0f : state->acc[i] * shrink;
        for (uint32_t j = a->begin; j < a->end; j++)
            acc =
                fmaf(p[j], load(type, dp_attend_at(type, a->v, (size_t)j * a->v_stride + i)), acc);
        state->acc[i] = acc;
    }
}

void dp_attend_ref_f16(dp_attend_state *states, const dp_attend *a)
{
    for (uint32_t h = 0; h < a->heads; h++)
        attend_one(&states[h], a, a->q + h * a->q_stride, DP_F16);
}

void dp_attend_ref_f32(dp_attend_state *states, const dp_attend *a)
{
    for (uint32_t h = 0; h < a->heads; h++)
        attend_one(&states[h], a, a->q + h * a->q_stride, DP_F32);
}

void dp_attend_finish_ref(dp_attend_state *state, float *out, uint32_t value_dim, const float *sink)
{
    float shrink = 1.0f;

    if (sink) {
        float max = *sink > state->max ? *sink : state->max;

        shrink = dp_exp_poly(state->max - max);
        state->sum = fmaf(state->sum, shrink, dp_exp_poly(*sink - max));
        state->max = max;
    }
    for (uint32_t i = 0; i < value_dim; i++) {
        state->acc[i] *= shrink;
        out[i] = state->acc[i] / state->sum;
    }
}
