/* Metadata -> dimensions: defaults, per-layer arrays, and every contradiction. */
#include "format/hparams.h"

#include "base/buf.h"
#include "testing/check.h"
#include "testing/gguf_writer.h"

#define ROWS_MAX 4

typedef enum { NOTHING, U32, F32, TEXT, BOOL, LAYERS } kind; /* NOTHING: the key is left out */

struct set {
    const char *key; /* without the architecture; "general.x" as it is */
    kind kind;
    double number;
    const char *text;
    uint32_t layers[3];
};

/* A small mixture of experts. Rows of the tests below replace some of this. */
static const struct set base[] = {
    { "general.architecture", TEXT, 0, "test" },
    { "general.name", TEXT, 0, "a model" },
    { "block_count", U32, 3 },
    { "context_length", U32, 1000 },
    { "embedding_length", U32, 64 },
    { "feed_forward_length", U32, 96 },
    { "attention.head_count", U32, 4 },
    { "attention.head_count_kv", U32, 2 },
    { "attention.layer_norm_rms_epsilon", F32, 1e-5 },
    { "expert_count", U32, 8 },
    { "expert_used_count", U32, 2 },
};

static void put(dp_gguf_writer *w, const char *arch, const struct set *set)
{
    char key[160];

    if (strncmp(set->key, "general.", 8) == 0)
        snprintf(key, sizeof key, "%s", set->key);
    else
        snprintf(key, sizeof key, "%s.%s", arch, set->key);
    switch (set->kind) {
    case NOTHING:
        break;
    case U32:
        dp_gguf_writer_u32(w, key, (uint32_t)set->number);
        break;
    case F32:
        dp_gguf_writer_f32(w, key, (float)set->number);
        break;
    case TEXT:
        dp_gguf_writer_str(w, key, set->text);
        break;
    case BOOL:
        dp_gguf_writer_bool(w, key, set->number != 0);
        break;
    case LAYERS:
        dp_gguf_writer_array(w, key, DP_GGUF_U32, (uint64_t)set->number, set->layers);
        break;
    }
}

/* The base with rows replaced or added, parsed. An `embd` of NULL leaves out
 * the embedding. */
static dp_gguf *make(const struct set *sets, const uint64_t *embd)
{
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    const char *arch = "test";
    bool is_used[ROWS_MAX] = { false };
    dp_gguf *g;
    dp_buf buf;
    dp_error err;

    CHECK(w, "out of memory");
    for (int j = 0; j < ROWS_MAX; j++)
        if (sets[j].key && sets[j].kind == TEXT && !strcmp(sets[j].key, "general.architecture"))
            arch = sets[j].text;
    for (size_t i = 0; i < DP_ARRAY_LEN(base); i++) {
        const struct set *set = &base[i];

        for (int j = 0; j < ROWS_MAX; j++)
            if (sets[j].key && strcmp(sets[j].key, base[i].key) == 0) {
                set = &sets[j];
                is_used[j] = true;
            }
        put(w, arch, set);
    }
    for (int j = 0; j < ROWS_MAX; j++)
        if (sets[j].key && !is_used[j])
            put(w, arch, &sets[j]);
    if (embd)
        dp_gguf_writer_tensor(w, "token_embd.weight", DP_F32, 2, embd, DP_FILL_ZERO, 0);
    dp_buf_init(&buf, 1 << 20);
    CHECK_OK(dp_gguf_writer_header(w, &buf, &err), err);
    dp_gguf_writer_close(w);
    CHECK_OK(
        dp_gguf_parse(&g, "m.gguf", (uint8_t *)buf.bytes, buf.size, (uint64_t)1 << 40, NULL, &err),
        err);
    dp_buf_deinit(&buf);
    return g;
}

static const uint64_t embd_ne[] = { 64, 100 };

#define U(field) offsetof(dp_hparams, field), 'u'
#define F(field) offsetof(dp_hparams, field), 'f'
#define B(field) offsetof(dp_hparams, field), 'b'

