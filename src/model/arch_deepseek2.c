/* deepseek2: DeepSeek-V2, V2-Lite, V3, R1 and those that took over their shape (Kimi K2,
 * GLM 4.7 Flash). Latent attention; a few dense layers, then mixtures with experts that
 * every token shares. What differs between them is in the keys; files that came before a
 * key existed are told apart by their tensors.
 * DeepSeek-AI 2024, arXiv:2405.04434 (V2), arXiv:2412.19437 (V3). */
#include <stdio.h>

#include "base/log.h"
#include "base/status.h"
#include "model/blocks.h"

/* ---- dimensions ---- */

static void fail_key(dp_model *m, dp_binder *b, const char *key, uint32_t found, const char *what,
                     uint32_t other)
{
    if (!b->status)
        b->status = dp_fail(b->err, DP_E_CORRUPT, "key %s.%s: %u, %s %u", m->hp.arch, key, found,
                            what, other);
}

/* The mtp layers behind the model's own guess a token further ahead; nothing here does. */
static void drop_nextn_layers(dp_model *m, dp_binder *b)
{
    dp_hparams *hp = &m->hp;

    if (hp->nextn_layers >= hp->layer_count) {
        fail_key(m, b, "nextn_predict_layers", hp->nextn_layers, "but block_count is",
                 hp->layer_count);
        return;
    }
    for (uint32_t i = 0; i < hp->nextn_layers; i++)
        dp_bind_skip_layer(b, --hp->layer_count);
}

/* Files of the first kind describe keys and values as if they were made for each head
 * (key_length, value_length, as many heads of them as of queries); newer ones describe what
 * is kept, and have key_length_mla and value_length_mla for a head's own. From here on all
 * are as the newer ones. */
static void settle_attention(dp_model *m, dp_binder *b)
{
    dp_hparams *hp = &m->hp;
    uint32_t latent = hp->kv_lora_rank + hp->rope_dim;
    bool is_old = hp->key_dim_mla == 0 && hp->value_dim_mla == 0;

    if (hp->kv_lora_rank == 0 && !b->status)
        b->status =
            dp_fail(b->err, DP_E_NOTFOUND, "key %s.attention.kv_lora_rank: missing or 0", hp->arch);
    if (is_old) {
        hp->key_dim_mla = hp->key_dim;
        hp->value_dim_mla = hp->value_dim;
        hp->key_dim = latent;
        hp->value_dim = hp->kv_lora_rank;
    }
    if (hp->key_dim_mla <= hp->rope_dim)
        fail_key(m, b, "rope.dimension_count", hp->rope_dim, "but a head's key has",
                 hp->key_dim_mla);
    if (hp->value_dim_mla == 0)
        fail_key(m, b, "attention.value_length_mla", 0, "but key_length_mla is", hp->key_dim_mla);
    if (hp->key_dim != latent)
        fail_key(m, b, "attention.key_length", hp->key_dim,
                 "but kv_lora_rank and rope.dimension_count make", latent);
    if (hp->value_dim != hp->kv_lora_rank)
        fail_key(m, b, "attention.value_length", hp->value_dim, "but kv_lora_rank is",
                 hp->kv_lora_rank);
    for (uint32_t l = 0; l < hp->layer_count; l++) {
        if (is_old ? hp->kv_head_count[l] != hp->head_count[l] : hp->kv_head_count[l] != 1)
            fail_key(m, b, "attention.head_count_kv", hp->kv_head_count[l], "expected",
                     is_old ? hp->head_count[l] : 1);
        if ((uint64_t)hp->head_count[l] * latent > DP_DIM_MAX)
            fail_key(m, b, "attention.head_count", hp->head_count[l], "at most",
                     DP_DIM_MAX / latent);
        hp->kv_head_count[l] = 1;
    }
    hp->value_in_key = true;
}

static bool has_key(const dp_model *m, const dp_binder *b, const char *key)
{
    char name[128];

    snprintf(name, sizeof name, "%s.%s", m->hp.arch, key);
    return dp_gguf_find(b->gguf, name) != NULL;
}

