/* A store that nothing bad happens to. */
#include "store/store_testing.h"

static const dp_pieces small = { 20 * (uint64_t)PIECE + 1000, PIECE }; /* 21 pieces */

static void pieces_come_back(void **unused)
{
    dp_store *store = open_store(DP_GIB);
    dp_store_file *file = open_file(store, "0a", small, NULL);
    uint8_t bits[3];
    dp_store_stats stats;

    CHECK(get_all(file, 1) == 0, "empty at first");
    for (uint32_t i = 20; i < 21; i--) {
        if (i % 3)
            CHECK(put_piece(file, 1, i), "piece %u", i);
    }
    CHECK(get_all(file, 1) == 14, "14 pieces");
    dp_store_have_bits(file, bits);
    CHECK(bits[0] == 0x6d && bits[1] == 0xb6 && bits[2] == 0xd8, "%02x %02x %02x", bits[0], bits[1],
          bits[2]);
    CHECK(dp_store_has(file, 1) && !dp_store_has(file, 3), "has");
    stats = stats_of(store);
    CHECK(stats.pieces_written == 14 && stats.is_writable && !stats.problem[0], "%s",
          stats.problem);
    CHECK(is_near_du(stats.used_bytes), "%llu, du says %llu", (unsigned long long)stats.used_bytes,
          (unsigned long long)du());
    dp_store_file_close(file);
    dp_store_close(store);

    /* And later again. */
    store = open_store(DP_GIB);
    file = open_file(store, "0a", small, NULL);
    CHECK(get_all(file, 1) == 14, "after another open");
    CHECK(put_piece(file, 1, 4), "what is here is kept");
    CHECK(stats_of(store).pieces_written == 0, "and not written again");
    dp_store_file_close(file);
    dp_store_close(store);
    check_no_leak();
}

static void ranges_are_cut_right(void **unused)
{
    static const struct {
        uint64_t offset, size;
        dp_status want;
    } rows[] = {
        { 0, 1, DP_OK },
        { 0, 5 * (uint64_t)PIECE, DP_OK },
        { PIECE - 1, 2, DP_OK },
        { PIECE + 7, 3 * (uint64_t)PIECE, DP_OK },
        { 19 * (uint64_t)PIECE + 5, PIECE + 995, DP_OK },
        { 20 * (uint64_t)PIECE, 1000, DP_OK },
        { 20 * (uint64_t)PIECE + 1000, 0, DP_OK },
        { 9 * (uint64_t)PIECE, 10, DP_E_NOTFOUND },
        { 0, 20 * (uint64_t)PIECE, DP_E_NOTFOUND },
        { 20 * (uint64_t)PIECE, 1001, DP_E_INVALID },
        { UINT64_MAX, 2, DP_E_INVALID },
    };
    dp_store *store = open_store(DP_GIB);
    dp_store_file *file = open_file(store, "0a", small, NULL);
    uint8_t *out = malloc(21 * (size_t)PIECE), *scratch = malloc(PIECE);
    dp_error err;

    for (uint32_t i = 0; i < 21; i++) {
        if (i != 9)
            put_piece(file, 2, i);
    }
    for (size_t r = 0; r < DP_ARRAY_LEN(rows); r++) {
        dp_status st = dp_store_read_range(file, rows[r].offset, rows[r].size, out, scratch, &err);

        CHECK(st == rows[r].want, "row %zu: %d %s", r, (int)st, err.text);
        for (uint64_t i = 0; i < rows[r].size && !st; i++)
            CHECK(out[i] == content_at(2, rows[r].offset + i), "row %zu: byte %d", r, (int)i);
    }
    free(out);
    free(scratch);
    dp_store_file_close(file);
    dp_store_close(store);
}

