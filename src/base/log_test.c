#include "testing/check.h"

#include "base/log.h"
#include "base/thread.h"

static struct {
    int count;
    dp_log_level level;
    char module[32];
    char text[2048];
} seen;

static void keep(void *user, dp_log_level level, const char *module, const char *text)
{
    seen.count++;
    seen.level = level;
    snprintf(seen.module, sizeof seen.module, "%s", module);
    snprintf(seen.text, sizeof seen.text, "%s", text);
    CHECK(user == &seen, "user");
}

static int evaluated_count;

static int evaluate(void)
{
    return ++evaluated_count;
}

static void test_levels(void **state)
{
    DP_LOG_WARN("test", "a=%d", evaluate());
    CHECK(evaluated_count == 0, "without a sink nothing is evaluated");

    dp_log_set_sink(keep, &seen, DP_LOG_LEVEL_INFO);
    DP_LOG_WARN("test", "a=%d", evaluate());
    DP_LOG_INFO("other", "b=%d", evaluate());
    DP_LOG_DEBUG("test", "c=%d", evaluate());
    CHECK(seen.count == 2 && evaluated_count == 2, "%d", seen.count);
    CHECK(seen.level == DP_LOG_LEVEL_INFO, "%d", (int)seen.level);
    CHECK(strcmp(seen.module, "other") == 0 && strcmp(seen.text, "b=2") == 0, "%s", seen.text);
    dp_log_write(DP_LOG_LEVEL_DEBUG, "test", "d=%d", 1);
    CHECK(seen.count == 2, "above the level, told directly");

    dp_log_set_sink(NULL, NULL, DP_LOG_LEVEL_DEBUG);
    DP_LOG_WARN("test", "a=%d", evaluate());
    CHECK(seen.count == 2, "the sink has gone");
}

static void test_long_line(void **state)
{
    dp_log_set_sink(keep, &seen, DP_LOG_LEVEL_INFO);
    DP_LOG_INFO("test", "%5000d", 1);
    CHECK(strlen(seen.text) == 1023, "%zu", strlen(seen.text));
    dp_log_set_sink(NULL, NULL, DP_LOG_LEVEL_INFO);
}

static void write_lines(void *user)
{
    for (int i = 0; i < 1000; i++)
        DP_LOG_INFO("test", "i=%d", i);
}

static void test_threads(void **state)
{
    dp_thread threads[4];
    dp_error err;

    seen.count = 0;
    dp_log_set_sink(keep, &seen, DP_LOG_LEVEL_INFO);
    for (size_t i = 0; i < DP_ARRAY_LEN(threads); i++)
        CHECK_OK(dp_thread_start(&threads[i], "log", write_lines, NULL, &err), err);
    for (size_t i = 0; i < DP_ARRAY_LEN(threads); i++)
        dp_thread_join(&threads[i]);
    dp_log_set_sink(NULL, NULL, DP_LOG_LEVEL_INFO);
    CHECK(seen.count == 4000, "%d", seen.count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
