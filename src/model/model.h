/* model.h - a model known by its file: dimensions, weights in pages, architecture.
 *
 * Room     Opening reads nothing but the description: it says which pages there
 *          are and what each step will ask for. The pages' bytes live in a tier,
 *          under the same numbers.
 *
 * Threads  Immutable after dp_model_prepare: any.
 */
#ifndef DP_MODEL_MODEL_H
#define DP_MODEL_MODEL_H

#include "model/bind.h"
#include "model/rope.h"

typedef struct dp_arch dp_arch;

/* W_down act(W_gate h, W_up h), each product with a bias where there is one. */
typedef struct dp_ffn {
    dp_weight gate, up, down;                /* [ff][embed], [ff][embed], [embed][ff] */
    dp_weight gate_bias, up_bias, down_bias; /* [ff], [ff], [embed] */
} dp_ffn;

/* Latent attention (block_mla.c); q and o are the layer's. Head h's matrices are
 *
 *   k_b, v_b   [kv_lora][nope] and [value][kv_lora]: rows h * kv_lora .., h * value ..
 *   kv_b       older files: nope rows of kv_lora, which are k_b's columns, then value rows,
 *              which are v_b's; k_b and v_b are absent then */
typedef struct dp_mla_weights {
    dp_weight q_a, q_a_norm; /* [q_lora][embed], [q_lora]; absent: q multiplies the input */
    dp_weight kv_a;          /* [kv_lora + rope][embed] */
    dp_weight kv_a_norm;     /* [kv_lora] */
    dp_weight k_b, v_b, kv_b;
} dp_mla_weights;

/* The weights of one layer. What a family does not have is absent
 * (page == DP_PAGE_NONE, expert_first == DP_PAGE_NONE). */
typedef struct dp_layer {
    dp_page_id page; /* norms, attention, router */
    dp_weight attn_norm;
    dp_weight q, k, v, o; /* [heads * key_dim][embed] ... [embed][heads * value_dim] */
    dp_weight q_bias, k_bias, v_bias, o_bias;
    dp_weight q_norm, k_norm; /* [key_dim], over each head */
    dp_weight sinks;          /* [heads]: logits of a weightless key */
    uint32_t window;          /* last positions a token sees; 0: all */
    dp_mla_weights mla;
    dp_weight ffn_norm;
    dp_weight router;      /* [experts][embed] */
    dp_weight router_bias; /* [experts]: added to the logits */
    dp_weight select_bias; /* [experts]: added to the scores to choose by, not to weigh by */
    dp_page_id ffn_page;   /* dense feed-forward, DP_PAGE_NONE in a mixture */
    dp_ffn ffn;            /* dense, or any expert: pages expert_first + e are alike */
    dp_page_id expert_first;
    dp_ffn shared; /* on the layer's page: an expert of every token */
} dp_layer;

/* Whether YaRN's correction range is rounded outward to whole pairs. */
typedef enum dp_yarn_rounding {
    DP_YARN_AUTO, /* as the family's authors do */
    DP_YARN_ON,   /* as llama.cpp does for every family */
    DP_YARN_OFF
} dp_yarn_rounding;

typedef struct dp_model {
    dp_hparams hp;
    const dp_arch *arch;
    dp_page_list pages;
    dp_site_list sites;      /* what adapters may add to */
    dp_layer *layers;        /* [hp.layer_count] */
    dp_page_id globals_page; /* final norm, rope divisors */
    dp_weight output_norm, rope_divisors;
    dp_table embed, head; /* the same pages when the head is tied */
    bool is_tied;
    dp_yarn_rounding yarn_rounding; /* may be set until dp_model_prepare reads it */
    dp_rope rope;
} dp_model;

/* Reads dimensions and binds tensors. `gguf` is borrowed for the call. Owned:
 * dp_model_close. DP_E_UNSUPPORTED, DP_E_CORRUPT, DP_E_NOTFOUND, naming the key
 * or tensor. */
dp_status dp_model_open(dp_model **out, const dp_gguf *gguf, dp_error *err);
void dp_model_close(dp_model *model);

/* Registers the pages with a tier, in order, so that numbers agree. */
dp_status dp_model_register(const dp_model *model, dp_tier *tier, dp_error *err);
/* Reads what is needed once, the rope divisors, from the tier. */
dp_status dp_model_prepare(dp_model *model, dp_tier *tier, dp_error *err);

/* The order in which a step of a dense model reads its always-used pages: layer by
 * layer, the final norm, the head. `after` gives DP_PAGE_NONE behind the last. */
dp_page_id dp_model_first_page(const dp_model *model);
dp_page_id dp_model_page_after(const dp_model *model, dp_page_id page);

/* Heap bytes the description takes: part of a run's tables. */
uint64_t dp_model_heap_bytes(const dp_model *model);

#endif
