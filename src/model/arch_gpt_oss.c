/* gpt-oss: the standard layer with a bias on every product, an attention sink for each
 * head (Xiao et al. 2023, arXiv:2309.17453, learned here), a window on every other
 * layer, experts weighed by a softmax over the chosen, and a clamped SwiGLU.
 * OpenAI 2025, arXiv:2508.10925. Positions are YaRN's; the correction range stays
 * fractional ("truncate": false in the model's configuration). */
#include "base/status.h"
#include "model/blocks.h"

#define WINDOW_PERIOD 2 /* the last layer of each period sees everything */

/* Files leave the pattern to the architecture; one that names another is not ours. */
static dp_status check_keys(const dp_hparams *hp, const dp_gguf *gguf, dp_error *err)
{
    const char *key = "gpt-oss.attention.sliding_window_pattern";
    uint64_t period = WINDOW_PERIOD;
    dp_status st = DP_OK;

    if (hp->expert_count == 0)
        return dp_fail(err, DP_E_NOTFOUND, "key gpt-oss.expert_count: missing or 0");
    if (hp->sliding_window == 0)
        return dp_fail(err, DP_E_NOTFOUND, "key gpt-oss.attention.sliding_window: missing or 0");
    if (dp_gguf_find(gguf, key))
        st = dp_gguf_get_u64(gguf, key, 0, &period, err);
    if (!st && period != WINDOW_PERIOD)
        st = dp_fail(err, DP_E_UNSUPPORTED, "key %s: %llu, this architecture has %d", key,
                     (unsigned long long)period, WINDOW_PERIOD);
    return st;
}

static void gpt_oss_bind(dp_model *m, dp_binder *b)
{
    if (!b->status)
        b->status = check_keys(&m->hp, b->gguf, b->err);
    for (uint32_t l = WINDOW_PERIOD - 1; l < m->hp.layer_count; l += WINDOW_PERIOD)
        m->layers[l].window = 0;
    dp_bind_routing(m, b, DP_GATING_SOFTMAX_SELECTED);
    dp_bind_standard_layers(m, b, DP_LAYER_BIASES | DP_LAYER_SINKS | DP_LAYER_POST_ATTENTION_NORM);
}

const dp_arch dp_arch_gpt_oss = {
    .name = "gpt-oss",
    .rope_style = DP_ROPE_STYLE_HALVES,
    .keeps_yarn_range = true,
    .swiglu_alpha = 1.702f,
    .swiglu_limit = 7,
    .bind = gpt_oss_bind,
    .layer = dp_standard_layer,
};
