/* Products of each head by itself. One item is a head and a few tokens: the head's
 * weights are read once for them. */
#include "device/cpu/device_cpu.h"

#include <string.h>

#include "base/assert.h"

#define LANES 16 /* of a float product, see kernel.h */

struct heads_job {
    dp_device_cpu *cpu;
    const dp_op_matmul_heads *op;
    uint32_t item_tokens, token_items;
};

static const float *input(const dp_op_matmul_heads *op, uint32_t t, uint32_t head)
{
    return op->x + t * op->x_stride + head * op->x_head;
}

static float *output(const dp_op_matmul_heads *op, uint32_t t, uint32_t head)
{
    return op->y + t * op->y_stride + head * op->y_head;
}

static const uint8_t *head_row(const dp_op_matmul_heads *op, uint32_t head, uint32_t row)
{
    size_t at = op->row_first + (size_t)head * op->row_step + row;

    return (const uint8_t *)op->w.bytes + at * op->w.row_bytes;
}

/* Tokens [first, first + count) of a head, count at most DP_CPU_HEAD_COLUMNS. */
static void multiply(const struct heads_job *job, uint32_t head, uint32_t first, uint32_t count,
                     uint8_t *columns)
{
    const dp_op_matmul_heads *op = job->op;
    const dp_kernels *kernels = job->cpu->kernels;
    dp_act act = dp_act_for(op->w.dtype);
    size_t column_bytes = dp_act_bytes(act, op->w.k);

    for (uint32_t c = 0; c < count; c++)
        dp_cpu_pack(kernels, act, columns + c * column_bytes, input(op, first + c, head), op->w.k);
    kernels->matmul[op->w.dtype](output(op, first, head), op->y_stride, head_row(op, head, 0),
                                 op->w.row_bytes, op->rows, columns, column_bytes, count, op->w.k);
}

/* lanes[0] of [LANES][stride] = their sum as tree16 makes it. */
static void add_lanes(const dp_kernels *kernels, float *lanes, size_t stride, size_t n)
{
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t j = 0; j < width; j++)
            kernels->add(lanes + j * stride, lanes + (j + width) * stride, n);
}

/* The same transposed, count at most DP_CPU_HEAD_SUMS. Row i of the matrix is column i of
 * the one to multiply by: it goes to lane i mod 16 of all outputs at once. */
static void multiply_transposed(const struct heads_job *job, uint32_t head, uint32_t first,
                                uint32_t count, uint8_t *scratch)
{
    const dp_op_matmul_heads *op = job->op;
    const dp_kernels *kernels = job->cpu->kernels;
    size_t stride = dp_act_bytes(DP_ACT_F32, op->w.k) / sizeof(float);
    float *row = (float *)scratch, *sums = row + stride;
    bool known;

    memset(sums, 0, count * LANES * stride * sizeof *sums);
    for (uint32_t i = 0; i < op->rows; i++) {
        known = dp_dequantize_row(op->w.dtype, row, head_row(op, head, i), op->w.k);
        DP_ASSERT(known);
        (void)known;
        for (uint32_t c = 0; c < count; c++)
            kernels->add_scaled(sums + (c * LANES + i % LANES) * stride, row,
                                input(op, first + c, head)[i], op->w.k);
    }
    for (uint32_t c = 0; c < count; c++) {
        float *lanes = sums + c * LANES * stride;
        add_lanes(kernels, lanes, stride, op->w.k);
        memcpy(output(op, first + c, head), lanes, op->w.k * sizeof *lanes);
    }
}

static void multiply_items(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct heads_job *job = user;
    const dp_op_matmul_heads *op = job->op;
    uint8_t *scratch = job->cpu->scratch + worker * job->cpu->thread_bytes;
    uint32_t in = op->is_transposed ? op->rows : op->w.k;
    uint32_t out = op->is_transposed ? op->w.k : op->rows;

    for (size_t i = begin; i < end; i++) {
        uint32_t head = (uint32_t)(i / job->token_items);
        uint32_t first = (uint32_t)(i % job->token_items) * job->item_tokens;
        uint32_t count = DP_MIN(job->item_tokens, op->tokens - first);
        if (op->is_transposed)
            multiply_transposed(job, head, first, count, scratch);
        else
            multiply(job, head, first, count, scratch);
        for (uint32_t t = first; op->tail && t < first + count; t++)
            memcpy(output(op, t, head) + out, input(op, t, head) + in, op->tail * sizeof(float));
    }
}

void dp_cpu_matmul_heads(dp_device *d, const dp_op_matmul_heads *op)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);
    struct heads_job job = { cpu, op, DP_CPU_HEAD_COLUMNS, 0 };
    size_t items;

    DP_CHECK(op->w.k <= cpu->limits.head_k && op->rows <= cpu->limits.head_k);
    if (op->is_transposed)
        job.item_tokens = DP_CPU_HEAD_SUMS;
    job.token_items = (op->tokens + job.item_tokens - 1) / job.item_tokens;
    items = (size_t)job.token_items * op->heads;
    dp_pool_run(cpu->pool, items, dp_cpu_grain(cpu, items, 1), multiply_items, &job);
}

struct turn_job {
    dp_device_cpu *cpu;
    const dp_op_turn_heads *op;
};

static void turn_items(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct turn_job *job = user;
    const dp_op_turn_heads *op = job->op;
    float *row = (float *)(job->cpu->scratch + worker * job->cpu->thread_bytes);

    for (size_t h = begin; h < end; h++) {
        float *to = op->out + h * op->w.k * op->rows;
        for (uint32_t r = 0; r < op->rows; r++) {
            const uint8_t *from =
                (const uint8_t *)op->w.bytes + (h * op->rows + r) * op->w.row_bytes;
            bool known = dp_dequantize_row(op->w.dtype, row, from, op->w.k);
            DP_ASSERT(known);
            (void)known;
            for (uint32_t i = 0; i < op->w.k; i++)
                to[(size_t)i * op->rows + r] = row[i];
        }
    }
}

void dp_cpu_turn_heads(dp_device *d, const dp_op_turn_heads *op)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);
    struct turn_job job = { cpu, op };

    DP_CHECK(op->w.k <= cpu->limits.head_k);
    dp_pool_run(cpu->pool, op->heads, dp_cpu_grain(cpu, op->heads, 1), turn_items, &job);
}
