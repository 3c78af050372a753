/* matmul_k_avx512.c - products of Q2_K Q3_K Q4_K Q5_K Q6_K, 16 rows at a time. */
#include "kernel/x86/unpack_k_avx512.h"
#include "kernel/x86/products_k_avx512.h"

DEFINE_SUPER(q2_k, DP_Q2_K)
DEFINE_SUPER(q3_k, DP_Q3_K)
DEFINE_SUPER(q4_k, DP_Q4_K)
DEFINE_SUPER(q5_k, DP_Q5_K)
DEFINE_SUPER(q6_k, DP_Q6_K)
