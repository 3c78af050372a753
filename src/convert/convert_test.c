/* Whole conversions: what fails from outside leaves nothing behind, and is said.
 * What comes out is judged by tests/convert, in another language. */
#include "doppler/convert.h"

#include <stdlib.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/fault.h"
#include "base/mem.h"
#include "format/gguf.h"
#include "testing/check.h"

static char folder[] = "convert_test.XXXXXX";
static char path[64], out_path[64], partial_path[80];

static void write_text(const char *name, const char *text)
{
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "wb");
    CHECK(file, "%s", path);
    fputs(text, file);
    CHECK(fclose(file) == 0, "%s", path);
}

static const char config[] =
    "{\"architectures\":[\"DeepseekV3ForCausalLM\"],\"model_type\":\"deepseek_v3\","
    "\"hidden_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2,\"intermediate_size\":6,"
    "\"vocab_size\":8,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-6,\"kv_lora_rank\":4,"
    "\"q_lora_rank\":null,\"qk_nope_head_dim\":3,\"qk_rope_head_dim\":2,\"v_head_dim\":5,"
    "\"n_routed_experts\":2,\"num_experts_per_tok\":1,\"n_shared_experts\":1,"
    "\"moe_intermediate_size\":4,\"first_k_dense_replace\":0,\"n_group\":1,\"topk_group\":1,"
    "\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[4,4]},"
    "\"eos_token_id\":2}";
static const char tokenizer[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},"
    "{\"id\":2,\"content\":\"</s>\",\"special\":true}],"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"byte_fallback\":true,"
    "\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"a\":3,\"b\":4,\"ab\":5},"
    "\"merges\":[[\"a\",\"b\"]]}}";
static const char tokenizer_config[] = "{\"bos_token\":\"<s>\",\"add_bos_token\":true,"
                                       "\"chat_template\":\"{{ x }}\"}";

#define L "model.layers.0."

static const struct {
    const char *name;
    uint32_t rows, columns; /* rows 0: a vector */
    bool is_fp8;
} tensors[] = {
    { "model.embed_tokens.weight", 8, 8, false },
    { "model.norm.weight", 0, 8, false },
    { "lm_head.weight", 8, 8, false },
    { L "input_layernorm.weight", 0, 8, false },
    { L "post_attention_layernorm.weight", 0, 8, false },
    { L "self_attn.q_proj.weight", 10, 8, true },
    { L "self_attn.kv_a_proj_with_mqa.weight", 6, 8, true },
    { L "self_attn.kv_a_layernorm.weight", 0, 4, false },
    { L "self_attn.kv_b_proj.weight", 16, 4, true },
    { L "self_attn.o_proj.weight", 8, 10, true },
    { L "mlp.gate.weight", 2, 8, false },
    { L "mlp.gate.e_score_correction_bias", 0, 2, false },
    { L "mlp.experts.0.gate_proj.weight", 4, 8, true },
    { L "mlp.experts.0.up_proj.weight", 4, 8, true },
    { L "mlp.experts.0.down_proj.weight", 8, 4, true },
    { L "mlp.experts.1.gate_proj.weight", 4, 8, true },
    { L "mlp.experts.1.up_proj.weight", 4, 8, true },
    { L "mlp.experts.1.down_proj.weight", 8, 4, true },
    { L "mlp.shared_experts.gate_proj.weight", 4, 8, true },
    { L "mlp.shared_experts.up_proj.weight", 4, 8, true },
    { L "mlp.shared_experts.down_proj.weight", 8, 4, true },
};

/* Appends one description, and grows *at by the tensor's bytes. */
static void describe(dp_buf *header, const char *name, const char *suffix, const char *type,
                     uint32_t rows, uint32_t columns, uint32_t size, uint64_t *at)
{
    uint64_t end = *at + (uint64_t)(rows ? rows : 1) * columns * size;
    char shape[32];

    if (rows)
        snprintf(shape, sizeof shape, "%u,%u", rows, columns);
    else
        snprintf(shape, sizeof shape, "%u", columns);
    CHECK(dp_buf_format(header,
                        "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
                        header->size > 1 ? "," : "", name, suffix, type, shape,
                        (unsigned long long)*at, (unsigned long long)end) == DP_OK,
          "header");
    *at = end;
}

