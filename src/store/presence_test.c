#include "store/presence.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/file_rw.h"
#include "base/rng.h"
#include "testing/check.h"

static dp_presence_head example_head(void)
{
    dp_presence_head head = { .pieces = { 1000000, 65536 } };
    dp_error err;

    CHECK_OK(dp_presence_identity(&head.identity, head.pieces, NULL, "\"etag\"", &err), err);
    snprintf(head.origin, sizeof head.origin, "https://example.org/model.gguf");
    return head;
}

static dp_presence_record example_record(void)
{
    dp_presence_record record = { .state = DP_PRESENCE_HERE,
                                  .class_ = DP_PIECE_ALWAYS,
                                  .warmth = 1.75e9 };

    for (int i = 0; i < DP_HASH_SIZE; i++)
        record.hash.bytes[i] = (uint8_t)(i * 7 + 1);
    return record;
}

static void header_comes_back(void **unused)
{
    uint8_t bytes[DP_PRESENCE_HEADER_SIZE];
    dp_presence_head head = example_head(), back;
    dp_error err;

    dp_presence_head_encode(bytes, &head);
    CHECK_OK(dp_presence_head_decode(&back, bytes, &err), err);
    CHECK(back.pieces.file_size == 1000000 && back.pieces.piece_size == 65536, "sizes");
    CHECK(dp_hash_equal(&back.identity, &head.identity), "identity");
    CHECK(strcmp(back.origin, head.origin) == 0, "%s", back.origin);
}

