/* float_ref.c - the definition of every float operation but attention. Slow on
 * purpose: built without FMA instructions, fmaf is a call that rounds once, and
 * every order is the one kernel.h states. */
#include "kernel/kernel_impl.h"
#include "kernel/ref/exp_poly.h"

void dp_rmsnorm_ref(float *out, const float *x, const float *g, size_t n, float eps)
{
    float v[16] = { 0 };
    float r;

    for (size_t i = 0; i < n; i++)
        v[i % 16] = fmaf(x[i], x[i], v[i % 16]);
    r = 1.0f / sqrtf(dp_tree16(v) / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        out[i] = (x[i] * r) * g[i];
}

void dp_rope_ref(float *x, size_t heads, size_t head_stride, size_t rope_dim, dp_rope_layout layout,
                 const float *cos_i, const float *sin_i)
{
    size_t pairs = rope_dim / 2;
    bool halves = layout == DP_ROPE_HALVES;

    for (size_t h = 0; h < heads; h++) {
        float *head = x + h * head_stride;
        for (size_t i = 0; i < pairs; i++) {
            float *a = head + (halves ? i : 2 * i);
            float *b = head + (halves ? i + pairs : 2 * i + 1);
            float a_old = *a;

            *a = a_old * cos_i[i] - *b * sin_i[i];
            *b = a_old * sin_i[i] + *b * cos_i[i];
        }
    }
}

void dp_exp_ref(float *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dp_exp_poly(x[i]);
}

void dp_softmax_ref(float *x, size_t n)
{
    float v[16] = { 0 };
    float max = -INFINITY;
    float sum;

    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++) {
        x[i] = dp_exp_poly(x[i] - max);
        v[i % 16] += x[i];
    }
    sum = dp_tree16(v);
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] / sum;
}

void dp_swiglu_ref(float *out, const float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (g[i] / (1.0f + dp_exp_poly(-g[i]))) * u[i];
}

void dp_swiglu_clamped_ref(float *out, const float *g, const float *u, size_t n, float alpha,
                           float limit)
{
    for (size_t i = 0; i < n; i++) {
        float a = g[i] > limit ? limit : g[i];
        float b = u[i] < -limit ? -limit : u[i];

        b = b > limit ? limit : b;
        out[i] = (a / (1.0f + dp_exp_poly(-(alpha * a)))) * (b + 1.0f);
    }
}

void dp_add_ref(float *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] += x[i];
}

void dp_add_scaled_ref(float *out, const float *x, float s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = fmaf(s, x[i], out[i]);
}

void dp_f16_from_f32_ref(uint16_t *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dp_f16_from_f32(x[i]);
}

void dp_f32_from_f16_ref(float *out, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dp_f32_from_f16(x[i]);
}
