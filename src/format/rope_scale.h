/* rope_scale.h - the divisors of rotary speeds that Llama 3.1 introduced.
 *
 * GGUF files carry them as tensor rope_freqs.weight; Hugging Face configurations
 * carry the four numbers they are made from; GGUF files of July 2024 carry neither.
 *
 * Threads  Any.
 */
#ifndef DP_FORMAT_ROPE_SCALE_H
#define DP_FORMAT_ROPE_SCALE_H

#include "format/hparams.h"

typedef struct dp_llama3_scaling {
    double factor;           /* 8 in Llama 3.1, 32 in the small ones of 3.2 */
    double low, high;        /* low_freq_factor 1, high_freq_factor 4 */
    double original_context; /* 8192 */
} dp_llama3_scaling;

extern const dp_llama3_scaling dp_llama31_scaling;

/* out[i] is what theta_i = base^(-i / pair_count) is divided by: 1 for pairs whose
 * wavelength is shorter than original_context / high, factor for those longer
 * than original_context / low, blended between.
 * Meta, llama-models, models/llama3/reference_impl/model.py, apply_scaling. */
void dp_llama3_divisors(float *out, uint32_t pair_count, double base,
                        const dp_llama3_scaling *scaling);

/* Llama 3.1 by its dimensions: the context and vocabulary that Llama 3 did not
 * have together, at Llama 3's own base, which finetunes with a longer context
 * raised instead. */
bool dp_is_llama31(const dp_hparams *hp);

#endif
