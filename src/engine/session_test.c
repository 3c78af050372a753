/* Timelines: however one came to be, its logits are those of a fresh one. */
#include "base/fault.h"
#include "base/map.h"
#include "engine/engine_testing.h"
#include "engine/engine.h"

#define TOKENS  50
#define VOCAB   400 /* the head is the largest page: each row of logits reads it again */
#define CONTEXT 64

static char path[] = "/tmp/doppler-session-XXXXXX";
static dp_token text[2][CONTEXT];
static float want[2][CONTEXT][VOCAB], found[2][CONTEXT][VOCAB];

static const test_setting wide[TEST_SETTINGS] = {
    { "ram", "64MiB" },
    { "ctx", "64" },
    { "sessions", "2" },
    { "threads", "1" },
    { "governor", "off" } /* it asks for memory, and gives it back, while a test counts */
};
static const test_setting none[TEST_SETTINGS] = { { NULL, NULL } };

struct sink {
    float (*out)[VOCAB];
    uint32_t next, last; /* position expected; false at `last` */
};

static bool take(void *user, uint32_t position, const float *logits)
{
    struct sink *sink = user;

    CHECK(position == sink->next, "position %u, expected %u", position, sink->next);
    sink->next++;
    memcpy(sink->out[position], logits, sizeof sink->out[position]);
    return position < sink->last;
}

/* Logits of every position of both texts, each in a session of its own. */
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
                     .used = 2 };
    dp_engine *engine;
    dp_error err;

    test_model_make(&m, 2);
    test_model_save(&m, path);
    test_model_free(&m);
    for (uint32_t i = 0; i < 2; i++)
        for (uint32_t t = 0; t < CONTEXT; t++)
            text[i][t] = (dp_token)(dp_hash_u64(i * 1000 + t) % VOCAB);
    engine = test_engine(path, wide);
    for (uint32_t i = 0; i < 2; i++) {
        struct sink sink = { want[i], 0, UINT32_MAX };
        dp_session *s = test_session(engine, none);
        dp_session_set_logits_sink(s, take, &sink);
        CHECK_OK(dp_session_append(s, text[i], TOKENS, &err), err);
        CHECK_OK(dp_session_eval(s, &err), err);
        CHECK(sink.next == TOKENS, "%u logits", sink.next);
        dp_session_close(s);
    }
    dp_engine_close(engine);
    return 0;
}

static int remove_model(void **unused)
{
    return unlink(path) || test_model_memory_is_free();
}

/* The session stands at `count` tokens of a text, with the logits after them. */
static void check_at(dp_session *s, uint32_t i, uint32_t count, const char *what)
{
    const float *logits = dp_session_logits(s);

    CHECK(dp_session_count(s) == count && dp_session_pending(s) == 0, "%s: %u tokens, %u pending",
          what, dp_session_count(s), dp_session_pending(s));
    CHECK(memcmp(dp_session_tokens(s), text[i], count * sizeof **text) == 0, "%s: tokens", what);
    CHECK(logits && memcmp(logits, want[i][count - 1], sizeof want[i][0]) == 0,
          "%s: logits after %u tokens have other bits", what, count);
}

static void eval(dp_session *s)
{
    dp_error err;

    CHECK_OK(dp_session_eval(s, &err), err);
}

static void append(dp_session *s, const dp_token *tokens, uint32_t count)
{
    dp_error err;

    CHECK_OK(dp_session_append(s, tokens, count, &err), err);
}

static void parts_of_any_length_give_the_same_bits(void **unused)
{
    static const char *const batches[] = { "1", "3", "32", "0" };

    for (size_t b = 0; b < DP_ARRAY_LEN(batches); b++) {
        const test_setting settings[TEST_SETTINGS] = {
            { "ram", "64MiB" }, { "ctx", "64" }, { "batch", batches[b] }, { "threads", "2" }
        };
        dp_engine *engine = test_engine(path, settings);
        dp_session *s = test_session(engine, none);

        for (uint32_t part = 1; part <= TOKENS; part += 6) {
            for (uint32_t t = 0; t < TOKENS; t += part) {
                uint32_t count = DP_MIN(part, TOKENS - t);
                append(s, text[0] + t, count);
                CHECK(!dp_session_logits(s) && dp_session_pending(s) == count, "part %u", part);
                eval(s);
                check_at(s, 0, t + count, batches[b]);
            }
            dp_session_rewind(s, 0);
            CHECK(dp_session_count(s) == 0 && !dp_session_logits(s), "rewound");
        }
        dp_session_close(s);
        dp_engine_close(engine);
    }
}

