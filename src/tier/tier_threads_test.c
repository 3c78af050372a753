/* Callers on four threads share pages and room for a few of them, while one thread ends
 * reads in random order, some with errors, and one changes everything else. */
#include <stdatomic.h>

#include "base/mem.h"
#include "testing/check.h"
#include "tier/source_fake.h"
#include "tier/tier_impl.h"

#define PAGE_COUNT   32
#define PAGE_BYTES   4096
#define CALLER_COUNT 4
#define BATCH_COUNT  400
#define WANT_MAX     8
#define SLOTS_MIN    2 /* fewer than callers: they have to wait for one another */
#define SLOTS_MAX    12
#define DEADLINE_NS  30000000000ull

typedef struct shared {
    dp_source_fake fake;
    dp_tier *tier;
    _Atomic uint32_t running_count;
    _Atomic uint32_t served_count, failed_count;
    _Atomic uint32_t wrong_count; /* cmocka ends tests on the main thread only */
} shared;

typedef struct caller {
    shared *shared;
    dp_thread thread;
    uint64_t seed;
} caller;

static bool has_data(const dp_lease *lease)
{
    for (uint64_t i = 0; i < PAGE_BYTES; i++)
        if (lease->parts[0][i] != dp_source_fake_byte(0, (uint64_t)lease->page * PAGE_BYTES + i))
            return false;
    return true;
}

static void take_batch(shared *shared, dp_tier_batch *batch)
{
    for (;;) {
        dp_lease lease;
        size_t index;
        dp_error err;
        dp_status st = dp_tier_next(batch, &lease, &index, DEADLINE_NS, &err);

        if (st == DP_E_NOTFOUND)
            return;
        if (st) {
            shared->failed_count += st == DP_E_IO;
            shared->wrong_count += st != DP_E_IO;
            return;
        }
        shared->wrong_count += !has_data(&lease);
        shared->served_count++;
        dp_tier_release(shared->tier, &lease);
    }
}

static void caller_main(void *user)
{
    caller *caller = user;
    shared *shared = caller->shared;
    dp_rng rng;

    dp_rng_init(&rng, caller->seed);
    for (int i = 0; i < BATCH_COUNT; i++) {
        dp_page_id pages[WANT_MAX];
        uint8_t states[WANT_MAX];
        size_t count = 1 + dp_rng_below(&rng, WANT_MAX);
        uint64_t first = dp_rng_below(&rng, PAGE_COUNT);
        dp_tier_batch batch;
        dp_error err;

        for (size_t j = 0; j < count; j++) /* distinct: 3 and 32 have no common divisor */
            pages[j] = (dp_page_id)((first + 3 * j) % PAGE_COUNT);
        if (dp_tier_want(shared->tier, pages, count, states, &batch, &err))
            shared->wrong_count++;
        else if (i % 16) /* now and then nothing is taken */
            take_batch(shared, &batch);
        dp_tier_batch_end(&batch);
    }
    shared->running_count--;
}

static void disk_main(void *user)
{
    shared *shared = user;

    while (dp_source_fake_end_any(&shared->fake, 1, true))
        ;
}

static void change_main(void *user)
{
    shared *shared = user;
    dp_rng rng;

    dp_rng_init(&rng, 99);
    while (shared->running_count) {
        dp_page_id page = (dp_page_id)dp_rng_below(&rng, PAGE_COUNT);
        uint64_t slots = SLOTS_MIN + dp_rng_below(&rng, SLOTS_MAX - SLOTS_MIN + 1);
        dp_error err;

        dp_tier_prefetch(shared->tier, &page, 1, 0);
        dp_tier_tick(shared->tier);
        if (dp_tier_set_budget(shared->tier, slots * PAGE_BYTES, &err))
            shared->wrong_count++;
        dp_tier_check(shared->tier);
    }
}

static void open_tier(shared *shared)
{
    dp_tier_config config = { SLOTS_MIN * PAGE_BYTES, &dp_policy_lfru, &shared->fake.base,
                              &dp_clock_real };
    dp_error err;

    dp_source_fake_init(&shared->fake, 1);
    shared->fake.late_percent = 30;
    CHECK_OK(dp_tier_open(&shared->tier, &config, &err), err);
    for (uint32_t i = 0; i < PAGE_COUNT; i++) {
        dp_page_desc desc = {
            DP_PAGE_EXPERT, i / 8, i % 8, 1, { { 0, i * PAGE_BYTES, PAGE_BYTES } }
        };
        dp_page_id id;
        CHECK_OK(dp_tier_add_page(shared->tier, &desc, &id, &err), err);
    }
}

static void test_hammering(void **unused)
{
    static shared shared;
    caller callers[CALLER_COUNT];
    dp_thread disk;
    dp_thread change;
    dp_tier_stats stats;
    dp_mem_stats before;
    dp_mem_stats after;
    dp_error err;

    dp_mem_stats_read(&before);
    open_tier(&shared);
    shared.running_count = CALLER_COUNT;
    CHECK_OK(dp_thread_start(&disk, "disk", disk_main, &shared, &err), err);
    CHECK_OK(dp_thread_start(&change, "change", change_main, &shared, &err), err);
    for (uint64_t i = 0; i < CALLER_COUNT; i++) {
        callers[i] = (caller){ &shared, .seed = i };
        CHECK_OK(dp_thread_start(&callers[i].thread, "caller", caller_main, &callers[i], &err),
                 err);
    }
    for (int i = 0; i < CALLER_COUNT; i++)
        dp_thread_join(&callers[i].thread);
    dp_thread_join(&change);

    dp_tier_check(shared.tier);
    dp_tier_stats_read(shared.tier, &stats);
    CHECK(shared.wrong_count == 0, "%u wrong answers", shared.wrong_count);
    CHECK(stats.slot_bytes_max <= SLOTS_MAX * PAGE_BYTES && stats.lease_count == 0, "(4)");
    CHECK(shared.served_count > CALLER_COUNT * BATCH_COUNT, "%u served", shared.served_count);
    dp_tier_close(shared.tier); /* the disk still turns */
    dp_source_fake_stop(&shared.fake);
    dp_thread_join(&disk);
    dp_source_fake_deinit(&shared.fake);
    dp_mem_stats_read(&after);
    CHECK(!memcmp(&before, &after, sizeof before), "leak");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_hammering) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
