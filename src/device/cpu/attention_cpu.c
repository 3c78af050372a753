/* Attention: one item is one token and one key/value head with all query heads
 * that share it, so that a block of keys and values is read once for them. */
#include "device/cpu/device_cpu.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"

_Static_assert(DP_KV_BLOCK_TOKENS == DP_KV_BLOCK, "devices and kernels agree on the block");

struct attention_job {
    dp_device_cpu *cpu;
    const dp_op_attention *op;
};

/* K of one head in a block, and V behind all heads' K. */
static const uint16_t *block_k(const uint8_t *block, uint32_t head, uint32_t key_dim)
{
    return (const uint16_t *)block + (size_t)head * DP_KV_BLOCK * key_dim;
}

static const uint16_t *block_v(const uint8_t *block, uint32_t kv_heads, uint32_t head,
                               uint32_t key_dim, uint32_t value_dim)
{
    return (const uint16_t *)block + (size_t)kv_heads * DP_KV_BLOCK * key_dim +
           (size_t)head * DP_KV_BLOCK * value_dim;
}

static void attend_head(const struct attention_job *job, uint32_t t, uint32_t head, float *acc)
{
    const dp_op_attention *op = job->op;
    const dp_kernels *kernels = job->cpu->kernels;
    uint32_t kv_head = head / (op->heads / op->kv_heads);
    uint32_t end = op->position[t] + 1; /* keys [begin, end) are visible */
    uint32_t begin = op->window && end > op->window ? end - op->window : 0;
    dp_attend_state state = { -INFINITY, 0, acc };

    memset(acc, 0, op->value_dim * sizeof *acc);
    for (uint32_t b = begin / DP_KV_BLOCK; b * DP_KV_BLOCK < end; b++) {
        const uint8_t *block = op->kv[t].rows[b] + op->kv[t].offset;
        uint32_t first = b * DP_KV_BLOCK;
        dp_attend a = {
            .q = op->q + t * op->q_stride + (size_t)head * op->key_dim,
            .k = block_k(block, kv_head, op->key_dim),
            .v = block_v(block, op->kv_heads, kv_head, op->key_dim, op->value_dim),
            .key_dim = op->key_dim,
            .value_dim = op->value_dim,
            .begin = begin > first ? begin - first : 0,
            .end = DP_MIN(end - first, (uint32_t)DP_KV_BLOCK),
            .scale = op->scale,
        };
        kernels->attend(&state, &a);
    }
    kernels->attend_finish(&state, op->out + t * op->out_stride + (size_t)head * op->value_dim,
                           op->value_dim, op->sinks ? op->sinks + head : NULL);
}

static void attend_items(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct attention_job *job = user;
    const dp_op_attention *op = job->op;
    uint32_t group = op->heads / op->kv_heads;
    float *acc = job->cpu->heads + worker * job->cpu->head_stride;

    for (size_t i = begin; i < end; i++) {
        uint32_t t = (uint32_t)(i % op->tokens), kv_head = (uint32_t)(i / op->tokens);
        for (uint32_t h = kv_head * group; h < (kv_head + 1) * group; h++)
            attend_head(job, t, h, acc);
    }
}

void dp_cpu_attention(dp_device *d, const dp_op_attention *op)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);
    struct attention_job job = { cpu, op };
    size_t items = (size_t)op->tokens * op->kv_heads;

    DP_CHECK(op->value_dim <= cpu->head_stride);
    dp_pool_run(cpu->pool, items, dp_cpu_grain(cpu, items, 1), attend_items, &job);
}

void dp_cpu_kv_store(dp_device *d, const dp_op_kv_store *op)
{
    const dp_kernels *kernels = dp_device_cpu_of(d)->kernels;

    for (uint32_t t = 0; t < op->tokens; t++) {
        uint32_t at = op->position[t] % DP_KV_BLOCK;
        uint8_t *block = op->kv[t].rows[op->position[t] / DP_KV_BLOCK] + op->kv[t].offset;
        for (uint32_t h = 0; h < op->kv_heads; h++) {
            uint16_t *k = (uint16_t *)block_k(block, h, op->key_dim) + (size_t)at * op->key_dim;
            uint16_t *v = (uint16_t *)block_v(block, op->kv_heads, h, op->key_dim, op->value_dim) +
                          (size_t)at * op->value_dim;
            kernels->f16_from_f32(k, op->k + t * op->k_stride + (size_t)h * op->key_dim,
                                  op->key_dim);
            kernels->f16_from_f32(v, op->v + t * op->v_stride + (size_t)h * op->value_dim,
                                  op->value_dim);
        }
    }
}
