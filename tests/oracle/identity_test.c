/* identity_test.c - placement changes speed, never results.
 *
 * Logits of a prompt and of steps after it are computed once in the plainest way
 * (all weights held, one thread, reference kernels) and must come out
 * bit for bit the same however else they are computed.
 */
#include <stdlib.h>
#include <unistd.h>
#include "play.h"
#include "testing/check.h"

#define PROMPT_TOKENS   150 /* no multiple of a batch below */
#define STEP_TOKENS     6
#define ALL_TOKENS      (PROMPT_TOKENS + STEP_TOKENS)
#define OTHER_TOKENS    40
#define CONTEXT         "256"
#define EVERYTHING      "256MiB"
#define BUDGETS         7 /* from the least that runs to one that holds everything */
#define BUDGET_TEXT_MAX 24

typedef struct model {
    const char *name, *path, *kv_type;
    uint32_t vocab;
    float *plain; /* [ALL_TOKENS][vocab] */
} model;

static model models[] = {
    { "demo-q4_0", "models/demo-q4_0.gguf", "f16", 4096, NULL },
    { "mixtral-bf16", "tests/oracle/mixtral/mixtral-bf16.gguf", "f16", 1024, NULL },
    { "mixtral-q4_0", "tests/oracle/mixtral/mixtral-q4_0.gguf", "f16", 1024, NULL },
    { "qwen3moe-q8_0", "tests/oracle/qwen3moe/qwen3moe-q8_0.gguf", "f16", 1024, NULL },
    { "gptoss-mxfp4", "tests/oracle/gptoss/gptoss-mxfp4.gguf", "f16", 448, NULL },
    { "deepseek3-bf16", "tests/oracle/deepseek3/deepseek3-bf16.gguf", "f16", 1024, NULL },
    { "gptoss-mxfp4, kv f32", "tests/oracle/gptoss/gptoss-mxfp4.gguf", "f32", 448, NULL },
    { "deepseek3-bf16, kv f32", "tests/oracle/deepseek3/deepseek3-bf16.gguf", "f32", 1024, NULL },
};
#define MODEL_COUNT (sizeof models / sizeof models[0])

static const play_setting plain_settings[PLAY_SETTINGS_MAX] = {
    { "ram", EVERYTHING },
    { "threads", "1" },
    { "kernels", "ref" },
    { "ctx", CONTEXT },
};

/* Options with settings, and keys and values as this row of models has them. */
static dp_options *options_of(const model *m, const play_setting *settings)
{
    dp_options *options = play_options(settings);
    dp_error err = { 0 };

    CHECK_OK(dp_options_set(options, "kv-type", m->kv_type, &err), err);
    return options;
}

/* Any ids will do: what is compared is doppler with itself. */
static void make_tokens(dp_token *tokens, uint32_t count, uint32_t vocab, uint32_t seed)
{
    uint32_t x = seed;

    for (uint32_t i = 0; i < count; i++) {
        x = x * 1664525u + 1013904223u;
        tokens[i] = (dp_token)((x >> 8) % vocab);
    }
}

/* A prompt at once, then tokens one by one. */
static void play_all(dp_engine *engine, const model *m, float *out)
{
    dp_token tokens[ALL_TOKENS];
    play_recorder r;
    dp_session *session;

    make_tokens(tokens, ALL_TOKENS, m->vocab, 1);
    play_recorder_init(&r, m->vocab, ALL_TOKENS);
    session = play_session(engine, &r);
    play_tokens(session, tokens, PROMPT_TOKENS);
    for (uint32_t i = PROMPT_TOKENS; i < ALL_TOKENS; i++)
        play_tokens(session, &tokens[i], 1);
    CHECK(r.count == ALL_TOKENS, "%u rows", r.count);
    memcpy(out, r.logits, (size_t)ALL_TOKENS * m->vocab * sizeof *out);
    dp_session_close(session);
    play_recorder_deinit(&r);
}

