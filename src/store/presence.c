#include "store/presence.h"

#include <math.h>
#include <string.h>

#include "base/crc.h"
#include "base/mem.h"
#include "base/status.h"

/* Header: what never changes is the first sector, so that a torn write of the origin, the one
 * thing that may change, cannot cost the map. */
#define MAGIC         "DPPIECE1"
#define SECTOR        512
#define AT_RECORD     8
#define AT_PIECE      12
#define AT_SIZE       16
#define AT_IDENTITY   24
#define AT_SUM        (SECTOR - 4)
#define AT_ORIGIN     SECTOR
#define AT_ORIGIN_SUM (DP_PRESENCE_HEADER_SIZE - 4)

/* Record. */
#define IDENTITY_CUT 8
#define AT_STATE     44

#define WARMTH_COLD INT64_MIN
#define WARMTH_MAX  9e15 /* whole seconds that a double tells apart; beyond: cold */
#define WALK_SIZE   ((size_t)1 << 20)

static void put32(uint8_t *at, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(x >> 8 * i);
}

static void put64(uint8_t *at, uint64_t x)
{
    put32(at, (uint32_t)x);
    put32(at + 4, (uint32_t)(x >> 32));
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get64(const uint8_t *at)
{
    return get32(at) | (uint64_t)get32(at + 4) << 32;
}

dp_status dp_presence_identity(dp_hash *out, dp_pieces pieces, const dp_hash *hashes,
                               const char *tag, dp_error *err)
{
    uint8_t bytes[8 + 8 + 4 + 4 + DP_HASH_SIZE + DP_PRESENCE_TAG_MAX] = MAGIC;
    size_t tag_size = tag ? strlen(tag) : 0;
    dp_hash root = { { 0 } };
    dp_status st = DP_OK;

    if (tag_size > DP_PRESENCE_TAG_MAX)
        return dp_fail(err, DP_E_LIMIT, "store: a tag of %zu bytes, at most %d", tag_size,
                       DP_PRESENCE_TAG_MAX);
    if (hashes)
        st = dp_file_root(&root, pieces, hashes, err);
    if (st)
        return st;
    put64(bytes + 8, pieces.file_size);
    put32(bytes + 16, pieces.piece_size);
    put32(bytes + 20, hashes != NULL);
    memcpy(bytes + 24, root.bytes, DP_HASH_SIZE);
    memcpy(bytes + 24 + DP_HASH_SIZE, tag ? tag : "", tag_size);
    return dp_piece_hash(out, (dp_pieces){ 24 + DP_HASH_SIZE + tag_size, DP_PIECE_SIZE_MIN }, 0,
                         bytes, err);
}

void dp_presence_head_encode(uint8_t out[DP_PRESENCE_HEADER_SIZE], const dp_presence_head *head)
{
    size_t origin_size = strlen(head->origin);

    memset(out, 0, DP_PRESENCE_HEADER_SIZE);
    memcpy(out, MAGIC, 8);
    put32(out + AT_RECORD, DP_PRESENCE_RECORD_SIZE);
    put32(out + AT_PIECE, head->pieces.piece_size);
    put64(out + AT_SIZE, head->pieces.file_size);
    memcpy(out + AT_IDENTITY, head->identity.bytes, DP_HASH_SIZE);
    put32(out + AT_SUM, dp_crc32(0, out, AT_SUM));
    put32(out + AT_ORIGIN, (uint32_t)origin_size);
    memcpy(out + AT_ORIGIN + 4, head->origin, origin_size);
    put32(out + AT_ORIGIN_SUM, dp_crc32(0, out + AT_ORIGIN, AT_ORIGIN_SUM - AT_ORIGIN));
}

static bool is_origin(const uint8_t *text, uint32_t size)
{
    if (size > DP_STORE_ORIGIN_MAX)
        return false;
    for (uint32_t i = 0; i < size; i++) {
        if (text[i] < 32 || text[i] == 127)
            return false; /* it goes to terminals */
    }
    return true;
}

dp_status dp_presence_head_decode(dp_presence_head *out,
                                  const uint8_t bytes[DP_PRESENCE_HEADER_SIZE], dp_error *err)
{
    dp_pieces pieces = { get64(bytes + AT_SIZE), get32(bytes + AT_PIECE) };
    uint32_t origin_size = get32(bytes + AT_ORIGIN);

    memset(out, 0, sizeof *out);
    if (memcmp(bytes, MAGIC, 8) != 0 || get32(bytes + AT_SUM) != dp_crc32(0, bytes, AT_SUM))
        return dp_fail(err, DP_E_CORRUPT, "map of pieces: not one, or its header is damaged");
    if (get32(bytes + AT_RECORD) != DP_PRESENCE_RECORD_SIZE || pieces.file_size == 0 ||
        pieces.file_size > INT64_MAX || !dp_is_power_of_two(pieces.piece_size) ||
        pieces.piece_size < DP_PIECE_SIZE_MIN || pieces.piece_size > DP_PIECE_SIZE_MAX ||
        (pieces.file_size - 1) / pieces.piece_size >= DP_PRESENCE_PIECES_MAX)
        return dp_fail(err, DP_E_CORRUPT, "map of pieces: %llu bytes in pieces of %u",
                       (unsigned long long)pieces.file_size, pieces.piece_size);
    out->pieces = pieces;
    memcpy(out->identity.bytes, bytes + AT_IDENTITY, DP_HASH_SIZE);
    if (get32(bytes + AT_ORIGIN_SUM) == dp_crc32(0, bytes + AT_ORIGIN, AT_ORIGIN_SUM - AT_ORIGIN) &&
        is_origin(bytes + AT_ORIGIN + 4, origin_size))
        memcpy(out->origin, bytes + AT_ORIGIN + 4, origin_size);
    return DP_OK;
}

void dp_presence_record_encode(uint8_t out[DP_PRESENCE_RECORD_SIZE], const dp_presence_head *head,
                               uint32_t piece, const dp_presence_record *record)
{
    int64_t warmth = fabs(record->warmth) < WARMTH_MAX ? (int64_t)record->warmth : WARMTH_COLD;

    memset(out, 0, DP_PRESENCE_RECORD_SIZE);
    if (record->state == DP_PRESENCE_ABSENT)
        return;
    memcpy(out, record->hash.bytes, DP_HASH_SIZE);
    memcpy(out + 32, head->identity.bytes, IDENTITY_CUT);
    put32(out + 40, piece);
    out[AT_STATE] = (uint8_t)record->state;
    out[AT_STATE + 1] = (uint8_t)record->class_;
    put64(out + 48, (uint64_t)warmth);
    put32(out + 60, dp_crc32(0, out, 60));
}

bool dp_presence_record_decode(dp_presence_record *out, const dp_presence_head *head,
                               uint32_t piece, const uint8_t bytes[DP_PRESENCE_RECORD_SIZE])
{
    int64_t warmth = (int64_t)get64(bytes + 48);

    *out = (dp_presence_record){ .warmth = -INFINITY };
    if ((bytes[AT_STATE] != DP_PRESENCE_HERE && bytes[AT_STATE] != DP_PRESENCE_GONE) ||
        bytes[AT_STATE + 1] > DP_PIECE_HEADER || get32(bytes + 40) != piece ||
        memcmp(bytes + 32, head->identity.bytes, IDENTITY_CUT) != 0 ||
        get32(bytes + 60) != dp_crc32(0, bytes, 60))
        return false;
    memcpy(out->hash.bytes, bytes, DP_HASH_SIZE);
    out->state = (dp_presence_state)bytes[AT_STATE];
    out->class_ = (dp_piece_class)bytes[AT_STATE + 1];
    if (warmth > -(int64_t)WARMTH_MAX && warmth < (int64_t)WARMTH_MAX)
        out->warmth = (double)warmth;
    return true;
}

dp_status dp_presence_head_read(dp_presence_head *out, const dp_file *map, const char *path,
                                dp_error *err)
{
    uint8_t bytes[DP_PRESENCE_HEADER_SIZE];
    dp_status st = dp_file_read(map, path, 0, bytes, sizeof bytes, err);

    return st ? st : dp_presence_head_decode(out, bytes, err);
}

dp_status dp_presence_walk(const dp_file *map, const char *path, const dp_presence_head *head,
                           void (*visit)(void *user, uint32_t piece,
                                         const dp_presence_record *record),
                           void *user, dp_error *err)
{
    uint32_t count = dp_pieces_count(head->pieces), piece = 0;
    uint8_t *bytes = dp_alloc(WALK_SIZE, 1);
    dp_status st = DP_OK;

    if (!bytes)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory to read it", path);
    if (map->size < dp_presence_record_at(count))
        count = map->size <= DP_PRESENCE_HEADER_SIZE
                    ? 0
                    : (uint32_t)((map->size - DP_PRESENCE_HEADER_SIZE) / DP_PRESENCE_RECORD_SIZE);
    while (piece < count && !st) {
        uint32_t n = (uint32_t)DP_MIN(count - piece, WALK_SIZE / DP_PRESENCE_RECORD_SIZE);

        st = dp_file_read(map, path, dp_presence_record_at(piece), bytes,
                          (size_t)n * DP_PRESENCE_RECORD_SIZE, err);
        for (uint32_t i = 0; i < n && !st; i++) {
            dp_presence_record record;

            if (dp_presence_record_decode(&record, head, piece + i,
                                          bytes + (size_t)i * DP_PRESENCE_RECORD_SIZE))
                visit(user, piece + i, &record);
        }
        piece += n;
    }
    dp_free(bytes);
    return st;
}
