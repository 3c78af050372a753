#include "tier/slot.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "testing/check.h"

#define K DP_KIB

static dp_slot *acquire(dp_slots *slots, uint64_t size, uint64_t slack)
{
    dp_slot *slot;
    dp_status st = dp_slots_acquire(slots, size, slack, &slot);

    CHECK((st == DP_OK) == (slot != NULL), "%d", st);
    CHECK(st == DP_OK || st == DP_E_BUSY, "%d", st);
    return slot;
}

/* One slot of `kept` bytes was freed; `size` is asked for with `slack`. */
static void test_kept_slots(void **unused)
{
    static const struct {
        uint64_t kept, size, slack, budget;
        uint64_t capacity; /* of what is given: 0 none */
        uint64_t kept_after;
    } rows[] = {
        { 64 * K, 64 * K, 0, 64 * K, 64 * K, 0 },      /* the same size */
        { 64 * K, 64 * K - 1, 0, 64 * K, 64 * K, 0 },  /* rounded up to it */
        { 64 * K, 60 * K, 4 * K, 64 * K, 64 * K, 0 },  /* a little smaller */
        { 64 * K, 60 * K, 4095, 64 * K, 60 * K, 0 },   /* too much smaller: unmapped */
        { 64 * K, 68 * K, 8 * K, 128 * K, 68 * K, 0 }, /* larger, no room beside it */
        { 64 * K, 68 * K, 8 * K, 132 * K, 68 * K, 64 * K }, { 64 * K, 68 * K, 8 * K, 64 * K, 0, 0 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_slots slots;
        dp_slot *slot;

        dp_slots_init(&slots, rows[i].budget);
        dp_slots_release(&slots, acquire(&slots, rows[i].kept, 0));
        slot = acquire(&slots, rows[i].size, rows[i].slack);
        CHECK((slot ? slot->capacity : 0) == rows[i].capacity, "row %zu", i);
        CHECK(rows[i].capacity == 0 || slots.kept_bytes == rows[i].kept_after, "row %zu", i);
        CHECK(dp_slots_bytes(&slots) <= slots.budget_bytes, "row %zu", i);
        dp_slots_release(&slots, slot);
        dp_slots_deinit(&slots);
    }
}

static void test_smaller_budget(void **unused)
{
    dp_slots slots;
    dp_slot *slot;

    dp_slots_init(&slots, 16 * K);
    slot = acquire(&slots, 8 * K, 0);
    dp_slots_release(&slots, acquire(&slots, 8 * K, 0));
    slots.budget_bytes = 8 * K;
    CHECK(!acquire(&slots, 8 * K, 0), "the kept one is not handed out above the budget");
    CHECK(dp_slots_bytes(&slots) == 8 * K, "it is gone");
    dp_slots_release(&slots, slot);
    dp_slots_deinit(&slots);
}

static void test_memory_is_short(void **unused)
{
    for (uint64_t visit = 0; visit < 2; visit++) {
        dp_slots slots;
        dp_slot *slot;

        dp_slots_init(&slots, 64 * K);
        dp_fault_arm(DP_FAULT_MEM, visit, 1);
        CHECK(dp_slots_acquire(&slots, 4 * K, 0, &slot) == DP_E_NOMEM && !slot, "no slot");
        CHECK(dp_fault_disarm(DP_FAULT_MEM) == 1, "it was asked for");
        CHECK(dp_slots_bytes(&slots) == 0, "nothing is counted");
        dp_slots_deinit(&slots);
    }
}

/* Memory of a kept slot serves a page of another size: the nearest, and only what it lacks is
 * asked for; when that is refused nothing is held. */
static void test_resized(void **unused)
{
    dp_slots slots;
    dp_slot *small, *large, *slot;
    uint8_t *bytes;

    dp_slots_init(&slots, 96 * K);
    small = acquire(&slots, 32 * K, 0);
    large = acquire(&slots, 64 * K, 0);
    bytes = large->bytes;
    bytes[0] = 7;
    dp_slots_release(&slots, small);
    dp_slots_release(&slots, large);
    slot = acquire(&slots, 56 * K, 0);
    CHECK(slot == large && slot->bytes == bytes && bytes[0] == 7, "the nearest, as it was");
    CHECK(slot->capacity == 56 * K && slots.kept_bytes == 32 * K, "smaller");
    dp_slots_release(&slots, slot);
    slot = acquire(&slots, 80 * K, 0);
    CHECK(slot == large && slot->bytes[0] == 7 && slots.kept_bytes == 0, "larger, the other went");
    dp_slots_release(&slots, slot);
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(dp_slots_acquire(&slots, 96 * K, 0, &slot) == DP_E_NOMEM, "refused");
    CHECK(dp_fault_disarm(DP_FAULT_MEM) == 1 && dp_slots_bytes(&slots) == 0, "nothing is held");
    dp_slots_deinit(&slots);
}

/* Any order of acquires and releases: what is counted is what is mapped, and within the
 * budget. */
static void test_accounting_is_exact(void **unused)
{
    dp_slot *held[48] = { NULL };
    dp_mem_stats before;
    dp_mem_stats now;
    dp_slots slots;
    dp_rng rng;

    dp_mem_stats_read(&before);
    dp_slots_init(&slots, 1024 * K);
    dp_rng_init(&rng, 3);
    for (int step = 0; step < 20000; step++) {
        dp_slot **slot = &held[dp_rng_below(&rng, DP_ARRAY_LEN(held))];
        uint64_t size = 1 + dp_rng_below(&rng, 100 * K);
        if (*slot) {
            dp_slots_release(&slots, *slot);
            *slot = NULL;
        } else {
            *slot = acquire(&slots, size, size / 16);
        }
        dp_mem_stats_read(&now);
        CHECK(now.map_bytes - before.map_bytes == dp_slots_bytes(&slots), "step %d", step);
        CHECK(dp_slots_bytes(&slots) <= slots.budget_bytes, "step %d", step);
        CHECK(dp_slots_bytes(&slots) <= slots.bytes_max, "step %d", step);
    }
    for (size_t i = 0; i < DP_ARRAY_LEN(held); i++)
        dp_slots_release(&slots, held[i]);
    dp_slots_deinit(&slots);
    dp_mem_stats_read(&now);
    CHECK(!memcmp(&before, &now, sizeof now), "leak");
}

static void test_few_are_kept(void **unused)
{
    dp_slot *held[DP_SLOT_KEPT_MAX + 5];
    dp_slots slots;

    dp_slots_init(&slots, DP_MIB);
    for (size_t i = 0; i < DP_ARRAY_LEN(held); i++)
        held[i] = acquire(&slots, 4 * K, 0);
    for (size_t i = 0; i < DP_ARRAY_LEN(held); i++)
        dp_slots_release(&slots, held[i]);
    CHECK(slots.kept_count == DP_SLOT_KEPT_MAX, "%u", slots.kept_count);
    CHECK(slots.kept_bytes == DP_SLOT_KEPT_MAX * 4 * K, "bytes");
    dp_slots_deinit(&slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept_slots),      cmocka_unit_test(test_smaller_budget),
        cmocka_unit_test(test_memory_is_short), cmocka_unit_test(test_accounting_is_exact),
        cmocka_unit_test(test_few_are_kept),    cmocka_unit_test(test_resized),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
