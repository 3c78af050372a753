#include "device/cpu/device_cpu.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"

/* Row loops shorter than this many floats are not worth waking workers for. */
#define SERIAL_FLOATS 16384

static void run_rows(dp_device_cpu *cpu, size_t rows, size_t floats_per_row, dp_pool_body body,
                     void *user)
{
    if (rows == 0)
        return;
    if (rows * floats_per_row < SERIAL_FLOATS)
        body(user, 0, rows, 0);
    else
        dp_pool_run(cpu->pool, rows, dp_cpu_grain(cpu, rows, 1), body, user);
}

void dp_cpu_embed(dp_device *d, float *out, const dp_mat *table, uint32_t row)
{
    bool known;

    (void)d;
    DP_ASSERT(row < table->rows);
    known = dp_dequantize_row(table->dtype, out,
                              (const uint8_t *)table->bytes + row * table->row_bytes, table->k);
    DP_ASSERT(known);
    (void)known;
}

struct norm_job {
    const dp_kernels *kernels;
    float *out;
    const float *x, *gain;
    uint32_t n;
    float eps;
};

static void norm_rows(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct norm_job *job = user;

    (void)worker;
    for (size_t i = begin; i < end; i++)
        job->kernels->rmsnorm(job->out + i * job->n, job->x + i * job->n, job->gain, job->n,
                              job->eps);
}

void dp_cpu_rmsnorm(dp_device *d, float *out, const float *x, const float *gain, uint32_t rows,
                    uint32_t n, float eps)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);
    struct norm_job job = { cpu->kernels, out, x, gain, n, eps };

    run_rows(cpu, rows, n, norm_rows, &job);
}

struct rope_job {
    const dp_kernels *kernels;
    const dp_op_rope *op;
};

static void rope_rows(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct rope_job *job = user;
    const dp_op_rope *op = job->op;
    dp_rope_layout layout = op->style == DP_ROPE_STYLE_PAIRS ? DP_ROPE_PAIRS : DP_ROPE_HALVES;
    size_t pairs = op->rope_dim / 2;

    (void)worker;
    for (size_t t = begin; t < end; t++)
        job->kernels->rope(op->x + t * op->x_stride, op->heads, op->head_dim, op->rope_dim, layout,
                           op->cos + t * pairs, op->sin + t * pairs);
}

void dp_cpu_rope(dp_device *d, const dp_op_rope *op)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);
    struct rope_job job = { cpu->kernels, op };

    run_rows(cpu, op->tokens, (size_t)op->heads * op->head_dim, rope_rows, &job);
}

struct pair_job {
    const dp_kernels *kernels;
    float *out;
    const float *a, *b;
    float alpha, limit; /* of clamped activations */
};

static void swiglu_range(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct pair_job *job = user;

    (void)worker;
    job->kernels->swiglu(job->out + begin, job->a + begin, job->b + begin, end - begin);
}

static void swiglu_clamped_range(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct pair_job *job = user;

    (void)worker;
    job->kernels->swiglu_clamped(job->out + begin, job->a + begin, job->b + begin, end - begin,
                                 job->alpha, job->limit);
}

static void add_range(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct pair_job *job = user;

    (void)worker;
    job->kernels->add(job->out + begin, job->a + begin, end - begin);
}

static void run_range(dp_device_cpu *cpu, size_t n, dp_pool_body body, void *user)
{
    if (n < SERIAL_FLOATS)
        body(user, 0, n, 0);
    else
        dp_pool_run(cpu->pool, n, dp_cpu_grain(cpu, n, 1024), body, user);
}

void dp_cpu_swiglu(dp_device *d, float *out, const float *gate, const float *up, size_t n)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);
    struct pair_job job = { cpu->kernels, out, gate, up, 0, 0 };

    run_range(cpu, n, swiglu_range, &job);
}

void dp_cpu_swiglu_clamped(dp_device *d, float *out, const float *gate, const float *up, size_t n,
                           float alpha, float limit)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);
    struct pair_job job = { cpu->kernels, out, gate, up, alpha, limit };

    run_range(cpu, n, swiglu_clamped_range, &job);
}

void dp_cpu_add(dp_device *d, float *out, const float *x, size_t n)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);
    struct pair_job job = { cpu->kernels, out, x, NULL, 0, 0 };

    run_range(cpu, n, add_range, &job);
}

struct mix_job {
    const dp_kernels *kernels;
    const dp_op_mix *op;
};

static void mix_rows(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct mix_job *job = user;
    const dp_op_mix *op = job->op;

    (void)worker;
    for (size_t i = begin * op->used; i < end * op->used; i++)
        job->kernels->add_scaled(op->out + i / op->used * op->n,
                                 op->y + (size_t)op->rows[i] * op->n, op->weights[i], op->n);
}

void dp_cpu_mix(dp_device *d, const dp_op_mix *op)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);
    struct mix_job job = { cpu->kernels, op };

    run_rows(cpu, op->tokens, (size_t)op->n * op->used, mix_rows, &job);
}
