/* With drafts and without: the same tokens, texts, calls, ends and logits, whatever is drawn,
 * stopped or cancelled; alone and beside others. A random model repeats itself soon. */
#include "base/fault.h"
#include "base/map.h"
#include "engine/engine.h"
#include "engine/engine_testing.h"

#define VOCAB    (TEST_MODEL_PIECES + 24)
#define CONTEXT  128
#define PROMPT   24
#define SESSIONS 3

static char path[] = "/tmp/doppler-speculation-XXXXXX";
static const char *const drafts[] = { "off", "1", "3", "16", "64", "auto" };

static const char *const pieces[] = { "a", "bc", "de",  "f",  "gh", "ij", "k",  "lm",
                                      "n", "op", "qr",  "s",  "tu", "vw", "xy", "z",
                                      "0", "12", "345", "67", "8",  "9",  "..", "!" };

/* A control token is one of them. */
static const dp_token round_trip[] = { 259, 260, 261, 1, 262, 263, 70, 264, 265, 266, 267 };
#define PULL 3

static int make_model(void **unused)
{
    test_model m = { .layers = 2,
                     .dim = 32,
                     .heads = 4,
                     .kv_heads = 2,
                     .head_dim = 8,
                     .ff = 48,
                     .vocab = VOCAB,
                     .context = 256,
                     .experts = 4,
                     .used = 2,
                     .pieces = pieces,
                     .piece_count = DP_ARRAY_LEN(pieces) };

    test_model_make(&m, 3);
    /* Each token of the round_trip makes the next one likely, what is random makes it unsure. */
    for (uint32_t n = 0; n < DP_ARRAY_LEN(round_trip); n++) {
        const float *x =
            test_model_find(&m, "token_embd.weight")->data + (size_t)round_trip[n] * m.dim;
        float *y = test_model_find(&m, "output.weight")->data +
                   (size_t)round_trip[(n + 1) % DP_ARRAY_LEN(round_trip)] * m.dim;
        for (uint32_t i = 0; i < m.dim; i++)
            y[i] += PULL * x[i];
    }
    test_model_save(&m, path);
    test_model_free(&m);
    return 0;
}

static int remove_model(void **unused)
{
    return unlink(path) || test_model_memory_is_free();
}

static dp_engine *open_engine(const char *speculate)
{
    const test_setting settings[TEST_SETTINGS] = {
        { "ram", "64MiB" }, { "ctx", "128" },           { "sessions", "3" },
        { "threads", "1" }, { "speculate", speculate },
    };

    return test_engine(path, settings);
}

/* Everything a reader of a generation can see. */
struct seen {
    dp_engine *engine;
    char text[4096];
    size_t size;
    uint32_t calls, cancel_at; /* this call returns false ... */
    bool by_engine;            /* ... or cancels the engine */
    dp_finish finish[2];
    dp_token tokens[CONTEXT];
    uint32_t count;
    float logits[VOCAB];
};

static bool see(struct seen *s, const char *text, size_t size)
{
    CHECK(s->size + size + 1 < sizeof s->text, "too much text");
    memcpy(s->text + s->size, text, size);
    s->size += size;
    s->text[s->size++] = '\n'; /* where a call ends shows, too */
    if (++s->calls != s->cancel_at)
        return true;
    if (s->by_engine)
        dp_engine_cancel(s->engine);
    return s->by_engine;
}

static bool on_text(void *user, const char *text, size_t size)
{
    return see(user, text, size);
}

static bool on_control(void *user, dp_token token)
{
    char name[16];

    return see(user, name, (size_t)snprintf(name, sizeof name, "[%d]", token));
}

