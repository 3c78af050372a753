/* route_cpu.c - the choice of experts. A selection sort of the few largest: strict
 * comparison keeps the lowest index first among equals. */
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "device/cpu/device_cpu.h"

/* Routing fewer logits than this is not worth waking workers for. */
#define SERIAL_LOGITS 8192

#define NOBODY UINT32_MAX

struct route_job {
    const dp_kernels *kernels;
    const dp_op_route *op;
};

/* A set of experts. */
typedef struct flags {
    uint64_t words[DP_ROUTE_EXPERTS_MAX / 64];
} flags;

static bool has(const flags *f, uint32_t i)
{
    return f->words[i / 64] >> i % 64 & 1;
}

static void set(flags *f, uint32_t i)
{
    f->words[i / 64] |= (uint64_t)1 << i % 64;
}

/* NaN compares false with everything: as the lowest of all it is still in order. */
static float choice_of(const dp_op_route *op, const float *score, uint32_t e)
{
    float choice = op->select_bias ? score[e] + op->select_bias[e] : score[e];

    return isnan(choice) ? -INFINITY : choice;
}

/* The best of experts [begin, end) that is not out of the running. */
static uint32_t pick(const dp_op_route *op, const float *score, const flags *out, uint32_t begin,
                     uint32_t end)
{
    uint32_t best = NOBODY;
    float best_choice = 0;

    for (uint32_t e = begin; e < end; e++) {
        float choice = choice_of(op, score, e);
        if (!has(out, e) && (best == NOBODY || choice > best_choice)) {
            best = e;
            best_choice = choice;
        }
    }
    return best;
}

static float group_worth(const dp_op_route *op, const float *score, uint32_t group)
{
    uint32_t size = op->experts / op->groups, first = group * size;
    flags taken = { { 0 } };
    float worth = 0;

    for (uint32_t i = 0; i < DP_MIN(op->group_best, size); i++) {
        uint32_t e = pick(op, score, &taken, first, first + size);
        set(&taken, e);
        worth += choice_of(op, score, e);
    }
    return isnan(worth) ? -INFINITY : worth;
}

/* Puts the experts of all groups but the worthiest out of the running. */
static void limit_groups(const dp_op_route *op, const float *score, flags *out)
{
    uint32_t size = op->experts / op->groups;
    flags kept = { { 0 } };

    for (uint32_t i = 0; i < op->groups_used; i++) {
        uint32_t best = NOBODY;
        float best_worth = 0;
        for (uint32_t g = 0; g < op->groups; g++) {
            float worth = has(&kept, g) ? 0 : group_worth(op, score, g);
            if (!has(&kept, g) && (best == NOBODY || worth > best_worth)) {
                best = g;
                best_worth = worth;
            }
        }
        set(&kept, best);
    }
    for (uint32_t e = 0; e < op->experts; e++)
        if (!has(&kept, e / size))
            set(out, e);
}

static void make_scores(const dp_kernels *kernels, const dp_op_route *op, float *z)
{
    if (op->gate == DP_ROUTE_SOFTMAX)
        kernels->softmax(z, op->experts);
    if (op->gate != DP_ROUTE_SIGMOID)
        return;
    for (uint32_t e = 0; e < op->experts; e++)
        z[e] = -z[e];
    kernels->exp(z, z, op->experts);
    for (uint32_t e = 0; e < op->experts; e++)
        z[e] = 1.0f / (1.0f + z[e]);
}

static void make_weights(const dp_kernels *kernels, const dp_op_route *op, float *weights)
{
    float sum = 0;

    if (op->gate == DP_ROUTE_SOFTMAX_CHOSEN)
        kernels->softmax(weights, op->used);
    for (uint32_t r = 0; r < op->used; r++)
        sum += weights[r];
    if (sum < DP_ROUTE_WEIGHT_SUM_MIN)
        sum = DP_ROUTE_WEIGHT_SUM_MIN;
    for (uint32_t r = 0; r < op->used; r++) {
        if (op->norm_weights)
            weights[r] /= sum;
        weights[r] *= op->scale;
    }
}

static void route_tokens(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct route_job *job = user;
    const dp_op_route *op = job->op;

    (void)worker;
    for (size_t t = begin; t < end; t++) {
        float *score = op->logits + t * op->experts;
        uint32_t *ids = op->ids + t * op->used;
        float *weights = op->weights + t * op->used;
        flags out = { { 0 } };

        make_scores(job->kernels, op, score);
        if (op->groups)
            limit_groups(op, score, &out);
        for (uint32_t r = 0; r < op->used; r++) {
            ids[r] = pick(op, score, &out, 0, op->experts);
            weights[r] = score[ids[r]];
            set(&out, ids[r]);
        }
        make_weights(job->kernels, op, weights);
    }
}

void dp_cpu_route(dp_device *d, const dp_op_route *op)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);
    struct route_job job = { cpu->kernels, op };

    DP_CHECK(op->experts <= DP_ROUTE_EXPERTS_MAX && op->used <= op->experts);
    DP_CHECK(op->groups == 0 || (op->experts % op->groups == 0 && op->groups_used <= op->groups &&
                                 op->experts / op->groups * op->groups_used >= op->used));
    if (op->tokens == 0)
        return;
    if ((size_t)op->tokens * op->experts < SERIAL_LOGITS)
        route_tokens(&job, 0, op->tokens, 0);
    else
        dp_pool_run(cpu->pool, op->tokens, dp_cpu_grain(cpu, op->tokens, 1), route_tokens, &job);
}
