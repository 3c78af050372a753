/* convert_keys.c - the GGUF keys of a configuration. */
#include <stdio.h>
#include "convert/convert_config.h"

#define KEY_SIZE 96

struct keys {
    const dp_hf_config *c;
    dp_gguf_out *out;
};

static const char *make_key(char key[KEY_SIZE], const struct keys *k, const char *suffix)
{
    snprintf(key, KEY_SIZE, "%s.%s", k->c->arch, suffix);
    return key;
}

static void put_u32(const struct keys *k, const char *suffix, uint64_t value)
{
    char key[KEY_SIZE];

    dp_gguf_out_u32(k->out, make_key(key, k, suffix), (uint32_t)value);
}

static void put_f32(const struct keys *k, const char *suffix, double value)
{
    char key[KEY_SIZE];

    dp_gguf_out_f32(k->out, make_key(key, k, suffix), (float)value);
}

static void put_rope(const struct keys *k)
{
    const dp_hf_config *c = k->c;
    char key[KEY_SIZE];

    put_f32(k, "rope.freq_base", c->rope_theta);
    put_u32(k, "rope.dimension_count",
            c->family == DP_HF_DEEPSEEK ? c->rotated : c->dims[DP_DIM_HEAD]);
    if (c->rope != DP_HF_ROPE_LINEAR && c->rope != DP_HF_ROPE_YARN)
        return;
    make_key(key, k, "rope.scaling.type");
    dp_gguf_out_str(k->out, key, c->rope == DP_HF_ROPE_YARN ? "yarn" : "linear");
    put_f32(k, "rope.scaling.factor", c->rope_factor);
    if (c->rope == DP_HF_ROPE_LINEAR)
        return;
    put_u32(k, "rope.scaling.original_context_length", c->rope_original);
    if (c->yarn_attention != 0)
        put_f32(k, "rope.scaling.attn_factor", c->yarn_attention);
    if (c->yarn_fast != 0)
        put_f32(k, "rope.scaling.yarn_beta_fast", c->yarn_fast);
    if (c->yarn_slow != 0)
        put_f32(k, "rope.scaling.yarn_beta_slow", c->yarn_slow);
    if (c->mscale_all != 0) /* readers divide by 0.1 again */
        put_f32(k, "rope.scaling.yarn_log_multiplier", 0.1 * c->mscale_all);
}

static void put_experts(const struct keys *k)
{
    const dp_hf_config *c = k->c;

    put_u32(k, "expert_count", c->dims[DP_DIM_EXPERTS]);
    put_u32(k, "expert_used_count", c->expert_used);
    if (c->family != DP_HF_MIXTRAL) /* there it is feed_forward_length */
        put_u32(k, "expert_feed_forward_length", c->dims[DP_DIM_EXPERT_FF]);
}

static void put_deepseek(const struct keys *k)
{
    const dp_hf_config *c = k->c;
    char key[KEY_SIZE];

    /* Attention works on the compressed keys: one key of kv_lora + rotated values
     * for all heads; the _mla keys have the lengths of a head. */
    put_u32(k, "attention.head_count_kv", 1);
    put_u32(k, "attention.key_length", c->dims[DP_DIM_KV_A]);
    put_u32(k, "attention.value_length", c->dims[DP_DIM_KV_LORA]);
    put_u32(k, "attention.key_length_mla", c->dims[DP_DIM_PLAIN] + c->rotated);
    put_u32(k, "attention.value_length_mla", c->dims[DP_DIM_VALUE]);
    if (c->dims[DP_DIM_Q_LORA])
        put_u32(k, "attention.q_lora_rank", c->dims[DP_DIM_Q_LORA]);
    put_u32(k, "attention.kv_lora_rank", c->dims[DP_DIM_KV_LORA]);
    put_u32(k, "leading_dense_block_count", c->dense_count);
    put_u32(k, "expert_shared_count", c->shared_count);
    put_f32(k, "expert_weights_scale", c->weights_scale);
    make_key(key, k, "expert_weights_norm");
    dp_gguf_out_bool(k->out, key, c->norms_weights);
    put_u32(k, "expert_gating_func", c->is_sigmoid ? DP_GATING_SIGMOID : DP_GATING_SOFTMAX);
    if (c->group_count > 1) {
        put_u32(k, "expert_group_count", c->group_count);
        put_u32(k, "expert_group_used_count", c->group_used);
    }
}

void dp_hf_config_keys(const dp_hf_config *c, dp_gguf_out *out)
{
    const struct keys k = { c, out };

    put_u32(&k, "vocab_size", c->dims[DP_DIM_VOCAB]);
    put_u32(&k, "context_length", c->context_max);
    put_u32(&k, "embedding_length", c->dims[DP_DIM_EMBED]);
    put_u32(&k, "block_count", c->layer_count);
    put_u32(&k, "feed_forward_length", c->dims[DP_DIM_FF]);
    put_u32(&k, "attention.head_count", c->dims[DP_DIM_HEADS]);
    put_f32(&k, "attention.layer_norm_rms_epsilon", c->norm_eps);
    if (c->family != DP_HF_DEEPSEEK) {
        put_u32(&k, "attention.head_count_kv", c->kv_head_count);
        if (c->has_head_dim) {
            put_u32(&k, "attention.key_length", c->dims[DP_DIM_HEAD]);
            put_u32(&k, "attention.value_length", c->dims[DP_DIM_HEAD]);
        }
    }
    if (c->sliding_window)
        put_u32(&k, "attention.sliding_window", c->sliding_window);
    put_rope(&k);
    if (c->dims[DP_DIM_EXPERTS])
        put_experts(&k);
    if (c->family == DP_HF_DEEPSEEK)
        put_deepseek(&k);
}
