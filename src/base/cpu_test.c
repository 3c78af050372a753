#include "testing/check.h"

#include "base/cgroup.h"
#include "base/cpu.h"
#include "base/fake_root.h"

static const struct {
    const char *name;
    fake_file files[8];
    uint32_t want;
} rows[] = {
    { "nothing at all", { { 0 } }, UINT32_MAX },
    { "v1, no quota",
      { { "/proc/self/cgroup", "3:cpuset:/\n2:cpuacct:/\n1:cpu:/\n" },
        { "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n" },
        { "/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n" } },
      UINT32_MAX },
    { "v1, rounded up",
      { { "/proc/self/cgroup", "3:cpuset:/\n1:cpuacct,cpu:/a\n" },
        { "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "250000\n" },
        { "/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n" } },
      3 },
    { "v2, a group above is tighter",
      { { "/proc/self/cgroup", "0::/a/b\n" },
        { "/sys/fs/cgroup/a/cpu.max", "200000 100000\n" },
        { "/sys/fs/cgroup/a/b/cpu.max", "400000 100000\n" } },
      2 },
    { "v2, no quota below one above",
      { { "/proc/self/cgroup", "0::/a/b\n" },
        { "/sys/fs/cgroup/a/cpu.max", "800000 100000\n" },
        { "/sys/fs/cgroup/a/b/cpu.max", "max 100000\n" } },
      8 },
    { "less than one processor",
      { { "/proc/self/cgroup", "0::/\n" }, { "/sys/fs/cgroup/cpu.max", "0 100000\n" } },
      1 },
    { "damaged files",
      { { "/proc/self/cgroup", "0::/a\n1:cpu:/\n" },
        { "/sys/fs/cgroup/cpu.max", "100000 0\n" },
        { "/sys/fs/cgroup/a/cpu.max", "100000\n" },
        { "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n" } },
      UINT32_MAX },
};

static void test_quota(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        char root[32];
        uint32_t quota;

        fake_root_make(root, rows[i].files);
        quota = dp_cgroup_read_cpu_quota(root);
        fake_root_remove(root);
        CHECK(quota == rows[i].want, "%s: %u", rows[i].name, quota);
    }
}

static void test_this_machine(void **state)
{
    const dp_cpu *cpu = dp_cpu_get();

    CHECK(cpu == dp_cpu_get(), "read once");
    CHECK(cpu->thread_count >= 1, "%u", cpu->thread_count);
    CHECK(strlen(cpu->name) < sizeof cpu->name, "name");
    CHECK(cpu->has_avx2 || !cpu->has_avx512, "AVX-512 without AVX2");
    CHECK(cpu->has_avx512 || !cpu->has_avx512_vnni, "VNNI without AVX-512");
    CHECK(cpu->has_avx512 || !cpu->has_avx512_vbmi, "VBMI without AVX-512");
#if defined(__x86_64__)
    /* The compiler's own detection, minus what it does not ask (F16C). */
    CHECK(!cpu->has_avx2 || (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")),
          "avx2");
    CHECK(!cpu->has_avx512 || __builtin_cpu_supports("avx512bw"), "avx512");
    CHECK(!cpu->has_avx512_vnni || __builtin_cpu_supports("avx512vnni"), "vnni");
    CHECK(!cpu->has_avx512_vbmi || __builtin_cpu_supports("avx512vbmi"), "vbmi");
#endif
    print_message("cpu: \"%s\" threads=%u avx2=%d avx512=%d vnni=%d\n", cpu->name,
                  cpu->thread_count, cpu->has_avx2, cpu->has_avx512, cpu->has_avx512_vnni);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quota),
        cmocka_unit_test(test_this_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
