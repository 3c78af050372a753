#include "tier/heat.h"

#include <math.h>

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"
#include "tier/source_fake.h"

#define LAYERS     2
#define EXPERTS    8
#define PAGE_BYTES 4096
#define IDENTITY   77

typedef struct bench {
    dp_source_fake fake;
    dp_tier *tier;
} bench;

static void open_bench(bench *b, uint32_t budget_pages)
{
    dp_page_desc desc = { .kind = DP_PAGE_EXPERT, .part_count = 1 };
    dp_tier_config config = { (uint64_t)budget_pages * PAGE_BYTES,
                              &dp_policy_next,
                              &b->fake.base,
                              &dp_clock_real,
                              LAYERS,
                              EXPERTS };
    dp_page_id id;

    dp_source_fake_init(&b->fake, 1);
    CHECK(dp_tier_open(&b->tier, &config, NULL) == DP_OK, "memory");
    for (uint32_t p = 0; p < LAYERS * EXPERTS; p++) {
        desc.layer = p / EXPERTS;
        desc.index = p % EXPERTS;
        desc.parts[0] = (dp_page_part){ 0, (uint64_t)p * PAGE_BYTES, PAGE_BYTES };
        CHECK(dp_tier_add_page(b->tier, &desc, &id, NULL) == DP_OK && id == p, "page %u", p);
    }
}

static void close_bench(bench *b)
{
    dp_tier_close(b->tier);
    dp_source_fake_deinit(&b->fake);
}

static void want_one(bench *b, dp_page_id page)
{
    dp_tier_batch batch;
    uint8_t scratch;
    dp_lease lease;
    size_t index;

    CHECK(dp_tier_want(b->tier, &page, 1, &scratch, &batch, NULL) == DP_OK, "want");
    dp_source_fake_end_all(&b->fake);
    CHECK(dp_tier_next(&batch, &lease, &index, 0, NULL) == DP_OK, "page %u", page);
    dp_tier_release(b->tier, &lease);
    dp_tier_batch_end(&batch);
}

/* Expert e of both layers every 2^e-th step. */
static void run_steps(bench *b, uint32_t steps)
{
    for (uint32_t s = 1; s <= steps; s++) {
        uint32_t e = (uint32_t)__builtin_ctz(s) % EXPERTS;
        dp_tier_tick(b->tier);
        for (uint32_t l = 0; l < LAYERS; l++)
            want_one(b, l * EXPERTS + e);
    }
}

static uint64_t hits_of(bench *b)
{
    dp_tier_stats stats;

    dp_tier_stats_read(b->tier, &stats);
    return stats.expert_hits;
}

/* The second run holds the experts most wanted in the first before anybody asks. */
static void test_begins_warm(void **unused)
{
    bench first, second;
    dp_error err;
    dp_buf kept;

    dp_buf_init(&kept, DP_HEAT_BYTES_MAX);
    open_bench(&first, 7);
    run_steps(&first, 400);
    CHECK_OK(dp_tier_heat_write(first.tier, IDENTITY, &kept, &err), err);
    close_bench(&first);

    open_bench(&second, 7); /* six, and room for a demand */
    CHECK_OK(dp_tier_heat_read(second.tier, IDENTITY, kept.bytes, kept.size, &err), err);
    CHECK_OK(dp_tier_heat_warm(second.tier, &err), err);
    CHECK(second.fake.waiting_count == 6, "%u loads", second.fake.waiting_count);
    dp_tier_tick(second.tier);
    dp_tier_tick(second.tier);
    dp_tier_tick(second.tier); /* a prefetch would be stale by now */
    dp_source_fake_end_all(&second.fake);
    for (dp_page_id p = 0; p < 3; p++) {
        want_one(&second, p);
        want_one(&second, EXPERTS + p);
    }
    CHECK(hits_of(&second) == 6, "%d hits", (int)hits_of(&second));
    close_bench(&second);
    dp_buf_deinit(&kept);
}

