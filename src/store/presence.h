/* presence.h - the map beside a mirror: which pieces are there, and what they hash to.
 *
 * Room     The bytes of NAME.pieces (docs/formats/pieces.md): a header that says what file the
 *          map is of, and a record for each piece. Header and records carry checksums of
 *          their own, so records are written in place, one by one, after the data they
 *          speak of, and whatever a lost power supply leaves of one reads as absent.
 *          The map claims; it proves nothing: store.c hashes every piece it reads.
 *
 * Identity A hash of the file's size, the piece size, the known hashes and the tag. It is in the
 *          header and, cut short, in every record: a record of another map that was here
 *          before is no record of this one.
 *
 * Threads  Any; none of it has state.
 */
#ifndef DP_STORE_PRESENCE_H
#define DP_STORE_PRESENCE_H

#include "base/file.h"
#include "store/store.h"

#define DP_PRESENCE_HEADER_SIZE 4096
#define DP_PRESENCE_RECORD_SIZE 64 /* divides a sector: drives write all of it or nothing */
#define DP_PRESENCE_SUFFIX      ".pieces"
#define DP_PRESENCE_TAG_MAX     1024
#define DP_PRESENCE_PIECES_MAX  ((uint32_t)1 << 24) /* 1 GiB of map */

typedef struct dp_presence_head {
    dp_pieces pieces;
    dp_hash identity;
    char origin[DP_STORE_ORIGIN_MAX + 1]; /* "": unknown */
} dp_presence_head;

/* DP_E_LIMIT: a long tag; DP_E_NOMEM. */
dp_status dp_presence_identity(dp_hash *out, dp_pieces pieces, const dp_hash *hashes,
                               const char *tag, dp_error *err);

void dp_presence_head_encode(uint8_t out[DP_PRESENCE_HEADER_SIZE], const dp_presence_head *head);
/* DP_E_CORRUPT. A header whose origin alone is damaged has none. */
dp_status dp_presence_head_decode(dp_presence_head *out,
                                  const uint8_t bytes[DP_PRESENCE_HEADER_SIZE], dp_error *err);

typedef enum dp_presence_state {
    DP_PRESENCE_ABSENT,
    DP_PRESENCE_HERE, /* its bytes are in the mirror */
    DP_PRESENCE_GONE  /* they were, and its hash is still known */
} dp_presence_state;

typedef struct dp_presence_record {
    dp_hash hash;
    dp_presence_state state;
    dp_piece_class class_;
    double warmth; /* evict.h; whole seconds are kept */
} dp_presence_record;

void dp_presence_record_encode(uint8_t out[DP_PRESENCE_RECORD_SIZE], const dp_presence_head *head,
                               uint32_t piece, const dp_presence_record *record);
/* False, and ABSENT: it is no record of this piece of this map. */
bool dp_presence_record_decode(dp_presence_record *out, const dp_presence_head *head,
                               uint32_t piece, const uint8_t bytes[DP_PRESENCE_RECORD_SIZE]);

static inline uint64_t dp_presence_record_at(uint32_t piece)
{
    return DP_PRESENCE_HEADER_SIZE + (uint64_t)piece * DP_PRESENCE_RECORD_SIZE;
}

dp_status dp_presence_head_read(dp_presence_head *out, const dp_file *map, const char *path,
                                dp_error *err);
/* Every record that is HERE or GONE, in order of pieces. A map that ends early lacks the rest.
 * DP_E_IO, DP_E_NOMEM. */
dp_status dp_presence_walk(const dp_file *map, const char *path, const dp_presence_head *head,
                           void (*visit)(void *user, uint32_t piece,
                                         const dp_presence_record *record),
                           void *user, dp_error *err);

#endif
