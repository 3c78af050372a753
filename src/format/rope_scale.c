#include "format/rope_scale.h"

#include <math.h>
#include <string.h>

const dp_llama3_scaling dp_llama31_scaling = {
    .factor = 8, .low = 1, .high = 4, .original_context = 8192
};

void dp_llama3_divisors(float *out, uint32_t pair_count, double base,
                        const dp_llama3_scaling *scaling)
{
    for (uint32_t i = 0; i < pair_count; i++) {
        double wavelength = 2 * M_PI * pow(base, (double)i / pair_count);
        double turns = scaling->original_context / wavelength;
        double smooth = (turns - scaling->low) / (scaling->high - scaling->low);

        smooth = fmin(fmax(smooth, 0), 1);
        out[i] = (float)(1 / ((1 - smooth) / scaling->factor + smooth));
    }
}

bool dp_is_llama31(const dp_hparams *hp)
{
    return strcmp(hp->arch, "llama") == 0 && hp->vocab_size == 128256 &&
           hp->context_max == 131072 && hp->rope_base == 500000 &&
           hp->rope_scaling == DP_ROPE_NONE && hp->expert_count == 0;
}
