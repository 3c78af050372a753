/* lora.h - what a LoRA adapter's file says of itself, before it meets a model.
 *
 * Room     An adapter is pairs of low matrices, A {in, rank[, experts]} and B {rank,
 *          out[, experts]}, for weights of a model it names by their tensors:
 *
 *              W x   becomes   W x + (alpha / rank) * scale * B (A x)
 *
 *          The file is GGUF: general.type "adapter", adapter.type "lora",
 *          general.architecture the model's, adapter.lora.alpha, and for a weight
 *          NAME the tensors NAME.lora_a and NAME.lora_b. Read and checked here is
 *          all that needs no model; shapes against its weights are model/lora_bind.h's.
 *
 * Threads  None of its own: any.
 *
 * Source   Hu et al. 2021, arXiv:2106.09685, §4.1.
 */
#ifndef DP_FORMAT_LORA_H
#define DP_FORMAT_LORA_H

#include <stdbool.h>

#include "format/gguf.h"

#define DP_LORA_RANK_MAX 4096 /* as wide as a model: no low rank any more */
#define DP_LORA_A        ".lora_a"
#define DP_LORA_B        ".lora_b"

typedef struct dp_lora_info {
    char arch[32];               /* of the model it is for */
    float alpha;                 /* 0: absent, the scale alone counts */
    uint32_t pair_count;         /* adapted weights */
    uint32_t rank_min, rank_max; /* of the pairs */
} dp_lora_info;

/* True when general.type says "adapter". */
bool dp_lora_is_adapter(const dp_gguf *gguf);

/* Reads the keys; every tensor is one of a pair whose ranks and experts agree.
 * DP_E_INVALID: a model, not an adapter. DP_E_UNSUPPORTED: another kind of adapter, one
 * in several parts, tensors that are no pairs. DP_E_NOTFOUND, DP_E_CORRUPT, DP_E_LIMIT.
 * Each names the key or tensor; *out is zero then. */
dp_status dp_lora_read(dp_lora_info *out, const dp_gguf *gguf, dp_error *err);

/* (alpha / rank) * scale, rounded to float once; without alpha the scale. */
float dp_lora_factor(float alpha, uint32_t rank, float scale);

#endif
