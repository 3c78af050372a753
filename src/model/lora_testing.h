/* lora_testing.h - small adapters made for tests, and models with them merged in.
 *
 * Included by tests only. */
#ifndef DP_MODEL_LORA_TESTING_H
#define DP_MODEL_LORA_TESTING_H

#include "format/lora.h"
#include "model/model_testing.h"

#define TEST_LORA_PAIRS 48

typedef struct test_lora_pair {
    const test_tensor *base;
    uint64_t a_ne[4], b_ne[4];
    float *a, *b;        /* [experts][rank][in], [experts][out][rank]: the values of the file */
    void *a_raw, *b_raw; /* as they lie in the file */
} test_lora_pair;

typedef struct test_lora {
    const char *only; /* part of the names of adapted tensors; NULL: every matrix that can be */
    uint32_t rank;
    float alpha;   /* 0: no key */
    dp_dtype type; /* F32, F16 or BF16 */
    uint32_t pair_count;
    test_lora_pair pairs[TEST_LORA_PAIRS];
    void (*more)(dp_gguf_writer *w); /* hostile keys and tensors */
    const char *arch;                /* NULL: the model's */
} test_lora;

/* A value at out[i] as the type keeps it, cut where it has fewer bits; what it then is. F16:
 * of a size that needs no subnormals. */
static inline float test_lora_put_value(dp_dtype type, void *out, size_t i, float x)
{
    uint32_t bits;

    if (type == DP_F16 && fabsf(x) < 0x1p-14f)
        x = 0;
    memcpy(&bits, &x, sizeof bits);
    bits &= type == DP_F32 ? ~0u : type == DP_F16 ? ~0x1fffu : ~0xffffu;
    if (type == DP_F16)
        ((uint16_t *)out)[i] =
            (uint16_t)(bits >> 31 << 15 | (x != 0 ? (bits << 1 >> 14) - (112 << 10) : 0));
    else if (type == DP_BF16)
        ((uint16_t *)out)[i] = (uint16_t)(bits >> 16);
    else
        ((uint32_t *)out)[i] = bits;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline void test_lora_fill(dp_dtype type, dp_rng *rng, size_t n, float std, float **values,
                                  void **raw)
{
    *values = malloc(n * sizeof(float));
    *raw = malloc(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        (*values)[i] = test_lora_put_value(type, *raw, i, std * dp_rng_normal(rng));
}

static inline bool test_lora_wants(const test_lora *l, const test_model *m, const test_tensor *t)
{
    if (t->is_absent || t->dim_count < 2 || strstr(t->name, "token_embd") ||
        strstr(t->name, ".bias") || strstr(t->name, "attn_kv_b"))
        return false;
    return !l->only || strstr(t->name, l->only);
}

/* Pairs for the wanted tensors of a model, which is borrowed. Deltas are of the size of a
 * fifth of the weights. */
static inline void test_lora_make(test_lora *l, const test_model *m, uint64_t seed)
{
    dp_rng rng;

    dp_rng_init(&rng, seed);
    l->pair_count = 0;
    for (uint32_t i = 0; i < m->tensor_count; i++) {
        const test_tensor *t = &m->tensors[i];
        test_lora_pair *p = &l->pairs[l->pair_count];
        uint64_t in = t->ne[0], out = t->ne[1], experts = t->ne[2];

        if (!test_lora_wants(l, m, t))
            continue;
        CHECK(++l->pair_count <= TEST_LORA_PAIRS, "pairs");
        *p = (test_lora_pair){ .base = t,
                               .a_ne = { in, l->rank, experts, 1 },
                               .b_ne = { l->rank, out, experts, 1 } };
        test_lora_fill(l->type, &rng, in * l->rank * experts, 1 / sqrtf((float)in), &p->a,
                       &p->a_raw);
        test_lora_fill(l->type, &rng, out * l->rank * experts, 0.3f / sqrtf((float)l->rank), &p->b,
                       &p->b_raw);
    }
}

static inline void test_lora_free(test_lora *l)
{
    for (uint32_t i = 0; i < l->pair_count; i++) {
        free(l->pairs[i].a);
        free(l->pairs[i].b);
        free(l->pairs[i].a_raw);
        free(l->pairs[i].b_raw);
    }
    l->pair_count = 0;
}

static inline dp_gguf_writer *test_lora_writer(const test_lora *l, const test_model *m)
{
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);

    CHECK(w, "no memory");
    dp_gguf_writer_str(w, "general.type", "adapter");
    dp_gguf_writer_str(w, "general.architecture", l->arch ? l->arch : test_model_arch(m));
    dp_gguf_writer_str(w, "adapter.type", "lora");
    if (l->alpha != 0)
        dp_gguf_writer_f32(w, "adapter.lora.alpha", l->alpha);
    for (uint32_t i = 0; i < l->pair_count; i++) {
        const test_lora_pair *p = &l->pairs[i];
        uint32_t dims = p->base->dim_count;
        char name[64];

        snprintf(name, sizeof name, "%s" DP_LORA_A, p->base->name);
        dp_gguf_writer_tensor_bytes(w, name, l->type, dims, p->a_ne, p->a_raw);
        snprintf(name, sizeof name, "%s" DP_LORA_B, p->base->name);
        dp_gguf_writer_tensor_bytes(w, name, l->type, dims, p->b_ne, p->b_raw);
    }
    if (l->more)
        l->more(w);
    return w;
}

/* path ends in XXXXXX and becomes the file's name. */
static inline void test_lora_save(const test_lora *l, const test_model *m, char *path)
{
    dp_gguf_writer *w = test_lora_writer(l, m);
    int fd = mkstemp(path);
    dp_error err;

    CHECK(fd >= 0, "%s", path);
    close(fd);
    CHECK_OK(dp_gguf_writer_save(w, path, 4, &err), err);
    dp_gguf_writer_close(w);
}

/* W += (alpha / rank) * scale * B A in the model the adapter was made for, or a copy of
 * it, in double. */
static inline void test_lora_merge(const test_lora *l, test_model *m, double scale)
{
    double s = l->alpha != 0 ? (double)l->alpha / l->rank * scale : scale;

    for (uint32_t i = 0; i < l->pair_count; i++) {
        const test_lora_pair *p = &l->pairs[i];
        test_tensor *t = test_model_find(m, p->base->name);
        uint64_t in = t->ne[0], out = t->ne[1], r = l->rank;

        for (uint64_t row = 0; row < out * t->ne[2]; row++)
            for (uint64_t col = 0; col < in; col++) {
                const float *a = p->a + row / out * r * in + col, *b = p->b + row * r;
                double sum = 0;
                for (uint64_t k = 0; k < r; k++)
                    sum += (double)b[k] * a[k * in];
                t->data[row * in + col] = (float)(t->data[row * in + col] + s * sum);
            }
    }
}

#endif
