/* qwen3 and qwen3moe: the standard layer with a norm over each head of queries and
 * keys before they are rotated, halves of a head against each other; the mixture
 * routes by softmax over all experts, renormalised. Yang et al. 2025,
 * arXiv:2505.09388, §2. */
#include "base/status.h"
#include "model/blocks.h"

static void qwen3_bind(dp_model *m, dp_binder *b)
{
    if (m->hp.expert_count)
        b->status =
            dp_fail(b->err, DP_E_UNSUPPORTED,
                    "key qwen3.expert_count: %u, this architecture has none", m->hp.expert_count);
    dp_bind_standard_layers(m, b, DP_LAYER_HEAD_NORMS);
}

static void qwen3moe_bind(dp_model *m, dp_binder *b)
{
    if (m->hp.expert_count == 0)
        b->status = dp_fail(b->err, DP_E_NOTFOUND, "key qwen3moe.expert_count: missing or 0");
    dp_bind_routing(m, b, DP_GATING_SOFTMAX);
    dp_bind_standard_layers(m, b, DP_LAYER_HEAD_NORMS);
}

const dp_arch dp_arch_qwen3 = {
    .name = "qwen3",
    .rope_style = DP_ROPE_STYLE_HALVES,
    .bind = qwen3_bind,
    .layer = dp_standard_layer,
};

const dp_arch dp_arch_qwen3moe = {
    .name = "qwen3moe",
    .rope_style = DP_ROPE_STYLE_HALVES,
    .bind = qwen3moe_bind,
    .layer = dp_standard_layer,
};