static void other_files_are_not_taken_for_it(void **unused)
{
    dp_hash *known = make_hashes(1, small), *others = make_hashes(2, small);
    const struct {
        dp_pieces pieces;
        const dp_hash *hashes;
        const char *tag;
    } rows[] = {
        { small, NULL, NULL },
        { { small.file_size + 1, PIECE }, NULL, NULL },
        { { small.file_size, 2 * PIECE }, NULL, NULL },
        { small, NULL, "\"v1\"" },
        { small, NULL, "\"v2\"" },
        { small, known, NULL },
        { small, others, NULL },
    };
    dp_error err;

    for (size_t r = 0; r < DP_ARRAY_LEN(rows); r++) {
        dp_store_file_config config = { .key = "ff",
                                        .name = "m",
                                        .pieces = rows[r].pieces,
                                        .hashes = rows[r].hashes,
                                        .tag = rows[r].tag };
        uint32_t which = rows[r].hashes == others ? 2 : 1;
        dp_store_file *file;

        for (int again = 0; again < 2; again++) {
            dp_store *store = open_store(DP_GIB);

            CHECK_OK(dp_store_file_open(&file, store, &config, &err), err);
            CHECK(get_all(file, which) == (again ? 3 : 0), "row %zu", r);
            for (uint32_t i = 0; i < 3; i++)
                CHECK(put_piece(file, which, i), "row %zu", r);
            dp_store_file_close(file);
            dp_store_close(store);
        }
    }
    dp_free(known);
    dp_free(others);
    check_no_leak();
}

static void bad_configs_are_refused(void **unused)
{
    static char key65[66], name201[202];
    const struct {
        const char *key, *name;
        dp_pieces pieces;
        dp_status want;
    } rows[] = {
        { "", "m", small, DP_E_INVALID },
        { "A0", "m", small, DP_E_INVALID },
        { "../x", "m", small, DP_E_INVALID },
        { key65, "m", small, DP_E_INVALID },
        { "00", "", small, DP_E_INVALID },
        { "00", ".", small, DP_E_INVALID },
        { "00", "..", small, DP_E_INVALID },
        { "00", "a/b", small, DP_E_INVALID },
        { "00", "a\nb", small, DP_E_INVALID },
        { "00", "m.pieces", small, DP_E_INVALID },
        { "00", name201, small, DP_E_INVALID },
        { "00", "m", { 0, PIECE }, DP_E_INVALID },
        { "00", "m", { UINT64_MAX, PIECE }, DP_E_INVALID },
        { "00", "m", { 5, PIECE - 1 }, DP_E_INVALID },
        { "00", "m", { 5, PIECE / 2 }, DP_E_INVALID },
        { "00", "m", { 5, DP_PIECE_SIZE_MAX * 2 }, DP_E_INVALID },
        { "00", "m", { INT64_MAX, PIECE }, DP_E_LIMIT },
        { "00", "m", small, DP_OK },
    };
    dp_store *store = open_store(DP_GIB);
    dp_error err;

    memset(key65, 'a', 65);
    memset(name201, 'a', 201);
    for (size_t r = 0; r < DP_ARRAY_LEN(rows); r++) {
        dp_store_file_config config = { rows[r].key, rows[r].name, rows[r].pieces };
        dp_store_file *file;
        dp_status st = dp_store_file_open(&file, store, &config, &err);

        CHECK(st == rows[r].want, "row %zu: %d", r, (int)st);
        CHECK(!st == (file != NULL), "row %zu", r);
        dp_store_file_close(file);
    }
    dp_store_close(store);
    check_no_leak();
}

static void a_key_has_one_owner(void **unused)
{
    dp_store *a = open_store(DP_GIB), *b = open_store(DP_GIB);
    dp_store_file_config config = { "0a", "model.gguf", small }, second = { "0a", "part-2", small };
    dp_store_file *file = open_file(a, "0a", small, NULL), *other;
    dp_error err;

    CHECK(dp_store_file_open(&other, b, &config, &err) == DP_E_BUSY, "%s", err.text);
    CHECK(dp_store_file_open(&other, a, &config, &err) == DP_E_BUSY, "%s", err.text);
    CHECK_OK(dp_store_file_open(&other, a, &second, &err), err);
    CHECK(put_piece(other, 3, 0) && put_piece(file, 1, 0), "two files of a key");
    dp_store_file_close(file);
    CHECK(dp_store_file_open(&file, b, &config, &err) == DP_E_BUSY, "half closed");
    dp_store_file_close(other);
    CHECK_OK(dp_store_file_open(&file, b, &config, &err), err);
    CHECK(get_all(file, 1) == 1, "what the first wrote");
    dp_store_file_close(file);
    dp_store_close(a);
    dp_store_close(b);
    check_no_leak();
}

