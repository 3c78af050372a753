#include "doppler/inspect.h"

#include "base/fault.h"
#include "engine/engine_testing.h"

static char path[] = "/tmp/doppler-inspect-XXXXXX";
static const char *const pieces[] = { "\u2581a", "b" };

static void more_keys(dp_gguf_writer *w)
{
    char text[200];

    memset(text, 'x', 90);
    strcpy(text + 90, "\u20AC\u20AC\u20AC and more");
    dp_gguf_writer_str(w, "test.long", text);
    dp_gguf_writer_str(w, "test.raw", "a\tb\x1b[31mc\nd");
    dp_gguf_writer_bool(w, "test.flag", true);
    dp_gguf_writer_u64(w, "test.large", UINT64_MAX);
    dp_gguf_writer_array(w, "test.list", DP_GGUF_I32, 3, (const int32_t[]){ 1, 2, 3 });
}

static test_model shape(void)
{
    return (test_model){ .layers = 2,
                         .dim = 64,
                         .heads = 4,
                         .kv_heads = 2,
                         .head_dim = 16,
                         .ff = 96,
                         .vocab = TEST_MODEL_PIECES + 2,
                         .context = 512,
                         .experts = 4,
                         .used = 2,
                         .type = DP_Q8_0,
                         .pieces = pieces,
                         .piece_count = 2,
                         .more_keys = more_keys };
}

static int make_model(void **unused)
{
    test_model m = shape();

    test_model_make(&m, 1);
    test_model_save(&m, path);
    test_model_free(&m);
    return 0;
}

static int remove_model(void **unused)
{
    return unlink(path) || test_model_memory_is_free();
}

static dp_inspect *open_inspect(void)
{
    dp_inspect *inspect;
    dp_error err;

    CHECK_OK(dp_inspect_open(&inspect, path, &err), err);
    return inspect;
}

static void the_model_is_described(void **unused)
{
    test_model m = shape();
    dp_inspect *inspect = open_inspect();
    uint64_t parameters = 0, tensor_bytes = 0;
    dp_model_info info;
    dp_tensor_info t;

    dp_inspect_model(inspect, &info);
    CHECK(strcmp(info.path, path) == 0 && strcmp(info.architecture, "llama") == 0 &&
              strcmp(info.name, "made for a test") == 0,
          "%s: %s", info.path, info.architecture);
    CHECK(info.is_supported && !info.unsupported[0] && info.part_count == 1, "%s",
          info.unsupported);
    CHECK(info.layer_count == m.layers && info.embed_dim == m.dim && info.vocab_size == m.vocab &&
              info.context_max == m.context && info.head_count == m.heads &&
              info.kv_head_count == m.kv_heads && info.key_dim == m.head_dim &&
              info.value_dim == m.head_dim,
          "dimensions");
    CHECK(info.expert_count == 4 && info.expert_used == 2 && info.expert_ff_dim == m.ff &&
              info.ff_dim == 0 && info.expert_shared == 0,
          "experts");
    CHECK(info.kv_bytes_per_token == m.layers * m.kv_heads * 2 * m.head_dim * 2, "%d bytes a token",
          (int)info.kv_bytes_per_token);
    test_model_make(&m, 1);
    CHECK(info.tensor_count == m.tensor_count, "%u tensors", info.tensor_count);
    for (uint32_t i = 0; i < m.tensor_count; i++) {
        CHECK(dp_inspect_tensor(inspect, i, &t), "tensor %u", i);
        CHECK(strcmp(t.name, m.tensors[i].name) == 0 && t.dim_count == m.tensors[i].dim_count &&
                  memcmp(t.ne, m.tensors[i].ne, sizeof t.ne) == 0 && t.part == 0 &&
                  strcmp(t.type, m.tensors[i].type == DP_F32 ? "F32" : "Q8_0") == 0,
              "%s", t.name);
        parameters += test_tensor_values(&m.tensors[i]);
        tensor_bytes += t.size;
    }
    CHECK(!dp_inspect_tensor(inspect, m.tensor_count, &t), "one more");
    CHECK(info.parameter_count == parameters && info.tensor_bytes == tensor_bytes &&
              info.file_bytes > tensor_bytes,
          "sums");
    test_model_free(&m);
    dp_inspect_close(inspect);
}

static const struct {
    const char *key, *type, *value;
} keys[] = {
    { "general.architecture", "string", "llama" },
    { "llama.block_count", "u32", "2" },
    { "llama.attention.layer_norm_rms_epsilon", "f32", "9.99999975e-06" },
    { "tokenizer.ggml.tokens", "string", "[261]" },
    { "test.raw", "string", "a.b.[31mc.d" },
    { "test.flag", "bool", "true" },
    { "test.large", "u64", "18446744073709551615" },
    { "test.list", "i32", "[3]" },
};

static void keys_are_printable(void **unused)
{
    dp_inspect *inspect = open_inspect();
    dp_model_info info;
    dp_key_info key;
    uint32_t seen = 0;

    dp_inspect_model(inspect, &info);
    for (uint32_t i = 0; i < info.key_count; i++) {
        CHECK(dp_inspect_key(inspect, i, &key), "key %u", i);
        for (size_t k = 0; k < DP_ARRAY_LEN(keys); k++)
            if (strcmp(key.key, keys[k].key) == 0) {
                CHECK(strcmp(key.type, keys[k].type) == 0 && strcmp(key.value, keys[k].value) == 0,
                      "%s is %s \"%s\"", key.key, key.type, key.value);
                seen++;
            }
        if (strcmp(key.key, "test.long") == 0) /* cut before the first half character */
            CHECK(strlen(key.value) == 90 + 3 && strcmp(key.value + 90, "...") == 0, "\"%s\"",
                  key.value);
    }
    CHECK(seen == DP_ARRAY_LEN(keys) && !dp_inspect_key(inspect, info.key_count, &key), "%u keys",
          seen);
    dp_inspect_close(inspect);
}

