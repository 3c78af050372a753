/* act.c - where the parts of a packed activation column lie. */
#include "kernel/kernel.h"
#include "base/assert.h"

#define PART_ALIGN 64 /* a cache line, and one AVX-512 register */

static size_t block_elems(dp_act kind)
{
    return kind == DP_ACT_Q8_32 ? DP_QK : DP_QK_K;
}

dp_act dp_act_for(dp_dtype weights)
{
    switch (weights) {
    case DP_F32:
    case DP_F16:
    case DP_BF16:
        return DP_ACT_F32;
    case DP_Q4_0:
    case DP_Q4_1:
    case DP_Q5_0:
    case DP_Q5_1:
    case DP_Q8_0:
    case DP_MXFP4:
    case DP_IQ4_NL:
        return DP_ACT_Q8_32;
    case DP_Q2_K:
    case DP_Q3_K:
    case DP_Q4_K:
    case DP_Q5_K:
    case DP_Q6_K:
    case DP_IQ1_S:
    case DP_IQ1_M:
    case DP_IQ2_XXS:
    case DP_IQ2_XS:
    case DP_IQ2_S:
    case DP_IQ3_XXS:
    case DP_IQ3_S:
    case DP_IQ4_XS:
    case DP_TQ1_0:
    case DP_TQ2_0:
        return DP_ACT_Q8_256;
    default:
        return DP_ACT_NONE;
    }
}

size_t dp_act_bytes(dp_act kind, size_t k)
{
    if (kind == DP_ACT_NONE)
        return 0;
    if (kind == DP_ACT_F32)
        return dp_align_up(k * sizeof(float), PART_ALIGN);
    return dp_align_up(k, PART_ALIGN) +
           dp_align_up(k / block_elems(kind) * sizeof(float), PART_ALIGN) +
           dp_align_up(k / 16 * sizeof(int16_t), PART_ALIGN);
}

dp_act_view dp_act_get(dp_act kind, const void *column, size_t k)
{
    const uint8_t *at = column;
    dp_act_view view;

    DP_ASSERT(kind == DP_ACT_Q8_32 || kind == DP_ACT_Q8_256);
    view.q = (const int8_t *)at;
    at += dp_align_up(k, PART_ALIGN);
    view.d = (const float *)(const void *)at;
    at += dp_align_up(k / block_elems(kind) * sizeof(float), PART_ALIGN);
    view.sum = (const int16_t *)(const void *)at;
    return view;
}
