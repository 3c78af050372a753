#include "model/recall.h"

#include <string.h>

#include "base/assert.h"

size_t dp_recall_cells(uint32_t layers, uint32_t distances, uint32_t ranks)
{
    return ((size_t)layers + 1) * distances * ranks;
}

void dp_recall_init(dp_recall *recall, uint32_t layers, uint32_t distances, uint32_t ranks,
                    dp_recall_cell *cells)
{
    *recall = (dp_recall){ layers, distances, ranks, cells };
    memset(cells, 0, dp_recall_cells(layers, distances, ranks) * sizeof *cells);
}

static dp_recall_cell *cell_at(const dp_recall *recall, uint32_t layer, uint32_t distance,
                               uint32_t rank)
{
    DP_ASSERT(layer <= recall->layers && distance < recall->distances && rank < recall->ranks);
    return &recall->cells[((size_t)layer * recall->distances + distance) * recall->ranks + rank];
}

static void note(dp_recall_cell *cell, bool is_right, float seen_max)
{
    cell->seen += 1;
    cell->right += is_right;
    if (cell->seen >= seen_max) {
        cell->seen /= 2;
        cell->right /= 2;
    }
}

void dp_recall_note(dp_recall *recall, uint32_t layer, uint32_t distance, uint32_t rank,
                    bool is_right)
{
    note(cell_at(recall, layer, distance, rank), is_right, DP_RECALL_SEEN_MAX);
    note(cell_at(recall, recall->layers, distance, rank), is_right, DP_RECALL_ALL_MAX);
}

float dp_recall_share(const dp_recall *recall, uint32_t layer, uint32_t distance, uint32_t rank)
{
    const dp_recall_cell *own = cell_at(recall, layer, distance, rank);
    const dp_recall_cell *all = cell_at(recall, recall->layers, distance, rank);

    if (all->seen < DP_RECALL_ALL_LEAST)
        return 0;
    return (own->right + DP_RECALL_PRIOR * all->right / all->seen) / (own->seen + DP_RECALL_PRIOR);
}
