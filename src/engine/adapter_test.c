/* Adapters against models with the same adapters merged into their weights, and against
 * themselves under every budget, batch, table of kernels and company. */
#include "base/fault.h"
#include "engine/engine.h"
#include "engine/engine_testing.h"
#include "model/lora_testing.h"

#define TOKENS 40
#define VOCAB  300

static const test_setting none[TEST_SETTINGS] = { { NULL, NULL } };
static const test_setting plain[TEST_SETTINGS] = { { "ram", "64MiB" },
                                                   { "ctx", "64" },
                                                   { "governor", "off" } };

static test_model shape(const char *arch, uint32_t experts, uint32_t used)
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
                         .used = used,
                         .has_head_norms = strncmp(arch, "qwen3", 5) == 0,
                         .arch = arch };
}

static const dp_token *some_tokens(void)
{
    static dp_token tokens[TOKENS];

    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (i * 37 + 5) % VOCAB;
    return tokens;
}

/* A model and adapters as files. */
typedef struct world {
    test_model m;
    test_lora lora[2];
    char model_path[40], lora_path[2][40];
} world;

static void world_open(world *w, test_model m, const test_lora *a, const test_lora *b)
{
    const test_lora *loras[2] = { a, b };

    memset(w, 0, sizeof *w);
    w->m = m;
    test_model_make(&w->m, 21);
    strcpy(w->model_path, "/tmp/doppler-adapter-XXXXXX");
    test_model_save(&w->m, w->model_path);
    for (int i = 0; i < 2; i++) {
        if (!loras[i])
            continue;
        w->lora[i] = *loras[i];
        test_lora_make(&w->lora[i], &w->m, 31 + i);
        strcpy(w->lora_path[i], "/tmp/doppler-lora-XXXXXX");
        test_lora_save(&w->lora[i], &w->m, w->lora_path[i]);
    }
}

static void world_close(world *w)
{
    unlink(w->model_path);
    for (int i = 0; i < 2; i++) {
        if (w->lora_path[i][0])
            unlink(w->lora_path[i]);
        test_lora_free(&w->lora[i]);
    }
    test_model_free(&w->m);
}

/* Open adapters of a world and what a session shall use of them. */
typedef struct used {
    dp_adapter *adapter[2];
    dp_adapter_use uses[2];
    size_t count;
} used;

static dp_status use_open(used *u, const world *w, dp_engine *e, const float scale[2],
                          dp_error *err)
{
    memset(u, 0, sizeof *u);
    for (int i = 0; i < 2; i++) {
        dp_status st;
        if (!w->lora_path[i][0])
            continue;
        st = dp_adapter_open(&u->adapter[i], e, w->lora_path[i], err);
        if (st)
            return st;
        u->uses[u->count++] = (dp_adapter_use){ u->adapter[i], scale[i] };
    }
    return DP_OK;
}

static void use_close(used *u)
{
    dp_adapter_close(u->adapter[0]);
    dp_adapter_close(u->adapter[1]);
}

/* Logits after every token: [TOKENS][VOCAB]. */
static bool keep_logits(void *user, uint32_t position, const float *logits)
{
    memcpy((float *)user + (size_t)position * VOCAB, logits, VOCAB * sizeof *logits);
    return true;
}

static void eval(dp_session *s, float *out)
{
    dp_error err;

    dp_session_set_logits_sink(s, keep_logits, out);
    CHECK_OK(dp_session_append(s, some_tokens(), TOKENS, &err), err);
    CHECK_OK(dp_session_eval(s, &err), err);
}

/* With scale NULL: without adapters. */
static void run(const world *w, const test_setting *settings, const float *scale, float *out)
{
    dp_engine *e = test_engine(w->model_path, settings);
    dp_session *s = test_session(e, none);
    used u = { 0 };
    dp_error err;

    if (scale) {
        CHECK_OK(use_open(&u, w, e, scale, &err), err);
        CHECK_OK(dp_session_set_adapters(s, u.uses, u.count, &err), err);
    }
    eval(s, out);
    dp_session_close(s);
    use_close(&u);
    dp_engine_close(e);
}

