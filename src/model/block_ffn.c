#include "model/blocks.h"

void dp_block_swiglu(dp_step *step, const dp_mat *gate, const dp_mat *up, const dp_mat *down,
                     const uint32_t *x_rows, uint32_t tokens, float *y)
{
    dp_op_matmul in = {
        .x = step->h,
        .x_stride = step->model->hp.embed_dim,
        .x_rows = x_rows,
        .tokens = tokens,
        .part_count = 2,
        .part = { { *gate, NULL, step->gate, gate->rows }, { *up, NULL, step->up, up->rows } },
    };
    dp_op_matmul out = {
        .x = step->gate,
        .x_stride = gate->rows,
        .tokens = tokens,
        .part_count = 1,
        .part = { { *down, NULL, y, down->rows } },
    };

    step->device->ops->matmul(step->device, &in);
    step->device->ops->swiglu(step->device, step->gate, step->gate, step->up,
                              (size_t)tokens * gate->rows);
    step->device->ops->matmul(step->device, &out);
}

void dp_block_ffn(dp_step *step, const dp_layer *layer, const dp_lease *lease)
{
    dp_mat gate = dp_weight_mat(&layer->gate, lease);
    dp_mat up = dp_weight_mat(&layer->up, lease);
    dp_mat down = dp_weight_mat(&layer->down, lease);

    /* h is read by the first product and free for the last one's result. */
    dp_block_swiglu(step, &gate, &up, &down, NULL, step->count, step->h);
    step->device->ops->add(step->device, step->x, step->h,
                           (size_t)step->count * step->model->hp.embed_dim);
}