/* A model in many parts: each opened, counted once, closed. */
static void parts_of_a_key_are_counted_once(void **unused)
{
    dp_store *store = NULL;
    dp_store_file *files[40];
    dp_error err;

    for (int again = 0; again < 2; again++) {
        store = open_store(DP_GIB);
        for (uint32_t i = 0; i < DP_ARRAY_LEN(files); i++) {
            char name[16];
            dp_store_file_config config = { "0a", name, small };

            snprintf(name, sizeof name, "part-%u", i);
            CHECK_OK(dp_store_file_open(&files[i], store, &config, &err), err);
            CHECK(get_all(files[i], i) == (again ? 1 : 0), "part %u", i);
            CHECK(put_piece(files[i], i, i % 21), "part %u", i);
            CHECK(is_near_du(stats_of(store).used_bytes), "part %u: %llu, du says %llu", i,
                  (unsigned long long)stats_of(store).used_bytes, (unsigned long long)du());
        }
        for (uint32_t i = 0; i < DP_ARRAY_LEN(files); i++)
            dp_store_file_close(files[i]);
        CHECK(is_near_du(stats_of(store).used_bytes), "closed");
        dp_store_close(store);
    }
    check_no_leak();
}

static void nothing_is_kept_without_a_folder(void **unused)
{
    dp_store_config rows[] = { { NULL, DP_GIB, &dp_clock_real },
                               { test_folder, 0, &dp_clock_real } };
    dp_error err;

    for (size_t r = 0; r < DP_ARRAY_LEN(rows); r++) {
        dp_store *store;
        dp_store_file *file;

        CHECK_OK(dp_store_open(&store, &rows[r], &err), err);
        file = open_file(store, "0a", small, NULL);
        CHECK(!put_piece(file, 1, 0) && get_all(file, 1) == 0, "nothing is kept");
        CHECK(!stats_of(store).is_writable && stats_of(store).used_bytes == 0, "nor counted");
        dp_store_file_close(file);
        dp_store_close(store);
    }
}

static void whole_files_are_read_and_checked(void **unused)
{
    char path[128];
    dp_hash *hashes = make_hashes(4, small);
    uint8_t *bytes = malloc(PIECE);
    FILE *out;

    snprintf(path, sizeof path, "%s/own.gguf", test_folder);
    out = fopen(path, "wb");
    for (uint32_t i = 0; i < 21; i++) {
        fill_piece(bytes, 4, small, i);
        bytes[17] ^= i == 5;
        fwrite(bytes, 1, dp_pieces_size(small, i), out);
    }
    fclose(out);
    for (int known = 0; known < 2; known++) {
        dp_store_file_config config = { .key = "aa",
                                        .name = "own.gguf",
                                        .pieces = small,
                                        .hashes = known ? hashes : NULL,
                                        .whole_path = path };
        dp_store *store = open_store(DP_GIB);
        dp_store_file *file;
        dp_error err;

        CHECK_OK(dp_store_file_open(&file, store, &config, &err), err);
        CHECK(dp_store_has(file, 5), "nobody looked yet");
        if (known)
            CHECK(get_all(file, 4) == 20 && stats_of(store).pieces_bad == 1, "one is bad");
        else
            CHECK(get_piece(file, 4, 0) && dp_store_read(file, 5, bytes, &err) == DP_OK,
                  "as it is");
        CHECK(!dp_store_drop(file, 1), "whole");
        fill_piece(bytes, 4, small, 6);
        CHECK_OK(dp_store_write(file, 6, bytes, NULL, &err), err);
        dp_store_file_close(file);
        config.pieces.file_size++;
        CHECK(dp_store_file_open(&file, store, &config, &err) == DP_E_INVALID, "%s", err.text);
        config.whole_path = "/nowhere";
        CHECK(dp_store_file_open(&file, store, &config, &err) == DP_E_NOTFOUND, "%s", err.text);
        CHECK(stats_of(store).pieces_written == 0, "never written");
        dp_store_close(store);
    }
    free(bytes);
    dp_free(hashes);
    unlink(path);
    check_no_leak();
}

