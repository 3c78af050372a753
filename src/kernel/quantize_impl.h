/* quantize_impl.h - the quantizers that kernel.c puts into tables; for quantize*.c and kernel.c.
 *
 * quantize_32.c and quantize_k.c are compiled once an instruction set, with
 * DP_QUANTIZE_SET naming it: dp_quantize_q4_k_ref, dp_quantize_q4_k_avx2.
 */
#ifndef DP_KERNEL_QUANTIZE_IMPL_H
#define DP_KERNEL_QUANTIZE_IMPL_H

#include "kernel/kernel.h"

#define DP_QUANTIZE_TYPES(X, set)                                                                  \
    X(set, q4_0, DP_Q4_0)                                                                          \
    X(set, q4_1, DP_Q4_1)                                                                          \
    X(set, q5_0, DP_Q5_0)                                                                          \
    X(set, q5_1, DP_Q5_1)                                                                          \
    X(set, q8_0, DP_Q8_0)                                                                          \
    X(set, mxfp4, DP_MXFP4)                                                                        \
    X(set, q4_k, DP_Q4_K)                                                                          \
    X(set, q5_k, DP_Q5_K)                                                                          \
    X(set, q6_k, DP_Q6_K)

#define DP_QUANTIZE_DECLARE(set, type, id)                                                         \
    void dp_quantize_##type##_##set(void *out, const float *x, size_t k);

DP_QUANTIZE_TYPES(DP_QUANTIZE_DECLARE, ref)
DP_QUANTIZE_TYPES(DP_QUANTIZE_DECLARE, avx2)

/* A scale below this is taken as 0: it is far below the least f16, and its
 * inverse could be infinite. */
#define DP_QUANTIZE_TINY 0x1p-100f

/* The name of a function in the set that is being compiled. */
#define DP_QUANTIZE_JOIN_(type, set) dp_quantize_##type##_##set
#define DP_QUANTIZE_JOIN(type, set)  DP_QUANTIZE_JOIN_(type, set)
#define DP_QUANTIZE_NAME(type)       DP_QUANTIZE_JOIN(type, DP_QUANTIZE_SET)

#endif
