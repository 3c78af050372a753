/* Random calls in random order from a seed, every invariant checked after each, and at
 * the end everything that was wanted must come. */
#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"
#include "tier/source_fake.h"
#include "tier/tier_impl.h"

#define SEED_COUNT  60
#define STEP_COUNT  1500
#define PAGE_COUNT  24
#define BATCH_COUNT 3
#define WANT_MAX    6
#define LEASE_MAX   5

typedef struct asked {
    bool is_begun;
    dp_tier_batch batch;
    dp_page_id pages[WANT_MAX];
    uint8_t states[WANT_MAX];
    uint32_t served; /* bit i: page i was */
    size_t count;
} asked;

typedef struct world {
    dp_source_fake fake;
    dp_rng rng;
    dp_clock clock;
    dp_tier *tier;
    dp_page_desc descs[PAGE_COUNT];
    asked asked[BATCH_COUNT];
    dp_lease leases[LEASE_MAX];
    size_t lease_count;
    uint32_t fail_percent;
    uint64_t want_count, budget_max;
    uint64_t largest_bytes, total_bytes;
} world;

static uint64_t below(world *w, uint64_t bound)
{
    return dp_rng_below(&w->rng, bound);
}

/* Small ones for speed; ones of about a size, so that slots pass from page to page. */
static uint64_t part_size(world *w, uint64_t seed)
{
    if (seed % 8 == 0)
        return 60000 + below(w, 6000);
    return 1 + below(w, below(w, 2) ? 5000 : 100);
}

static void world_open(world *w, uint64_t seed)
{
    dp_tier_config config = { 0, seed % 2 ? &dp_policy_lru : &dp_policy_lfru, &w->fake.base,
                              &w->clock };
    dp_error err;

    *w = (world){ .fail_percent = (uint32_t)(seed % 3) * 4 };
    dp_rng_init(&w->rng, seed);
    dp_clock_init_virtual(&w->clock);
    dp_source_fake_init(&w->fake, seed);
    w->fake.is_direct = seed % 5 == 0;
    w->fake.late_percent = (uint32_t)(seed % 4) * 30;
    CHECK_OK(dp_tier_open(&w->tier, &config, &err), err);
    for (uint32_t i = 0; i < PAGE_COUNT; i++) {
        dp_page_desc *desc = &w->descs[i];
        dp_page_id id;
        *desc = (dp_page_desc){ (dp_page_kind)(i % 2), i, i, 1 + (uint32_t)below(w, 3) };
        for (uint32_t part = 0; part < desc->part_count; part++)
            desc->parts[part] = (dp_page_part){ part, below(w, 100000), part_size(w, seed) };
        CHECK_OK(dp_tier_add_page(w->tier, desc, &id, &err), err);
        w->largest_bytes = DP_MAX(w->largest_bytes, dp_tier_page_bytes(w->tier, id));
        w->total_bytes += dp_tier_page_bytes(w->tier, id);
    }
    w->budget_max = w->largest_bytes + below(w, w->total_bytes / 2);
    CHECK_OK(dp_tier_set_budget(w->tier, w->budget_max, &err), err);
}

static void check_data(const world *w, const dp_lease *lease)
{
    const dp_page_desc *desc = &w->descs[lease->page];

    for (uint32_t part = 0; part < desc->part_count; part++)
        for (uint64_t i = 0; i < desc->parts[part].size; i++)
            CHECK(lease->parts[part][i] == dp_source_fake_byte(part, desc->parts[part].offset + i),
                  "page %u part %u byte %d", lease->page, part, (int)i);
}

static void step_want(world *w, asked *asked)
{
    uint64_t first = below(w, PAGE_COUNT);
    dp_status st;
    dp_error err;

    if (asked->is_begun)
        return;
    asked->count = 1 + below(w, WANT_MAX);
    asked->served = 0;
    for (size_t i = 0; i < asked->count; i++) /* distinct: 5 and 24 have no common divisor */
        asked->pages[i] = (dp_page_id)((first + 5 * i) % PAGE_COUNT);
    st = dp_tier_want(w->tier, asked->pages, asked->count, asked->states, &asked->batch, &err);
    if (st == DP_OK) {
        asked->is_begun = true;
        w->want_count += asked->count;
    } else {
        CHECK(st == DP_E_BUDGET && err.text[0], "%d", st);
    }
}

/* True when the batch gave a page or its error. */
static bool step_next(world *w, asked *asked)
{
    dp_lease lease;
    size_t index;
    dp_status st;
    dp_error err;

    if (!asked->is_begun || w->lease_count == LEASE_MAX)
        return false;
    st = dp_tier_next(&asked->batch, &lease, &index, 0, &err);
    if (st == DP_E_TIMEOUT)
        return false;
    if (st == DP_OK) {
        CHECK(index < asked->count && lease.page == asked->pages[index], "%zu", index);
        CHECK(!(asked->served >> index & 1), "each page is served once");
        asked->served |= 1u << index;
        check_data(w, &lease);
        w->leases[w->lease_count++] = lease;
        return true;
    }
    if (st == DP_E_NOTFOUND)
        CHECK(asked->served == (1u << asked->count) - 1, "all were served");
    else
        CHECK((st == DP_E_IO || st == DP_E_NOMEM) && err.text[0], "%d: %s", st, err.text);
    dp_tier_batch_end(&asked->batch);
    asked->is_begun = false;
    return true;
}