static void check_same(const model *m, const float *logits, uint32_t count, const char *how)
{
    for (uint32_t i = 0; i < count; i++) {
        const float *mine = logits + (size_t)i * m->vocab, *plain = m->plain + (size_t)i * m->vocab;
        for (uint32_t j = 0; j < m->vocab; j++)
            CHECK(memcmp(&mine[j], &plain[j], sizeof *mine) == 0,
                  "%s, %s: logit %u of position %u is %.9g, plainly %.9g", m->name, how, j, i,
                  mine[j], plain[j]);
    }
}

static void describe(char *out, size_t size, const play_setting *settings)
{
    size_t at = 0;

    out[0] = '\0';
    for (int i = 0; i < PLAY_SETTINGS_MAX && settings[i].name && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s--%s %s", i ? " " : "", settings[i].name,
                               settings[i].value);
}

/* Cold, then again on the same engine with what it holds now. */
static void check_settings(const model *m, const play_setting *settings)
{
    dp_options *options = options_of(m, settings);
    dp_engine *engine = play_open(m->path, options);
    float *logits = malloc((size_t)ALL_TOKENS * m->vocab * sizeof *logits);
    char how[200], again[216];

    CHECK(logits, "no memory");
    describe(how, sizeof how, settings);
    play_all(engine, m, logits);
    check_same(m, logits, ALL_TOKENS, how);
    snprintf(again, sizeof again, "%s, second time", how);
    play_all(engine, m, logits);
    check_same(m, logits, ALL_TOKENS, again);
    free(logits);
    dp_engine_close(engine);
    dp_options_close(options);
}

/* Adds --ram to settings: what the plan says is the least for them, and `share`
 * (0 to 1) of the weights on top. text: [BUDGET_TEXT_MAX], kept by the caller. */
static void set_budget(const model *m, play_setting settings[PLAY_SETTINGS_MAX], double share,
                       char text[BUDGET_TEXT_MAX])
{
    dp_options *options = options_of(m, settings);
    dp_inspect *inspect = NULL;
    dp_plan_info plan;
    dp_model_info info;
    dp_error err = { 0 };
    int i = 0;

    CHECK_OK(dp_inspect_open(&inspect, m->path, &err), err);
    CHECK_OK(dp_inspect_plan(inspect, options, &plan, &err), err);
    dp_inspect_model(inspect, &info);
    CHECK(plan.least_bytes > 0, "%s: a least budget of nothing", m->name);
    snprintf(
        text, BUDGET_TEXT_MAX, "%llu",
        (unsigned long long)(plan.least_bytes + (uint64_t)(share * (double)info.tensor_bytes)));
    dp_inspect_close(inspect);
    dp_options_close(options);

    while (settings[i].name)
        i++;
    CHECK(i < PLAY_SETTINGS_MAX, "too many settings");
    settings[i] = (play_setting){ "ram", text };
}

static int setup_model(void **state)
{
    model *m = *state;
    dp_options *options;
    dp_engine *engine;

    if (m->plain)
        return 0;
    options = options_of(m, plain_settings);
    engine = play_open(m->path, options);
    m->plain = malloc((size_t)ALL_TOKENS * m->vocab * sizeof *m->plain);
    CHECK(m->plain, "no memory");
    play_all(engine, m, m->plain);
    dp_engine_close(engine);
    dp_options_close(options);
    return 0;
}

static void test_budgets(void **state)
{
    static const char *const policies[] = { "lru", "auto" };
    const model *m = *state;

    for (uint32_t i = 0; i < BUDGETS * 2; i++) {
        play_setting settings[PLAY_SETTINGS_MAX] = { { "ctx", CONTEXT },
                                                     { "threads", i & 1 ? "1" : "2" },
                                                     { "policy", policies[i / BUDGETS] } };
        char ram[BUDGET_TEXT_MAX];

        set_budget(m, settings, (double)(i % BUDGETS) / (BUDGETS - 1), ram);
        check_settings(m, settings);
    }
}

static void test_threads_and_batches(void **state)
{
    static const char *const threads[] = { "1", "2", "3" };
    static const char *const batches[] = { "1", "7", "64", "512" };
    const model *m = *state;

    for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++)
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
            const play_setting settings[PLAY_SETTINGS_MAX] = { { "ctx", CONTEXT },
                                                               { "ram", EVERYTHING },
                                                               { "threads", threads[t] },
                                                               { "batch", batches[b] } };
            check_settings(m, settings);
        }
}

