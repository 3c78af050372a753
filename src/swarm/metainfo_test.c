#include "testing/check.h"

#include <openssl/sha.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/mem.h"
#include "swarm/metainfo.h"
#include "swarm/metainfo_vectors.h"

#define PIECE 32768

/* For new_testing.cpp. */
bool new_fails(void);
long new_live(void);

bool new_fails(void)
{
    return dp_fault_visit(DP_FAULT_MEM);
}

static const struct {
    const char *path;
    uint32_t size, first_piece;
} folder_files[] = { { "a.gguf", 100000, 0 }, { "b.gguf", 16384, 4 }, { "sub/c.gguf", 98304, 5 } };

static uint8_t *content(uint32_t size, uint32_t seed)
{
    uint8_t *bytes = malloc(size);

    for (uint32_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + seed);
    return bytes;
}

static void hex20(char out[41], const uint8_t hash[20])
{
    for (int i = 0; i < 20; i++)
        sprintf(out + 2 * i, "%02x", hash[i]);
}

static dp_metainfo *parsed(int i)
{
    dp_metainfo *m;
    dp_error err;

    CHECK_OK(dp_metainfo_parse(&m, vectors[i].what, vectors[i].bytes, vectors[i].size, &err), err);
    return m;
}

static void torrents_say_what_they_say(void **state)
{
    for (size_t i = 0; i < METAINFO_VECTORS; i++) {
        dp_metainfo *m = parsed((int)i);
        const dp_layout *layout = dp_metainfo_layout(m);
        const char *const *urls;
        char v2[65], v1[41];
        uint8_t sha1[20];
        size_t size;

        dp_hash_hex(v2, dp_metainfo_info_v2(m));
        CHECK(!strcmp(v2, vectors[i].v2), "%s: %s", vectors[i].what, v2);
        CHECK(dp_metainfo_info_v1(m, sha1) == !!vectors[i].v1, "%s", vectors[i].what);
        if (vectors[i].v1) {
            hex20(v1, sha1);
            CHECK(!strcmp(v1, vectors[i].v1), "%s: %s", vectors[i].what, v1);
        }
        CHECK(!strcmp(dp_metainfo_name(m), vectors[i].name), "%s", dp_metainfo_name(m));
        CHECK(dp_metainfo_is_folder(m) == vectors[i].is_folder, "%s", vectors[i].what);
        CHECK(dp_metainfo_is_private(m) == vectors[i].is_private, "%s", vectors[i].what);
        CHECK(dp_metainfo_trackers(m, &urls) == vectors[i].trackers, "%s", vectors[i].what);
        if (vectors[i].trackers)
            CHECK(!strcmp(urls[0], "http://127.0.0.1:6969/announce") &&
                      !strcmp(urls[1], "udp://127.0.0.1:6970"),
                  "%s, %s", urls[0], urls[1]);
        CHECK(dp_metainfo_web_seeds(m, &urls) == vectors[i].web_seeds, "%s", vectors[i].what);
        if (vectors[i].web_seeds)
            CHECK(!strcmp(urls[1], "https://example.org/y/"), "%s", urls[1]);
        CHECK(!memcmp(dp_metainfo_bytes(m, &size), vectors[i].bytes, vectors[i].size) &&
                  size == vectors[i].size,
              "%zu bytes", size);
        CHECK(layout->file_count == vectors[i].files, "%u", layout->file_count);
        CHECK(layout->piece_size == PIECE, "%u", layout->piece_size);
        CHECK(layout->piece_count == vectors[i].pieces, "%u", layout->piece_count);
        for (uint32_t f = 0; f < layout->file_count; f++) {
            const dp_layout_file *file = &layout->files[f];
            uint8_t *bytes = content(folder_files[f].size, f + 1);

            CHECK(!strcmp(file->path, vectors[i].is_folder ? folder_files[f].path : "m.gguf"), "%s",
                  file->path);
            CHECK(file->first_piece == folder_files[f].first_piece, "%u", file->first_piece);
            CHECK(file->pieces.file_size == folder_files[f].size, "%s", file->path);
            for (uint32_t p = 0; p < dp_pieces_count(file->pieces); p++) {
                dp_hash hash;

                CHECK(!dp_piece_hash(&hash, file->pieces, p, bytes + p * PIECE, NULL), "hash");
                CHECK(dp_hash_equal(&hash, &file->hashes[p]), "%s: piece %u", file->path, p);
            }
            free(bytes);
        }
        dp_metainfo_close(m);
    }
}

