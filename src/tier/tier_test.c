#include "tier/tier.h"

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"
#include "tier/source_fake.h"
#include "tier/tier_impl.h"

#define PAGE_BYTES 8192
#define PAGES_MAX  64

/* A tier of equal pages over a fake source. */
typedef struct bench {
    dp_source_fake fake;
    dp_clock clock;
    dp_tier *tier;
    dp_page_id pages[PAGES_MAX];
} bench;

static dp_page_desc page_desc(uint32_t index, uint32_t part_count)
{
    dp_page_desc desc = { DP_PAGE_EXPERT, index / 8, index % 8, part_count };

    for (uint32_t i = 0; i < part_count; i++)
        desc.parts[i] = (dp_page_part){ i % 2, (uint64_t)index * PAGE_BYTES + 100 * i,
                                        PAGE_BYTES / part_count - 64 };
    return desc;
}

static void bench_open(bench *b, uint32_t page_count, uint32_t slot_count)
{
    dp_tier_config config = { (uint64_t)slot_count * PAGE_BYTES, &dp_policy_lru, &b->fake.base,
                              &b->clock };
    dp_error err;

    dp_source_fake_init(&b->fake, 1);
    dp_clock_init_virtual(&b->clock);
    CHECK_OK(dp_tier_open(&b->tier, &config, &err), err);
    for (uint32_t i = 0; i < page_count; i++) {
        dp_page_desc desc = page_desc(i, 2);
        CHECK_OK(dp_tier_add_page(b->tier, &desc, &b->pages[i], &err), err);
        CHECK(dp_tier_page_bytes(b->tier, b->pages[i]) == PAGE_BYTES, "page size");
    }
}

static void bench_close(bench *b)
{
    dp_tier_close(b->tier);
    dp_source_fake_deinit(&b->fake);
}

static dp_tier_stats stats_of(bench *b)
{
    dp_tier_stats stats;

    dp_tier_check(b->tier);
    dp_tier_stats_read(b->tier, &stats);
    return stats;
}

/* Ends both reads of the page loaded first. */
static void end_page(bench *b, dp_status st)
{
    dp_source_fake_end(&b->fake, 0, st);
    if (st == DP_OK)
        dp_source_fake_end(&b->fake, 0, st);
}

static bool has_data(const bench *b, const dp_lease *lease)
{
    dp_page_desc desc = page_desc(lease->page, 2);

    for (uint32_t i = 0; i < desc.part_count; i++)
        for (uint64_t j = 0; j < desc.parts[i].size; j++)
            if (lease->parts[i][j] !=
                dp_source_fake_byte(desc.parts[i].file_index, desc.parts[i].offset + j))
                return false;
    return true;
}

/* Brings pages in, one after the other, and releases them. */
static void use_pages(bench *b, const dp_page_id *pages, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        dp_tier_batch batch;
        uint8_t state;
        dp_lease lease;
        size_t index;
        dp_error err;

        CHECK_OK(dp_tier_want(b->tier, &pages[i], 1, &state, &batch, &err), err);
        dp_source_fake_end_all(&b->fake);
        CHECK_OK(dp_tier_next(&batch, &lease, &index, 0, &err), err);
        dp_tier_batch_end(&batch);
        dp_tier_release(b->tier, &lease);
    }
}

static bool is_resident(bench *b, uint32_t i)
{
    return b->tier->pages[b->pages[i]]->state == DP_PAGE_RESIDENT;
}

static void test_hits_come_first_then_arrivals(void **unused)
{
    const dp_page_id wanted[] = { 5, 1, 4, 0 };
    const size_t order[] = { 1, 3, 2, 0 }; /* hits 1 and 0; 4 arrives before 5 */
    dp_tier_batch batch;
    uint8_t states[4];
    dp_lease lease;
    size_t index;
    dp_error err;
    bench b;

    bench_open(&b, 6, 6);
    use_pages(&b, (dp_page_id[]){ 0, 1 }, 2);
    CHECK_OK(dp_tier_want(b.tier, wanted, 4, states, &batch, &err), err);
    dp_source_fake_end(&b.fake, 3, DP_OK);
    dp_source_fake_end(&b.fake, 2, DP_OK);
    dp_source_fake_end_all(&b.fake);
    for (size_t i = 0; i < 4; i++) {
        CHECK_OK(dp_tier_next(&batch, &lease, &index, 0, &err), err);
        CHECK(index == order[i] && lease.page == wanted[index] && has_data(&b, &lease), "%zu", i);
        dp_tier_release(b.tier, &lease);
    }
    CHECK(dp_tier_next(&batch, &lease, &index, 0, &err) == DP_E_NOTFOUND, "all served");
    dp_tier_batch_end(&batch);
    dp_tier_batch_end(&batch);
    CHECK(stats_of(&b).expert_hits == 2 && stats_of(&b).expert_misses == 4, "hits, misses");
    bench_close(&b);
}

