/* llama: Llama 1-3, Mistral, Mixtral (key llama.expert_count) and whatever else
 * keeps their shape. Pre-norm attention with grouped heads, then a SwiGLU
 * feed-forward or a mixture of them.
 * Touvron et al. 2023, arXiv:2302.13971; Jiang et al. 2024, arXiv:2401.04088. */
#include "model/blocks.h"

static void llama_bind(dp_model *m, dp_binder *b)
{
    dp_bind_routing(m, b, DP_GATING_SOFTMAX);
    dp_bind_standard_layers(m, b, 0);
}

const dp_arch dp_arch_llama = {
    .name = "llama",
    .rope_style = DP_ROPE_STYLE_PAIRS,
    .bind = llama_bind,
    .layer = dp_standard_layer,
};
