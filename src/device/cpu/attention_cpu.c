/* Attention: one item is one token and some query heads that share a key/value head,
 * so that a block of keys and values is read once for them. */
#include "device/cpu/device_cpu.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"

_Static_assert(DP_KV_BLOCK_TOKENS == DP_KV_BLOCK, "devices and kernels agree on the block");

struct attention_job {
    dp_device_cpu *cpu;
    const dp_op_attention *op;
    uint32_t item_heads; /* at most DP_CPU_HEADS */
    uint32_t kv_items;   /* items of one token and key/value head */
};

/* Where in a block K of one head begins, and V: behind all heads' K, or inside it. */
static size_t offset_k(dp_dtype type, uint32_t head, uint32_t key_dim)
{
    return dp_kv_bytes(type, (size_t)head * DP_KV_BLOCK * key_dim);
}

static size_t offset_v(dp_dtype type, uint32_t kv_heads, uint32_t head, uint32_t key_dim,
                       uint32_t value_dim)
{
    return offset_k(type, kv_heads, key_dim) +
           dp_kv_bytes(type, (size_t)head * DP_KV_BLOCK * value_dim);
}

/* The block of keys and values that starts at position `first`; keys [begin, end) of the
 * sequence are visible. */
static void attend_block(const struct attention_job *job, uint32_t t, uint32_t kv_head,
                         uint32_t first, uint32_t begin, uint32_t end, dp_attend *a,
                         dp_attend_state *states)
{
    const dp_op_attention *op = job->op;
    const dp_kv_layer *kv = &op->kv[t];
    const uint8_t *block = kv->rows[first / DP_KV_BLOCK] + kv->offset;

    a->k = block + offset_k(kv->type, kv_head, op->key_dim);
    a->v = op->value_in_key
               ? a->k
               : block + offset_v(kv->type, op->kv_heads, kv_head, op->key_dim, op->value_dim);
    a->v_stride = op->value_in_key ? op->key_dim : op->value_dim;
    a->begin = begin > first ? begin - first : 0;
    a->end = DP_MIN(end - first, (uint32_t)DP_KV_BLOCK);
    job->cpu->kernels->attend[kv->type](states, a);
}

static void attend_heads(const struct attention_job *job, uint32_t t, uint32_t kv_head,
                         uint32_t head, uint32_t heads, float *acc)
{
    const dp_op_attention *op = job->op;
    uint32_t end = op->position[t] + 1;
    uint32_t begin = op->window && end > op->window ? end - op->window : 0;
    dp_attend_state states[DP_CPU_HEADS];
    dp_attend a = { .q = op->q + t * op->q_stride + (size_t)head * op->key_dim,
                    .q_stride = op->key_dim,
                    .key_dim = op->key_dim,
                    .value_dim = op->value_dim,
                    .heads = heads,
                    .scale = op->scale };

    memset(acc, 0, heads * job->cpu->head_stride * sizeof *acc);
    for (uint32_t h = 0; h < heads; h++)
        states[h] = (dp_attend_state){ -INFINITY, 0, acc + h * job->cpu->head_stride };
    for (uint32_t first = begin / DP_KV_BLOCK * DP_KV_BLOCK; first < end; first += DP_KV_BLOCK)
        attend_block(job, t, kv_head, first, begin, end, &a, states);
    for (uint32_t h = 0; h < heads; h++)
        job->cpu->kernels->attend_finish(
            &states[h], op->out + t * op->out_stride + (size_t)(head + h) * op->value_dim,
            op->value_dim, op->sinks ? op->sinks + head + h : NULL);
}

static void attend_items(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct attention_job *job = user;
    const dp_op_attention *op = job->op;
    uint32_t group = op->heads / op->kv_heads;
    float *acc = (float *)(job->cpu->scratch + worker * job->cpu->thread_bytes);

    for (size_t i = begin; i < end; i++) {
        uint32_t t = (uint32_t)(i % op->tokens), run = (uint32_t)(i / op->tokens);
        uint32_t kv_head = run / job->kv_items, first = run % job->kv_items * job->item_heads;
        attend_heads(job, t, kv_head, kv_head * group + first,
                     DP_MIN(job->item_heads, group - first), acc);
    }
}

/* Many heads together read keys and values less often, but every thread should have
 * some: with one token and one key/value head, its query heads are all there is. */
static uint32_t choose_item_heads(const dp_device_cpu *cpu, const dp_op_attention *op)
{
    uint32_t group = op->heads / op->kv_heads, heads = DP_MIN(group, (uint32_t)DP_CPU_HEADS);
    size_t runs = (size_t)op->tokens * op->kv_heads;

    while (heads > 1 && runs * ((group + heads - 1) / heads) < cpu->threads)
        heads = (heads + 1) / 2;
    return heads;
}

void dp_cpu_attention(dp_device *d, const dp_op_attention *op)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);
    struct attention_job job = { cpu, op, choose_item_heads(cpu, op), 0 };
    size_t items;

    DP_CHECK(op->value_dim <= cpu->head_stride);
    job.kv_items = (op->heads / op->kv_heads + job.item_heads - 1) / job.item_heads;
    items = (size_t)op->tokens * op->kv_heads * job.kv_items;
    dp_pool_run(cpu->pool, items, dp_cpu_grain(cpu, items, 1), attend_items, &job);
}

static void store(const dp_kernels *kernels, dp_dtype type, uint8_t *to, const float *from,
                  size_t n)
{
    if (type == DP_F32)
        memcpy(to, from, n * sizeof *from);
    else
        kernels->f16_from_f32((uint16_t *)(void *)to, from, n);
}