/* Mistral Large 3 has this name too, and scales queries by position beyond a length. */
static void refuse_temperature(dp_model *m, dp_binder *b)
{
    if (!b->status && has_key(m, b, "attention.temperature_scale"))
        b->status = dp_fail(b->err, DP_E_UNSUPPORTED,
                            "key %s.attention.temperature_scale: queries scaled by position are "
                            "not a part of this architecture as doppler knows it",
                            m->hp.arch);
}

/* ---- routing ---- */

/* V3 differs from V2 by a bias for choosing; files of either may lack the keys that say
 * what follows from it. */
static void settle_routing(dp_model *m, dp_binder *b)
{
    dp_hparams *hp = &m->hp;
    char name[DP_GGUF_NAME_MAX];
    bool has_bias;

    if (b->status || hp->expert_count == 0)
        return;
    snprintf(name, sizeof name, "blk.%u.exp_probs_b.bias", hp->leading_dense);
    has_bias = dp_gguf_find_tensor(b->gguf, name) != NULL;
    if (hp->expert_gating == DP_GATING_DEFAULT)
        hp->expert_gating = has_bias ? DP_GATING_SIGMOID : DP_GATING_SOFTMAX;
    if (!has_key(m, b, "expert_weights_norm"))
        hp->expert_weights_norm = hp->expert_gating == DP_GATING_SIGMOID;
    if (has_bias && hp->expert_count == 256 && hp->layer_count == 61 &&
        !has_key(m, b, "expert_group_count")) {
        hp->expert_group_count = 8;
        hp->expert_group_used = 4;
        DP_LOG_INFO("model",
                    "expert_groups=8 expert_groups_used=4 reason=\"not in the file, which has the "
                    "shape of DeepSeek-V3\"");
    }
}

static void bind_mixture(dp_model *m, dp_binder *b, uint32_t l)
{
    const dp_hparams *hp = &m->hp;
    dp_layer *w = &m->layers[l];
    uint32_t dim = hp->embed_dim, ff = hp->expert_ff_dim * hp->expert_shared;

    dp_bind_weight(b, &w->router, "blk.%u.ffn_gate_inp.weight", l, hp->expert_count, dim, 0);
    dp_bind_weight(b, &w->select_bias, "blk.%u.exp_probs_b.bias", l, 0, hp->expert_count,
                   DP_BIND_F32 | DP_BIND_OPTIONAL);
    if (ff) {
        dp_bind_weight(b, &w->shared.gate, "blk.%u.ffn_gate_shexp.weight", l, ff, dim, 0);
        dp_bind_weight(b, &w->shared.up, "blk.%u.ffn_up_shexp.weight", l, ff, dim, 0);
        dp_bind_weight(b, &w->shared.down, "blk.%u.ffn_down_shexp.weight", l, dim, ff, 0);
    }
    dp_bind_experts(m, b, l, 0);
}

/* ---- the family ---- */

static void deepseek2_bind(dp_model *m, dp_binder *b)
{
    dp_hparams *hp = &m->hp;

    drop_nextn_layers(m, b);
    settle_attention(m, b);
    refuse_temperature(m, b);
    settle_routing(m, b);
    for (uint32_t l = 0; l < hp->layer_count && !b->status; l++) {
        m->layers[l].page = dp_bind_page(b, DP_PAGE_ALWAYS, l, 0);
        dp_bind_mla(m, b, l);
        if (hp->expert_count && l >= hp->leading_dense)
            bind_mixture(m, b, l);
        else
            dp_bind_dense(m, b, l);
    }
}

static dp_status deepseek2_layer(dp_step *step, uint32_t l, dp_error *err)
{
    return dp_pre_norm_layer(step, l, dp_block_mla, err);
}

const dp_arch dp_arch_deepseek2 = {
    .name = "deepseek2",
    .rope_style = DP_ROPE_STYLE_PAIRS,
    .bind = deepseek2_bind,
    .layer = deepseek2_layer,
};
