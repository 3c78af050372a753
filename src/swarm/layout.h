/* layout.h - the files of one published model and their pieces, numbered through.
 *
 * Room     Plain data, immutable after it is made. Piece numbers are the torrent's: every
 *          file begins with a new piece, and pieces are counted over all files in order.
 *          A file published by a URL has no hashes.
 *
 * Threads  Any.
 */
#ifndef DP_SWARM_LAYOUT_H
#define DP_SWARM_LAYOUT_H

#include "store/piece_hash.h"

#define DP_LAYOUT_FILES_MAX  1024 /* as many as a split model may have parts */
#define DP_LAYOUT_PIECES_MAX ((uint32_t)1 << 21)

typedef struct dp_layout_file {
    const char *path; /* inside the torrent, '/' between folders; of a URL: its last part */
    dp_pieces pieces;
    uint32_t first_piece;
    const dp_hash *hashes; /* [dp_pieces_count]; NULL: none are known */
} dp_layout_file;

typedef struct dp_layout {
    const dp_layout_file *files; /* [file_count] without padding files */
    uint32_t file_count, piece_size, piece_count;
} dp_layout;

/* Numbers files of which path and pieces.file_size are set, cut into pieces of piece_size; they
 * are borrowed by *out. name: of the model, for the sentence. DP_E_LIMIT: more pieces than
 * DP_LAYOUT_PIECES_MAX; DP_E_CORRUPT: an empty file. */
dp_status dp_layout_number(dp_layout *out, dp_layout_file *files, uint32_t file_count,
                           uint32_t piece_size, const char *name, dp_error *err);

/* Where a piece lies: its file, its number in that file, its bytes. */
typedef struct dp_layout_place {
    uint32_t file, piece, size;
    uint64_t offset;
} dp_layout_place;
dp_layout_place dp_layout_find(const dp_layout *layout, uint32_t piece);

#endif
