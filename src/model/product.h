/* product.h - every product of a step with weights that adapters may change.
 *
 * Room     The one place where adapters act. Blocks say what they multiply and which
 *          site each weight is; the base product comes first, then, for each token, the
 *          adapters of its set in the order they were given:
 *
 *              y  = W x (+ bias)
 *              y' = fma(s, B (A x), y)       s = dp_lora_factor(alpha, rank, scale)
 *
 *          each product as device.h defines it for its types. So a value depends on the
 *          token's own input and set: not on who else is in the step, nor on chunks.
 *
 * Waiting  At most one page of an adapter is leased at a time, beside the page of the
 *          weights: room for both is enough.
 *
 * Memory   Low products and sums of a few tokens at a time, taken when the first
 *          adapter opens (dp_adapting_open), never in a step.
 *
 * Threads  The step thread.
 */
#ifndef DP_MODEL_PRODUCT_H
#define DP_MODEL_PRODUCT_H

#include "device/device.h"
#include "model/lora_weights.h"

struct dp_step;

#define DP_ADAPTING_TOKENS 64   /* at a time */
#define DP_ADAPTING_ROWS   4096 /* of B at a time: a head may have 200,000 */

/* Buffers for the deltas of one step's products. */
typedef struct dp_adapting {
    uint32_t rank_max; /* 0: no buffers */
    uint32_t tokens_max, rows_max;
    float *low;              /* [DP_MATMUL_PARTS_MAX][tokens_max][rank_max]: A x */
    float *delta;            /* [tokens_max][rows_max]: B (A x) */
    float *factor;           /* [tokens_max] the same s each */
    uint32_t *rows, *x_rows; /* [tokens_max]: of y and of x */
    uint32_t *order;         /* [tokens_max] 0, 1, 2 ... */
    uint8_t *buffers;
    uint64_t buffer_bytes;
} dp_adapting;

/* Bytes of it for adapters up to a rank, in steps of batch_tokens. */
uint64_t dp_adapting_bytes(const dp_model *model, uint32_t batch_tokens, uint32_t rank_max);
dp_status dp_adapting_open(dp_adapting *a, const dp_model *model, dp_device *device,
                           uint32_t batch_tokens, uint32_t rank_max, dp_error *err);
void dp_adapting_close(dp_adapting *a, dp_device *device); /* zeroed is fine */

/* A product, and what adapters need to know of it. */
typedef struct dp_product {
    dp_op_matmul op;
    uint32_t site[DP_MATMUL_PARTS_MAX];      /* of each part's weight, or DP_SITE_NONE */
    uint32_t row_first[DP_MATMUL_PARTS_MAX]; /* of the site's rows, where a part has some */
    const uint32_t *tokens; /* [op.tokens] which of the step's tokens; NULL: 0, 1, 2 ... */
    uint32_t expert;        /* whose weights, where sites are stacks */
} dp_product;

/* DP_OK when no adapter acts; else as waiting for a page ends. */
dp_status dp_step_product(struct dp_step *step, const dp_product *p, dp_error *err);

/* Whether an adapter of the running step changes this site. */
bool dp_step_adapts(const struct dp_step *step, uint32_t site);

#endif
