#include "testing/check.h"

#include "base/fake_root.h"
#include "base/osinfo.h"

static const struct {
    const char *name;
    fake_file files[8];
    dp_osinfo want;
} rows[] = {
    { "nothing at all", { { 0 } }, { .swap_bytes = 0 } },
    { "a desktop",
      { { "/etc/machine-id", "0123456789abcdef0123456789abcdef\n" },
        { "/proc/sys/kernel/osrelease", "6.1.0-13-amd64\n" },
        { "/proc/meminfo", "MemTotal: 10 kB\nSwapTotal:  4 kB\nSwapFree:   3 kB\n" },
        { "/proc/sys/vm/overcommit_memory", "0\n" },
        { "/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n" },
        { "/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n" } },
      { "0123456789abcdef0123456789abcdef", "6.1.0-13-amd64", 4096, 3072, "heuristic", "madvise",
        true } },
    { "a container of old, strict",
      { { "/etc/machine-id", "\n" },
        { "/var/lib/dbus/machine-id", "abc" },
        { "/proc/sys/vm/overcommit_memory", "2\n" },
        { "/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n" } },
      { "abc", "", 0, 0, "never", "never", false } },
    { "damaged",
      { { "/etc/machine-id",
          "0123456789012345678901234567890123456789012345678901234567890123456789\n" },
        { "/proc/sys/vm/overcommit_memory", "7\n" },
        { "/proc/meminfo", "SwapTotal: 99999999999999999999 kB\nSwapFree: kB\n" },
        { "/sys/kernel/mm/transparent_hugepage/enabled", "]always[ madvise\n" } },
      { .swap_bytes = 0 } },
};

static void test_rows(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        const dp_osinfo *want = &rows[i].want;
        char root[32];
        dp_osinfo now;

        fake_root_make(root, rows[i].files);
        dp_osinfo_read(&now, root);
        fake_root_remove(root);
        CHECK(strcmp(now.machine_id, want->machine_id) == 0, "%s: %s", rows[i].name,
              now.machine_id);
        CHECK(strcmp(now.kernel, want->kernel) == 0, "%s: %s", rows[i].name, now.kernel);
        CHECK(now.swap_bytes == want->swap_bytes && now.swap_free_bytes == want->swap_free_bytes,
              "%s: swap %llu", rows[i].name, (unsigned long long)now.swap_bytes);
        CHECK(strcmp(now.overcommit, want->overcommit) == 0, "%s: %s", rows[i].name,
              now.overcommit);
        CHECK(strcmp(now.huge_pages, want->huge_pages) == 0, "%s: %s", rows[i].name,
              now.huge_pages);
        CHECK(now.has_pressure == want->has_pressure, "%s: pressure", rows[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
