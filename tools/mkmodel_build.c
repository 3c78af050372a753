#include "mkmodel.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/status.h"

/* Gain of matrices that write to the residual stream: small enough that its
 * size stays of order 1 through any number of layers. */
#define RESIDUAL_GAIN 0.35f

struct builder {
    dp_gguf_writer *w; /* NULL: only count */
    const mkmodel_shape *c;
    mkmodel_totals *totals;
    dp_dtype base, expert, out;
    bool is_mixed; /* Q4_K_M */
    int layer;     /* -1 outside */
};

/* --- keys ------------------------------------------------------------------ */

static const char *key_of(char out[96], const struct builder *b, const char *key)
{
    snprintf(out, 96, "%s.%s", b->c->arch, key);
    return out;
}

static void put_u32(struct builder *b, const char *key, uint32_t value)
{
    char text[96];

    dp_gguf_writer_u32(b->w, key_of(text, b, key), value);
}

static void put_f32(struct builder *b, const char *key, float value)
{
    char text[96];

    dp_gguf_writer_f32(b->w, key_of(text, b, key), value);
}

/* The format's number for "mostly this type". */
static uint32_t file_type(const struct builder *b)
{
    static const uint8_t numbers[DP_DTYPE_END] = {
        [DP_F16] = 1,      [DP_Q4_0] = 2,    [DP_Q4_1] = 3,   [DP_Q5_0] = 8,     [DP_Q5_1] = 9,
        [DP_Q8_0] = 7,     [DP_Q2_K] = 10,   [DP_Q3_K] = 11,  [DP_Q4_K] = 14,    [DP_Q5_K] = 16,
        [DP_Q6_K] = 18,    [DP_BF16] = 32,   [DP_MXFP4] = 38, [DP_IQ1_S] = 24,   [DP_IQ1_M] = 31,
        [DP_IQ2_XXS] = 19, [DP_IQ2_XS] = 20, [DP_IQ2_S] = 28, [DP_IQ3_XXS] = 23, [DP_IQ3_S] = 26,
        [DP_IQ4_NL] = 25,  [DP_IQ4_XS] = 30, [DP_TQ1_0] = 36, [DP_TQ2_0] = 37,
    };

    return b->is_mixed ? 15 : numbers[b->expert == DP_MXFP4 ? DP_MXFP4 : b->base];
}

static void put_mla_keys(struct builder *b)
{
    const mkmodel_shape *c = b->c;
    char text[96];

    put_u32(b, "attention.head_count_kv", 1);
    put_u32(b, "attention.key_length", c->kv_lora + c->d_rope);
    put_u32(b, "attention.value_length", c->kv_lora);
    put_u32(b, "attention.key_length_mla", c->d_nope + c->d_rope);
    put_u32(b, "attention.value_length_mla", c->d_v);
    if (c->q_lora)
        put_u32(b, "attention.q_lora_rank", c->q_lora);
    put_u32(b, "attention.kv_lora_rank", c->kv_lora);
    put_u32(b, "rope.dimension_count", c->d_rope);
    put_u32(b, "feed_forward_length", c->n_ff);
    put_u32(b, "expert_shared_count", c->n_shared);
    put_u32(b, "leading_dense_block_count", c->n_dense);
    put_u32(b, "expert_gating_func", c->gating);
    put_f32(b, "expert_weights_scale", c->w_scale);
    dp_gguf_writer_bool(b->w, key_of(text, b, "expert_weights_norm"), c->gating == 2);
    if (c->n_group > 1) {
        put_u32(b, "expert_group_count", c->n_group);
        put_u32(b, "expert_group_used_count", c->n_group_used);
    }
}

