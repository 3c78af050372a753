/* A model from a source: the same bits as by path, for every budget, however its bytes come. */
#include "doppler/source.h"

#include <dirent.h>
#include <sched.h>

#include "base/fault.h"
#include "base/file.h"
#include "engine/engine_testing.h"
#include "engine/engine.h"
#include "model/lora_testing.h"
#include "tier/source_fake.h"

#define TOKENS 24
#define VOCAB  300
#define PARTS  3
#define LOGITS (TOKENS * VOCAB)

static const test_setting none[TEST_SETTINGS] = { { NULL, NULL } };
static char path[] = "/tmp/doppler-origin-XXXXXX", lora_path[] = "/tmp/doppler-lora-XXXXXX";
static char folder[] = "/tmp/doppler-split-XXXXXX"; /* the same model in three parts */
static char part_paths[PARTS][64];
static uint8_t *part_bytes[PARTS + 1]; /* those, and the whole */
static size_t part_sizes[PARTS + 1];
static float want[LOGITS], want_lora[LOGITS], found[LOGITS];

/* ---- the model ---- */

/* Part `no` has every PARTS-th tensor; the first has the keys as well, and no tensors. */
static void save_part(const test_model *m, uint32_t no)
{
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    dp_error err;

    CHECK(w, "no memory");
    if (no == 0)
        test_model_put_keys(m, w);
    dp_gguf_writer_u32(w, "split.no", no);
    dp_gguf_writer_u32(w, "split.count", PARTS);
    for (uint32_t i = 0; no && i < m->tensor_count; i++)
        if (i % (PARTS - 1) == no - 1)
            test_model_put(w, m->tensors[i].name, &m->tensors[i], m->tensors[i].dim_count,
                           m->tensors[i].data);
    snprintf(part_paths[no], sizeof part_paths[no], "%s/m-%05u-of-%05u.gguf", folder, no + 1,
             PARTS);
    CHECK_OK(dp_gguf_writer_save(w, part_paths[no], 3, &err), err);
    dp_gguf_writer_close(w);
}

static bool keep_logits(void *user, uint32_t position, const float *logits)
{
    memcpy((float *)user + (size_t)position * VOCAB, logits, VOCAB * sizeof *logits);
    return true;
}

/* Evaluates all tokens; `out` gets logits after each. The error of the first that failed: then
 * the step is taken again. */
static dp_status run(dp_engine *e, bool with_adapter, float *out, dp_error *err)
{
    dp_session *s = test_session(e, none);
    dp_adapter *adapter = NULL;
    dp_token tokens[TOKENS];
    dp_error again;
    dp_status st;

    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (i * 37 + 5) % VOCAB;
    if (with_adapter) {
        CHECK_OK(dp_adapter_open(&adapter, e, lora_path, err), *err);
        CHECK_OK(dp_session_set_adapters(s, &(dp_adapter_use){ adapter, 1 }, 1, err), *err);
    }
    dp_session_set_logits_sink(s, keep_logits, out);
    CHECK_OK(dp_session_append(s, tokens, TOKENS, err), *err);
    st = dp_session_eval(s, err);
    if (st)
        CHECK_OK(dp_session_eval(s, &again), again);
    dp_session_close(s);
    dp_adapter_close(adapter);
    return st;
}

static int make_model(void **unused)
{
    static const test_setting wide[TEST_SETTINGS] = { { "ram", "64MiB" }, { "ctx", "64" } };
    test_model m = { .layers = 3,
                     .dim = 64,
                     .heads = 4,
                     .kv_heads = 2,
                     .head_dim = 16,
                     .ff = 96,
                     .vocab = VOCAB,
                     .context = 64,
                     .experts = 6,
                     .used = 2,
                     .pieces = (const char *const[]){ "a" },
                     .piece_count = VOCAB - TEST_MODEL_PIECES };
    const char *pieces[VOCAB];
    test_lora lora = { .rank = 4, .alpha = 4 };
    char names[VOCAB][16];
    dp_engine *e;
    dp_error err;

    for (uint32_t i = 0; i < m.piece_count; i++) {
        snprintf(names[i], sizeof names[i], "w%u", i);
        pieces[i] = names[i];
    }
    m.pieces = pieces;
    test_model_make(&m, 7);
    test_model_save(&m, path);
    test_lora_make(&lora, &m, 8);
    test_lora_save(&lora, &m, lora_path);
    CHECK(mkdtemp(folder), "%s", folder);
    for (uint32_t i = 0; i <= PARTS; i++) {
        char *bytes;
        if (i < PARTS)
            save_part(&m, i);
        CHECK_OK(dp_file_read_all(&bytes, &part_sizes[i], i < PARTS ? part_paths[i] : path,
                                  64 << 20, &err),
                 err);
        part_bytes[i] = (uint8_t *)bytes;
    }
    test_lora_free(&lora);
    test_model_free(&m);
    e = test_engine(path, wide);
    CHECK_OK(run(e, false, want, &err), err);
    CHECK_OK(run(e, true, want_lora, &err), err);
    CHECK(memcmp(want, want_lora, sizeof want), "the adapter does nothing");
    dp_engine_close(e);
    return 0;
}

