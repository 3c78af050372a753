#include "tier/heap.h"

#include <stdlib.h>

#include "base/fault.h"
#include "base/rng.h"
#include "testing/check.h"

#define ITEM_COUNT 200

static bool is_heap(const dp_heap *heap)
{
    for (uint32_t i = 0; i < heap->count; i++)
        if (heap->items[i]->at != i ||
            (i > 0 && dp_heap_before(heap->items[i], heap->items[(i - 1) / 2])))
            return false;
    return true;
}

/* Items come and go from anywhere; the top is always the one that leaves first. */
static void test_random_changes(void **unused)
{
    dp_heap_item items[ITEM_COUNT];
    dp_heap heap = { 0 };
    dp_rng rng;

    dp_rng_init(&rng, 5);
    CHECK(dp_heap_reserve(&heap, ITEM_COUNT), "memory");
    for (size_t i = 0; i < ITEM_COUNT; i++)
        items[i].at = DP_HEAP_NOWHERE;
    for (int step = 0; step < 20000; step++) {
        dp_heap_item *item = &items[dp_rng_below(&rng, ITEM_COUNT)];
        if (item->at != DP_HEAP_NOWHERE && step % 3 == 0) {
            dp_heap_move(&heap, item, (double)dp_rng_below(&rng, 50));
            CHECK(heap.items[item->at] == item, "it stayed");
        } else if (item->at != DP_HEAP_NOWHERE) {
            dp_heap_remove(&heap, item);
            CHECK(item->at == DP_HEAP_NOWHERE, "it left");
        } else {
            item->score = (double)dp_rng_below(&rng, 50);
            item->order = (uint64_t)step;
            dp_heap_add(&heap, item);
        }
        CHECK(is_heap(&heap), "step %d", step);
        for (size_t i = 0; heap.count && i < ITEM_COUNT; i++)
            CHECK(items[i].at == DP_HEAP_NOWHERE || !dp_heap_before(&items[i], heap.items[0]),
                  "step %d", step);
    }
    dp_heap_deinit(&heap);
}

static int compare(const void *a, const void *b)
{
    const dp_heap_item *const *x = a, *const *y = b;

    return dp_heap_before(*x, *y) ? -1 : dp_heap_before(*y, *x);
}

/* Against all of them, sorted. */
static void test_first(void **unused)
{
    dp_heap_item items[ITEM_COUNT], *sorted[ITEM_COUNT], *got[DP_HEAP_FIRST_MAX];
    dp_heap heap = { 0 };
    dp_rng rng;

    dp_rng_init(&rng, 6);
    CHECK(dp_heap_reserve(&heap, ITEM_COUNT), "memory");
    for (uint32_t i = 0; i < ITEM_COUNT; i++) {
        uint32_t max = i % (DP_HEAP_FIRST_MAX + 1);
        uint32_t count = dp_heap_first(&heap, got, max);

        CHECK(count == DP_MIN(max, i), "%u of %u: %u", max, i, count);
        qsort(sorted, i, sizeof sorted[0], compare);
        for (uint32_t k = 0; k < count; k++)
            CHECK(got[k] == sorted[k], "%u of %u", k, i);
        items[i] = (dp_heap_item){ (double)dp_rng_below(&rng, 50), i, DP_HEAP_NOWHERE };
        sorted[i] = &items[i];
        dp_heap_add(&heap, &items[i]);
    }
    dp_heap_deinit(&heap);
}

static void test_memory_is_short(void **unused)
{
    dp_heap_item item = { .at = DP_HEAP_NOWHERE };
    dp_heap heap = { 0 };

    CHECK(dp_heap_reserve(&heap, 1), "memory");
    dp_heap_add(&heap, &item);
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(!dp_heap_reserve(&heap, 1000), "memory is short");
    dp_fault_disarm(DP_FAULT_MEM);
    CHECK(heap.count == 1 && heap.capacity == 1 && heap.items[0] == &item, "unchanged");
    dp_heap_remove(&heap, &item);
    dp_heap_deinit(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_changes),
        cmocka_unit_test(test_first),
        cmocka_unit_test(test_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
