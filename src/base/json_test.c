#include "base/json.h"

#include <jansson.h>
#include <math.h>
#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "testing/check.h"

#define BYTES(text) text, sizeof(text) - 1

/* The stream as one line: '{' '}' '[' ']' k:NAME s:TEXT n:TEXT t f 0, at depth. */
static dp_status spell(dp_buf *out, const char *bytes, size_t size, dp_error *err)
{
    dp_json json;
    dp_json_token t;
    dp_status st;

    dp_json_init(&json, "test.json", bytes, size);
    for (;;) {
        st = dp_json_next(&json, &t, err);
        if (st || t.kind == DP_JSON_END)
            break;
        st = dp_buf_format(out, "%s%u%c", out->size ? " " : "", t.depth, "?{}[]ksntf0"[t.kind]);
        if (!st && t.text.bytes)
            st = dp_buf_append(out, t.text.bytes, t.text.size);
        if (st)
            break;
    }
    dp_json_deinit(&json);
    return st;
}

static void test_streams(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *want;
        size_t want_size;
    } rows[] = {
        { BYTES("null"), BYTES("00") },
        { BYTES(" true\r\n\t"), BYTES("0t") },
        { BYTES("\"\""), BYTES("0s") },
        { BYTES("-0.5e+10"), BYTES("0n-0.5e+10") },
        { BYTES("[]"), BYTES("0[ 0]") },
        { BYTES("{}"), BYTES("0{ 0}") },
        { BYTES("[1,[],{}]"), BYTES("0[ 1n1 1[ 1] 1{ 1} 0]") },
        { BYTES("{\"a\" : {\"b\":[0]},\"a\":false}"),
          BYTES("0{ 1ka 1{ 2kb 2[ 3n0 2] 1} 1ka 1f 0}") },
        { BYTES("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), BYTES("0s\"\\/\b\f\n\r\t") },
        { BYTES("\"a\\u0000b\""), BYTES("0sa\0b") },
        { BYTES("\"\\u00e9\\u20AC\\ud83d\\ude00\""),
          BYTES("0s\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80") },
        { BYTES("\"\\ud83dx\\ude00\\ud83d\\u0041\""),
          BYTES("0s\xEF\xBF\xBDx\xEF\xBF\xBD\xEF\xBF\xBD\x41") },
        { BYTES("\"\xff\xC3\xA9\""), BYTES("0s\xff\xC3\xA9") },
    };
    dp_error err;
    dp_buf out;

    dp_buf_init(&out, 1 << 20);
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_buf_reset(&out);
        CHECK_OK(spell(&out, rows[i].bytes, rows[i].size, &err), err);
        CHECK(out.size == rows[i].want_size && memcmp(out.bytes, rows[i].want, out.size) == 0,
              "%s gives %s", rows[i].bytes, out.bytes);
    }
    dp_buf_deinit(&out);
}

static void test_what_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *want;
    } rows[] = {
        { BYTES(""), "test.json:1:1: expected a value, found the end" },
        { BYTES("  "), "test.json:1:3: expected a value, found the end" },
        { BYTES("1 2"), "test.json:1:3: expected the end of the text, found '2'" },
        { BYTES("[1,]"), "test.json:1:4: expected a value, found ']'" },
        { BYTES("[1 2]"), "expected a comma or the end of the container, found '2'" },
        { BYTES("[1}"), "expected a comma or the end of the container, found '}'" },
        { BYTES("{,}"), "expected a member name in quotes or }, found ','" },
        { BYTES("{\"a\":1,}"), "expected a member name in quotes, found '}'" },
        { BYTES("{\"a\" 1}"), "expected a colon, found '1'" },
        { BYTES("{\"a\":}"), "expected a value, found '}'" },
        { BYTES("{a:1}"), "expected a member name in quotes or }, found 'a'" },
        { BYTES("\n\n [tru]"), "test.json:3:3: expected a value or ], found 't'" },
        { BYTES("[NaN]"), "expected a value or ], found 'N'" },
        { BYTES("\"a"), "expected the end of a string, found the end" },
        { BYTES("\"a\nb\""), "expected the end of a string, found byte 0x0a" },
        { BYTES("\"\\x\""), "expected an escape: one of \" \\ / b f n r t u, found 'x'" },
        { BYTES("\"\\\0\""), "expected an escape: one of \" \\ / b f n r t u, found byte 0x00" },
        { BYTES("\"\\u12g4\""), "expected four hex digits, found '1'" },
        { BYTES("01"), "expected the end of the text, found '1'" },
        { BYTES("-"), "expected a digit, found the end" },
        { BYTES("1."), "expected a digit, found the end" },
        { BYTES("1e"), "expected a digit, found the end" },
        { BYTES("+1"), "expected a value, found '+'" },
        { BYTES("]"), "expected a value, found ']'" },
        { BYTES("[\0]"), "expected a value or ], found byte 0x00" },
    };
    dp_error err;
    dp_buf out;

    dp_buf_init(&out, 1 << 20);
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_buf_reset(&out);
        CHECK(spell(&out, rows[i].bytes, rows[i].size, &err) == DP_E_CORRUPT, "%s passes",
              rows[i].bytes);
        CHECK(strstr(err.text, rows[i].want), "%s: %s", rows[i].bytes, err.text);
    }
    dp_buf_deinit(&out);
}

