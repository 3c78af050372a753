/* kernel.h - host math: one table of functions per instruction set.
 *
 * Room     Every operation has one definition, written in plain C in ref/ and
 *          stated below. Each x86/ file computes the same bits faster: integer
 *          sums are exact, and every float is accumulated in the stated order
 *          with the stated fused multiply-adds. So results do not depend on the
 *          instruction set, on the number of columns that are multiplied at a
 *          time, or on how rows are split over threads. (NaN and infinite inputs
 *          give a NaN or an infinity, not promised bits.)
 *
 * No threads, no allocation, no I/O. Any thread.
 *
 * Notation fma(a,b,c) = a*b+c rounded once. tree16(v) reduces 16 lanes:
 *          v[j] += v[j+8] for j<8, then +4, +2, +1.
 */
#ifndef DP_KERNEL_KERNEL_H
#define DP_KERNEL_KERNEL_H

#include "format/dtype.h"

/* ---- activations: how the vector that meets a weight matrix is packed ---- */

typedef enum dp_act {
    DP_ACT_NONE,  /* no kernel for this weight type */
    DP_ACT_F32,   /* [k] f32: weights F32, F16, BF16 */
    DP_ACT_Q8_32, /* 8-bit, a scale per 32: Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 MXFP4 IQ4_NL */
    DP_ACT_Q8_256 /* 8-bit, a scale per 256: Q2_K ... Q6_K, IQ1_S ... IQ4_XS, TQ1_0 TQ2_0 */
} dp_act;

/* A packed column of k values is dp_act_bytes(kind, k) bytes, 64-byte aligned:
 *
 *   F32      float x[k]
 *   Q8_*     int8_t q[k] | float d[k / block] | int16_t sum[k / 16]
 *
 * each part starting at the next multiple of 64 bytes. For a block with largest
 * magnitude m: d = m / 127, q = nearest-even(x * (127 / m)) (q = 0, d = 0 when
 * m < 2^-100, where 127 / m would overflow; q = 0, d = m when m is infinite or,
 * because an element is, NaN), sum = the sum of q over each 16 neighbours. k is
 * whole blocks. Bytes between the parts are not written. */
typedef struct dp_act_view {
    const int8_t *q;
    const float *d;
    const int16_t *sum;
} dp_act_view;

dp_act dp_act_for(dp_dtype weights);
size_t dp_act_bytes(dp_act kind, size_t k);
dp_act_view dp_act_get(dp_act kind, const void *column, size_t k);

/* ---- products ---- */

/* y[c * y_stride + r] = W_r . x_c for every row r < rows and column c < cols.
 *
 *   w   rows of row_bytes each, of the type the function is for
 *   x   cols packed columns (dp_act_for(type)), x_stride bytes apart
 *   k   elements per row: whole blocks, at most 2^20
 *
 * F32 F16 BF16:  v[j] = fma(w[i], x[i], v[j]) for i = 0.., j = i mod 16;
 *                y = tree16(v).
 * 32-blocks:     y = 0; for each block b in order, with isum = the exact sum of
 *                q_w * q_x:
 *    Q8_0 Q4_0 Q5_0   y = fma(dw * dx, isum, y); q_w = q, q - 8, q - 16
 *    MXFP4            y = fma(dw * dx, isum, y); q_w = doubled E2M1, dw = 2^(e-128)
 *    IQ4_NL           y = fma(dw * dx, isum, y); q_w = the entry of its table of 16
 *    Q4_1 Q5_1        y = fma(dw * dx, isum, y); y = fma(mw * dx, xsum, y), xsum = the
 *                     sum of q_x over the block
 * K types:       y = 0; for each super-block in order:
 *    Q4_K Q5_K Q2_K   isum = sum_s sc_s * sum q * q_x; msum = sum_s m_s * xsum_s;
 *                     y = fma(d * dx, isum, y); y = fma(-(dmin * dx), msum, y)
 *    Q6_K Q3_K        isum = sum_s sc_s * sum (q - bias) * q_x; y = fma(d * dx, isum, y)
 * IQ, TQ types:  as Q6_K, y = fma(D * dx, isum, y), with exact integers q and sc and an
 *                exact D (dequant_iq_ref.c has the layouts):
 *    IQ2_*  IQ3_XXS   q = the signed codebook entry, sc = 2s + 1, D = d / 8 (IQ3_XXS: d / 4)
 *    IQ3_S            likewise, D = d
 *    IQ1_S  IQ1_M     q = 8 * entry + 1 or - 1, sc = 2s + 1, D = d / 8
 *    IQ4_XS           q = the entry of the table of 16, sc = s - 32, D = d
 *    TQ1_0  TQ2_0     q = -1, 0, 1 (or 2, in TQ2_0), sc = 1, D = d
 * isum, msum and xsum are int32, converted to float (nearest even) once.
 * f16 scales are widened exactly; d * dx is one rounded product. */
