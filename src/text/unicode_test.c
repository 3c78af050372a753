#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "testing/check.h"
#include "text/unicode.h"
#include "base/utf8.h"

/* What PCRE2 calls the classes, a capture group each; the n-th group is class n. */
static const char classes[] = "(\\p{Lu})|(\\p{Ll})|(\\p{Lt})|(\\p{Lm})|(\\p{Lo})|(\\p{M})|(\\p{N})|"
                              "(\\p{P})|(\\p{S})|(\\p{Z})|([\\x09-\\x0D\\x{85}])";

static const char han[] = "\\p{sc:Han}";

typedef struct oracle {
    pcre2_code *code;
    pcre2_match_data *match;
} oracle;

static void oracle_init(oracle *o, const char *expression)
{
    int error = 0;
    PCRE2_SIZE at = 0;

    o->code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                            &error, &at, NULL);
    CHECK(o->code, "error %d at %zu", error, (size_t)at);
    pcre2_jit_compile(o->code, PCRE2_JIT_COMPLETE); /* for speed alone */
    o->match = pcre2_match_data_create_from_pattern(o->code, NULL);
    CHECK(o->match, "match data");
}

static void oracle_deinit(oracle *o)
{
    pcre2_match_data_free(o->match);
    pcre2_code_free(o->code);
}

/* 1 and the number of the group that matched; below 1: no match. */
static int oracle_ask(const oracle *o, const char *bytes, size_t size)
{
    return pcre2_match(o->code, (PCRE2_SPTR)bytes, size, 0, PCRE2_NO_UTF_CHECK, o->match, NULL);
}

static void test_agrees_with_pcre2(void **state)
{
    char version[64] = "";
    oracle of_classes, of_han;

    pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
    if (strncmp(version, "14.", 3)) {
        printf("skipped: PCRE2 knows Unicode %s, the table is of version 14\n", version);
        skip();
    }
    oracle_init(&of_classes, classes);
    oracle_init(&of_han, han);
    for (uint32_t cp = 0; cp < DP_UNICODE_END; cp++) {
        char bytes[DP_UTF8_SIZE_MAX];
        size_t size = dp_utf8_encode(cp, bytes);
        uint32_t coded = cp >= 0xD800 && cp < 0xE000 ? DP_UTF8_REPLACEMENT : cp;
        int got = oracle_ask(&of_classes, bytes, size);
        dp_unicode_class want = got > 1 ? (dp_unicode_class)(got - 1) : DP_UNICODE_OTHER;

        CHECK(dp_unicode_class_of(coded) == want, "U+%04X: %d, not %d", coded,
              dp_unicode_class_of(coded), want);
        CHECK(dp_unicode_is_han(coded) == (oracle_ask(&of_han, bytes, size) > 0), "U+%04X: Han",
              coded);
    }
    oracle_deinit(&of_classes);
    oracle_deinit(&of_han);
}

static void test_outside(void **state)
{
    static const uint32_t outside[] = { 0x110000, 0x7FFFFFFF, UINT32_MAX };

    for (size_t i = 0; i < DP_ARRAY_LEN(outside); i++)
        CHECK(dp_unicode_class_of(outside[i]) == DP_UNICODE_OTHER && !dp_unicode_is_han(outside[i]),
              "%X", outside[i]);
    CHECK(dp_unicode_bit('a') & DP_IS_L && !(dp_unicode_bit('a') & DP_IS_LU), "a");
    CHECK(dp_unicode_bit(0x85) & DP_IS_SPACE && dp_unicode_bit(0x3000) & DP_IS_SPACE,
          "white space");
    CHECK(!(dp_unicode_bit(0x180E) & DP_IS_SPACE), "U+180E stopped being white space in 6.3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_pcre2),
        cmocka_unit_test(test_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
