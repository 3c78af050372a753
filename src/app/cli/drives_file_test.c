#include "testing/check.h"

#include <unistd.h>

#include "app/cli/drives_file.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"

#define PATH "drives_file_test.json"

/* A probe of the drive behind this folder, that holds here. */
static void make_probe(dp_drive_probe *out, const dp_drive_info *drive, uint32_t depth)
{
    dp_probe_options options = { .is_quick = true };
    dp_drive_info memory = *drive;
    dp_error err;

    memory.is_memory = true; /* nothing is read, but what it would hold for is told */
    CHECK_OK(dp_doctor_probe(out, &memory, &options, &err), err);
    CHECK(out->skipped[0], "it was probed");
    out->skipped[0] = 0;
    out->best = (dp_probe_row){ "io_uring", true, 1 << 20, depth, 2e9 };
    out->sustained_bytes_s = 1.5e9;
    out->latencies[out->latency_count++] = (dp_probe_latency){ 4096, 100, 80000, 250000 };
}

static void put(const char *text)
{
    FILE *file = fopen(PATH, "w");

    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0, "cannot write");
}

static void what_is_saved_is_found(void **state)
{
    dp_drive_probe probe, found;
    dp_drive_info drive;
    dp_error err;

    unlink(PATH);
    CHECK_OK(dp_doctor_drive(&drive, ".", &err), err);
    CHECK(!dp_doctor_saved(&found, PATH, &drive), "found in nothing");
    make_probe(&probe, &drive, 8);
    CHECK_OK(dp_drives_file_save(PATH, &probe, &err), err);
    probe.best.depth = 32;
    CHECK_OK(dp_drives_file_save(PATH, &probe, &err), err);
    CHECK(dp_doctor_saved(&found, PATH, &drive), "not found");
    CHECK(found.is_saved && found.best.depth == 32 && found.best.bytes_s == 2e9 &&
              found.latency_count == 1 && found.latencies[0].p99_ns == 250000,
          "depth %u", found.best.depth);
    strcpy(drive.fs, "other");
    CHECK(!dp_doctor_saved(&found, PATH, &drive), "of another file system");
    unlink(PATH);
}

static void only_the_latest_of_many_stay(void **state)
{
    dp_drive_probe probe, found;
    dp_drive_info drive;
    char *text;
    size_t size, count = 0;
    dp_error err;

    unlink(PATH);
    CHECK_OK(dp_doctor_drive(&drive, ".", &err), err);
    make_probe(&probe, &drive, 8);
    for (int i = 0; i < 70; i++) {
        snprintf(probe.device, sizeof probe.device, "drive%d", i);
        CHECK_OK(dp_drives_file_save(PATH, &probe, &err), err);
    }
    CHECK_OK(dp_file_read_all(&text, &size, PATH, 1 << 20, &err), err);
    for (const char *at = text; (at = strstr(at, "\"drive")); at++)
        count += at[6] != 's';
    CHECK(count == 64 && !strstr(text, "\"drive5\"") && strstr(text, "\"drive69\""), "%zu", count);
    dp_free(text);
    CHECK(!dp_doctor_saved(&found, PATH, &drive), "found among others");
    unlink(PATH);
}

static void damage_is_ignored_and_replaced(void **state)
{
    static const char *const texts[] = { "",
                                         "{",
                                         "[]",
                                         "{\"version\": 1}",
                                         "{\"version\": 2, \"drives\": []}",
                                         "{\"version\": 1, \"drives\": 7}",
                                         "{\"version\": 1, \"drives\": [7, {}]}" };
    dp_drive_probe probe, found;
    dp_drive_info drive;
    dp_error err;

    CHECK_OK(dp_doctor_drive(&drive, ".", &err), err);
    make_probe(&probe, &drive, 8);
    for (size_t i = 0; i < DP_ARRAY_LEN(texts); i++) {
        put(texts[i]);
        CHECK(!dp_doctor_saved(&found, PATH, &drive), "%s", texts[i]);
        CHECK_OK(dp_drives_file_save(PATH, &probe, &err), err);
        CHECK(dp_doctor_saved(&found, PATH, &drive), "%s: not replaced", texts[i]);
    }
    unlink(PATH);
}

static void failures(void **state)
{
    dp_drive_probe probe, found;
    dp_drive_info drive;
    dp_error err;
    dp_status st;
    uint64_t n = 0;

    CHECK_OK(dp_doctor_drive(&drive, ".", &err), err);
    make_probe(&probe, &drive, 8);
    CHECK_OK(dp_drives_file_save(PATH, &probe, &err), err);
    probe.best.depth = 4;
    do {
        dp_fault_arm(DP_FAULT_WRITE, n++, 1);
        st = dp_drives_file_save(PATH, &probe, &err);
        CHECK((dp_fault_disarm(DP_FAULT_WRITE) == 0) == (st == DP_OK), "write %d: %d", (int)n, st);
        CHECK(dp_doctor_saved(&found, PATH, &drive) && found.best.depth == (st ? 8 : 4),
              "write %d: half a file", (int)n);
    } while (st);
    CHECK(n > 2, "nothing could fail");
    CHECK(dp_drives_file_save("no/such/folder/x", &probe, &err) != DP_OK, "saved nowhere");
    unlink(PATH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_is_found),
        cmocka_unit_test(only_the_latest_of_many_stay),
        cmocka_unit_test(damage_is_ignored_and_replaced),
        cmocka_unit_test(failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
