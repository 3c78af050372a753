#include "testing/check.h"
#include "base/utf8.h"

#define STR(s) ((dp_str){ s, sizeof(s) - 1 })

static void test_decode(void **state)
{
    static const struct {
        const char *name;
        dp_str bytes;
        size_t size;
        uint32_t cp;
        bool is_valid;
    } cases[] = {
        { "ascii", STR("A"), 1, 'A', true },
        { "zero", STR("\0"), 1, 0, true },
        { "two", STR("\xC2\x80"), 2, 0x80, true },
        { "two, last", STR("\xDF\xBF"), 2, 0x7FF, true },
        { "three", STR("\xE0\xA0\x80"), 3, 0x800, true },
        { "below surrogates", STR("\xED\x9F\xBF"), 3, 0xD7FF, true },
        { "above surrogates", STR("\xEE\x80\x80"), 3, 0xE000, true },
        { "four", STR("\xF0\x90\x80\x80"), 4, 0x10000, true },
        { "last", STR("\xF4\x8F\xBF\xBF"), 4, 0x10FFFF, true },
        { "continuation", STR("\x80"), 1, 0xFFFD, false },
        { "long form of two", STR("\xC1\xBF"), 1, 0xFFFD, false },
        { "long form of three", STR("\xE0\x9F\xBF"), 1, 0xFFFD, false },
        { "long form of four", STR("\xF0\x8F\xBF\xBF"), 1, 0xFFFD, false },
        { "surrogate", STR("\xED\xA0\x80"), 1, 0xFFFD, false },
        { "too large", STR("\xF4\x90\x80\x80"), 1, 0xFFFD, false },
        { "never first", STR("\xF5\x80\x80\x80"), 1, 0xFFFD, false },
        { "cut after one", STR("\xE2"), 1, 0xFFFD, false },
        { "cut after two", STR("\xE2\x82"), 1, 0xFFFD, false },
        { "second is none", STR("\xE2\x41\x80"), 1, 0xFFFD, false },
        { "third is none", STR("\xE2\x82\x41"), 1, 0xFFFD, false },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++) {
        uint32_t cp = 1;
        size_t size = dp_utf8_decode(cases[i].bytes.bytes, cases[i].bytes.size, &cp);

        CHECK(size == cases[i].size && cp == cases[i].cp, "%s: %zu bytes, %X", cases[i].name, size,
              cp);
        CHECK(dp_utf8_is_valid(cases[i].bytes) == cases[i].is_valid, "%s", cases[i].name);
    }
    CHECK(dp_utf8_is_valid(STR("")), "nothing is valid");
}

static void test_encode_is_the_inverse(void **state)
{
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        char bytes[DP_UTF8_SIZE_MAX];
        uint32_t back, want = cp >= 0xD800 && cp < 0xE000 ? DP_UTF8_REPLACEMENT : cp;
        size_t size = dp_utf8_encode(cp, bytes);

        CHECK(dp_utf8_decode(bytes, size, &back) == size && back == want, "U+%X gives U+%X", cp,
              back);
    }
}

static void test_partial(void **state)
{
    static const struct {
        dp_str bytes;
        size_t size;
    } cases[] = {
        { STR(""), 0 },
        { STR("a"), 0 },
        { STR("a\xC3"), 1 },
        { STR("\xE2\x82"), 2 },
        { STR("\xF0\x9F\x98"), 3 },
        { STR("\xF0\x9F"), 2 },
        { STR("\xF0"), 1 },
        { STR("\xE2\x82\xAC"), 0 },
        { STR("\xE0\x80"), 0 },
        { STR("\xED\xA0"), 0 },
        { STR("\xF4\x90"), 0 },
        { STR("\xF5"), 0 },
        { STR("\x80\x80\x80"), 0 },
        { STR("\xC3\xA9\xC3"), 1 },
        { STR("\xE2\xE2"), 1 },
        { STR("\xFF"), 0 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++) {
        size_t size = dp_utf8_partial_size(cases[i].bytes.bytes, cases[i].bytes.size);
        CHECK(size == cases[i].size, "case %zu: %zu", i, size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_encode_is_the_inverse),
        cmocka_unit_test(test_partial),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
