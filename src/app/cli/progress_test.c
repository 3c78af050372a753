#include "app/cli/progress.h"

#include "testing/check.h"

static void test_lines(void **state)
{
    static const struct {
        const char *unit;
        uint64_t done, total, elapsed_ns;
        const char *want;
    } rows[] = {
        { NULL, 0, 8 * DP_GIB, 0, "loading [....................]   0%  0 B of 8.00 GiB, 0 B/s" },
        { NULL, 2 * DP_GIB, 8 * DP_GIB, 2000000000,
          "loading [#####...............]  25%  2.00 GiB of 8.00 GiB, 1.00 GiB/s" },
        { NULL, 8, 8, 1, "loading [####################] 100%  8 B of 8 B, 7.45 GiB/s" },
        { "tok", 30, 60, 500000000,
          "loading [##########..........]  50%  30 tok of 60 tok, 60 tok/s" },
        { "tok", 9, 3, 0, "loading [####################] 100%  9 tok of 3 tok, 0 tok/s" },
        { NULL, 0, 0, 0, "loading [####################] 100%  0 B of 0 B, 0 B/s" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_progress_bar bar = { .label = "loading", .unit = rows[i].unit };
        char line[DP_PROGRESS_LINE_MAX];

        dp_progress_bar_format(line, &bar, rows[i].done, rows[i].total, rows[i].elapsed_ns);
        CHECK(strcmp(line, rows[i].want) == 0, "%s", line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_lines) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