static void groups_of_pages_hold_all_bytes(void **unused)
{
    dp_inspect *inspect = open_inspect();
    dp_page_group always, embedding, expert, none;
    dp_model_info info;

    dp_inspect_model(inspect, &info);
    CHECK(dp_inspect_pages(inspect, 0, &always) && dp_inspect_pages(inspect, 1, &embedding) &&
              dp_inspect_pages(inspect, 2, &expert) && !dp_inspect_pages(inspect, 3, &none),
          "three groups");
    CHECK(always.bytes + embedding.bytes + expert.bytes == info.tensor_bytes, "bytes are missing");
    CHECK(strcmp(expert.kind, "expert") == 0 && expert.page_count == 8 &&
              expert.bytes_min == expert.bytes_max && expert.bytes == 8 * expert.bytes_max,
          "%u experts", expert.page_count);
    CHECK(expert.bytes_per_token == expert.bytes / 2 && always.bytes_per_token == always.bytes &&
              embedding.bytes_per_token == embedding.bytes_max,
          "bytes a token");
    dp_inspect_close(inspect);
}

/* What an engine says of itself once it has run. */
static void plans_are_those_of_a_run(void **unused)
{
    static const test_setting rows[][TEST_SETTINGS] = {
        { { "ram", "64MiB" } },
        { { "ram", "8MiB" }, { "ctx", "300" }, { "threads", "3" } },
        { { "ram", "8MiB" }, { "sessions", "4" }, { "batch", "16" }, { "io", "buffered" } },
        { { "ram", "8MiB" }, { "ctx", "300" }, { "kv-type", "f32" } },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_options *options = test_options(rows[i]);
        dp_inspect *inspect = open_inspect();
        dp_engine *engine = test_engine(path, rows[i]);
        dp_plan_info plan;
        dp_stats stats;
        dp_error err;

        CHECK_OK(dp_inspect_plan(inspect, options, &plan, &err), err);
        dp_engine_stats(engine, &stats);
        CHECK(plan.fits && plan.pins_always && plan.experts_held == 8 && plan.experts_total == 8,
              "row %zu: %u experts", i, plan.experts_held);
        CHECK(plan.budget_bytes == stats.budget_bytes && plan.tables_bytes == stats.tables_bytes &&
                  plan.kv_bytes == stats.kv_bytes && plan.buffer_bytes == stats.buffer_bytes &&
                  plan.slot_bytes == stats.slot_budget_bytes &&
                  plan.always_bytes == stats.pinned_bytes &&
                  strcmp(plan.kv_type, stats.kv_type) == 0,
              "row %zu: other numbers", i);
        dp_engine_close(engine);
        dp_inspect_close(inspect);
        dp_options_close(options);
    }
}

static void sigmoid(dp_gguf_writer *w)
{
    dp_gguf_writer_u32(w, "llama.expert_gating_func", 2);
}

/* What can't be run can still be looked at. */
static void unsupported_models_say_why(void **unused)
{
    char other[] = "/tmp/doppler-inspect-XXXXXX";
    test_model m = shape();
    dp_inspect *inspect;
    dp_model_info info;
    dp_page_group group;
    dp_plan_info plan;
    dp_error err;

    m.more_keys = sigmoid;
    test_model_make(&m, 1);
    test_model_save(&m, other);
    test_model_free(&m);
    CHECK_OK(dp_inspect_open(&inspect, other, &err), err);
    unlink(other);
    dp_inspect_model(inspect, &info);
    CHECK(!info.is_supported && strstr(info.unsupported, "expert_gating_func"), "\"%s\"",
          info.unsupported);
    CHECK(info.layer_count == 2 && !dp_inspect_pages(inspect, 0, &group), "dimensions");
    CHECK(dp_inspect_plan(inspect, NULL, &plan, &err) == DP_E_UNSUPPORTED &&
              strstr(err.text, "expert_gating_func"),
          "%s", err.text);
    dp_inspect_close(inspect);
    CHECK(dp_inspect_open(&inspect, "/nowhere/model.gguf", &err) == DP_E_NOTFOUND && !inspect,
          "opened");
}

static void short_memory_is_refused(void **unused)
{
    dp_status st = DP_E_NOMEM;

    for (uint64_t n = 0; st; n++) {
        dp_mem_stats before, after;
        dp_inspect *inspect;
        dp_plan_info plan;
        dp_error err;

        dp_mem_stats_read(&before);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_inspect_open(&inspect, path, &err);
        if (!st)
            st = dp_inspect_plan(inspect, NULL, &plan, &err);
        dp_fault_disarm(DP_FAULT_MEM);
        CHECK(n < 2000 && (!st || (st == DP_E_NOMEM && err.text[0])), "visit %d: status %d: %s",
              (int)n, st, err.text);
        dp_inspect_close(inspect);
        dp_mem_stats_read(&after);
        CHECK(before.heap_blocks == after.heap_blocks, "visit %d leaked", (int)n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_is_described),
        cmocka_unit_test(keys_are_printable),
        cmocka_unit_test(groups_of_pages_hold_all_bytes),
        cmocka_unit_test(plans_are_those_of_a_run),
        cmocka_unit_test(unsupported_models_say_why),
        cmocka_unit_test(short_memory_is_refused),
    };

    return cmocka_run_group_tests(tests, make_model, remove_model);
}