/* How a text is made. */
static const struct row {
    const char *name;
    test_setting sampling[TEST_SETTINGS];
    uint32_t max_tokens;
    const char *stop;
    bool stops_at_end;
} rows[] = {
    { "greedy", { { "temp", "0" } }, 60, NULL, false },
    { "until the context is full", { { "temp", "0" } }, 0, NULL, false },
    { "one token", { { "temp", "0" } }, 1, NULL, false },
    { "two tokens", { { "temp", "0" } }, 2, NULL, false },
    { "drawn", { { "temp", "0.3" }, { "seed", "7" } }, 60, NULL, false },
    { "another seed", { { "temp", "0.3" }, { "seed", "8" } }, 60, NULL, false },
    { "hot", { { "temp", "1.5" }, { "seed", "9" }, { "top-k", "0" } }, 60, NULL, false },
    { "penalties",
      { { "temp", "0.2" },
        { "seed", "5" },
        { "repeat-penalty", "1.02" },
        { "frequency-penalty", "0.01" },
        { "penalty-window", "8" } },
      80,
      NULL,
      false },
    { "greedy with penalties",
      { { "temp", "0" }, { "presence-penalty", "0.05" }, { "penalty-window", "16" } },
      80,
      NULL,
      false },
    { "a stop string", { { "temp", "0.3" }, { "seed", "7" } }, 60, "8", false },
    { "a stop token", { { "temp", "2" }, { "seed", "3" }, { "top-k", "0" } }, 0, NULL, true },
};

/* One text, and what is left to go on with. */
static void run(const struct row *row, const char *speculate, uint32_t cancel_at, bool by_engine,
                struct seen *out, dp_stats *stats)
{
    dp_engine *engine = open_engine(speculate);
    dp_session *s = test_session(engine, row->sampling);
    dp_generate how = { .max_tokens = row->max_tokens,
                        .stops = &row->stop,
                        .stop_count = row->stop ? 1 : 0,
                        .ignores_stop_tokens = !row->stops_at_end,
                        .on_text = on_text,
                        .on_control = on_control,
                        .user = out };
    dp_token prompt[PROMPT];
    dp_error err;

    memset(out, 0, sizeof *out);
    out->engine = engine;
    out->cancel_at = cancel_at;
    out->by_engine = by_engine;
    for (uint32_t t = 0; t < PROMPT; t++)
        prompt[t] = round_trip[t % DP_ARRAY_LEN(round_trip)];
    CHECK_OK(dp_session_append(s, prompt, PROMPT, &err), err);
    CHECK_OK(dp_session_generate(s, &how, &out->finish[0], &err), err);
    how.max_tokens = 9; /* goes on where it ended, if it can */
    CHECK_OK(dp_session_generate(s, &how, &out->finish[1], &err), err);
    dp_session_rewind(s, dp_session_count(s) - 3);
    CHECK_OK(dp_session_eval(s, &err), err);
    out->count = dp_session_count(s);
    memcpy(out->tokens, dp_session_tokens(s), out->count * sizeof *out->tokens);
    memcpy(out->logits, dp_session_logits(s), sizeof out->logits);
    dp_engine_stats(engine, stats);
    out->engine = NULL;
    dp_session_close(s);
    dp_engine_close(engine);
}

static void drafts_change_nothing(void **unused)
{
    static struct seen want, found;
    uint64_t accepted = 0, rejected = 0;

    for (size_t r = 0; r < DP_ARRAY_LEN(rows); r++)
        for (size_t d = 0; d < DP_ARRAY_LEN(drafts); d++) {
            dp_stats stats;
            run(&rows[r], drafts[d], 0, false, d ? &found : &want, &stats);
            CHECK(d || !stats.draft_tokens, "%s: drafts although off", rows[r].name);
            CHECK(d == 0 || memcmp(&want, &found, sizeof want) == 0,
                  "%s, drafts of %s: %u tokens \"%s\", expected %u \"%s\"", rows[r].name, drafts[d],
                  found.count, found.text, want.count, want.text);
            CHECK(stats.draft_accepted <= stats.draft_tokens, "%s", rows[r].name);
            accepted += stats.draft_accepted;
            rejected += stats.draft_tokens - stats.draft_accepted;
        }
    CHECK(accepted > 500 && rejected > 500, "%d right, %d wrong: nothing was tested", (int)accepted,
          (int)rejected);
}

/* At each call in turn, by its answer and from outside. */
static void a_cancel_in_a_draft_ends_as_without(void **unused)
{
    static struct seen want, found;

    for (uint32_t at = 1; at < 60; at += 2)
        for (int by_engine = 0; by_engine < 2; by_engine++) {
            dp_stats stats;
            run(&rows[0], "off", at, by_engine, &want, &stats);
            run(&rows[0], "16", at, by_engine, &found, &stats);
            CHECK(memcmp(&want, &found, sizeof want) == 0,
                  "call %u: finish %d and %d, %u tokens, expected %d and %d, %u", at,
                  found.finish[0], found.finish[1], found.count, want.finish[0], want.finish[1],
                  want.count);
            CHECK(want.calls < at || want.finish[0] == DP_FINISH_CANCELED ||
                      want.finish[1] == DP_FINISH_CANCELED,
                  "call %u: not canceled", at);
        }
}

