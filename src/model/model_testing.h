/* model_testing.h - small models made for tests, with every weight in view.
 *
 * Room     A test sets the shape, has the tensors made from a seed, changes what
 *          it wants and writes a GGUF file or only its header. Experts are kept as
 *          stacks here; is_apart writes each as a tensor of its own.
 *
 * Included by tests only. */
#ifndef DP_MODEL_MODEL_TESTING_H
#define DP_MODEL_MODEL_TESTING_H

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "testing/check.h"
#include "testing/gguf_writer.h"

#define TEST_MODEL_TENSORS 64

typedef struct test_tensor {
    char name[48];
    dp_dtype type;  /* of the file; data is written for F32 alone, others are filled */
    bool is_absent; /* left out of the file */
    uint32_t dim_count;
    uint64_t ne[4];
    float *data;
} test_tensor;

typedef struct test_model {
    uint32_t layers, dim, heads, kv_heads, head_dim, ff, vocab, context;
    uint32_t experts, used; /* 0: dense */
    dp_dtype type;          /* of matrices; norms and routers are F32 */
    bool is_tied, is_apart, has_biases, has_head_norms;
    const char *arch;          /* general.architecture; NULL: llama */
    const char *const *pieces; /* [piece_count] tokens behind the 259 every vocabulary has here, */
    uint32_t piece_count;      /* or NULL: no vocabulary in the file */
    void (*more_keys)(dp_gguf_writer *w);
    uint32_t tensor_count;
    test_tensor tensors[TEST_MODEL_TENSORS];
} test_model;

/* Ids 0-2 are <unk> <s> </s>, 3-258 the bytes, then the pieces. */
#define TEST_MODEL_BYTES_FIRST 3
#define TEST_MODEL_PIECES      259

static inline test_tensor *test_model_find(test_model *m, const char *name)
{
    for (uint32_t i = 0; i < m->tensor_count; i++)
        if (strcmp(m->tensors[i].name, name) == 0)
            return &m->tensors[i];
    return NULL;
}

static inline const float *test_model_data(test_model *m, const char *format, uint32_t layer)
{
    char name[48];
    test_tensor *t;

    snprintf(name, sizeof name, format, layer);
    t = test_model_find(m, name);
    return t ? t->data : NULL;
}

static inline size_t test_tensor_values(const test_tensor *t)
{
    size_t n = 1;

    for (uint32_t i = 0; i < t->dim_count; i++)
        n *= (size_t)t->ne[i];
    return n;
}

