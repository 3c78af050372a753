#include "testing/check.h"

#include "base/fault.h"
#include "base/mem.h"
#include "tier/bandwidth.h"

#define BYTES (8 * DP_MIB)

/* Every look at it is a millisecond later. */
static uint64_t later(const dp_clock *clock)
{
    dp_clock *own = (dp_clock *)clock;

    return own->virtual_ns += 1000000;
}

static void rate_is_bytes_by_time(void **state)
{
    dp_clock clock = { later, 0 };
    dp_bandwidth_config config = { 2, BYTES, 10000000, &clock };
    dp_error err;
    double rate;

    CHECK_OK(dp_bandwidth_measure(&rate, &config, &err), err);
    CHECK(rate == (double)BYTES * 1000, "%g bytes/s", rate);
    CHECK(clock.virtual_ns <= 12000000, "read on until %llu ns",
          (unsigned long long)clock.virtual_ns);
}

static void a_clock_that_stands_ends(void **state)
{
    dp_clock clock;
    dp_bandwidth_config config = { 1, BYTES, 10000000, &clock };
    dp_error err;
    double rate;

    dp_clock_init_virtual(&clock);
    CHECK_OK(dp_bandwidth_measure(&rate, &config, &err), err);
    CHECK(rate > 0, "%g bytes/s", rate);
}

static void failures(void **state)
{
    dp_bandwidth_config config = { 2, BYTES, 1, &dp_clock_real };
    dp_mem_stats stats;
    dp_error err;
    double rate;
    dp_status st;
    uint64_t n = 0;

    do {
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_bandwidth_measure(&rate, &config, &err);
        CHECK((dp_fault_disarm(DP_FAULT_MEM) == 0) == (st == DP_OK), "visit %llu: %d",
              (unsigned long long)n, st);
        dp_mem_stats_read(&stats);
        CHECK(stats.heap_blocks == 0 && stats.map_regions == 0, "leaked at %llu",
              (unsigned long long)n);
        n++;
    } while (st);
    CHECK(n > 1, "nothing could fail");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rate_is_bytes_by_time),
        cmocka_unit_test(a_clock_that_stands_ends),
        cmocka_unit_test(failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
