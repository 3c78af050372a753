/* Latent attention, expanded: each head's own keys and values are made from the latents,
 * a block of 32 positions at a time, and queries attend to them as to any. A score then
 * costs nope + rope + value products instead of 2 kv_lora + rope (320, not 1,088, in
 * DeepSeek-V3), and each block's making 32 kv_lora (nope + value) a head: it pays for
 * many queries, and rounds otherwise than the absorbed form. The whole context is never
 * expanded: a block is made, met by all tokens of the run and forgotten. */
#include <math.h>

#include "model/blocks.h"

static uint32_t nope_dim(const dp_hparams *hp)
{
    return hp->key_dim_mla - hp->rope_dim;
}

/* W_k of each head as rows of kv_lora: where the file has them, or turned round. */
static dp_mat key_rows(dp_step *step, const dp_mla_weights *w, uint32_t heads,
                       const dp_lease *lease)
{
    const dp_hparams *hp = &step->model->hp;
    dp_op_turn_heads turn = { .out = step->turned_k, .heads = heads, .rows = hp->kv_lora_rank };

    if (w->kv_b.page != DP_PAGE_NONE)
        return dp_weight_mat(&w->kv_b, lease);
    turn.w = dp_weight_mat(&w->k_b, lease);
    step->device->ops->turn_heads(step->device, &turn);
    return (dp_mat){ step->turned_k, DP_F32, heads * nope_dim(hp), hp->kv_lora_rank,
                     hp->kv_lora_rank * sizeof(float) };
}

/* Keys [W_k c | k_pe] and values W_v c of `count` latents. */
static void make(dp_step *step, const dp_mla_weights *w, const dp_mat *keys, uint32_t heads,
                 uint32_t count, const dp_lease *lease)
{
    const dp_hparams *hp = &step->model->hp;
    bool is_old = w->kv_b.page != DP_PAGE_NONE;
    uint32_t nope = nope_dim(hp), value = hp->value_dim_mla;
    dp_op_matmul_heads k = {
        .w = *keys,
        .row_step = is_old ? nope + value : nope,
        .rows = nope,
        .x = step->latents,
        .x_stride = hp->key_dim, /* and x_head 0: all heads read one latent */
        .y = step->made_k,
        .y_stride = (size_t)heads * hp->key_dim_mla,
        .y_head = hp->key_dim_mla,
        .tokens = count,
        .heads = heads,
        .tail = hp->rope_dim,
    };
    dp_op_matmul_heads v = k;

    v.w = dp_weight_mat(is_old ? &w->kv_b : &w->v_b, lease);
    v.row_first = is_old ? nope : 0;
    v.row_step = is_old ? nope + value : value;
    v.rows = value;
    v.y = step->made_v;
    v.y_stride = (size_t)heads * value;
    v.y_head = value;
    v.tail = 0;
    step->device->ops->matmul_heads(step->device, &k);
    step->device->ops->matmul_heads(step->device, &v);
}

/* What was made becomes a block of keys and values like those that are kept. */
static void pack(dp_step *step, uint32_t heads, uint32_t count)
{
    const dp_hparams *hp = &step->model->hp;
    dp_kv_layer kv[DP_KV_BLOCK_TOKENS];
    uint32_t position[DP_KV_BLOCK_TOKENS];
    dp_op_kv_store op = {
        .k = step->made_k,
        .v = step->made_v,
        .k_stride = (size_t)heads * hp->key_dim_mla,
        .v_stride = (size_t)heads * hp->value_dim_mla,
        .tokens = count,
        .kv_heads = heads,
        .key_dim = hp->key_dim_mla,
        .value_dim = hp->value_dim_mla,
        .kv = kv,
        .position = position,
    };

    for (uint32_t i = 0; i < count; i++) {
        kv[i] = (dp_kv_layer){ &step->made, 0, step->config.kv_type };
        position[i] = i;
    }
    step->device->ops->kv_store(step->device, &op);
}

void dp_mla_expand(dp_step *step, uint32_t layer, uint32_t first, uint32_t count,
                   const dp_lease *lease)
{
    const dp_hparams *hp = &step->model->hp;
    const dp_mla_weights *w = &step->model->layers[layer].mla;
    uint32_t heads = hp->head_count[layer], end = step->position[first + count - 1] + 1;
    dp_mat keys = key_rows(step, w, heads, lease);
    dp_op_kv_load load = { step->latents, step->kv[first], 0, 0, hp->key_dim };
    dp_op_attend_block op = {
        .q_stride = (size_t)heads * hp->key_dim_mla,
        .out_stride = (size_t)heads * hp->value_dim_mla,
        .max = step->attend_max,
        .sum = step->attend_sum,
        .block = step->made,
        .type = step->config.kv_type,
        .tokens = count,
        .heads = heads,
        .key_dim = hp->key_dim_mla,
        .value_dim = hp->value_dim_mla,
        .scale = dp_mla_scale(hp),
        .position = step->position + first,
    };

    op.q = step->q + first * op.q_stride;
    op.out = step->mixed + first * op.out_stride;
    for (size_t i = 0; i < (size_t)count * heads; i++)
        step->attend_max[i] = -INFINITY;
    for (; op.first < end; op.first += DP_KV_BLOCK_TOKENS) {
        load.first = op.first;
        load.count = DP_MIN(end - op.first, (uint32_t)DP_KV_BLOCK_TOKENS);
        step->device->ops->kv_load(step->device, &load);
        make(step, w, &keys, heads, load.count, lease);
        pack(step, heads, load.count);
        op.is_last = op.first + load.count == end;
        step->device->ops->attend_block(step->device, &op);
    }
}