/* One head's key and value of one token. */
static void store_head(const dp_kernels *kernels, const dp_op_kv_store *op, uint32_t t, uint32_t h)
{
    uint32_t at = op->position[t] % DP_KV_BLOCK;
    const dp_kv_layer *kv = &op->kv[t];
    uint8_t *block = kv->rows[op->position[t] / DP_KV_BLOCK] + kv->offset;
    uint8_t *k = block + offset_k(kv->type, h, op->key_dim) +
                 dp_kv_bytes(kv->type, (size_t)at * op->key_dim);
    uint8_t *v = k;
    const float *from_v = op->v + t * op->v_stride + (size_t)h * op->value_dim;

    if (op->value_in_key) {
        uint32_t rest = op->key_dim - op->value_dim;
        store(kernels, kv->type, k + dp_kv_bytes(kv->type, op->value_dim),
              op->k + t * op->k_stride + (size_t)h * rest, rest);
    } else {
        v = block + offset_v(kv->type, op->kv_heads, h, op->key_dim, op->value_dim) +
            dp_kv_bytes(kv->type, (size_t)at * op->value_dim);
        store(kernels, kv->type, k, op->k + t * op->k_stride + (size_t)h * op->key_dim,
              op->key_dim);
    }
    store(kernels, kv->type, v, from_v, op->value_dim);
}

void dp_cpu_kv_store(dp_device *d, const dp_op_kv_store *op)
{
    const dp_kernels *kernels = dp_device_cpu_of(d)->kernels;

    for (uint32_t t = 0; t < op->tokens; t++)
        for (uint32_t h = 0; h < op->kv_heads; h++)
            store_head(kernels, op, t, h);
}

void dp_cpu_kv_load(dp_device *d, const dp_op_kv_load *op)
{
    const uint8_t *from = op->kv.rows[op->first / DP_KV_BLOCK] + op->kv.offset;
    size_t count = (size_t)op->count * op->key_dim;

    DP_ASSERT(op->first % DP_KV_BLOCK + op->count <= DP_KV_BLOCK);
    from += dp_kv_bytes(op->kv.type, (size_t)(op->first % DP_KV_BLOCK) * op->key_dim);
    if (op->kv.type == DP_F32)
        memcpy(op->out, from, count * sizeof *op->out);
    else
        dp_device_cpu_of(d)->kernels->f32_from_f16(op->out, (const uint16_t *)(const void *)from,
                                                   count);
}

/* ---- a block that does not stay ---- */

#define BLOCK_TOKENS 64 /* of an item: one head's keys and values serve them all */

struct block_job {
    dp_device_cpu *cpu;
    const dp_op_attend_block *op;
    uint32_t token_items;
};

/* How many keys of the block token t sees. */
static uint32_t seen_keys(const dp_op_attend_block *op, uint32_t t)
{
    if (op->position[t] < op->first)
        return 0;
    return DP_MIN(op->position[t] + 1 - op->first, (uint32_t)DP_KV_BLOCK);
}

/* Tokens [t, t + count) of a head see as many keys: the kernel takes them as it takes
 * heads that share a key/value head. */
static void attend_tokens(const struct block_job *job, uint32_t head, uint32_t t, uint32_t count)
{
    const dp_op_attend_block *op = job->op;
    dp_attend_state states[DP_CPU_HEADS];
    dp_attend a = { .q = op->q + t * op->q_stride + (size_t)head * op->key_dim,
                    .q_stride = op->q_stride,
                    .k = op->block + offset_k(op->type, head, op->key_dim),
                    .v =
                        op->block + offset_v(op->type, op->heads, head, op->key_dim, op->value_dim),
                    .key_dim = op->key_dim,
                    .value_dim = op->value_dim,
                    .v_stride = op->value_dim,
                    .heads = count,
                    .end = seen_keys(op, t),
                    .scale = op->scale };

    for (uint32_t i = 0; i < count; i++) {
        size_t at = (size_t)(t + i) * op->heads + head;
        float *acc = op->out + (t + i) * op->out_stride + (size_t)head * op->value_dim;
        states[i] = (dp_attend_state){ op->max[at], op->sum[at], acc };
    }
    if (a.end)
        job->cpu->kernels->attend[op->type](states, &a);
    for (uint32_t i = 0; i < count; i++) {
        size_t at = (size_t)(t + i) * op->heads + head;
        if (op->is_last)
            job->cpu->kernels->attend_finish(&states[i], states[i].acc, op->value_dim, NULL);
        op->max[at] = states[i].max;
        op->sum[at] = states[i].sum;
    }
}

static void attend_block_items(void *user, size_t begin, size_t end, uint32_t worker)
{
    const struct block_job *job = user;
    const dp_op_attend_block *op = job->op;

    (void)worker;
    for (size_t i = begin; i < end; i++) {
        uint32_t head = (uint32_t)(i / job->token_items), count;
        uint32_t t = (uint32_t)(i % job->token_items) * BLOCK_TOKENS;
        uint32_t token_end = DP_MIN(t + BLOCK_TOKENS, op->tokens);
        for (; t < token_end; t += count) {
            for (count = 1; count < DP_CPU_HEADS && t + count < token_end &&
                            seen_keys(op, t + count) == seen_keys(op, t);)
                count++;
            attend_tokens(job, head, t, count);
        }
    }
}

void dp_cpu_attend_block(dp_device *d, const dp_op_attend_block *op)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);
    struct block_job job = { cpu, op, (op->tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS };
    size_t items = (size_t)job.token_items * op->heads;

    dp_pool_run(cpu->pool, items, dp_cpu_grain(cpu, items, 1), attend_block_items, &job);
}
