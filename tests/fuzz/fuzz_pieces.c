/* Any bytes as a map of pieces, header and records: whatever is read from them is within its
 * bounds and comes back when it is written. Sums are mended as well, so that what stands behind
 * them is reached. */
#include <string.h>

#include "base/assert.h"
#include "base/crc.h"
#include "base/mem.h"
#include "fuzz.h"
#include "store/presence.h"

#define RECORDS_MAX 4096

static void put_crc(uint8_t *at, uint32_t crc)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(crc >> 8 * i);
}

static void check_head(const dp_presence_head *head)
{
    uint8_t bytes[DP_PRESENCE_HEADER_SIZE];
    dp_presence_head back;

    DP_CHECK(head->pieces.file_size > 0 && dp_is_power_of_two(head->pieces.piece_size));
    DP_CHECK(dp_pieces_count(head->pieces) > 0);
    DP_CHECK(dp_pieces_count(head->pieces) <= DP_PRESENCE_PIECES_MAX);
    DP_CHECK(strlen(head->origin) <= DP_STORE_ORIGIN_MAX);
    dp_presence_head_encode(bytes, head);
    DP_CHECK(dp_presence_head_decode(&back, bytes, NULL) == DP_OK);
    DP_CHECK(back.pieces.file_size == head->pieces.file_size &&
             back.pieces.piece_size == head->pieces.piece_size &&
             dp_hash_equal(&back.identity, &head->identity) &&
             strcmp(back.origin, head->origin) == 0);
}

static void check_records(const dp_presence_head *head, const uint8_t *bytes, size_t size)
{
    for (uint32_t i = 0; i < RECORDS_MAX && (i + 1) * (size_t)DP_PRESENCE_RECORD_SIZE <= size;
         i++) {
        uint8_t again[DP_PRESENCE_RECORD_SIZE];
        dp_presence_record record, back;

        memset(&record, 0, sizeof record);
        if (!dp_presence_record_decode(&record, head, i, bytes + (size_t)i * sizeof again)) {
            DP_CHECK(record.state == DP_PRESENCE_ABSENT);
            continue;
        }
        DP_CHECK(record.state == DP_PRESENCE_HERE || record.state == DP_PRESENCE_GONE);
        DP_CHECK(record.class_ >= DP_PIECE_EXPERT && record.class_ <= DP_PIECE_HEADER);
        dp_presence_record_encode(again, head, i, &record);
        DP_CHECK(dp_presence_record_decode(&back, head, i, again));
        DP_CHECK(dp_hash_equal(&back.hash, &record.hash) && back.state == record.state &&
                 back.class_ == record.class_ && back.warmth == record.warmth);
    }
}

static void read_map(const uint8_t *bytes, size_t size)
{
    dp_presence_head head;

    if (dp_presence_head_decode(&head, bytes, NULL))
        return;
    check_head(&head);
    check_records(&head, bytes + DP_PRESENCE_HEADER_SIZE, size - DP_PRESENCE_HEADER_SIZE);
}

/* Right sums, and records that say they are of this map. */
static void mend(uint8_t *b, size_t size)
{
    put_crc(b + 508, dp_crc32(0, b, 508));
    put_crc(b + 4092, dp_crc32(0, b + 512, 4092 - 512));
    for (size_t at = DP_PRESENCE_HEADER_SIZE; at + DP_PRESENCE_RECORD_SIZE <= size;
         at += DP_PRESENCE_RECORD_SIZE) {
        memcpy(b + at + 32, b + 24, 8);
        put_crc(b + at + 60, dp_crc32(0, b + at, 60));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint8_t *map;

    if (size < DP_PRESENCE_HEADER_SIZE)
        return 0;
    read_map(bytes, size);
    map = dp_alloc(size, 1);
    DP_CHECK(map);
    memcpy(map, bytes, size);
    mend(map, size);
    read_map(map, size);
    dp_free(map);
    return 0;
}
