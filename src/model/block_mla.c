/* Multi-head latent attention: all heads share one latent c of kv_lora values a token,
 * and one rotated key k_pe. A head's own keys and values are W_k c and W_v c, but they are
 * never made: its query goes into the latent's space instead,
 *
 *   q . W_k c_j  =  (W_k^T q) . c_j          W_v sum_j p_j c_j  =  sum_j p_j W_v c_j
 *
 * so that attention is that of `heads` query heads over one key/value head whose key is
 * [c | k_pe] and whose value is c ("absorbed"). A token keeps kv_lora + rope values in a
 * layer instead of heads times key and value: 1,152 bytes of halves, not 81,920, in DeepSeek-V3.
 * DeepSeek-AI 2024, arXiv:2405.04434, §2.1. */
#include <math.h>

#include "model/blocks.h"

/* ---- weights ---- */

static uint32_t nope_dim(const dp_hparams *hp)
{
    return hp->key_dim_mla - hp->rope_dim;
}

static bool has(const dp_weight *w)
{
    return w->page != DP_PAGE_NONE;
}

static void bind_up(dp_model *m, dp_binder *b, uint32_t l)
{
    const dp_hparams *hp = &m->hp;
    dp_mla_weights *w = &m->layers[l].mla;
    uint32_t heads = hp->head_count[l], nope = nope_dim(hp), value = hp->value_dim_mla;
    uint32_t lora = hp->kv_lora_rank;

    dp_bind_weight(b, &w->kv_b, "blk.%u.attn_kv_b.weight", l, heads * (nope + value), lora,
                   DP_BIND_OPTIONAL | DP_BIND_FIXED);
    if (has(&w->kv_b))
        return;
    dp_bind_stack(b, &w->k_b, "blk.%u.attn_k_b.weight", l, heads, lora, nope);
    dp_bind_stack(b, &w->v_b, "blk.%u.attn_v_b.weight", l, heads, value, lora);
}

void dp_bind_mla(dp_model *m, dp_binder *b, uint32_t l)
{
    const dp_hparams *hp = &m->hp;
    dp_layer *w = &m->layers[l];
    uint32_t dim = hp->embed_dim, low = hp->q_lora_rank, lora = hp->kv_lora_rank;
    uint32_t q_rows = hp->head_count[l] * hp->key_dim_mla;

    dp_bind_weight(b, &w->attn_norm, "blk.%u.attn_norm.weight", l, 0, dim, DP_BIND_F32);
    if (low) {
        dp_bind_weight(b, &w->mla.q_a, "blk.%u.attn_q_a.weight", l, low, dim, 0);
        dp_bind_weight(b, &w->mla.q_a_norm, "blk.%u.attn_q_a_norm.weight", l, 0, low, DP_BIND_F32);
        dp_bind_weight(b, &w->q, "blk.%u.attn_q_b.weight", l, q_rows, low, 0);
    } else {
        dp_bind_weight(b, &w->q, "blk.%u.attn_q.weight", l, q_rows, dim, 0);
    }
    dp_bind_weight(b, &w->mla.kv_a, "blk.%u.attn_kv_a_mqa.weight", l, lora + hp->rope_dim, dim, 0);
    dp_bind_weight(b, &w->mla.kv_a_norm, "blk.%u.attn_kv_a_norm.weight", l, 0, lora, DP_BIND_F32);
    bind_up(m, b, l);
    dp_bind_weight(b, &w->o, "blk.%u.attn_output.weight", l, dim,
                   hp->head_count[l] * hp->value_dim_mla, 0);
    dp_bind_weight(b, &w->ffn_norm, "blk.%u.ffn_norm.weight", l, 0, dim, DP_BIND_F32);
}

/* ---- what a token brings: queries, its latent, its rotated key ---- */

