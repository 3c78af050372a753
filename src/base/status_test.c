#include "testing/check.h"

#include <errno.h>

#include "base/status.h"

static void test_texts(void **state)
{
    for (int i = 0; i < DP_STATUS_COUNT; i++) {
        CHECK(dp_status_text((dp_status)i)[0] != 0, "status %d", i);
        for (int k = 0; k < i; k++)
            CHECK(strcmp(dp_status_text((dp_status)i), dp_status_text((dp_status)k)) != 0,
                  "%d and %d", i, k);
    }
    CHECK(strcmp(dp_status_text((dp_status)99), "unknown status") == 0, "99");
    CHECK(strcmp(dp_status_text((dp_status)-1), "unknown status") == 0, "-1");
}

static void test_fail(void **state)
{
    dp_error err;

    CHECK(dp_fail(&err, DP_E_LIMIT, "%s: %d layers, at most %d", "m.gguf", 7, 5) == DP_E_LIMIT,
          "status");
    CHECK(err.status == DP_E_LIMIT, "%d", err.status);
    CHECK(strcmp(err.text, "m.gguf: 7 layers, at most 5") == 0, "%s", err.text);
    CHECK(dp_fail(NULL, DP_E_IO, "%d", 1) == DP_E_IO, "nobody listens");

    dp_fail(&err, DP_E_IO, "%s", "two\nlines\033[1m");
    CHECK(strcmp(err.text, "two?lines?[1m") == 0, "%s", err.text);
    dp_fail(&err, DP_E_IO, "%1000d", 1);
    CHECK(strlen(err.text) == DP_ERROR_TEXT_MAX - 1, "cut: %zu", strlen(err.text));
}

static void test_fail_errno(void **state)
{
    static const struct {
        int errnum;
        dp_status want;
    } rows[] = {
        { EIO, DP_E_IO },
        { EACCES, DP_E_IO },
        { ENOENT, DP_E_NOTFOUND },
        { ENOMEM, DP_E_NOMEM },
    };
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        char want[256];

        CHECK(dp_fail_errno(&err, DP_E_IO, rows[i].errnum, "%s: cannot open", "a") == rows[i].want,
              "row %zu", i);
        CHECK(err.status == rows[i].want, "row %zu", i);
        snprintf(want, sizeof want, "a: cannot open: %s", strerror(rows[i].errnum));
        CHECK(strcmp(err.text, want) == 0, "%s", err.text);
        CHECK(dp_fail_errno(NULL, DP_E_IO, rows[i].errnum, "a") == rows[i].want, "row %zu", i);
    }
    dp_fail_errno(&err, DP_E_IO, EIO, "%1000d", 1);
    CHECK(strlen(err.text) == DP_ERROR_TEXT_MAX - 1, "cut: %zu", strlen(err.text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_fail),
        cmocka_unit_test(test_fail_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
