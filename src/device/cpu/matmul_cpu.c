/* Products: pack the input columns once, then hand out runs of rows.
 *
 * Rows of all parts form one sequence of units of ROW_UNIT rows, so that several
 * matrices with the same input cost one wake-up. */
#include "device/cpu/device_cpu.h"

#include <string.h>

#include "base/assert.h"

#define ROW_UNIT 16 /* rows a kernel computes together at best */

struct matmul_job {
    dp_device_cpu *cpu;
    const dp_op_matmul *op;
    dp_act act;
    size_t column_bytes;
    uint32_t k;
    size_t units_end[DP_MATMUL_PARTS_MAX]; /* of each part, running total */
};

void dp_cpu_pack(const dp_kernels *kernels, dp_act act, void *out, const float *x, size_t k)
{
    switch (act) {
    case DP_ACT_Q8_32:
        kernels->pack_q8_32(out, x, k);
        break;
    case DP_ACT_Q8_256:
        kernels->pack_q8_256(out, x, k);
        break;
    default:
        memcpy(out, x, k * sizeof *x);
        break;
    }
}

static void pack_columns(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct matmul_job *job = user;
    const dp_op_matmul *op = job->op;
    const dp_kernels *kernels = job->cpu->kernels;

    (void)worker;
    for (size_t t = begin; t < end; t++) {
        const float *x = op->x + (op->x_rows ? op->x_rows[t] : t) * op->x_stride;
        dp_cpu_pack(kernels, job->act, job->cpu->packed + t * job->column_bytes, x, job->k);
    }
}

/* Rows [row_begin, row_end) of one part. */
static void multiply_part(const struct matmul_job *job, const dp_matmul_part *part,
                          size_t row_begin, size_t row_end)
{
    const dp_op_matmul *op = job->op;
    const uint8_t *w = (const uint8_t *)part->w.bytes + row_begin * part->w.row_bytes;

    job->cpu->kernels->matmul[part->w.dtype](
        part->y + row_begin, part->y_stride, w, part->w.row_bytes, row_end - row_begin,
        job->cpu->packed, job->column_bytes, op->tokens, job->k);
    if (part->bias)
        for (uint32_t t = 0; t < op->tokens; t++)
            job->cpu->kernels->add(part->y + t * part->y_stride + row_begin, part->bias + row_begin,
                                   row_end - row_begin);
}

static void multiply_units(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct matmul_job *job = user;
    size_t first = 0;

    (void)worker;
    for (uint32_t p = 0; p < job->op->part_count && first < end; p++) {
        const dp_matmul_part *part = &job->op->part[p];
        size_t from = DP_MAX(begin, first), to = DP_MIN(end, job->units_end[p]);
        if (from < to && dp_act_for(part->w.dtype) == job->act)
            multiply_part(job, part, (from - first) * ROW_UNIT,
                          DP_MIN((to - first) * ROW_UNIT, (size_t)part->w.rows));
        first = job->units_end[p];
    }
}

static void run_for_act(struct matmul_job *job)
{
    dp_device_cpu *cpu = job->cpu;
    size_t units = job->units_end[job->op->part_count - 1];

    job->column_bytes = dp_act_bytes(job->act, job->k);
    DP_CHECK(job->column_bytes * job->op->tokens <= cpu->packed_size);
    if (job->op->tokens < 4)
        pack_columns(job, 0, job->op->tokens, 0);
    else
        dp_pool_run(cpu->pool, job->op->tokens, dp_cpu_grain(cpu, job->op->tokens, 1), pack_columns,
                    job);
    dp_pool_run(cpu->pool, units, dp_cpu_grain(cpu, units, 1), multiply_units, job);
}

/* Parts of one product mostly share a packing; Q4_K_M files mix Q4_K and Q6_K,
 * which do, with Q8_0, which does not: then each packing has its turn. */
void dp_cpu_matmul(dp_device *d, const dp_op_matmul *op)
{
    struct matmul_job job = { .cpu = dp_device_cpu_of(d), .op = op, .k = op->part[0].w.k };
    size_t units = 0;
    unsigned acts = 0;

    if (op->tokens == 0)
        return;
    for (uint32_t p = 0; p < op->part_count; p++) {
        DP_ASSERT(op->part[p].w.k == job.k);
        units += (op->part[p].w.rows + ROW_UNIT - 1) / ROW_UNIT;
        job.units_end[p] = units;
        acts |= 1u << dp_act_for(op->part[p].w.dtype);
    }
    for (job.act = DP_ACT_F32; job.act <= DP_ACT_Q8_256; job.act++)
        if (acts & (1u << job.act))
            run_for_act(&job);
}
