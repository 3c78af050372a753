/* convert_config.h - config.json -> what a family's tensors measure, and the GGUF keys.
 *
 * Room     Reads a configuration of one of the families below, checks every number
 *          as hparams.h will, and refuses what the engine would compute
 *          differently: a wrong answer that looks right is worse than none. Which
 *          tensors there are is convert_names.h.
 *
 * Source   The configuration classes of huggingface/transformers; the keys are
 *          those of docs/formats/gguf.md.
 *
 * Threads  Any.
 */
#ifndef DP_CONVERT_CONVERT_CONFIG_H
#define DP_CONVERT_CONVERT_CONFIG_H

#include "convert/convert_doc.h"
#include "format/gguf_out.h"
#include "format/hparams.h"

typedef enum dp_hf_family {
    DP_HF_LLAMA,
    DP_HF_MIXTRAL,
    DP_HF_QWEN3,
    DP_HF_QWEN3MOE,
    DP_HF_GPTOSS,
    DP_HF_DEEPSEEK,
    DP_HF_FAMILY_COUNT
} dp_hf_family;

/* Lengths that shapes are made of. */
typedef enum dp_hf_dim {
    DP_DIM_ONE, /* of a vector: it has no rows */
    DP_DIM_EMBED,
    DP_DIM_VOCAB,
    DP_DIM_HEADS,
    DP_DIM_HEAD, /* of one head */
    DP_DIM_Q,    /* heads x head */
    DP_DIM_KV,
    DP_DIM_FF,
    DP_DIM_EXPERTS,
    DP_DIM_EXPERT_FF,
    DP_DIM_GATE_UP, /* both of an expert, interleaved */
    DP_DIM_SHARED_FF,
    DP_DIM_Q_LORA,
    DP_DIM_KV_LORA,
    DP_DIM_KV_A, /* kv_lora and the rotated part of a key */
    DP_DIM_KV_B, /* heads x (plain part of a key, value) */
    DP_DIM_PLAIN,
    DP_DIM_VALUE,
    DP_DIM_MLA_Q, /* heads x (plain, rotated) */
    DP_DIM_MLA_O, /* heads x value */
    DP_DIM_COUNT
} dp_hf_dim;

typedef enum dp_hf_rope {
    DP_HF_ROPE_NONE,
    DP_HF_ROPE_LINEAR,
    DP_HF_ROPE_LLAMA3,
    DP_HF_ROPE_YARN
} dp_hf_rope;

typedef struct dp_hf_config {
    dp_hf_family family;
    const char *arch; /* general.architecture */
    uint64_t dims[DP_DIM_COUNT];
    uint32_t layer_count, context_max, kv_head_count;
    bool has_head_dim; /* the configuration says it */
    bool is_tied;      /* the head is the embedding */
    double norm_eps;

    double rope_theta;
    dp_hf_rope rope;
    double rope_factor, rope_low, rope_high; /* low, high: of llama3 */
    uint64_t rope_original;
    double yarn_fast, yarn_slow, yarn_attention; /* 0: not said */
    double mscale_all;                           /* 0: not said */

    uint32_t expert_used, sliding_window;

    /* DeepSeek */
    uint32_t dense_count, shared_count, group_count, group_used, rotated;
    double weights_scale;
    bool is_v3, norms_weights, is_sigmoid, has_bias;

    uint32_t tile_rows, tile_cols; /* of FP8 scales; 0: the weights are not FP8 */
} dp_hf_config;

/* Reads DIR/config.json. DP_E_UNSUPPORTED names the class or the setting that is
 * not understood; DP_E_NOTFOUND, DP_E_CORRUPT, DP_E_LIMIT name the member. */
dp_status dp_hf_config_read(dp_hf_config *out, const dp_doc *doc, dp_error *err);

/* The keys of the model's shape: those of the architecture, but none of general. */
void dp_hf_config_keys(const dp_hf_config *c, dp_gguf_out *out);

#endif
