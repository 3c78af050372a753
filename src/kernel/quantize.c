#include "kernel/quantize.h"

#include <float.h>
#include <string.h>
#include "base/base.h"
#include "kernel/quantize_impl.h"

bool dp_quantize_has(dp_dtype type)
{
    return type == DP_F32 || type == DP_F16 || type == DP_BF16 || dp_kernels_ref.quantize[type];
}

bool dp_quantize_row(const dp_kernels *kernels, dp_dtype type, void *out, const float *x, size_t k)
{
    uint16_t *halves = out;

    switch (type) {
    case DP_F32:
        memcpy(out, x, k * sizeof *x);
        return true;
    case DP_F16:
        kernels->f16_from_f32(halves, x, k);
        return true;
    case DP_BF16:
        for (size_t i = 0; i < k; i++)
            halves[i] = dp_bf16_from_f32(x[i]);
        return true;
    default:
        if (!kernels->quantize[type])
            return false;
        kernels->quantize[type](out, x, k);
        return true;
    }
}

float dp_quantize_max(dp_dtype type)
{
    switch (type) {
    case DP_F32:
        return FLT_MAX;
    case DP_BF16:
        return 0x1.fep127f;
    case DP_MXFP4:
        return 6 * 0x1p125f;
    default: /* of f16; types with an f16 scale could go on by their steps, but weights do not */
        return 65504;
    }
}

size_t dp_quantize_check(const float *x, size_t k, float max)
{
    size_t i = 0;

    /* Runs first: the compiler makes few instructions of them. A comparison with
     * NaN is false. */
    for (; i + DP_QK <= k; i += DP_QK) {
        int is_ok = 1;

        for (size_t j = 0; j < DP_QK; j++)
            is_ok &= (x[i + j] <= max) & (x[i + j] >= -max);
        if (!is_ok)
            break;
    }
    for (; i < k; i++)
        if (!(x[i] <= max && x[i] >= -max))
            return i;
    return k;
}
