#include "swarm/layout.h"

#include "base/assert.h"

dp_layout_place dp_layout_find(const dp_layout *layout, uint32_t piece)
{
    uint32_t low = 0, high = layout->file_count; /* files[low] begins at or before the piece */
    dp_layout_place place;

    DP_ASSERT(piece < layout->piece_count);
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (layout->files[middle].first_piece <= piece)
            low = middle;
        else
            high = middle;
    }
    place.file = low;
    place.piece = piece - layout->files[low].first_piece;
    place.size = dp_pieces_size(layout->files[low].pieces, place.piece);
    place.offset = (uint64_t)place.piece * layout->piece_size;
    return place;
}
