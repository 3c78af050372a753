#include "app/cli/json_text.h"

#include <math.h>
#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"

#define BYTES(text) text, sizeof(text) - 1
#define R           "\xEF\xBF\xBD"

static void test_any_bytes_become_text(void **state)
{
    static const struct {
        const char *name, *bytes;
        size_t size;
        const char *want;
        size_t want_size;
    } rows[] = {
        { "empty", BYTES(""), BYTES("") },
        { "ascii", BYTES("a\"b\\\n"), BYTES("a\"b\\\n") },
        { "nul", BYTES("a\0b"), BYTES("a\0b") },
        { "two, three, four bytes", BYTES("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"),
          BYTES("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80") },
        { "lone continuation", BYTES("a\x80z"), BYTES("a" R "z") },
        { "cut at the end", BYTES("\xE2\x82"), BYTES(R) },
        { "cut by a letter", BYTES("\xE2\x82z"), BYTES(R "z") },
        { "cut by a character", BYTES("\xF0\x9F\xC3\xA9"), BYTES(R "\xC3\xA9") },
        { "too long a form", BYTES("\xC0\xAF"), BYTES(R R) },
        { "too long a form of three", BYTES("\xE0\x80\xAF"), BYTES(R R R) },
        { "surrogate", BYTES("\xED\xA0\x80"), BYTES(R R R) },
        { "above the last", BYTES("\xF4\x90\x80\x80"), BYTES(R R R R) },
        { "the last", BYTES("\xF4\x8F\xBF\xBF"), BYTES("\xF4\x8F\xBF\xBF") },
        { "never a lead", BYTES("\xF5\xFE\xFF"), BYTES(R R R) },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        json_t *text = dp_json_text(rows[i].bytes, rows[i].size);

        CHECK(text, "%s", rows[i].name);
        CHECK(json_string_length(text) == rows[i].want_size &&
                  memcmp(json_string_value(text), rows[i].want, rows[i].want_size) == 0,
              "%s: %s", rows[i].name, json_string_value(text));
        json_decref(text);
    }
}

/* Whatever three bytes: jansson, which checks, takes what came out. */
static void test_every_three_bytes(void **state)
{
    static const uint8_t leads[] = { 0x00, 0x7F, 0x80, 0xBF, 0xC1, 0xC2, 0xDF,
                                     0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5, 0xFF };

    for (size_t i = 0; i < DP_ARRAY_LEN(leads); i++) {
        for (unsigned rest = 0; rest < 1 << 16; rest++) {
            char bytes[3] = { (char)leads[i], (char)(rest >> 8), (char)rest };
            json_t *text = dp_json_text(bytes, sizeof bytes), *checked;

            CHECK(text, "no memory");
            checked = json_stringn(json_string_value(text), json_string_length(text));
            CHECK(checked, "%02x %04x is not UTF-8 afterwards", leads[i], rest);
            json_decref(checked);
            json_decref(text);
        }
    }
}

static void test_numbers(void **state)
{
    json_t *list = json_array();
    dp_buf out;

    dp_buf_init(&out, 1000);
    json_array_append_new(list, dp_json_number(1.5));
    json_array_append_new(list, dp_json_number(NAN));
    json_array_append_new(list, dp_json_number(INFINITY));
    CHECK(dp_json_write(&out, list, 0) == DP_OK, "write");
    CHECK(strcmp(out.bytes, "[1.5, null, null]\n") == 0, "%s", out.bytes);
    CHECK(dp_json_write(&out, NULL, 0) == DP_E_NOMEM, "a value that could not be made");
    json_decref(list);
    dp_buf_deinit(&out);
}

static void test_failing_memory(void **state)
{
    dp_mem_stats stats;
    bool is_through = false;

    for (uint64_t n = 0; !is_through; n++) {
        json_t *text;

        dp_fault_arm(DP_FAULT_MEM, n, 1);
        text = dp_json_text(BYTES("a\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"));
        is_through = dp_fault_disarm(DP_FAULT_MEM) == 0;
        CHECK((text != NULL) == is_through, "allocation %d", (int)n);
        json_decref(text);
    }
    dp_mem_stats_read(&stats);
    CHECK(stats.heap_blocks == 0, "%d blocks leaked", (int)stats.heap_blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_bytes_become_text),
        cmocka_unit_test(test_every_three_bytes),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_failing_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