static void step_release(world *w)
{
    uint64_t i = below(w, LEASE_MAX);

    if (i >= w->lease_count)
        return;
    check_data(w, &w->leases[i]);
    dp_tier_release(w->tier, &w->leases[i]);
    w->leases[i] = w->leases[--w->lease_count];
}

static bool pin_progress(void *user, uint64_t done, uint64_t total)
{
    world *w = user;

    dp_source_fake_end_all(&w->fake);
    return below(w, 4) > 0;
}

/* Only while nobody else holds or waits: this test has one thread, and a pin waits. */
static void step_pin(world *w)
{
    dp_page_id pages[2];
    dp_error err;
    dp_status st;

    for (size_t i = 0; i < BATCH_COUNT; i++)
        if (w->asked[i].is_begun)
            return;
    if (w->lease_count)
        return;
    pages[0] = (dp_page_id)below(w, PAGE_COUNT);
    pages[1] = (pages[0] + 1) % PAGE_COUNT;
    st = dp_tier_pin(w->tier, pages, 1 + below(w, 2), pin_progress, w, &err);
    CHECK(st == DP_OK || err.text[0], "%d", st);
}

static void step_budget(world *w)
{
    uint64_t budget = below(w, w->total_bytes);
    dp_error err;
    dp_status st = dp_tier_set_budget(w->tier, budget, &err);

    CHECK(st == DP_OK || st == DP_E_BUDGET, "%d", st);
    if (st == DP_OK)
        w->budget_max = DP_MAX(w->budget_max, budget);
}

static void step_prefetch(world *w)
{
    dp_page_id pages[3];

    for (size_t i = 0; i < DP_ARRAY_LEN(pages); i++)
        pages[i] = (dp_page_id)below(w, PAGE_COUNT);
    dp_tier_prefetch(w->tier, pages, DP_ARRAY_LEN(pages), below(w, 4));
    if (below(w, 2))
        dp_tier_give_up(w->tier, pages, DP_ARRAY_LEN(pages));
}

static void step(world *w)
{
    asked *asked = &w->asked[below(w, BATCH_COUNT)];
    uint64_t choice = below(w, 100);
    dp_tier_stats stats;

    if (w->fail_percent && below(w, 20) == 0)
        dp_fault_arm(DP_FAULT_MEM, below(w, 3), 1);
    w->clock.virtual_ns += below(w, 100000);
    if (choice < 20)
        step_want(w, asked);
    else if (choice < 45)
        step_next(w, asked);
    else if (choice < 60)
        step_release(w);
    else if (choice < 80)
        dp_source_fake_end_any(&w->fake, w->fail_percent, false);
    else if (choice < 88)
        step_prefetch(w);
    else if (choice < 94)
        dp_tier_tick(w->tier);
    else if (choice < 96)
        step_budget(w);
    else if (choice < 97)
        step_pin(w);
    else if (asked->is_begun) {
        dp_tier_batch_end(&asked->batch);
        asked->is_begun = false;
    }
    dp_fault_disarm(DP_FAULT_MEM);
    dp_tier_check(w->tier);
    dp_tier_stats_read(w->tier, &stats);
    CHECK(stats.slot_bytes_max <= w->budget_max, "(4)");
}

/* Nothing is asked for any more, leases end as they come: all batches must end. */
static void drain(world *w)
{
    int rounds = 0;

    for (bool is_busy = true; is_busy; rounds++) {
        CHECK(rounds < 100, "somebody waits for ever");
        is_busy = false;
        dp_source_fake_end_all(&w->fake);
        for (size_t i = 0; i < BATCH_COUNT; i++)
            step_next(w, &w->asked[i]);
        while (w->lease_count)
            dp_tier_release(w->tier, &w->leases[--w->lease_count]);
        for (size_t i = 0; i < BATCH_COUNT; i++)
            is_busy |= w->asked[i].is_begun;
        dp_tier_check(w->tier);
    }
}

/* In-flight loads at the end are canceled; late ones need somebody to end them. */
static void world_close(world *w)
{
    dp_tier_stats stats;
    uint64_t wants;

    dp_tier_stats_read(w->tier, &stats);
    wants = stats.expert_hits + stats.expert_misses + stats.expert_prefetch_hits +
            stats.always_hits + stats.always_misses + stats.always_prefetch_hits;
    CHECK(wants == w->want_count, "%d of %d wants counted", (int)wants, (int)w->want_count);
    CHECK(stats.lease_count == 0, "leases");
    dp_source_fake_end_all(&w->fake);
    dp_tier_close(w->tier);
    dp_source_fake_deinit(&w->fake);
}

static void test_random_calls(void **unused)
{
    dp_mem_stats before;
    dp_mem_stats after;

    dp_mem_stats_read(&before);
    for (uint64_t seed = 0; seed < SEED_COUNT; seed++) {
        static world w;
        world_open(&w, seed);
        for (int i = 0; i < STEP_COUNT; i++)
            step(&w);
        drain(&w);
        world_close(&w);
        dp_mem_stats_read(&after);
        CHECK(!memcmp(&before, &after, sizeof before), "seed %d leaks", (int)seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_random_calls) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
