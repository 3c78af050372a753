/* kernel_impl.h - the functions that kernel.c puts into tables; nobody else's business.
 *
 * Room     A function of a table is named after its entry and its instruction
 *          set: dp_rmsnorm_avx2 fills .rmsnorm of "x86.avx2". Products are named
 *          dp_matmul_<set>_<type>. Contracts are those of the table's entries in
 *          kernel.h; there are no others.
 *
 * Sets     ref         plain C, the definition
 *          avx2        AVX2 + FMA + F16C
 *          avx512      F, BW, DQ, VL
 *          avx512vnni  avx512's float functions; integer products by VPDPBUSD
 *          avx512vbmi  avx512vnni's functions; IQ and TQ types looked up by VPERMB
 */
#ifndef DP_KERNEL_KERNEL_IMPL_H
#define DP_KERNEL_KERNEL_IMPL_H

#include "kernel/kernel.h"

/* ---- products: X(set, type, id) ---- */

#define DP_MATMUL_FLOAT_TYPES(X, set)                                                              \
    X(set, f32, DP_F32)                                                                            \
    X(set, f16, DP_F16)                                                                            \
    X(set, bf16, DP_BF16)

#define DP_MATMUL_QUANT_TYPES(X, set)                                                              \
    X(set, q4_0, DP_Q4_0)                                                                          \
    X(set, q4_1, DP_Q4_1)                                                                          \
    X(set, q5_0, DP_Q5_0)                                                                          \
    X(set, q5_1, DP_Q5_1)                                                                          \
    X(set, q8_0, DP_Q8_0)                                                                          \
    X(set, mxfp4, DP_MXFP4)                                                                        \
    X(set, iq4_nl, DP_IQ4_NL)                                                                      \
    X(set, q2_k, DP_Q2_K)                                                                          \
    X(set, q3_k, DP_Q3_K)                                                                          \
    X(set, q4_k, DP_Q4_K)                                                                          \
    X(set, q5_k, DP_Q5_K)                                                                          \
    X(set, q6_k, DP_Q6_K)

#define DP_MATMUL_IQ_TYPES(X, set)                                                                 \
    X(set, iq1_s, DP_IQ1_S)                                                                        \
    X(set, iq1_m, DP_IQ1_M)                                                                        \
    X(set, iq2_xxs, DP_IQ2_XXS)                                                                    \
    X(set, iq2_xs, DP_IQ2_XS)                                                                      \
    X(set, iq2_s, DP_IQ2_S)                                                                        \
    X(set, iq3_xxs, DP_IQ3_XXS)                                                                    \
    X(set, iq3_s, DP_IQ3_S)                                                                        \
    X(set, iq4_xs, DP_IQ4_XS)                                                                      \
    X(set, tq1_0, DP_TQ1_0)                                                                        \
    X(set, tq2_0, DP_TQ2_0)

#define DP_MATMUL_DECLARE(set, type, id)                                                           \
    void dp_matmul_##set##_##type(float *y, size_t y_stride, const void *w, size_t row_bytes,      \
                                  size_t rows, const void *x, size_t x_stride, size_t cols,        \
                                  size_t k);

DP_MATMUL_FLOAT_TYPES(DP_MATMUL_DECLARE, ref)
DP_MATMUL_QUANT_TYPES(DP_MATMUL_DECLARE, ref)
DP_MATMUL_IQ_TYPES(DP_MATMUL_DECLARE, ref)
DP_MATMUL_FLOAT_TYPES(DP_MATMUL_DECLARE, avx2)
DP_MATMUL_QUANT_TYPES(DP_MATMUL_DECLARE, avx2)
DP_MATMUL_IQ_TYPES(DP_MATMUL_DECLARE, avx2)
DP_MATMUL_FLOAT_TYPES(DP_MATMUL_DECLARE, avx512)
DP_MATMUL_QUANT_TYPES(DP_MATMUL_DECLARE, avx512)
DP_MATMUL_IQ_TYPES(DP_MATMUL_DECLARE, avx512)
DP_MATMUL_QUANT_TYPES(DP_MATMUL_DECLARE, avx512vnni)
DP_MATMUL_IQ_TYPES(DP_MATMUL_DECLARE, avx512vnni)
DP_MATMUL_IQ_TYPES(DP_MATMUL_DECLARE, avx512vbmi)

/* ---- the other entries ---- */

#define DP_PACK_DECLARE(set)                                                                       \
    void dp_pack_q8_32_##set(void *out, const float *x, size_t k);                                 \
    void dp_pack_q8_256_##set(void *out, const float *x, size_t k);