static int remove_model(void **unused)
{
    unlink(path);
    unlink(lora_path);
    for (uint32_t i = 0; i <= PARTS; i++) {
        if (i < PARTS)
            unlink(part_paths[i]);
        dp_free(part_bytes[i]);
    }
    return rmdir(folder) || test_model_memory_is_free();
}

/* ---- a source that has it ---- */

typedef struct origin {
    dp_source_fake fake;
    dp_source_part parts[PARTS];
    const uint8_t *bytes[PARTS];
    dp_thread thread;
    uint32_t batch;   /* answers only once so many wait, or nobody asks for more */
    uint64_t fail_at; /* the read that fails, counted as they end */
    uint64_t ended;
} origin;

/* Waits for others that may be asked for: reads then end in an order not their own. */
static void linger(origin *o)
{
    for (uint32_t i = 0; i < 200; i++) {
        bool is_enough;
        dp_mutex_lock(&o->fake.lock);
        is_enough = o->fake.waiting_count >= o->batch || o->fake.is_over;
        dp_mutex_unlock(&o->fake.lock);
        if (is_enough)
            return;
        sched_yield();
    }
}

static void answer(void *user)
{
    origin *o = user;

    do
        linger(o);
    while (dp_source_fake_end_any(&o->fake, o->ended++ == o->fail_at ? 100 : 0, true));
}

/* order: which part of the split model comes where; NULL: the whole in one. */
static dp_source *origin_open(origin *o, const uint32_t *order, uint64_t seed, uint64_t fail_at)
{
    uint32_t count = order ? PARTS : 1;
    dp_error err;

    *o = (origin){ .batch = seed % 3 * 2, .fail_at = fail_at };
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from = order ? order[i] : PARTS;
        o->parts[i] = (dp_source_part){ "somewhere", part_sizes[from] };
        o->bytes[i] = part_bytes[from];
    }
    dp_source_fake_init(&o->fake, seed);
    o->fake.is_direct = seed % 2;
    o->fake.late_percent = 30;
    o->fake.files = o->parts;
    o->fake.bytes = o->bytes;
    o->fake.file_count = count;
    CHECK_OK(dp_thread_start(&o->thread, "origin", answer, o, &err), err);
    return &o->fake.base;
}

static void origin_close(origin *o)
{
    dp_source_fake_stop(&o->fake);
    dp_thread_join(&o->thread);
    dp_source_fake_deinit(&o->fake);
}

static dp_status open_engine(dp_engine **out, dp_source *source, const test_setting *settings,
                             dp_error *err)
{
    dp_options *options = test_options(settings);
    dp_status st = dp_engine_open_source(out, source, options, NULL, NULL, err);

    dp_options_close(options);
    return st;
}

/* ---- tests ---- */

static uint64_t least_of(dp_source *source)
{
    static const test_setting settings[TEST_SETTINGS] = { { "ram", "64MiB" }, { "ctx", "64" } };
    dp_options *options = test_options(settings);
    dp_plan_info plan;
    dp_inspect *in;
    dp_error err;

    CHECK_OK(dp_inspect_open_source(&in, source, &err), err);
    CHECK_OK(dp_inspect_plan(in, options, &plan, &err), err);
    dp_inspect_close(in);
    dp_options_close(options);
    return plan.least_bytes;
}

