/* recall.h - how often guesses of experts come true: by layer, distance and rank.
 *
 * Room     A router asked early names experts; the surest first. Some layers can be
 *          foretold, some not, and the farther ahead the less: so each layer's guesses of
 *          each distance and rank are counted, right and wrong, and what was counted
 *          says how much the next one is worth. Old counts fade. Where a layer has few of
 *          its own, those of all layers stand in.
 *
 * Threads  One at a time.
 */
#ifndef DP_MODEL_RECALL_H
#define DP_MODEL_RECALL_H

#include "base/base.h"

#define DP_RECALL_SEEN_MAX  64.0f /* guesses a layer remembers, then both counts are halved */
#define DP_RECALL_ALL_MAX   512.0f
#define DP_RECALL_ALL_LEAST 16.0f /* of all layers, before anything is said */
#define DP_RECALL_PRIOR     8.0f  /* guesses that all layers' share counts as */

typedef struct dp_recall_cell {
    float right, seen;
} dp_recall_cell;

typedef struct dp_recall {
    uint32_t layers, distances, ranks;
    dp_recall_cell *cells; /* [layers + 1][distances][ranks], all layers' last; borrowed */
} dp_recall;

/* Of `cells`. */
size_t dp_recall_cells(uint32_t layers, uint32_t distances, uint32_t ranks);
/* Nothing was seen. */
void dp_recall_init(dp_recall *recall, uint32_t layers, uint32_t distances, uint32_t ranks,
                    dp_recall_cell *cells);
void dp_recall_note(dp_recall *recall, uint32_t layer, uint32_t distance, uint32_t rank,
                    bool is_right);
/* The share that comes true, 0 while too little was seen. */
float dp_recall_share(const dp_recall *recall, uint32_t layer, uint32_t distance, uint32_t rank);

#endif
