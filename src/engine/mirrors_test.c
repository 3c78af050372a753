/* Copies of a model: the same bits from any number of them, whichever fails; and what is no copy. */
#include "engine/mirrors.h"

#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/map.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/engine_testing.h"
#include "engine/options.h"

enum { VOCAB = 64, TOKENS = 24, COPIES = 3 };

static char path[] = "/tmp/doppler-mirror-XXXXXX";
static char copy_path[COPIES][sizeof path + 4];
static float want[TOKENS][VOCAB];
static char *content; /* with a NUL behind it */
static size_t content_size;

static void write_copy(int copy, size_t size)
{
    FILE *file = fopen(copy_path[copy], "wb");

    CHECK(file && fwrite(content, 1, size, file) == size && fclose(file) == 0, "%s",
          copy_path[copy]);
}

/* Decodes token by token; each logit is the one of the first run. */
static void play(dp_engine *engine, bool is_first)
{
    dp_session *s = test_session(engine, (const test_setting[TEST_SETTINGS]){ { NULL, NULL } });
    dp_error err;

    for (uint32_t i = 0; i < TOKENS; i++) {
        dp_token token = (dp_token)(dp_hash_u64(i) % VOCAB);
        CHECK_OK(dp_session_append(s, &token, 1, &err), err);
        CHECK_OK(dp_session_eval(s, &err), err);
        if (is_first)
            memcpy(want[i], dp_session_logits(s), sizeof want[i]);
        CHECK(!memcmp(want[i], dp_session_logits(s), sizeof want[i]), "token %u", i);
    }
    dp_session_close(s);
}

static int make_model(void **unused)
{
    test_model m = { .layers = 3,
                     .dim = 128,
                     .heads = 4,
                     .kv_heads = 2,
                     .head_dim = 32,
                     .ff = 256,
                     .vocab = VOCAB,
                     .context = 64,
                     .experts = 12,
                     .used = 2 };
    dp_engine *engine;
    dp_error err;

    test_model_make(&m, 3);
    test_model_save(&m, path);
    test_model_free(&m);
    CHECK_OK(dp_file_read_all(&content, &content_size, path, 64 << 20, &err), err);
    for (int i = 0; i < COPIES; i++) {
        snprintf(copy_path[i], sizeof copy_path[i], "%s.%d", path, i);
        write_copy(i, content_size);
    }
    engine = test_engine(
        path, (const test_setting[TEST_SETTINGS]){ { "ctx", "64" }, { "ram", "64MiB" } });
    play(engine, true);
    dp_engine_close(engine);
    return 0;
}

static int remove_model(void **unused)
{
    for (int i = 0; i < COPIES; i++)
        unlink(copy_path[i]);
    dp_free(content);
    return unlink(path);
}

/* Room for about a third of the experts; so many copies. */
static dp_engine *open_copies(const char *io, const char *engine, int copies)
{
    char ram[24];
    dp_plan_info plan;
    dp_inspect *inspect;
    dp_options *options = test_options((const test_setting[TEST_SETTINGS]){
        { "ctx", "64" }, { "threads", "1" }, { "batch", "8" }, { "ram", "64MiB" } });
    dp_engine *e;
    dp_error err;

    CHECK_OK(dp_inspect_open(&inspect, path, &err), err);
    CHECK_OK(dp_inspect_plan(inspect, options, &plan, &err), err);
    dp_inspect_close(inspect);
    snprintf(ram, sizeof ram, "%llu",
             (unsigned long long)(plan.tables_bytes + plan.kv_bytes + plan.buffer_bytes +
                                  plan.always_bytes + 5 * DP_MIB));
    CHECK_OK(dp_options_set(options, "ram", ram, &err), err);
    CHECK_OK(dp_options_set(options, "io", io, &err), err);
    CHECK_OK(dp_options_set(options, "io-engine", engine, &err), err);
    CHECK_OK(dp_options_set(options, "io-depth", "3", &err), err);
    CHECK_OK(dp_options_set(options, "io-request", "65536", &err), err);
    for (int i = 0; i < copies; i++)
        CHECK_OK(dp_options_set(options, "model-mirror", copy_path[i], &err), err);
    CHECK_OK(dp_engine_open(&e, path, options, NULL, NULL, &err), err);
    dp_options_close(options);
    return e;
}

static void test_same_bits(void **unused)
{
    static const char *const ways[][2] = { { "auto", "auto" },
                                           { "buffered", "auto" },
                                           { "auto", "threads" } };

    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++)
        for (int copies = 0; copies <= COPIES; copies++) {
            dp_engine *e = open_copies(ways[way][0], ways[way][1], copies);
            dp_stats stats;

            play(e, false);
            dp_engine_stats(e, &stats);
            CHECK(stats.expert_misses > TOKENS, "all was there");
            CHECK(!copies == !strstr(stats.source, " copies)"), "%s", stats.source);
            dp_engine_close(e);
        }
}

