/* Budgets from the least upward, planned, opened and run. */
#include "engine/plan.h"

#include "base/fault.h"
#include "base/map.h"
#include "engine/engine_testing.h"

#define VOCAB  500
#define TOKENS 24

static char path[2][32] = { "/tmp/doppler-plan-XXXXXX", "/tmp/doppler-plan-XXXXXX" };
static const char *const names[2] = { "dense", "mixture" };

static int make_models(void **unused)
{
    for (int is_mixture = 0; is_mixture < 2; is_mixture++) {
        test_model m = { .layers = 3,
                         .dim = 128,
                         .heads = 4,
                         .kv_heads = 2,
                         .head_dim = 32,
                         .ff = 256,
                         .vocab = VOCAB,
                         .context = 2048,
                         .type = DP_Q8_0 };
        m.experts = is_mixture ? 6 : 0;
        m.used = is_mixture ? 2 : 0;
        test_model_make(&m, 7);
        test_model_save(&m, path[is_mixture]);
        test_model_free(&m);
    }
    return 0;
}

static int remove_models(void **unused)
{
    return unlink(path[0]) || unlink(path[1]) || test_model_memory_is_free();
}

static void plan_of(int model, const test_setting *settings, dp_plan_info *out)
{
    dp_options *options = test_options(settings);
    dp_inspect *inspect;
    dp_error err;

    CHECK_OK(dp_inspect_open(&inspect, path[model], &err), err);
    CHECK_OK(dp_inspect_plan(inspect, options, out, &err), err);
    dp_inspect_close(inspect);
    dp_options_close(options);
}

/* Logits after a prompt, however it is cut. */
static void play(dp_engine *engine, float *out)
{
    dp_session *s = test_session(engine, (const test_setting[TEST_SETTINGS]){ { 0 } });
    dp_token tokens[TOKENS];
    dp_error err;

    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = (dp_token)(dp_hash_u64(i) % VOCAB);
    CHECK_OK(dp_session_append(s, tokens, TOKENS, &err), err);
    CHECK_OK(dp_session_eval(s, &err), err);
    memcpy(out, dp_session_logits(s), VOCAB * sizeof *out);
    dp_session_close(s);
}

/* The settings below, with a budget. */
static const test_setting settings[][4] = {
    { { "threads", "1" } },
    { { "threads", "2" }, { "ctx", "100" } },
    { { "threads", "1" }, { "sessions", "3" }, { "policy", "lru" } },
    { { "threads", "1" }, { "batch", "7" }, { "ctx", "2000" } },
    { { "threads", "3" }, { "batch", "4096" }, { "ctx", "64" } },
};

static void with_ram(test_setting *out, size_t i, char *text, size_t size, uint64_t ram)
{
    memset(out, 0, TEST_SETTINGS * sizeof *out);
    memcpy(out, settings[i], sizeof settings[i]);
    snprintf(text, size, "%llu", (unsigned long long)ram);
    for (int n = 0;; n++)
        if (!out[n].name) {
            out[n] = (test_setting){ "ram", text };
            return;
        }
}

static void check_division(const dp_plan_info *p, const char *what)
{
    CHECK(p->fits, "%s: does not fit %llu", what, (unsigned long long)p->budget_bytes);
    CHECK(p->tables_bytes + p->kv_bytes + p->buffer_bytes + p->slot_bytes == p->budget_bytes,
          "%s: parts do not add up", what);
    CHECK(!p->pins_always || p->always_bytes <= p->slot_bytes, "%s: pins more than it has", what);
}

