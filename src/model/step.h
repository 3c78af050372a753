/* step.h - one pass of the model over a batch of tokens.
 *
 * Room     The unit of work is a list of tokens from any number of sequences:
 *          prompt chunks and single decoded tokens alike. Weights are leased
 *          layer by layer; experts are read once per step for all their tokens.
 *          Buffers are taken once, at open: a step allocates nothing.
 *
 * Waiting  Every wait for a page ends with its arrival, a cancel or
 *          DP_STEP_TIMEOUT_NS without any progress.
 *
 * Threads  The step thread; *cancel may be set from any.
 */
#ifndef DP_MODEL_STEP_H
#define DP_MODEL_STEP_H

#include <stdatomic.h>

#include "model/kv.h"
#include "model/lookahead.h"
#include "model/lora_weights.h"
#include "model/model.h"

#define DP_STEP_TIMEOUT_NS  ((uint64_t)120 * 1000000000)
#define DP_BATCH_TOKENS_MAX 4096

#define DP_AHEAD_MAX 16

typedef struct dp_batch_token {
    int32_t id;
    uint32_t position;
    const dp_kv_seq *seq; /* its rows reach `position`; the token's keys are stored there */
    bool wants_logits;
    const dp_lora_set *adapters; /* NULL: none; borrowed for the step */
} dp_batch_token;

typedef struct dp_step dp_step;

/* Sizes of a step's buffers: tokens per step, and rows of logits made at a time. */
typedef struct dp_step_config {
    uint32_t batch_tokens;
    uint32_t logits_rows;
    dp_dtype kv_type;     /* of keys and values, also of those that do not stay: F16 or F32 */
    uint32_t ahead;       /* of the always-used pages that are not pinned, this many load before
                       they are used: there is room for one more. Dense models only: in
                       mixtures experts come between. At most DP_AHEAD_MAX */
    bool expands_latents; /* many tokens of a sequence attend to keys and values made from the
                             latents (block_mla_expanded.c): other roundings, less work */
    dp_lookahead_mode lookahead; /* mixtures: experts of the next layer are guessed */
} dp_step_config;

/* Bytes dp_step_open takes for them. */
uint64_t dp_step_bytes(const dp_model *model, const dp_step_config *config);

/* Pages are pinned before. */
dp_status dp_step_open(dp_step **out, const dp_model *model, dp_tier *tier, dp_device *device,
                       const dp_step_config *config, const atomic_bool *cancel, dp_error *err);
void dp_step_close(dp_step *step);
/* Between steps: gives up what is read ahead, and reads `ahead` pages from now on. Pages
 * may be pinned or not before the next step. */
void dp_step_set_ahead(dp_step *step, uint32_t ahead);

/* Buffers for adapters up to a rank; 0: none. Between steps. DP_E_NOMEM: they stay as
 * they are. */
dp_status dp_step_adapt(dp_step *step, uint32_t rank_max, dp_error *err);

/* Evaluates tokens [count <= batch_tokens]; those of one sequence are in order
 * of position. on_logits is called once per token that wants them, in order,
 * with its index and [vocab_size] floats borrowed for the call; false cancels.
 * After an error keys and values of these positions are undefined. */
typedef bool (*dp_step_sink)(void *user, uint32_t index, const float *logits);

dp_status dp_step_run(dp_step *step, const dp_batch_token *tokens, uint32_t count,
                      dp_step_sink on_logits, void *user, dp_error *err);

#endif
