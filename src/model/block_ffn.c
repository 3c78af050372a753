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

void dp_block_swiglu(dp_step *step, const dp_ffn *w, const dp_lease *lease, const uint32_t *x_rows,
                     uint32_t tokens, float *y)
{
    dp_op_matmul in = {
        .x = step->h,
        .x_stride = step->model->hp.embed_dim,
        .x_rows = x_rows,
        .tokens = tokens,
        .part_count = 2,
        .part = { { dp_weight_mat(&w->gate, lease), dp_weight_f32(&w->gate_bias, lease), step->gate,
                    w->gate.rows },
                  { dp_weight_mat(&w->up, lease), dp_weight_f32(&w->up_bias, lease), step->up,
                    w->up.rows } },
    };
    dp_op_matmul out = {
        .x = step->gate,
        .x_stride = w->gate.rows,
        .tokens = tokens,
        .part_count = 1,
        .part = { { dp_weight_mat(&w->down, lease), dp_weight_f32(&w->down_bias, lease), y,
                    w->down.rows } },
    };

    step->device->ops->matmul(step->device, &in);
    activate(step, (size_t)tokens * w->gate.rows);
    step->device->ops->matmul(step->device, &out);
}

void dp_block_ffn(dp_step *step, const dp_layer *layer, const dp_lease *lease)
{
    /* h is read by the first product and free for the last one's result. */
    dp_block_swiglu(step, &layer->ffn, lease, NULL, step->count, step->h);
    step->device->ops->add(step->device, step->x, step->h,
                           (size_t)step->count * step->model->hp.embed_dim);
}