static void rewinding_keeps_what_was_evaluated(void **unused)
{
    static const uint32_t cuts[] = { 49, 33, 32, 31, 1, 50, 60 };
    dp_engine *engine = test_engine(path, wide);
    dp_session *s = test_session(engine, none);
    dp_stats before, after;

    append(s, text[0], TOKENS);
    eval(s);
    for (size_t i = 0; i < DP_ARRAY_LEN(cuts); i++) {
        uint32_t kept = DP_MIN(cuts[i], TOKENS);
        dp_session_rewind(s, cuts[i]);
        CHECK(dp_session_count(s) == kept, "%u tokens", dp_session_count(s));
        CHECK(dp_session_pending(s) == (kept < TOKENS), "%u pending", dp_session_pending(s));
        dp_engine_stats(engine, &before);
        eval(s);
        dp_engine_stats(engine, &after);
        check_at(s, 0, kept, "rewound");
        CHECK(after.prompt_tokens + after.decode_tokens -
                      (before.prompt_tokens + before.decode_tokens) ==
                  (kept < TOKENS),
              "the last token alone");
        append(s, text[0] + kept, TOKENS - kept); /* 0 is fine */
        eval(s);
        check_at(s, 0, TOKENS, "and on");
    }
    /* Something not evaluated is cut as well. */
    dp_session_rewind(s, 10);
    append(s, text[1], 5);
    dp_session_rewind(s, 12);
    CHECK(dp_session_count(s) == 12 && dp_session_pending(s) == 3, "%u pending",
          dp_session_pending(s));
    dp_session_rewind(s, 10);
    eval(s);
    check_at(s, 0, 10, "cut while pending");
    dp_session_close(s);
    dp_engine_close(engine);
}

/* Prompts after one another: how many tokens each has, of which text, and how many are
 * evaluated for it. */
static const struct {
    uint32_t text, count, evaluated;
} prompts[] = {
    { 0, 20, 20 }, { 0, 20, 0 }, { 0, 45, 25 }, { 0, 30, 1 },  { 1, 40, 40 },
    { 1, 40, 0 },  { 1, 41, 1 }, { 0, 1, 1 },   { 0, 50, 49 },
};

static void syncing_evaluates_the_difference(void **unused)
{
    dp_engine *engine = test_engine(path, wide);
    dp_session *s = test_session(engine, none);
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(prompts); i++) {
        CHECK_OK(dp_session_sync(s, text[prompts[i].text], prompts[i].count, &err), err);
        CHECK(dp_session_pending(s) == prompts[i].evaluated, "prompt %zu: %u pending", i,
              dp_session_pending(s));
        eval(s);
        check_at(s, prompts[i].text, prompts[i].count, "synced");
    }
    dp_session_close(s);
    dp_engine_close(engine);
}

static void sessions_step_together(void **unused)
{
    static const char *const batches[] = { "0", "5", "1" };

    for (size_t b = 0; b < DP_ARRAY_LEN(batches); b++) {
        const test_setting settings[TEST_SETTINGS] = {
            { "ram", "64MiB" }, { "ctx", "64" }, { "sessions", "2" }, { "batch", batches[b] }
        };
        dp_engine *engine = test_engine(path, settings);
        dp_session *s[2] = { test_session(engine, none), test_session(engine, none) };
        struct sink sinks[2] = { { found[0], 0, UINT32_MAX }, { found[1], 0, UINT32_MAX } };
        dp_error err;

        memset(found, 0, sizeof found);
        append(s[0], text[0], 1);
        append(s[1], text[1], TOKENS);
        for (int i = 0; i < 2; i++)
            dp_session_set_logits_sink(s[i], take, &sinks[i]);
        while (dp_session_count(s[0]) < TOKENS || dp_session_pending(s[1])) {
            uint32_t before = dp_session_pending(s[1]);
            CHECK_OK(dp_engine_step(engine, s, 2, &err), err);
            /* With one place a step the two take turns. */
            CHECK(dp_session_pending(s[0]) == 0 || b == 2, "one token waits for a prompt");
            CHECK(dp_session_pending(s[1]) < before || b == 2 || !before, "no progress");
            if (dp_session_count(s[0]) < TOKENS && dp_session_pending(s[0]) == 0)
                append(s[0], text[0] + dp_session_count(s[0]), 1);
        }
        for (int i = 0; i < 2; i++)
            eval(s[i]);
        for (uint32_t i = 0; i < 2; i++) {
            check_at(s[i], i, TOKENS, "together");
            CHECK(memcmp(found[i], want[i], TOKENS * sizeof want[i][0]) == 0, "sequence %u", i);
            dp_session_close(s[i]);
        }
        dp_engine_close(engine);
    }
}

