#include "testing/check.h"

#include <dirent.h>

#include "base/fault.h"
#include "base/scratch.h"

static uint32_t names_here(void)
{
    DIR *folder = opendir(".");
    uint32_t count = 0;
    struct dirent *entry;

    while ((entry = readdir(folder)))
        count += strncmp(entry->d_name, ".doppler-probe", 14) == 0;
    closedir(folder);
    return count;
}

static void what_is_written_is_read(void **state)
{
    uint8_t bytes[10000], back[10000];
    dp_error err;
    dp_file file;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    CHECK_OK(dp_scratch_open(&file, ".", &err), err);
    CHECK(names_here() == 0, "it has a name");
    CHECK_OK(dp_scratch_append(&file, bytes, 4000, &err), err);
    CHECK_OK(dp_scratch_append(&file, bytes + 4000, 6000, &err), err);
    CHECK_OK(dp_scratch_sync(&file, &err), err);
    CHECK(file.size == sizeof bytes, "%llu bytes", (unsigned long long)file.size);
    CHECK_OK(dp_file_read(&file, "scratch", 0, back, sizeof back, &err), err);
    CHECK(memcmp(bytes, back, sizeof back) == 0, "other bytes");
    dp_file_close(&file);
}

static void failures(void **state)
{
    dp_error err;
    dp_file file;

    CHECK(dp_scratch_open(&file, "no/such/folder", &err) == DP_E_NOTFOUND, "%s", err.text);
    for (int n = 0; n < 2; n++) {
        dp_status st;

        dp_fault_arm(DP_FAULT_WRITE, (uint64_t)n, 1);
        st = dp_scratch_open(&file, ".", &err);
        if (!st)
            st = dp_scratch_append(&file, "x", 1, &err);
        CHECK(dp_fault_disarm(DP_FAULT_WRITE) == 1 && st == DP_E_IO, "visit %d: %d", n, st);
        dp_file_close(&file);
        CHECK(names_here() == 0, "visit %d: it stays", n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
