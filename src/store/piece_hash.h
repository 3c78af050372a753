/* piece_hash.h - the hash of one piece of a file: its merkle root, as BitTorrent v2 has it.
 *
 * Room     Pieces are cut at multiples of a power of two; the last of a file may be
 *          short. A piece's leaves are the SHA-256 of its 16 KiB blocks (the last block
 *          as short as it is); leaves that are not there are 32 zero bytes. In a file
 *          longer than one piece the tree is as wide as a whole piece; the tree of a
 *          file of one piece is as wide as the next power of two of its blocks.
 *
 * Threads  Pure: any.
 *
 * Source   BEP 52, "pieces root" and "piece layers".
 */
#ifndef DP_STORE_PIECE_HASH_H
#define DP_STORE_PIECE_HASH_H

#include "base/base.h"
#include "doppler/status.h"

#define DP_HASH_SIZE      32
#define DP_PIECE_BLOCK    ((uint32_t)16384)
#define DP_PIECE_SIZE_MIN DP_PIECE_BLOCK
#define DP_PIECE_SIZE_MAX ((uint32_t)64 << 20)

typedef struct dp_hash {
    uint8_t bytes[DP_HASH_SIZE];
} dp_hash;

/* A file cut into pieces. */
typedef struct dp_pieces {
    uint64_t file_size;
    uint32_t piece_size; /* a power of two, DP_PIECE_SIZE_MIN .. DP_PIECE_SIZE_MAX */
} dp_pieces;

uint32_t dp_pieces_count(dp_pieces p);
uint32_t dp_pieces_size(dp_pieces p, uint32_t piece); /* bytes of that piece */
/* The pieces that [offset, offset + size) touches: *first and how many; size > 0. */
uint32_t dp_pieces_of_range(dp_pieces p, uint64_t offset, uint64_t size, uint32_t *first);

/* The hash of the `size` bytes of `piece`. DP_E_NOMEM: libcrypto has none. */
dp_status dp_piece_hash(dp_hash *out, dp_pieces p, uint32_t piece, const void *bytes,
                        dp_error *err);
/* The root of a file ("pieces root") from the hashes of its pieces. */
dp_status dp_file_root(dp_hash *out, dp_pieces p, const dp_hash *pieces, dp_error *err);

bool dp_hash_equal(const dp_hash *a, const dp_hash *b);
void dp_hash_hex(char out[2 * DP_HASH_SIZE + 1], const dp_hash *hash);

#endif
