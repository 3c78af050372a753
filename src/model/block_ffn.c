#include "model/blocks.h"

static void activate(dp_step *step, size_t n)
{
    const dp_arch *arch = step->model->arch;

    if (arch->swiglu_limit > 0)
        step->device->ops->swiglu_clamped(step->device, step->gate, step->gate, step->up, n,
                                          arch->swiglu_alpha, arch->swiglu_limit);
    else
        step->device->ops->swiglu(step->device, step->gate, step->gate, step->up, n);
}

dp_status dp_block_swiglu(dp_step *step, const dp_ffn *w, uint32_t expert, const dp_lease *lease,
                          const uint32_t *tokens, uint32_t count, float *y, dp_error *err)
{
    dp_product in = { .site = { w->gate.site, w->up.site }, .tokens = tokens, .expert = expert };
    dp_product out = { .site = { w->down.site }, .tokens = tokens, .expert = expert };
    dp_status st;

    in.op = (dp_op_matmul){
        .x = step->h,
        .x_stride = step->model->hp.embed_dim,
        .x_rows = tokens,
        .tokens = count,
        .part_count = 2,
        .part = { { dp_weight_mat(&w->gate, lease), dp_weight_f32(&w->gate_bias, lease), step->gate,
                    w->gate.rows },
                  { dp_weight_mat(&w->up, lease), dp_weight_f32(&w->up_bias, lease), step->up,
                    w->up.rows } },
    };
    out.op = (dp_op_matmul){
        .x = step->gate,
        .x_stride = w->gate.rows,
        .tokens = count,
        .part_count = 1,
        .part = { { dp_weight_mat(&w->down, lease), dp_weight_f32(&w->down_bias, lease), y,
                    w->down.rows } },
    };
    st = dp_step_product(step, &in, err);
    if (st)
        return st;
    activate(step, (size_t)count * w->gate.rows);
    return dp_step_product(step, &out, err);
}

dp_status dp_block_ffn(dp_step *step, const dp_layer *layer, const dp_lease *lease, dp_error *err)
{
    /* h is read by the first product and free for the last one's result. */
    dp_status st = dp_block_swiglu(step, &layer->ffn, 0, lease, NULL, step->count, step->h, err);

    if (st)
        return st;
    step->device->ops->add(step->device, step->x, step->h,
                           (size_t)step->count * step->model->hp.embed_dim);
    return DP_OK;
}