/* The SHA-1 of every piece, with zeros after every file but the last. */
static void sha1_of_pieces(uint8_t (*out)[20], uint32_t file_count)
{
    for (uint32_t f = 0; f < file_count; f++) {
        uint8_t *bytes = content(folder_files[f].size, f + 1), padded[PIECE];

        for (uint32_t at = 0; at < folder_files[f].size; at += PIECE) {
            uint32_t size = DP_MIN(PIECE, folder_files[f].size - at);

            memset(padded, 0, sizeof padded);
            memcpy(padded, bytes + at, size);
            SHA1(padded, f + 1 < file_count ? PIECE : size, *out++);
        }
        free(bytes);
    }
}

/* Config i from what vectors[i] says, as a publisher would make it. */
static dp_metainfo_config config_of(const dp_metainfo *m, int i, const char **names,
                                    uint8_t (*sha1)[20])
{
    const dp_layout *layout = dp_metainfo_layout(m);
    dp_metainfo_config config = { .name = dp_metainfo_name(m),
                                  .names = names,
                                  .layout = layout,
                                  .is_private = vectors[i].is_private };

    for (uint32_t f = 0; f < layout->file_count; f++)
        names[f] = layout->files[f].path;
    if (vectors[i].v1) {
        sha1_of_pieces(sha1, layout->file_count);
        config.sha1 = (const uint8_t(*)[20])sha1;
    }
    config.tracker_count = dp_metainfo_trackers(m, &config.trackers);
    config.web_seed_count = dp_metainfo_web_seeds(m, &config.web_seeds);
    config.creator = i == 0 ? "doppler test" : NULL;
    return config;
}

static void making_gives_the_same_bytes(void **state)
{
    for (size_t i = 0; i < METAINFO_VECTORS; i++) {
        dp_metainfo *m = parsed((int)i), *made;
        const char *names[3];
        uint8_t sha1[8][20];
        dp_metainfo_config config = config_of(m, (int)i, names, sha1);
        const uint8_t *bytes;
        dp_error err;
        size_t size;

        CHECK_OK(dp_metainfo_make(&made, &config, &err), err);
        bytes = dp_metainfo_bytes(made, &size);
        CHECK(size == vectors[i].size && !memcmp(bytes, vectors[i].bytes, size), "%s: %.*s",
              vectors[i].what, (int)size, (const char *)bytes);
        dp_metainfo_close(made);
        dp_metainfo_close(m);
    }
}

static void what_makes_no_torrent_is_said(void **state)
{
    dp_metainfo *m = parsed(3), *made;
    const char *names[3], *bad_urls[] = { "file:///etc/passwd" };
    uint8_t sha1[8][20];
    const dp_metainfo_config good = config_of(m, 3, names, sha1);
    dp_metainfo_config c;
    const char *swapped[] = { "b.gguf", "a.gguf", "sub/c.gguf" };
    const char *conflict[] = { "a", "a/b", "c" };
    const char *dots[] = { "../a", "b", "c" };
    dp_error err;

    c = good;
    c.names = swapped;
    CHECK(dp_metainfo_make(&made, &c, &err) == DP_E_INVALID && !made, "%s", err.text);
    CHECK(strstr(err.text, "sorted"), "%s", err.text);
    c.names = conflict;
    CHECK(dp_metainfo_make(&made, &c, &err) == DP_E_INVALID && !made, "%s", err.text);
    c.names = dots;
    CHECK(dp_metainfo_make(&made, &c, &err) != DP_OK && !made, "a name with dots");
    c = good;
    c.name = "a/b";
    CHECK(dp_metainfo_make(&made, &c, &err) == DP_E_INVALID && !made, "%s", err.text);
    c = good;
    c.trackers = bad_urls;
    c.tracker_count = 1;
    CHECK(dp_metainfo_make(&made, &c, &err) == DP_E_INVALID && !made, "%s", err.text);
    c = good;
    c.web_seeds = bad_urls;
    c.web_seed_count = 1;
    CHECK(dp_metainfo_make(&made, &c, &err) == DP_E_INVALID && !made, "%s", err.text);
    c.web_seed_count = DP_METAINFO_URLS_MAX + 1;
    CHECK(dp_metainfo_make(&made, &c, &err) == DP_E_LIMIT && !made, "%s", err.text);
    dp_metainfo_close(m);
}

