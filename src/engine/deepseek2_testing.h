/* deepseek2_testing.h - small DeepSeek models made for tests, in either layout of the
 * up-projections, of floats of any type. Included by tests only. */
#ifndef DP_ENGINE_DEEPSEEK2_TESTING_H
#define DP_ENGINE_DEEPSEEK2_TESTING_H

#include "engine/engine_testing.h"

enum {
    DS_DIM = 32,
    DS_HEADS = 3,
    DS_LORA = 40, /* no multiple of 16 lanes */
    DS_NOPE = 20,
    DS_ROPE = 8,
    DS_QUERY = DS_NOPE + DS_ROPE,
    DS_VALUE = 12,
    DS_KV_ROWS = DS_HEADS * (DS_NOPE + DS_VALUE),
    DS_Q_LORA = 28,
    DS_EXPERTS = 8,
    DS_USED = 3,
    DS_FF = 24,
    DS_DENSE_FF = 36,
    DS_LAYERS = 3,
    DS_VOCAB = 64,
    DS_ORIGINAL = 32,
    DS_FACTOR = 4
};

#define DS_LOG_MULTIPLIER 0.0707f

/* What the family's members differ in. */
typedef struct ds_shape {
    const char *name;
    bool has_q_lora, has_bias, has_yarn;
    uint32_t dense, shared, groups, groups_used, gating; /* 0: not in the file */
    float scale;
    int normed; /* 1 or 0; -1: not in the file */
    uint32_t nextn;

    /* How it is written. */
    bool is_old; /* attn_kv_b, and no keys of what is kept */
    dp_dtype type;
    const char *key; /* this key has `value` instead, NULL: none; DS_NO_KEY: it is left out */
    uint32_t value;
    bool has_both; /* attn_kv_b beside attn_k_b and attn_v_b */
} ds_shape;

#define DS_NO_KEY UINT32_MAX

static inline bool ds_is_dense(const ds_shape *s, uint32_t layer)
{
    return layer < s->dense;
}

/* Weights with attn_kv_b alone, from a seed. */
static inline void ds_make(test_model *m, const ds_shape *s, uint64_t seed)
{
    dp_rng rng;

    *m = (test_model){ 0 };
    dp_rng_init(&rng, seed);
#define ADD(name, l, k, rows, stack) test_model_add(m, &rng, name, l, DP_F32, k, rows, stack)
    ADD("token_embd.weight", 0, DS_DIM, DS_VOCAB, 0);
    ADD("output_norm.weight", 0, DS_DIM, 0, 0);
    ADD("output.weight", 0, DS_DIM, DS_VOCAB, 0);
    for (uint32_t l = 0; l < DS_LAYERS; l++) {
        ADD("blk.%u.attn_norm.weight", l, DS_DIM, 0, 0);
        if (s->has_q_lora) {
            ADD("blk.%u.attn_q_a.weight", l, DS_DIM, DS_Q_LORA, 0);
            ADD("blk.%u.attn_q_a_norm.weight", l, DS_Q_LORA, 0, 0);
        }
        ADD(s->has_q_lora ? "blk.%u.attn_q_b.weight" : "blk.%u.attn_q.weight", l,
            s->has_q_lora ? DS_Q_LORA : DS_DIM, DS_HEADS * DS_QUERY, 0);
        ADD("blk.%u.attn_kv_a_mqa.weight", l, DS_DIM, DS_LORA + DS_ROPE, 0);
        ADD("blk.%u.attn_kv_a_norm.weight", l, DS_LORA, 0, 0);
        ADD("blk.%u.attn_kv_b.weight", l, DS_LORA, DS_KV_ROWS, 0);
        ADD("blk.%u.attn_output.weight", l, DS_HEADS * DS_VALUE, DS_DIM, 0);
        ADD("blk.%u.ffn_norm.weight", l, DS_DIM, 0, 0);
        if (ds_is_dense(s, l)) {
            ADD("blk.%u.ffn_gate.weight", l, DS_DIM, DS_DENSE_FF, 0);
            ADD("blk.%u.ffn_up.weight", l, DS_DIM, DS_DENSE_FF, 0);
            ADD("blk.%u.ffn_down.weight", l, DS_DENSE_FF, DS_DIM, 0);
            continue;
        }
        ADD("blk.%u.ffn_gate_inp.weight", l, DS_DIM, DS_EXPERTS, 0);
        if (s->has_bias)
            ADD("blk.%u.exp_probs_b.bias", l, DS_EXPERTS, 0, 0);
        ADD("blk.%u.ffn_gate_exps.weight", l, DS_DIM, DS_FF, DS_EXPERTS);
        ADD("blk.%u.ffn_up_exps.weight", l, DS_DIM, DS_FF, DS_EXPERTS);
        ADD("blk.%u.ffn_down_exps.weight", l, DS_FF, DS_DIM, DS_EXPERTS);
        if (s->shared) {
            ADD("blk.%u.ffn_gate_shexp.weight", l, DS_DIM, DS_FF * s->shared, 0);
            ADD("blk.%u.ffn_up_shexp.weight", l, DS_DIM, DS_FF * s->shared, 0);
            ADD("blk.%u.ffn_down_shexp.weight", l, DS_FF * s->shared, DS_DIM, 0);
        }
    }
#undef ADD
}