#define LOGITS (TOKENS * VOCAB)
static float found[LOGITS], want[LOGITS], base[LOGITS];

/* ---- the oracle: merged weights ---- */

static const struct {
    const char *name;
    const char *arch;
    uint32_t experts, used;
    bool has_biases;
    test_lora first, second;
    float scale[2];
} oracles[] = {
    { "all", "llama", 0, 0, false, { .rank = 4, .alpha = 8 }, { .rank = 0 }, { 1 } },
    { "f16", "llama", 0, 0, true, { .rank = 5, .alpha = 8, .type = DP_F16 }, { 0 }, { 0.5f } },
    { "bf16", "qwen3", 0, 0, false, { .rank = 3, .alpha = 2, .type = DP_BF16 }, { 0 }, { -1 } },
    { "no alpha", "llama", 0, 0, false, { .rank = 4 }, { 0 }, { 0.7f } },
    { "head alone", "llama", 0, 0, false, { .rank = 4, .only = "output.weight" }, { 0 }, { 1 } },
    { "two",
      "llama",
      0,
      0,
      false,
      { .rank = 4, .alpha = 4 },
      { .rank = 7, .alpha = 14 },
      { 1, 0.5f } },
    { "mixture", "qwen3moe", 6, 2, false, { .rank = 4, .alpha = 4 }, { .rank = 0 }, { 1 } },
    { "experts alone", "llama", 5, 2, false, { .rank = 4, .only = "_exps" }, { .rank = 0 }, { 1 } },
    { "biases, two",
      "gpt-oss",
      4,
      2,
      true,
      { .rank = 4, .alpha = 4 },
      { .rank = 2, .only = "ffn_down", .type = DP_F16 },
      { 1, 0.8f } },
};

static void gpt_oss_keys(dp_gguf_writer *w)
{
    dp_gguf_writer_u32(w, "gpt-oss.attention.sliding_window", 16);
}

static float largest(const float *x)
{
    float most = 0;

    for (size_t i = 0; i < LOGITS; i++)
        most = fmaxf(most, fabsf(x[i]));
    return most;
}

static float largest_difference(const float *x, const float *y)
{
    float most = 0;

    for (size_t i = 0; i < LOGITS; i++)
        most = fmaxf(most, fabsf(x[i] - y[i]));
    return most;
}

/* Weights are F32: what differs is the order of rounding, and keys and values that then
 * fall on another side in f16. */
#define ORACLE_BOUND 5e-4f

static void an_adapter_is_its_merged_weights(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(oracles); i++) {
        test_model m = shape(oracles[i].arch, oracles[i].experts, oracles[i].used);
        bool is_two = oracles[i].second.rank != 0;
        world w;

        m.has_biases = oracles[i].has_biases;
        m.more_keys = strcmp(oracles[i].arch, "gpt-oss") ? NULL : gpt_oss_keys;
        world_open(&w, m, &oracles[i].first, is_two ? &oracles[i].second : NULL);
        run(&w, plain, NULL, base);
        run(&w, plain, oracles[i].scale, found);
        test_lora_merge(&w.lora[0], &w.m, oracles[i].scale[0]);
        if (is_two)
            test_lora_merge(&w.lora[1], &w.m, oracles[i].scale[1]);
        unlink(w.model_path);
        strcpy(w.model_path, "/tmp/doppler-adapter-XXXXXX");
        test_model_save(&w.m, w.model_path);
        run(&w, plain, NULL, want);
        printf("%s: %.2g of %.3g, the adapter changes %.2g\n", oracles[i].name,
               (double)largest_difference(found, want), (double)largest(want),
               (double)largest_difference(base, want));
        CHECK(largest_difference(found, want) <= ORACLE_BOUND * largest(want),
              "%s: off by %g of %g", oracles[i].name, (double)largest_difference(found, want),
              (double)largest(want));
        CHECK(largest_difference(base, want) > 0.05f * largest(want), "%s: changes nothing",
              oracles[i].name);
        world_close(&w);
    }
}

