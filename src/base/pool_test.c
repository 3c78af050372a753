#include "testing/check.h"

#include <sched.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/pool.h"

#define COUNT_MAX 1000

static uint8_t touched[COUNT_MAX];
static _Atomic uint64_t worker_mask;
static _Atomic uint32_t longest_run;

static void touch(void *user, size_t begin, size_t end, uint32_t worker)
{
    uint32_t run = (uint32_t)(end - begin);

    CHECK(begin < end, "an empty run at %zu", begin);
    for (size_t i = begin; i < end; i++)
        touched[i]++;
    atomic_fetch_or(&worker_mask, (uint64_t)1 << worker);
    if (run > longest_run)
        longest_run = run;
}

/* Every item once, whatever the number of threads and the grain. */
static void test_every_item_once(void **state)
{
    static const uint32_t thread_counts[] = { 1, 2, 3, 8 };
    static const size_t counts[] = { 0, 1, 2, 7, 64, COUNT_MAX };
    static const size_t grains[] = { 1, 3, 64, COUNT_MAX, SIZE_MAX };
    dp_error err;

    for (size_t t = 0; t < DP_ARRAY_LEN(thread_counts); t++) {
        dp_pool *pool;

        CHECK_OK(dp_pool_open(&pool, thread_counts[t], &err), err);
        CHECK(dp_pool_thread_count(pool) == thread_counts[t], "count");
        for (size_t c = 0; c < DP_ARRAY_LEN(counts); c++)
            for (size_t g = 0; g < DP_ARRAY_LEN(grains); g++) {
                memset(touched, 0, sizeof touched);
                worker_mask = 0;
                longest_run = 0;
                dp_pool_run(pool, counts[c], grains[g], touch, NULL);
                for (size_t i = 0; i < COUNT_MAX; i++)
                    CHECK(touched[i] == (i < counts[c]), "item %zu of %zu, grain %zu: %d times", i,
                          counts[c], grains[g], touched[i]);
                CHECK(worker_mask < (uint64_t)1 << thread_counts[t], "a worker too many");
                CHECK(longest_run <= grains[g], "a run of %u", longest_run);
            }
        dp_pool_close(pool);
    }
}

struct meeting {
    _Atomic uint32_t arrived;
    uint32_t wanted;
};

/* Every item waits until all workers are inside: proof that they run side by
 * side, and that sleeping ones are woken. */
static void meet(void *user, size_t begin, size_t end, uint32_t worker)
{
    struct meeting *meeting = user;

    atomic_fetch_add(&meeting->arrived, 1);
    for (uint32_t i = 0; atomic_load(&meeting->arrived) < meeting->wanted; i++)
        if (i > 1000)
            sched_yield();
}

static void test_workers_meet(void **state)
{
    dp_error err;
    dp_pool *pool;

    CHECK_OK(dp_pool_open(&pool, 4, &err), err);
    for (int round = 0; round < 200; round++) {
        struct meeting meeting = { 0, 4 };
        dp_pool_run(pool, 4, 1, meet, &meeting);
        CHECK(meeting.arrived == 4, "%u", meeting.arrived);
    }
    dp_pool_close(pool);
}

static void add_one(void *user, size_t begin, size_t end, uint32_t worker)
{
    uint64_t *sums = user;

    for (size_t i = begin; i < end; i++)
        sums[i]++;
}

/* Loops back to back: each sees what the one before it wrote. */
static void test_back_to_back(void **state)
{
    uint64_t sums[16] = { 0 };
    dp_error err;
    dp_pool *pool;

    CHECK_OK(dp_pool_open(&pool, 3, &err), err);
    for (int round = 0; round < 20000; round++)
        dp_pool_run(pool, DP_ARRAY_LEN(sums), 2, add_one, sums);
    for (size_t i = 0; i < DP_ARRAY_LEN(sums); i++)
        CHECK(sums[i] == 20000, "item %zu: %llu", i, (unsigned long long)sums[i]);
    dp_pool_close(pool);
}

static void test_open_fails(void **state)
{
    static const dp_fault faults[] = { DP_FAULT_MEM, DP_FAULT_THREAD };
    dp_mem_stats before;
    dp_mem_stats after;
    dp_error err;
    dp_pool *pool;

    CHECK(dp_pool_open(&pool, 0, &err) == DP_E_LIMIT && !pool, "no thread");
    CHECK(dp_pool_open(&pool, DP_POOL_THREADS_MAX + 1, &err) == DP_E_LIMIT && !pool, "too many");
    dp_pool_close(NULL);

    dp_mem_stats_read(&before);
    for (size_t f = 0; f < DP_ARRAY_LEN(faults); f++)
        for (uint64_t n = 0;; n++) {
            dp_status st;

            dp_fault_arm(faults[f], n, 1);
            st = dp_pool_open(&pool, 4, &err);
            dp_fault_disarm(faults[f]);
            CHECK(st == DP_OK || (st == DP_E_NOMEM && !pool), "visit %d", (int)n);
            dp_pool_close(pool);
            dp_mem_stats_read(&after);
            CHECK(after.heap_blocks == before.heap_blocks, "leak at %d", (int)n);
            CHECK(after.map_regions == before.map_regions, "leak at %d", (int)n);
            if (st == DP_OK)
                break;
        }
}

/* The time until both threads are in the loop, and out again. No bound is
 * checked, machines differ: the number is for the log of the test. */
static void test_round_trip(void **state)
{
    enum { ROUNDS = 20000 };
    dp_error err;
    dp_pool *pool;
    uint64_t begin_ns;

    CHECK_OK(dp_pool_open(&pool, 2, &err), err);
    begin_ns = dp_clock_now_ns(&dp_clock_real);
    for (int i = 0; i < ROUNDS; i++) {
        struct meeting meeting = { 0, 2 };
        dp_pool_run(pool, 2, 1, meet, &meeting);
    }
    print_message("pool: loop that both of 2 threads enter: %llu ns\n",
                  (unsigned long long)(dp_clock_now_ns(&dp_clock_real) - begin_ns) / ROUNDS);
    dp_pool_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_item_once), cmocka_unit_test(test_workers_meet),
        cmocka_unit_test(test_back_to_back),    cmocka_unit_test(test_open_fails),
        cmocka_unit_test(test_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