static void put_keys(struct builder *b)
{
    const mkmodel_shape *c = b->c;
    char text[96];

    dp_gguf_writer_str(b->w, "general.architecture", c->arch);
    dp_gguf_writer_str(b->w, "general.type", "model");
    snprintf(text, sizeof text, "synthetic %s", c->name);
    dp_gguf_writer_str(b->w, "general.name", text);
    dp_gguf_writer_u32(b->w, "general.file_type", file_type(b));
    dp_gguf_writer_u32(b->w, "general.quantization_version", 2);
    put_u32(b, "block_count", c->n_layer);
    put_u32(b, "context_length", c->n_ctx ? c->n_ctx : 32768);
    put_u32(b, "embedding_length", c->n_embd);
    put_u32(b, "attention.head_count", c->n_head);
    put_f32(b, "attention.layer_norm_rms_epsilon", 1e-5f);
    put_f32(b, "rope.freq_base", (float)c->rope_base);
    put_u32(b, "vocab_size", c->n_vocab);
    if (c->n_expert) {
        put_u32(b, "expert_count", c->n_expert);
        put_u32(b, "expert_used_count", c->n_used);
    }
    if (c->n_ff_exp)
        put_u32(b, "expert_feed_forward_length", c->n_ff_exp);
    if (strcmp(c->arch, "deepseek2") == 0) {
        put_mla_keys(b);
        return;
    }
    put_u32(b, "attention.head_count_kv", c->n_head_kv);
    put_u32(b, "attention.key_length", c->head_dim);
    put_u32(b, "attention.value_length", c->head_dim);
    put_u32(b, "rope.dimension_count", c->head_dim);
    put_u32(b, "feed_forward_length", c->n_ff ? c->n_ff : c->n_ff_exp);
    if (strcmp(c->arch, "gpt-oss") == 0) {
        put_u32(b, "attention.sliding_window", c->swa);
        dp_gguf_writer_str(b->w, key_of(text, b, "rope.scaling.type"), "yarn");
        put_f32(b, "rope.scaling.factor", 32);
        put_u32(b, "rope.scaling.original_context_length", 4096);
    }
}

/* --- tensors --------------------------------------------------------------- */

static void add(struct builder *b, const char *name, dp_dtype type, const uint64_t ne[3],
                dp_fill fill, float std)
{
    bool is_expert = strstr(name, "_exps.") != NULL;
    bool is_lookup = strcmp(name, "token_embd.weight") == 0 && !b->c->tied;
    uint32_t dim_count = ne[2] > 1 ? 3 : ne[1] > 1 ? 2 : 1;
    mkmodel_totals *t = b->totals;
    uint64_t size = 0, rows = ne[1] * ne[2];
    char full[96];

    if (b->layer >= 0)
        snprintf(full, sizeof full, "blk.%d.%s", b->layer, name);
    else
        snprintf(full, sizeof full, "%s", name);
    if (b->w)
        dp_gguf_writer_tensor(b->w, full, type, dim_count, ne, fill, std);
    dp_dtype_row_bytes(type, ne[0], &size);
    t->tensor_count++;
    t->param_count += ne[0] * rows;
    t->bytes += size * rows;
    if (is_expert) {
        t->expert_bytes += size * rows;
        t->token_bytes += size * rows / b->c->n_expert * b->c->n_used;
    } else {
        t->token_bytes += is_lookup ? size : size * rows;
    }
}

/* Rows that are not whole blocks get the nearest type that takes them. */
static dp_dtype fit_type(dp_dtype type, uint64_t elems)
{
    if (dp_dtype_get(type)->block_elems == DP_QK_K && elems % DP_QK_K)
        type = type == DP_Q5_K || type == DP_Q6_K ? DP_Q8_0 : DP_Q4_0;
    if (dp_dtype_get(type)->block_elems == DP_QK && elems % DP_QK)
        type = DP_F16;
    return type;
}

static void add_stack(struct builder *b, const char *name, dp_dtype type, uint64_t in, uint64_t out,
                      uint64_t count, float std)
{
    const uint64_t ne[3] = { in, out, count };
    char full[64];

    snprintf(full, sizeof full, "%s.weight", name);
    add(b, full, fit_type(type, in), ne, DP_FILL_NORMAL, std);
}

/* A matrix that keeps the size of values, times gain. */
static void add_matrix(struct builder *b, const char *name, dp_dtype type, uint64_t in,
                       uint64_t out, float gain)
{
    add_stack(b, name, type, in, out, 1, gain / sqrtf((float)in));
}

static void add_floats(struct builder *b, const char *name, uint64_t n, uint64_t rows, float std)
{
    const uint64_t ne[3] = { n, rows, 1 };

    add(b, name, DP_F32, ne, DP_FILL_NORMAL, std);
}