static void a_sink_can_cancel(void **unused)
{
    dp_engine *engine = test_engine(path, wide);
    dp_session *s = test_session(engine, none);
    struct sink sink = { found[0], 0, 17 };
    dp_error err;

    append(s, text[0], TOKENS);
    dp_session_set_logits_sink(s, take, &sink);
    CHECK(dp_session_eval(s, &err) == DP_E_CANCELED, "went on");
    CHECK(!dp_session_logits(s), "logits");
    dp_session_set_logits_sink(s, NULL, NULL);
    eval(s);
    check_at(s, 0, TOKENS, "after a cancel");
    dp_engine_cancel(engine);
    append(s, text[0] + TOKENS, 1);
    CHECK(dp_session_eval(s, &err) == DP_E_CANCELED && dp_session_pending(s) == 1, "went on");
    eval(s);
    dp_session_close(s);
    dp_engine_close(engine);
}

/* Under the least budget every step reads; each read fails once. */
static void failed_reads_leave_sessions_as_they_were(void **unused)
{
    test_setting settings[TEST_SETTINGS] = { { "ram", "1" },      { "ctx", "64" },
                                             { "sessions", "2" }, { "batch", "60" },
                                             { "threads", "1" },  { "policy", "lru" } };
    char ram[24];
    dp_plan_info plan;
    dp_options *options = test_options(settings);
    dp_inspect *inspect;
    dp_engine *engine;
    dp_session *s[2];
    uint64_t failed = 1;
    dp_error err;

    CHECK_OK(dp_inspect_open(&inspect, path, &err), err);
    CHECK_OK(dp_inspect_plan(inspect, options, &plan, &err), err);
    dp_inspect_close(inspect);
    dp_options_close(options);
    snprintf(ram, sizeof ram, "%llu", (unsigned long long)plan.least_bytes);
    settings[0].value = ram;
    engine = test_engine(path, settings);
    for (int i = 0; i < 2; i++)
        s[i] = test_session(engine, none);
    for (uint64_t n = 0; failed; n++) {
        dp_status st;
        for (int i = 0; i < 2; i++) {
            CHECK_OK(dp_session_sync(s[i], text[i], 20, &err), err);
            eval(s[i]);
            append(s[i], text[i] + 20, TOKENS - 20);
        }
        dp_fault_arm(DP_FAULT_AIO_READ, n, 1);
        st = dp_engine_step(engine, s, 2, &err);
        failed = dp_fault_disarm(DP_FAULT_AIO_READ);
        CHECK(n < 500 && (st == DP_OK || (failed && st == DP_E_IO)), "read %d: status %d", (int)n,
              st);
        for (uint32_t i = 0; i < 2; i++) {
            dp_token token;
            if (dp_session_pending(s[i]))
                CHECK(!dp_session_logits(s[i]) &&
                          dp_session_sample(s[i], &token, &err) == DP_E_INVALID,
                      "read %d: logits of a failed step", (int)n);
            eval(s[i]);
            check_at(s[i], i, TOKENS, "after a failed read");
        }
    }
    for (int i = 0; i < 2; i++)
        dp_session_close(s[i]);
    dp_engine_close(engine);
}