/* Room for one page: the batch still gets all, one at a time. */
static void test_batch_larger_than_budget(void **unused)
{
    dp_tier_batch batch;
    uint8_t states[8];
    size_t index;
    dp_error err;
    bench b;

    bench_open(&b, 8, 1);
    CHECK_OK(dp_tier_want(b.tier, b.pages, 8, states, &batch, &err), err);
    for (size_t i = 0; i < 8; i++) {
        dp_lease lease;
        CHECK(b.fake.waiting_count == 2, "one page loads");
        CHECK(dp_tier_next(&batch, &lease, &index, 0, &err) == DP_E_TIMEOUT, "not yet");
        CHECK(strstr(err.text, "expert") && strstr(err.text, "fake"), "%s", err.text);
        dp_source_fake_end_all(&b.fake);
        CHECK_OK(dp_tier_next(&batch, &lease, &index, 0, &err), err);
        CHECK(index == i && has_data(&b, &lease), "%zu", index);
        CHECK(stats_of(&b).slot_bytes == PAGE_BYTES, "(4)");
        dp_tier_release(b.tier, &lease);
    }
    dp_tier_batch_end(&batch);
    CHECK(stats_of(&b).slot_bytes_max == PAGE_BYTES && stats_of(&b).evictions == 7, "(4)");
    bench_close(&b);
}

/* The stream of tier.h: pages in order, sweep after sweep, each wanted two pages early. */
static void test_stream_reads_ahead(void **unused)
{
    enum { AHEAD = 2, PAGES = 8, SWEEPS = 3 };
    dp_tier_batch batches[AHEAD + 1];
    uint8_t states[AHEAD + 1];
    dp_error err;
    bench b;

    bench_open(&b, PAGES, AHEAD + 1);
    for (size_t i = 0; i < PAGES * SWEEPS + AHEAD; i++) {
        size_t wanted = i % (AHEAD + 1);
        size_t used = (i + 1) % (AHEAD + 1); /* begun AHEAD turns ago */
        dp_lease lease;
        size_t index;

        if (i < PAGES * SWEEPS)
            CHECK_OK(dp_tier_want(b.tier, &b.pages[i % PAGES], 1, &states[wanted], &batches[wanted],
                                  &err),
                     err);
        CHECK(i >= PAGES * SWEEPS || b.fake.waiting_count == 2, "the next page is being read");
        dp_source_fake_end_all(&b.fake);
        if (i < AHEAD)
            continue;
        CHECK_OK(dp_tier_next(&batches[used], &lease, &index, 0, &err), err);
        CHECK(lease.page == b.pages[(i - AHEAD) % PAGES] && has_data(&b, &lease), "in order");
        dp_tier_batch_end(&batches[used]);
        dp_tier_release(b.tier, &lease);
        dp_tier_check(b.tier);
    }
    CHECK(stats_of(&b).loads == PAGES * SWEEPS, "no locality in a sweep");
    bench_close(&b);
}

/* Two batches over the same pages and room for two: each is served. */
static void test_two_batches_share(void **unused)
{
    const dp_page_id orders[2][4] = { { 0, 1, 2, 3 }, { 3, 2, 1, 0 } };
    dp_tier_batch batches[2];
    uint8_t states[2][4];
    size_t served = 0;
    dp_error err;
    bench b;

    bench_open(&b, 4, 2);
    for (int i = 0; i < 2; i++)
        CHECK_OK(dp_tier_want(b.tier, orders[i], 4, states[i], &batches[i], &err), err);
    for (int round = 0; round < 16 && served < 8; round++) {
        dp_source_fake_end_all(&b.fake);
        for (int i = 0; i < 2; i++) {
            dp_lease lease;
            size_t index;
            if (dp_tier_next(&batches[i], &lease, &index, 0, &err) != DP_OK)
                continue;
            CHECK(has_data(&b, &lease), "data");
            dp_tier_release(b.tier, &lease);
            served++;
        }
        dp_tier_check(b.tier);
    }
    CHECK(served == 8, "served %zu", served);
    CHECK(stats_of(&b).loads == 4, "shared loads: %d", (int)stats_of(&b).loads);
    for (int i = 0; i < 2; i++)
        dp_tier_batch_end(&batches[i]);
    bench_close(&b);
}

