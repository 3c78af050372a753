#include "app/cli/input.h"

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"

static void test_ids(void **state)
{
    static const struct {
        const char *text;
        size_t count; /* of ids 1, 2, 3 ... */
    } rows[] = {
        { "", 0 },
        { " \n", 0 },
        { "[]", 0 },
        { " [ ] \n", 0 },
        { "1", 1 },
        { "1 2\n3\n", 3 },
        { "1,2,3", 3 },
        { "1, 2 ,\t3\r\n", 3 },
        { "[1,2,3]", 3 },
        { "[1, 2]", 2 },
        { "\n[\n 1,\n 2]", 2 },
        { "001", 1 },
    };
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        int32_t *ids;
        size_t count;

        CHECK_OK(dp_input_parse_ids(&ids, &count, rows[i].text, strlen(rows[i].text), "f", &err),
                 err);
        CHECK(count == rows[i].count, "\"%s\": %zu ids", rows[i].text, count);
        for (size_t k = 0; k < count; k++)
            CHECK(ids[k] == (int32_t)k + 1, "\"%s\": id %zu is %d", rows[i].text, k, (int)ids[k]);
        dp_free(ids);
    }
}

static void test_what_is_no_list_of_ids(void **state)
{
    static const struct {
        const char *text, *sentence;
    } rows[] = {
        { "a", "f: line 1 is not made of token ids" },
        { "1\n2\nx", "f: line 3 is not made of token ids" },
        { "-1", "line 1" },
        { "1.5", "line 1" },
        { "1,,2", "line 1" },
        { ",1", "line 1" },
        { "[[1]]", "line 1" },
        { "2147483648", "line 1" },
        { "99999999999999999999999", "line 1" },
        { "[1,2", "f: the array of token ids does not end where the text does" },
        { "[1,2] 3", "does not end" },
        { "[1]]", "does not end" },
        { "1]", "line 1" },
        { "{\"ids\": [1]}", "line 1" },
    };
    dp_mem_stats stats;
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        int32_t *ids;
        size_t count;
        dp_status st =
            dp_input_parse_ids(&ids, &count, rows[i].text, strlen(rows[i].text), "f", &err);

        CHECK(st == DP_E_INVALID && !ids && count == 0, "\"%s\" gave %d", rows[i].text, st);
        CHECK(strstr(err.text, rows[i].sentence), "\"%s\": %s", rows[i].text, err.text);
    }
    dp_mem_stats_read(&stats);
    CHECK(stats.heap_blocks == 0, "%d blocks leaked", (int)stats.heap_blocks);
}

static void test_no_memory(void **state)
{
    int32_t *ids;
    size_t count;
    dp_error err;

    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(dp_input_parse_ids(&ids, &count, "1", 1, "f", &err) == DP_E_NOMEM && !ids, "memory");
    dp_fault_disarm(DP_FAULT_MEM);
}

static void test_newline(void **state)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        { "", "" },       { "a", "a" },       { "a\n", "a" },
        { "a\r\n", "a" }, { "a\n\n", "a\n" }, { "\n", "" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        char text[8];
        size_t size = strlen(rows[i].text);

        memcpy(text, rows[i].text, size + 1);
        dp_input_trim_newline(text, &size);
        CHECK(strcmp(text, rows[i].want) == 0 && size == strlen(rows[i].want), "row %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_what_is_no_list_of_ids),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_newline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