static void a_scale_of_0_changes_no_bit(void **unused)
{
    const float zero[2] = { 0, 0 };
    const test_lora lora = { .rank = 4 };
    world w;

    world_open(&w, shape("qwen3moe", 6, 2), &lora, &lora);
    run(&w, plain, NULL, want);
    run(&w, plain, zero, found);
    CHECK(memcmp(found, want, sizeof want) == 0, "bits differ");
    world_close(&w);
}

/* ---- identity ---- */

static const test_setting ways[][TEST_SETTINGS] = {
    { { "ram", "64MiB" }, { "ctx", "64" }, { "batch", "1" } },
    { { "ram", "64MiB" }, { "ctx", "64" }, { "batch", "7" }, { "threads", "3" } },
    { { "ram", "64MiB" }, { "ctx", "64" }, { "kernels", "ref" }, { "threads", "1" } },
    { { "ram", "64MiB" }, { "ctx", "64" }, { "kernels", "ref" }, { "batch", "3" } },
    { { "ram", "64MiB" }, { "ctx", "64" }, { "io", "buffered" }, { "policy", "lru" } },
};

static dp_plan plan_of(const world *w, const test_setting *settings)
{
    dp_engine *e = test_engine(w->model_path, settings);
    dp_plan plan = e->plan;

    dp_engine_close(e);
    return plan;
}

/* A budget in which the model streams and pages of adapters come and go: what one page of
 * each needs, and a little. */
static void tight(char ram[32], const world *w, uint64_t more)
{
    const test_setting asked[TEST_SETTINGS] = { { "ram", "64MiB" },
                                                { "ctx", "64" },
                                                { "batch", "4" } };
    dp_plan plan = plan_of(w, asked);

    snprintf(ram, 32, "%llu",
             (unsigned long long)(plan.least_bytes + (192 << 10) + plan.page_bytes_max + more));
}

static void every_way_gives_the_same_bits(void **unused)
{
    static const uint32_t experts[] = { 0, 6 };
    const test_lora loras[] = { { .rank = 4, .alpha = 8 },
                                { .rank = 32, .alpha = 16, .type = DP_F16 } };
    const float scale[2] = { 1, 0.5f };

    for (size_t m = 0; m < DP_ARRAY_LEN(experts); m++) {
        test_model shaped = shape("llama", experts[m], 2);
        char ram[32];
        world w;

        shaped.type = m ? DP_Q8_0 : DP_F32;
        world_open(&w, shaped, &loras[0], &loras[1]);
        run(&w, plain, scale, want);
        for (size_t i = 0; i < DP_ARRAY_LEN(ways); i++) {
            run(&w, ways[i], scale, found);
            CHECK(memcmp(found, want, sizeof want) == 0, "experts %u, way %zu", experts[m], i);
        }
        for (uint64_t more = 0; more < 300 << 10; more += 60 << 10) {
            test_setting few[TEST_SETTINGS] = { { "ram", ram }, { "ctx", "64" }, { "batch", "4" } };
            tight(ram, &w, more);
            run(&w, few, scale, found);
            CHECK(memcmp(found, want, sizeof want) == 0, "experts %u, %s bytes", experts[m], ram);
        }
        world_close(&w);
    }
}