/* q [T][heads * query], v [T][kv_lora] and k [T][rope] from h. */
static dp_status project(dp_step *step, const dp_layer *w, const dp_lease *lease, dp_error *err)
{
    const dp_hparams *hp = &step->model->hp;
    const dp_device_ops *ops = step->device->ops;
    bool is_low = has(&w->mla.q_a);
    dp_mat kv_a = dp_weight_mat(&w->mla.kv_a, lease);
    dp_mat q = dp_weight_mat(is_low ? &w->mla.q_a : &w->q, lease);
    dp_product down = { .site = { is_low ? w->mla.q_a.site : w->q.site, w->mla.kv_a.site,
                                  w->mla.kv_a.site },
                        .row_first = { 0, 0, hp->kv_lora_rank } };
    dp_product up = { .site = { w->q.site } };
    dp_status st;

    down.op = (dp_op_matmul){
        .x = step->h,
        .x_stride = hp->embed_dim,
        .tokens = step->count,
        .part_count = 3,
        .part = { { q, NULL, is_low ? step->q_low : step->q, q.rows },
                  { dp_mat_rows(kv_a, 0, hp->kv_lora_rank), NULL, step->v, hp->kv_lora_rank },
                  { dp_mat_rows(kv_a, hp->kv_lora_rank, hp->rope_dim), NULL, step->k,
                    hp->rope_dim } },
    };
    up.op = (dp_op_matmul){
        .x = step->q_low,
        .x_stride = hp->q_lora_rank,
        .tokens = step->count,
        .part_count = 1,
        .part = { { dp_weight_mat(&w->q, lease), NULL, step->q, w->q.rows } },
    };

    st = dp_step_product(step, &down, err);
    if (st)
        return st;
    ops->rmsnorm(step->device, step->v, step->v, dp_weight_f32(&w->mla.kv_a_norm, lease),
                 step->count, hp->kv_lora_rank, hp->norm_eps);
    if (!is_low)
        return DP_OK;
    ops->rmsnorm(step->device, step->q_low, step->q_low, dp_weight_f32(&w->mla.q_a_norm, lease),
                 step->count, hp->q_lora_rank, hp->norm_eps);
    return dp_step_product(step, &up, err);
}

/* The last rope values of each of `heads` heads of width head_dim. */
static void rotate(dp_step *step, float *x, uint32_t heads, uint32_t head_dim)
{
    uint32_t rope_dim = step->model->hp.rope_dim;
    dp_op_rope op = {
        .x = x + head_dim - rope_dim,
        .x_stride = (size_t)heads * head_dim,
        .tokens = step->count,
        .heads = heads,
        .head_dim = head_dim,
        .rope_dim = rope_dim,
        .style = step->model->arch->rope_style,
        .cos = step->cos,
        .sin = step->sin,
    };

    step->device->ops->rope(step->device, &op);
}

static void store(dp_step *step, uint32_t layer)
{
    const dp_hparams *hp = &step->model->hp;
    dp_op_kv_store op = {
        .k = step->k,
        .v = step->v,
        .k_stride = hp->rope_dim,
        .v_stride = hp->kv_lora_rank,
        .tokens = step->count,
        .kv_heads = 1,
        .key_dim = hp->key_dim,
        .value_dim = hp->value_dim,
        .kv = step->kv,
        .position = step->position,
        .value_in_key = true,
    };

    for (uint32_t t = 0; t < step->count; t++)
        step->kv[t] = dp_kv_seq_layer(step->tokens[t].seq, layer);
    step->device->ops->kv_store(step->device, &op);
}

/* ---- in the latent's space, tokens [first, first + count) ---- */

/* q_latent = [W_k^T q_nope | q_pe] of each head. */
static void enter(dp_step *step, const dp_mla_weights *w, uint32_t heads, uint32_t first,
                  uint32_t count, const dp_lease *lease)
{
    const dp_hparams *hp = &step->model->hp;
    bool is_old = has(&w->kv_b);
    size_t q_stride = (size_t)heads * hp->key_dim_mla;
    dp_op_matmul_heads op = {
        .w = dp_weight_mat(is_old ? &w->kv_b : &w->k_b, lease),
        .row_step = is_old ? nope_dim(hp) + hp->value_dim_mla : hp->kv_lora_rank,
        .rows = is_old ? nope_dim(hp) : hp->kv_lora_rank,
        .is_transposed = is_old,
        .x = step->q + first * q_stride,
        .x_stride = q_stride,
        .x_head = hp->key_dim_mla,
        .y = step->q_latent,
        .y_stride = (size_t)heads * hp->key_dim,
        .y_head = hp->key_dim,
        .tokens = count,
        .heads = heads,
        .tail = hp->rope_dim,
    };

    step->device->ops->matmul_heads(step->device, &op);
}

/* YaRN's magnitude, which a longer context asks for, is squared here and not in the
 * rotation: so it reaches the part of a query that is not rotated as well. */