/* A torrent with `from` replaced by `to` in its bytes. */
static const struct {
    const char *name;
    int base;
    const char *from, *to;
    dp_status want;
    const char *said;
} spoiled[] = {
    { "version 1", 1, "meta versioni2e", "meta versioni1e", DP_E_UNSUPPORTED, "v2 hashes" },
    { "version 3", 1, "meta versioni2e", "meta versioni3e", DP_E_UNSUPPORTED, "v2 hashes" },
    { "no info", 1, "4:info", "4:inf0", DP_E_CORRUPT, "info" },
    { "a piece more", 1, "lengthi100000e", "lengthi131073e", DP_E_CORRUPT, "" },
    { "a shorter file", 1, "lengthi100000e", "lengthi000005e", DP_E_CORRUPT, "" },
    { "no piece layers", 1, "piece layers", "piece-layers", DP_E_CORRUPT, "piece hashes" },
    { "a name up", 3, "6:a.gguf", "6:../../", DP_E_UNSUPPORTED, "a file's name" },
    { "a name with a tab", 3, "a.gguf", "a.\tguf", DP_E_UNSUPPORTED, "a file's name" },
    { "not UTF-8", 3, "a.gguf", "a.\xffguf", DP_E_UNSUPPORTED, "a file's name" },
    { "a backslash", 3, "a.gguf", "a\\gguf", DP_E_UNSUPPORTED, "a file's name" },
    { "a torrent's name", 3, "5:model", "5:/mode", DP_E_UNSUPPORTED, "name" },
    { "two of one name", 3, "6:b.gguf", "6:a.gguf", DP_E_CORRUPT, "two files" },
    { "odd pieces", 3, "piece lengthi32768e", "piece lengthi32767e", DP_E_CORRUPT, "" },
    { "small pieces", 3, "piece lengthi32768e", "piece lengthi08192e", DP_E_CORRUPT, "" },
    { "v1 says otherwise", 2, "lengthi16384e4:path", "lengthi16385e4:path", DP_E_CORRUPT, "" },
    { "a list of a file", 2, "d6:lengthi16384e4:pathl6:b.gguf", "l6:lengthi16384e4:pathl6:b.gguf",
      DP_E_CORRUPT, "something else" },
    { "a link in v1", 2, "4:attr1:p", "4:attr1:l", DP_E_UNSUPPORTED, "symbolic link" },
    { "no bencoding", 1, "d4:info", "x4:info", DP_E_CORRUPT, "byte 0" },
};

static void what_is_no_torrent_is_said(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(spoiled); i++) {
        int base = spoiled[i].base;
        size_t size = vectors[base].size, length = strlen(spoiled[i].from);
        uint8_t *bytes = malloc(size), *at;
        dp_metainfo *m;
        dp_error err;
        dp_status st;

        memcpy(bytes, vectors[base].bytes, size);
        at = memmem(bytes, size, spoiled[i].from, length);
        CHECK(at && strlen(spoiled[i].to) == length, "%s: \"%s\" is not there", spoiled[i].name,
              spoiled[i].from);
        memcpy(at, spoiled[i].to, length);
        st = dp_metainfo_parse(&m, "t", bytes, size, &err);
        CHECK(st == spoiled[i].want && !m && strstr(err.text, spoiled[i].said), "%s: %d: %s",
              spoiled[i].name, st, st ? err.text : "");
        free(bytes);
    }
}