/* Pages of an adapter leave and are read again. */
static void an_adapter_larger_than_what_is_left_works(void **unused)
{
    const test_lora lora = { .rank = 32 };
    const float scale[2] = { 1, 1 };
    char ram[32];
    const test_setting few[TEST_SETTINGS] = { { "ram", ram }, { "ctx", "64" }, { "batch", "4" } };
    dp_adapter_info info;
    dp_session *s;
    dp_engine *e;
    dp_stats stats;
    dp_error err;
    world w;
    used u;

    world_open(&w, shape("llama", 6, 2), &lora, NULL);
    run(&w, plain, scale, want);
    tight(ram, &w, 64 << 10);
    e = test_engine(w.model_path, few);
    s = test_session(e, none);
    CHECK_OK(use_open(&u, &w, e, scale, &err), err);
    dp_adapter_describe(u.adapter[0], &info);
    CHECK_OK(dp_session_set_adapters(s, u.uses, u.count, &err), err);
    eval(s, found);
    dp_engine_stats(e, &stats);
    CHECK(memcmp(found, want, sizeof want) == 0, "bits differ");
    CHECK(info.bytes > stats.slot_budget_bytes - stats.pinned_bytes, "%llu bytes are no test",
          (unsigned long long)info.bytes);
    CHECK(stats.evictions > 0 && stats.slot_bytes <= stats.slot_budget_bytes, "%llu evictions",
          (unsigned long long)stats.evictions);
    dp_session_close(s);
    use_close(&u);
    dp_engine_close(e);
    world_close(&w);
}

/* Other budgets before every step while adapters are open, down to the least. */
static void budgets_change_under_adapters(void **unused)
{
    const test_lora loras[] = { { .rank = 4, .alpha = 8 }, { .rank = 32 } };
    const float scale[2] = { 1, 0.5f };

    for (uint32_t experts = 0; experts <= 6; experts += 6) {
        const test_setting few[TEST_SETTINGS] = {
            { "ram", "64MiB" }, { "ctx", "64" }, { "batch", "4" }, { "governor", "off" }
        };
        uint64_t least, budget = 64 * DP_MIB;
        dp_session *s;
        dp_engine *e;
        dp_error err;
        dp_rng rng;
        world w;
        used u;

        dp_rng_init(&rng, 3);
        world_open(&w, shape("llama", experts, 2), &loras[0], &loras[1]);
        run(&w, plain, scale, want);
        e = test_engine(w.model_path, few);
        s = test_session(e, none);
        CHECK_OK(use_open(&u, &w, e, scale, &err), err);
        CHECK_OK(dp_session_set_adapters(s, u.uses, u.count, &err), err);
        CHECK(dp_engine_set_budget(e, 4096, &err) == DP_E_BUDGET, "%s", err.text);
        least = strtoull(strstr(err.text, "take ") + 5, NULL, 10);
        CHECK(dp_engine_set_budget(e, least - 1, NULL) == DP_E_BUDGET, "a byte less");
        dp_session_set_logits_sink(s, keep_logits, found);
        CHECK_OK(dp_session_append(s, some_tokens(), TOKENS, &err), err);
        while (dp_session_pending(s)) {
            CHECK_OK(dp_engine_set_budget(e, budget, &err), err);
            CHECK_OK(dp_engine_step(e, &s, 1, &err), err);
            budget = least + (dp_rng_below(&rng, 3) ? dp_rng_below(&rng, DP_MIB) : 0);
        }
        CHECK(memcmp(found, want, sizeof want) == 0, "experts %u", experts);
        dp_session_close(s);
        use_close(&u);
        dp_engine_close(e);
        world_close(&w);
    }
}

/* ---- sessions ---- */

static float alone[4][LOGITS], together[4][LOGITS];

