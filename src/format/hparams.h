/* hparams.h - metadata -> one checked struct of model dimensions.
 *
 * Every number is range-checked here, so that layers above multiply them
 * without fear. Keys: <arch>.block_count and so on (docs/formats/gguf.md lists
 * them). A missing or contradictory key is an error that names it.
 *
 * Threads  Immutable once parsed.
 */
#ifndef DP_FORMAT_HPARAMS_H
#define DP_FORMAT_HPARAMS_H

#include "format/gguf.h"

#define DP_LAYERS_MAX       1024
#define DP_EXPERTS_MAX      4096
#define DP_EXPERTS_USED_MAX 64
#define DP_DIM_MAX          (1u << 20) /* any width: embedding, feed-forward, heads x head_dim */
#define DP_VOCAB_MAX        (1u << 24)
#define DP_CONTEXT_MAX      (1u << 24)

typedef enum dp_rope_scaling { DP_ROPE_NONE, DP_ROPE_LINEAR, DP_ROPE_YARN } dp_rope_scaling;

typedef enum dp_gating {
    DP_GATING_DEFAULT = 0, /* not in the file: the architecture knows */
    DP_GATING_SOFTMAX = 1, /* softmax over all experts, then top-k */
    DP_GATING_SIGMOID = 2,
    DP_GATING_SOFTMAX_SELECTED = 3, /* top-k, then softmax over the chosen */
} dp_gating;

/* Of the per-layer arrays, the first layer_count count; the rest are 0. A model
 * without experts has 0 in every count of them. */
typedef struct dp_hparams {
    char arch[32];
    char name[128]; /* general.name, "" when absent */
    uint32_t layer_count;
    uint32_t context_max; /* context_length */
    uint32_t embed_dim;
    uint32_t vocab_size;            /* rows of token_embd */
    uint32_t ff_dim[DP_LAYERS_MAX]; /* dense feed-forward width; 0 where a layer has none: in
                                       models with experts, from leading_dense on */

    uint32_t head_count[DP_LAYERS_MAX];
    uint32_t kv_head_count[DP_LAYERS_MAX];
    uint32_t key_dim; /* per head: attention.key_length, else embed_dim / heads */
    uint32_t value_dim;
    uint32_t sliding_window; /* 0: full attention */
    float norm_eps;

    uint32_t rope_dim; /* rotated values per head: rope.dimension_count, else key_dim */
    float rope_base;
    dp_rope_scaling rope_scaling;
    float rope_factor; /* > 0; 1 without scaling */
    uint32_t rope_original_context;
    float yarn_beta_fast, yarn_beta_slow; /* 32, 1 */
    float yarn_log_multiplier;            /* 0: absent */
    float rope_attn_factor;               /* 1 */

    uint32_t expert_count; /* 0: dense */
    uint32_t expert_used;
    uint32_t expert_shared;
    uint32_t expert_ff_dim; /* expert_feed_forward_length, else feed_forward_length */
    uint32_t expert_group_count, expert_group_used; /* 0, 0: no groups (or one) */
    uint32_t leading_dense;                         /* layers before the first mixture */
    float expert_weights_scale;                     /* 1 */
    bool expert_weights_norm;
    dp_gating expert_gating; /* 0: the file does not say, the architecture's own applies */

    uint32_t q_lora_rank, kv_lora_rank, key_dim_mla, value_dim_mla; /* deepseek2; 0 elsewhere */
    bool value_in_key;     /* set at binding: what is kept is one latent for all heads, whose
                              first value_dim values are the values too; queries have
                              key_dim_mla, results of heads value_dim_mla */
    uint32_t nextn_layers; /* nextn_predict_layers: the last layers only serve to guess ahead */
} dp_hparams;

/* Reads the keys of any supported architecture and checks ranges. Does not know
 * what an architecture needs beyond the common ones: binding checks that.
 * DP_E_NOTFOUND, DP_E_CORRUPT, DP_E_LIMIT, DP_E_UNSUPPORTED (rope scaling,
 * gating), each naming the key; *out is zero then. */
dp_status dp_hparams_read(dp_hparams *out, const dp_gguf *gguf, dp_error *err);

/* The width of a head's query, and of what attention gives for it. */
static inline uint32_t dp_hparams_query_dim(const dp_hparams *hp)
{
    return hp->value_in_key ? hp->key_dim_mla : hp->key_dim;
}

static inline uint32_t dp_hparams_mixed_dim(const dp_hparams *hp)
{
    return hp->value_in_key ? hp->value_dim_mla : hp->value_dim;
}

#endif