/* Cut anywhere, and with any byte turned over: an error or a torrent, and nothing else. */
static void every_cut_and_flip_is_survived(void **state)
{
    for (size_t i = 0; i < METAINFO_VECTORS; i++) {
        for (size_t n = 0; n < vectors[i].size; n++) {
            uint8_t *bytes = malloc(vectors[i].size);
            dp_metainfo *m;

            memcpy(bytes, vectors[i].bytes, vectors[i].size);
            CHECK(dp_metainfo_parse(&m, "t", bytes, n, NULL) != DP_OK, "cut at %zu", n);
            bytes[n] ^= (uint8_t)(1 + n * 37);
            dp_metainfo_parse(&m, "t", bytes, vectors[i].size, NULL);
            dp_metainfo_close(m);
            free(bytes);
        }
    }
}

static void limits_are_named(void **state)
{
    /* nested deeper than allowed, then one token more than allowed */
    char deep[2 * (DP_METAINFO_DEPTH_MAX + 10) + 1];
    char *wide = malloc(2 * DP_METAINFO_TOKENS + 3);
    dp_metainfo *m;
    dp_error err;

    memset(deep, 'l', DP_METAINFO_DEPTH_MAX + 10);
    memset(deep + DP_METAINFO_DEPTH_MAX + 10, 'e', DP_METAINFO_DEPTH_MAX + 10);
    CHECK(dp_metainfo_parse(&m, "deep", deep, sizeof deep - 1, &err) == DP_E_LIMIT, "%s", err.text);
    wide[0] = 'l';
    for (int i = 0; i < DP_METAINFO_TOKENS; i++)
        memcpy(wide + 1 + 2 * i, "0:", 2);
    wide[2 * DP_METAINFO_TOKENS + 1] = 'e';
    CHECK(dp_metainfo_parse(&m, "wide", wide, 2 * DP_METAINFO_TOKENS + 2, &err) == DP_E_LIMIT, "%s",
          err.text);
    free(wide);
}

static void want_of_memory_is_survived(void **state)
{
    dp_mem_stats before, after;
    dp_metainfo *m = NULL;
    long live = new_live();
    dp_error err;
    int tries = 0;

    dp_mem_stats_read(&before);
    for (bool is_through = false; !is_through; tries++) {
        dp_status st;

        dp_fault_arm(DP_FAULT_MEM, (uint64_t)tries, 1);
        st = dp_metainfo_parse(&m, "t", vectors[2].bytes, vectors[2].size, &err);
        is_through = dp_fault_disarm(DP_FAULT_MEM) == 0;
        CHECK(st == (is_through ? DP_OK : DP_E_NOMEM), "try %d: %d", tries, st);
        CHECK(is_through || new_live() == live, "try %d: %ld blocks leaked", tries,
              new_live() - live);
    }
    dp_metainfo_close(m);
    dp_mem_stats_read(&after);
    CHECK(tries > 20 && after.heap_blocks == before.heap_blocks && new_live() == live, "%d tries",
          tries);
}

