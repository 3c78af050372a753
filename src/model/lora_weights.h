/* lora_weights.h - an adapter bound to a model: its pages, and which weight each pair is for.
 *
 * Room     Opening reads a description (format/lora.h) against the model's sites
 *          (bind.h): every pair is for one of them and has its shape. What comes out
 *          are pages of a kind of their own, one beside each page of the model that has
 *          an adapted weight, one an expert: they live in the tier under the same
 *          budget, are leased while they are used and may leave in between.
 *
 * Sets     A token carries a set: adapters with a scale each, added in that order
 *          (product.h says how).
 *
 * Threads  The step thread.
 */
#ifndef DP_MODEL_LORA_WEIGHTS_H
#define DP_MODEL_LORA_WEIGHTS_H

#include "format/lora.h"
#include "model/model.h"

#define DP_LORA_USES_MAX 16 /* of one token: each costs products of its own */

typedef struct dp_lora_pair {
    dp_weight a, b; /* [rank][k], [rows][rank]; pages count from 0 in the adapter, an
                       expert's is a.page + expert. Absent: the weight is as it is */
} dp_lora_pair;

typedef struct dp_lora {
    dp_lora_info info;
    const dp_model *model;
    dp_lora_pair *pairs; /* [model->sites.count] */
    dp_page_list pages;
    dp_tier *tier;        /* NULL: not registered */
    dp_page_id *page_ids; /* [page_count] in the tier; registered_count of them are */
    uint32_t registered_count;
} dp_lora;

typedef struct dp_lora_use {
    const dp_lora *lora;
    float scale;
} dp_lora_use;

typedef struct dp_lora_set {
    uint32_t count;
    dp_lora_use uses[DP_LORA_USES_MAX];
} dp_lora_set;

/* `gguf` is borrowed for the call, the model until close. Owned: dp_lora_close. Errors of
 * dp_lora_read; DP_E_UNSUPPORTED for another architecture or a tensor of no site,
 * DP_E_CORRUPT for shapes that are not the weight's. */
dp_status dp_lora_open(dp_lora **out, const dp_model *model, const dp_gguf *gguf, dp_error *err);
/* Takes its pages out of the tier; no step uses it any more. NULL is fine. */
void dp_lora_close(dp_lora *lora);

/* Registers its pages, whose bytes are file `file_index` of the tier's source. */
dp_status dp_lora_register(dp_lora *lora, dp_tier *tier, uint32_t file_index, dp_error *err);
uint64_t dp_lora_page_bytes_max(const dp_lora *lora); /* slot bytes; registered */

uint64_t dp_lora_heap_bytes(const dp_lora *lora); /* of the description */

/* The pair for a site; NULL: none. */
const dp_lora_pair *dp_lora_pair_of(const dp_lora *lora, uint32_t site);

#endif
