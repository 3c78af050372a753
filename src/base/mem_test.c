#include "testing/check.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/thread.h"

static dp_mem_stats stats(void)
{
    dp_mem_stats now;

    dp_mem_stats_read(&now);
    return now;
}

static void test_heap(void **state)
{
    uint8_t *zeroed = dp_alloc_zero(10, 100);
    char *text;
    void *empty[2];

    CHECK(zeroed && stats().heap_blocks == 1 && stats().heap_bytes >= 1000, "counted");
    for (size_t i = 0; i < 1000; i++)
        CHECK(zeroed[i] == 0, "byte %zu", i);
    memset(zeroed, 7, 1000);
    zeroed = dp_realloc(zeroed, 1, 100000);
    CHECK(zeroed && zeroed[999] == 7 && stats().heap_bytes >= 100000, "grown");
    zeroed = dp_realloc(zeroed, 1, 10);
    CHECK(zeroed && zeroed[9] == 7 && stats().heap_bytes < 100000, "shrunk");

    empty[0] = dp_alloc(0, 5);
    empty[1] = dp_alloc_zero(5, 0);
    CHECK(empty[0] && empty[1] && empty[0] != empty[1], "distinct");
    text = dp_strndup("doppler", 4);
    CHECK(text && strcmp(text, "dopp") == 0, "%s", text);
    CHECK(stats().heap_blocks == 4, "%llu", (unsigned long long)stats().heap_blocks);
    dp_free(text);
    dp_free(empty[0]);
    dp_free(empty[1]);
    dp_free(zeroed);
    dp_free(NULL);
    CHECK(stats().heap_blocks == 0 && stats().heap_bytes == 0, "all given back");
}

static void test_map(void **state)
{
    static const size_t sizes[] = { 1, 4096, 4097, (size_t)4 << 20, (size_t)9 << 20 };

    for (size_t i = 0; i < DP_ARRAY_LEN(sizes); i++) {
        uint8_t *region = dp_map_acquire(sizes[i]);

        CHECK(region && (uintptr_t)region % 4096 == 0, "size %zu", sizes[i]);
        CHECK(region[0] == 0 && region[sizes[i] - 1] == 0, "size %zu", sizes[i]);
        region[sizes[i] - 1] = 1;
        CHECK(stats().map_regions == 1 && stats().map_bytes >= sizes[i], "size %zu", sizes[i]);
        dp_map_release(region, sizes[i]);
        CHECK(stats().map_regions == 0 && stats().map_bytes == 0, "size %zu", sizes[i]);
    }
    dp_map_release(NULL, 5);
}

/* Whatever the sizes, what both have is kept and what is new is zeroed. */
/* Where much is mapped, regions are cut from larger mappings: each is zeroed, its own and whole,
 * whatever was cut and given back around it. */
static void test_map_many(void **state)
{
    enum { COUNT = 96 };
    static const size_t sizes[] = { 3000000, 65536, 64 << 10 | 1, 20 << 20, 4096, 33 << 20 };
    size_t much = (size_t)128 << 20;
    uint8_t *first = dp_map_acquire(much);
    struct {
        uint8_t *bytes;
        size_t size;
    } regions[COUNT] = { { 0 } };

    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < COUNT; i++) {
            size_t size = sizes[(i * 7 + (size_t)round) % DP_ARRAY_LEN(sizes)];

            if (round && i % 3 != (size_t)round)
                continue;
            dp_map_release(regions[i].bytes, regions[i].size);
            regions[i].bytes = dp_map_acquire(size);
            regions[i].size = size;
            CHECK(regions[i].bytes, "region %zu", i);
            CHECK(regions[i].bytes[0] == 0 && regions[i].bytes[size - 1] == 0, "zeroed");
            regions[i].bytes[0] = regions[i].bytes[size - 1] = (uint8_t)(i + 1);
        }
    for (size_t i = 0; i < COUNT; i++)
        CHECK(regions[i].bytes[0] == i + 1 && regions[i].bytes[regions[i].size - 1] == i + 1,
              "region %zu was written into", i);
    for (size_t i = 0; i < COUNT; i++) {
        if (i % 2) { /* moved out of its mapping */
            regions[i].bytes = dp_map_resize(regions[i].bytes, regions[i].size, 5000000);
            regions[i].size = 5000000;
            CHECK(regions[i].bytes && regions[i].bytes[0] == i + 1, "region %zu moved", i);
        }
        dp_map_release(regions[i].bytes, regions[i].size);
    }
    dp_map_release(first, much);
    CHECK(stats().map_regions == 0 && stats().map_bytes == 0, "given back");
}