static void add_norm(struct builder *b, const char *name, uint64_t n)
{
    const uint64_t ne[3] = { n, 1, 1 };
    char full[64];

    snprintf(full, sizeof full, "%s.weight", name);
    add(b, full, DP_F32, ne, DP_FILL_ONES, 0.1f);
}

/* Q4_K_M gives more bits to what writes to the residual stream in the first and
 * last eighth of layers and in every third between. */
static dp_dtype more_bits(const struct builder *b, dp_dtype type)
{
    int eighth = (int)b->c->n_layer / 8, i = b->layer;
    bool is_chosen = i < eighth || i >= 7 * (int)b->c->n_layer / 8 || (i - eighth) % 3 == 2;

    return b->is_mixed && type == DP_Q4_K && is_chosen ? DP_Q6_K : type;
}

static void add_attention(struct builder *b)
{
    const mkmodel_shape *c = b->c;
    uint64_t q = (uint64_t)c->n_head * c->head_dim, kv = (uint64_t)c->n_head_kv * c->head_dim;

    add_matrix(b, "attn_q", b->base, c->n_embd, q, 1);
    add_matrix(b, "attn_k", b->base, c->n_embd, kv, 1);
    add_matrix(b, "attn_v", more_bits(b, b->base), c->n_embd, kv, 1);
    add_matrix(b, "attn_output", b->base, q, c->n_embd, RESIDUAL_GAIN);
    if (strcmp(c->arch, "gpt-oss") == 0) {
        add_floats(b, "attn_q.bias", q, 1, 0.02f);
        add_floats(b, "attn_k.bias", kv, 1, 0.02f);
        add_floats(b, "attn_v.bias", kv, 1, 0.02f);
        add_floats(b, "attn_output.bias", c->n_embd, 1, 0.02f);
        add_floats(b, "attn_sinks.weight", c->n_head, 1, 0.5f);
    }
    if (strcmp(c->arch, "qwen3moe") == 0) {
        add_norm(b, "attn_q_norm", c->head_dim);
        add_norm(b, "attn_k_norm", c->head_dim);
    }
}

/* Multi-head latent attention, in the absorbed layout. */
static void add_mla(struct builder *b)
{
    const mkmodel_shape *c = b->c;
    uint64_t q = (uint64_t)c->n_head * (c->d_nope + c->d_rope);

    if (c->q_lora) {
        add_matrix(b, "attn_q_a", b->base, c->n_embd, c->q_lora, 1);
        add_norm(b, "attn_q_a_norm", c->q_lora);
        add_matrix(b, "attn_q_b", b->base, c->q_lora, q, 1);
    } else {
        add_matrix(b, "attn_q", b->base, c->n_embd, q, 1);
    }
    add_matrix(b, "attn_kv_a_mqa", b->base, c->n_embd, c->kv_lora + c->d_rope, 1);
    add_norm(b, "attn_kv_a_norm", c->kv_lora);
    add_stack(b, "attn_k_b", b->base, c->d_nope, c->kv_lora, c->n_head,
              1 / sqrtf((float)c->kv_lora));
    add_stack(b, "attn_v_b", b->base, c->kv_lora, c->d_v, c->n_head, 1 / sqrtf((float)c->kv_lora));
    add_matrix(b, "attn_output", b->base, (uint64_t)c->n_head * c->d_v, c->n_embd, RESIDUAL_GAIN);
}

static void add_dense(struct builder *b)
{
    const mkmodel_shape *c = b->c;

    add_matrix(b, "ffn_gate", b->base, c->n_embd, c->n_ff, 1);
    add_matrix(b, "ffn_up", b->base, c->n_embd, c->n_ff, 1);
    add_matrix(b, "ffn_down", more_bits(b, b->base), c->n_ff, c->n_embd, 2 * RESIDUAL_GAIN);
}