typedef void (*dp_matmul_fn)(float *y, size_t y_stride, const void *w, size_t row_bytes,
                             size_t rows, const void *x, size_t x_stride, size_t cols, size_t k);

/* ---- attention ---- */

#define DP_KV_BLOCK 32 /* positions per block of keys and values */

/* Running softmax of one query head over the blocks seen so far. */
typedef struct dp_attend_state {
    float max; /* -INFINITY before the first key */
    float sum;
    float *acc; /* [value_dim] */
} dp_attend_state;

/* `heads` query heads, each as if alone, against one block of one key/value head:
 * keys and values, of the type the function is for and widened exactly, are read once
 * for all of them. Keys j in [begin, end) are visible,
 * 0 <= begin < end <= DP_KV_BLOCK. For each head and its state:
 *
 *   s_j = scale * tree16(fma over key_dim as in products)
 *   max' = max(max, max_j s_j);  c = exp(max - max') (0 at the first block)
 *   p_j = exp(s_j - max'), 0 where invisible
 *   sum = fma(sum, c, tree16(p_j + p_{j+16}))
 *   acc_i = acc_i * c, then acc_i = fma(p_j, v_j[i], acc_i) for j ascending over
 *   the visible keys. */
typedef struct dp_attend {
    const float *q; /* [heads][key_dim], heads q_stride floats apart */
    size_t q_stride;
    const void *k; /* [DP_KV_BLOCK][key_dim] */
    const void *v; /* [DP_KV_BLOCK] times value_dim, v_stride elements apart */
    uint32_t key_dim, value_dim;
    uint32_t v_stride; /* value_dim, or more where values are a part of something */
    uint32_t heads;
    uint32_t begin, end;
    float scale;
} dp_attend;

typedef void (*dp_attend_fn)(dp_attend_state *states, const dp_attend *a); /* [a->heads] */

/* ---- rotary positions ---- */

typedef enum dp_rope_layout {
    DP_ROPE_PAIRS, /* rotates (x[2i], x[2i+1]): GGUF "NORM" */
    DP_ROPE_HALVES /* rotates (x[i], x[i + rope_dim/2]): "NEOX" */
} dp_rope_layout;

/* ---- the table ---- */

