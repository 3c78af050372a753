/* What families of models have in common, and what each refuses. */
#include "engine/engine_testing.h"
#include "model/model.h"

#define TOKENS 40
#define VOCAB  300

static const test_setting none[TEST_SETTINGS] = { { NULL, NULL } };
static const test_setting small[TEST_SETTINGS] = { { "ram", "64MiB" }, { "ctx", "64" } };

static test_model shape(const char *arch, uint32_t experts)
{
    return (test_model){ .layers = 2,
                         .dim = 64,
                         .heads = 4,
                         .kv_heads = 2,
                         .head_dim = 16,
                         .ff = 96,
                         .vocab = VOCAB,
                         .context = 64,
                         .experts = experts,
                         .used = experts,
                         .has_head_norms = strncmp(arch, "qwen3", 5) == 0,
                         .arch = arch };
}

/* The model's logits after TOKENS tokens. */
static void run(const test_model *m, float *out)
{
    char path[] = "/tmp/doppler-families-XXXXXX";
    dp_token tokens[TOKENS];
    dp_engine *engine;
    dp_session *s;
    dp_error err;

    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (i * 37 + 5) % VOCAB;
    test_model_save(m, path);
    engine = test_engine(path, small);
    s = test_session(engine, none);
    CHECK_OK(dp_session_append(s, tokens, TOKENS, &err), err);
    CHECK_OK(dp_session_eval(s, &err), err);
    memcpy(out, dp_session_logits(s), VOCAB * sizeof *out);
    dp_session_close(s);
    dp_engine_close(engine);
    unlink(path);
}

/* The same weights without a router: blk.0.ffn_up_exps.weight -> blk.0.ffn_up.weight. */
static void make_dense(test_model *m, const char *arch)
{
    m->arch = arch;
    m->experts = 0;
    for (uint32_t i = 0; i < m->tensor_count; i++) {
        test_tensor *t = &m->tensors[i];
        char *stem = strstr(t->name, "_exps");
        t->is_absent = strstr(t->name, "ffn_gate_inp") != NULL;
        if (stem) {
            strcpy(stem, ".weight");
            t->dim_count = 2;
        }
    }
}

/* One expert of one has weight 1: a mixture of it is its dense twin, to the bit.
 * So the dense families stand on the logits that an independent program made for
 * the mixtures (tests/oracle). */
static void a_mixture_of_one_expert_is_dense(void **unused)
{
    static const struct {
        const char *mixture, *dense;
    } rows[] = { { "llama", "llama" }, { "qwen3moe", "qwen3" } };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        test_model m = shape(rows[i].mixture, 1);
        float one[VOCAB], dense[VOCAB];

        test_model_make(&m, 5);
        run(&m, one);
        make_dense(&m, rows[i].dense);
        run(&m, dense);
        CHECK(memcmp(one, dense, sizeof one) == 0, "%s", rows[i].dense);
        test_model_free(&m);
    }
}

/* Norms over heads and the way pairs turn tell the families apart. */
static void families_differ(void **unused)
{
    test_model m = shape("qwen3", 0);
    float normed[VOCAB], plain[VOCAB];

    test_model_make(&m, 6);
    run(&m, normed);
    m.arch = "llama";
    for (uint32_t i = 0; i < m.tensor_count; i++)
        m.tensors[i].is_absent =
            strstr(m.tensors[i].name, "_norm.weight") &&
            (strstr(m.tensors[i].name, "attn_q") || strstr(m.tensors[i].name, "attn_k"));
    run(&m, plain);
    CHECK(memcmp(normed, plain, sizeof plain) != 0, "no difference");
    test_model_free(&m);
}

static void ask_for_sigmoid(dp_gguf_writer *w)
{
    dp_gguf_writer_u32(w, "qwen3moe.expert_gating_func", 2);
}

static void what_contradicts_the_family_is_refused(void **unused)
{
    static const struct {
        const char *arch;
        uint32_t experts;
        void (*more_keys)(dp_gguf_writer *w);
        const char *absent, *sentence;
    } rows[] = {
        { "qwen3", 2, NULL, NULL, "qwen3.expert_count" },
        { "qwen3moe", 0, NULL, NULL, "qwen3moe.expert_count" },
        { "qwen3moe", 2, ask_for_sigmoid, NULL, "qwen3moe.expert_gating_func" },
        { "qwen3", 0, NULL, "blk.1.attn_k_norm.weight", "blk.1.attn_k_norm.weight: missing" },
        { "qwen2", 0, NULL, NULL, "architecture \"qwen2\"" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        test_model m = shape(rows[i].arch, rows[i].experts);
        dp_gguf *gguf;
        dp_model *model;
        dp_error err;

        m.more_keys = rows[i].more_keys;
        test_model_make(&m, 7);
        if (rows[i].absent)
            test_model_find(&m, rows[i].absent)->is_absent = true;
        gguf = test_model_gguf(&m);
        CHECK(dp_model_open(&model, gguf, &err) && !model, "row %zu was accepted", i);
        CHECK(strstr(err.text, rows[i].sentence), "row %zu: %s", i, err.text);
        dp_gguf_close(gguf);
        test_model_free(&m);
    }
}

static int teardown(void **unused)
{
    return test_model_memory_is_free();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mixture_of_one_expert_is_dense),
        cmocka_unit_test(families_differ),
        cmocka_unit_test(what_contradicts_the_family_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
