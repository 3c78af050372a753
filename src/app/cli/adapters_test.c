#include "app/cli/adapters.h"

#include "testing/check.h"

static const dp_option options[] = { { "lora", "", DP_OPTION_TEXT, "FILE", 0, 0, NULL, NULL,
                                       "x" } };
static const dp_args_command command = { .name = "run", .options = options, .option_count = 1 };
static const dp_args_command *const commands[] = { &command, NULL };
static const dp_args_program program = { .name = "doppler", .commands = commands };

static dp_status read_words(dp_adapters *out, const char *const *words, size_t count, dp_error *err)
{
    static dp_args args;

    CHECK_OK(dp_args_parse(&args, &program, &command, (char *const *)words, count, err), *err);
    return dp_adapters_read(out, &args, err);
}

static void test_names_and_scales(void **state)
{
    static const struct {
        const char *word, *path; /* NULL: refused */
        float scale;
    } rows[] = {
        { "--lora=a.gguf", "a.gguf", 1 },
        { "--lora=a.gguf=0.5", "a.gguf", 0.5f },
        { "--lora=a.gguf=-2", "a.gguf", -2 },
        { "--lora=a.gguf=0", "a.gguf", 0 },
        { "--lora=a=b.gguf", "a=b.gguf", 1 },
        { "--lora=a=0.5=1", "a=0.5", 1 },
        { "--lora=a=", "a=", 1 },
        { "--lora=a=1x", "a=1x", 1 },
        { "--lora=0.5", "0.5", 1 },
        { "--lora==1", NULL, 0 },
        { "--lora=", NULL, 0 },
        { "--lora=a=1e300", NULL, 0 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_adapters a;
        dp_error err;
        dp_status st = read_words(&a, &rows[i].word, 1, &err);

        CHECK((st == DP_OK) == (rows[i].path != NULL), "%s: %d", rows[i].word, st);
        if (st)
            CHECK(strstr(err.text, "FILE=SCALE"), "%s: %s", rows[i].word, err.text);
        else
            CHECK(a.count == 1 && dp_str_is(a.paths[0], rows[i].path) &&
                      a.uses[0].scale == rows[i].scale,
                  "%s: %.*s, %g", rows[i].word, (int)a.paths[0].size, a.paths[0].bytes,
                  (double)a.uses[0].scale);
    }
}

static void test_order_and_number(void **state)
{
    const char *words[DP_SESSION_ADAPTERS_MAX + 1];
    dp_adapters a;
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(words); i++)
        words[i] = i % 2 ? "--lora=b=2" : "--lora=a";
    CHECK_OK(read_words(&a, words, DP_SESSION_ADAPTERS_MAX, &err), err);
    CHECK(a.count == DP_SESSION_ADAPTERS_MAX && dp_str_is(a.paths[0], "a") &&
              dp_str_is(a.paths[1], "b") && a.uses[1].scale == 2,
          "order");
    CHECK(read_words(&a, words, DP_ARRAY_LEN(words), &err) == DP_E_INVALID, "%s", err.text);
    CHECK_OK(read_words(&a, words, 0, &err), err);
    CHECK(a.count == 0, "none");
    dp_adapters_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_scales),
        cmocka_unit_test(test_order_and_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