/* A whole file with holes: pieces in them are not there, unless they should be zeros. */
static void holes_of_whole_files_are_known(void **unused)
{
    char path[128];
    dp_hash *hashes = make_hashes(4, small);
    uint8_t *bytes = calloc(1, PIECE);
    dp_store *store = open_store(DP_GIB);
    dp_store_file_config config = {
        .key = "aa", .name = "own.gguf", .pieces = small, .hashes = hashes, .whole_path = path
    };
    dp_store_file *file;
    dp_error err;
    int fd;

    CHECK(dp_piece_hash(&hashes[9], small, 9, bytes, &err) == DP_OK, "zeros");
    snprintf(path, sizeof path, "%s/own.gguf", test_folder);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)small.file_size) == 0, "file");
    for (uint32_t i = 3; i < 20; i++) {
        fill_piece(bytes, 4, small, i);
        if (i != 8 && i != 9 && i != 12) /* of 12 a part is there */
            CHECK(pwrite(fd, bytes, PIECE, (off_t)i * PIECE) == (ssize_t)PIECE, "write");
        else if (i == 12)
            CHECK(pwrite(fd, bytes, 4096, (off_t)i * PIECE) == 4096, "write");
    }
    CHECK_OK(dp_store_file_open(&file, store, &config, &err), err);
    if (lseek(fd, 0, SEEK_HOLE) == 0) { /* else a file system that tells of no holes */
        for (uint32_t i = 0; i < 21; i++)
            CHECK(dp_store_has(file, i) == (i >= 3 && i != 8 && i < 20), "piece %u", i);
        CHECK(dp_store_read(file, 9, bytes, &err) == DP_OK, "zeros: %s", err.text);
        CHECK(dp_store_read(file, 12, bytes, &err) == DP_E_NOTFOUND && !dp_store_has(file, 12),
              "a part");
    }
    dp_store_file_close(file);
    config.hashes = NULL;
    CHECK_OK(dp_store_file_open(&file, store, &config, &err), err);
    CHECK(dp_store_has(file, 0), "nobody knows what it should be");
    dp_store_file_close(file);
    dp_store_close(store);
    close(fd);
    free(bytes);
    dp_free(hashes);
    unlink(path);
    check_no_leak();
}

static void changed_origins_are_noticed(void **unused)
{
    dp_store *store = open_store(DP_GIB);
    dp_store_file *file = open_file(store, "0b", small, NULL);
    uint8_t bytes[PIECE];
    bool is_kept;
    dp_error err;

    CHECK(put_piece(file, 1, 3) && dp_store_drop(file, 3), "was here");
    CHECK(!dp_store_drop(file, 3) && !get_piece(file, 1, 3), "left");
    dp_store_file_close(file);
    file = open_file(store, "0b", small, NULL);
    fill_piece(bytes, 2, small, 3);
    CHECK(dp_store_write(file, 3, bytes, &is_kept, &err) == DP_E_CORRUPT && !is_kept, "%s",
          err.text);
    CHECK(put_piece(file, 1, 3) && get_piece(file, 1, 3), "the same bytes are welcome");
    dp_store_file_close(file);
    dp_store_close(store);
    check_no_leak();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, test_set_up, test_tear_down)
#define M(name) cmocka_unit_test_setup_teardown(name, test_set_up_in_memory, test_tear_down)
    const struct CMUnitTest tests[] = {
        T(pieces_come_back),
        T(ranges_are_cut_right),
        T(other_files_are_not_taken_for_it),
        T(bad_configs_are_refused),
        T(a_key_has_one_owner),
        M(parts_of_a_key_are_counted_once),
        T(nothing_is_kept_without_a_folder),
        T(whole_files_are_read_and_checked),
        T(holes_of_whole_files_are_known),
        T(changed_origins_are_noticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