typedef struct dp_kernels {
    const char *name; /* "ref", "x86.avx2", "x86.avx512", "x86.avx512vnni", "x86.avx512vbmi" */
    bool (*usable)(void);

    dp_matmul_fn matmul[DP_DTYPE_END]; /* NULL: type unknown to this table */

    /* A row of x [k] -> blocks, NULL: no quantizer. Same bytes in every table;
     * reached through quantize.h, which has the rules. */
    void (*quantize[DP_DTYPE_END])(void *out, const float *x, size_t k);

    /* Packs one column: x [k] -> out. */
    void (*pack_q8_32)(void *out, const float *x, size_t k);
    void (*pack_q8_256)(void *out, const float *x, size_t k);

    /* out[i] = (x[i] * r) * g[i], r = 1 / sqrt(ss / n + eps), ss = tree16 of
     * v[i mod 16] = fma(x[i], x[i], v[i mod 16]). out may be x.
     * Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4. */
    void (*rmsnorm)(float *out, const float *x, const float *g, size_t n, float eps);

    /* In place on `heads` heads, head_stride floats apart: for pair i < rope_dim/2,
     * (a, b) -> (a*cos_i - b*sin_i, a*sin_i + b*cos_i), products and sums rounded
     * one by one. Su et al. 2021, arXiv:2104.09864, eq. 34. */
    void (*rope)(float *x, size_t heads, size_t head_stride, size_t rope_dim, dp_rope_layout layout,
                 const float *cos_i, const float *sin_i);

    /* exp as used everywhere below: x <= -87 gives 0, x >= 88 is taken as 88; n = nearest-even(x *
     * log2 e), r = x - n ln2 in two fused steps, a degree-6 Horner polynomial of
     * fused steps, times 2^n. Within 2 ulp of exp. */
    void (*exp)(float *out, const float *x, size_t n);

    /* In place: m = max, e_i = exp(x_i - m), s = tree16 of v[i mod 16] += e_i, x_i = e_i / s. */
    void (*softmax)(float *x, size_t n);

    /* out[i] = (g[i] / (1 + exp(-g[i]))) * u[i]. Shazeer 2020, arXiv:2002.05202, eq. 6. */
    void (*swiglu)(float *out, const float *g, const float *u, size_t n);

    /* a = min(g[i], limit), b = min(max(u[i], -limit), limit),
     * out[i] = (a / (1 + exp(-(alpha * a)))) * (b + 1). OpenAI 2025, arXiv:2508.10925 (gpt-oss:
     * alpha 1.702, limit 7). */
    void (*swiglu_clamped)(float *out, const float *g, const float *u, size_t n, float alpha,
                           float limit);

    void (*add)(float *out, const float *x, size_t n);                 /* out += x */
    void (*add_scaled)(float *out, const float *x, float s, size_t n); /* out = fma(s, x, out) */

    void (*f16_from_f32)(uint16_t *out, const float *x, size_t n); /* nearest even */
    void (*f32_from_f16)(float *out, const uint16_t *x, size_t n);

    dp_attend_fn attend[DP_DTYPE_END]; /* by type of keys and values: F16, F32; else NULL */
    /* out[i] = acc[i] / sum; with a sink logit s (NULL: none) one weightless key
     * of score s joins first: max' = max(max, s), c = exp(max - max'),
     * sum = fma(sum, c, exp(s - max')), acc *= c. out may be acc. */
    void (*attend_finish)(dp_attend_state *state, float *out, uint32_t value_dim,
                          const float *sink);
} dp_kernels;

extern const dp_kernels *const dp_kernels_all[]; /* best first, the reference last, then NULL */
extern const dp_kernels dp_kernels_ref;

/* The best table this CPU can run, or the one named ("auto" or NULL: best).
 * NULL when the name is unknown or this CPU can't run it. */
const dp_kernels *dp_kernels_find(const char *name);

/* out[k] = the row's values in float, every type with a kernel. NULL-safe types:
 * false when the type has no decoder yet. The definition of each format. */
bool dp_dequantize_row(dp_dtype type, float *out, const void *row, size_t k);

/* Scalar conversions, exact or nearest even. */
float dp_f32_from_f16(uint16_t bits);
uint16_t dp_f16_from_f32(float x);
float dp_f32_from_bf16(uint16_t bits);
uint16_t dp_bf16_from_f32(float x);     /* a NaN stays one, quiet */
float dp_f32_from_e8m0_half(uint8_t e); /* 2^(e-128): MXFP4 with the doubled table */

#endif