static void what_makes_no_sense_is_refused(void **unused)
{
    dp_engine *engine = test_engine(path, wide);
    dp_session *s[3] = { test_session(engine, none), test_session(engine, none), NULL };
    dp_token token, bad[] = { 1, 2, VOCAB }, worse[] = { -1 };
    dp_error err;

    CHECK(dp_session_open(&s[2], engine, NULL, &err) == DP_E_BUDGET && !s[2], "a third session");
    CHECK(strstr(err.text, "2 sessions") && strstr(err.text, "--sessions"), "%s", err.text);
    CHECK(dp_session_append(s[0], bad, 3, &err) == DP_E_INVALID, "token %d", VOCAB);
    CHECK(strstr(err.text, "token 2 is 400") && strstr(err.text, "0 to 399"), "%s", err.text);
    CHECK(dp_session_append(s[0], worse, 1, &err) == DP_E_INVALID, "token -1");
    CHECK(dp_session_sync(s[0], worse, 1, &err) == DP_E_INVALID, "token -1");
    append(s[0], text[0], 60);
    CHECK(dp_session_append(s[0], text[0], 5, &err) == DP_E_LIMIT, "65 of 64");
    CHECK(strstr(err.text, "5 tokens") && strstr(err.text, "4 of a context of 64") &&
              strstr(err.text, "--ctx"),
          "%s", err.text);
    CHECK(dp_session_count(s[0]) == 60, "%u tokens", dp_session_count(s[0]));
    CHECK(dp_session_sample(s[0], &token, &err) == DP_E_INVALID && token == -1, "pending");
    append(s[0], text[0], 4);
    eval(s[0]);
    CHECK_OK(dp_session_sample(s[0], &token, &err), err);
    CHECK(dp_engine_step(engine, (dp_session *[]){ s[0], s[1], s[0] }, 3, &err) == DP_E_INVALID,
          "three of two");
    CHECK(dp_engine_step(engine, (dp_session *[]){ s[0], s[0] }, 2, &err) == DP_E_INVALID, "twice");
    CHECK(strstr(err.text, "the same"), "%s", err.text);
    CHECK_OK(dp_engine_step(engine, s, 2, &err), err); /* nothing is pending: fine */
    dp_session_close(s[0]);
    dp_session_close(s[1]);
    dp_session_close(NULL);
    dp_engine_close(engine);
}

static void short_memory_is_refused(void **unused)
{
    dp_engine *engine = test_engine(path, wide);
    dp_status st = DP_E_NOMEM;

    for (uint64_t n = 0; st; n++) {
        dp_mem_stats before, after;
        dp_session *s;
        dp_error err;

        dp_mem_stats_read(&before);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_session_open(&s, engine, NULL, &err);
        dp_fault_disarm(DP_FAULT_MEM);
        CHECK(!st == !!s && n < 20 && (!st || st == DP_E_NOMEM), "visit %d", (int)n);
        dp_session_close(s);
        dp_mem_stats_read(&after);
        CHECK(before.heap_blocks == after.heap_blocks && before.map_bytes == after.map_bytes,
              "visit %d leaked", (int)n);
    }
    dp_engine_close(engine);
}

/* One token a step for three sessions: two that decode without end, and a prompt. */
static void no_session_waits_for_ever(void **unused)
{
    const test_setting settings[TEST_SETTINGS] = {
        { "ctx", "64" }, { "batch", "1" }, { "sessions", "3" }, { "threads", "1" }
    };
    dp_engine *engine = test_engine(path, settings);
    dp_session *s[3];
    uint32_t decoded[2] = { 0, 0 };
    dp_error err;

    for (int i = 0; i < 3; i++)
        s[i] = test_session(engine, none);
    append(s[2], text[0], 8);
    for (int step = 0; step < 40; step++) {
        for (int i = 0; i < 2; i++)
            if (dp_session_pending(s[i]) == 0)
                append(s[i], &text[i][decoded[i]++], 1);
        CHECK_OK(dp_engine_step(engine, s, 3, &err), err);
    }
    check_at(s[2], 0, 8, "a prompt beside two that decode");
    CHECK(decoded[0] > 8 && decoded[1] > 8, "decoded %u and %u tokens", decoded[0], decoded[1]);
    for (int i = 0; i < 3; i++)
        dp_session_close(s[i]);
    dp_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_session_waits_for_ever),
        cmocka_unit_test(parts_of_any_length_give_the_same_bits),
        cmocka_unit_test(rewinding_keeps_what_was_evaluated),
        cmocka_unit_test(syncing_evaluates_the_difference),
        cmocka_unit_test(sessions_step_together),
        cmocka_unit_test(a_sink_can_cancel),
        cmocka_unit_test(failed_reads_leave_sessions_as_they_were),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(short_memory_is_refused),
    };

    return cmocka_run_group_tests(tests, make_model, remove_model);
}