/* Sessions with no adapter, one, the other, and both, in one batch. */
static void sessions_with_different_adapters_step_together(void **unused)
{
    const test_setting many[TEST_SETTINGS] = {
        { "ram", "64MiB" }, { "ctx", "64" }, { "sessions", "5" }, { "batch", "11" }
    };
    const test_lora loras[] = { { .rank = 4, .alpha = 8 }, { .rank = 8, .only = "_exps" } };
    const float scale[2] = { 1, 0.5f };
    dp_session *s[4];
    dp_engine *e;
    dp_error err;
    world w;
    used u;

    world_open(&w, shape("llama", 6, 2), &loras[0], &loras[1]);
    e = test_engine(w.model_path, many);
    CHECK_OK(use_open(&u, &w, e, scale, &err), err);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < 4; i++) {
            s[i] = test_session(e, none);
            CHECK_OK(dp_session_set_adapters(s[i], u.uses + (i == 2), i == 3 ? 2 : i > 0, &err),
                     err);
            dp_session_set_logits_sink(s[i], keep_logits, pass ? together[i] : alone[i]);
            CHECK_OK(dp_session_append(s[i], some_tokens() + i, TOKENS - i, &err), err);
            if (pass == 0) {
                CHECK_OK(dp_session_eval(s[i], &err), err);
                dp_session_close(s[i]);
            }
        }
        for (int pending = pass; pending;) {
            CHECK_OK(dp_engine_step(e, s, 4, &err), err);
            pending = 0;
            for (int i = 0; i < 4; i++)
                pending += dp_session_pending(s[i]) != 0;
        }
    }
    for (int i = 0; i < 4; i++) {
        CHECK(memcmp(alone[i], together[i], (TOKENS - i) * VOCAB * sizeof(float)) == 0,
              "session %d differs in company", i);
        dp_session_close(s[i]);
    }
    use_close(&u);
    dp_engine_close(e);
    world_close(&w);
}

/* Tokens meet what is set when they are evaluated; rewinding evaluates them anew. */
static void adapters_are_changed_between_steps(void **unused)
{
    const test_lora lora = { .rank = 4, .alpha = 8 };
    const float scale[2] = { 1, 1 };
    dp_session *s;
    dp_engine *e;
    dp_error err;
    world w;
    used u;

    world_open(&w, shape("llama", 0, 0), &lora, NULL);
    run(&w, plain, NULL, base);
    run(&w, plain, scale, want);
    e = test_engine(w.model_path, plain);
    s = test_session(e, none);
    CHECK_OK(use_open(&u, &w, e, scale, &err), err);

    dp_session_set_logits_sink(s, keep_logits, found);
    CHECK_OK(dp_session_append(s, some_tokens(), TOKENS / 2, &err), err);
    CHECK_OK(dp_session_eval(s, &err), err);
    CHECK_OK(dp_session_set_adapters(s, u.uses, u.count, &err), err);
    CHECK(dp_session_logits(s), "logits that were computed stay");
    CHECK_OK(dp_session_append(s, some_tokens() + TOKENS / 2, TOKENS / 2, &err), err);
    CHECK_OK(dp_session_eval(s, &err), err);
    CHECK(memcmp(found, base, sizeof base / 2) == 0, "the first half had no adapter");
    CHECK(memcmp(found + LOGITS / 2, want + LOGITS / 2, sizeof want / 2) != 0 &&
              memcmp(found + LOGITS / 2, base + LOGITS / 2, sizeof want / 2) != 0,
          "the second half has old keys and a new adapter");

    dp_session_rewind(s, 0);
    eval(s, found);
    CHECK(memcmp(found, want, sizeof want) == 0, "a timeline evaluated anew");
    CHECK_OK(dp_session_set_adapters(s, NULL, 0, &err), err);
    dp_session_rewind(s, 0);
    eval(s, found);
    CHECK(memcmp(found, base, sizeof base) == 0, "without again");
    dp_session_close(s);
    use_close(&u);
    dp_engine_close(e);
    world_close(&w);
}