/* Three timelines stepped together, as a server does it. */
static void play_together(const char *speculate, dp_token (*out)[CONTEXT], float (*logits)[VOCAB],
                          dp_stats *stats)
{
    static const char *const temps[SESSIONS] = { "0", "0.3", "0.6" };
    dp_engine *engine = open_engine(speculate);
    dp_session *s[SESSIONS];
    dp_error err;

    for (uint32_t i = 0; i < SESSIONS; i++) {
        const test_setting sampling[TEST_SETTINGS] = { { "temp", temps[i] }, { "seed", "4" } };
        dp_token prompt[PROMPT];
        s[i] = test_session(engine, sampling);
        for (uint32_t t = 0; t < PROMPT; t++)
            prompt[t] = round_trip[(i + t) % DP_ARRAY_LEN(round_trip)];
        CHECK_OK(dp_session_append(s[i], prompt, PROMPT - 3 * i, &err), err);
    }
    for (bool is_done = false; !is_done;) {
        CHECK_OK(dp_engine_step(engine, s, SESSIONS, &err), err);
        is_done = true;
        for (uint32_t i = 0; i < SESSIONS; i++) {
            dp_token token;
            is_done = is_done && dp_session_count(s[i]) == CONTEXT && !dp_session_pending(s[i]);
            if (dp_session_pending(s[i]) || dp_session_count(s[i]) == CONTEXT)
                continue;
            CHECK_OK(dp_session_sample(s[i], &token, &err), err);
            CHECK_OK(dp_session_append(s[i], &token, 1, &err), err);
        }
    }
    for (uint32_t i = 0; i < SESSIONS; i++) {
        memcpy(out[i], dp_session_tokens(s[i]), sizeof *out);
        memcpy(logits[i], dp_session_logits(s[i]), sizeof *logits);
        dp_session_close(s[i]);
    }
    dp_engine_stats(engine, stats);
    dp_engine_close(engine);
}

static void sessions_draft_together(void **unused)
{
    static dp_token want[SESSIONS][CONTEXT], found[SESSIONS][CONTEXT];
    static float want_logits[SESSIONS][VOCAB], logits[SESSIONS][VOCAB];
    dp_stats plain, stats;

    play_together("off", want, want_logits, &plain);
    for (size_t d = 1; d < DP_ARRAY_LEN(drafts); d++) {
        play_together(drafts[d], found, logits, &stats);
        CHECK(memcmp(want, found, sizeof want) == 0, "drafts of %s: other tokens", drafts[d]);
        CHECK(memcmp(want_logits, logits, sizeof logits) == 0, "drafts of %s: other bits",
              drafts[d]);
        CHECK(plain.prompt_tokens + plain.decode_tokens ==
                  stats.prompt_tokens + stats.decode_tokens,
              "drafts of %s: %d tokens counted", drafts[d], (int)stats.decode_tokens);
        CHECK(stats.draft_accepted || d + 1 == DP_ARRAY_LEN(drafts), "drafts of %s: none right",
              drafts[d]);
    }
}