float dp_mla_scale(const dp_hparams *hp)
{
    double mscale = 1;

    if (hp->rope_scaling == DP_ROPE_YARN)
        mscale += hp->yarn_log_multiplier * log(hp->rope_factor);
    return (float)(mscale * mscale / sqrt(hp->key_dim_mla));
}

static void attend(dp_step *step, const dp_layer *w, uint32_t heads, uint32_t first, uint32_t count)
{
    const dp_hparams *hp = &step->model->hp;
    dp_op_attention op = {
        .q = step->q_latent,
        .q_stride = (size_t)heads * hp->key_dim,
        .out = step->mixed_latent,
        .out_stride = (size_t)heads * hp->value_dim,
        .tokens = count,
        .heads = heads,
        .kv_heads = 1,
        .key_dim = hp->key_dim,
        .value_dim = hp->value_dim,
        .scale = dp_mla_scale(hp),
        .window = w->window,
        .kv = step->kv + first,
        .position = step->position + first,
        .value_in_key = true,
    };

    step->device->ops->attention(step->device, &op);
}

/* mixed = W_v (sum_j p_j c_j) of each head. */
static void leave(dp_step *step, const dp_mla_weights *w, uint32_t heads, uint32_t first,
                  uint32_t count, const dp_lease *lease)
{
    const dp_hparams *hp = &step->model->hp;
    bool is_old = has(&w->kv_b);
    size_t mixed_stride = (size_t)heads * hp->value_dim_mla;
    dp_op_matmul_heads op = {
        .w = dp_weight_mat(is_old ? &w->kv_b : &w->v_b, lease),
        .row_first = is_old ? nope_dim(hp) : 0,
        .row_step = is_old ? nope_dim(hp) + hp->value_dim_mla : hp->value_dim_mla,
        .rows = hp->value_dim_mla,
        .x = step->mixed_latent,
        .x_stride = (size_t)heads * hp->value_dim,
        .x_head = hp->value_dim,
        .y = step->mixed + first * mixed_stride,
        .y_stride = mixed_stride,
        .y_head = hp->value_dim_mla,
        .tokens = count,
        .heads = heads,
    };

    step->device->ops->matmul_heads(step->device, &op);
}

static void absorb(dp_step *step, const dp_layer *w, uint32_t heads, uint32_t first, uint32_t count,
                   const dp_lease *lease)
{
    for (uint32_t end = first + count; first < end; first += DP_MLA_TOKENS) {
        uint32_t few = DP_MIN(end - first, (uint32_t)DP_MLA_TOKENS);
        enter(step, &w->mla, heads, first, few, lease);
        attend(step, w, heads, first, few);
        leave(step, &w->mla, heads, first, few, lease);
    }
}

/* Tokens of one sequence that follow each other from `first` on. */
static uint32_t run_length(const dp_step *step, uint32_t first)
{
    uint32_t count = 1;

    while (first + count < step->count &&
           step->tokens[first + count].seq == step->tokens[first].seq)
        count++;
    return count;
}

dp_status dp_block_mla(dp_step *step, uint32_t layer, const dp_lease *lease, dp_error *err)
{
    const dp_model *m = step->model;
    const dp_layer *w = &m->layers[layer];
    uint32_t heads = m->hp.head_count[layer];
    dp_product output = { .site = { w->o.site } };
    dp_status st = project(step, w, lease, err);

    if (st)
        return st;
    rotate(step, step->q, heads, m->hp.key_dim_mla);
    rotate(step, step->k, 1, m->hp.rope_dim);
    store(step, layer);
    for (uint32_t first = 0, count; first < step->count; first += count) {
        bool expands = step->config.expands_latents && w->window == 0;
        count = expands ? run_length(step, first) : step->count;
        if (expands && count >= DP_MLA_EXPAND_MIN)
            dp_mla_expand(step, layer, first, count, lease);
        else
            absorb(step, w, heads, first, count, lease);
    }
    output.op = (dp_op_matmul){
        .x = step->mixed,
        .x_stride = w->o.k,
        .tokens = step->count,
        .part_count = 1,
        .part = { { dp_weight_mat(&w->o, lease), NULL, step->h, w->o.rows } },
    };
    st = dp_step_product(step, &output, err);
    if (st)
        return st;
    step->device->ops->add(step->device, step->x, step->h, (size_t)step->count * m->hp.embed_dim);
    return DP_OK;
}
