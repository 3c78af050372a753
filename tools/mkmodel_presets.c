#include "mkmodel.h"

#include <string.h>

/* clang-format off */
const mkmodel_shape mkmodel_presets[] = {
    { .name = "llama-tiny", .arch = "llama", .type = "Q4_0", .n_embd = 256, .n_ff = 768, .n_layer = 4,
      .n_head = 8, .n_head_kv = 2, .head_dim = 32, .n_vocab = 32000, .rope_base = 10000 },
    { .name = "llama-1b", .arch = "llama", .type = MKMODEL_TYPE_Q4_K_M, .n_embd = 2048, .n_ff = 8192,
      .n_layer = 16, .n_head = 32, .n_head_kv = 8, .head_dim = 64, .n_vocab = 128256, .tied = 1,
      .rope_base = 500000 },
    { .name = "llama-3b", .arch = "llama", .type = MKMODEL_TYPE_Q4_K_M, .n_embd = 3072, .n_ff = 8192,
      .n_layer = 28, .n_head = 24, .n_head_kv = 8, .head_dim = 128, .n_vocab = 128256, .tied = 1,
      .rope_base = 500000 },
    { .name = "llama-8b", .arch = "llama", .type = MKMODEL_TYPE_Q4_K_M, .n_embd = 4096, .n_ff = 14336,
      .n_layer = 32, .n_head = 32, .n_head_kv = 8, .head_dim = 128, .n_vocab = 128256,
      .rope_base = 500000 },
    { .name = "llama-70b", .arch = "llama", .type = MKMODEL_TYPE_Q4_K_M, .n_embd = 8192, .n_ff = 28672,
      .n_layer = 80, .n_head = 64, .n_head_kv = 8, .head_dim = 128, .n_vocab = 128256,
      .rope_base = 500000 },
    { .name = "mixtral-tiny", .arch = "llama", .type = "Q4_0", .n_embd = 256, .n_ff = 512, .n_layer = 4,
      .n_head = 8, .n_head_kv = 2, .head_dim = 32, .n_vocab = 32000, .n_expert = 8, .n_used = 2,
      .rope_base = 1000000 },
    { .name = "mixtral-8x7b", .arch = "llama", .type = MKMODEL_TYPE_Q4_K_M, .n_embd = 4096,
      .n_ff = 14336, .n_layer = 32, .n_head = 32, .n_head_kv = 8, .head_dim = 128, .n_vocab = 32000,
      .n_expert = 8, .n_used = 2, .rope_base = 1000000 },
    { .name = "gpt-oss-tiny", .arch = "gpt-oss", .type = "Q8_0", .expert_type = "MXFP4", .n_embd = 288,
      .n_ff_exp = 288, .n_layer = 4, .n_head = 8, .n_head_kv = 2, .head_dim = 64, .n_vocab = 32000,
      .n_expert = 8, .n_used = 4, .swa = 128, .rope_base = 150000 },
    { .name = "gpt-oss-20b", .arch = "gpt-oss", .type = "Q8_0", .expert_type = "MXFP4", .n_embd = 2880,
      .n_ff_exp = 2880, .n_layer = 24, .n_head = 64, .n_head_kv = 8, .head_dim = 64, .n_vocab = 201088,
      .n_expert = 32, .n_used = 4, .swa = 128, .rope_base = 150000 },
    { .name = "gpt-oss-120b", .arch = "gpt-oss", .type = "Q8_0", .expert_type = "MXFP4", .n_embd = 2880,
      .n_ff_exp = 2880, .n_layer = 36, .n_head = 64, .n_head_kv = 8, .head_dim = 64, .n_vocab = 201088,
      .n_expert = 128, .n_used = 4, .swa = 128, .rope_base = 150000 },
    { .name = "deepseek-tiny", .arch = "deepseek2", .type = "Q8_0", .expert_type = "Q4_K",
      .n_embd = 256, .n_ff = 768, .n_ff_exp = 256, .n_layer = 5, .n_head = 8, .q_lora = 256,
      .kv_lora = 512, .d_nope = 128, .d_rope = 64, .d_v = 128, .n_expert = 16, .n_used = 4,
      .n_shared = 1, .n_dense = 1, .n_group = 4, .n_group_used = 2, .w_scale = 2.5f, .gating = 2,
      .n_vocab = 32000, .rope_base = 10000 },
    { .name = "deepseek-v2-lite", .arch = "deepseek2", .type = "Q8_0", .expert_type = "Q4_0",
      .n_embd = 2048, .n_ff = 10944, .n_ff_exp = 1408, .n_layer = 27, .n_head = 16, .kv_lora = 512,
      .d_nope = 128, .d_rope = 64, .d_v = 128, .n_expert = 64, .n_used = 6, .n_shared = 2,
      .n_dense = 1, .n_group = 1, .n_group_used = 1, .w_scale = 1, .gating = 1, .n_vocab = 102400,
      .rope_base = 10000 },
    { .name = "deepseek-small", .arch = "deepseek2", .type = "Q8_0", .expert_type = "Q4_K",
      .n_embd = 2048, .n_ff = 6144, .n_ff_exp = 768, .n_layer = 16, .n_head = 32, .q_lora = 768,
      .kv_lora = 512, .d_nope = 128, .d_rope = 64, .d_v = 128, .n_expert = 64, .n_used = 8,
      .n_shared = 1, .n_dense = 1, .n_group = 8, .n_group_used = 4, .w_scale = 2.5f, .gating = 2,
      .n_vocab = 102400, .rope_base = 10000 },
    { .name = "deepseek-v3", .arch = "deepseek2", .type = "Q8_0", .expert_type = "Q4_K",
      .n_embd = 7168, .n_ff = 18432, .n_ff_exp = 2048, .n_layer = 61, .n_head = 128, .q_lora = 1536,
      .kv_lora = 512, .d_nope = 128, .d_rope = 64, .d_v = 128, .n_expert = 256, .n_used = 8,
      .n_shared = 1, .n_dense = 3, .n_group = 8, .n_group_used = 4, .w_scale = 2.5f, .gating = 2,
      .n_vocab = 129280, .rope_base = 10000 },
    { .name = "qwen3moe-tiny", .arch = "qwen3moe", .type = "Q4_K", .n_embd = 256, .n_ff = 768,
      .n_ff_exp = 256, .n_layer = 4, .n_head = 8, .n_head_kv = 2, .head_dim = 64, .n_vocab = 32000,
      .n_expert = 16, .n_used = 4, .rope_base = 1000000 },
    { .name = "qwen3moe-3b", .arch = "qwen3moe", .type = MKMODEL_TYPE_Q4_K_M, .n_embd = 2048,
      .n_ff = 6144, .n_ff_exp = 768, .n_layer = 18, .n_head = 32, .n_head_kv = 4, .head_dim = 128,
      .n_vocab = 32000, .n_expert = 32, .n_used = 4, .rope_base = 1000000 },
    { .name = "qwen3-30b-a3b", .arch = "qwen3moe", .type = MKMODEL_TYPE_Q4_K_M, .n_embd = 2048,
      .n_ff = 6144, .n_ff_exp = 768, .n_layer = 48, .n_head = 32, .n_head_kv = 4, .head_dim = 128,
      .n_vocab = 151936, .n_expert = 128, .n_used = 8, .rope_base = 1000000 },
    { .name = NULL },
};
/* clang-format on */

