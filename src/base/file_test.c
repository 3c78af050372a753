#include "testing/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"

#define FILE_SIZE ((size_t)200 << 10)

static char folder[] = "file_test.XXXXXX";
static char path[64];
static char pipe_path[64];
static char missing_path[64];
static uint8_t content[FILE_SIZE];

static void test_open(void **state)
{
    const struct {
        const char *path;
        dp_status want;
        const char *want_text;
    } rows[] = {
        { path, DP_OK, "" },
        { missing_path, DP_E_NOTFOUND, ": cannot open: No such file or directory" },
        { folder, DP_E_INVALID, ": is a folder, not a file" },
        { pipe_path, DP_E_INVALID, ": is neither a regular file nor a disk" },
        { "", DP_E_NOTFOUND, ": cannot open: No such file or directory" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++)
        for (int want_direct = 0; want_direct < 2; want_direct++) {
            dp_error err = { 0 };
            char want_text[256] = "";
            dp_file file;
            dp_status st = dp_file_open(&file, rows[i].path, want_direct, &err);

            if (rows[i].want)
                snprintf(want_text, sizeof want_text, "%s%s", rows[i].path, rows[i].want_text);
            CHECK(st == rows[i].want, "%s: %s", rows[i].path, err.text);
            CHECK(strcmp(err.text, want_text) == 0, "%s", err.text);
            CHECK((file.fd >= 0) == (st == DP_OK), "fd %d", file.fd);
            CHECK(file.size == (st ? 0 : FILE_SIZE), "size %llu", (unsigned long long)file.size);
            CHECK(want_direct || file.fd_direct == -1, "a twin nobody asked for");
            CHECK(st || !(fcntl(file.fd, F_GETFL) & O_NONBLOCK), "reads would not wait");
            dp_file_drop_cache(&file);
            dp_file_close(&file);
            dp_file_close(&file);
            CHECK(file.fd == -1 && file.fd_direct == -1, "closed");
        }
}

static void test_read(void **state)
{
    static const struct {
        uint64_t offset;
        size_t size;
        dp_status want;
    } rows[] = {
        { 0, FILE_SIZE, DP_OK },         { 1, 1, DP_OK },
        { FILE_SIZE - 1, 1, DP_OK },     { FILE_SIZE, 0, DP_OK },
        { FILE_SIZE, 1, DP_E_CORRUPT },  { FILE_SIZE - 10, 11, DP_E_CORRUPT },
        { UINT64_MAX, 1, DP_E_CORRUPT }, { (uint64_t)1 << 63, 1, DP_E_CORRUPT },
    };
    static uint8_t out[FILE_SIZE];
    dp_error err;
    dp_file file;

    CHECK_OK(dp_file_open(&file, path, false, &err), err);
    dp_file_read_ahead(&file, 100, UINT64_MAX);
    dp_file_read_ahead(&file, 100, FILE_SIZE);
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_status st = dp_file_read(&file, path, rows[i].offset, out, rows[i].size, &err);

        CHECK(st == rows[i].want, "row %zu: %s", i, err.text);
        if (st == DP_OK)
            CHECK(memcmp(out, content + rows[i].offset, rows[i].size) == 0, "row %zu", i);
        else
            CHECK(strstr(err.text, ": ends at byte 204800"), "row %zu: %s", i, err.text);
    }
    dp_fault_arm(DP_FAULT_READ, 0, 1);
    CHECK(dp_file_read(&file, path, 0, out, 1, &err) == DP_E_IO, "the disk failed");
    CHECK(dp_fault_disarm(DP_FAULT_READ) == 1, "visited");
    CHECK(strstr(err.text, ": cannot read at byte 0: "), "%s", err.text);
    dp_file_close(&file);
}

static void test_is_same(void **state)
{
    char other[80];

    snprintf(other, sizeof other, "%s/../%s/model.gguf", folder, folder);
    CHECK(dp_file_is_same(path, path) && dp_file_is_same(path, other), "one file");
    CHECK(!dp_file_is_same(path, pipe_path), "two files");
    CHECK(!dp_file_is_same(missing_path, missing_path), "no file");
}

static void test_read_all(void **state)
{
    static const struct {
        size_t size_max;
        dp_status want;
    } rows[] = {
        { FILE_SIZE, DP_OK }, { FILE_SIZE + 1, DP_OK }, { FILE_SIZE - 1, DP_E_LIMIT },
        { SIZE_MAX, DP_OK },  { 0, DP_E_LIMIT },
    };
    dp_error err;
    char *bytes;
    size_t size;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_status st = dp_file_read_all(&bytes, &size, path, rows[i].size_max, &err);

        CHECK(st == rows[i].want, "row %zu: %s", i, err.text);
        CHECK((st == DP_OK) == (bytes != NULL), "row %zu", i);
        if (st == DP_OK)
            CHECK(size == FILE_SIZE && memcmp(bytes, content, size) == 0 && bytes[size] == 0,
                  "row %zu: %zu", i, size);
        dp_free(bytes);
    }
    CHECK(dp_file_read_all(&bytes, &size, "/dev/null", 0, &err) == DP_OK && bytes[0] == 0, "empty");
    dp_free(bytes);
    CHECK(dp_file_read_all(&bytes, &size, missing_path, 9, &err) == DP_E_NOTFOUND, "%s", err.text);
    CHECK(dp_file_read_all(&bytes, &size, folder, 9, &err) == DP_E_IO, "%s", err.text);
}

