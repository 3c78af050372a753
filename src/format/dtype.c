#include "format/dtype.h"

/* Name, elements and bytes of a block, by type id. Ids without a row were given
 * up by the format (4, 5, 31-33, 36-38) and may not appear in a file. */
static const dp_dtype_info infos[DP_DTYPE_END] = {
    [DP_F32] = { "F32", 1, 4 },
    [DP_F16] = { "F16", 1, 2 },
    [DP_Q4_0] = { "Q4_0", 32, 18 },
    [DP_Q4_1] = { "Q4_1", 32, 20 },
    [DP_Q5_0] = { "Q5_0", 32, 22 },
    [DP_Q5_1] = { "Q5_1", 32, 24 },
    [DP_Q8_0] = { "Q8_0", 32, 34 },
    [DP_Q8_1] = { "Q8_1", 32, 36 },
    [DP_Q2_K] = { "Q2_K", 256, 84 },
    [DP_Q3_K] = { "Q3_K", 256, 110 },
    [DP_Q4_K] = { "Q4_K", 256, 144 },
    [DP_Q5_K] = { "Q5_K", 256, 176 },
    [DP_Q6_K] = { "Q6_K", 256, 210 },
    [DP_Q8_K] = { "Q8_K", 256, 292 },
    [DP_IQ2_XXS] = { "IQ2_XXS", 256, 66 },
    [DP_IQ2_XS] = { "IQ2_XS", 256, 74 },
    [DP_IQ3_XXS] = { "IQ3_XXS", 256, 98 },
    [DP_IQ1_S] = { "IQ1_S", 256, 50 },
    [DP_IQ4_NL] = { "IQ4_NL", 32, 18 },
    [DP_IQ3_S] = { "IQ3_S", 256, 110 },
    [DP_IQ2_S] = { "IQ2_S", 256, 82 },
    [DP_IQ4_XS] = { "IQ4_XS", 256, 136 },
    [DP_I8] = { "I8", 1, 1 },
    [DP_I16] = { "I16", 1, 2 },
    [DP_I32] = { "I32", 1, 4 },
    [DP_I64] = { "I64", 1, 8 },
    [DP_F64] = { "F64", 1, 8 },
    [DP_IQ1_M] = { "IQ1_M", 256, 56 },
    [DP_BF16] = { "BF16", 1, 2 },
    [DP_TQ1_0] = { "TQ1_0", 256, 54 },
    [DP_TQ2_0] = { "TQ2_0", 256, 66 },
    [DP_MXFP4] = { "MXFP4", 32, 17 },
    [DP_NVFP4] = { "NVFP4", 64, 36 },
    [DP_Q1_0] = { "Q1_0", 128, 18 },
};

const dp_dtype_info *dp_dtype_get(uint32_t id)
{
    if (id >= DP_DTYPE_END || !infos[id].name)
        return NULL;
    return &infos[id];
}

bool dp_dtype_row_bytes(dp_dtype type, uint64_t elems, uint64_t *out_bytes)
{
    const dp_dtype_info *info = &infos[type];

    if (elems % info->block_elems)
        return false;
    return dp_u64_mul(elems / info->block_elems, info->block_bytes, out_bytes);
}
