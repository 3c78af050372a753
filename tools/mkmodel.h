/* mkmodel.h - the parts of mkmodel: shapes, their vocabulary, their tensors.
 *
 * mkmodel writes GGUF models with real architectures and weights made from a
 * seed. Speed and memory of such a model are those of the real one; its text is
 * noise. Memory stays small: weights are streamed.
 */
#ifndef DP_TOOLS_MKMODEL_H
#define DP_TOOLS_MKMODEL_H

#include "testing/gguf_writer.h"

#define MKMODEL_TYPE_Q4_K_M "Q4_K_M" /* Q4_K, and Q6_K where it matters most */

typedef struct mkmodel_shape {
    const char *name;
    const char *arch;        /* llama, qwen3moe, gpt-oss, deepseek2 */
    const char *type;        /* of matrices: a dtype's name or Q4_K_M */
    const char *expert_type; /* of expert matrices; NULL: as type */
    uint32_t n_embd, n_ff, n_ff_exp, n_layer, n_head, n_head_kv, head_dim, n_vocab;
    uint32_t n_expert, n_used, n_shared, n_dense, n_group, n_group_used;
    uint32_t q_lora, kv_lora, d_nope, d_rope, d_v; /* deepseek2 */
    uint32_t n_ctx, swa, tied, rope_base, gating;
    float w_scale;
} mkmodel_shape;

/* All presets; the last has name NULL. */
extern const mkmodel_shape mkmodel_presets[];
const mkmodel_shape *mkmodel_preset(const char *name); /* NULL: none */

/* Sets a number by its name in the struct ("n_layer"); false when there is none. */
bool mkmodel_set(mkmodel_shape *shape, const char *key, uint64_t value);
const char *mkmodel_field(size_t i); /* names that mkmodel_set knows; NULL past the last */

/* A vocabulary in SentencePiece's manner: bytes, printable characters, made-up
 * syllables. Shorter ones are prefixes of longer ones. False: no memory. */
bool mkmodel_add_vocab(dp_gguf_writer *w, uint32_t n_vocab);

typedef struct mkmodel_totals {
    uint64_t tensor_count, param_count, bytes;
    uint64_t expert_bytes; /* of all routed experts */
    uint64_t token_bytes;  /* that one decoded token reads, of the chosen experts only */
} mkmodel_totals;

/* Adds keys and tensors of the shape to w (NULL: only counts). DP_E_INVALID for a type or
 * architecture that is not known. */
dp_status mkmodel_build(dp_gguf_writer *w, const mkmodel_shape *shape, mkmodel_totals *totals,
                        dp_error *err);

#endif
