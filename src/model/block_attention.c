#include <math.h>

#include "model/blocks.h"

void dp_block_norm(dp_step *step, const float *gain)
{
    const dp_hparams *hp = &step->model->hp;

    step->device->ops->rmsnorm(step->device, step->h, step->x, gain, step->count, hp->embed_dim,
                               hp->norm_eps);
}

static dp_status project(dp_step *step, const dp_layer *w, const dp_lease *lease, dp_error *err)
{
    dp_product p = { .site = { w->q.site, w->k.site, w->v.site } };

    p.op = (dp_op_matmul){
        .x = step->h,
        .x_stride = step->model->hp.embed_dim,
        .tokens = step->count,
        .part_count = 3,
        .part = {
            { dp_weight_mat(&w->q, lease), dp_weight_f32(&w->q_bias, lease), step->q, w->q.rows },
            { dp_weight_mat(&w->k, lease), dp_weight_f32(&w->k_bias, lease), step->k, w->k.rows },
            { dp_weight_mat(&w->v, lease), dp_weight_f32(&w->v_bias, lease), step->v, w->v.rows },
        },
    };

    return dp_step_product(step, &p, err);
}

/* Each head of q and k by itself: heads lie one behind the other. */
static void norm_heads(dp_step *step, float *x, uint32_t heads, const float *gain)
{
    const dp_hparams *hp = &step->model->hp;

    if (gain)
        step->device->ops->rmsnorm(step->device, x, x, gain, step->count * heads, hp->key_dim,
                                   hp->norm_eps);
}

static void rotate(dp_step *step, float *x, uint32_t heads)
{
    const dp_hparams *hp = &step->model->hp;
    dp_op_rope op = {
        .x = x,
        .x_stride = (size_t)heads * hp->key_dim,
        .tokens = step->count,
        .heads = heads,
        .head_dim = hp->key_dim,
        .rope_dim = hp->rope_dim,
        .style = step->model->arch->rope_style,
        .cos = step->cos,
        .sin = step->sin,
    };

    step->device->ops->rope(step->device, &op);
}

static void store_and_attend(dp_step *step, uint32_t layer, const dp_lease *lease)
{
    const dp_hparams *hp = &step->model->hp;
    const dp_layer *w = &step->model->layers[layer];
    uint32_t heads = hp->head_count[layer], kv_heads = hp->kv_head_count[layer];
    dp_op_kv_store store = {
        .k = step->k,
        .v = step->v,
        .k_stride = (size_t)kv_heads * hp->key_dim,
        .v_stride = (size_t)kv_heads * hp->value_dim,
        .tokens = step->count,
        .kv_heads = kv_heads,
        .key_dim = hp->key_dim,
        .value_dim = hp->value_dim,
        .kv = step->kv,
        .position = step->position,
    };
    dp_op_attention attention = {
        .q = step->q,
        .q_stride = (size_t)heads * hp->key_dim,
        .out = step->mixed,
        .out_stride = (size_t)heads * hp->value_dim,
        .tokens = step->count,
        .heads = heads,
        .kv_heads = kv_heads,
        .key_dim = hp->key_dim,
        .value_dim = hp->value_dim,
        .scale = 1.0f / sqrtf((float)hp->key_dim),
        .window = w->window,
        .sinks = dp_weight_f32(&w->sinks, lease),
        .kv = step->kv,
        .position = step->position,
    };

    for (uint32_t t = 0; t < step->count; t++)
        step->kv[t] = dp_kv_seq_layer(step->tokens[t].seq, layer);
    step->device->ops->kv_store(step->device, &store);
    step->device->ops->attention(step->device, &attention);
}

dp_status dp_block_attention(dp_step *step, uint32_t layer, const dp_lease *lease, dp_error *err)
{
    const dp_model *m = step->model;
    const dp_layer *w = &m->layers[layer];
    dp_product output = { .site = { w->o.site } };
    dp_status st = project(step, w, lease, err);

    if (st)
        return st;
    norm_heads(step, step->q, m->hp.head_count[layer], dp_weight_f32(&w->q_norm, lease));
    norm_heads(step, step->k, m->hp.kv_head_count[layer], dp_weight_f32(&w->k_norm, lease));
    rotate(step, step->q, m->hp.head_count[layer]);
    rotate(step, step->k, m->hp.kv_head_count[layer]);
    store_and_attend(step, layer, lease);
    output.op = (dp_op_matmul){
        .x = step->mixed,
        .x_stride = w->o.k,
        .tokens = step->count,
        .part_count = 1,
        .part = { { dp_weight_mat(&w->o, lease), dp_weight_f32(&w->o_bias, lease), step->h,
                    w->o.rows } },
    };
    st = dp_step_product(step, &output, err);
    if (st)
        return st;
    step->device->ops->add(step->device, step->x, step->h, (size_t)step->count * m->hp.embed_dim);
    return DP_OK;
}
