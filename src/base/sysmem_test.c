#include "testing/check.h"

#include "base/fake_root.h"
#include "base/mem.h"
#include "base/sysmem.h"

#define MEMINFO "MemTotal:       1000 kB\nMemFree:          10 kB\nMemAvailable:    600 kB\n"
#define V1      "/sys/fs/cgroup/memory"

static const struct {
    const char *name;
    fake_file files[12];
    dp_sysmem want;
} rows[] = {
    { "nothing at all", { { 0 } }, { 0, 0, UINT64_MAX, 0 } },
    { "no groups", { { "/proc/meminfo", MEMINFO } }, { 1024000, 614400, UINT64_MAX, 0 } },
    { "v1 in its group",
      { { "/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/a/b\n0::/\n" },
        { V1 "/memory.limit_in_bytes", "9223372036854771712\n" },
        { V1 "/memory.usage_in_bytes", "999999\n" },
        { V1 "/a/memory.limit_in_bytes", "90000\n" },
        { V1 "/a/b/memory.limit_in_bytes", "50000\n" },
        { V1 "/a/b/memory.usage_in_bytes", "45000\n" },
        { V1 "/a/b/memory.stat",
          "inactive_file 1\ntotal_inactive_file 3000\ntotal_active_file 2000\n" } },
      { 0, 0, 50000, 40000 } },
    { "v1, a group above is tighter",
      { { "/proc/self/cgroup", "4:memory:/a/b\n" },
        { V1 "/memory.limit_in_bytes", "9223372036854771712\n" },
        { V1 "/a/memory.limit_in_bytes", "40000\n" },
        { V1 "/a/memory.usage_in_bytes", "7000\n" },
        { V1 "/a/b/memory.limit_in_bytes", "50000\n" },
        { V1 "/a/b/memory.usage_in_bytes", "6000\n" } },
      { 0, 0, 40000, 7000 } },
    { "v1, the container sees its group as the root",
      { { "/proc/self/cgroup", "4:memory:/docker/0123\n" },
        { V1 "/memory.limit_in_bytes", "30000\n" },
        { V1 "/memory.usage_in_bytes", "1000\n" } },
      { 0, 0, 30000, 1000 } },
    { "v1, no limit",
      { { "/proc/self/cgroup", "4:memory:/\n" },
        { V1 "/memory.limit_in_bytes", "1152921504606846976\n" },
        { V1 "/memory.usage_in_bytes", "1000\n" } },
      { 0, 0, UINT64_MAX, 0 } },
    { "v2",
      { { "/proc/self/cgroup", "0::/user.slice/run-1.scope\n" },
        { "/sys/fs/cgroup/user.slice/memory.max", "80000\n" },
        { "/sys/fs/cgroup/user.slice/run-1.scope/memory.max", "70000\n" },
        { "/sys/fs/cgroup/user.slice/run-1.scope/memory.current", "5000\n" },
        { "/sys/fs/cgroup/user.slice/run-1.scope/memory.stat",
          "anon 1\nfile 4000\ninactive_file 1000\nactive_file 500\n" } },
      { 0, 0, 70000, 3500 } },
    { "v1, a group above has less room",
      { { "/proc/self/cgroup", "4:memory:/a/b\n" },
        { V1 "/a/memory.limit_in_bytes", "60000\n" },
        { V1 "/a/memory.usage_in_bytes", "59000\n" },
        { V1 "/a/b/memory.limit_in_bytes", "50000\n" },
        { V1 "/a/b/memory.usage_in_bytes", "6000\n" } },
      { 0, 0, 60000, 59000 } },
    { "pressure of the system and of a group",
      { { "/proc/pressure/memory", "some avg10=0.00 avg60=0.10 avg300=0.00 total=77\n"
                                   "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n" },
        { "/proc/self/cgroup", "0::/a\n" },
        { "/sys/fs/cgroup/a/memory.pressure",
          "some avg10=1.00 avg60=0.10 avg300=0.00 total=123456\n" } },
      { 0, 0, UINT64_MAX, 0, 123456 } },
    { "v2, no limit below one above",
      { { "/proc/self/cgroup", "0::/a/b" },
        { "/sys/fs/cgroup/a/memory.max", "80000\n" },
        { "/sys/fs/cgroup/a/memory.current", "8\n" },
        { "/sys/fs/cgroup/a/b/memory.max", "max\n" } },
      { 0, 0, 80000, 8 } },
    { "v2 beside v1, file pages above usage",
      { { "/proc/self/cgroup", "4:memory:/\n0::/a\n" },
        { V1 "/memory.limit_in_bytes", "90000\n" },
        { "/sys/fs/cgroup/unified/a/memory.max", "60000\n" },
        { "/sys/fs/cgroup/unified/a/memory.current", "100\n" },
        { "/sys/fs/cgroup/unified/a/memory.stat", "inactive_file 1000\n" } },
      { 0, 0, 60000, 0 } },
    { "damaged files",
      { { "/proc/meminfo", "MemTotal:\nMemAvailable: x kB\n" },
        { "/proc/self/cgroup", "\nnonsense\n4:memory\n0::/a/../../b\n" },
        { "/sys/fs/cgroup/memory.max", "-1\n" } },
      { 0, 0, UINT64_MAX, 0 } },
};

