/* What is learned beside a run: traces, heat; neither changes a bit of the logits, and no failure
 * of theirs reaches a step. */
#include <unistd.h>

#include "base/fault.h"
#include "base/map.h"
#include "engine/engine.h"
#include "engine/engine_testing.h"

#define LAYERS  3
#define EXPERTS 16
#define USED    2
#define VOCAB   64
#define TOKENS  40

static char path[] = "/tmp/doppler-watch-XXXXXX";
static char trace_path[sizeof path + 8], heat_path[sizeof path + 8];
static float want[TOKENS][VOCAB];

static dp_token token_at(uint32_t i)
{
    return (dp_token)(dp_hash_u64(i) % VOCAB);
}

static void remove_files(void)
{
    unlink(trace_path);
    unlink(heat_path);
}

/* Decodes TOKENS one by one; each logit is the one of the first run, where want is filled in. */
static void play(dp_engine *engine, bool is_first)
{
    dp_session *s = test_session(engine, (const test_setting[TEST_SETTINGS]){ { NULL, NULL } });
    dp_error err;

    for (uint32_t i = 0; i < TOKENS; i++) {
        dp_token token = token_at(i);
        CHECK_OK(dp_session_append(s, &token, 1, &err), err);
        CHECK_OK(dp_session_eval(s, &err), err);
        if (is_first)
            memcpy(want[i], dp_session_logits(s), sizeof want[i]);
        CHECK(!memcmp(want[i], dp_session_logits(s), sizeof want[i]), "token %u", i);
    }
    dp_session_close(s);
}

static dp_engine *open_small(const char *trace, const char *heat, const char *policy)
{
    static char ram[24];
    dp_plan_info plan;
    dp_inspect *inspect;
    dp_options *options;
    dp_error err;

    /* Room for about a third of the experts. */
    CHECK_OK(dp_inspect_open(&inspect, path, &err), err);
    options = test_options((const test_setting[TEST_SETTINGS]){ { "ctx", "64" },
                                                                { "threads", "1" },
                                                                { "ram", "64MiB" },
                                                                { "batch", "8" },
                                                                { "heat", heat } });
    CHECK_OK(dp_inspect_plan(inspect, options, &plan, &err), err);
    dp_options_close(options);
    dp_inspect_close(inspect);
    snprintf(ram, sizeof ram, "%llu",
             (unsigned long long)(plan.tables_bytes + plan.kv_bytes + plan.buffer_bytes +
                                  plan.always_bytes + 16 * DP_MIB / 10));
    return test_engine(path, (const test_setting[TEST_SETTINGS]){ { "ctx", "64" },
                                                                  { "threads", "1" },
                                                                  { "batch", "8" },
                                                                  { "ram", ram },
                                                                  { "trace", trace },
                                                                  { "heat", heat },
                                                                  { "policy", policy } });
}

static int make_model(void **unused)
{
    test_model m = { .layers = LAYERS,
                     .dim = 128,
                     .heads = 4,
                     .kv_heads = 2,
                     .head_dim = 32,
                     .ff = 64,
                     .vocab = VOCAB,
                     .context = 64,
                     .experts = EXPERTS,
                     .used = USED };
    dp_engine *engine;

    test_model_make(&m, 2);
    test_model_save(&m, path);
    test_model_free(&m);
    snprintf(trace_path, sizeof trace_path, "%s.trace", path);
    snprintf(heat_path, sizeof heat_path, "%s.heat", path);
    engine = test_engine(
        path, (const test_setting[TEST_SETTINGS]){ { "ctx", "64" }, { "ram", "64MiB" } });
    play(engine, true);
    dp_engine_close(engine);
    return 0;
}

static int remove_model(void **unused)
{
    remove_files();
    unlink(path);
    return 0;
}

