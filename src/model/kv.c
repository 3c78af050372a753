#include "model/kv.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

struct dp_kv {
    dp_device *device;
    uint8_t *pool;
    dp_dtype type;
    uint64_t row_bytes, pool_bytes;
    uint64_t layer_offset[DP_LAYERS_MAX];
    uint8_t **free_rows; /* [free_count] of [row_count]: a stack */
    uint32_t free_count, row_count;
};

static uint64_t layer_bytes(const dp_hparams *hp, dp_dtype type, uint32_t layer)
{
    uint64_t kept_dim = hp->key_dim + (hp->value_in_key ? 0 : hp->value_dim);
    uint64_t per_token = (uint64_t)hp->kv_head_count[layer] * kept_dim;

    return dp_align_up(dp_kv_bytes(type, per_token * DP_KV_BLOCK_TOKENS), DP_CACHE_LINE);
}

uint64_t dp_kv_row_bytes(const dp_hparams *hp, dp_dtype type)
{
    uint64_t bytes = 0;

    for (uint32_t l = 0; l < hp->layer_count; l++)
        bytes += layer_bytes(hp, type, l);
    return bytes;
}

uint32_t dp_kv_rows_for(uint32_t tokens)
{
    return (tokens + DP_KV_BLOCK_TOKENS - 1) / DP_KV_BLOCK_TOKENS;
}

dp_status dp_kv_open(dp_kv **out, dp_device *device, const dp_hparams *hp, dp_dtype type,
                     uint32_t row_count, dp_error *err)
{
    dp_status st = DP_OK;
    dp_kv *kv = dp_alloc_zero(1, sizeof *kv);

    *out = NULL;
    if (!kv)
        return dp_fail(err, DP_E_NOMEM, "keys and values: no memory");
    kv->device = device;
    kv->type = type;
    kv->row_bytes = dp_kv_row_bytes(hp, type);
    kv->row_count = row_count;
    for (uint32_t l = 1; l < hp->layer_count; l++)
        kv->layer_offset[l] = kv->layer_offset[l - 1] + layer_bytes(hp, type, l - 1);
    if (!dp_u64_mul(kv->row_bytes, row_count, &kv->pool_bytes)) {
        st = dp_fail(err, DP_E_LIMIT, "keys and values: %u blocks of %llu bytes", row_count,
                     (unsigned long long)kv->row_bytes);
        goto done;
    }
    kv->free_rows = dp_alloc(row_count, sizeof *kv->free_rows);
    kv->pool = device->ops->acquire(device, kv->pool_bytes);
    if (!kv->free_rows || !kv->pool) {
        st = dp_fail(err, DP_E_NOMEM, "keys and values: %llu bytes",
                     (unsigned long long)kv->pool_bytes);
        goto done;
    }
    /* Popped from the end: the first row of the pool is used first. */
    for (uint32_t i = 0; i < row_count; i++)
        kv->free_rows[i] = kv->pool + (uint64_t)(row_count - 1 - i) * kv->row_bytes;
    kv->free_count = row_count;

    *out = kv;
    kv = NULL;
done:
    dp_kv_close(kv);
    return st;
}

void dp_kv_close(dp_kv *kv)
{
    if (!kv)
        return;
    if (kv->pool)
        kv->device->ops->release(kv->device, kv->pool, kv->pool_bytes);
    dp_free(kv->free_rows);
    dp_free(kv);
}

dp_status dp_kv_seq_init(dp_kv_seq *seq, dp_kv *kv, uint32_t tokens_max, dp_error *err)
{
    *seq = (dp_kv_seq){ .kv = kv, .row_max = dp_kv_rows_for(tokens_max) };
    seq->rows = dp_alloc(seq->row_max, sizeof *seq->rows);
    if (!seq->rows)
        return dp_fail(err, DP_E_NOMEM, "sequence: a table of %u blocks", seq->row_max);
    return DP_OK;
}

void dp_kv_seq_deinit(dp_kv_seq *seq)
{
    if (seq->rows)
        dp_kv_seq_cut(seq, 0);
    dp_free(seq->rows);
    *seq = (dp_kv_seq){ 0 };
}

dp_status dp_kv_seq_reserve(dp_kv_seq *seq, uint32_t tokens, dp_error *err)
{
    uint32_t want = dp_kv_rows_for(tokens);
    dp_kv *kv = seq->kv;

    DP_ASSERT(want <= seq->row_max);
    if (want > seq->row_count && want - seq->row_count > kv->free_count)
        return dp_fail(err, DP_E_BUDGET,
                       "no room for keys and values of %u tokens: all %u blocks of %u are in use "
                       "(raise --ctx or --sessions)",
                       tokens, kv->row_count, DP_KV_BLOCK_TOKENS);
    while (seq->row_count < want)
        seq->rows[seq->row_count++] = kv->free_rows[--kv->free_count];
    return DP_OK;
}

void dp_kv_seq_cut(dp_kv_seq *seq, uint32_t tokens)
{
    uint32_t keep = dp_kv_rows_for(tokens);

    while (seq->row_count > keep)
        seq->kv->free_rows[seq->kv->free_count++] = seq->rows[--seq->row_count];
}

dp_kv_layer dp_kv_seq_layer(const dp_kv_seq *seq, uint32_t layer)
{
    return (dp_kv_layer){ seq->rows, seq->kv->layer_offset[layer], seq->kv->type };
}