/* (5), and a retry is a new load. */
static void test_failure_reaches_everyone(void **unused)
{
    dp_tier_batch batches[2];
    uint8_t states[2];
    dp_lease lease;
    size_t index;
    dp_error err;
    bench b;

    bench_open(&b, 2, 2);
    for (int i = 0; i < 2; i++)
        CHECK_OK(dp_tier_want(b.tier, b.pages, 1, &states[i], &batches[i], &err), err);
    end_page(&b, DP_E_IO);
    CHECK(b.fake.waiting_count == 0, "the other part was taken back");
    CHECK(stats_of(&b).load_failures == 1, "(5)");
    for (int i = 0; i < 2; i++) {
        for (int again = 0; again < 2; again++) {
            CHECK(dp_tier_next(&batches[i], &lease, &index, 0, &err) == DP_E_IO, "%d", i);
            CHECK(index == 0 && strstr(err.text, "file 0: read at byte 0"), "%s", err.text);
        }
        dp_tier_batch_end(&batches[i]);
    }
    use_pages(&b, b.pages, 1);
    CHECK(is_resident(&b, 0), "loaded anew");
    bench_close(&b);
}

static void test_prefetch_is_counted_apart(void **unused)
{
    dp_tier_stats stats;
    dp_tier_batch batch;
    uint8_t states[3];
    dp_error err;
    bench b;

    bench_open(&b, 8, 6);
    dp_tier_prefetch(b.tier, b.pages, 3, 0);
    CHECK(b.fake.prefetch_count == 6, "three pages of two parts");
    end_page(&b, DP_OK); /* page 0 came, 1 and 2 are in flight */
    CHECK_OK(dp_tier_want(b.tier, b.pages, 3, states, &batch, &err), err);
    CHECK(b.fake.promote_count == 4, "both in flight are promoted");
    dp_source_fake_end_all(&b.fake);
    dp_tier_batch_end(&batch);
    stats = stats_of(&b);
    CHECK(stats.expert_prefetch_hits == 3 && stats.expert_hits == 0 && stats.expert_misses == 0,
          "prefetch hits");
    CHECK(stats.prefetch_useful_bytes == 3 * (PAGE_BYTES - 128), "useful");
    CHECK(stats.prefetch_wasted_bytes == 0, "wasted");
    bench_close(&b);
}

/* (6) */
static void test_prefetch_leaves_room_and_what_is_used(void **unused)
{
    dp_tier_stats stats;
    bench b;

    bench_open(&b, 16, 4);
    dp_tier_prefetch(b.tier, b.pages, 16, 0);
    CHECK(b.fake.submit_count == 6, "room of the largest page stays: %d", (int)b.fake.submit_count);
    dp_source_fake_end_all(&b.fake);
    use_pages(&b, &b.pages[3], 1);
    dp_tier_tick(b.tier);
    dp_tier_prefetch(b.tier, &b.pages[8], 4, 0);
    CHECK(b.fake.waiting_count == 2, "what was hinted in the last step stays, used or not");
    CHECK(!is_resident(&b, 3), "what was used may leave");
    dp_source_fake_end_all(&b.fake);
    dp_tier_tick(b.tier);
    dp_tier_prefetch(b.tier, &b.pages[8], 4, 0);
    CHECK(b.fake.waiting_count == 6, "now it leaves");
    CHECK(is_resident(&b, 8), "but the one that is hinted again");
    stats = stats_of(&b);
    CHECK(stats.prefetch_wasted_bytes == 3 * (PAGE_BYTES - 128), "wasted");
    dp_tier_tick(b.tier);
    CHECK(b.fake.waiting_count == 6, "not stale yet");
    dp_tier_tick(b.tier);
    CHECK(b.fake.waiting_count == 0, "stale ones are canceled");
    bench_close(&b);
}

