/* Adapters' files: what is read, and every way in which one is refused. */
#include "format/lora.h"

#include <math.h>

#include "base/buf.h"
#include "testing/check.h"
#include "testing/gguf_writer.h"

#define TENSORS_MAX 4

struct tensor {
    const char *name;
    uint32_t dims;
    uint64_t ne[4];
};

struct file {
    const char *type, *adapter_type, *arch;
    double alpha; /* NAN: no key */
    struct tensor tensors[TENSORS_MAX];
    void (*more)(dp_gguf_writer *w);
};

static dp_gguf *make(const struct file *f)
{
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    dp_gguf *g;
    dp_error err;
    dp_buf buf;

    CHECK(w, "no memory");
    dp_buf_init(&buf, DP_GGUF_HEADER_MAX);
    if (f->type)
        dp_gguf_writer_str(w, "general.type", f->type);
    if (f->adapter_type)
        dp_gguf_writer_str(w, "adapter.type", f->adapter_type);
    if (f->arch)
        dp_gguf_writer_str(w, "general.architecture", f->arch);
    if (!isnan(f->alpha))
        dp_gguf_writer_f32(w, "adapter.lora.alpha", (float)f->alpha);
    if (f->more)
        f->more(w);
    for (int i = 0; i < TENSORS_MAX && f->tensors[i].name; i++)
        dp_gguf_writer_tensor(w, f->tensors[i].name, DP_F32, f->tensors[i].dims, f->tensors[i].ne,
                              DP_FILL_NORMAL, 1);
    CHECK_OK(dp_gguf_writer_header(w, &buf, &err), err);
    CHECK_OK(dp_gguf_parse(&g, "test.gguf", (const uint8_t *)buf.bytes, buf.size, buf.size + DP_GIB,
                           NULL, &err),
             err);
    dp_buf_deinit(&buf);
    dp_gguf_writer_close(w);
    return g;
}

#define A "blk.0.attn_q.weight.lora_a"
#define B "blk.0.attn_q.weight.lora_b"
#define E "blk.0.ffn_up_exps.weight"

static void what_a_file_says(void **unused)
{
    const struct file file = { "adapter",
                               "lora",
                               "llama",
                               16,
                               { { B, 2, { 8, 96 } },
                                 { A, 2, { 64, 8 } },
                                 { E ".lora_a", 3, { 64, 4, 3 } },
                                 { E ".lora_b", 3, { 4, 96, 3 } } } };
    dp_gguf *g = make(&file);
    dp_lora_info info;
    dp_error err;

    CHECK(dp_lora_is_adapter(g), "is one");
    CHECK_OK(dp_lora_read(&info, g, &err), err);
    CHECK(strcmp(info.arch, "llama") == 0 && info.alpha == 16 && info.pair_count == 2 &&
              info.rank_min == 4 && info.rank_max == 8,
          "%s %g %u %u %u", info.arch, (double)info.alpha, info.pair_count, info.rank_min,
          info.rank_max);
    dp_gguf_close(g);
}

static void invocation(dp_gguf_writer *w)
{
    const uint32_t tokens[] = { 1, 2 };

    dp_gguf_writer_array(w, "adapter.alora.invocation_tokens", DP_GGUF_U32, 2, tokens);
}

static void text_alpha(dp_gguf_writer *w)
{
    dp_gguf_writer_str(w, "adapter.lora.alpha", "sixteen");
}

#define PAIR                                                                                       \
    {                                                                                              \
        { A, 2, { 64, 8 } },                                                                       \
        {                                                                                          \
            B, 2,                                                                                  \
            {                                                                                      \
                8, 64                                                                              \
            }                                                                                      \
        }                                                                                          \
    }