/* ---- the file ---- */

static inline void ds_put(dp_gguf_writer *w, const ds_shape *s, const char *key, uint32_t value)
{
    char name[96];

    if (s->key && strcmp(s->key, key) == 0)
        value = s->value;
    snprintf(name, sizeof name, "deepseek2.%s", key);
    if (value != DS_NO_KEY)
        dp_gguf_writer_u32(w, name, value);
}

static inline void ds_put_attention_keys(dp_gguf_writer *w, const ds_shape *s)
{
    ds_put(w, s, "attention.head_count", DS_HEADS);
    ds_put(w, s, "attention.head_count_kv", s->is_old ? DS_HEADS : 1);
    ds_put(w, s, "attention.key_length", s->is_old ? DS_QUERY : DS_LORA + DS_ROPE);
    ds_put(w, s, "attention.value_length", s->is_old ? DS_VALUE : DS_LORA);
    ds_put(w, s, "attention.key_length_mla", s->is_old ? DS_NO_KEY : DS_QUERY);
    ds_put(w, s, "attention.value_length_mla", s->is_old ? DS_NO_KEY : DS_VALUE);
    ds_put(w, s, "attention.kv_lora_rank", DS_LORA);
    ds_put(w, s, "attention.q_lora_rank", s->has_q_lora ? DS_Q_LORA : DS_NO_KEY);
    ds_put(w, s, "rope.dimension_count", DS_ROPE);
    if (!s->has_yarn)
        return;
    dp_gguf_writer_str(w, "deepseek2.rope.scaling.type", "yarn");
    dp_gguf_writer_f32(w, "deepseek2.rope.scaling.factor", DS_FACTOR);
    ds_put(w, s, "rope.scaling.original_context_length", DS_ORIGINAL);
    dp_gguf_writer_f32(w, "deepseek2.rope.scaling.yarn_log_multiplier", DS_LOG_MULTIPLIER);
}

static inline void ds_put_keys(dp_gguf_writer *w, const ds_shape *s)
{
    dp_gguf_writer_str(w, "general.architecture", "deepseek2");
    ds_put(w, s, "block_count", DS_LAYERS + s->nextn);
    ds_put(w, s, "nextn_predict_layers", s->nextn ? s->nextn : DS_NO_KEY);
    ds_put(w, s, "context_length", 256);
    ds_put(w, s, "embedding_length", DS_DIM);
    ds_put(w, s, "feed_forward_length", DS_DENSE_FF);
    dp_gguf_writer_f32(w, "deepseek2.attention.layer_norm_rms_epsilon", 1e-5f);
    dp_gguf_writer_f32(w, "deepseek2.rope.freq_base", 10000);
    ds_put_attention_keys(w, s);
    ds_put(w, s, "leading_dense_block_count", s->dense);
    ds_put(w, s, "expert_count", DS_EXPERTS);
    ds_put(w, s, "expert_used_count", DS_USED);
    ds_put(w, s, "expert_feed_forward_length", DS_FF);
    ds_put(w, s, "expert_shared_count", s->shared);
    dp_gguf_writer_f32(w, "deepseek2.expert_weights_scale", s->scale);
    ds_put(w, s, "expert_gating_func", s->gating ? s->gating : DS_NO_KEY);
    ds_put(w, s, "expert_group_count", s->groups ? s->groups : DS_NO_KEY);
    ds_put(w, s, "expert_group_used_count", s->groups ? s->groups_used : DS_NO_KEY);
    ds_put(w, s, "attention.temperature_scale", DS_NO_KEY);
    if (s->normed >= 0)
        dp_gguf_writer_bool(w, "deepseek2.expert_weights_norm", s->normed);
}

/* Bytes that live as long as the writer. */
typedef struct ds_arena {
    void *blocks[3 * TEST_MODEL_TENSORS];
    uint32_t count;
} ds_arena;

static inline void *ds_take(ds_arena *a, size_t size)
{
    CHECK(a->count < DP_ARRAY_LEN(a->blocks), "blocks");
    return a->blocks[a->count++] = malloc(size);
}

/* To the nearest of 11 significant bits, of the exponents that f16 has. */
static inline float ds_half(float x)
{
    int e;

    if (x == 0)
        return x;
    frexpf(x, &e);
    e = e < -13 ? -13 : e;
    return ldexpf(rintf(ldexpf(x, 11 - e)), e - 11);
}

/* The bits of such a number. */
static inline uint16_t ds_half_bits(float half)
{
    uint16_t sign = signbit(half) ? 0x8000 : 0;
    float size = fabsf(half);
    int e;

    if (size < 0x1p-14f)
        return (uint16_t)(sign | (uint16_t)ldexpf(size, 24));
    frexpf(size, &e);
    return (uint16_t)(sign | (e + 14) << 10 | ((int)ldexpf(size, 11 - e) & 0x3ff));
}