static void test_demand_takes_room_of_prefetch(void **unused)
{
    dp_tier_batch batch;
    uint8_t states[4];
    dp_error err;
    bench b;

    bench_open(&b, 16, 4);
    dp_tier_prefetch(b.tier, b.pages, 3, 0);
    CHECK_OK(dp_tier_want(b.tier, &b.pages[8], 4, states, &batch, &err), err);
    CHECK(b.fake.cancel_count == 6 && b.fake.waiting_count == 8, "all room is for demand");
    dp_tier_prefetch(b.tier, b.pages, 3, 0);
    CHECK(b.fake.waiting_count == 8, "no prefetch while demand needs all");
    dp_source_fake_end_all(&b.fake);
    dp_tier_batch_end(&batch);
    dp_tier_check(b.tier);
    bench_close(&b);
}

static void test_hints_are_given_up(void **unused)
{
    dp_tier_batch batch;
    uint8_t states[1];
    dp_tier_stats stats;
    dp_error err;
    bench b;

    bench_open(&b, 16, 6);
    dp_tier_prefetch(b.tier, b.pages, 4, 0);
    end_page(&b, DP_OK); /* page 0 came; page 1 is wanted; 2 and 3 are in flight */
    CHECK_OK(dp_tier_want(b.tier, &b.pages[1], 1, states, &batch, &err), err);
    dp_tier_give_up(b.tier, b.pages, 3);
    CHECK(b.fake.cancel_count == 2 && b.fake.waiting_count == 4, "page 2 alone is canceled");
    dp_tier_check(b.tier);
    dp_source_fake_end_all(&b.fake);
    dp_tier_batch_end(&batch);
    CHECK(is_resident(&b, 0) && is_resident(&b, 1) && !is_resident(&b, 2) && is_resident(&b, 3),
          "what came stays");
    stats = stats_of(&b);
    CHECK(dp_latency_count(&stats.times.covered) == 1, "waited for, read ahead");
    CHECK(dp_latency_count(&stats.times.ahead) == 2, "read ahead");
    CHECK(dp_latency_count(&stats.times.turn) == 1, "a turn");
    CHECK(dp_latency_count(&stats.times.demand) == 0, "nothing had to be asked for");
    /* Demand takes what was given up before what is hinted. */
    use_pages(&b, &b.pages[8], 4);
    use_pages(&b, &b.pages[12], 1);
    CHECK(!is_resident(&b, 0) && is_resident(&b, 3), "hinted: leaves last");
    dp_tier_tick(b.tier);
    dp_tier_tick(b.tier);
    use_pages(&b, &b.pages[8], 5);
    use_pages(&b, &b.pages[4], 1);
    CHECK(!is_resident(&b, 3), "no longer hinted");
    bench_close(&b);
}

/* A prefetch that cannot be taken back any more is wanted after all: the waiter gets a
 * new load instead of the word that it was canceled. */
static void test_wanted_after_cancel(void **unused)
{
    dp_tier_batch batches[2];
    uint8_t states[2][4];
    dp_lease lease;
    size_t index;
    dp_error err;
    bench b;

    bench_open(&b, 16, 4);
    b.fake.late_percent = 100;
    dp_tier_prefetch(b.tier, b.pages, 3, 0);
    CHECK_OK(dp_tier_want(b.tier, &b.pages[8], 4, states[0], &batches[0], &err), err);
    CHECK_OK(dp_tier_want(b.tier, b.pages, 1, states[1], &batches[1], &err), err);
    dp_tier_check(b.tier);
    dp_source_fake_end_all(&b.fake);
    for (int i = 0; i < 4; i++) {
        dp_source_fake_end_all(&b.fake);
        CHECK_OK(dp_tier_next(&batches[0], &lease, &index, 0, &err), err);
        dp_tier_release(b.tier, &lease);
    }
    dp_source_fake_end_all(&b.fake);
    CHECK_OK(dp_tier_next(&batches[1], &lease, &index, 0, &err), err);
    CHECK(has_data(&b, &lease), "data");
    dp_tier_release(b.tier, &lease);
    dp_tier_batch_end(&batches[0]);
    dp_tier_batch_end(&batches[1]);
    CHECK(stats_of(&b).load_failures == 0, "canceled is not failed");
    bench_close(&b);
}

typedef struct pin_log {
    bench *bench;
    uint64_t last, total;
    uint32_t calls, calls_max;
} pin_log;

static bool pin_progress(void *user, uint64_t done, uint64_t total)
{
    pin_log *log = user;

    CHECK(done >= log->last && done <= total, "progress grows");
    log->last = done;
    log->total = total;
    dp_source_fake_end_all(&log->bench->fake);
    return ++log->calls < log->calls_max;
}