/* Opens with a budget, runs, and finds the plan's numbers and the same logits. */
static void check_run(int model, const test_setting *with, const dp_plan_info *plan,
                      const float *want)
{
    dp_engine *engine = test_engine(path[model], with);
    float logits[VOCAB];
    dp_stats stats;

    play(engine, logits);
    CHECK(memcmp(logits, want, sizeof logits) == 0, "%s, %llu bytes: other bits", names[model],
          (unsigned long long)plan->budget_bytes);
    dp_engine_stats(engine, &stats);
    CHECK(stats.budget_bytes == plan->budget_bytes && stats.tables_bytes == plan->tables_bytes &&
              stats.kv_bytes == plan->kv_bytes && stats.buffer_bytes == plan->buffer_bytes &&
              stats.slot_budget_bytes == plan->slot_bytes,
          "%s, %llu bytes: inspect planned otherwise", names[model],
          (unsigned long long)plan->budget_bytes);
    CHECK(stats.slot_bytes <= stats.slot_budget_bytes, "%s: slots past their budget", names[model]);
    CHECK(!plan->pins_always || stats.pinned_bytes == plan->always_bytes, "%s: pinned %llu of %llu",
          names[model], (unsigned long long)stats.pinned_bytes,
          (unsigned long long)plan->always_bytes);
    dp_engine_close(engine);
}

static void budgets_from_the_least_upward_run(void **unused)
{
    for (int model = 0; model < 2; model++)
        for (size_t i = 0; i < DP_ARRAY_LEN(settings); i++) {
            test_setting with[TEST_SETTINGS];
            dp_plan_info least, plan;
            float want[VOCAB];
            dp_engine *engine;
            char ram[24];

            with_ram(with, i, ram, sizeof ram, DP_GIB);
            plan_of(model, with, &least);
            check_division(&least, names[model]);
            CHECK(least.pins_always && least.experts_held == least.experts_total, "all fits");
            engine = test_engine(path[model], with);
            play(engine, want);
            dp_engine_close(engine);
            /* Steps that grow: exact at the least, then through every kind of plan. */
            for (uint64_t more = 0; more < 24 * DP_MIB; more = more * 3 + 1) {
                with_ram(with, i, ram, sizeof ram, least.least_bytes + more);
                plan_of(model, with, &plan);
                CHECK(plan.least_bytes == least.least_bytes, "%s: the least moved", names[model]);
                check_division(&plan, names[model]);
                check_run(model, with, &plan, want);
            }
        }
}

static void a_byte_less_than_the_least_is_refused(void **unused)
{
    for (int model = 0; model < 2; model++)
        for (size_t i = 0; i < DP_ARRAY_LEN(settings); i++) {
            test_setting with[TEST_SETTINGS];
            dp_plan_info plan;
            dp_options *options;
            dp_engine *engine;
            char ram[24], least[24];
            dp_error err;

            with_ram(with, i, ram, sizeof ram, DP_GIB);
            plan_of(model, with, &plan);
            snprintf(least, sizeof least, "%llu", (unsigned long long)plan.least_bytes);
            with_ram(with, i, ram, sizeof ram, plan.least_bytes - 1);
            plan_of(model, with, &plan);
            CHECK(!plan.fits && plan.experts_held == 0, "inspect says that it fits");
            options = test_options(with);
            CHECK(dp_engine_open(&engine, path[model], options, NULL, NULL, &err) == DP_E_BUDGET,
                  "%s: opened", names[model]);
            CHECK(!engine && strstr(err.text, "--ram") && strstr(err.text, "--ctx") &&
                      strstr(err.text, least),
                  "%s", err.text);
            dp_options_close(options);
        }
}

/* Numbers whose product does not fit 32 bits. */
/* Exact keys and values take twice the memory, and the rest of the budget shrinks by that. */
static void keys_and_values_take_what_their_type_says(void **unused)
{
    static const test_setting rows[][TEST_SETTINGS] = {
        { { "ram", "64MiB" }, { "threads", "1" }, { "ctx", "500" } },
        { { "ram", "64MiB" }, { "threads", "1" }, { "ctx", "500" }, { "kv-type", "f32" } },
    };
    dp_plan_info half, whole;

    plan_of(0, rows[0], &half);
    plan_of(0, rows[1], &whole);
    CHECK(half.kv_bytes == (uint64_t)3 * 2 * (32 + 32) * 512 * 2, "%llu bytes",
          (unsigned long long)half.kv_bytes);
    CHECK(whole.kv_bytes == 2 * half.kv_bytes && whole.buffer_bytes == half.buffer_bytes &&
              half.slot_bytes - whole.slot_bytes == half.kv_bytes,
          "%llu bytes", (unsigned long long)whole.kv_bytes);
    CHECK(strcmp(half.kv_type, "f16") == 0 && strcmp(whole.kv_type, "f32") == 0, "%s and %s",
          half.kv_type, whole.kv_type);
}

