#include "testing/check.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/scratch.h"
#include "tier/probe.h"

#define URING   "io_uring"
#define THREADS "threads"

static const struct {
    const char *name;
    uint32_t count, want;
    dp_probe_row rows[6];
} choices[] = {
    { "none", 0, DP_PROBE_NONE, { { "" } } },
    { "none measured", 1, DP_PROBE_NONE, { { URING, true, DP_MIB, 8, 0 } } },
    { "one", 1, 0, { { URING, true, DP_MIB, 8, 1e9 } } },
    { "the fastest, far ahead",
      2,
      1,
      { { URING, true, DP_MIB, 8, 1e9 }, { URING, true, 4 * DP_MIB, 32, 2e9 } } },
    { "the smallest of those near",
      4,
      2,
      { { URING, true, DP_MIB, 4, 1.9e9 },
        { URING, true, 4 * DP_MIB, 8, 2e9 },
        { URING, true, DP_MIB, 16, 1.95e9 },
        { URING, true, 2 * DP_MIB, 16, 1.96e9 } } },
    { "as many bytes in fewer requests",
      2,
      1,
      { { URING, true, DP_MIB, 32, 2e9 }, { URING, true, 4 * DP_MIB, 8, 2e9 } } },
    { "direct, though it keeps more under way",
      2,
      1,
      { { URING, false, DP_MIB, 8, 2e9 }, { URING, true, 4 * DP_MIB, 8, 1.95e9 } } },
    { "through the page cache, where that is far ahead",
      2,
      0,
      { { URING, false, DP_MIB, 8, 2e9 }, { URING, true, 4 * DP_MIB, 8, 1.5e9 } } },
    { "fast with so few under way that nothing may come between",
      3,
      2,
      { { URING, true, 512 * DP_KIB, 4, 3e9 },
        { URING, true, 16 * DP_MIB, 1, 3e9 },
        { URING, true, DP_MIB, 8, 2e9 } } },
    { "only few under way were measured",
      2,
      1,
      { { URING, true, DP_MIB, 4, 2e9 }, { URING, true, DP_MIB, 2, 2e9 } } },
    { "equals but for the engine: io_uring",
      2,
      1,
      { { THREADS, true, DP_MIB, 8, 2e9 }, { URING, true, DP_MIB, 8, 2e9 } } },
};

static void choice(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(choices); i++) {
        uint32_t got = dp_probe_choose(choices[i].rows, choices[i].count);

        CHECK(got == choices[i].want, "%s: row %u", choices[i].name, got);
    }
}

static void ways(void **state)
{
    for (int i = 0; i < 8; i++) {
        dp_probe_row rows[DP_PROBE_ROWS_MAX];
        bool has_direct = i & 1, has_uring = i & 2, is_quick = i & 4;
        uint32_t count = dp_probe_ways(rows, has_direct, has_uring, is_quick);

        CHECK(count > 0 && count <= (is_quick ? 10 : DP_PROBE_ROWS_MAX), "%d: %u", i, count);
        for (uint32_t r = 0; r < count; r++) {
            CHECK(rows[r].request_bytes * rows[r].depth <= DP_PROBE_FLIGHT_MAX, "%d: row %u", i, r);
            CHECK(has_direct || !rows[r].is_direct, "%d: direct", i);
            CHECK(has_uring || strcmp(rows[r].engine, THREADS) == 0, "%d: io_uring", i);
            CHECK(r == 0 || rows[r - 1].request_bytes * rows[r - 1].depth <=
                                rows[r].request_bytes * rows[r].depth,
                  "%d: row %u is out of order", i, r);
        }
    }
}

static void make_file(dp_file *file, uint64_t size)
{
    uint8_t *chunk = dp_alloc_zero(1 << 20, 1);
    dp_error err;

    CHECK_OK(dp_scratch_open(file, ".", &err), err);
    while (file->size < size) {
        chunk[0]++;
        CHECK_OK(dp_scratch_append(file, chunk, 1 << 20, &err), err);
    }
    CHECK_OK(dp_scratch_sync(file, &err), err);
    dp_free(chunk);
}

static void a_file_is_measured(void **state)
{
    static dp_drive_probe probe;
    dp_probe_config config = {
        .path = "a file", .limit_ns = 300000000, .flight_max = 16 * DP_MIB, .clock = &dp_clock_real
    };
    dp_error err;
    dp_file file;

    make_file(&file, 24 * DP_MIB);
    config.file = &file;
    for (int quick = 0; quick < 2; quick++) {
        config.is_quick = quick;
        CHECK_OK(dp_probe_run(&probe, &config, &err), err);
        CHECK(probe.best.bytes_s > 0 && probe.best.depth > 0 && probe.file_bytes == file.size,
              "%g bytes/s", probe.best.bytes_s);
        CHECK(probe.latency_count == DP_PROBE_SIZES_MAX, "%u latencies", probe.latency_count);
        for (uint32_t i = 0; i < probe.latency_count; i++)
            CHECK(probe.latencies[i].p50_ns > 0 && probe.latencies[i].count >= 3 &&
                      probe.latencies[i].p50_ns <= probe.latencies[i].p99_ns,
                  "latency %u", i);
        for (uint32_t i = 0; i < probe.row_count; i++)
            CHECK(probe.rows[i].bytes_s == 0 ||
                      probe.rows[i].request_bytes * probe.rows[i].depth <= config.flight_max,
                  "row %u took more memory than it may", i);
    }
    dp_file_close(&file);
}

static void failures(void **state)
{
    static const dp_fault points[] = { DP_FAULT_MEM, DP_FAULT_AIO_READ };
    static dp_drive_probe probe;
    dp_probe_config config = { .path = "a file",
                               .limit_ns = 1,
                               .is_quick = true,
                               .flight_max = 4 * DP_MIB,
                               .clock = &dp_clock_real };
    dp_error err;
    dp_file file;

    make_file(&file, 5 * DP_MIB);
    config.file = &file;
    for (size_t p = 0; p < DP_ARRAY_LEN(points); p++) {
        uint64_t n = 0, failed = 0;
        uint64_t missed;

        do {
            dp_mem_stats stats;
            dp_status st;

            dp_fault_arm(points[p], n++, 1);
            st = dp_probe_run(&probe, &config, &err);
            missed = dp_fault_disarm(points[p]) == 0;
            failed += st != DP_OK;
            CHECK(!missed || st == DP_OK, "point %zu, visit %llu: %s", p, (unsigned long long)n,
                  err.text);
            dp_mem_stats_read(&stats);
            CHECK(stats.heap_blocks == 0 && stats.map_regions == 0, "point %zu leaks at %llu", p,
                  (unsigned long long)n);
        } while (!missed && n < 200);
        CHECK(failed > 0, "point %zu: nothing failed", p);
    }
    dp_file_close(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choice),
        cmocka_unit_test(ways),
        cmocka_unit_test(a_file_is_measured),
        cmocka_unit_test(failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