static void uses_are_checked(void **unused)
{
    const test_lora lora = { .rank = 2 };
    const float scale[2] = { 1, 1 };
    dp_adapter_use many[DP_SESSION_ADAPTERS_MAX + 1];
    dp_engine *e, *other;
    dp_session *s;
    dp_error err;
    world w;
    used u, foreign;

    world_open(&w, shape("llama", 0, 0), &lora, &lora);
    e = test_engine(w.model_path, plain);
    other = test_engine(w.model_path, plain);
    s = test_session(e, none);
    CHECK_OK(use_open(&u, &w, e, scale, &err), err);
    CHECK_OK(use_open(&foreign, &w, other, scale, &err), err);
    CHECK_OK(dp_session_set_adapters(s, u.uses, 2, &err), err);
    CHECK(dp_session_set_adapters(s, foreign.uses, 1, &err) == DP_E_INVALID, "%s", err.text);
    u.uses[1].adapter = u.uses[0].adapter;
    CHECK(dp_session_set_adapters(s, u.uses, 2, &err) == DP_E_INVALID, "%s", err.text);
    u.uses[0].scale = NAN;
    CHECK(dp_session_set_adapters(s, u.uses, 1, &err) == DP_E_INVALID, "%s", err.text);
    for (size_t i = 0; i < DP_ARRAY_LEN(many); i++)
        many[i] = u.uses[0];
    CHECK(dp_session_set_adapters(s, many, DP_ARRAY_LEN(many), &err) == DP_E_LIMIT, "%s", err.text);
    CHECK(s->set.count == 2, "what was set stays");
    dp_session_close(s);
    use_close(&u);
    use_close(&foreign);
    dp_engine_close(other);
    dp_engine_close(e);
    world_close(&w);
}

/* ---- refused ---- */

static void surplus(dp_gguf_writer *w)
{
    const uint64_t a[] = { 64, 2 }, b[] = { 2, 64 };

    dp_gguf_writer_tensor(w, "blk.0.attn_z.weight.lora_a", DP_F32, 2, a, DP_FILL_NORMAL, 1);
    dp_gguf_writer_tensor(w, "blk.0.attn_z.weight.lora_b", DP_F32, 2, b, DP_FILL_NORMAL, 1);
}

static void embedding(dp_gguf_writer *w)
{
    const uint64_t a[] = { 2, VOCAB }, b[] = { 2, 64 };

    dp_gguf_writer_tensor(w, "token_embd.weight.lora_a", DP_F32, 2, a, DP_FILL_NORMAL, 1);
    dp_gguf_writer_tensor(w, "token_embd.weight.lora_b", DP_F32, 2, b, DP_FILL_NORMAL, 1);
}

static void wrong_shape(dp_gguf_writer *w)
{
    const uint64_t a[] = { 64, 2 }, b[] = { 2, 65 };

    dp_gguf_writer_tensor(w, "blk.1.attn_q.weight.lora_a", DP_F32, 2, a, DP_FILL_NORMAL, 1);
    dp_gguf_writer_tensor(w, "blk.1.attn_q.weight.lora_b", DP_F32, 2, b, DP_FILL_NORMAL, 1);
}

static void no_kernel(dp_gguf_writer *w)
{
    static const double values[64 * 2];
    const uint64_t a[] = { 64, 2 }, b[] = { 2, 64 };

    dp_gguf_writer_tensor_bytes(w, "blk.1.attn_q.weight.lora_a", DP_F64, 2, a, values);
    dp_gguf_writer_tensor(w, "blk.1.attn_q.weight.lora_b", DP_F32, 2, b, DP_FILL_NORMAL, 1);
}

