#include "app/cli/summary.h"

#include "base/base.h"
#include "testing/check.h"

static const dp_stats moe = {
    .budget_bytes = 8 << 20,
    .peak_bytes = 22439526,
    .prompt_tokens = 24,
    .prompt_ns = 29556650,
    .decode_tokens = 200,
    .decode_ns = 2098635887,
    .ttft_ns = 31000000,
    .expert_hits = 3987,
    .expert_misses = 1613,
    .disk_read_bytes = 50436505,
    .page_p50_ns = 200000,
    .page_p99_ns = 1100000,
    .threads = 2,
    .kernels = "x86.avx2",
    .source = "file",
    .cache_state = "cold",
};

static void test_line(void **state)
{
    dp_stats dense = moe, swarm = moe, streamed;
    char line[DP_SUMMARY_LINE_MAX];

    dp_summary_format(line, &moe);
    CHECK(strcmp(line, "prompt 24 tok 812 tok/s, decode 200 tok 95.3 tok/s, ttft 31 ms | peak 21.4 "
                       "MiB of 8.00 MiB budget (+32.0 MiB) | experts 71.2% of 5600 hit, read 48.1 "
                       "MiB | page p50 0.2 ms p99 1.1 ms | cold") == 0,
          "%s", line);

    dense.expert_hits = dense.expert_misses = 0;
    dp_summary_format(line, &dense);
    CHECK(strstr(line, "| all weights held, read 48.1 MiB |"), "%s", line);

    streamed = dense;
    streamed.always_hits = 1;
    streamed.always_misses = 3;
    dp_summary_format(line, &streamed);
    CHECK(strstr(line, "| pages 25.0% of 4 hit, read"), "%s", line);

    swarm.swarm_read_bytes = 1 << 20;
    swarm.budget_bytes = (uint64_t)100 << 30;
    dp_summary_format(line, &swarm);
    CHECK(strstr(line, "read 48.1 MiB + 1.00 MiB from peers |"), "%s", line);
    CHECK(strstr(line, "of 100 GiB budget (+2.00 GiB)"), "%s", line);
}

/* The longest numbers there are, and no numbers at all. */
static void test_extremes(void **state)
{
    char line[DP_SUMMARY_LINE_MAX];
    dp_stats stats;

    memset(&stats, 0xFF, sizeof stats);
    snprintf(stats.cache_state, sizeof stats.cache_state, "cold");
    dp_summary_format(line, &stats);
    CHECK(strstr(line, "| cold"), "%s", line);
    memset(&stats, 0, sizeof stats);
    dp_summary_format(line, &stats);
    CHECK(strstr(line, "prompt 0 tok 0.00 tok/s, decode 0 tok 0.00 tok/s"), "%s", line);
}

static void test_keys(void **state)
{
    static const char *const keys[] = {
        "decode_tok_s",  "prefill_tok_s",    "ttft_ms",     "budget_bytes",  "peak_bytes",
        "expert_hits",   "expert_misses",    "page_ms_p50", "page_ms_p99",   "disk_read_bytes",
        "prompt_tokens", "swarm_read_bytes", "cache_state", "decode_tokens", "threads",
        "kernels",       "kv_type",
    };
    json_t *object = json_object();

    CHECK(dp_summary_add(object, &moe), "add");
    for (size_t i = 0; i < DP_ARRAY_LEN(keys); i++)
        CHECK(json_object_get(object, keys[i]), "%s is missing", keys[i]);
    CHECK(json_integer_value(json_object_get(object, "expert_misses")) == 1613, "misses");
    CHECK(json_real_value(json_object_get(object, "page_ms_p99")) == 1.1, "p99");
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