/* Budgets that can spare it leave room for all of it, small ones for a 16th of themselves. */
static void what_a_source_takes_is_planned_for(void **unused)
{
    static const struct {
        uint64_t own_bytes, planned;
    } rows[] = { { 3 * DP_MIB, 3 * DP_MIB }, { 4 * DP_MIB, 4 * DP_MIB }, { DP_GIB, 4 * DP_MIB } };
    static const test_setting wide[TEST_SETTINGS] = { { "ram", "64MiB" }, { "ctx", "64" } };
    dp_stats without, with;
    dp_engine *e;
    dp_error err;
    origin o;

    CHECK_OK(open_engine(&e, origin_open(&o, NULL, 1, UINT64_MAX), wide, &err), err);
    dp_engine_stats(e, &without);
    dp_engine_close(e);
    origin_close(&o);
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        char ram[32];
        const test_setting least[TEST_SETTINGS] = { { "ram", ram }, { "ctx", "64" } };
        dp_source *source = origin_open(&o, NULL, 1, UINT64_MAX);

        source->own_bytes = rows[i].own_bytes;
        CHECK_OK(open_engine(&e, source, wide, &err), err);
        dp_engine_stats(e, &with);
        dp_engine_close(e);
        CHECK(with.tables_bytes - without.tables_bytes == rows[i].planned, "row %zu: %llu", i,
              (unsigned long long)(with.tables_bytes - without.tables_bytes));
        snprintf(ram, sizeof ram, "%llu", (unsigned long long)least_of(source));
        CHECK_OK(open_engine(&e, source, least, &err), err); /* what is called least is enough */
        dp_engine_close(e);
        snprintf(ram, sizeof ram, "%llu", (unsigned long long)least_of(source) / 2);
        CHECK(open_engine(&e, source, least, &err) == DP_E_BUDGET, "row %zu: far too little", i);
        origin_close(&o);
    }
}

static void same_bits_under_every_budget(void **unused)
{
    static const uint32_t orders[][PARTS] = { { 0, 1, 2 }, { 2, 0, 1 } };
    static const uint64_t more[] = { 0, 100 << 10, 300 << 10, 64 << 20 };

    for (size_t i = 0; i < 3 * DP_ARRAY_LEN(more); i++) {
        const uint32_t *order = i % 3 ? orders[i % 3 - 1] : NULL;
        char ram[32];
        const test_setting settings[TEST_SETTINGS] = {
            { "ram", ram }, { "ctx", "64" }, { "threads", "2" }, { "governor", "off" }
        };
        origin o;
        dp_source *source = origin_open(&o, order, i, UINT64_MAX);
        dp_stats stats;
        dp_engine *e;
        dp_error err;

        snprintf(ram, sizeof ram, "%llu", (unsigned long long)(least_of(source) + more[i / 3]));
        CHECK_OK(open_engine(&e, source, settings, &err), err);
        CHECK_OK(run(e, false, found, &err), err);
        CHECK(!memcmp(found, want, sizeof want), "row %zu: other bits", i);
        dp_engine_stats(e, &stats);
        CHECK(!strcmp(stats.source, "fake") && stats.disk_read_bytes && !stats.swarm_read_bytes,
              "%s: %llu", stats.source, (unsigned long long)stats.disk_read_bytes);
        CHECK(more[i / 3] > DP_MIB || stats.expert_misses > 0, "nothing was read again");
        dp_engine_close(e);
        origin_close(&o);
    }
}

/* Adapters are files whatever the model is. */
static void adapters_beside_a_source(void **unused)
{
    static const test_setting settings[TEST_SETTINGS] = { { "ram", "3MiB" }, { "ctx", "64" } };
    origin o;
    dp_source *source = origin_open(&o, (const uint32_t[]){ 1, 2, 0 }, 5, UINT64_MAX);
    dp_engine *e;
    dp_error err;

    CHECK_OK(open_engine(&e, source, settings, &err), err);
    for (int again = 0; again < 2; again++) {
        CHECK_OK(run(e, true, found, &err), err);
        CHECK(!memcmp(found, want_lora, sizeof found), "with the adapter: other bits");
        CHECK_OK(run(e, false, found, &err), err);
        CHECK(!memcmp(found, want, sizeof found), "without: other bits");
    }
    dp_engine_close(e);
    origin_close(&o);
}

/* The n-th read fails: an error where somebody waited for it, and nothing is lost. */
static void failing_reads(void **unused)
{
    static const test_setting settings[TEST_SETTINGS] = { { "ram", "1200KiB" },
                                                          { "ctx", "64" },
                                                          { "governor", "off" } };
    uint64_t opens_failed = 0, steps_failed = 0, n = 0;
    bool has_failed = true;

    for (; has_failed; n += n < 20 ? 1 : 5) {
        dp_mem_stats before, after;
        dp_engine *e;
        dp_error err;
        dp_status st;
        origin o;

        dp_mem_stats_read(&before);
        st = open_engine(&e, origin_open(&o, NULL, n, n), settings, &err);
        CHECK(st == DP_OK || (st == DP_E_IO && !e && strstr(err.text, "failed")), "read %d: %s",
              (int)n, err.text);
        opens_failed += st != DP_OK;
        if (st == DP_OK) {
            st = run(e, false, found, &err);
            CHECK(st == DP_OK || st == DP_E_IO, "read %d: %s", (int)n, err.text);
            CHECK(!memcmp(found, want, sizeof want), "read %d: other bits", (int)n);
            steps_failed += st != DP_OK;
        }
        dp_engine_close(e);
        origin_close(&o);
        has_failed = o.ended > n + 1;
        dp_mem_stats_read(&after);
        CHECK(after.heap_blocks == before.heap_blocks && after.map_bytes == before.map_bytes,
              "read %d: leaks", (int)n);
    }
    CHECK(opens_failed > 3 && steps_failed > 3, "%d opens, %d steps failed", (int)opens_failed,
          (int)steps_failed);
}

