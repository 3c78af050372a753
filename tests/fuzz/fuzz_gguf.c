/* Any bytes as a model's header: parsed whole, cut short, and as the start of a
 * longer file; what is accepted is walked and held to the promises of gguf.h. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "format/hparams.h"
#include "fuzz.h"

static volatile uint64_t sink; /* keeps reads that check memory from being dropped */

static void walk_keys(const dp_gguf *g)
{
    for (size_t i = 0; i < dp_gguf_key_count(g); i++) {
        const dp_gguf_value *value = dp_gguf_key(g, i);
        uint64_t last = value->count ? value->count - 1 : 0, u = 0;
        char key[DP_GGUF_NAME_MAX + 1];
        int64_t s = 0;
        double f = 0;
        bool flag;
        dp_str text;

        memcpy(key, value->key.bytes, value->key.size);
        key[value->key.size] = '\0';
        DP_CHECK(dp_gguf_find(g, key) == value);
        if (dp_gguf_get_u64(g, key, last, &u, NULL) == DP_OK && u <= INT64_MAX)
            DP_CHECK(dp_gguf_get_i64(g, key, last, &s, NULL) == DP_OK && s == (int64_t)u);
        dp_gguf_get_f64(g, key, last, &f, NULL);
        dp_gguf_get_bool(g, key, &flag, NULL);
        if (dp_gguf_get_str(g, key, &text, NULL) == DP_OK && text.size)
            sink += (uint8_t)text.bytes[text.size - 1];
        for (uint64_t j = 0; value->strings && j < value->count; j++)
            if (value->strings[j].size)
                sink += (uint8_t)value->strings[j].bytes[value->strings[j].size - 1];
    }
}

static void walk_tensors(const dp_gguf *g)
{
    for (size_t i = 0; i < dp_gguf_tensor_count(g); i++) {
        const dp_tensor *t = dp_gguf_tensor(g, i);
        uint64_t row, end;

        DP_CHECK(t->name.bytes[t->name.size] == '\0');
        DP_CHECK(dp_gguf_find_tensor(g, t->name.bytes) == t);
        DP_CHECK(t->dim_count >= 1 && t->dim_count <= DP_TENSOR_DIMS_MAX && t->file_index == 0);
        DP_CHECK(dp_dtype_row_bytes(t->dtype, t->ne[0], &row));
        DP_CHECK(row * t->ne[1] * t->ne[2] * t->ne[3] == t->size);
        DP_CHECK(dp_u64_add(t->offset, t->size, &end) && end <= dp_gguf_part_size(g, 0));
    }
}

static void check_hparams(const dp_gguf *g)
{
    static dp_hparams hp;

    if (dp_hparams_read(&hp, g, NULL) != DP_OK)
        return;
    DP_CHECK(hp.layer_count >= 1 && hp.layer_count <= DP_LAYERS_MAX);
    DP_CHECK(hp.rope_dim % 2 == 0 && hp.rope_dim <= hp.key_dim && hp.rope_factor > 0);
    DP_CHECK(hp.vocab_size >= 1 && hp.vocab_size <= DP_VOCAB_MAX);
    DP_CHECK(hp.expert_used <= hp.expert_count && (hp.expert_count == 0 || hp.expert_used > 0));
    for (uint32_t i = 0; i < hp.layer_count; i++) {
        DP_CHECK(hp.head_count[i] % hp.kv_head_count[i] == 0);
        DP_CHECK((uint64_t)hp.head_count[i] * hp.key_dim <= DP_DIM_MAX);
    }
}

static dp_status parse(const uint8_t *bytes, size_t size, uint64_t file_size)
{
    size_t need = 0;
    dp_gguf *g;
    dp_status st = dp_gguf_parse(&g, "fuzz", bytes, size, file_size, &need, NULL);

    DP_CHECK((st == DP_OK) == (g != NULL));
    if (st == DP_E_BUSY)
        DP_CHECK(need > size && need <= file_size && need <= DP_GGUF_HEADER_MAX);
    if (st)
        return st;
    walk_keys(g);
    walk_tensors(g);
    check_hparams(g);
    dp_gguf_drop_vocab(g);
    walk_tensors(g);
    dp_gguf_close(g);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    dp_mem_stats before, after;
    dp_status whole, cut;
    uint8_t *half;

    dp_mem_stats_read(&before);
    DP_CHECK(parse(bytes, size, size) != DP_E_BUSY);
    whole = parse(bytes, size, ((uint64_t)1 << 40) + size);

    half = malloc(size / 2 + 1); /* ends where it ends, so that reading on is noticed */
    DP_CHECK(half);
    memcpy(half, bytes, size / 2);
    cut = parse(half, size / 2, ((uint64_t)1 << 40) + size);
    DP_CHECK(whole != DP_OK || cut == DP_OK || cut == DP_E_BUSY);
    free(half);

    dp_mem_stats_read(&after);
    DP_CHECK(after.heap_blocks == before.heap_blocks);
    return 0;
}