/* A tensor {k, rows, stack}; rows 0 is a vector, stack 0 a matrix. Gains are near 1. */
static inline test_tensor *test_model_add(test_model *m, dp_rng *rng, const char *format,
                                          uint32_t layer, dp_dtype type, uint32_t k, uint32_t rows,
                                          uint32_t stack)
{
    test_tensor *t = &m->tensors[m->tensor_count++];
    bool is_gain = strstr(format, "norm") != NULL;
    size_t n;

    CHECK(m->tensor_count <= TEST_MODEL_TENSORS, "tensors");
    *t = (test_tensor){ .type = type,
                        .dim_count = stack  ? 3
                                     : rows ? 2
                                            : 1,
                        .ne = { k, rows ? rows : 1, stack ? stack : 1, 1 } };
    snprintf(t->name, sizeof t->name, format, layer);
    n = test_tensor_values(t);
    t->data = malloc(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        t->data[i] = is_gain ? 1 + 0.2f * dp_rng_normal(rng)
                             : dp_rng_normal(rng) * (rows ? 1.5f / sqrtf((float)k) : 0.3f);
    return t;
}

static inline const char *test_model_arch(const test_model *m)
{
    return m->arch ? m->arch : "llama";
}

/* gpt-oss: sinks, biases of everything, another name of the second norm. */
static inline bool test_model_is_gpt_oss(const test_model *m)
{
    return strcmp(test_model_arch(m), "gpt-oss") == 0;
}

static inline void test_model_add_experts(test_model *m, dp_rng *rng, uint32_t l)
{
    test_model_add(m, rng, "blk.%u.ffn_gate_inp.weight", l, DP_F32, m->dim, m->experts, 0);
    test_model_add(m, rng, "blk.%u.ffn_gate_exps.weight", l, m->type, m->dim, m->ff, m->experts);
    test_model_add(m, rng, "blk.%u.ffn_up_exps.weight", l, m->type, m->dim, m->ff, m->experts);
    test_model_add(m, rng, "blk.%u.ffn_down_exps.weight", l, m->type, m->ff, m->dim, m->experts);
    if (!test_model_is_gpt_oss(m))
        return;
    test_model_add(m, rng, "blk.%u.attn_sinks.weight", l, DP_F32, m->heads, 0, 0);
    test_model_add(m, rng, "blk.%u.ffn_gate_inp.bias", l, DP_F32, m->experts, 0, 0);
    test_model_add(m, rng, "blk.%u.ffn_gate_exps.bias", l, DP_F32, m->ff, m->experts, 0);
    test_model_add(m, rng, "blk.%u.ffn_up_exps.bias", l, DP_F32, m->ff, m->experts, 0);
    test_model_add(m, rng, "blk.%u.ffn_down_exps.bias", l, DP_F32, m->dim, m->experts, 0);
}

static inline void test_model_add_layer(test_model *m, dp_rng *rng, uint32_t l)
{
    uint32_t q = m->heads * m->head_dim, kv = m->kv_heads * m->head_dim;
    bool is_gpt_oss = test_model_is_gpt_oss(m);

    test_model_add(m, rng, "blk.%u.attn_norm.weight", l, DP_F32, m->dim, 0, 0);
    test_model_add(m, rng, "blk.%u.attn_q.weight", l, m->type, m->dim, q, 0);
    test_model_add(m, rng, "blk.%u.attn_k.weight", l, m->type, m->dim, kv, 0);
    test_model_add(m, rng, "blk.%u.attn_v.weight", l, m->type, m->dim, kv, 0);
    test_model_add(m, rng, "blk.%u.attn_output.weight", l, m->type, q, m->dim, 0);
    test_model_add(m, rng,
                   is_gpt_oss ? "blk.%u.post_attention_norm.weight" : "blk.%u.ffn_norm.weight", l,
                   DP_F32, m->dim, 0, 0);
    if (m->has_biases || is_gpt_oss) {
        test_model_add(m, rng, "blk.%u.attn_q.bias", l, DP_F32, q, 0, 0);
        test_model_add(m, rng, "blk.%u.attn_k.bias", l, DP_F32, kv, 0, 0);
        test_model_add(m, rng, "blk.%u.attn_v.bias", l, DP_F32, kv, 0, 0);
        test_model_add(m, rng, "blk.%u.attn_output.bias", l, DP_F32, m->dim, 0, 0);
    }
    if (m->has_head_norms) {
        test_model_add(m, rng, "blk.%u.attn_q_norm.weight", l, DP_F32, m->head_dim, 0, 0);
        test_model_add(m, rng, "blk.%u.attn_k_norm.weight", l, DP_F32, m->head_dim, 0, 0);
    }
    if (m->experts) {
        test_model_add_experts(m, rng, l);
        return;
    }
    test_model_add(m, rng, "blk.%u.ffn_gate.weight", l, m->type, m->dim, m->ff, 0);
    test_model_add(m, rng, "blk.%u.ffn_up.weight", l, m->type, m->dim, m->ff, 0);
    test_model_add(m, rng, "blk.%u.ffn_down.weight", l, m->type, m->ff, m->dim, 0);
}

/* Makes the tensors of the shape that was set. */
static inline void test_model_make(test_model *m, uint64_t seed)
{
    dp_rng rng;

    dp_rng_init(&rng, seed);
    m->tensor_count = 0;
    test_model_add(m, &rng, "token_embd.weight", 0, m->type, m->dim, m->vocab, 0);
    for (uint32_t l = 0; l < m->layers; l++)
        test_model_add_layer(m, &rng, l);
    test_model_add(m, &rng, "output_norm.weight", 0, DP_F32, m->dim, 0, 0);
    if (!m->is_tied)
        test_model_add(m, &rng, "output.weight", 0, m->type, m->dim, m->vocab, 0);
}

static inline void test_model_free(test_model *m)
{
    for (uint32_t i = 0; i < m->tensor_count; i++)
        free(m->tensors[i].data);
    m->tensor_count = 0;
}

static inline void test_model_put_vocab(const test_model *m, dp_gguf_writer *w)
{
    uint32_t count = TEST_MODEL_PIECES + m->piece_count;
    const char **names = calloc(count, sizeof *names);
    float *scores = calloc(count, sizeof *scores);
    int32_t *kinds = calloc(count, sizeof *kinds);
    char bytes[256][8];

    names[0] = "<unk>";
    names[1] = "<s>";
    names[2] = "</s>";
    for (uint32_t i = 0; i < count; i++)
        kinds[i] = i == 0 ? 2 : i < 3 ? 3 : i < TEST_MODEL_PIECES ? 6 : 1;
    for (uint32_t b = 0; b < 256; b++) {
        snprintf(bytes[b], sizeof bytes[b], "<0x%02X>", b);
        names[TEST_MODEL_BYTES_FIRST + b] = bytes[b];
    }
    for (uint32_t i = 0; i < m->piece_count; i++) {
        names[TEST_MODEL_PIECES + i] = m->pieces[i];
        scores[TEST_MODEL_PIECES + i] = -1 - (float)i;
    }
    dp_gguf_writer_str(w, "tokenizer.ggml.model", "llama");
    dp_gguf_writer_str_array(w, "tokenizer.ggml.tokens", count, names);
    dp_gguf_writer_array(w, "tokenizer.ggml.scores", DP_GGUF_F32, count, scores);
    dp_gguf_writer_array(w, "tokenizer.ggml.token_type", DP_GGUF_I32, count, kinds);
    dp_gguf_writer_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    dp_gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 1);
    dp_gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 2);
    free(names);
    free(scores);
    free(kinds);
}

