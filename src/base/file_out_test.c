#include "testing/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/file_out.h"
#include "base/mem.h"

#define CONTENT_SIZE ((size_t)100 << 10)

static char folder[] = "file_out_test.XXXXXX";
static char path[64];
static char partial_path[64];
#define HOLE_BEGIN ((size_t)20 << 10)
#define HOLE_SIZE  ((size_t)50 << 10)

static uint8_t content[CONTENT_SIZE]; /* zeros in the hole */

/* Writes content in three pieces around a hole. */
static dp_status write_file(dp_error *err)
{
    dp_file_out out = { 0 };
    dp_status st;

    st = dp_file_out_open(&out, path, err);
    if (st)
        goto done;
    st = dp_file_out_write(&out, content, 1000, err);
    if (st)
        goto done;
    st = dp_file_out_write(&out, content + 1000, HOLE_BEGIN - 1000, err);
    if (st)
        goto done;
    st = dp_file_out_skip(&out, HOLE_SIZE, err);
    if (st)
        goto done;
    st = dp_file_out_write(&out, content + HOLE_BEGIN + HOLE_SIZE,
                           CONTENT_SIZE - HOLE_BEGIN - HOLE_SIZE, err);
    if (st)
        goto done;
    st = dp_file_out_commit(&out, err);
done:
    dp_file_out_close(&out);
    return st;
}

static void check_content(void)
{
    dp_error err;
    char *bytes;
    size_t size;

    CHECK_OK(dp_file_read_all(&bytes, &size, path, CONTENT_SIZE, &err), err);
    CHECK(size == CONTENT_SIZE && memcmp(bytes, content, size) == 0, "%zu bytes", size);
    dp_free(bytes);
}

static void put_file(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s", name);
    close(fd);
}

static void test_write(void **state)
{
    dp_file_out out;
    dp_error err;

    CHECK_OK(write_file(&err), err);
    check_content();
    CHECK(access(partial_path, F_OK) != 0, "the partial file is gone");

    /* Over an older file, and over what a killed program left. */
    put_file(path, "older");
    put_file(partial_path, "left behind");
    CHECK_OK(write_file(&err), err);
    check_content();

    /* Nothing is there before the commit, nor after giving up. */
    unlink(path);
    CHECK_OK(dp_file_out_open(&out, path, &err), err);
    CHECK_OK(dp_file_out_write(&out, content, 10, &err), err);
    CHECK(out.size == 10, "%llu bytes", (unsigned long long)out.size);
    CHECK(access(path, F_OK) != 0 && access(partial_path, F_OK) == 0, "only the partial file");
    dp_file_out_close(&out);
    dp_file_out_close(&out);
    CHECK(access(path, F_OK) != 0 && access(partial_path, F_OK) != 0, "nothing");
}

static void test_refused(void **state)
{
    static const struct {
        const char *path;
        dp_status want;
        const char *text;
    } rows[] = {
        { "/dev/full", DP_E_INVALID, "/dev/full: is not a regular file" },
        { ".", DP_E_INVALID, ".: is not a regular file" },
        { "/nowhere/at/all", DP_E_NOTFOUND,
          "/nowhere/at/all.partial: cannot create: No such file or directory" },
    };
    dp_file_out out, second;
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        CHECK(dp_file_out_open(&out, rows[i].path, &err) == rows[i].want, "%s", rows[i].path);
        CHECK(strcmp(err.text, rows[i].text) == 0, "%s", err.text);
        dp_file_out_close(&out);
    }

    /* Two writers of one file: the second is told, the first goes on. */
    CHECK_OK(dp_file_out_open(&out, path, &err), err);
    CHECK_OK(dp_file_out_write(&out, content, CONTENT_SIZE, &err), err);
    CHECK(dp_file_out_open(&second, path, &err) == DP_E_BUSY, "a second writer");
    CHECK(strstr(err.text, ".partial: another program is writing it"), "%s", err.text);
    CHECK_OK(dp_file_out_commit(&out, &err), err);
    check_content();
    unlink(path);
}

/* The system takes part of a write, then no more: as a full disk does it. */
static void test_short_write(void **state)
{
    struct rlimit before, limit;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    dp_error err;
    dp_status st;

    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0, "%s", strerror(errno));
    limit = before;
    limit.rlim_cur = 80000; /* behind the hole */
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0, "%s", strerror(errno));
    st = write_file(&err);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    CHECK(st == DP_E_IO, "%s", dp_status_text(st));
    CHECK(strstr(err.text, ".partial: cannot write at byte 80000: File too large"), "%s", err.text);
    CHECK(access(path, F_OK) != 0 && access(partial_path, F_OK) != 0, "nothing is left");
}

static void test_faults(void **state)
{
    static const dp_fault faults[] = { DP_FAULT_MEM, DP_FAULT_WRITE };
    static const dp_status wants[] = { DP_E_NOMEM, DP_E_IO };
    dp_mem_stats stats;
    dp_error err;

    for (size_t f = 0; f < DP_ARRAY_LEN(faults); f++) {
        uint64_t n = 0, failed;

        put_file(path, "older");
        do {
            dp_status st;

            dp_fault_arm(faults[f], n, 1);
            st = write_file(&err);
            failed = dp_fault_disarm(faults[f]);
            CHECK(st == (failed ? wants[f] : DP_OK), "visit %d: %s", (int)n, err.text);
            CHECK(access(partial_path, F_OK) != 0, "visit %d leaves a partial file", (int)n);
            if (st)
                CHECK(access(path, F_OK) == 0, "visit %d: the older file is gone", (int)n);
            else
                check_content();
            dp_mem_stats_read(&stats);
            CHECK(stats.heap_blocks == 0, "leak at %d", (int)n);
            n++;
        } while (failed);
        CHECK(n > 3, "%d visits", (int)n);
    }
    dp_fault_arm(DP_FAULT_WRITE, 1, 1);
    write_file(&err);
    dp_fault_disarm(DP_FAULT_WRITE);
    CHECK(strstr(err.text, "cannot write at byte 0: No space left on device"), "%s", err.text);
    unlink(path);
}

static int set_up(void **state)
{
    CHECK(mkdtemp(folder), "%s", strerror(errno));
    snprintf(path, sizeof path, "%s/out", folder);
    snprintf(partial_path, sizeof partial_path, "%s/out.partial", folder);
    for (size_t i = 0; i < CONTENT_SIZE; i++)
        content[i] = i - HOLE_BEGIN < HOLE_SIZE ? 0 : (uint8_t)(i * 7 + i / 256);
    return 0;
}

static int tear_down(void **state)
{
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_short_write),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