/* Floats as `type`, but for routers; what lies in between is rounded to it. */
static inline void ds_put_tensor(dp_gguf_writer *w, ds_arena *a, dp_dtype type, const char *name,
                                 uint32_t dims, const uint64_t *ne, const float *data)
{
    size_t n = (size_t)(ne[0] * ne[1] * ne[2]);
    uint16_t *halves;

    if (type == DP_F32 || strstr(name, "ffn_gate_inp")) {
        dp_gguf_writer_tensor_bytes(w, name, DP_F32, dims, ne, data);
        return;
    }
    halves = ds_take(a, n * sizeof *halves);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &data[i], sizeof bits);
        halves[i] = type == DP_BF16 ? (uint16_t)(bits >> 16) : ds_half_bits(ds_half(data[i]));
    }
    dp_gguf_writer_tensor_bytes(w, name, type, dims, ne, halves);
}

/* attn_kv_b as attn_k_b, turned round head by head, and attn_v_b. */
static inline void ds_put_apart(dp_gguf_writer *w, ds_arena *a, const ds_shape *s, uint32_t layer,
                                const float *kv_b)
{
    const uint64_t k_ne[4] = { DS_NOPE, DS_LORA, DS_HEADS, 1 };
    const uint64_t v_ne[4] = { DS_LORA, DS_VALUE, DS_HEADS, 1 };
    float *k = ds_take(a, sizeof *k * DS_HEADS * DS_NOPE * DS_LORA);
    float *v = ds_take(a, sizeof *v * DS_HEADS * DS_VALUE * DS_LORA);
    char name[48];

    for (uint32_t h = 0; h < DS_HEADS; h++) {
        const float *rows = kv_b + h * (DS_NOPE + DS_VALUE) * DS_LORA;
        for (uint32_t i = 0; i < DS_NOPE; i++)
            for (uint32_t c = 0; c < DS_LORA; c++)
                k[(h * DS_LORA + c) * DS_NOPE + i] = rows[i * DS_LORA + c];
        memcpy(v + h * DS_VALUE * DS_LORA, rows + DS_NOPE * DS_LORA,
               sizeof *v * DS_VALUE * DS_LORA);
    }
    snprintf(name, sizeof name, "blk.%u.attn_k_b.weight", layer);
    ds_put_tensor(w, a, s->type, name, 3, k_ne, k);
    snprintf(name, sizeof name, "blk.%u.attn_v_b.weight", layer);
    ds_put_tensor(w, a, s->type, name, 3, v_ne, v);
}

/* Owned: dp_gguf_writer_close, then ds_arena_free. */
static inline dp_gguf_writer *ds_writer(const test_model *m, const ds_shape *s, ds_arena *a)
{
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);

    CHECK(w, "no memory");
    *a = (ds_arena){ 0 };
    ds_put_keys(w, s);
    for (uint32_t i = 0; i < m->tensor_count; i++) {
        const test_tensor *t = &m->tensors[i];
        bool is_kv_b = strstr(t->name, "attn_kv_b") != NULL;

        if (t->is_absent)
            continue;
        if (is_kv_b && !s->is_old)
            ds_put_apart(w, a, s, (uint32_t)(t->name[4] - '0'), t->data);
        if (!is_kv_b || s->is_old || s->has_both)
            ds_put_tensor(w, a, t->dim_count == 1 ? t->type : s->type, t->name, t->dim_count, t->ne,
                          t->data);
    }
    for (uint32_t l = 0; l < s->nextn; l++) {
        const uint64_t ne[4] = { DS_DIM, 1, 1, 1 };
        char name[48];
        snprintf(name, sizeof name, "blk.%u.nextn.eh_proj.weight", DS_LAYERS + l);
        ds_put_tensor(w, a, DP_F32, name, 1, ne, m->tensors[0].data);
    }
    return w;
}

static inline void ds_arena_free(ds_arena *a)
{
    for (uint32_t i = 0; i < a->count; i++)
        free(a->blocks[i]);
    a->count = 0;
}

/* Writes the model to a new file; path ends in XXXXXX and becomes its name. */
static inline void ds_save(const test_model *m, const ds_shape *s, char *path)
{
    ds_arena a;
    dp_gguf_writer *w = ds_writer(m, s, &a);
    int fd = mkstemp(path);
    dp_error err;

    CHECK(fd >= 0, "%s", path);
    close(fd);
    CHECK_OK(dp_gguf_writer_save(w, path, 3, &err), err);
    dp_gguf_writer_close(w);
    ds_arena_free(&a);
}

/* The description alone. Owned: dp_gguf_close. */
static inline dp_gguf *ds_gguf(const test_model *m, const ds_shape *s)
{
    ds_arena a;
    dp_gguf_writer *w = ds_writer(m, s, &a);
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
    ds_arena_free(&a);
    return gguf;
}

#endif
