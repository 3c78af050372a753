#include "testing/check.h"

#include <math.h>

#include "base/str.h"

#define TIB (DP_GIB * 1024)

static void test_views(void **state)
{
    dp_str text = dp_str_from("model.gguf");
    dp_str empty = dp_str_from(NULL);

    CHECK(text.size == 10 && empty.size == 0, "sizes");
    CHECK(dp_str_equal(text, dp_str_from("model.gguf")), "equal");
    CHECK(!dp_str_equal(text, dp_str_from("model.ggug")), "same size");
    CHECK(dp_str_equal(empty, dp_str_from("")), "empty");
    CHECK(dp_str_is(text, "model.gguf") && !dp_str_is(text, "model"), "is");
    CHECK(dp_str_starts_with(text, "model") && dp_str_starts_with(empty, ""), "starts");
    CHECK(!dp_str_starts_with(text, "odel") && !dp_str_starts_with(empty, "m"), "starts not");
    CHECK(dp_str_ends_with(text, ".gguf") && dp_str_ends_with(text, ""), "ends");
    CHECK(!dp_str_ends_with(text, ".ggu") && !dp_str_ends_with(empty, "f"), "ends not");
}

static void test_parse_u64(void **state)
{
    static const struct {
        const char *text;
        bool is_number;
        uint64_t want;
    } rows[] = {
        { "0", true, 0 },
        { "007", true, 7 },
        { "18446744073709551615", true, UINT64_MAX },
        { "18446744073709551616", false, 0 },
        { "99999999999999999999", false, 0 },
        { "", false, 0 },
        { "-1", false, 0 },
        { "+1", false, 0 },
        { " 1", false, 0 },
        { "1 ", false, 0 },
        { "0x1", false, 0 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        uint64_t value = 0;
        bool is_number = dp_parse_u64(dp_str_from(rows[i].text), &value);

        CHECK(is_number == rows[i].is_number && value == rows[i].want, "\"%s\"", rows[i].text);
    }
}

static void test_parse_f64(void **state)
{
    static const struct {
        const char *text;
        bool is_number;
        double want;
    } rows[] = {
        { "0", true, 0 },
        { "1.5", true, 1.5 },
        { "-2", true, -2 },
        { "+.5", true, 0.5 },
        { "5.", true, 5 },
        { "1e3", true, 1000 },
        { "1E-3", true, 0.001 },
        { "0.1", true, 0.1 },
        { "179769313486231570e291", true, 1.7976931348623157e308 },
        { "4.9406564584124654e-324", true, 0x1p-1074 },
        { "1e-999", true, 0 },
        { "1e999", false, 0 },
        { "", false, 0 },
        { "-", false, 0 },
        { ".", false, 0 },
        { "e5", false, 0 },
        { "1e", false, 0 },
        { "1e+", false, 0 },
        { "1,5", false, 0 },
        { "nan", false, 0 },
        { "inf", false, 0 },
        { "0x1p3", false, 0 },
        { " 1", false, 0 },
        { "1 ", false, 0 },
    };
    char zeros[500];

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        double value = 0;
        bool is_number = dp_parse_f64(dp_str_from(rows[i].text), &value);

        CHECK(is_number == rows[i].is_number && value == rows[i].want, "\"%s\": %g", rows[i].text,
              value);
    }
    memset(zeros, '0', sizeof zeros);
    CHECK(!dp_parse_f64((dp_str){ zeros, sizeof zeros }, &(double){ 0 }), "too long");
    CHECK(dp_parse_f64((dp_str){ zeros, 400 }, &(double){ 0 }), "long, not ended by a NUL");
}

static void test_parse_size(void **state)
{
    static const struct {
        const char *text;
        bool is_size;
        uint64_t want;
    } rows[] = {
        { "4096", true, 4096 },
        { "7b", true, 7 },
        { "12GiB", true, 12 * DP_GIB },
        { "1.5G", true, 3 * DP_GIB / 2 },
        { "300MB", true, 300000000 },
        { "64k", true, 65536 },
        { "64KB", true, 64000 },
        { "2t", true, 2 * TIB },
        { "2TB", true, 2000000000000 },
        { "0.001kb", true, 1 },
        { "0.0009kb", true, 0 },
        { "1.9999999999999999999999G", true, 2 * DP_GIB - 1 },
        { "16777215T", true, 16777215 * TIB },
        { "16777216T", false, 0 },
        { "16777215.9T", true, 16777215 * TIB + 989560464998u },
        { "1.5", false, 0 },
        { "1.G", false, 0 },
        { ".5G", false, 0 },
        { "G", false, 0 },
        { "", false, 0 },
        { "12 GiB", false, 0 },
        { "12GiBs", false, 0 },
        { "12X", false, 0 },
        { "-1G", false, 0 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        uint64_t bytes = 0;
        bool is_size = dp_parse_size(dp_str_from(rows[i].text), &bytes);

        CHECK(is_size == rows[i].is_size && bytes == rows[i].want, "\"%s\": %llu", rows[i].text,
              (unsigned long long)bytes);
    }
}

static void test_format_size(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *want;
    } rows[] = {
        { 0, "0 B" },
        { 1023, "1023 B" },
        { 1024, "1.00 KiB" },
        { 11 * DP_MIB, "11.0 MiB" },
        { 10234, "9.99 KiB" },
        { 10239, "10.0 KiB" },
        { 102400, "100 KiB" },
        { 1023 * DP_KIB, "1023 KiB" },
        { DP_MIB - 1, "1.00 MiB" },
        { 3 * DP_GIB / 2, "1.50 GiB" },
        { UINT64_MAX, "16.0 EiB" },
    };
    char out[16];

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++)
        CHECK(strcmp(dp_format_size(out, rows[i].bytes), rows[i].want) == 0, "row %zu: %s", i, out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_views),       cmocka_unit_test(test_parse_u64),
        cmocka_unit_test(test_parse_f64),   cmocka_unit_test(test_parse_size),
        cmocka_unit_test(test_format_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