/* What a field becomes, given some keys. */
static const struct {
    size_t offset;
    char type;
    double want;
    struct set sets[ROWS_MAX];
} reads[] = {
    { U(layer_count), 3, { { 0 } } },
    { U(context_max), 1000, { { 0 } } },
    { U(embed_dim), 64, { { 0 } } },
    { U(vocab_size), 100, { { 0 } } },
    { U(vocab_size), 100, { { "vocab_size", U32, 99 } } },
    { U(ff_dim[0]), 0, { { 0 } } }, /* all layers are mixtures */
    { U(ff_dim[0]), 96, { { "leading_dense_block_count", U32, 1 } } },
    { U(ff_dim[1]), 0, { { "leading_dense_block_count", U32, 1 } } },
    { U(ff_dim[2]), 96, { { "expert_count", U32, 0 } } },
    { U(ff_dim[1]),
      0,
      { { "expert_count", NOTHING }, { "feed_forward_length", LAYERS, 3, 0, { 8, 0, 9 } } } },
    { U(ff_dim[2]),
      9,
      { { "expert_count", NOTHING }, { "feed_forward_length", LAYERS, 3, 0, { 8, 0, 9 } } } },
    { U(head_count[2]), 4, { { 0 } } },
    { U(head_count[3]), 0, { { 0 } } },
    { U(kv_head_count[2]), 2, { { 0 } } },
    { U(kv_head_count[2]), 4, { { "attention.head_count_kv", NOTHING } } },
    { U(kv_head_count[1]), 1, { { "attention.head_count_kv", LAYERS, 3, 0, { 2, 1, 4 } } } },
    { U(head_count[1]), 8, { { "attention.head_count", LAYERS, 3, 0, { 4, 8, 2 } } } },
    { U(key_dim), 16, { { 0 } } },
    { U(key_dim), 50, { { "attention.key_length", U32, 50 } } },
    { U(value_dim), 16, { { "attention.key_length", U32, 50 } } },
    { U(value_dim), 7, { { "attention.value_length", U32, 7 } } },
    { U(sliding_window), 0, { { 0 } } },
    { U(sliding_window), 128, { { "attention.sliding_window", U32, 128 } } },
    { F(norm_eps), 1e-5f, { { 0 } } },
    { U(rope_dim), 16, { { 0 } } },
    { U(rope_dim), 8, { { "rope.dimension_count", U32, 8 } } },
    { F(rope_base), 10000, { { 0 } } },
    { F(rope_base), 5e5, { { "rope.freq_base", F32, 5e5 } } },
    { F(rope_base), 1e6, { { "rope.freq_base", U32, 1e6 } } },
    { U(rope_scaling), DP_ROPE_NONE, { { 0 } } },
    { U(rope_scaling), DP_ROPE_LINEAR, { { "rope.scaling.factor", F32, 4 } } },
    { U(rope_scaling),
      DP_ROPE_NONE,
      { { "rope.scaling.factor", F32, 4 }, { "rope.scaling.type", TEXT, 0, "none" } } },
    { F(rope_factor),
      1,
      { { "rope.scaling.factor", F32, 4 }, { "rope.scaling.type", TEXT, 0, "none" } } },
    { U(rope_scaling),
      DP_ROPE_YARN,
      { { "rope.scaling.factor", F32, 4 }, { "rope.scaling.type", TEXT, 0, "yarn" } } },
    { F(rope_factor), 4, { { "rope.scaling.factor", F32, 4 } } },
    { U(rope_original_context), 1000, { { 0 } } },
    { U(rope_original_context), 77, { { "rope.scaling.original_context_length", U32, 77 } } },
    { F(yarn_beta_fast), 32, { { 0 } } },
    { F(yarn_beta_slow), 1, { { 0 } } },
    { F(yarn_log_multiplier), 0, { { 0 } } },
    { F(yarn_log_multiplier), 0.5, { { "rope.scaling.yarn_log_multiplier", F32, 0.5 } } },
    { F(rope_attn_factor), 1, { { 0 } } },
    { U(expert_count), 8, { { 0 } } },
    { U(expert_used), 2, { { 0 } } },
    { U(expert_used), 0, { { "expert_count", U32, 0 } } },
    { U(expert_ff_dim), 96, { { 0 } } },
    { U(expert_ff_dim), 0, { { "expert_count", NOTHING } } },
    { U(expert_ff_dim), 40, { { "expert_feed_forward_length", U32, 40 } } },
    { U(expert_ff_dim),
      40,
      { { "expert_feed_forward_length", U32, 40 }, { "feed_forward_length", NOTHING } } },
    { U(expert_shared), 1, { { "expert_shared_count", U32, 1 } } },
    { U(expert_group_count), 0, { { "expert_group_count", U32, 1 } } },
    { U(expert_group_used),
      2,
      { { "expert_group_count", U32, 4 }, { "expert_group_used_count", U32, 2 } } },
    { F(expert_weights_scale), 1, { { 0 } } },
    { F(expert_weights_scale), 2.5, { { "expert_weights_scale", F32, 2.5 } } },
    { B(expert_weights_norm), 0, { { 0 } } },
    { B(expert_weights_norm), 1, { { "expert_weights_norm", BOOL, 1 } } },
    { U(expert_gating), 0, { { 0 } } },
    { U(expert_gating), DP_GATING_SIGMOID, { { "expert_gating_func", U32, 2 } } },
    { U(kv_lora_rank), 32, { { "attention.kv_lora_rank", U32, 32 } } },
    { U(key_dim_mla),
      24,
      { { "attention.key_length_mla", U32, 24 }, { "rope.dimension_count", U32, 8 } } },
};