/* Demand takes the room of what loads to be warm; what is on its way is no hit. */
static void test_demand_comes_first(void **unused)
{
    bench first, second;
    dp_tier_stats stats;
    dp_buf kept;

    dp_buf_init(&kept, DP_HEAT_BYTES_MAX);
    open_bench(&first, 7);
    run_steps(&first, 400);
    CHECK(dp_tier_heat_write(first.tier, IDENTITY, &kept, NULL) == DP_OK, "memory");
    close_bench(&first);
    open_bench(&second, 4);
    CHECK(dp_tier_heat_read(second.tier, IDENTITY, kept.bytes, kept.size, NULL) == DP_OK, "read");
    CHECK(dp_tier_heat_warm(second.tier, NULL) == DP_OK, "memory");
    dp_tier_tick(second.tier);
    for (dp_page_id p = EXPERTS - 1; p > 3; p--)
        want_one(&second, p);
    want_one(&second, 0);
    dp_tier_stats_read(second.tier, &stats);
    CHECK(stats.slot_bytes_max <= 4 * PAGE_BYTES, "within the budget");
    CHECK(stats.expert_hits + stats.expert_misses + stats.expert_prefetch_hits == 5, "five wants");
    close_bench(&second);
    dp_buf_deinit(&kept);
}

/* Any byte that rots, any cut, another model: nothing has changed. */
static void test_broken_bytes_are_refused(void **unused)
{
    dp_error err;
    bench b;
    dp_buf kept;

    dp_buf_init(&kept, DP_HEAT_BYTES_MAX);
    open_bench(&b, 7);
    run_steps(&b, 100);
    CHECK(dp_tier_heat_write(b.tier, IDENTITY, &kept, NULL) == DP_OK, "memory");
    close_bench(&b);
    open_bench(&b, 7);
    for (size_t i = 0; i < kept.size; i++) {
        kept.bytes[i] ^= 0x40;
        CHECK(dp_tier_heat_read(b.tier, IDENTITY, kept.bytes, kept.size, &err) != DP_OK, "byte %zu",
              i);
        kept.bytes[i] ^= 0x40;
        CHECK(dp_tier_heat_read(b.tier, IDENTITY, kept.bytes, i, &err) != DP_OK, "cut at %zu", i);
    }
    CHECK(dp_tier_heat_read(b.tier, IDENTITY + 1, kept.bytes, kept.size, &err) == DP_E_UNSUPPORTED,
          "another model");
    CHECK(dp_tier_heat_warm(b.tier, NULL) == DP_OK && b.fake.waiting_count == 0, "cold");
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(dp_tier_heat_read(b.tier, IDENTITY, kept.bytes, kept.size, &err) == DP_E_NOMEM, "memory");
    dp_fault_disarm(DP_FAULT_MEM);
    CHECK(dp_tier_heat_read(b.tier, IDENTITY, kept.bytes, kept.size, &err) == DP_OK, "as it was");
    for (uint64_t n = 0; n < 2; n++) {
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        CHECK(dp_tier_heat_warm(b.tier, NULL) == DP_E_NOMEM, "allocation %d", (int)n);
        dp_fault_disarm(DP_FAULT_MEM);
    }
    close_bench(&b);
    dp_buf_deinit(&kept);
}

/* Of 2^n steps expert 0 has a half, 1 a quarter, ...; eight more for each of 16 experts. */
static const struct {
    uint32_t steps, held;
    double share;
} shares[] = {
    { 0, 2, -1 },
    { 8, 0, 0 },
    { 8, 2, (8 + 16.0) / (16 + 128) },
    { 8, 4, (12 + 32.0) / (16 + 128) },
    { 4096, 2, (4112 + 16.0) / (8192 + 128) }, /* every 512th step but the last is 0 again */
    { 4096, 16, 1 },
};

static void test_share(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(shares); i++) {
        bench b;
        double got;

        open_bench(&b, LAYERS * EXPERTS);
        run_steps(&b, shares[i].steps);
        got = dp_tier_heat_share(b.tier, (uint64_t)shares[i].held * PAGE_BYTES);
        CHECK(fabs(got - shares[i].share) < 1e-12, "row %zu: %g", i, got);
        close_bench(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_begins_warm),
        cmocka_unit_test(test_demand_comes_first),
        cmocka_unit_test(test_broken_bytes_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