static void test_pin(void **unused)
{
    bench b;
    pin_log log = { &b, .calls_max = 100 };
    pin_log log_canceled = { &b, .calls_max = 1 };
    dp_error err;

    bench_open(&b, 8, 4);
    CHECK(dp_tier_pin(b.tier, b.pages, 2, pin_progress, &log_canceled, &err) == DP_E_CANCELED,
          "canceled");
    CHECK(stats_of(&b).pinned_bytes == 0, "nothing stays pinned");
    dp_source_fake_end_all(&b.fake);
    CHECK_OK(dp_tier_pin(b.tier, b.pages, 3, pin_progress, &log, &err), err);
    CHECK(log.last == log.total && log.total == 3 * (PAGE_BYTES - 128), "all was reported");
    CHECK(dp_tier_pin(b.tier, &b.pages[3], 1, NULL, NULL, &err) == DP_E_BUDGET,
          "room for one more");
    CHECK(strstr(err.text, "32768") && strstr(err.text, "--ram"), "%s", err.text);
    CHECK(stats_of(&b).pinned_bytes == 3 * PAGE_BYTES, "three stay");
    CHECK_OK(dp_tier_pin(b.tier, b.pages, 3, NULL, NULL, &err), err); /* again: a hit */
    for (int i = 0; i < 3; i++) {
        dp_tier_tick(b.tier);
        use_pages(&b, &b.pages[3], 5);
    }
    CHECK(is_resident(&b, 0) && is_resident(&b, 1) && is_resident(&b, 2), "(2)");
    CHECK(dp_tier_set_budget(b.tier, 4 * PAGE_BYTES - 1, &err) == DP_E_BUDGET, "%s", err.text);
    bench_close(&b);
}

/* A pinned page takes no slot larger than what was counted for it: the largest page
 * would not fit beside it any more. */
static void test_pinned_slots_are_exact(void **unused)
{
    static const uint64_t sizes[] = { 21 * 4096, 19 * 4096, 20 * 4096 };
    bench b;
    pin_log log = { &b, .calls_max = 100 };
    dp_error err;

    bench_open(&b, 0, 41 * 4096 / PAGE_BYTES + 1);
    for (uint32_t i = 0; i < 3; i++) {
        dp_page_desc desc = { DP_PAGE_EXPERT, 0, i, 1, { { 0, 0, sizes[i] } } };
        CHECK_OK(dp_tier_add_page(b.tier, &desc, &b.pages[i], &err), err);
    }
    CHECK_OK(dp_tier_set_budget(b.tier, 41 * 4096, &err), err);
    use_pages(&b, b.pages, 2);
    CHECK_OK(dp_tier_pin(b.tier, &b.pages[2], 1, pin_progress, &log, &err), err);
    CHECK(stats_of(&b).pinned_bytes == 20 * 4096 && !is_resident(&b, 0), "exact");
    use_pages(&b, b.pages, 2);
    bench_close(&b);
}

/* Of those that leave next, one whose slot is as large as what comes; the first if none is. */
static void test_who_leaves_fits(void **unused)
{
    static const uint64_t sizes[] = { 16, 24, 16, 24, 40, 16 }; /* of 4096 bytes */
    bench b;
    dp_error err;

    bench_open(&b, 0, 80 * 4096 / PAGE_BYTES);
    for (uint32_t i = 0; i < DP_ARRAY_LEN(sizes); i++) {
        dp_page_desc desc = { DP_PAGE_EXPERT, 0, i, 1, { { 0, 0, sizes[i] * 4096 } } };
        CHECK_OK(dp_tier_add_page(b.tier, &desc, &b.pages[i], &err), err);
    }
    for (uint32_t i = 0; i < 3; i++) /* 16 + 24 + 16 of 80 */
        use_pages(&b, &b.pages[i], 1);
    use_pages(&b, &b.pages[3], 1); /* 24 */
    use_pages(&b, &b.pages[5], 1); /* 16: the first leaves, it fits */
    CHECK(!is_resident(&b, 0) && is_resident(&b, 1), "the first");
    use_pages(&b, &b.pages[0], 1); /* 16: not the first, of 24 */
    CHECK(is_resident(&b, 1) && !is_resident(&b, 2) && is_resident(&b, 3), "one that fits");
    use_pages(&b, &b.pages[4], 1); /* 40: none fits */
    CHECK(!is_resident(&b, 1) && !is_resident(&b, 3) && is_resident(&b, 0), "as many as it takes");
    bench_close(&b);
}