/* Opens and closes; false, with the reason told, where this system can't. Some
 * kernels forbid io_uring, some file systems direct reads, some processors AVX-512. */
static bool can_open(const model *m, const play_setting *settings)
{
    dp_options *options = options_of(m, settings);
    dp_engine *engine = NULL;
    dp_error err = { 0 };
    dp_status st = dp_engine_open(&engine, m->path, options, NULL, NULL, &err);
    char how[200];

    dp_engine_close(engine);
    dp_options_close(options);
    describe(how, sizeof how, settings);
    CHECK(st == DP_OK || st == DP_E_UNSUPPORTED || st == DP_E_IO, "%s, %s: %s", m->name, how,
          err.text);
    if (st)
        printf("SKIP %s with %s: %s\n", m->name, how, err.text);
    return st == DP_OK;
}

/* How bytes reach memory, with a budget that makes them be read again and again. */
static void test_reads(void **state)
{
    static const char *const engines[] = { "io_uring", "threads" };
    static const char *const ways[] = { "direct", "buffered" };
    static const char *const requests[] = { "64KiB", "1MiB" };
    const model *m = *state;

    for (int i = 0; i < 8; i++) {
        play_setting settings[PLAY_SETTINGS_MAX] = { { "ctx", CONTEXT },
                                                     { "io-engine", engines[i & 1] },
                                                     { "io", ways[i >> 1 & 1] },
                                                     { "io-request", requests[i >> 2] },
                                                     { "io-depth", i & 1 ? "1" : "16" } };
        char ram[BUDGET_TEXT_MAX];

        set_budget(m, settings, 0.2, ram);
        if (can_open(m, settings))
            check_settings(m, settings);
    }
}

static void test_kernels(void **state)
{
    static const char *const kernels[] = { "x86.avx2", "x86.avx512", "x86.avx512vnni",
                                           "x86.avx512vbmi" };
    const model *m = *state;

    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        const play_setting settings[PLAY_SETTINGS_MAX] = { { "ctx", CONTEXT },
                                                           { "ram", EVERYTHING },
                                                           { "kernels", kernels[i] } };

        if (can_open(m, settings))
            check_settings(m, settings);
    }
}

/* Steps both sessions until nothing is pending in either. */
static void step_together(dp_engine *engine, dp_session *a, dp_session *b)
{
    dp_session *both[2] = { a, b };
    dp_error err = { 0 };

    while (dp_session_pending(a) || dp_session_pending(b))
        CHECK_OK(dp_engine_step(engine, both, 2, &err), err);
}

/* A stranger's tokens in the same passes, longer and shorter than ours. */
static void check_company(const model *m, double share, const char *batch)
{
    play_setting settings[PLAY_SETTINGS_MAX] = { { "ctx", CONTEXT },
                                                 { "sessions", "2" },
                                                 { "batch", batch } };
    char ram[BUDGET_TEXT_MAX];
    dp_token tokens[ALL_TOKENS], others[OTHER_TOKENS];
    dp_options *options;
    dp_engine *engine;
    dp_session *mine, *other;
    play_recorder r, r_other;
    dp_error err = { 0 };

    set_budget(m, settings, share, ram);
    options = options_of(m, settings);
    engine = play_open(m->path, options);

    make_tokens(tokens, ALL_TOKENS, m->vocab, 1);
    make_tokens(others, OTHER_TOKENS, m->vocab, 2);
    play_recorder_init(&r, m->vocab, ALL_TOKENS);
    play_recorder_init(&r_other, m->vocab, OTHER_TOKENS);
    mine = play_session(engine, &r);
    other = play_session(engine, &r_other);

    CHECK_OK(dp_session_append(other, others, OTHER_TOKENS - STEP_TOKENS, &err), err);
    CHECK_OK(dp_session_append(mine, tokens, PROMPT_TOKENS, &err), err);
    step_together(engine, other, mine);
    for (uint32_t i = 0; i < STEP_TOKENS; i++) {
        CHECK_OK(dp_session_append(mine, &tokens[PROMPT_TOKENS + i], 1, &err), err);
        CHECK_OK(dp_session_append(other, &others[OTHER_TOKENS - STEP_TOKENS + i], 1, &err), err);
        step_together(engine, mine, other);
    }
    CHECK(r.count == ALL_TOKENS && r_other.count == OTHER_TOKENS, "%u and %u rows", r.count,
          r_other.count);
    check_same(m, r.logits, ALL_TOKENS, "two sessions together");

    dp_session_close(mine);
    dp_session_close(other);
    play_recorder_deinit(&r);
    play_recorder_deinit(&r_other);
    dp_engine_close(engine);
    dp_options_close(options);
}

