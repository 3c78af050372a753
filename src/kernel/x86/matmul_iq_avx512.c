/* matmul_iq_avx512.c - products of the IQ and TQ super-blocks, 16 rows at a time. */
#include "kernel/x86/unpack_iq_avx512.h"
#include "kernel/x86/products_k_avx512.h"

DEFINE_SUPER(iq1_s, DP_IQ1_S)
DEFINE_SUPER(iq1_m, DP_IQ1_M)
DEFINE_SUPER(iq2_xxs, DP_IQ2_XXS)
DEFINE_SUPER(iq2_xs, DP_IQ2_XS)
DEFINE_SUPER(iq2_s, DP_IQ2_S)
DEFINE_SUPER(iq3_xxs, DP_IQ3_XXS)
DEFINE_SUPER(iq3_s, DP_IQ3_S)
DEFINE_SUPER(iq4_xs, DP_IQ4_XS)
DEFINE_SUPER(tq1_0, DP_TQ1_0)
DEFINE_SUPER(tq2_0, DP_TQ2_0)