static void test_standard_input(void **state)
{
    int before = dup(STDIN_FILENO);
    int ends[2];
    dp_error err;
    char *bytes;
    size_t size;

    CHECK(pipe(ends) == 0 && write(ends[1], "hello", 5) == 5, "pipe");
    close(ends[1]);
    CHECK(dup2(ends[0], STDIN_FILENO) == STDIN_FILENO, "dup2");
    close(ends[0]);
    CHECK_OK(dp_file_read_all(&bytes, &size, "-", 5, &err), err);
    CHECK(size == 5 && strcmp(bytes, "hello") == 0, "%s", bytes);
    dp_free(bytes);
    if (before >= 0) {
        dup2(before, STDIN_FILENO);
        close(before);
    }
}

static void test_failures(void **state)
{
    static const dp_fault faults[] = { DP_FAULT_MEM, DP_FAULT_READ };
    static const dp_status wants[] = { DP_E_NOMEM, DP_E_IO };
    dp_mem_stats stats;
    dp_error err;
    char *bytes;
    size_t size;

    for (size_t f = 0; f < DP_ARRAY_LEN(faults); f++)
        for (uint64_t n = 0;; n++) {
            dp_status st;

            dp_fault_arm(faults[f], n, 1);
            st = dp_file_read_all(&bytes, &size, path, FILE_SIZE, &err);
            dp_fault_disarm(faults[f]);
            CHECK(st == DP_OK || (st == wants[f] && !bytes && !size), "visit %d", (int)n);
            dp_free(bytes);
            dp_mem_stats_read(&stats);
            CHECK(stats.heap_blocks == 0, "leak at %d", (int)n);
            if (st == DP_OK)
                break;
        }
}

static void test_holes(void **state)
{
    static const struct {
        uint64_t from, first, end; /* end 0: none */
    } rows[] = {
        { 0, 65536, 196608 },       { 65535, 65536, 196608 },   { 100000, 100000, 196608 },
        { 196607, 196607, 196608 }, { 196608, 262144, 300000 }, { 299999, 299999, 300000 },
        { 300000, 0, 0 },           { UINT64_MAX, 0, 0 },
    };
    uint64_t first, end;
    char at[128];
    dp_file file;
    dp_error err;
    int fd;

    snprintf(at, sizeof at, "%s/holes", folder);
    fd = open(at, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 300000) == 0, "%s", strerror(errno));
    CHECK(pwrite(fd, content, 65536, 0) == 65536 && pwrite(fd, content, 65536, 196608) == 65536,
          "%s", strerror(errno));
    CHECK_OK(dp_file_open(&file, at, false, &err), err);
    if (lseek(fd, 0, SEEK_HOLE) == 300000) { /* a file system that tells of no holes */
        CHECK(!dp_file_next_hole(&file, 0, &first, &end), "none");
    } else {
        for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
            CHECK(dp_file_next_hole(&file, rows[i].from, &first, &end) == (rows[i].end > 0), "%zu",
                  i);
            CHECK(!rows[i].end || (first == rows[i].first && end == rows[i].end),
                  "%zu: %llu to %llu", i, (unsigned long long)first, (unsigned long long)end);
        }
    }
    dp_file_close(&file);
    close(fd);
    unlink(at);
}

static int set_up(void **state)
{
    int fd;

    CHECK(mkdtemp(folder), "%s", strerror(errno));
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    snprintf(pipe_path, sizeof pipe_path, "%s/pipe", folder);
    snprintf(missing_path, sizeof missing_path, "%s/missing", folder);
    for (size_t i = 0; i < FILE_SIZE; i++)
        content[i] = (uint8_t)(i * 7 + i / 256);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0 && write(fd, content, FILE_SIZE) == (ssize_t)FILE_SIZE, "%s", strerror(errno));
    close(fd);
    return mkfifo(pipe_path, 0600);
}

static int tear_down(void **state)
{
    return unlink(path) | unlink(pipe_path) | rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),     cmocka_unit_test(test_read),
        cmocka_unit_test(test_read_all), cmocka_unit_test(test_standard_input),
        cmocka_unit_test(test_failures), cmocka_unit_test(test_is_same),
        cmocka_unit_test(test_holes),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
