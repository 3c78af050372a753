/* Budgets that change while an engine runs: the same bits, never more than allowed. */
#include "engine/resize.h"

#include "base/map.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "engine/engine_testing.h"

#define VOCAB  300
#define TOKENS 40

static char path[2][32] = { "/tmp/doppler-resize-XXXXXX", "/tmp/doppler-resize-XXXXXX" };
static const char *const names[2] = { "dense", "mixture" };
static float want[2][TOKENS][VOCAB];

static int make_models(void **unused)
{
    for (int is_mixture = 0; is_mixture < 2; is_mixture++) {
        test_model m = { .layers = 6,
                         .dim = 128,
                         .heads = 4,
                         .kv_heads = 2,
                         .head_dim = 32,
                         .ff = 512,
                         .vocab = VOCAB,
                         .context = 64,
                         .type = DP_Q8_0 };
        m.experts = is_mixture ? 8 : 0;
        m.used = is_mixture ? 2 : 0;
        test_model_make(&m, 11);
        test_model_save(&m, path[is_mixture]);
        test_model_free(&m);
    }
    return 0;
}

static int remove_models(void **unused)
{
    return unlink(path[0]) || unlink(path[1]) || test_model_memory_is_free();
}

static dp_engine *open_engine(int model)
{
    return test_engine(path[model], (const test_setting[TEST_SETTINGS]){
                                        { "ram", "32MiB" }, { "governor", "off" }, { 0 } });
}

/* One token after the other; before each, `between` may do what it wants. */
static void play(dp_engine *engine, float out[TOKENS][VOCAB],
                 void (*between)(dp_engine *engine, uint32_t t))
{
    dp_session *s = test_session(engine, (const test_setting[TEST_SETTINGS]){ { 0 } });
    dp_error err;

    for (uint32_t t = 0; t < TOKENS; t++) {
        dp_token token = (dp_token)(dp_hash_u64(t) % VOCAB);
        if (between)
            between(engine, t);
        CHECK_OK(dp_session_append(s, &token, 1, &err), err);
        CHECK_OK(dp_session_eval(s, &err), err);
        memcpy(out[t], dp_session_logits(s), sizeof out[t]);
    }
    dp_session_close(s);
}

static uint64_t least_of(dp_engine *engine)
{
    dp_error err;
    char *number;

    CHECK(dp_engine_set_budget(engine, 1, &err) == DP_E_BUDGET, "one byte is enough");
    number = strstr(err.text, "take ");
    CHECK(number, "%s", err.text);
    return strtoull(number + 5, NULL, 10);
}

static float found[TOKENS][VOCAB];
static uint64_t least_bytes;
static dp_rng rng;

static void set(dp_engine *engine, uint64_t bytes)
{
    dp_stats stats;
    dp_error err;

    CHECK_OK(dp_engine_set_budget(engine, bytes, &err), err);
    dp_engine_stats(engine, &stats);
    CHECK(stats.budget_bytes == bytes && stats.budget_now_bytes == bytes, "%llu of %llu",
          (unsigned long long)stats.budget_now_bytes, (unsigned long long)bytes);
}

/* Loads under way when the budget fell have ended: a step ran since. */
static void any_budget(dp_engine *engine, uint32_t t)
{
    dp_stats stats;

    dp_engine_stats(engine, &stats);
    CHECK(stats.slot_bytes <= stats.slot_budget_bytes, "%llu bytes in slots, %llu allowed",
          (unsigned long long)stats.slot_bytes, (unsigned long long)stats.slot_budget_bytes);
    set(engine, t % 5 == 0   ? least_bytes
                : t % 5 == 3 ? 32 * DP_MIB
                             : least_bytes + dp_rng_below(&rng, 2 * DP_MIB));
}

static void budgets_between_steps_change_no_bit(void **unused)
{
    for (int model = 0; model < 2; model++) {
        dp_engine *engine = open_engine(model);
        dp_stats stats;

        least_bytes = least_of(engine);
        dp_rng_init(&rng, 3);
        play(engine, want[model], NULL);
        play(engine, found, any_budget);
        CHECK(memcmp(found, want[model], sizeof found) == 0, "%s: other bits", names[model]);
        dp_engine_stats(engine, &stats);
        CHECK(stats.budget_least_bytes == least_bytes, "least %llu",
              (unsigned long long)stats.budget_least_bytes);
        CHECK(stats.evictions > 0 && stats.disk_read_bytes > 0, "nothing ever left");
        dp_engine_close(engine);
    }
}

/* A fall unpins, a rise pins again what a step reads anyway. */
static void pins_follow(void **unused)
{
    dp_engine *engine = open_engine(0);
    uint32_t all = engine->plan.pins.count;

    CHECK(engine->plan.pins.kept == all, "%u of %u pinned", engine->plan.pins.kept, all);
    set(engine, least_of(engine) + 300 * DP_KIB);
    CHECK(engine->plan.pins.kept < all && engine->plan.pins.kept > 0, "%u pinned",
          engine->plan.pins.kept);
    set(engine, 32 * DP_MIB);
    play(engine, found, NULL);
    CHECK(engine->plan.pins.kept == all, "%u of %u pinned", engine->plan.pins.kept, all);
    dp_engine_close(engine);
}

/* ---- from another thread, whatever the step does ---- */

struct disturber {
    dp_engine *engine;
    atomic_bool stop;
    uint32_t changes;
};

static void disturb(void *user)
{
    struct disturber *d = user;
    dp_rng own;

    dp_rng_init(&own, 17);
    do { /* once at least, however late this thread begins */
        dp_error err;
        uint64_t bytes = least_bytes + dp_rng_below(&own, 3 * DP_MIB);
        CHECK_OK(dp_engine_set_budget(d->engine, bytes, &err), err);
        d->changes++;
    } while (!atomic_load(&d->stop));
}

static void budgets_during_steps_change_no_bit(void **unused)
{
    for (int model = 0; model < 2; model++) {
        struct disturber d = { .engine = open_engine(model) };
        dp_thread thread;
        dp_error err;

        least_bytes = least_of(d.engine);
        CHECK_OK(dp_thread_start(&thread, "disturber", disturb, &d, &err), err);
        play(d.engine, found, NULL);
        atomic_store(&d.stop, true);
        dp_thread_join(&thread);
        CHECK(memcmp(found, want[model], sizeof found) == 0, "%s: other bits", names[model]);
        CHECK(d.changes > 0, "never changed");
        dp_engine_close(d.engine);
    }
}

/* The governor's thread starts, looks around and ends. */
static void governed_engines_open_and_close(void **unused)
{
    dp_engine *engine =
        test_engine(path[1], (const test_setting[TEST_SETTINGS]){ { "ram", "32MiB" }, { 0 } });

    CHECK(engine->resize.is_governed, "no governor");
    play(engine, found, NULL);
    CHECK(memcmp(found, want[1], sizeof found) == 0, "other bits");
    dp_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budgets_between_steps_change_no_bit),
        cmocka_unit_test(pins_follow),
        cmocka_unit_test(budgets_during_steps_change_no_bit),
        cmocka_unit_test(governed_engines_open_and_close),
    };

    return cmocka_run_group_tests(tests, make_models, remove_models);
}