/* The trace's hits are those the engine counted, and its demands are every token's experts. */
static void test_trace_says_what_happened(void **unused)
{
    dp_engine *engine = open_small(trace_path, "off", "lfru");
    dp_replay *replay;
    dp_replay_info info;
    dp_stats stats;
    dp_error err;

    play(engine, false);
    dp_engine_stats(engine, &stats);
    CHECK(stats.expert_misses > 0 && stats.expert_hits > 0, "%d misses", (int)stats.expert_misses);
    dp_engine_close(engine);
    CHECK_OK(dp_replay_open(&replay, trace_path, &err), err);
    dp_replay_info_read(replay, &info);
    CHECK(info.steps == TOKENS && info.tokens == TOKENS && info.texts == 1, "%d steps",
          (int)info.steps);
    CHECK(info.layer_count == LAYERS && info.expert_count == EXPERTS && info.expert_used == USED &&
              info.wants == TOKENS * LAYERS * USED,
          "geometry");
    CHECK(info.has_hits && info.hits == stats.expert_hits, "%d hits, counted %d", (int)info.hits,
          (int)stats.expert_hits);
    dp_replay_close(replay);
    remove_files();
}

/* A disk that is full from the n-th write on: the run goes on. */
static void test_disk_is_full(void **unused)
{
    for (uint64_t n = 3; n < 9; n++) { /* the first three make the file */
        dp_engine *engine = open_small(trace_path, heat_path, "auto");
        dp_fault_arm(DP_FAULT_WRITE, n - 3, UINT64_MAX / 2);
        play(engine, false);
        dp_engine_close(engine);
        dp_fault_disarm(DP_FAULT_WRITE);
        CHECK(access(heat_path, F_OK) != 0 || n > 4, "write %d", (int)n);
        remove_files();
    }
}

static void test_traces_that_cannot_be(void **unused)
{
    static const struct {
        const char *trace;
        dp_status wanted;
    } rows[] = { { "/no/such/folder/x", DP_E_NOTFOUND }, { "/tmp", DP_E_INVALID } };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_options *options = test_options((const test_setting[TEST_SETTINGS]){
            { "ctx", "64" }, { "ram", "64MiB" }, { "trace", rows[i].trace } });
        dp_engine *engine;
        dp_error err;
        dp_status st = dp_engine_open(&engine, path, options, NULL, NULL, &err);
        CHECK(st == rows[i].wanted && strstr(err.text, rows[i].trace), "%d %s", (int)st, err.text);
        dp_options_close(options);
    }
}

static uint64_t hits_of(dp_engine *engine)
{
    dp_stats stats;

    dp_engine_stats(engine, &stats);
    return stats.expert_hits;
}

/* A run that finds heat hits more than the first did; one that finds rubbish goes on as if there were
 * none, and leaves good heat behind. */
static void test_heat_survives(void **unused)
{
    dp_engine *engine = open_small("off", heat_path, "next");
    dp_explain explain;
    uint64_t cold;
    dp_error err;
    FILE *file;

    play(engine, false);
    cold = hits_of(engine);
    CHECK_OK(dp_engine_explain(engine, &explain, &err), err);
    CHECK(!strcmp(explain.heat, "new") && !strcmp(explain.policy, "next"), "%s", explain.heat);
    CHECK(explain.is_contended && dp_latency_count(&explain.tiers[0].times.demand) > 0, "it is");
    dp_engine_close(engine);

    engine = open_small("off", heat_path, "next");
    CHECK_OK(dp_engine_explain(engine, &explain, &err), err);
    CHECK(!strcmp(explain.heat, "restored"), "%s", explain.heat);
    play(engine, false);
    CHECK(hits_of(engine) > cold, "%d warm, %d cold", (int)hits_of(engine), (int)cold);
    dp_engine_close(engine);

    file = fopen(heat_path, "r+");
    CHECK(file && fseek(file, 100, SEEK_SET) == 0 && fputs("rotten", file) >= 0, "write");
    fclose(file);
    for (int i = 0; i < 2; i++) {
        engine = open_small("off", heat_path, "next");
        CHECK_OK(dp_engine_explain(engine, &explain, &err), err);
        CHECK(!strcmp(explain.heat, i ? "restored" : "new"), "%s", explain.heat);
        play(engine, false);
        dp_engine_close(engine);
    }
    remove_files();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trace_says_what_happened),
        cmocka_unit_test(test_disk_is_full),
        cmocka_unit_test(test_traces_that_cannot_be),
        cmocka_unit_test(test_heat_survives),
    };

    return cmocka_run_group_tests(tests, make_model, remove_model);
}
