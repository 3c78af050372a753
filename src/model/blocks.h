/* blocks.h - the building blocks of layers, and the state of a step they share.
 *
 * Each block reads step->x or what the block before left in step->h, and says
 * what it writes. Shapes: T tokens of the step, D = embed_dim.
 *
 * Threads  The step thread.
 */
#ifndef DP_MODEL_BLOCKS_H
#define DP_MODEL_BLOCKS_H

#include "model/arch.h"
#include "model/product.h"
#include "model/step.h"
#include "model/lookahead.h"
#include "model/stream.h"

struct dp_step {
    const dp_model *model;
    dp_tier *tier;
    dp_device *device;
    const atomic_bool *cancel;
    dp_step_config config;
    dp_stream stream;
    dp_lookahead lookahead;

    uint8_t *buffers;
    uint64_t buffer_bytes;

    uint32_t count;               /* T, of the running step */
    const dp_batch_token *tokens; /* [T] */
    uint32_t *position;           /* [T] */
    dp_kv_layer *kv;              /* [T], of the running layer */
    float *cos, *sin;             /* [T][rope_dim / 2] */

    float *x;         /* [T][D] the residual stream */
    float *h;         /* [T][D] normed input of a block; the block's result */
    float *q;         /* [T][heads * query_dim] */
    float *k, *v;     /* [T][kv_heads * ...]; latent attention: [T][rope], [T][kv_lora] */
    float *mixed;     /* [T][heads * mixed_dim] attention's result before the output matrix */
    float *gate, *up; /* [T][widest feed-forward] */

    /* latent attention, a few tokens at a time */
    float *q_low;        /* [T][q_lora] */
    float *q_latent;     /* [DP_MLA_TOKENS][heads * key_dim] */
    float *mixed_latent; /* [DP_MLA_TOKENS][heads * value_dim] */

    /* and expanded: a block of it */
    float *turned_k;   /* [heads][nope][kv_lora] */
    float *latents;    /* [DP_KV_BLOCK_TOKENS][key_dim] */
    float *made_k;     /* [DP_KV_BLOCK_TOKENS][heads * query_dim] */
    float *made_v;     /* [DP_KV_BLOCK_TOKENS][heads * mixed_dim] */
    uint8_t *made;     /* both as a block of keys and values */
    float *attend_max; /* [T][heads] */
    float *attend_sum;

    /* mixtures: token t's r-th expert is slot t * used + r */
    float *router;          /* [T][experts] */
    uint32_t *expert_ids;   /* [T][used] */
    float *expert_weights;  /* [T][used] */
    uint32_t *expert_begin; /* [experts + 1]: slots grouped by expert ... */
    uint32_t *group_token;  /* [T * used]: the token of each grouped slot */
    uint32_t *slot_row;     /* [T * used]: where slot t * used + r went */
    float *expert_out;      /* [T * used][D], grouped */
    dp_page_id *pages;      /* [experts]: wanted in this layer */
    uint8_t *page_scratch;  /* [experts or embedding pages] */

    float *logits;       /* [logits_rows][vocab] */
    uint32_t *row_token; /* [logits_rows]: whose they are */

    /* adapters: token t's set is sets[set_of[t]], none at or past set_count */
    const dp_lora_set **sets; /* [set_count <= T] different ones */
    uint32_t set_count;
    uint32_t *set_of; /* [T] */
    dp_adapting adapting;
};

/* A lease on one page, waiting; released by dp_tier_release. */
dp_status dp_step_acquire(dp_step *step, dp_page_id page, dp_lease *lease, dp_error *err);
/* The same without reading ahead, for pages that are no part of every step: an adapter's,
 * beside another lease, or an expert's. is_counted: as a hit or miss. */
dp_status dp_step_acquire_beside(dp_step *step, dp_page_id page, bool is_counted, dp_lease *lease,
                                 dp_error *err);
/* The next page of a batch, waiting. DP_E_NOTFOUND: all were served. */
dp_status dp_step_next(dp_step *step, dp_tier_batch *batch, dp_lease *lease, size_t *index,
                       dp_error *err);