static void add_experts(struct builder *b)
{
    const mkmodel_shape *c = b->c;
    uint64_t ff = c->n_ff_exp ? c->n_ff_exp : c->n_ff, shared = ff * c->n_shared;
    float in_std = 1 / sqrtf((float)c->n_embd);
    bool is_gpt_oss = strcmp(c->arch, "gpt-oss") == 0;

    add_floats(b, "ffn_gate_inp.weight", c->n_embd, c->n_expert, in_std);
    if (is_gpt_oss)
        add_floats(b, "ffn_gate_inp.bias", c->n_expert, 1, 0.02f);
    if (c->gating == 2)
        add_floats(b, "exp_probs_b.bias", c->n_expert, 1, 0.01f);
    add_stack(b, "ffn_gate_exps", b->expert, c->n_embd, ff, c->n_expert, in_std);
    add_stack(b, "ffn_up_exps", b->expert, c->n_embd, ff, c->n_expert, in_std);
    add_stack(b, "ffn_down_exps", more_bits(b, b->expert), ff, c->n_embd, c->n_expert,
              2 * RESIDUAL_GAIN / sqrtf((float)ff));
    if (is_gpt_oss) {
        add_floats(b, "ffn_gate_exps.bias", ff, c->n_expert, 0.02f);
        add_floats(b, "ffn_up_exps.bias", ff, c->n_expert, 0.02f);
        add_floats(b, "ffn_down_exps.bias", c->n_embd, c->n_expert, 0.02f);
    }
    if (shared) {
        add_matrix(b, "ffn_gate_shexp", b->base, c->n_embd, shared, 1);
        add_matrix(b, "ffn_up_shexp", b->base, c->n_embd, shared, 1);
        add_matrix(b, "ffn_down_shexp", b->base, shared, c->n_embd, 2 * RESIDUAL_GAIN);
    }
}

static void add_tensors(struct builder *b)
{
    const mkmodel_shape *c = b->c;
    bool is_mla = strcmp(c->arch, "deepseek2") == 0, is_gpt_oss = strcmp(c->arch, "gpt-oss") == 0;

    b->layer = -1;
    /* A tied embedding is the head too, whose logits should spread by about 3. */
    add_stack(b, "token_embd", c->tied ? b->out : b->base, c->n_embd, c->n_vocab, 1,
              c->tied ? 3 / sqrtf((float)c->n_embd) : 1);
    for (b->layer = 0; b->layer < (int)c->n_layer; b->layer++) {
        add_norm(b, "attn_norm", c->n_embd);
        if (is_mla)
            add_mla(b);
        else
            add_attention(b);
        add_norm(b, is_gpt_oss ? "post_attention_norm" : "ffn_norm", c->n_embd);
        if (c->n_expert && b->layer >= (int)c->n_dense)
            add_experts(b);
        else
            add_dense(b);
    }
    b->layer = -1;
    add_norm(b, "output_norm", c->n_embd);
    if (!c->tied)
        add_matrix(b, "output", b->out, c->n_embd, c->n_vocab, 3);
}

static bool find_type(dp_dtype *out, const char *name)
{
    for (uint32_t id = 0; id < DP_DTYPE_END; id++) {
        const dp_dtype_info *info = dp_dtype_get(id);

        if (info && strcmp(info->name, name) == 0) {
            *out = (dp_dtype)id;
            return true;
        }
    }
    return false;
}

dp_status mkmodel_build(dp_gguf_writer *w, const mkmodel_shape *shape, mkmodel_totals *totals,
                        dp_error *err)
{
    struct builder b = { .w = w, .c = shape, .totals = totals };
    const char *type = shape->type, *expert_type;

    *totals = (mkmodel_totals){ 0 };
    b.is_mixed = strcmp(type, MKMODEL_TYPE_Q4_K_M) == 0;
    if (b.is_mixed)
        type = "Q4_K";
    expert_type = shape->expert_type ? shape->expert_type : type;
    if (!find_type(&b.base, type) || !find_type(&b.expert, expert_type))
        return dp_fail(err, DP_E_INVALID, "type %s, expert type %s: one is unknown", type,
                       expert_type);
    b.out = b.base == DP_Q4_0 || b.base == DP_Q4_K || b.base == DP_Q5_K ? DP_Q6_K : b.base;
    if (w)
        put_keys(&b);
    add_tensors(&b);
    return DP_OK;
}
