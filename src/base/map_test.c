#include "testing/check.h"

#include "base/fault.h"
#include "base/map.h"
#include "base/mem.h"

#define KEY_COUNT 5000

static char keys[KEY_COUNT][8];

static dp_str key_of(uint32_t i)
{
    snprintf(keys[i], sizeof keys[i], "k%u", i * 7);
    return dp_str_from(keys[i]);
}

static void test_str(void **state)
{
    static const uint32_t hints[] = { 0, 1, 6, KEY_COUNT };

    for (size_t h = 0; h < DP_ARRAY_LEN(hints); h++) {
        uint32_t previous;
        uint32_t capacity;
        dp_map_str map;

        CHECK(dp_map_str_init(&map, hints[h]) == DP_OK, "init");
        capacity = map.capacity;
        CHECK(dp_map_str_get(&map, dp_str_from("k0")) == DP_MAP_NONE, "empty");
        for (uint32_t i = 0; i < KEY_COUNT; i++) {
            CHECK(dp_map_str_add(&map, key_of(i), i, &previous) == DP_OK, "key %u", i);
            CHECK(previous == DP_MAP_NONE && map.count == i + 1, "key %u", i);
            CHECK((uint64_t)map.count * 4 < (uint64_t)map.capacity * 3, "load");
            if (i < hints[h])
                CHECK(map.capacity == capacity, "grown at %u of %u", i, hints[h]);
        }
        for (uint32_t i = 0; i < KEY_COUNT; i++)
            CHECK(dp_map_str_get(&map, key_of(i)) == i, "key %u", i);
        CHECK(dp_map_str_get(&map, dp_str_from("k1")) == DP_MAP_NONE, "never added");

        /* an existing key keeps its value */
        CHECK(dp_map_str_add(&map, key_of(9), 1, &previous) == DP_OK && previous == 9, "twice");
        CHECK(dp_map_str_add(&map, key_of(9), 1, NULL) == DP_OK, "without previous");
        CHECK(dp_map_str_get(&map, key_of(9)) == 9 && map.count == KEY_COUNT, "kept");
        dp_map_str_deinit(&map);
    }
}

/* Zeros and the empty key are keys like others. */
static void test_odd_keys(void **state)
{
    static const dp_str odd[] = {
        { "", 0 },  { "\0", 1 },  { "\0\0", 2 },     { "\0\0\0\0\0\0\0\0", 8 },
        { "a", 1 }, { "a\0", 2 }, { "abcdefgh", 8 }, { "abcdefghi", 9 },
    };
    dp_map_str map;

    CHECK(dp_map_str_init(&map, 0) == DP_OK, "init");
    for (uint32_t i = 0; i < DP_ARRAY_LEN(odd); i++)
        CHECK(dp_map_str_add(&map, odd[i], i, NULL) == DP_OK, "key %u", i);
    for (uint32_t i = 0; i < DP_ARRAY_LEN(odd); i++)
        CHECK(dp_map_str_get(&map, odd[i]) == i, "key %u", i);
    CHECK(dp_map_str_get(&map, (dp_str){ NULL, 0 }) == 0, "NULL is the empty key");
    dp_map_str_deinit(&map);
}

static void test_u64(void **state)
{
    uint32_t previous;
    dp_map_u64 map;

    CHECK(dp_map_u64_init(&map, 10) == DP_OK, "init");
    for (uint32_t i = 0; i < KEY_COUNT; i++) {
        CHECK(dp_map_u64_add(&map, (uint64_t)i << 32, i, &previous) == DP_OK, "key %u", i);
        CHECK(previous == DP_MAP_NONE && map.count == i + 1, "key %u", i);
    }
    CHECK(dp_map_u64_add(&map, UINT64_MAX, UINT32_MAX - 1, &previous) == DP_OK, "largest");
    CHECK(dp_map_u64_add(&map, 0, 5, &previous) == DP_OK && previous == 0, "0 was there");
    for (uint32_t i = 0; i < KEY_COUNT; i++)
        CHECK(dp_map_u64_get(&map, (uint64_t)i << 32) == i, "key %u", i);
    CHECK(dp_map_u64_get(&map, UINT64_MAX) == UINT32_MAX - 1, "largest");
    CHECK(dp_map_u64_get(&map, 1) == DP_MAP_NONE, "never added");
    dp_map_u64_deinit(&map);
    CHECK(dp_map_u64_get(&map, 0) == DP_MAP_NONE, "empty again");
}

static void test_limit(void **state)
{
    dp_map_str str;
    dp_map_u64 u64;

    CHECK(dp_map_str_init(&str, UINT32_MAX) == DP_E_LIMIT && str.capacity == 0, "str");
    CHECK(dp_map_u64_init(&u64, UINT32_MAX) == DP_E_LIMIT && u64.capacity == 0, "u64");
}

/* A failed add leaves the map as it was. */
static void test_no_memory(void **state)
{
    dp_mem_stats stats;
    bool is_through = false;

    for (uint64_t n = 0; !is_through; n++) {
        dp_map_str str = { 0 };
        dp_map_u64 u64 = { 0 };
        dp_status st;

        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_map_str_init(&str, 3);
        for (uint32_t i = 0; i < 100 && st == DP_OK; i++) {
            st = dp_map_str_add(&str, key_of(i), i, NULL);
            CHECK((dp_map_str_get(&str, key_of(i)) == i) == (st == DP_OK), "key %u", i);
            CHECK(i == 0 || dp_map_str_get(&str, key_of(i - 1)) == i - 1, "key before %u", i);
        }
        if (st == DP_OK)
            st = dp_map_u64_init(&u64, 3);
        for (uint32_t i = 0; i < 100 && st == DP_OK; i++)
            st = dp_map_u64_add(&u64, i, i, NULL);
        is_through = dp_fault_disarm(DP_FAULT_MEM) == 0;
        CHECK(st == (is_through ? DP_OK : DP_E_NOMEM), "visit %d", (int)n);
        dp_map_str_deinit(&str);
        dp_map_u64_deinit(&u64);
        dp_mem_stats_read(&stats);
        CHECK(stats.heap_blocks == 0, "leak at %d", (int)n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_str),   cmocka_unit_test(test_odd_keys),  cmocka_unit_test(test_u64),
        cmocka_unit_test(test_limit), cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