static const struct {
    const char *name;
    size_t offset;
} fields[] = {
#define FIELD(name)                                                                                \
    {                                                                                              \
#name, offsetof(mkmodel_shape, name)                                                       \
    }
    FIELD(n_embd),    FIELD(n_ff),     FIELD(n_ff_exp),  FIELD(n_layer),      FIELD(n_head),
    FIELD(n_head_kv), FIELD(head_dim), FIELD(n_vocab),   FIELD(n_expert),     FIELD(n_used),
    FIELD(n_shared),  FIELD(n_dense),  FIELD(n_group),   FIELD(n_group_used), FIELD(q_lora),
    FIELD(kv_lora),   FIELD(d_nope),   FIELD(d_rope),    FIELD(d_v),          FIELD(n_ctx),
    FIELD(swa),       FIELD(tied),     FIELD(rope_base), FIELD(gating),
#undef FIELD
};

const mkmodel_shape *mkmodel_preset(const char *name)
{
    for (const mkmodel_shape *shape = mkmodel_presets; shape->name; shape++)
        if (strcmp(shape->name, name) == 0)
            return shape;
    return NULL;
}

const char *mkmodel_field(size_t i)
{
    return i < DP_ARRAY_LEN(fields) ? fields[i].name : NULL;
}

bool mkmodel_set(mkmodel_shape *shape, const char *key, uint64_t value)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(fields); i++) {
        uint32_t small = (uint32_t)value;

        if (strcmp(fields[i].name, key) != 0 || value > INT32_MAX)
            continue;
        memcpy((char *)shape + fields[i].offset, &small, sizeof small);
        return true;
    }
    return false;
}
