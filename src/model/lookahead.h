/* lookahead.h - experts of the next layer, loaded before its router asks for them.
 *
 * Room     The stream of residuals changes slowly from layer to layer, so the next
 *          layer's router, applied to what this layer's experts are about to read,
 *          names most of those it will choose. They are hinted to the tier, which
 *          reads them on idle bandwidth, below every demand (tier.h, 6). Guesses
 *          change what is resident when, never a result.
 *
 * Gate     Reading ahead costs where it is wrong and where the drive is never idle, so
 *          it has to earn its place: a few steps without and a few with it in turns,
 *          the faster way for a while, then again. A way that wastes more than 0.3
 *          bytes for each useful one asks for fewer experts, at last for none.
 *
 * Threads  The step thread.
 */
#ifndef DP_MODEL_LOOKAHEAD_H
#define DP_MODEL_LOOKAHEAD_H

#include "base/base.h"

struct dp_step;

typedef enum dp_lookahead_mode {
    DP_LOOKAHEAD_AUTO,
    DP_LOOKAHEAD_ON,
    DP_LOOKAHEAD_OFF
} dp_lookahead_mode;

#define DP_LOOKAHEAD_TOKENS_MAX 4 /* a longer step asks for most experts anyway */

/* ---- the gate: arithmetic over times and bytes ---- */

#define DP_GATE_TRIAL_STEPS  8 /* of each part of a trial: off, on, off, on */
#define DP_GATE_PARTS        4
#define DP_GATE_REST_STEPS   256 /* with the better way, at first ... */
#define DP_GATE_LEDGER_STEPS 64
#define DP_GATE_REST_MAX     8192 /* ... twice as long after each trial that says the same */

typedef struct dp_lookahead_gate {
    dp_lookahead_mode mode;
    uint32_t used;      /* experts of a token */
    uint32_t asked;     /* so many of them are guessed, 1..asked_max */
    uint32_t asked_max; /* more were too wasteful; forgotten after the longest rest */
    bool is_on;         /* of the coming step */
    bool wins;          /* what the last trial said */
    bool is_resting;
    uint32_t step, part;                 /* of the trial, or of the rest */
    uint32_t rest_steps;                 /* of the next rest */
    uint64_t ns[2];                      /* of the trial's steps: off, on */
    uint64_t useful_bytes, wasted_bytes; /* of the trial, or of DP_GATE_LEDGER_STEPS of a rest */
} dp_lookahead_gate;

void dp_lookahead_gate_init(dp_lookahead_gate *gate, dp_lookahead_mode mode, uint32_t used);
/* A step took `ns`; while it ran, so many bytes read ahead turned out useful, and
 * wasted. Decides about the next one. */
void dp_lookahead_gate_step(dp_lookahead_gate *gate, uint64_t ns, uint64_t useful_bytes,
                            uint64_t wasted_bytes);

/* ---- the guess ---- */

typedef struct dp_lookahead {
    dp_lookahead_gate gate;
    bool is_running;                               /* in this step */
    uint64_t begin_ns, useful_bytes, wasted_bytes; /* when the step began */
    uint64_t steps;                                /* that ran with it */
    float *h;                                      /* [DP_LOOKAHEAD_TOKENS_MAX][embed_dim] */
    float *router;                                 /* [DP_LOOKAHEAD_TOKENS_MAX][experts] */
    uint32_t *ids;                                 /* [DP_LOOKAHEAD_TOKENS_MAX][used] */
    float *weights;                                /* [DP_LOOKAHEAD_TOKENS_MAX][used] */
    uint32_t *pages;                               /* [DP_LOOKAHEAD_TOKENS_MAX * used] */
} dp_lookahead;

void dp_lookahead_begin_step(struct dp_step *step);
/* In layer l, once its own experts are asked for: hints those of layer l + 1. Does
 * nothing where that layer's page would have to be waited for. */
void dp_lookahead_guess(struct dp_step *step, uint32_t layer);
void dp_lookahead_end_step(struct dp_step *step);

#endif