static void test_reads(void **state)
{
    static dp_hparams hp;

    for (size_t i = 0; i < DP_ARRAY_LEN(reads); i++) {
        dp_gguf *g = make(reads[i].sets, embd_ne);
        const char *at = (const char *)&hp + reads[i].offset;
        double found;
        uint32_t u;
        float f;
        dp_error err;

        CHECK_OK(dp_hparams_read(&hp, g, &err), err);
        memcpy(&u, at, sizeof u);
        memcpy(&f, at, sizeof f);
        found = reads[i].type == 'u' ? u : reads[i].type == 'f' ? (double)f : *(const bool *)at;
        CHECK(found == reads[i].want, "row %zu: found %g, expected %g", i, found, reads[i].want);
        CHECK(strcmp(hp.arch, "test") == 0 && strcmp(hp.name, "a model") == 0, "names");
        dp_gguf_close(g);
    }
}

/* What is refused, with the key that the sentence must name. */
static const struct {
    dp_status want;
    const char *words;
    struct set sets[ROWS_MAX];
} refusals[] = {
    { DP_E_NOTFOUND, "'general.architecture' is missing", { { "general.architecture", NOTHING } } },
    { DP_E_CORRUPT, "'general.architecture' has type u32", { { "general.architecture", U32 } } },
    { DP_E_UNSUPPORTED,
      "'general.architecture' has 0",
      { { "general.architecture", TEXT, 0, "" } } },
    { DP_E_UNSUPPORTED,
      "'general.architecture' has 32",
      { { "general.architecture", TEXT, 0, "abcdefghijklmnopqrstuvwxyz012345" } } },
    { DP_E_NOTFOUND, "'test.block_count' is missing", { { "block_count", NOTHING } } },
    { DP_E_CORRUPT, "'test.block_count' is 0", { { "block_count", U32, 0 } } },
    { DP_E_LIMIT, "'test.block_count' is 1025", { { "block_count", U32, DP_LAYERS_MAX + 1 } } },
    { DP_E_CORRUPT, "'test.block_count' has type f32", { { "block_count", F32, 3 } } },
    { DP_E_NOTFOUND, "'test.context_length'", { { "context_length", NOTHING } } },
    { DP_E_LIMIT, "'test.context_length'", { { "context_length", U32, DP_CONTEXT_MAX + 1.0 } } },
    { DP_E_NOTFOUND, "'test.embedding_length'", { { "embedding_length", NOTHING } } },
    { DP_E_LIMIT, "'test.embedding_length'", { { "embedding_length", U32, DP_DIM_MAX + 1.0 } } },
    { DP_E_CORRUPT, "'test.embedding_length' is 72, but the", { { "embedding_length", U32, 72 } } },
    { DP_E_NOTFOUND, "'test.attention.head_count'", { { "attention.head_count", NOTHING } } },
    { DP_E_CORRUPT, "'test.attention.head_count' is 0", { { "attention.head_count", U32, 0 } } },
    { DP_E_CORRUPT,
      "'test.attention.head_count' is 3, which does not divide embedding_length 64",
      { { "attention.head_count", U32, 3 }, { "attention.head_count_kv", NOTHING } } },
    { DP_E_CORRUPT,
      "'test.attention.head_count_kv' is 3, which does not divide",
      { { "attention.head_count_kv", U32, 3 } } },
    { DP_E_CORRUPT,
      "'test.attention.head_count_kv' is 0",
      { { "attention.head_count_kv", LAYERS, 3, 0, { 2, 2, 0 } } } },
    { DP_E_CORRUPT,
      "'test.attention.head_count_kv' has 2 values for 3 layers",
      { { "attention.head_count_kv", LAYERS, 2, 0, { 2, 2 } } } },
    { DP_E_LIMIT,
      "'test.attention.head_count' is 4, expected 1 to 3",
      { { "attention.key_length", U32, DP_DIM_MAX / 3 } } },
    { DP_E_LIMIT,
      "'test.attention.head_count' is 4, expected 1 to 1",
      { { "attention.value_length", U32, DP_DIM_MAX } } },
    { DP_E_CORRUPT, "'test.attention.key_length' is 0", { { "attention.key_length", U32, 0 } } },
    { DP_E_NOTFOUND,
      "rms_epsilon' is missing",
      { { "attention.layer_norm_rms_epsilon", NOTHING } } },
    { DP_E_CORRUPT, "rms_epsilon' is 0", { { "attention.layer_norm_rms_epsilon", F32, 0 } } },
    { DP_E_CORRUPT,
      "rms_epsilon' is nan",
      { { "attention.layer_norm_rms_epsilon", F32, __builtin_nan("") } } },
    { DP_E_CORRUPT, "'test.rope.freq_base' is inf", { { "rope.freq_base", F32, 1e60 } } },
    { DP_E_CORRUPT, "'test.rope.freq_base' is 1", { { "rope.freq_base", F32, 1 } } },
    { DP_E_CORRUPT, "'test.rope.dimension_count' is 7", { { "rope.dimension_count", U32, 7 } } },
    { DP_E_CORRUPT,
      "'test.rope.dimension_count' is 18, more than",
      { { "rope.dimension_count", U32, 18 } } },
    { DP_E_CORRUPT,
      "'test.rope.dimension_count' is 16, more than the length of a key, 8",
      { { "attention.key_length_mla", U32, 8 } } },
    { DP_E_CORRUPT, "'test.rope.scaling.factor' is -2", { { "rope.scaling.factor", F32, -2 } } },
    { DP_E_UNSUPPORTED,
      "'test.rope.scaling.type' is 'long rope'",
      { { "rope.scaling.type", TEXT, 0, "long\nrope" } } },
    { DP_E_CORRUPT, "'test.rope.scaling.type' has type u32", { { "rope.scaling.type", U32, 1 } } },
    { DP_E_NOTFOUND,
      "'test.feed_forward_length' is missing",
      { { "feed_forward_length", NOTHING }, { "expert_count", U32, 0 } } },
    { DP_E_NOTFOUND,
      "'test.feed_forward_length' is missing",
      { { "feed_forward_length", NOTHING }, { "leading_dense_block_count", U32, 1 } } },
    { DP_E_NOTFOUND,
      "'test.expert_feed_forward_length' is missing",
      { { "feed_forward_length", NOTHING } } },
    { DP_E_CORRUPT,
      "'test.leading_dense_block_count' is 4, but block_count is 3",
      { { "leading_dense_block_count", U32, 4 } } },
    { DP_E_LIMIT, "'test.expert_count'", { { "expert_count", U32, DP_EXPERTS_MAX + 1 } } },
    { DP_E_CORRUPT, "'test.expert_used_count' is 0", { { "expert_used_count", NOTHING } } },
    { DP_E_CORRUPT, "'test.expert_used_count' is 9", { { "expert_used_count", U32, 9 } } },
    { DP_E_LIMIT, "'test.expert_used_count' is 65", { { "expert_used_count", U32, 65 } } },
    { DP_E_LIMIT,
      "'test.expert_shared_count' is 2, expected 0 to 1",
      { { "expert_feed_forward_length", U32, DP_DIM_MAX }, { "expert_shared_count", U32, 2 } } },
    { DP_E_CORRUPT, "'test.expert_group_count' is 3", { { "expert_group_count", U32, 3 } } },
    { DP_E_CORRUPT,
      "'test.expert_group_used_count' is 0, but expert_group_count is 4",
      { { "expert_group_count", U32, 4 } } },
    { DP_E_CORRUPT,
      "'test.expert_group_used_count' is 5",
      { { "expert_group_count", U32, 4 }, { "expert_group_used_count", U32, 5 } } },
    { DP_E_CORRUPT,
      "too few to choose expert_used_count = 2",
      { { "expert_group_count", U32, 8 }, { "expert_group_used_count", U32, 1 } } },
    { DP_E_UNSUPPORTED, "'test.expert_gating_func' is 4", { { "expert_gating_func", U32, 4 } } },
    { DP_E_CORRUPT, "'test.expert_weights_norm' has type", { { "expert_weights_norm", U32, 1 } } },
    { DP_E_CORRUPT, "'test.expert_weights_scale' is 0", { { "expert_weights_scale", F32, 0 } } },
    { DP_E_CORRUPT, "'test.vocab_size' is 101, more than", { { "vocab_size", U32, 101 } } },
    { DP_E_CORRUPT, "'general.name' has type u32", { { "general.name", U32, 1 } } },
};

