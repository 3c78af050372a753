#include "doppler/swarm.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "swarm/local_files.h"
#include "testing/check.h"

#define PIECE DP_PIECE_SIZE_MIN

static char folder[64];

static const char *in_folder(char out[160], const char *name)
{
    snprintf(out, 160, "%s/%s", folder, name);
    return out;
}

static void write_file(const char *name, size_t size, uint32_t seed)
{
    char path[160];
    FILE *file = fopen(in_folder(path, name), "wb");

    for (size_t i = 0; i < size; i++) {
        seed = seed * 1664525 + 1013904223;
        fputc((int)(seed >> 24), file);
    }
    assert_int_equal(fclose(file), 0);
}

static void change_byte(const char *name, long offset)
{
    char path[160];
    FILE *file = fopen(in_folder(path, name), "r+b");
    int byte;

    fseek(file, offset, SEEK_SET);
    byte = fgetc(file);
    fseek(file, offset, SEEK_SET);
    fputc(byte ^ 1, file);
    fclose(file);
}

static int setup(void **unused)
{
    strcpy(folder, "share_test.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **unused)
{
    static const char *const names[] = { "m-00001-of-00002.gguf", "m-00002-of-00002.gguf",
                                         "one.bin", "x.torrent" };
    char path[160];

    for (size_t i = 0; i < DP_ARRAY_LEN(names); i++)
        unlink(in_folder(path, names[i]));
    return rmdir(folder);
}

static bool count_calls(void *user, uint64_t done, uint64_t total)
{
    int *calls = user;

    CHECK(done <= total, "%llu of %llu", (unsigned long long)done, (unsigned long long)total);
    ++*calls;
    return true;
}

static bool refuse(void *user, uint64_t done, uint64_t total)
{
    return false;
}

static void parts_are_published_and_compared(void **unused)
{
    char first[160], second[160], torrent[160];
    const char *paths[] = { in_folder(second, "m-00002-of-00002.gguf"),
                            in_folder(first, "m-00001-of-00002.gguf") };
    static const char *const trackers[] = { "http://127.0.0.1:1/announce" };
    static const char *const seeds[] = { "http://127.0.0.1:1/" };
    dp_torrent_config config = { .paths = paths,
                                 .path_count = 2,
                                 .piece_size = PIECE,
                                 .trackers = trackers,
                                 .tracker_count = 1,
                                 .web_seeds = seeds,
                                 .web_seed_count = 1 };
    dp_verify_result result;
    dp_metainfo *metainfo;
    const dp_layout *layout;
    uint8_t v1[20];
    int calls = 0;
    dp_error err;

    write_file("m-00001-of-00002.gguf", 70 * PIECE + 11, 1);
    write_file("m-00002-of-00002.gguf", 3 * PIECE, 2);
    CHECK_OK(dp_torrent_write(in_folder(torrent, "x.torrent"), &config, count_calls, &calls, &err),
             err);
    assert_true(calls >= 3);
    CHECK_OK(dp_local_metainfo(&metainfo, torrent, &err), err);
    layout = dp_metainfo_layout(metainfo);
    assert_string_equal(dp_metainfo_name(metainfo), "m");
    assert_int_equal(layout->file_count, 2);
    assert_string_equal(layout->files[0].path, "m-00001-of-00002.gguf");
    assert_int_equal(layout->piece_count, 74);
    assert_true(dp_metainfo_info_v1(metainfo, v1));
    dp_metainfo_close(metainfo);

    CHECK_OK(dp_torrent_verify(second, torrent, &result, NULL, NULL, &err), err);
    assert_int_equal(result.bad_pieces, 0);
    assert_int_equal(result.pieces, 74);
    assert_int_equal(result.bytes, 73 * PIECE + 11);
    CHECK_OK(dp_torrent_verify(folder, torrent, &result, NULL, NULL, &err), err);
    assert_int_equal(result.bad_pieces, 0);

    change_byte("m-00002-of-00002.gguf", 2 * PIECE - 1);
    change_byte("m-00002-of-00002.gguf", 3 * PIECE - 1);
    CHECK_OK(dp_torrent_verify(folder, torrent, &result, NULL, NULL, &err), err);
    assert_int_equal(result.bad_pieces, 2);
    assert_int_equal(result.bad_bytes, 2 * PIECE);
    assert_int_equal(result.first_bad_file, 1);
    assert_int_equal(result.first_bad, PIECE);

    write_file("m-00002-of-00002.gguf", 3 * PIECE + 1, 2);
    assert_int_equal(dp_torrent_verify(folder, torrent, &result, NULL, NULL, &err), DP_E_CORRUPT);
    CHECK(strstr(err.text, "49153 bytes, the torrent's file 49152"), "%s", err.text);
    assert_int_equal(dp_torrent_verify("nowhere", torrent, &result, NULL, NULL, &err),
                     DP_E_NOTFOUND);
}

static void one_file_is_the_torrent(void **unused)
{
    char one[160], torrent[160];
    const char *paths[] = { in_folder(one, "one.bin") };
    dp_torrent_config config = { .paths = paths, .path_count = 1, .is_v2_only = true };
    dp_verify_result result;
    dp_metainfo *metainfo;
    uint8_t v1[20];
    dp_error err;

    write_file("one.bin", 300000, 3);
    CHECK_OK(dp_torrent_write(in_folder(torrent, "x.torrent"), &config, NULL, NULL, &err), err);
    CHECK_OK(dp_local_metainfo(&metainfo, torrent, &err), err);
    assert_string_equal(dp_metainfo_name(metainfo), "one.bin");
    assert_int_equal(dp_metainfo_layout(metainfo)->piece_size, 256 << 10);
    assert_false(dp_metainfo_info_v1(metainfo, v1));
    dp_metainfo_close(metainfo);
    CHECK_OK(dp_torrent_verify(one, torrent, &result, NULL, NULL, &err), err);
    assert_int_equal(result.pieces, 2);
    assert_int_equal(result.bad_pieces, 0);
}

static void what_makes_no_sense_is_refused(void **unused)
{
    char one[160], torrent[160];
    const char *paths[] = { in_folder(one, "one.bin"), one };
    static const struct {
        size_t count;
        uint32_t piece_size;
        dp_progress progress;
        dp_status want;
    } cases[] = {
        { 0, 0, NULL, DP_E_INVALID },        { 2, 0, NULL, DP_E_INVALID },
        { 1, 5000, NULL, DP_E_INVALID },     { 1, 8192, NULL, DP_E_INVALID },
        { 1, 16384, refuse, DP_E_CANCELED },
    };
    dp_error err;

    write_file("one.bin", 100000, 3);
    in_folder(torrent, "x.torrent");
    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++) {
        dp_torrent_config config = { .paths = paths,
                                     .path_count = cases[i].count,
                                     .piece_size = cases[i].piece_size };
        dp_status st = dp_torrent_write(torrent, &config, cases[i].progress, NULL, &err);

        CHECK(st == cases[i].want, "case %zu: %s", i, err.text);
        CHECK(access(torrent, F_OK) != 0, "case %zu left a file", i);
    }
}

static void failures_leave_nothing(void **unused)
{
    static const dp_fault points[] = { DP_FAULT_MEM, DP_FAULT_READ, DP_FAULT_WRITE };
    char one[160], torrent[160];
    const char *paths[] = { in_folder(one, "one.bin") };
    dp_torrent_config config = { .paths = paths, .path_count = 1, .piece_size = PIECE };

    write_file("one.bin", 5 * PIECE + 1, 3);
    in_folder(torrent, "x.torrent");
    for (size_t k = 0; k < DP_ARRAY_LEN(points); k++) {
        for (uint64_t n = 0;; n++) {
            dp_mem_stats before, after;
            dp_error err;
            dp_status st;

            unlink(torrent);
            dp_mem_stats_read(&before);
            dp_fault_arm(points[k], n, 1);
            st = dp_torrent_write(torrent, &config, NULL, NULL, &err);
            if (dp_fault_disarm(points[k]) == 0) {
                CHECK_OK(st, err);
                break;
            }
            dp_mem_stats_read(&after);
            assert_int_equal(after.heap_blocks, before.heap_blocks);
            CHECK(!st || access(torrent, F_OK) != 0, "failure %llu left a file",
                  (unsigned long long)n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(parts_are_published_and_compared, setup, teardown),
        cmocka_unit_test_setup_teardown(one_file_is_the_torrent, setup, teardown),
        cmocka_unit_test_setup_teardown(what_makes_no_sense_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_leave_nothing, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