static void test_sessions(void **state)
{
    const model *m = *state;

    check_company(m, 1, "64");
    check_company(m, 0.4, "7");
    check_company(m, 0, "512");
}

/* Going back and taking the same way again, in other steps. */
static void test_rewind(void **state)
{
    const model *m = *state;
    const play_setting settings[PLAY_SETTINGS_MAX] = { { "ctx", CONTEXT }, { "ram", EVERYTHING } };
    dp_token tokens[ALL_TOKENS], others[OTHER_TOKENS];
    dp_options *options = options_of(m, settings);
    dp_engine *engine = play_open(m->path, options);
    dp_session *session;
    dp_error err = { 0 };
    const float *logits;

    make_tokens(tokens, ALL_TOKENS, m->vocab, 1);
    make_tokens(others, OTHER_TOKENS, m->vocab, 3);
    CHECK_OK(dp_session_open(&session, engine, NULL, &err), err);
    play_tokens(session, tokens, 75);
    play_tokens(session, others, OTHER_TOKENS);
    CHECK_OK(dp_session_sync(session, tokens, 101, &err), err);
    CHECK(dp_session_pending(session) == 26, "%u pending, 75 of 101 are common",
          dp_session_pending(session));
    CHECK_OK(dp_session_eval(session, &err), err);
    dp_session_rewind(session, 90);
    play_tokens(session, tokens + 90, 30);
    logits = dp_session_logits(session);
    CHECK(logits, "no logits");
    CHECK(memcmp(logits, m->plain + (size_t)119 * m->vocab, m->vocab * sizeof *logits) == 0,
          "%s: other logits after going back", m->name);
    dp_session_close(session);
    dp_engine_close(engine);
    dp_options_close(options);
}

/* Usage: identity_test ROOT, the folder with models/ and tests/. */
int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        CMUnitTestFunction run;
        bool is_of_weights; /* alone: how keys and values are kept cannot matter */
    } rows[] = {
        { "budgets", test_budgets, true },
        { "threads and batches", test_threads_and_batches, false },
        { "reads", test_reads, true },
        { "kernels", test_kernels, false },
        { "sessions", test_sessions, false },
        { "rewind", test_rewind, false },
    };
    enum { ROW_COUNT = sizeof rows / sizeof rows[0] };
    struct CMUnitTest tests[MODEL_COUNT * ROW_COUNT] = { 0 };
    static char names[MODEL_COUNT * ROW_COUNT][64];
    size_t n = 0;
    int failed;

    if (argc != 2 || chdir(argv[1]) != 0) {
        fprintf(stderr, "usage: identity_test ROOT\n");
        return 2;
    }
    for (size_t i = 0; i < MODEL_COUNT; i++)
        for (size_t j = 0; j < ROW_COUNT; j++) {
            if (rows[j].is_of_weights && strcmp(models[i].kv_type, "f16") != 0)
                continue;
            snprintf(names[n], sizeof names[n], "%s of %s", rows[j].name, models[i].name);
            tests[n] = (struct CMUnitTest){ names[n], rows[j].run, setup_model, NULL, &models[i] };
            n++;
        }
    failed = cmocka_run_group_tests(tests, NULL, NULL); /* passes over what is left empty */
    for (size_t i = 0; i < MODEL_COUNT; i++)
        free(models[i].plain);
    return failed;
}