static void test_pin_fails(void **unused)
{
    dp_error err;
    bench b;

    bench_open(&b, 8, 4);
    use_pages(&b, b.pages, 3);
    for (uint64_t visit = 0;; visit++) {
        dp_status st;
        dp_fault_arm(DP_FAULT_MEM, visit, 1);
        st = dp_tier_pin(b.tier, b.pages, 3, NULL, NULL, &err);
        if (!dp_fault_disarm(DP_FAULT_MEM))
            break;
        CHECK(st == DP_E_NOMEM && stats_of(&b).pinned_bytes == 0, "visit %d", (int)visit);
    }
    CHECK(stats_of(&b).pinned_bytes == 3 * PAGE_BYTES, "pinned");
    bench_close(&b);
}

static void test_never_fits(void **unused)
{
    dp_tier_batch batch;
    uint8_t states[2];
    dp_error err;
    bench b;

    bench_open(&b, 2, 1);
    CHECK_OK(dp_tier_set_budget(b.tier, PAGE_BYTES, &err), err);
    CHECK(dp_tier_set_budget(b.tier, PAGE_BYTES - 1, &err) == DP_E_BUDGET, "%s", err.text);
    b.tier->slots.budget_bytes--;
    CHECK(dp_tier_want(b.tier, b.pages, 2, states, &batch, &err) == DP_E_BUDGET, "want");
    CHECK(strstr(err.text, "expert 0 of layer 0") && strstr(err.text, "8191"), "%s", err.text);
    dp_tier_batch_end(&batch);
    CHECK(stats_of(&b).expert_misses == 0, "nothing begun");
    bench_close(&b);
}

static void test_budget_shrinks_as_leases_end(void **unused)
{
    dp_lease leases[3];
    dp_error err;
    bench b;

    bench_open(&b, 4, 4);
    use_pages(&b, b.pages, 4);
    for (int i = 0; i < 3; i++)
        CHECK_OK(dp_tier_acquire(b.tier, b.pages[i], &leases[i], 0, &err), err);
    CHECK_OK(dp_tier_set_budget(b.tier, PAGE_BYTES, &err), err);
    CHECK(stats_of(&b).slot_bytes == 3 * PAGE_BYTES, "what may leave has left");
    for (uint64_t i = 0; i < 3; i++) {
        CHECK(has_data(&b, &leases[i]), "(1)");
        dp_tier_release(b.tier, &leases[i]);
        CHECK(stats_of(&b).slot_bytes == DP_MAX(2 - i, 1) * PAGE_BYTES, "one less");
    }
    bench_close(&b);
}

/* Every allocation of a load fails once: one sentence, nothing leaked, and the next try
 * succeeds. */
static void test_memory_is_short(void **unused)
{
    dp_mem_stats before;
    dp_mem_stats after;
    uint64_t visit = 0;

    dp_mem_stats_read(&before);
    for (bool is_through = false; !is_through; visit++) {
        dp_tier_batch batch;
        uint8_t state;
        dp_lease lease;
        size_t index;
        dp_error err;
        bench b;

        bench_open(&b, 2, 1);
        dp_fault_arm(DP_FAULT_MEM, visit, 1);
        CHECK_OK(dp_tier_want(b.tier, b.pages, 1, &state, &batch, &err), err);
        is_through = dp_fault_disarm(DP_FAULT_MEM) == 0;
        if (!is_through) {
            CHECK(dp_tier_next(&batch, &lease, &index, 0, &err) == DP_E_NOMEM, "%d", (int)visit);
            CHECK(strstr(err.text, "expert 0 of layer 0"), "%s", err.text);
        }
        dp_source_fake_end_all(&b.fake);
        dp_tier_batch_end(&batch);
        CHECK(stats_of(&b).load_failures == !is_through, "(5)");
        use_pages(&b, b.pages, 2);
        bench_close(&b);
    }
    CHECK(visit == 4, "slot, region, load: %d", (int)visit);
    dp_mem_stats_read(&after);
    CHECK(!memcmp(&before, &after, sizeof before), "leak");
}

