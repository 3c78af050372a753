#include "store/piece_hash.h"

#include "base/mem.h"
#include "testing/check.h"

/* Made by a direct rendering of BEP 52 in another language, over bytes as fill() gives. */
static const struct {
    uint64_t file_size;
    uint32_t piece_size;
    const char *last_piece, *root;
} rows[] = {
    { 1, 65536, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
      "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d" },
    { 16384, 65536, "3d3a834dbd9bcd8baa1db26c5e1b13fd54fd6bbdb4236a083c93b48404eb8e9c",
      "3d3a834dbd9bcd8baa1db26c5e1b13fd54fd6bbdb4236a083c93b48404eb8e9c" },
    { 16385, 65536, "9e01fece068f2980ac64abb05511712f76209a70da905def747a36317d22bad9",
      "9e01fece068f2980ac64abb05511712f76209a70da905def747a36317d22bad9" },
    { 50000, 65536, "e7e22dc00ef3e43462655804f00024f8a4affac29987f71548ab535ba5d06b1f",
      "e7e22dc00ef3e43462655804f00024f8a4affac29987f71548ab535ba5d06b1f" },
    { 65536, 65536, "0833ab3357f80deb6bf07110ebbdb1b9640caae41c3f6addeec8534cf3ee6d49",
      "0833ab3357f80deb6bf07110ebbdb1b9640caae41c3f6addeec8534cf3ee6d49" },
    { 65537, 65536, "417315c0669fd34d66612cdcd93c0c612aadfbd26023b75f6e6b044b2bc9c47e",
      "d91063db54a40d617b2d81481b936ce161c18823efa289ff77e75b2817d06689" },
    { 200000, 65536, "92a44e5f6bd91474d456d842046346ff9c2d055774c7d75ba94638cdd957be70",
      "2920ad629eff66e60b9829049e3615edf5b69de36ee47324772fbf573769fec1" },
    { 262144, 65536, "a42aad7ffaae6a8a57ae31054a4c929f97a83af78219ac4caf46bb0f4514178b",
      "9aea6e24806e6b54068026dba05850e5cccbdc8b69477bd0db7fe330ab1a2a89" },
    { 300001, 16384, "05d055419b70d66f676f7ec359412f6ee2de2eb2d71aa9c61f9787b6a7f5c3fe",
      "18cb267387a4109d7ab8a5be1b10d26955165e41d7c8161025334bfb1a542a5d" },
};

static uint8_t *fill(uint64_t size)
{
    uint8_t *bytes = dp_alloc(size, 1);

    CHECK(bytes, "no memory for %llu bytes", (unsigned long long)size);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 131 + (i >> 8) * 17 + (i >> 16) * 29);
    return bytes;
}

static void pieces_and_roots_are_those_of_bep_52(void **unused)
{
    for (size_t r = 0; r < DP_ARRAY_LEN(rows); r++) {
        dp_pieces p = { rows[r].file_size, rows[r].piece_size };
        uint32_t count = dp_pieces_count(p);
        uint8_t *bytes = fill(p.file_size);
        dp_hash pieces[32], root;
        char hex[2 * DP_HASH_SIZE + 1];
        dp_error err;

        CHECK(count <= DP_ARRAY_LEN(pieces), "%u pieces", count);
        for (uint32_t i = 0; i < count; i++)
            CHECK_OK(dp_piece_hash(&pieces[i], p, i, bytes + (uint64_t)i * p.piece_size, &err),
                     err);
        dp_hash_hex(hex, &pieces[count - 1]);
        CHECK(strcmp(hex, rows[r].last_piece) == 0, "row %zu: piece %s", r, hex);
        CHECK_OK(dp_file_root(&root, p, pieces, &err), err);
        dp_hash_hex(hex, &root);
        CHECK(strcmp(hex, rows[r].root) == 0, "row %zu: root %s", r, hex);
        dp_free(bytes);
    }
}

static void every_byte_counts(void **unused)
{
    dp_pieces p = { 200000, 65536 };
    uint8_t *bytes = fill(p.file_size);
    dp_hash before, after;
    dp_error err;

    CHECK_OK(dp_piece_hash(&before, p, 1, bytes + 65536, &err), err);
    for (uint32_t at = 65536; at < 131072; at += 4095) {
        bytes[at] ^= 1;
        CHECK_OK(dp_piece_hash(&after, p, 1, bytes + 65536, &err), err);
        CHECK(!dp_hash_equal(&before, &after), "byte %u changes nothing", at);
        bytes[at] ^= 1;
    }
    dp_free(bytes);
}

static void ranges_touch_their_pieces(void **unused)
{
    static const struct {
        uint64_t offset, size;
        uint32_t first, count;
    } ranges[] = { { 0, 1, 0, 1 },         { 65535, 1, 0, 1 },     { 65535, 2, 0, 2 },
                   { 65536, 65536, 1, 1 }, { 1, 199999, 0, 4 },    { 199999, 1, 3, 1 },
                   { 65536, 65537, 1, 2 }, { 131072, 68928, 2, 2 } };
    dp_pieces p = { 200000, 65536 };

    for (size_t r = 0; r < DP_ARRAY_LEN(ranges); r++) {
        uint32_t first, count = dp_pieces_of_range(p, ranges[r].offset, ranges[r].size, &first);

        CHECK(first == ranges[r].first && count == ranges[r].count, "row %zu: %u from %u", r, count,
              first);
    }
    CHECK(dp_pieces_size(p, 3) == 200000 - 3 * 65536, "the last piece is short");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_and_roots_are_those_of_bep_52),
        cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(ranges_touch_their_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
