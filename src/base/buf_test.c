#include "testing/check.h"

#include "base/buf.h"
#include "base/fault.h"
#include "base/mem.h"

static void test_append(void **state)
{
    dp_buf buf;

    dp_buf_init(&buf, 10000);
    CHECK(!buf.bytes && buf.size == 0, "empty");
    CHECK(dp_buf_text(&buf, "") == DP_OK && buf.bytes && buf.bytes[0] == 0, "empty text");
    for (int i = 0; i < 1000; i++)
        CHECK(dp_buf_format(&buf, "%03d,", i) == DP_OK, "%d", i);
    CHECK(buf.size == 4000 && buf.bytes[4000] == 0, "%zu", buf.size);
    CHECK(memcmp(buf.bytes + 4 * 123, "123,", 4) == 0, "%.4s", buf.bytes + 4 * 123);
    dp_buf_reset(&buf);
    CHECK(buf.size == 0 && buf.bytes[0] == 0 && buf.capacity >= 4000, "kept");
    CHECK(dp_buf_append(&buf, "a\0b", 3) == DP_OK && buf.size == 3 && buf.bytes[3] == 0, "bytes");
    dp_buf_deinit(&buf);
    CHECK(!buf.bytes && buf.size_max == 10000, "empty again");
}

static void test_limit(void **state)
{
    static const struct {
        size_t size_max, first, second;
        dp_status want;
    } rows[] = {
        { 10, 5, 5, DP_OK },
        { 10, 5, 6, DP_E_LIMIT },
        { 0, 0, 0, DP_OK },
        { 0, 0, 1, DP_E_LIMIT },
        { 200, 65, 135, DP_OK },
        { 200, 65, 136, DP_E_LIMIT },
        { SIZE_MAX, 1, SIZE_MAX, DP_E_LIMIT },
        { SIZE_MAX, 1, SIZE_MAX - 1, DP_E_LIMIT },
    };
    static const char text[256];

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_buf buf;
        dp_status st;

        dp_buf_init(&buf, rows[i].size_max);
        CHECK(dp_buf_append(&buf, text, rows[i].first) == DP_OK, "row %zu", i);
        st = dp_buf_reserve(&buf, rows[i].second);
        CHECK(st == rows[i].want, "row %zu: %s", i, dp_status_text(st));
        CHECK(buf.size == rows[i].first, "row %zu: %zu", i, buf.size);
        CHECK(buf.capacity <= rows[i].size_max, "row %zu: %zu", i, buf.capacity);
        dp_buf_deinit(&buf);
    }
}

static void test_no_memory(void **state)
{
    dp_mem_stats stats;
    bool is_through = false;

    for (uint64_t n = 0; !is_through; n++) {
        dp_buf buf;
        dp_status st = DP_OK;

        dp_buf_init(&buf, 1000);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        for (int i = 0; i < 200 && st == DP_OK; i++) {
            size_t size = buf.size;
            st = dp_buf_format(&buf, "%d", i % 10);
            CHECK(st == DP_OK || (st == DP_E_NOMEM && buf.size == size), "unchanged");
        }
        is_through = dp_fault_disarm(DP_FAULT_MEM) == 0;
        dp_buf_deinit(&buf);
        dp_mem_stats_read(&stats);
        CHECK(stats.heap_blocks == 0, "leak at %d", (int)n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
