#include "testing/check.h"

#include "base/arena.h"
#include "base/fault.h"
#include "base/mem.h"

static void test_alloc(void **state)
{
    static const struct {
        size_t size, size_wanted; /* of the arena, of each block */
        size_t count;             /* that fit */
    } rows[] = {
        { 64, 64, 1 },     { 64, 65, 0 },     { 128, 1, 2 },   { 130, 1, 3 },
        { 4096, 4096, 1 }, { 4096, 100, 32 }, { 100, 100, 1 }, { 100, SIZE_MAX, 0 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_arena arena;
        size_t count = 0;
        uint8_t *block;

        CHECK(dp_arena_init(&arena, rows[i].size), "row %zu", i);
        while ((block = dp_arena_alloc(&arena, rows[i].size_wanted))) {
            CHECK((uintptr_t)block % 64 == 0, "row %zu: %p", i, (void *)block);
            memset(block, 0xff, rows[i].size_wanted);
            count++;
        }
        CHECK(count == rows[i].count, "row %zu: %zu blocks", i, count);
        CHECK(arena.used <= arena.size, "row %zu", i);
        dp_arena_deinit(&arena);
    }
}

static void test_mark_and_reset(void **state)
{
    dp_arena arena;
    size_t mark;
    void *first;
    void *second;

    CHECK(dp_arena_init(&arena, 4096), "init");
    first = dp_arena_alloc(&arena, 100);
    mark = dp_arena_mark(&arena);
    second = dp_arena_alloc(&arena, 1000);
    dp_arena_reset(&arena, mark);
    CHECK(dp_arena_alloc(&arena, 10) == second, "the same place again");
    dp_arena_reset(&arena, 0);
    CHECK(dp_arena_alloc(&arena, 10) == first, "from the beginning");
    CHECK(arena.used == 64 && arena.used_max == 128 + 1024, "%zu %zu", arena.used, arena.used_max);
    dp_arena_deinit(&arena);
    dp_arena_deinit(&arena); /* zeroed */
}

static void test_no_memory(void **state)
{
    dp_arena arena;
    dp_mem_stats stats;

    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(!dp_arena_init(&arena, 4096), "memory was short");
    CHECK(dp_fault_disarm(DP_FAULT_MEM) == 1, "visited");
    CHECK(!dp_arena_alloc(&arena, 1), "nothing in it");
    dp_arena_deinit(&arena);
    dp_mem_stats_read(&stats);
    CHECK(stats.map_regions == 0, "leak");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_mark_and_reset),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