static void test_refusals(void **state)
{
    static dp_hparams hp, zero;

    for (size_t i = 0; i < DP_ARRAY_LEN(refusals); i++) {
        dp_gguf *g = make(refusals[i].sets, embd_ne);
        dp_error err = { 0 };
        dp_status st = dp_hparams_read(&hp, g, &err);

        CHECK(st == refusals[i].want, "row %zu (%s): %d %s", i, refusals[i].words, st, err.text);
        CHECK(strstr(err.text, refusals[i].words), "row %zu: '%s' lacks '%s'", i, err.text,
              refusals[i].words);
        CHECK(memcmp(&hp, &zero, sizeof hp) == 0, "row %zu leaves something behind", i);
        dp_gguf_close(g);
    }
}

static void test_embedding(void **state)
{
    static const struct set none[ROWS_MAX];
    static const uint64_t huge[] = { 64, DP_VOCAB_MAX + 1 };
    static dp_hparams hp;
    dp_gguf *g;
    dp_error err;

    g = make(none, NULL);
    CHECK(dp_hparams_read(&hp, g, &err) == DP_E_NOTFOUND, "no embedding");
    CHECK(strstr(err.text, "'token_embd.weight' is missing"), "%s", err.text);
    dp_gguf_close(g);
    g = make(none, huge);
    CHECK(dp_hparams_read(&hp, g, &err) == DP_E_LIMIT, "too many rows");
    CHECK(strstr(err.text, "'token_embd.weight' has 16777217 rows"), "%s", err.text);
    dp_gguf_close(g);
}

/* Names from a file are shown on terminals: cut between characters, no controls. */
static void test_names(void **state)
{
    char text[200], want[128];
    struct set sets[ROWS_MAX] = { { "general.name", TEXT, 0, text } };
    static dp_hparams hp;
    dp_gguf *g;
    dp_error err;

    memset(text, 'a', sizeof text);
    memcpy(text, "x\x1b[2J\n", 6);
    memcpy(text + 126, "\xc3\xa9", 3); /* one character over the last byte and past it */
    memset(want, 'a', sizeof want);
    memcpy(want, "x [2J ", 6);
    want[126] = '\0';
    g = make(sets, embd_ne);
    CHECK_OK(dp_hparams_read(&hp, g, &err), err);
    CHECK(strcmp(hp.name, want) == 0, "'%s'", hp.name);
    dp_gguf_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