static const struct {
    struct file file;
    dp_status want;
    const char *sentence;
} rows[] = {
    { { "adapter", "lora", "llama", NAN, PAIR }, DP_OK, "" },
    { { "adapter", "lora", "llama", -1, PAIR }, DP_OK, "" },
    { { NULL, "lora", "llama", 1, PAIR }, DP_E_INVALID, "not an adapter" },
    { { "model", "lora", "llama", 1, PAIR }, DP_E_INVALID, "is it a model?" },
    { { "adapter", NULL, "llama", 1, PAIR }, DP_E_UNSUPPORTED, "adapter.type" },
    { { "adapter", "ia3", "llama", 1, PAIR }, DP_E_UNSUPPORTED, "adapter.type" },
    { { "adapter", "lora", NULL, 1, PAIR }, DP_E_NOTFOUND, "general.architecture" },
    { { "adapter", "lora", "a name of thirty-two or more bytes", 1, PAIR }, DP_E_LIMIT, "at most" },
    { { "adapter", "lora", "llama", INFINITY, PAIR }, DP_E_CORRUPT, "adapter.lora.alpha" },
    { { "adapter", "lora", "llama", NAN, PAIR, text_alpha }, DP_E_CORRUPT, "adapter.lora.alpha" },
    { { "adapter", "lora", "llama", 1, PAIR, invocation }, DP_E_UNSUPPORTED, "activated" },
    { { "adapter", "lora", "llama", 1, { { NULL } } }, DP_E_CORRUPT, "without tensors" },
    { { "adapter", "lora", "llama", 1, { { A, 2, { 64, 8 } } } }, DP_E_CORRUPT, B ": missing" },
    { { "adapter", "lora", "llama", 1, { { B, 2, { 8, 64 } } } }, DP_E_CORRUPT, A ": missing" },
    { { "adapter", "lora", "llama", 1, { { "blk.0.attn_norm.weight", 1, { 64 } } } },
      DP_E_UNSUPPORTED,
      "blk.0.attn_norm.weight: an adapter holds pairs" },
    { { "adapter", "lora", "llama", 1, { { A, 2, { 64, 8 } }, { B, 2, { 7, 64 } } } },
      DP_E_CORRUPT,
      "the rank" },
    { { "adapter", "lora", "llama", 1, { { A, 3, { 64, 8, 2 } }, { B, 3, { 8, 64, 3 } } } },
      DP_E_CORRUPT,
      "2 matrices" },
    { { "adapter", "lora", "llama", 1, { { A, 4, { 64, 8, 2, 2 } }, { B, 3, { 8, 64, 2 } } } },
      DP_E_CORRUPT,
      "fourth" },
    { { "adapter", "lora", "llama", 1, { { A, 2, { 64, 5000 } }, { B, 2, { 5000, 64 } } } },
      DP_E_LIMIT,
      "rank 5000, at most 4096" },
    { { "adapter",
        "lora",
        "llama",
        1,
        { { "token_embd.weight.lora_a", 2, { 8, 300 } },
          { "token_embd.weight.lora_b", 2, { 8, 64 } } } },
      DP_E_UNSUPPORTED,
      "adapters of the embedding" },
};

static void every_refusal_names_what_is_wrong(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_gguf *g = make(&rows[i].file);
        dp_lora_info info;
        dp_error err = { 0 };
        dp_status st = dp_lora_read(&info, g, &err);

        CHECK(st == rows[i].want, "row %zu: %d, %s", i, st, err.text);
        if (st)
            CHECK(strstr(err.text, rows[i].sentence) && info.pair_count == 0, "row %zu: %s", i,
                  err.text);
        dp_gguf_close(g);
    }
}

/* Two rounded steps would give another float. */
static void factors_are_rounded_once(void **unused)
{
    CHECK(dp_lora_factor(16, 8, 0.5f) == 1, "2 * 0.5");
    CHECK(dp_lora_factor(0, 8, 0.3f) == 0.3f, "without alpha");
    CHECK(dp_lora_factor(1, 3, 0.7f) == (float)((double)1 / 3 * 0.7f), "once");
    CHECK(dp_lora_factor(-2, 1, 1) == -2, "negative");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_file_says),
        cmocka_unit_test(every_refusal_names_what_is_wrong),
        cmocka_unit_test(factors_are_rounded_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