static void test_depth_is_bounded(void **state)
{
    char text[2 * (DP_JSON_DEPTH_MAX + 1)];
    dp_error err;
    dp_buf out;

    dp_buf_init(&out, 1 << 20);
    memset(text, '[', DP_JSON_DEPTH_MAX + 1);
    memset(text + DP_JSON_DEPTH_MAX + 1, ']', DP_JSON_DEPTH_MAX + 1);
    CHECK_OK(spell(&out, text + 1, sizeof text - 2, &err), err);
    CHECK(spell(&out, text, sizeof text, &err) == DP_E_LIMIT, "one deeper passes");
    CHECK(strstr(err.text, "nested deeper than 64"), "%s", err.text);
    dp_buf_deinit(&out);
}

/* Skipping from any token ends behind its value. */
static void test_skip(void **state)
{
    static const char text[] = "{\"a\":{\"x\":[1,{\"y\":[]}]},\"b\":[[2],3],\"c\":4}";
    dp_json_token t;
    dp_json json;
    dp_error err;

    dp_json_init(&json, "test.json", text, sizeof text - 1);
    CHECK_OK(dp_json_next(&json, &t, &err), err);
    for (const char *name = "abc"; *name; name++) {
        CHECK_OK(dp_json_next(&json, &t, &err), err);
        CHECK(t.kind == DP_JSON_KEY && t.text.bytes[0] == *name, "not at %c", *name);
        if (*name == 'b') { /* the value's own token may be skipped as well */
            CHECK_OK(dp_json_next(&json, &t, &err), err);
        }
        CHECK_OK(dp_json_skip(&json, &t, &err), err);
    }
    CHECK_OK(dp_json_next(&json, &t, &err), err);
    CHECK(t.kind == DP_JSON_OBJECT_END && t.depth == 0, "kind %d", (int)t.kind);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(dp_json_next(&json, &t, &err), err);
        CHECK(t.kind == DP_JSON_END, "kind %d", (int)t.kind);
    }
    dp_json_deinit(&json);
}

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        bool is_i64;
        int64_t i64;
        double f64;
    } rows[] = {
        { "0", true, 0, 0 },
        { "-7", true, -7, -7 },
        { "9223372036854775807", true, INT64_MAX, 9223372036854775807.0 },
        { "-9223372036854775808", true, INT64_MIN, -9223372036854775808.0 },
        { "9223372036854775808", false, 0, 9223372036854775808.0 },
        { "1.5", false, 0, 1.5 },
        { "1e3", false, 0, 1000 },
        { "1e999", false, 0, INFINITY },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_json_token t = { .kind = DP_JSON_NUMBER, .text = dp_str_from(rows[i].text) };
        int64_t integer = 0;
        double real = INFINITY;

        CHECK(dp_json_i64(&t, &integer) == rows[i].is_i64 && integer == rows[i].i64, "%s",
              rows[i].text);
        CHECK(dp_json_f64(&t, &real) == isfinite(rows[i].f64) && real == rows[i].f64, "%s",
              rows[i].text);
    }
}

/* An independent parser accepts the same texts: small ones of all the characters
 * that matter. */
static void test_agrees_with_jansson(void **state)
{
    static const char alphabet[] = "{}[],:\"\"\\u01-.e truefalsn ";
    uint32_t accepted = 0;
    dp_error err;
    dp_buf out;
    dp_rng rng;

    dp_buf_init(&out, 1 << 20);
    dp_rng_init(&rng, 5);
    for (int round = 0; round < 200000; round++) {
        char text[12];
        size_t size = 1 + dp_rng_below(&rng, sizeof text);
        json_t *value;
        bool passes;

        for (size_t i = 0; i < size; i++)
            text[i] = alphabet[dp_rng_below(&rng, sizeof alphabet - 1)];
        value = json_loadb(text, size, JSON_DECODE_ANY, NULL);
        dp_buf_reset(&out);
        passes = spell(&out, text, size, &err) == DP_OK;
        CHECK(passes == (value != NULL), "%.*s: %s", (int)size, text, passes ? "passes" : err.text);
        accepted += passes;
        json_decref(value);
    }
    CHECK(accepted > 1000, "only %u texts were JSON", accepted);
    dp_buf_deinit(&out);
}

static void test_every_allocation_may_fail(void **state)
{
    static const char text[] = "{\"name\":\"a long enough string to grow the buffer, with \\n\"}";
    dp_error err;

    for (uint64_t visit = 0;; visit++) {
        dp_json_token t = { .kind = DP_JSON_NULL };
        dp_status st = DP_OK;
        dp_json json;

        dp_fault_arm(DP_FAULT_MEM, visit, 1);
        dp_json_init(&json, "test.json", text, sizeof text - 1);
        while (!st && t.kind != DP_JSON_END)
            st = dp_json_next(&json, &t, &err);
        dp_fault_disarm(DP_FAULT_MEM);
        if (st)
            CHECK(dp_json_next(&json, &t, &err) == st, "a failure is forgotten");
        dp_json_deinit(&json);
        if (!st) {
            CHECK(visit > 0, "nothing was allocated");
            break;
        }
        CHECK(st == DP_E_NOMEM, "%s", err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_agrees_with_jansson),
        cmocka_unit_test(test_every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