static void what_is_not_of_the_model_is_refused(void **unused)
{
    static const struct {
        const char *arch, *sentence;
        void (*more)(dp_gguf_writer *w);
        uint32_t rank;
    } rows[] = {
        { "qwen3", "the adapter is for qwen3, the model is llama", NULL, 2 },
        { NULL, "blk.0.attn_z.weight.lora_a: not a part of a weight of this model", surplus, 2 },
        { NULL, "token_embd.weight.lora_a: adapters of the embedding", embedding, 2 },
        { NULL, "blk.1.attn_q.weight.lora_b: shape {2, 65, 1, 1}, expected {2, 64", wrong_shape,
          2 },
        { NULL, "blk.1.attn_q.weight.lora_a: no kernel for type F64", no_kernel, 2 },
        { NULL, "rank 100, this model's widest product has 96", NULL, 100 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        test_lora lora = {
            .rank = rows[i].rank, .only = "blk.0.attn_k", .arch = rows[i].arch, .more = rows[i].more
        };
        const float scale[2] = { 1 };
        dp_adapter *adapter;
        dp_engine *e;
        dp_error err;
        world w;

        world_open(&w, shape("llama", 0, 0), &lora, NULL);
        e = test_engine(w.model_path, plain);
        CHECK(dp_adapter_open(&adapter, e, w.lora_path[0], &err) && !adapter, "row %zu", i);
        CHECK(strstr(err.text, rows[i].sentence), "row %zu: %s", i, err.text);
        CHECK(dp_adapter_open(&adapter, e, w.model_path, &err) == DP_E_INVALID, "%s", err.text);
        CHECK(dp_adapter_open(&adapter, e, "/nowhere", &err) == DP_E_NOTFOUND ||
                  err.status == DP_E_IO,
              "%s", err.text);
        dp_engine_close(e);
        CHECK(dp_engine_open(&e, w.lora_path[0], NULL, NULL, NULL, &err) == DP_E_UNSUPPORTED &&
                  (strstr(err.text, "a LoRA adapter for") ||
                   strstr(err.text, "an adapter, not a model")),
              "%s", err.text);
        (void)scale;
        world_close(&w);
    }
}

/* The least budget has no room beside one page; it works on without. */
static void no_room_is_said(void **unused)
{
    const test_lora lora = { .rank = 64 };
    char ram[32];
    const test_setting least[TEST_SETTINGS] = { { "ram", ram }, { "ctx", "64" } };
    dp_adapter *adapter;
    dp_session *s;
    dp_engine *e;
    dp_error err;
    world w;

    world_open(&w, shape("llama", 0, 0), &lora, NULL);
    run(&w, plain, NULL, want);
    snprintf(ram, sizeof ram, "%llu", (unsigned long long)plan_of(&w, plain).least_bytes);
    e = test_engine(w.model_path, least);
    CHECK(dp_adapter_open(&adapter, e, w.lora_path[0], &err) == DP_E_BUDGET, "%s", err.text);
    CHECK(strstr(err.text, "--ram"), "%s", err.text);
    s = test_session(e, none);
    eval(s, found);
    CHECK(memcmp(found, want, sizeof want) == 0, "bits differ");
    dp_session_close(s);
    dp_engine_close(e);
    world_close(&w);
}

/* ---- lifetimes ---- */

static void closing_gives_everything_back(void **unused)
{
    const test_lora loras[] = { { .rank = 4 }, { .rank = 16 } };
    const float scale[2] = { 1, 1 };
    dp_stats before, during, after;
    dp_mem_stats first, last;
    dp_session *s;
    dp_engine *e;
    dp_error err;
    world w;
    used u;

    world_open(&w, shape("llama", 6, 2), &loras[0], &loras[1]);
    e = test_engine(w.model_path, plain);
    s = test_session(e, none);
    run(&w, plain, scale, want);
    for (int i = 0; i < 20; i++) {
        dp_engine_stats(e, &before);
        dp_mem_stats_read(i < 2 ? &first : &last);
        CHECK_OK(use_open(&u, &w, e, scale, &err), err);
        dp_engine_stats(e, &during);
        CHECK(during.slot_budget_bytes + during.tables_bytes + during.buffer_bytes ==
                      before.slot_budget_bytes + before.tables_bytes + before.buffer_bytes &&
                  during.slot_budget_bytes < before.slot_budget_bytes,
              "the parts add up");
        CHECK_OK(dp_session_set_adapters(s, u.uses, u.count, &err), err);
        eval(s, found);
        CHECK(memcmp(found, want, sizeof want) == 0, "time %d", i);
        CHECK_OK(dp_session_set_adapters(s, NULL, 0, &err), err);
        dp_session_rewind(s, 0);
        use_close(&u);
        dp_engine_stats(e, &after);
        CHECK(after.slot_budget_bytes == before.slot_budget_bytes &&
                  after.pinned_bytes == before.pinned_bytes,
              "what was taken is back");
    }
    CHECK(last.heap_blocks == first.heap_blocks, "%llu blocks, then %llu",
          (unsigned long long)first.heap_blocks, (unsigned long long)last.heap_blocks);
    dp_session_close(s);
    dp_engine_close(e);
    world_close(&w);
}

/* Opens, uses and closes; any status. */
static dp_status try_all(const world *w, dp_engine *e, dp_session *s, dp_error *err)
{
    const float scale[2] = { 1, 1 };
    dp_status st;
    used u;

    dp_session_rewind(s, 0);
    st = use_open(&u, w, e, scale, err);
    if (!st)
        st = dp_session_set_adapters(s, u.uses, u.count, err);
    if (!st)
        st = dp_session_append(s, some_tokens(), TOKENS, err);
    dp_session_set_logits_sink(s, keep_logits, found);
    while (!st && dp_session_pending(s))
        st = dp_engine_step(e, &s, 1, err);
    dp_session_set_adapters(s, NULL, 0, NULL);
    use_close(&u);
    return st;
}

static void failures_are_told_and_leave_nothing(void **unused)
{
    static const dp_fault points[] = { DP_FAULT_MEM, DP_FAULT_READ, DP_FAULT_AIO_READ };
    const test_lora lora = { .rank = 4, .only = "blk.1" };
    const float scale[2] = { 1, 1 };
    char ram[32];
    const test_setting few[TEST_SETTINGS] = {
        { "ram", ram }, { "ctx", "64" }, { "batch", "4" }, { "governor", "off" }
    };
    dp_session *s;
    dp_engine *e;
    dp_error err;
    world w;

    world_open(&w, shape("llama", 3, 1), &lora, NULL);
    run(&w, plain, scale, want);
    tight(ram, &w, 64 << 10);
    e = test_engine(w.model_path, few);
    s = test_session(e, none);
    for (size_t p = 0; p < DP_ARRAY_LEN(points); p++) {
        uint64_t failed = 1;
        for (uint64_t n = 0; failed; n += 1 + n / 40) {
            dp_status st;
            dp_fault_arm(points[p], n, 1);
            st = try_all(&w, e, s, &err);
            failed = dp_fault_disarm(points[p]);
            CHECK(st == DP_OK || failed, "point %zu, visit %llu: %s", p, (unsigned long long)n,
                  err.text);
            if (st == DP_OK)
                CHECK(memcmp(found, want, sizeof want) == 0, "point %zu, visit %llu", p,
                      (unsigned long long)n);
        }
        CHECK_OK(try_all(&w, e, s, &err), err);
        CHECK(memcmp(found, want, sizeof want) == 0, "point %zu", p);
    }
    dp_session_close(s);
    dp_engine_close(e);
    world_close(&w);
}

static int memory_is_free(void **unused)
{
    return test_model_memory_is_free();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_adapter_is_its_merged_weights),
        cmocka_unit_test(a_scale_of_0_changes_no_bit),
        cmocka_unit_test(every_way_gives_the_same_bits),
        cmocka_unit_test(an_adapter_larger_than_what_is_left_works),
        cmocka_unit_test(budgets_change_under_adapters),
        cmocka_unit_test(sessions_with_different_adapters_step_together),
        cmocka_unit_test(adapters_are_changed_between_steps),
        cmocka_unit_test(uses_are_checked),
        cmocka_unit_test(what_is_not_of_the_model_is_refused),
        cmocka_unit_test(no_room_is_said),
        cmocka_unit_test(closing_gives_everything_back),
        cmocka_unit_test(failures_are_told_and_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, memory_is_free);
}