static void test_map_resize(void **state)
{
    static const size_t sizes[] = { 1, 4096, 4097, (size_t)5 << 20, 4096, (size_t)9 << 20, 3 };
    uint8_t *region = dp_map_acquire(sizes[0]);

    for (size_t i = 1; i < DP_ARRAY_LEN(sizes); i++) {
        memset(region, (int)i, sizes[i - 1]);
        region = dp_map_resize(region, sizes[i - 1], sizes[i]);
        CHECK(region && (uintptr_t)region % 4096 == 0, "size %zu", sizes[i]);
        CHECK(region[DP_MIN(sizes[i - 1], sizes[i]) - 1] == i, "size %zu: kept", sizes[i]);
        CHECK(sizes[i] <= dp_align_up(sizes[i - 1], 4096) || region[sizes[i] - 1] == 0,
              "size %zu: zeroed", sizes[i]);
        CHECK(stats().map_regions == 1 && stats().map_bytes == dp_align_up(sizes[i], 4096),
              "size %zu: counted", sizes[i]);
    }
    CHECK(!dp_map_resize(region, 3, SIZE_MAX), "too large");
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(!dp_map_resize(region, 3, 5000), "refused");
    CHECK(dp_fault_disarm(DP_FAULT_MEM) == 1 && region[2] == 6, "as it was");
    dp_map_release(region, 3);
    CHECK(stats().map_regions == 0 && stats().map_bytes == 0, "given back");
}

/* What cannot be had, by size or by fault, is NULL and counted nowhere. */
static void test_refused(void **state)
{
    char *block = dp_alloc(1, 10);
    void *refused[6];

    CHECK(!dp_alloc(SIZE_MAX, 2) && !dp_alloc_zero(SIZE_MAX / 2, 3), "the product wraps");
    CHECK(!dp_alloc(1, SIZE_MAX) && !dp_map_acquire(SIZE_MAX), "too large");
    CHECK(!dp_realloc(block, SIZE_MAX, 2), "the product wraps");
    CHECK(!dp_strndup("", SIZE_MAX), "no room for the NUL");

    dp_fault_arm(DP_FAULT_MEM, 0, 6);
    refused[0] = dp_alloc(1, 1);
    refused[1] = dp_alloc_zero(1, 1);
    refused[2] = dp_realloc(NULL, 1, 1);
    refused[3] = dp_realloc(block, 1, 100);
    refused[4] = dp_strndup("a", 1);
    refused[5] = dp_map_acquire(1);
    CHECK(dp_fault_disarm(DP_FAULT_MEM) == 6, "all visited");
    for (size_t i = 0; i < DP_ARRAY_LEN(refused); i++)
        CHECK(!refused[i], "call %zu", i);
    CHECK(stats().heap_blocks == 1 && stats().map_regions == 0, "counts");
    memset(block, 1, 10); /* still ours */
    dp_free(block);
    CHECK(stats().heap_blocks == 0, "counts");
}

static void churn(void *user)
{
    for (size_t i = 0; i < 2000; i++) {
        void *block = dp_alloc(1, i);
        void *region = i % 100 ? NULL : dp_map_acquire(i);

        block = dp_realloc(block, 2, i);
        dp_free(block);
        dp_map_release(region, i);
    }
}

static void test_threads(void **state)
{
    dp_thread threads[4];
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(threads); i++)
        CHECK_OK(dp_thread_start(&threads[i], "churn", churn, NULL, &err), err);
    for (size_t i = 0; i < DP_ARRAY_LEN(threads); i++)
        dp_thread_join(&threads[i]);
    CHECK(stats().heap_blocks == 0 && stats().heap_bytes == 0, "heap");
    CHECK(stats().map_regions == 0 && stats().map_bytes == 0, "maps");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap),       cmocka_unit_test(test_map),
        cmocka_unit_test(test_map_resize), cmocka_unit_test(test_map_many),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
