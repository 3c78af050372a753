#include "testing/check.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file_rw.h"
#include "base/mem.h"

#define SIZE ((size_t)256 << 10)

static char folder[] = "file_rw_test.XXXXXX";
static char path[64];
static uint8_t content[SIZE], out[SIZE];

static void open_fresh(dp_file *file)
{
    dp_error err;

    unlink(path);
    CHECK_OK(dp_file_rw_open(file, path, &err), err);
    CHECK(file->size == 0, "empty");
    CHECK_OK(dp_file_rw_resize(file, path, SIZE, &err), err);
}

static void any_place_any_order(void **unused)
{
    dp_file file;
    dp_error err;

    open_fresh(&file);
    for (size_t i = 0; i < 64; i++) {
        size_t at = i * 37 % 64 * 4096;

        CHECK_OK(dp_file_rw_write(&file, path, at, content + at, 4096, &err), err);
    }
    dp_file_rw_send(&file, 0, SIZE);
    CHECK_OK(dp_file_rw_sync(&file, path, &err), err);
    dp_file_rw_settle(&file, 0, SIZE);
    CHECK_OK(dp_file_read(&file, path, 0, out, SIZE, &err), err);
    CHECK(memcmp(out, content, SIZE) == 0, "bytes");
    dp_file_close(&file);
    CHECK_OK(dp_file_rw_open(&file, path, &err), err);
    CHECK(file.size == SIZE, "kept when it is opened again");
    dp_file_close(&file);
}

/* Room comes back, neighbours stay, and the hole reads as zeros. */
static void holes_take_no_room(void **unused)
{
    static const uint8_t zeros[SIZE];
    dp_file file;
    uint64_t full;
    dp_error err;
    dp_status st;

    open_fresh(&file);
    if (dp_file_rw_used(&file) > 64 << 10)
        printf("skipped: no holes on this file system\n");
    CHECK_OK(dp_file_rw_write(&file, path, 0, content, SIZE, &err), err);
    full = dp_file_rw_used(&file);
    CHECK(full >= SIZE, "%llu", (unsigned long long)full);
    st = dp_file_rw_punch(&file, path, 65536, 65536, &err);
    if (st == DP_E_UNSUPPORTED) {
        printf("skipped: %s\n", err.text);
        dp_file_close(&file);
        return;
    }
    CHECK_OK(st, err);
    CHECK(dp_file_rw_used(&file) + 65536 == full, "%llu of %llu",
          (unsigned long long)dp_file_rw_used(&file), (unsigned long long)full);
    CHECK_OK(dp_file_read(&file, path, 0, out, SIZE, &err), err);
    CHECK(memcmp(out, content, 65536) == 0, "before");
    CHECK(memcmp(out + 65536, zeros, 65536) == 0, "the hole");
    CHECK(memcmp(out + 131072, content + 131072, SIZE - 131072) == 0, "behind");
    CHECK_OK(dp_file_rw_punch(&file, path, SIZE - 65536, 10 * 65536, &err), err);
    CHECK_OK(dp_file_rw_resize(&file, path, SIZE / 2, &err), err);
    CHECK(file.size == SIZE / 2, "shorter");
    dp_file_close(&file);
    CHECK_OK(dp_file_rw_open(&file, path, &err), err);
    CHECK(file.size == SIZE / 2, "a hole past the end makes nothing longer");
    dp_file_close(&file);
}