#define DP_FLOAT_DECLARE(set)                                                                      \
    void dp_rmsnorm_##set(float *out, const float *x, const float *g, size_t n, float eps);        \
    void dp_rope_##set(float *x, size_t heads, size_t head_stride, size_t rope_dim,                \
                       dp_rope_layout layout, const float *cos_i, const float *sin_i);             \
    void dp_exp_##set(float *out, const float *x, size_t n);                                       \
    void dp_softmax_##set(float *x, size_t n);                                                     \
    void dp_swiglu_##set(float *out, const float *g, const float *u, size_t n);                    \
    void dp_swiglu_clamped_##set(float *out, const float *g, const float *u, size_t n,             \
                                 float alpha, float limit);                                        \
    void dp_add_##set(float *out, const float *x, size_t n);                                       \
    void dp_add_scaled_##set(float *out, const float *x, float s, size_t n);                       \
    void dp_f16_from_f32_##set(uint16_t *out, const float *x, size_t n);                           \
    void dp_f32_from_f16_##set(float *out, const uint16_t *x, size_t n);                           \
    void dp_attend_finish_##set(dp_attend_state *state, float *out, uint32_t value_dim,            \
                                const float *sink);

/* ---- attention: X(set, type, id), by type of keys and values ---- */

#define DP_ATTEND_TYPES(X, set)                                                                    \
    X(set, f16, DP_F16)                                                                            \
    X(set, f32, DP_F32)

#define DP_ATTEND_DECLARE(set, type, id)                                                           \
    void dp_attend_##set##_##type(dp_attend_state *states, const dp_attend *a);

DP_ATTEND_TYPES(DP_ATTEND_DECLARE, ref)
DP_ATTEND_TYPES(DP_ATTEND_DECLARE, avx2)
DP_ATTEND_TYPES(DP_ATTEND_DECLARE, avx512)

/* Element i of keys or values. One source serves all types: `type` is a constant wherever
 * this is inlined. */
static DP_ALWAYS_INLINE const void *dp_attend_at(dp_dtype type, const void *x, size_t i)
{
    return (const uint8_t *)x + i * (type == DP_F32 ? sizeof(float) : sizeof(uint16_t));
}

DP_PACK_DECLARE(ref)
DP_PACK_DECLARE(avx2)
DP_PACK_DECLARE(avx512)
DP_FLOAT_DECLARE(ref)
DP_FLOAT_DECLARE(avx2)
DP_FLOAT_DECLARE(avx512)

/* ---- blocks as integers: what a format means, shared by the decoder and the reference ---- */

/* A 32-element block: x_i = d * q_i + m. m is 0 for types without one. */
typedef struct dp_ints32 {
    int8_t q[DP_QK]; /* biases removed: Q4_0 is -8..7; MXFP4 doubled, -12..12 */
    float d, m;
} dp_ints32;

/* A super-block: x_i = d * scale[i/16] * q_i - dmin * min[i/16]. Types with 32 or
 * 256 to a scale repeat it; min and dmin are 0 for all but Q2_K, Q4_K and Q5_K. d has
 * the fractions of the IQ types in it (kernel.h: D). */
typedef struct dp_ints256 {
    int8_t q[DP_QK_K]; /* biases removed: Q6_K is -32..31, Q3_K is -4..3 */
    int16_t scale[DP_QK_K / 16];
    int16_t min[DP_QK_K / 16];
    float d, dmin;
} dp_ints256;

/* Unpacks one block. False when the type is of the other size or has no decoder. */
bool dp_ints32_unpack(dp_ints32 *out, dp_dtype type, const void *block);
bool dp_ints256_unpack(dp_ints256 *out, dp_dtype type, const void *block);

/* The part of dp_ints256_unpack that knows the IQ and TQ types. */
bool dp_ints256_unpack_iq(dp_ints256 *out, dp_dtype type, const void *block);

/* What the four bits of IQ4_NL and IQ4_XS mean. */
extern const int8_t dp_iq4_values[16];

/* The twelve bytes of Q4_K and Q5_K: eight 6-bit scales and eight 6-bit mins. */
void dp_scales_q4_k(uint8_t scale[8], uint8_t min[8], const uint8_t packed[12]);

/* A block whose largest magnitude is under this is packed as zeros: 127 / m
 * could be no finite number. */
#define DP_ACT_TINY 0x1p-100f

#endif