/* h = rmsnorm(x) * gain. */
void dp_block_norm(dp_step *step, const float *gain);

/* Blocks end as waiting for a page of an adapter ends (product.h). The lease is the
 * caller's, where nothing else is said. */

/* x += W_o attention(q, k, v) with q, k, v = W h (+ bias), heads of q and k normed
 * where the layer has such norms, rotated by position, keys and values stored. */
dp_status dp_block_attention(dp_step *step, uint32_t layer, const dp_lease *lease, dp_error *err);

/* The same with one latent for the keys and values of all heads (block_mla.c). */
#define DP_MLA_TOKENS 64 /* in the latent's space at once: its queries are wide */
dp_status dp_block_mla(dp_step *step, uint32_t layer, const dp_lease *lease, dp_error *err);
/* Attention of tokens [first, first + count), of one sequence, in its other form: mixed from
 * q, once latents are stored. */
#define DP_MLA_EXPAND_MIN 192 /* tokens: for fewer, making keys costs more than it saves */
void dp_mla_expand(dp_step *step, uint32_t layer, uint32_t first, uint32_t count,
                   const dp_lease *lease);
float dp_mla_scale(const dp_hparams *hp); /* of the softmax */
/* Binds its weights to the page opened last. */
void dp_bind_mla(dp_model *m, dp_binder *b, uint32_t layer);

/* x += W_down swiglu(W_gate h, W_up h). */
dp_status dp_block_ffn(dp_step *step, const dp_layer *layer, const dp_lease *lease, dp_error *err);

/* x += the shared expert where the layer has one, then the sum over chosen experts, router
 * applied to h. lease: the layer's page; it is released as soon as its weights were used,
 * always. */
dp_status dp_block_moe(dp_step *step, const dp_layer *layer, dp_lease *lease, dp_error *err);

/* Writes the feed-forward of `count` tokens, with the family's activation, into y
 * [count][D]: `tokens` picks the rows of h (NULL: in order). lease: of the page w lies on;
 * expert: which one it is, of a stack. */
dp_status dp_block_swiglu(dp_step *step, const dp_ffn *w, uint32_t expert, const dp_lease *lease,
                          const uint32_t *tokens, uint32_t count, float *y, dp_error *err);

/* The op that chooses experts of this model, but for its tokens: select_bias may be NULL. */
dp_op_route dp_route_of(const dp_model *model, const float *select_bias);

/* ---- the layer most families share (standard_layer.c) ---- */

/* What a family's layers have beyond llama's. */
enum {
    DP_LAYER_HEAD_NORMS = 1, /* over each head of q and k */
    DP_LAYER_BIASES = 2,     /* of all products; without it those of attention are optional */
    DP_LAYER_SINKS = 4,
    DP_LAYER_POST_ATTENTION_NORM = 8 /* what the norm before the feed-forward is called */
};

/* Binds every layer: attention, then a dense feed-forward or, with experts, a mixture. */
void dp_bind_standard_layers(dp_model *m, dp_binder *b, unsigned traits);
/* Its parts, for families that share some: the experts of layer l, one page each, and
 * its dense feed-forward, a page too. */
void dp_bind_experts(dp_model *m, dp_binder *b, uint32_t l, unsigned traits);
void dp_bind_dense(dp_model *m, dp_binder *b, uint32_t l);
/* Families whose files leave routing to the architecture, which is `gating`. Keys
 * that say otherwise are refused. Softmax: the chosen weights are renormalised. */
void dp_bind_routing(dp_model *m, dp_binder *b, dp_gating gating);
typedef dp_status dp_attention_block(dp_step *step, uint32_t layer, const dp_lease *lease,
                                     dp_error *err);
/* Norm, attention of the family's kind, norm, then a feed-forward: dense or a mixture. */
dp_status dp_pre_norm_layer(dp_step *step, uint32_t layer, dp_attention_block *attend,
                            dp_error *err);
/* dp_arch.layer of these families: with dp_block_attention. */
dp_status dp_standard_layer(dp_step *step, uint32_t layer, dp_error *err);

#endif
