/* lookahead.h - experts of the next layers, loaded before their routers ask for them.
 *
 * Room     The stream of residuals changes slowly from layer to layer, so the routers
 *          of the next layers, applied to what enters this one, name most of the
 *          experts they will choose. Those that have come true often enough (recall.h)
 *          are hinted to the tier, the nearest layer's first, which reads them on idle
 *          bandwidth, below every demand (tier.h, 6). Once a layer has chosen, what was
 *          hinted for it in vain is given up. Guesses change what is resident when,
 *          never a result.
 *
 * Reach    Between two layers' experts a drive that was asked for one layer alone has
 *          nothing to do while attention computes; and one layer lacks four experts,
 *          the next none. Hints a few layers deep keep it at work, and even that out.
 *
 * Gate     Reading ahead costs where it is wrong and where the drive is never idle, so
 *          it must not lose: a few steps without and a few with it in turns, then a long
 *          while with it unless its median was clearly slower, then again. A way that
 *          wastes more than 0.3 bytes for each useful one has to be surer of what it asks
 *          for, and is off until the next trial.
 *
 * Threads  The step thread.
 */
#ifndef DP_MODEL_LOOKAHEAD_H
#define DP_MODEL_LOOKAHEAD_H

#include "base/base.h"
#include "model/recall.h"

struct dp_step;

typedef enum dp_lookahead_mode {
    DP_LOOKAHEAD_AUTO,
    DP_LOOKAHEAD_ON,
    DP_LOOKAHEAD_OFF
} dp_lookahead_mode;

#define DP_LOOKAHEAD_TOKENS_MAX 4 /* a longer step asks for most experts anyway */
#define DP_LOOKAHEAD_LAYERS     3 /* that are guessed at a time */

/* ---- the gate: arithmetic over times and bytes ---- */

#define DP_GATE_TRIAL_STEPS 8 /* of each part of a trial: off, on, off, on */
#define DP_GATE_PARTS       4
/* The first step of a part pays for what the other way left, and is not counted. */
#define DP_GATE_TIMES        (DP_GATE_PARTS / 2 * (DP_GATE_TRIAL_STEPS - 1))
#define DP_GATE_REST_STEPS   256 /* with the better way, at first ... */
#define DP_GATE_LEDGER_STEPS 64
#define DP_GATE_REST_MAX     8192 /* ... twice as long after each trial that says the same */

typedef struct dp_lookahead_gate {
    dp_lookahead_mode mode;
    uint32_t level;     /* how sure a guess must be, level_min..DP_GATE_LEVELS - 1 */
    uint32_t level_min; /* lower ones were too wasteful; forgotten after the longest rest */
    bool is_on;         /* of the coming step */
    bool wins;          /* what the last trial said */
    bool is_resting;
    uint32_t step, part;                 /* of the trial, or of the rest */
    uint32_t rest_steps;                 /* of the next rest */
    uint64_t ns[2][DP_GATE_TIMES];       /* of the trial's steps: off, on ... */
    uint32_t ns_count[2];                /* ... and how many */
    uint64_t useful_bytes, wasted_bytes; /* of the trial, or of DP_GATE_LEDGER_STEPS of a rest */
} dp_lookahead_gate;

#define DP_GATE_LEVELS 4
extern const float dp_gate_sure[DP_GATE_LEVELS]; /* the share of guesses that comes true */

void dp_lookahead_gate_init(dp_lookahead_gate *gate, dp_lookahead_mode mode);
/* A step took `ns`; while it ran, so many bytes read ahead turned out useful, and
 * wasted. Decides about the next one. */
void dp_lookahead_gate_step(dp_lookahead_gate *gate, uint64_t ns, uint64_t useful_bytes,
                            uint64_t wasted_bytes);

/* ---- the guess ---- */

/* What was guessed of a layer to come. */
typedef struct dp_lookahead_target {
    uint32_t tokens[DP_LOOKAHEAD_LAYERS]; /* guessed at each distance; 0: none */
    uint32_t *ids;                        /* [DP_LOOKAHEAD_LAYERS][DP_LOOKAHEAD_TOKENS_MAX][used] */
    uint32_t *hints;                      /* [the same] pages, each once */
    uint32_t hint_count;
} dp_lookahead_target;

typedef struct dp_lookahead {
    dp_lookahead_gate gate;
    bool is_running;                               /* in this step */
    uint64_t begin_ns, useful_bytes, wasted_bytes; /* when the step began */
    uint64_t begun;                                /* steps, with it or not */
    uint64_t steps;                                /* that ran with it */
    dp_recall recall;
    dp_lookahead_target targets[DP_LOOKAHEAD_LAYERS]; /* of layer l: l % DP_LOOKAHEAD_LAYERS */
    float *h;                                         /* [DP_LOOKAHEAD_TOKENS_MAX][embed_dim] */
    float *router;                                    /* [DP_LOOKAHEAD_TOKENS_MAX][experts] */
    float *weights;                                   /* [DP_LOOKAHEAD_TOKENS_MAX][used] */
    uint32_t *pages;                                  /* [DP_LOOKAHEAD_TOKENS_MAX * used] */
    dp_recall_cell *cells;
} dp_lookahead;

/* Once its memory is there. */
void dp_lookahead_init(struct dp_step *step, dp_lookahead_mode mode);
void dp_lookahead_begin_step(struct dp_step *step);
/* Before layer l: hints experts of layers l to l + DP_LOOKAHEAD_LAYERS - 1. Layers whose
 * page would have to be waited for are left out. */
void dp_lookahead_guess(struct dp_step *step, uint32_t layer);
/* Layer l has chosen its experts, and grouped them; they are not wanted yet. Learns, and
 * gives up what was hinted in vain. */
void dp_lookahead_learn(struct dp_step *step, uint32_t layer);
void dp_lookahead_end_step(struct dp_step *step);

#endif