static void vocabulary_and_description(void **unused)
{
    dp_model_info by_path, by_source;
    origin o;
    dp_source *source = origin_open(&o, (const uint32_t[]){ 2, 1, 0 }, 1, UINT64_MAX);
    dp_vocab *vocab;
    dp_inspect *in, *whole;
    dp_error err;

    CHECK_OK(dp_vocab_open_source(&vocab, source, &err), err);
    CHECK(dp_vocab_count(vocab) == VOCAB, "%u tokens", dp_vocab_count(vocab));
    dp_vocab_close(vocab);
    CHECK_OK(dp_inspect_open_source(&in, source, &err), err);
    CHECK_OK(dp_inspect_open(&whole, path, &err), err);
    dp_inspect_model(in, &by_source);
    dp_inspect_model(whole, &by_path);
    CHECK(!strcmp(by_source.path, "somewhere") && by_source.part_count == PARTS, "%s",
          by_source.path);
    CHECK(by_source.tensor_bytes == by_path.tensor_bytes && by_source.is_supported &&
              by_source.tensor_count == by_path.tensor_count &&
              by_source.expert_count == by_path.expert_count,
          "another model");
    dp_inspect_close(in);
    dp_inspect_close(whole);
    origin_close(&o);
}

/* What was learned of a model by path is known when it comes from elsewhere, its parts in
 * another order. */
static void heat_is_the_models(void **unused)
{
    char heat[sizeof folder + 1];
    const test_setting settings[TEST_SETTINGS] = {
        { "ram", "1200KiB" }, { "ctx", "64" }, { "heat", heat }, { "governor", "off" }
    };
    origin o;
    dp_engine *e;
    dp_explain explain;
    dp_error err;
    DIR *dir;
    uint32_t files = 0;

    snprintf(heat, sizeof heat, "%s/", folder);
    e = test_engine(part_paths[0], settings);
    CHECK_OK(run(e, false, found, &err), err);
    dp_engine_close(e);
    CHECK_OK(open_engine(&e, origin_open(&o, (const uint32_t[]){ 2, 0, 1 }, 3, UINT64_MAX),
                         settings, &err),
             err);
    CHECK_OK(run(e, false, found, &err), err);
    CHECK(!memcmp(found, want, sizeof found), "other bits");
    CHECK_OK(dp_engine_explain(e, &explain, &err), err);
    CHECK(!strcmp(explain.heat, "restored"), "%s", explain.heat);
    CHECK(explain.tier_count == 1 && !strcmp(explain.tiers[0].name, "swarm"), "%s",
          explain.tiers[0].name);
    dp_engine_close(e);
    origin_close(&o);

    dir = opendir(folder);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        char name[sizeof folder + sizeof entry->d_name + 1];
        if (!strstr(entry->d_name, ".heat"))
            continue;
        files++;
        snprintf(name, sizeof name, "%s/%s", folder, entry->d_name);
        unlink(name);
    }
    closedir(dir);
    CHECK(files == 1, "%u files of heat", files);
}

static void count_as_swarm(dp_source *s, dp_source_counts *out)
{
    *out = (dp_source_counts){ 1000, 234567 };
}

static void sources_that_count(void **unused)
{
    static const test_setting settings[TEST_SETTINGS] = { { "ram", "8MiB" }, { "ctx", "64" } };
    origin o;
    dp_source *source = origin_open(&o, NULL, 2, UINT64_MAX);
    dp_source_ops ops = *source->ops;
    dp_stats stats;
    dp_engine *e;
    dp_error err;

    ops.count = count_as_swarm;
    source->ops = &ops;
    CHECK_OK(open_engine(&e, source, settings, &err), err);
    dp_engine_stats(e, &stats);
    CHECK(stats.swarm_read_bytes == 234567 && stats.disk_read_bytes == 1000, "%llu",
          (unsigned long long)stats.swarm_read_bytes);
    dp_engine_close(e);
    origin_close(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_source_takes_is_planned_for),
        cmocka_unit_test(same_bits_under_every_budget),
        cmocka_unit_test(adapters_beside_a_source),
        cmocka_unit_test(failing_reads),
        cmocka_unit_test(vocabulary_and_description),
        cmocka_unit_test(heat_is_the_models),
        cmocka_unit_test(sources_that_count),
    };

    return cmocka_run_group_tests(tests, make_model, remove_model);
}