static void pieces_fit_slices_and_models(void **state)
{
    static const struct {
        uint64_t slice, total;
        uint32_t want;
    } rows[] = {
        { 0, 1000, 256 << 10 },
        { 4 << 20, DP_GIB, 256 << 10 },
        { (8 << 20) - 1, DP_GIB, 256 << 10 },
        { 8 << 20, DP_GIB, 512 << 10 },
        { 13000000, 400 * DP_GIB, 512 << 10 },
        { 1 << 30, DP_GIB, 2 << 20 },
        { 0, 512 * DP_GIB - 1, 256 << 10 },
        { 0, 512 * DP_GIB, 512 << 10 },
        { 0, 4096 * DP_GIB, 4 << 20 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        uint32_t size = dp_metainfo_piece_size(rows[i].slice, rows[i].total);

        CHECK(size == rows[i].want, "row %zu: %u", i, size);
        CHECK(rows[i].total / size < DP_LAYOUT_PIECES_MAX, "row %zu", i);
    }
}

#define A20 "0102030405060708090a0b0c0d0e0f1011121314"
#define A32 "AEBAGBAFAYDQQCIKBMGA2DQPCAIREEYU" /* the same in base 32 */
#define B64 "00112233445566778899aabbccddeeffFFEEDDCCBBAA99887766554433221100"

static void magnets(void **state)
{
    static const struct {
        const char *uri;
        dp_status want;
        bool has_v1, has_v2;
    } rows[] = {
        { "magnet:?xt=urn:btih:" A20, DP_OK, true, false },
        { "magnet:?xt=urn:btih:" A32, DP_OK, true, false },
        { "magnet:?xt=urn:btmh:1220" B64 "&dn=a", DP_OK, false, true },
        { "magnet:?dn=a&xt.1=urn:btih:" A20 "&xt.2=urn:btmh:1220" B64, DP_OK, true, true },
        { "magnet:?xt=urn%3Abtih%3a" A20, DP_OK, true, false },
        { "magnet:?xt=urn:sha1:x&xt=urn:btih:" A20, DP_OK, true, false },
        { "magnet:?xt=urn:btih:" A20 "0", DP_E_INVALID, false, false },
        { "magnet:?xt=urn:btih:x" A20, DP_E_INVALID, false, false },
        { "magnet:?xt=urn:btih:zz02030405060708090a0b0c0d0e0f1011121314", DP_E_INVALID, 0, 0 },
        { "magnet:?xt=urn:btih:1EBAGBAFAYDQQCIKBMGA2DQPCAIREEYU", DP_E_INVALID, false, false },
        { "magnet:?xt=urn:btmh:1114" A20, DP_E_INVALID, false, false },
        { "magnet:?xt=urn:btmh:", DP_E_INVALID, false, false },
        { "magnet:?xt=urn:btmh:1220", DP_E_INVALID, false, false },
        { "magnet:?xt=urn%3", DP_E_INVALID, false, false },
        { "magnet:?xt=%", DP_E_INVALID, false, false },
        { "magnet:?xt=", DP_E_INVALID, false, false },
        { "magnet:?", DP_E_INVALID, false, false },
        { "magnet:", DP_E_INVALID, false, false },
        { "", DP_E_INVALID, false, false },
        { "magnet:?&&&=&xt", DP_E_INVALID, false, false },
        { "http://x?xt=urn:btih:" A20, DP_E_INVALID, false, false },
    };
    char *big = malloc(DP_MAGNET_BYTES_MAX + 100);
    dp_magnet m;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_error err = { 0 };
        dp_status st = dp_magnet_parse(&m, rows[i].uri, &err);

        CHECK(st == rows[i].want, "%s: %d %s", rows[i].uri, st, err.text);
        if (st)
            continue;
        CHECK(m.has_v1 == rows[i].has_v1 && m.has_v2 == rows[i].has_v2, "%s", rows[i].uri);
        for (int k = 0; m.has_v1 && k < 20; k++)
            CHECK(m.v1[k] == k + 1, "%s: byte %d", rows[i].uri, k);
        for (int k = 0; m.has_v2 && k < 32; k++)
            CHECK(m.v2.bytes[k] == 17 * (k < 16 ? k : 31 - k), "%s: byte %d", rows[i].uri, k);
    }
    memset(big, 'a', DP_MAGNET_BYTES_MAX + 99);
    big[DP_MAGNET_BYTES_MAX + 99] = 0;
    memcpy(big, "magnet:?xt=urn:btih:" A20 "&", 61);
    CHECK(dp_magnet_parse(&m, big, NULL) == DP_E_INVALID, "too long");
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torrents_say_what_they_say),
        cmocka_unit_test(making_gives_the_same_bytes),
        cmocka_unit_test(what_makes_no_torrent_is_said),
        cmocka_unit_test(what_is_no_torrent_is_said),
        cmocka_unit_test(every_cut_and_flip_is_survived),
        cmocka_unit_test(limits_are_named),
        cmocka_unit_test(want_of_memory_is_survived),
        cmocka_unit_test(pieces_fit_slices_and_models),
        cmocka_unit_test(magnets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