static void huge_requests_are_refused(void **unused)
{
    static const test_setting huge[][TEST_SETTINGS] = {
        { { "ram", "1GiB" }, { "ctx", "16777216" }, { "sessions", "256" } },
        { { "ram", "1GiB" }, { "ctx", "16777216" }, { "sessions", "1024" }, { "batch", "4096" } },
        { { "ram", "1" } },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(huge); i++) {
        dp_options *options = test_options(huge[i]);
        dp_engine *engine;
        dp_error err;

        CHECK(dp_engine_open(&engine, path[0], options, NULL, NULL, &err) == DP_E_BUDGET,
              "row %zu opened", i);
        dp_options_close(options);
    }
}

static bool stop_at_once(void *user, uint64_t done, uint64_t total)
{
    CHECK(done <= total && total > 0, "%d of %d", (int)done, (int)total);
    return false;
}

static bool count_up(void *user, uint64_t done, uint64_t total)
{
    uint64_t *last = user;

    CHECK(done >= *last && done <= total, "%d after %d", (int)done, (int)*last);
    *last = done;
    return true;
}

static void loading_tells_its_progress_and_can_be_canceled(void **unused)
{
    dp_options *options = test_options((const test_setting[TEST_SETTINGS]){ { "ram", "64MiB" } });
    uint64_t last = 0;
    dp_engine *engine;
    dp_error err;

    CHECK(dp_engine_open(&engine, path[1], options, stop_at_once, NULL, &err) == DP_E_CANCELED,
          "opened");
    CHECK_OK(dp_engine_open(&engine, path[1], options, count_up, &last, &err), err);
    CHECK(last > 0, "no progress");
    dp_engine_close(engine);
    dp_options_close(options);
}

/* Each allocation, read and thread of opening fails once. */
static void opening_fails_without_a_trace(void **unused)
{
    static const dp_fault points[] = { DP_FAULT_MEM, DP_FAULT_READ, DP_FAULT_AIO_READ };

    for (size_t p = 0; p < DP_ARRAY_LEN(points); p++) {
        dp_options *options = test_options(
            (const test_setting[TEST_SETTINGS]){ { "ram", "64MiB" }, { "threads", "2" } });
        dp_status st = DP_E_IO;
        for (uint64_t n = 0; st; n++) {
            dp_mem_stats before, after;
            dp_engine *engine;
            dp_error err;

            dp_mem_stats_read(&before);
            dp_fault_arm(points[p], n, 1);
            st = dp_engine_open(&engine, path[1], options, NULL, NULL, &err);
            dp_fault_disarm(points[p]);
            CHECK(!st == !!engine && n < 2000, "point %zu, visit %d", p, (int)n);
            CHECK(!st || (err.status == st && err.text[0]), "point %zu, visit %d: no sentence", p,
                  (int)n);
            dp_engine_close(engine);
            dp_mem_stats_read(&after);
            CHECK(before.heap_blocks == after.heap_blocks && before.map_bytes == after.map_bytes,
                  "point %zu, visit %d leaked", p, (int)n);
        }
        dp_options_close(options);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budgets_from_the_least_upward_run),
        cmocka_unit_test(a_byte_less_than_the_least_is_refused),
        cmocka_unit_test(keys_and_values_take_what_their_type_says),
        cmocka_unit_test(huge_requests_are_refused),
        cmocka_unit_test(loading_tells_its_progress_and_can_be_canceled),
        cmocka_unit_test(opening_fails_without_a_trace),
    };

    return cmocka_run_group_tests(tests, make_models, remove_models);
}
