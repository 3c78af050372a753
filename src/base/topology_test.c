#include "testing/check.h"

#include "base/cpu.h"
#include "base/topology.h"

static const struct {
    const char *synthetic;
    uint32_t packages, cores, threads, l3_count, nodes;
    uint64_t l3_bytes;
    uint32_t near; /* threads of node 0 */
} rows[] = {
    { "pack:1 [numa] l3:1(size=33554432) l2:2(size=1048576) l1:1(size=32768) core:1 pu:1", 1, 2, 2,
      1, 1, 33554432, 2 },
    { "pack:2 [numa] l3:1(size=1000000) core:4 pu:2", 2, 8, 16, 2, 2, 1000000, 8 },
    { "pack:1 core:3 pu:1", 1, 3, 3, 0, 1, 0, 3 },
};

static void other_machines(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_topology t;

        dp_topology_read(&t, rows[i].synthetic);
        CHECK(t.package_count == rows[i].packages && t.core_count == rows[i].cores &&
                  t.thread_count == rows[i].threads,
              "%s: %u packages, %u cores, %u threads", rows[i].synthetic, t.package_count,
              t.core_count, t.thread_count);
        CHECK(t.cache_count[2] == rows[i].l3_count && t.cache_bytes[2] == rows[i].l3_bytes,
              "%s: %u of %llu", rows[i].synthetic, t.cache_count[2],
              (unsigned long long)t.cache_bytes[2]);
        CHECK(t.node_count == rows[i].nodes && t.nodes[0].thread_count == rows[i].near,
              "%s: %u nodes, %u near", rows[i].synthetic, t.node_count, t.nodes[0].thread_count);
    }
}

static void words_that_are_no_machine(void **state)
{
    dp_topology t;

    dp_topology_read(&t, "pack:none");
    CHECK(t.thread_count == 0 && t.node_count == 0, "a machine of nothing");
}

static void this_machine(void **state)
{
    dp_topology t;

    dp_topology_read(&t, NULL);
    CHECK(t.thread_count >= dp_cpu_get()->thread_count, "%u threads, %u usable", t.thread_count,
          dp_cpu_get()->thread_count);
    CHECK(t.core_count > 0 && t.core_count <= t.thread_count, "%u cores", t.core_count);
    CHECK(t.node_count > 0 && t.nodes[0].bytes > 0, "no memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_machines),
        cmocka_unit_test(words_that_are_no_machine),
        cmocka_unit_test(this_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