static void test_rows(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        char root[32];
        dp_sysmem now;

        fake_root_make(root, rows[i].files);
        dp_sysmem_read(&now, root);
        fake_root_remove(root);
        CHECK(now.total_bytes == rows[i].want.total_bytes, "%s: total %llu", rows[i].name,
              (unsigned long long)now.total_bytes);
        CHECK(now.available_bytes == rows[i].want.available_bytes, "%s: available %llu",
              rows[i].name, (unsigned long long)now.available_bytes);
        CHECK(now.cgroup_limit_bytes == rows[i].want.cgroup_limit_bytes, "%s: limit %llu",
              rows[i].name, (unsigned long long)now.cgroup_limit_bytes);
        CHECK(now.cgroup_used_bytes == rows[i].want.cgroup_used_bytes, "%s: used %llu",
              rows[i].name, (unsigned long long)now.cgroup_used_bytes);
        CHECK(now.stall_us == rows[i].want.stall_us, "%s: stalled %llu us", rows[i].name,
              (unsigned long long)now.stall_us);
    }
}

/* A path that is longer than any buffer still finds what the root says. */
static void test_deep_group(void **state)
{
    static char line[4096];
    const fake_file files[] = {
        { "/proc/self/cgroup", line },
        { V1 "/memory.limit_in_bytes", "30000\n" },
        { 0 },
    };
    char root[32];
    dp_sysmem now;

    memset(line, 'x', sizeof line - 1);
    memcpy(line, "4:memory:/", 10);
    fake_root_make(root, files);
    dp_sysmem_read(&now, root);
    fake_root_remove(root);
    CHECK(now.cgroup_limit_bytes == 30000, "%llu", (unsigned long long)now.cgroup_limit_bytes);
}

static void test_this_machine(void **state)
{
    const size_t size = (size_t)32 << 20;
    dp_sysmem now;
    uint64_t before;
    uint8_t *region;

    dp_sysmem_read(&now, "");
    CHECK(now.total_bytes > 0 && now.available_bytes <= now.total_bytes, "total");
    before = dp_sysmem_resident_bytes();
    region = dp_map_acquire(size);
    CHECK(before > 0 && region, "memory");
    memset(region, 1, size);
    CHECK(dp_sysmem_resident_bytes() >= before + size / 2, "what is touched is counted");
    dp_map_release(region, size);
    CHECK(dp_sysmem_resident_bytes() < before + size / 2, "given back at once");
    CHECK(dp_sysmem_peak_bytes() >= before + size / 2, "the peak stays");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_deep_group),
        cmocka_unit_test(test_this_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
