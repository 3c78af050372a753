/* sample.h - logits -> one token.
 *
 * Order    penalties, top-k, top-p, min-p, temperature, one draw. Temperature 0
 *          takes the largest logit after penalties, the lowest id among equals.
 *
 * Threads  A sampler belongs to one session.
 */
#ifndef DP_ENGINE_SAMPLE_H
#define DP_ENGINE_SAMPLE_H

#include "base/rng.h"
#include "doppler/vocab.h"
#include "engine/options.h"

typedef struct dp_candidate {
    float logit;
    dp_token id;
} dp_candidate;

typedef struct dp_sampler {
    double temp, top_p, min_p;
    double repeat_penalty, presence_penalty, frequency_penalty;
    uint32_t top_k, penalty_window;
    uint64_t seed; /* the one in use, also when it was drawn */
    dp_rng rng;
    uint32_t vocab_size;
    dp_candidate *candidates; /* [vocab_size] */
} dp_sampler;

uint64_t dp_sampler_bytes(uint32_t vocab_size); /* what one takes, for the plan */

/* Seed 0 is replaced by `drawn`. DP_E_NOMEM. */
dp_status dp_sampler_init(dp_sampler *s, const dp_options *options, uint32_t vocab_size,
                          uint64_t drawn, dp_error *err);
void dp_sampler_deinit(dp_sampler *s); /* zeroed is fine */

/* history [count]: the timeline so far, for penalties. DP_E_CORRUPT when no
 * logit is a number. */
dp_status dp_sampler_choose(dp_sampler *s, const float *logits, const dp_token *history,
                            size_t count, dp_token *out, dp_error *err);

#endif
