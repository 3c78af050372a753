#include "swarm/layout.h"

#include "base/assert.h"
#include "base/status.h"

dp_status dp_layout_number(dp_layout *out, dp_layout_file *files, uint32_t file_count,
                           uint32_t piece_size, const char *name, dp_error *err)
{
    uint64_t count = 0;

    DP_ASSERT(piece_size >= DP_PIECE_SIZE_MIN && dp_is_power_of_two(piece_size));
    for (uint32_t i = 0; i < file_count; i++) {
        uint64_t size = files[i].pieces.file_size;

        if (size == 0)
            return dp_fail(err, DP_E_CORRUPT, "%s: %s is empty", name, files[i].path);
        files[i].pieces.piece_size = piece_size;
        files[i].first_piece = (uint32_t)count;
        count += (size - 1) / piece_size + 1;
        if (count > DP_LAYOUT_PIECES_MAX)
            return dp_fail(err, DP_E_LIMIT, "%s: more than %u pieces of %u bytes", name,
                           DP_LAYOUT_PIECES_MAX, piece_size);
    }
    *out = (dp_layout){ files, file_count, piece_size, (uint32_t)count };
    return DP_OK;
}

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