/* Any bit of the first sector: no map. Any bit of the rest: a map without origin. */
static void every_bit_of_a_header_counts(void **unused)
{
    uint8_t bytes[DP_PRESENCE_HEADER_SIZE];
    dp_presence_head head = example_head(), back;

    dp_presence_head_encode(bytes, &head);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        dp_status st;

        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        st = dp_presence_head_decode(&back, bytes, NULL);
        CHECK(st == (bit < 8 * 512 ? DP_E_CORRUPT : DP_OK), "bit %zu: %d", bit, (int)st);
        CHECK(!back.origin[0], "bit %zu: %s", bit, back.origin);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void records_come_back(void **unused)
{
    static const double warmths[] = { 0, 1.75e9, -5, -INFINITY };
    dp_presence_head head = example_head();
    uint8_t bytes[DP_PRESENCE_RECORD_SIZE];

    for (int state = DP_PRESENCE_HERE; state <= DP_PRESENCE_GONE; state++) {
        for (int class_ = DP_PIECE_EXPERT; class_ <= DP_PIECE_HEADER; class_++) {
            for (size_t w = 0; w < DP_ARRAY_LEN(warmths); w++) {
                dp_presence_record record = example_record(), back;

                record.state = (dp_presence_state)state;
                record.class_ = (dp_piece_class)class_;
                record.warmth = warmths[w];
                dp_presence_record_encode(bytes, &head, 3, &record);
                CHECK(dp_presence_record_decode(&back, &head, 3, bytes), "one");
                CHECK(back.state == record.state && back.class_ == record.class_ &&
                          back.warmth == record.warmth && dp_hash_equal(&back.hash, &record.hash),
                      "state %d class %d warmth %g", state, class_, warmths[w]);
                CHECK(!dp_presence_record_decode(&back, &head, 4, bytes), "of another piece");
                CHECK(back.state == DP_PRESENCE_ABSENT, "absent");
            }
        }
    }
}

static void every_bit_of_a_record_counts(void **unused)
{
    dp_presence_head head = example_head();
    dp_presence_record record = example_record(), back;
    uint8_t bytes[DP_PRESENCE_RECORD_SIZE];

    dp_presence_record_encode(bytes, &head, 3, &record);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(!dp_presence_record_decode(&back, &head, 3, bytes), "bit %zu", bit);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* New bytes up to any place, old ones from there: the new record, the old one, or none. */
static void a_torn_record_is_absent(void **unused)
{
    dp_presence_head head = example_head();
    dp_presence_record old = example_record(), new = example_record(), back;
    uint8_t olds[3][DP_PRESENCE_RECORD_SIZE] = { { 0 } }, bytes[DP_PRESENCE_RECORD_SIZE];
    int torn = 0;

    memset(olds[1], 0xff, sizeof olds[1]);
    old.state = DP_PRESENCE_GONE;
    old.hash.bytes[5] ^= 1;
    old.warmth = 1;
    dp_presence_record_encode(olds[2], &head, 3, &old);
    for (size_t o = 0; o < DP_ARRAY_LEN(olds); o++) {
        for (size_t cut = 0; cut <= DP_PRESENCE_RECORD_SIZE; cut++) {
            uint8_t whole[DP_PRESENCE_RECORD_SIZE];
            bool is, is_whole;

            dp_presence_record_encode(bytes, &head, 3, &new);
            memcpy(whole, bytes, sizeof whole);
            memcpy(bytes + cut, olds[o] + cut, sizeof bytes - cut);
            is = dp_presence_record_decode(&back, &head, 3, bytes);
            is_whole = memcmp(bytes, whole, sizeof bytes) == 0 ||
                       (o == 2 && memcmp(bytes, olds[o], sizeof bytes) == 0);
            CHECK(is == is_whole, "%zu cut at %zu", o, cut);
            torn += !is_whole;
        }
    }
    CHECK(torn > 150, "%d were torn", torn);
}

static void identities_differ(void **unused)
{
    static const struct {
        uint64_t size;
        uint32_t piece;
        const char *tag;
        int hashes;
    } rows[] = {
        { 1000000, 65536, NULL, 0 }, { 1000001, 65536, NULL, 0 }, { 1000000, 32768, NULL, 0 },
        { 1000000, 65536, "a", 0 },  { 1000000, 65536, "b", 0 },  { 1000000, 65536, NULL, 1 },
        { 1000000, 65536, NULL, 2 }, { 1000000, 65536, "a", 1 },
    };
    dp_hash identity[DP_ARRAY_LEN(rows)], hashes[40] = { { { 0 } } };
    char tag[DP_PRESENCE_TAG_MAX + 2];
    dp_error err;

    for (size_t r = 0; r < DP_ARRAY_LEN(rows); r++) {
        hashes[7].bytes[0] = (uint8_t)rows[r].hashes;
        CHECK_OK(dp_presence_identity(&identity[r], (dp_pieces){ rows[r].size, rows[r].piece },
                                      rows[r].hashes ? hashes : NULL, rows[r].tag, &err),
                 err);
        for (size_t o = 0; o < r; o++)
            CHECK(!dp_hash_equal(&identity[r], &identity[o]), "rows %zu and %zu", o, r);
    }
    memset(tag, 'x', sizeof tag - 1);
    tag[sizeof tag - 1] = '\0';
    CHECK(dp_presence_identity(&identity[0], (dp_pieces){ 1, 65536 }, NULL, tag, &err) ==
              DP_E_LIMIT,
          "a long tag");
}

static void count_record(void *user, uint32_t piece, const dp_presence_record *record)
{
    uint32_t *count = user;

    CHECK(record->state == DP_PRESENCE_HERE && record->class_ == piece % 3, "piece %u", piece);
    (*count)++;
}

/* Maps that end anywhere have the records before that place. */
static void a_short_map_lacks_the_rest(void **unused)
{
    char path[] = "presence_test.XXXXXX";
    dp_presence_head head = example_head();
    uint8_t bytes[DP_PRESENCE_HEADER_SIZE];
    uint32_t pieces = dp_pieces_count(head.pieces);
    int fd = mkstemp(path);
    dp_file file;
    dp_error err;

    CHECK(fd >= 0, "%s", path);
    close(fd);
    CHECK_OK(dp_file_rw_open(&file, path, &err), err);
    dp_presence_head_encode(bytes, &head);
    CHECK_OK(dp_file_rw_write(&file, path, 0, bytes, sizeof bytes, &err), err);
    for (uint32_t i = 0; i < pieces; i++) {
        dp_presence_record record = example_record();

        record.class_ = (dp_piece_class)(i % 3);
        dp_presence_record_encode(bytes, &head, i, &record);
        CHECK_OK(dp_file_rw_write(&file, path, dp_presence_record_at(i), bytes,
                                  DP_PRESENCE_RECORD_SIZE, &err),
                 err);
    }
    for (uint64_t size = dp_presence_record_at(pieces); size >= DP_PRESENCE_HEADER_SIZE;
         size -= 16) {
        uint32_t count = 0;

        CHECK_OK(dp_file_rw_resize(&file, path, size, &err), err);
        CHECK_OK(dp_presence_head_read(&head, &file, path, &err), err);
        CHECK_OK(dp_presence_walk(&file, path, &head, count_record, &count, &err), err);
        CHECK(count == (size - DP_PRESENCE_HEADER_SIZE) / DP_PRESENCE_RECORD_SIZE, "%u", count);
    }
    CHECK_OK(dp_file_rw_resize(&file, path, DP_PRESENCE_HEADER_SIZE - 1, &err), err);
    CHECK(dp_presence_head_read(&head, &file, path, &err) == DP_E_CORRUPT, "a short header");
    dp_file_close(&file);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_comes_back),
        cmocka_unit_test(every_bit_of_a_header_counts),
        cmocka_unit_test(records_come_back),
        cmocka_unit_test(every_bit_of_a_record_counts),
        cmocka_unit_test(a_torn_record_is_absent),
        cmocka_unit_test(identities_differ),
        cmocka_unit_test(a_short_map_lacks_the_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