static dp_status open_with_pages(dp_tier **out, dp_source *source, dp_error *err)
{
    dp_tier_config config = { PAGE_BYTES, &dp_policy_lfru, source, &dp_clock_real };
    dp_status st = dp_tier_open(out, &config, err);

    for (uint32_t i = 0; st == DP_OK && i < 300; i++) {
        dp_page_desc desc = page_desc(i, 1 + i % DP_PAGE_PARTS_MAX);
        dp_page_id id;
        st = dp_tier_add_page(*out, &desc, &id, err);
        CHECK(st ? id == DP_PAGE_NONE : id == i, "id");
    }
    return st;
}

static void test_open_when_memory_is_short(void **unused)
{
    dp_mem_stats before;
    dp_mem_stats after;
    dp_source_fake fake;

    dp_source_fake_init(&fake, 1);
    dp_mem_stats_read(&before);
    for (uint64_t visit = 0;; visit++) {
        dp_tier *tier;
        dp_error err;
        dp_status st;

        dp_fault_arm(DP_FAULT_MEM, visit, 1);
        st = open_with_pages(&tier, &fake.base, &err);
        CHECK((st == DP_E_NOMEM) == (dp_fault_disarm(DP_FAULT_MEM) == 1), "%d", st);
        if (tier)
            CHECK(dp_tier_page_count(tier) <= 300, "count");
        dp_tier_close(tier);
        dp_mem_stats_read(&after);
        CHECK(!memcmp(&before, &after, sizeof before), "visit %d leaks", (int)visit);
        if (st == DP_OK)
            break;
    }
    dp_source_fake_deinit(&fake);
}