static void others_are_refused(void **unused)
{
    char link_path[80];
    dp_file file;
    dp_error err;

    snprintf(link_path, sizeof link_path, "%s/link", folder);
    CHECK(symlink("target", link_path) == 0, "%s", strerror(errno));
    CHECK(dp_file_rw_open(&file, link_path, &err) == DP_E_IO, "%s", err.text);
    unlink(link_path);
    CHECK(mkfifo(link_path, 0600) == 0, "%s", strerror(errno));
    CHECK(dp_file_rw_open(&file, link_path, &err) == DP_E_INVALID, "%s", err.text);
    unlink(link_path);
    CHECK(dp_file_rw_open(&file, folder, &err) == DP_E_IO, "%s", err.text);
    CHECK(dp_file_rw_open(&file, "/nowhere/at/all", &err) == DP_E_NOTFOUND, "%s", err.text);
    open_fresh(&file);
    CHECK(dp_file_rw_write(&file, path, UINT64_MAX, content, 1, &err) == DP_E_IO, "wraps");
    CHECK(dp_file_rw_write(&file, path, INT64_MAX, content, 1, &err) == DP_E_IO, "too far");
    CHECK(dp_file_rw_resize(&file, path, UINT64_MAX, &err) == DP_E_IO, "too long");
    dp_file_close(&file);
}

static dp_status change(dp_file *file, int what, dp_error *err)
{
    switch (what) {
    case 0:
        return dp_file_rw_write(file, path, 0, content, 100, err);
    case 1:
        return dp_file_rw_resize(file, path, SIZE, err);
    case 2:
        return dp_file_rw_punch(file, path, 0, 65536, err);
    default:
        return dp_file_rw_sync(file, path, err);
    }
}

static void failures_come_as_they_were_ordered(void **unused)
{
    static const dp_fault points[] = { DP_FAULT_WRITE, DP_FAULT_WRITE, DP_FAULT_PUNCH,
                                       DP_FAULT_SYNC };
    static const char *texts[] = { "No space left", "No space left", "Input/output",
                                   "Input/output" };
    dp_file file;
    dp_error err;

    open_fresh(&file);
    for (int what = 0; what < 4; what++) {
        dp_fault_arm(points[what], 0, 1);
        CHECK(change(&file, what, &err) == DP_E_IO, "change %d", what);
        CHECK(dp_fault_disarm(points[what]) == 1 && strstr(err.text, texts[what]), "%s", err.text);
        dp_fault_arm(DP_FAULT_POWER, 0, 1);
        CHECK(change(&file, what, &err) == DP_E_IO, "change %d", what);
        CHECK(dp_fault_disarm(DP_FAULT_POWER) == 1, "power");
        dp_fault_arm(points[what], 0, 1);
        dp_fault_set_kind(points[what], EROFS, 0);
        CHECK(change(&file, what, &err) == DP_E_IO && strstr(err.text, "Read-only"), "%s",
              err.text);
        dp_fault_disarm(points[what]);
        CHECK_OK(change(&file, what, &err), err);
    }
    dp_file_close(&file);
}

static void writes_tear_at_any_byte(void **unused)
{
    dp_file file;
    dp_error err;

    open_fresh(&file);
    for (size_t done = 0; done <= 100; done++) {
        memset(out, 0x55, 100);
        CHECK_OK(dp_file_rw_write(&file, path, 0, out, 100, &err), err);
        dp_fault_arm(DP_FAULT_WRITE, 0, 1);
        dp_fault_set_kind(DP_FAULT_WRITE, EIO, done);
        CHECK(dp_file_rw_write(&file, path, 0, content, 100, &err) == DP_E_IO, "fails");
        dp_fault_disarm(DP_FAULT_WRITE);
        CHECK_OK(dp_file_read(&file, path, 0, out, 100, &err), err);
        for (size_t i = 0; i < 100; i++)
            CHECK(out[i] == (i < done ? content[i] : 0x55), "torn at %zu: byte %zu", done, i);
    }
    dp_file_close(&file);
}

static int set_up(void **unused)
{
    CHECK(mkdtemp(folder), "%s", strerror(errno));
    snprintf(path, sizeof path, "%s/file", folder);
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (uint8_t)(i * 7 + i / 256 + 1);
    return 0;
}

static int tear_down(void **unused)
{
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_place_any_order),
        cmocka_unit_test(holes_take_no_room),
        cmocka_unit_test(others_are_refused),
        cmocka_unit_test(failures_come_as_they_were_ordered),
        cmocka_unit_test(writes_tear_at_any_byte),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