/* A file that is cut while it is read, the model's own too. */
static void test_copies_fail(void **unused)
{
    for (int cut = 0; cut < 3; cut++) {
        dp_engine *e = open_copies("auto", "auto", 2);

        play(e, false);
        CHECK(truncate(cut ? copy_path[cut - 1] : path, 100) == 0, "cut");
        play(e, false);
        play(e, false);
        dp_engine_close(e);
        write_copy(0, content_size);
        write_copy(1, content_size);
        if (!cut) {
            FILE *file = fopen(path, "wb");
            CHECK(file && fwrite(content, 1, content_size, file) == content_size, "%s", path);
            fclose(file);
        }
    }
}

static dp_status try_list(const char *list, dp_error *err)
{
    dp_mirrors mirrors;
    dp_gguf *gguf;
    dp_status st;

    CHECK_OK(dp_gguf_open(&gguf, path, err), *err);
    st = dp_mirrors_open(&mirrors, list, gguf, err);
    dp_mirrors_close(&mirrors);
    dp_gguf_close(gguf);
    return st;
}

static void test_what_is_no_copy(void **unused)
{
    char list[(DP_MIRRORS_MAX + 1) * sizeof copy_path[0]] = "";
    char *at = NULL;
    dp_error err;

    CHECK_OK(try_list("", &err), err);
    CHECK_OK(try_list(copy_path[0], &err), err);
    write_copy(0, content_size - 32);
    CHECK(try_list(copy_path[0], &err) != DP_OK && strstr(err.text, copy_path[0]), "%s", err.text);
    write_copy(0, content_size + 1);
    CHECK(try_list(copy_path[0], &err) == DP_E_INVALID && strstr(err.text, "no copy"), "%s",
          err.text);
    /* A key is called something else. */
    for (size_t i = 0; i + 7 < content_size && !at; i++)
        if (!memcmp(content + i, "context", 7))
            at = content + i;
    CHECK(at, "a key");
    at[0] = 'k';
    write_copy(0, content_size);
    at[0] = 'c';
    CHECK(try_list(copy_path[0], &err) == DP_E_INVALID && strstr(err.text, "no copy"), "%s",
          err.text);
    write_copy(0, content_size);
    CHECK(try_list(path, &err) == DP_E_INVALID && strstr(err.text, "itself"), "%s", err.text);
    CHECK(try_list("/nowhere/x.gguf", &err) == DP_E_NOTFOUND, "%s", err.text);
    for (int i = 0; i <= DP_MIRRORS_MAX; i++) {
        strcat(list, copy_path[i % COPIES]);
        strcat(list, "\n");
    }
    CHECK(try_list(list, &err) == DP_E_LIMIT, "%s", err.text);
}

static void test_memory_is_short(void **unused)
{
    dp_mem_stats before, after;
    dp_gguf *gguf;
    dp_error err;
    dp_status st;

    CHECK_OK(dp_gguf_open(&gguf, path, &err), err);
    dp_mem_stats_read(&before);
    for (uint64_t visit = 0;; visit++) {
        dp_mirrors mirrors;

        dp_fault_arm(DP_FAULT_MEM, visit, 1);
        st = dp_mirrors_open(&mirrors, copy_path[0], gguf, &err);
        dp_mirrors_close(&mirrors);
        dp_mem_stats_read(&after);
        CHECK(!memcmp(&before, &after, sizeof before), "visit %d leaks", (int)visit);
        if (!dp_fault_disarm(DP_FAULT_MEM))
            break;
        CHECK(st == DP_E_NOMEM && err.text[0], "visit %d: %d", (int)visit, st);
    }
    CHECK_OK(st, err);
    dp_gguf_close(gguf);
}

static void test_option(void **unused)
{
    dp_options *o = dp_options_open();
    dp_error err;

    CHECK(!strcmp(dp_options_text(o, DP_OPT_MODEL_MIRROR), ""), "none");
    CHECK_OK(dp_options_set(o, "model-mirror", "a", &err), err);
    CHECK_OK(dp_options_set(o, "model-mirror", "b c", &err), err);
    CHECK(!strcmp(dp_options_text(o, DP_OPT_MODEL_MIRROR), "a\nb c"), "\"%s\"",
          dp_options_text(o, DP_OPT_MODEL_MIRROR));
    CHECK(dp_options_set(o, "model-mirror", "d\ne", &err) == DP_E_INVALID, "two lines");
    CHECK_OK(dp_options_set(o, "model-mirror", "", &err), err);
    CHECK_OK(dp_options_set(o, "model-mirror", "f", &err), err);
    CHECK(!strcmp(dp_options_text(o, DP_OPT_MODEL_MIRROR), "f"), "begins anew");
    dp_options_close(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),       cmocka_unit_test(test_copies_fail),
        cmocka_unit_test(test_what_is_no_copy), cmocka_unit_test(test_memory_is_short),
        cmocka_unit_test(test_option),
    };

    return cmocka_run_group_tests(tests, make_model, remove_model);
}
