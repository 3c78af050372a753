/* speculate.h - is a draft worth its price?
 *
 * Room     A step that also evaluates k guessed tokens yields 1 + e tokens, e of the
 *          guesses being right, and takes longer. With weights that stream from disk it
 *          hardly takes longer; in a mixture each token asks for experts of its own. So
 *          the time of steps is measured by their number of rows, and a draft is made
 *          when (tokens with it) / (time with it) is more than without.
 *
 * Gate     Starts drafting at a gain of DP_SPECULATE_START, stops below 1. One size more
 *          than was ever measured may be tried. While it does not pay a draft is tried
 *          now and then, rarer after each; while it pays, a step without one is.
 *
 * Pure     Arithmetic over what it was told: no clock, no memory, no model.
 *
 * Threads  The step thread.
 */
#ifndef DP_ENGINE_SPECULATE_H
#define DP_ENGINE_SPECULATE_H

#include "engine/draft.h"

#define DP_SPECULATE_ROWS_MAX 128 /* longer steps carry no drafts of `auto` */
#define DP_SPECULATE_START    1.1

/* Steps of one number of rows. */
typedef struct dp_row_cost {
    double ns;      /* fading mean */
    uint32_t steps; /* that were measured; 0: none */
    uint64_t at;    /* the last of them, of all steps */
} dp_row_cost;

typedef struct dp_speculate {
    dp_row_cost cost[DP_SPECULATE_ROWS_MAX + 1];
    uint64_t steps;
    uint32_t drafted_since; /* steps since the last without a draft */
    uint32_t idle, pause;   /* drafts not made since the last trial; made again after so many */
    bool is_on;
} dp_speculate;

void dp_speculate_init(dp_speculate *s);

/* A step of `rows` tokens, guesses among them or not, took ns. */
void dp_speculate_record(dp_speculate *s, uint32_t rows, bool has_draft, uint64_t ns);
/* What a step of so many rows takes; 0 while nothing is known. */
double dp_speculate_cost(const dp_speculate *s, uint32_t rows);

/* How many tokens of the draft, at most count_max, to add to a step of `rows` that
 * yields `tokens`. 0: none. */
uint32_t dp_speculate_choose(dp_speculate *s, const dp_draft *draft, uint32_t rows, double tokens,
                             uint32_t count_max);

#endif