/* Several tokens that were guessed, and then others, appended at once. */
static void appending_takes_what_was_guessed(void **unused)
{
    const test_setting greedy[TEST_SETTINGS] = { { "temp", "0" } };
    dp_engine *engine = open_engine("8");
    dp_session *s = test_session(engine, greedy);
    dp_token text[40];
    float want[VOCAB];
    dp_error err;

    for (uint32_t t = 0; t < DP_ARRAY_LEN(text); t++)
        text[t] = (dp_token)(10 + t % 5);
    text[25] = 99;
    CHECK_OK(dp_session_append(s, text, 26, &err), err);
    CHECK_OK(dp_session_eval(s, &err), err);
    memcpy(want, dp_session_logits(s), sizeof want);
    dp_session_rewind(s, 0);
    CHECK_OK(dp_session_append(s, text, 20, &err), err);
    CHECK_OK(dp_session_eval(s, &err), err);
    CHECK_OK(dp_session_append(s, text + 20, 1, &err), err);
    CHECK_OK(dp_session_eval(s, &err), err);
    CHECK_OK(dp_session_append(s, text + 21, 2, &err), err);
    CHECK(dp_session_pending(s) == 0 && dp_session_logits(s), "two as guessed");
    CHECK_OK(dp_session_append(s, text + 23, 3, &err), err);
    CHECK(dp_session_pending(s) == 1 && !dp_session_logits(s), "two as guessed, one not");
    CHECK_OK(dp_session_eval(s, &err), err);
    CHECK(memcmp(want, dp_session_logits(s), sizeof want) == 0, "other bits");
    /* What was guessed under other adapters is not taken. */
    dp_session_rewind(s, 20);
    CHECK_OK(dp_session_eval(s, &err), err);
    CHECK_OK(dp_session_append(s, text + 20, 1, &err), err);
    CHECK_OK(dp_session_eval(s, &err), err);
    CHECK(s->guessed > 0, "no guesses");
    CHECK_OK(dp_session_set_adapters(s, NULL, 0, &err), err);
    CHECK_OK(dp_session_append(s, text + 21, 1, &err), err);
    CHECK(dp_session_pending(s) == 1, "a guess of before");
    dp_session_close(s);
    dp_engine_close(engine);
}

/* Under the least budget every step reads; each read fails once. The timeline goes on. */
static void failed_reads_lose_no_token(void **unused)
{
    static struct seen want;
    const test_setting greedy[TEST_SETTINGS] = { { "temp", "0" } };
    test_setting settings[TEST_SETTINGS] = { { "ram", "1" },     { "ctx", "128" },
                                             { "threads", "1" }, { "speculate", "8" },
                                             { "batch", "9" },   { "policy", "lru" } };
    dp_options *options = test_options(settings);
    dp_plan_info plan;
    dp_inspect *inspect;
    dp_engine *engine;
    dp_session *s;
    dp_stats stats;
    char ram[24];
    dp_error err;

    run(&rows[0], "off", 0, false, &want, &stats);
    CHECK_OK(dp_inspect_open(&inspect, path, &err), err);
    CHECK_OK(dp_inspect_plan(inspect, options, &plan, &err), err);
    dp_inspect_close(inspect);
    dp_options_close(options);
    snprintf(ram, sizeof ram, "%llu", (unsigned long long)plan.least_bytes);
    settings[0].value = ram;
    engine = test_engine(path, settings);
    s = test_session(engine, greedy);
    for (uint64_t n = 0, failed = 1; failed; n += 1 + n / 4) {
        dp_generate how = { .ignores_stop_tokens = true };
        dp_finish finish;
        dp_status st;

        dp_session_rewind(s, 0);
        CHECK_OK(dp_session_append(s, want.tokens, PROMPT, &err), err);
        how.max_tokens = 30;
        dp_fault_arm(DP_FAULT_AIO_READ, n, 1);
        st = dp_session_generate(s, &how, &finish, &err);
        failed = dp_fault_disarm(DP_FAULT_AIO_READ);
        CHECK(n < 5000 && (st == DP_OK || (failed && st == DP_E_IO)), "read %d: status %d", (int)n,
              st);
        how.max_tokens = PROMPT + 30 - dp_session_count(s);
        if (how.max_tokens)
            CHECK_OK(dp_session_generate(s, &how, &finish, &err), err);
        CHECK(dp_session_count(s) == PROMPT + 30 &&
                  memcmp(dp_session_tokens(s), want.tokens, (PROMPT + 30) * sizeof *want.tokens) ==
                      0,
              "read %d: other tokens", (int)n);
    }
    dp_engine_stats(engine, &stats);
    CHECK(stats.draft_accepted > 20, "%d right", (int)stats.draft_accepted);
    dp_session_close(s);
    dp_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_change_nothing),
        cmocka_unit_test(a_cancel_in_a_draft_ends_as_without),
        cmocka_unit_test(sessions_draft_together),
        cmocka_unit_test(appending_takes_what_was_guessed),
        cmocka_unit_test(failed_reads_lose_no_token),
    };

    return cmocka_run_group_tests(tests, make_model, remove_model);
}