/* The tensors [begin, end) as a file; every byte of them is 0x38: 1 in FP8. */
static void write_shard(const char *name, size_t begin, size_t end)
{
    uint64_t at = 0;
    dp_buf header;
    FILE *file;

    dp_buf_init(&header, 1 << 20);
    CHECK(dp_buf_text(&header, "{") == DP_OK, "header");
    for (size_t i = begin; i < end; i++) {
        describe(&header, tensors[i].name, "", tensors[i].is_fp8 ? "F8_E4M3" : "BF16",
                 tensors[i].rows, tensors[i].columns, tensors[i].is_fp8 ? 1 : 2, &at);
        if (tensors[i].is_fp8)
            describe(&header, tensors[i].name, "_scale_inv", "F32", (tensors[i].rows + 3) / 4,
                     (tensors[i].columns + 3) / 4, 4, &at);
    }
    CHECK(dp_buf_text(&header, "}") == DP_OK, "header");
    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "wb");
    CHECK(file, "%s", path);
    for (int i = 0; i < 8; i++)
        fputc((int)(header.size >> 8 * i & 0xff), file);
    fwrite(header.bytes, 1, header.size, file);
    for (uint64_t i = 0; i < at; i++)
        fputc(0x38, file);
    CHECK(fclose(file) == 0, "%s", path);
    dp_buf_deinit(&header);
}

static int make_folder(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    snprintf(out_path, sizeof out_path, "%s/out.gguf", folder);
    snprintf(partial_path, sizeof partial_path, "%s.partial", out_path);
    write_text("config.json", config);
    write_text("tokenizer.json", tokenizer);
    write_text("tokenizer_config.json", tokenizer_config);
    write_text("generation_config.json", "{\"eos_token_id\":[2,5]}");
    write_text("model.safetensors.index.json",
               "{\"weight_map\":{\"lm_head.weight\":\"a.safetensors\","
               "\"model.layers.0.mlp.gate.weight\":\"b.safetensors\"}}");
    write_shard("a.safetensors", 0, 10);
    write_shard("b.safetensors", 10, DP_ARRAY_LEN(tensors));
    return 0;
}

static int remove_folder(void **state)
{
    static const char *const names[] = { "config.json",
                                         "tokenizer.json",
                                         "tokenizer_config.json",
                                         "generation_config.json",
                                         "model.safetensors.index.json",
                                         "a.safetensors",
                                         "b.safetensors",
                                         "out.gguf" };

    for (size_t i = 0; i < DP_ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

static void test_whole(void **state)
{
    dp_convert_report report;
    dp_error err = { 0 };
    dp_gguf *g;

    CHECK(dp_convert_is_directory(folder), "it is one");
    CHECK(!dp_convert_is_directory(out_path), "it is none");
    CHECK_OK(dp_convert(folder, out_path, NULL, &report, &err), err);
    CHECK(strcmp(report.architecture, "deepseek2") == 0, "%s", report.architecture);
    CHECK_OK(dp_gguf_open(&g, out_path, &err), err);
    CHECK(dp_gguf_tensor_count(g) == report.tensor_count, "%zu", dp_gguf_tensor_count(g));
    CHECK(dp_gguf_part_size(g, 0) == report.file_bytes, "bytes");
    CHECK(dp_gguf_find_tensor(g, "blk.0.attn_q.weight"), "a query without a low rank");
    dp_gguf_close(g);
}

/* Every allocation, read and write fails in turn. */
static void test_faults(void **state)
{
    static const struct {
        dp_fault point;
        dp_status want;
        uint64_t visits_min;
    } rows[] = { { DP_FAULT_MEM, DP_E_NOMEM, 50 },
                 { DP_FAULT_READ, DP_E_IO, 40 },
                 { DP_FAULT_WRITE, DP_E_IO, 5 } };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        unlink(out_path);
        for (uint64_t n = 0;; n++) {
            dp_mem_stats before, after;
            dp_error err = { 0 };
            dp_status st;

            dp_mem_stats_read(&before);
            dp_fault_arm(rows[i].point, n, 1);
            st = dp_convert(folder, out_path, NULL, NULL, &err);
            if (!dp_fault_disarm(rows[i].point)) {
                CHECK_OK(st, err);
                CHECK(n >= rows[i].visits_min, "only %llu visits", (unsigned long long)n);
                break;
            }
            dp_mem_stats_read(&after);
            CHECK(st == rows[i].want && err.text[0], "visit %llu: %d %s", (unsigned long long)n, st,
                  err.text);
            CHECK(after.heap_blocks == before.heap_blocks, "visit %llu leaks",
                  (unsigned long long)n);
            CHECK(access(out_path, F_OK) != 0 && access(partial_path, F_OK) != 0,
                  "visit %llu left a file", (unsigned long long)n);
        }
    }
}

static bool stop_at_half(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    CHECK(done_bytes <= total_bytes, "%llu", (unsigned long long)done_bytes);
    ++*(int *)user;
    return done_bytes < total_bytes / 2;
}

static void test_cancel(void **state)
{
    int calls = 0;
    dp_convert_how how = { .progress = stop_at_half, .user = &calls };
    dp_error err = { 0 };

    unlink(out_path);
    CHECK(dp_convert(folder, out_path, &how, NULL, &err) == DP_E_CANCELED, "%s", err.text);
    CHECK(calls > 2 && access(out_path, F_OK) != 0 && access(partial_path, F_OK) != 0, "%d", calls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_cancel),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