/* Parts lie apart as the source needs, and together take little more than they are. */
static void test_page_layout(void **unused)
{
    static const struct {
        bool is_direct;
        uint32_t part_count;
        uint64_t offset, size; /* of each part */
        uint64_t bytes;
    } rows[] = {
        { false, 3, 32, 13824, 45056 }, { false, 3, 32, 1, 4096 },    { false, 24, 0, 65, 4096 },
        { true, 1, 0, 4096, 4096 },     { true, 3, 32, 8192, 36864 }, { true, 2, 4000, 100, 16384 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_page_desc desc = { DP_PAGE_ALWAYS, 1, 0, rows[i].part_count };
        dp_source_fake fake;
        dp_page *page;
        dp_error err;

        dp_source_fake_init(&fake, 1);
        fake.is_direct = rows[i].is_direct;
        for (uint32_t part = 0; part < desc.part_count; part++)
            desc.parts[part] = (dp_page_part){ 0, rows[i].offset, rows[i].size };
        CHECK_OK(dp_page_open(&page, &desc, &fake.base, &err), err);
        CHECK(page->bytes == rows[i].bytes, "row %zu: %d", i, (int)page->bytes);
        dp_page_close(page);
        dp_source_fake_deinit(&fake);
    }
}

static void test_page_limits(void **unused)
{
    dp_page_desc desc = {
        DP_PAGE_ALWAYS, 3, 0, 2, { { 0, 0, UINT64_MAX / 2 }, { 0, 0, UINT64_MAX } }
    };
    dp_source_fake fake;
    dp_page *page;
    dp_error err;

    dp_source_fake_init(&fake, 1);
    CHECK(dp_page_open(&page, &desc, &fake.base, &err) == DP_E_LIMIT && !page, "too large");
    desc.part_count = 0;
    CHECK(dp_page_open(&page, &desc, &fake.base, &err) == DP_E_LIMIT, "no part");
    desc.part_count = DP_PAGE_PARTS_MAX + 1;
    CHECK(dp_page_open(&page, &desc, &fake.base, &err) == DP_E_LIMIT, "too many parts");
    dp_source_fake_deinit(&fake);
}

static bool is_near(uint64_t ns, double wanted_ns)
{
    return (double)ns > 0.91 * wanted_ns && (double)ns < 1.1 * wanted_ns;
}

static void test_latencies(void **unused)
{
    dp_tier_stats stats = { 0 };
    bench b;

    CHECK(dp_latency_quantile(&stats.times.demand, 0.5) == 0, "empty");
    bench_open(&b, 64, 64);
    for (uint32_t i = 0; i < 64; i++) {
        dp_tier_batch batch;
        uint8_t state;
        dp_error err;
        CHECK_OK(dp_tier_want(b.tier, &b.pages[i], 1, &state, &batch, &err), err);
        b.clock.virtual_ns += i < 60 ? 2000000 : 5000000000;
        dp_source_fake_end_all(&b.fake);
        dp_tier_batch_end(&batch);
    }
    stats = stats_of(&b);
    CHECK(is_near(dp_latency_quantile(&stats.times.demand, 0.5), 2e6), "2 ms");
    CHECK(is_near(dp_latency_quantile(&stats.times.demand, 0.99), 5e9), "5 s");
    bench_close(&b);
}

static void end_reads(void *user)
{
    while (dp_source_fake_end_any(user, 0, true))
        continue;
}

/* A page that is resident, one whose load is taken back, and one whose cancel comes too
 * late are forgotten; their numbers serve again. */
static void test_pages_come_and_go(void **unused)
{
    dp_thread disk;
    dp_error err;
    bench b;

    bench_open(&b, 8, 4);
    use_pages(&b, &b.pages[1], 1);
    dp_tier_prefetch(b.tier, &b.pages[2], 1, 0);
    dp_tier_remove_page(b.tier, b.pages[1]);
    dp_tier_remove_page(b.tier, b.pages[2]);
    CHECK(stats_of(&b).page_count == 6 && stats_of(&b).resident_count == 0, "two are gone");
    b.fake.late_percent = 100;
    dp_tier_prefetch(b.tier, &b.pages[3], 1, 0);
    CHECK_OK(dp_thread_start(&disk, "disk", end_reads, &b.fake, &err), err);
    dp_tier_remove_page(b.tier, b.pages[3]);
    dp_source_fake_stop(&b.fake);
    dp_thread_join(&disk);
    CHECK(stats_of(&b).page_count == 5 && stats_of(&b).load_failures == 0, "no failure");
    for (uint32_t i = 1; i <= 3; i++) {
        dp_page_desc desc = page_desc(i, 2);
        CHECK_OK(dp_tier_add_page(b.tier, &desc, &b.pages[i], &err), err);
        CHECK(b.pages[i] == i, "number %u", b.pages[i]);
    }
    use_pages(&b, b.pages, 8);
    CHECK(stats_of(&b).page_count == 8 && dp_tier_page_count(b.tier) == 8, "all are back");
    dp_tier_remove_page(b.tier, b.pages[7]); /* a hole is there when it closes */
    bench_close(&b);
}

static void test_unpin(void **unused)
{
    dp_error err;
    bench b;

    bench_open(&b, 8, 4);
    dp_source_fake_end_all(&b.fake);
    dp_tier_prefetch(b.tier, b.pages, 3, 0);
    dp_source_fake_end_all(&b.fake);
    CHECK_OK(dp_tier_pin(b.tier, b.pages, 3, NULL, NULL, &err), err);
    dp_tier_unpin(b.tier, &b.pages[1], 3); /* the last of them was not pinned */
    CHECK(stats_of(&b).pinned_bytes == PAGE_BYTES, "one stays");
    for (int i = 0; i < 3; i++) {
        dp_tier_tick(b.tier);
        use_pages(&b, &b.pages[4], 4);
    }
    CHECK(is_resident(&b, 0) && !is_resident(&b, 1) && !is_resident(&b, 2), "may leave again");
    CHECK_OK(dp_tier_set_budget(b.tier, 2 * PAGE_BYTES, &err), err);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hits_come_first_then_arrivals),
        cmocka_unit_test(test_batch_larger_than_budget),
        cmocka_unit_test(test_stream_reads_ahead),
        cmocka_unit_test(test_two_batches_share),
        cmocka_unit_test(test_failure_reaches_everyone),
        cmocka_unit_test(test_prefetch_is_counted_apart),
        cmocka_unit_test(test_prefetch_leaves_room_and_what_is_used),
        cmocka_unit_test(test_demand_takes_room_of_prefetch),
        cmocka_unit_test(test_hints_are_given_up),
        cmocka_unit_test(test_wanted_after_cancel),
        cmocka_unit_test(test_pin),
        cmocka_unit_test(test_pinned_slots_are_exact),
        cmocka_unit_test(test_who_leaves_fits),
        cmocka_unit_test(test_pin_fails),
        cmocka_unit_test(test_unpin),
        cmocka_unit_test(test_pages_come_and_go),
        cmocka_unit_test(test_never_fits),
        cmocka_unit_test(test_budget_shrinks_as_leases_end),
        cmocka_unit_test(test_memory_is_short),
        cmocka_unit_test(test_open_when_memory_is_short),
        cmocka_unit_test(test_page_layout),
        cmocka_unit_test(test_page_limits),
        cmocka_unit_test(test_latencies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
