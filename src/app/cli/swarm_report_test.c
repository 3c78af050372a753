/* What doppler peers says of experts. */
#include "app/cli/swarm_report.h"
#include "testing/check.h"

static void layers_read_naturally(void **unused)
{
    static const struct {
        uint32_t holders[4];
        const char *line;
    } rows[] = {
        { { 2, 2, 2, 2 }, "layer   0: each expert held by 2\n" },
        { { 3, 1, 2, 2 }, "layer   0: each expert held by 1 to 3, half of them by 2 or more\n" },
        { { 1, 0, 0, 1 },
          "layer   0: each expert held by 0 to 1, half of them by 1 or more; by nobody: 1-2\n" },
        { { 0, 0, 0, 0 }, "layer   0: each expert held by 0; by nobody: 0-3\n" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_peers_report report = { .mount = { .name = "m", .check = "c" },
                                   .holders = rows[i].holders,
                                   .layers = 1,
                                   .experts = 4 };
        dp_buf out;

        dp_buf_init(&out, 4096);
        assert_int_equal(dp_peers_text(&report, &out), DP_OK);
        CHECK(strstr(out.bytes, rows[i].line), "row %zu: %s", i, out.bytes);
        dp_buf_deinit(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(layers_read_naturally) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