static inline void test_model_put_key(const test_model *m, dp_gguf_writer *w, const char *name,
                                      uint32_t value)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", test_model_arch(m), name);
    dp_gguf_writer_u32(w, key, value);
}

static inline void test_model_put_keys(const test_model *m, dp_gguf_writer *w)
{
    char eps[96], base[96];

    snprintf(eps, sizeof eps, "%s.attention.layer_norm_rms_epsilon", test_model_arch(m));
    snprintf(base, sizeof base, "%s.rope.freq_base", test_model_arch(m));
    dp_gguf_writer_str(w, "general.architecture", test_model_arch(m));
    dp_gguf_writer_str(w, "general.name", "made for a test");
    test_model_put_key(m, w, "block_count", m->layers);
    test_model_put_key(m, w, "context_length", m->context);
    test_model_put_key(m, w, "embedding_length", m->dim);
    test_model_put_key(m, w, "feed_forward_length", m->ff);
    test_model_put_key(m, w, "attention.head_count", m->heads);
    test_model_put_key(m, w, "attention.head_count_kv", m->kv_heads);
    test_model_put_key(m, w, "attention.key_length", m->head_dim);
    test_model_put_key(m, w, "attention.value_length", m->head_dim);
    dp_gguf_writer_f32(w, eps, 1e-5f);
    dp_gguf_writer_f32(w, base, 10000);
    if (m->experts) {
        test_model_put_key(m, w, "expert_count", m->experts);
        test_model_put_key(m, w, "expert_used_count", m->used);
    }
    if (m->pieces)
        test_model_put_vocab(m, w);
    if (m->more_keys)
        m->more_keys(w);
}

static inline void test_model_put(dp_gguf_writer *w, const char *name, const test_tensor *t,
                                  uint32_t dim_count, const float *data)
{
    bool is_gain = strstr(name, "norm") != NULL;
    bool is_made = t->type != DP_Q8_1 && t->type != DP_NVFP4; /* blocks no one fills, all smaller */

    if (t->type == DP_F32 || !is_made)
        dp_gguf_writer_tensor_bytes(w, name, t->type, dim_count, t->ne, data);
    else
        dp_gguf_writer_tensor(w, name, t->type, dim_count, t->ne,
                              is_gain ? DP_FILL_ONES : DP_FILL_NORMAL,
                              is_gain ? 0.1f : 1.5f / sqrtf((float)t->ne[0]));
}

/* "blk.1.ffn_up_exps.weight" -> "blk.1.ffn_up.E.weight", for each E. */
static inline void test_model_put_apart(dp_gguf_writer *w, const test_tensor *t)
{
    size_t stem = (size_t)(strstr(t->name, "_exps") - t->name);

    for (uint32_t e = 0; e < t->ne[2]; e++) {
        char name[64];
        snprintf(name, sizeof name, "%.*s.%u.weight", (int)stem, t->name, e);
        test_model_put(w, name, t, 2, t->data + e * t->ne[0] * t->ne[1]);
    }
}

static inline dp_gguf_writer *test_model_writer(const test_model *m)
{
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);

    CHECK(w, "no memory");
    test_model_put_keys(m, w);
    for (uint32_t i = 0; i < m->tensor_count; i++) {
        const test_tensor *t = &m->tensors[i];
        if (t->is_absent)
            continue;
        if (m->is_apart && strstr(t->name, "_exps.weight"))
            test_model_put_apart(w, t);
        else
            test_model_put(w, t->name, t, t->dim_count, t->data);
    }
    return w;
}

/* Writes the model to a new file; path ends in XXXXXX and becomes its name. */
static inline void test_model_save(const test_model *m, char *path)
{
    dp_gguf_writer *w = test_model_writer(m);
    int fd = mkstemp(path);
    dp_error err;

    CHECK(fd >= 0, "%s", path);
    close(fd);
    CHECK_OK(dp_gguf_writer_save(w, path, 3, &err), err);
    dp_gguf_writer_close(w);
}

/* The description alone, as parsed from the header. Owned: dp_gguf_close. */
static inline dp_gguf *test_model_gguf(const test_model *m)
{
    dp_gguf_writer *w = test_model_writer(m);
    dp_gguf *gguf;
    dp_error err;
    dp_buf header;

    dp_buf_init(&header, DP_GGUF_HEADER_MAX);
    CHECK_OK(dp_gguf_writer_header(w, &header, &err), err);
    CHECK_OK(dp_gguf_parse(&gguf, "test.gguf", (const uint8_t *)header.bytes, header.size,
                           header.size + DP_GIB, NULL, &err),
             err);
    dp_buf_deinit(&header);
    dp_gguf_writer_close(w);
    return gguf;
}

/* Nothing leaked: for the teardown of a file of tests. */
static inline int test_model_memory_is_free(void)
{
    dp_mem_stats mem;

    dp_mem_stats_read(&mem);
    if (mem.heap_blocks || mem.map_regions)
        fprintf(stderr, "leaked: %llu blocks, %llu regions\n", (unsigned long long)mem.heap_blocks,
                (unsigned long long)mem.map_regions);
    return mem.heap_blocks || mem.map_regions;
}

#endif
