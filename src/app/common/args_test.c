#include "app/common/args.h"

#include "base/base.h"
#include "testing/check.h"

static const dp_option shared[] = {
    { "ram", "memory", DP_OPTION_SIZE, "BYTES", 0, 1e18, "auto", NULL, "memory to use" },
    { "threads", "compute", DP_OPTION_COUNT, "N", 0, 256, "0", NULL, "threads that compute" },
    { "peer", "swarm", DP_OPTION_TEXT, "HOST", 0, 0, "", NULL, "a peer to ask" },
    { "temp", "sampling", DP_OPTION_REAL, "", 0, 10, "0.8", NULL, "temperature" },
};

static const dp_option own[] = {
    { "prompt", "", DP_OPTION_TEXT, "", 0, 0, NULL, NULL, "text to continue" },
    { "max-tokens", "", DP_OPTION_COUNT, "N", 1, 100, "7", NULL, "tokens to write" },
    { "stop", "", DP_OPTION_TEXT, "", 0, 0, NULL, NULL, "text that ends it" },
    { "json", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "one object" },
    { "color", "", DP_OPTION_CHOICE, "", 0, 0, "auto", "auto|on|off", "when to color" },
    { "rate", "", DP_OPTION_REAL, "", -1, 1, "0", NULL, "a rate" },
    { "part", "", DP_OPTION_SIZE, "BYTES", 1, 1 << 20, "4KiB", NULL, "a part" },
};

static const dp_args_letter letters[] = {
    { 'p', "prompt" }, { 'n', "max-tokens" }, { 't', "threads" }, { 's', "temp" }
};

static const dp_args_command run = { "run", "MODEL [-]",       1,    2,   "Runs a model", NULL,
                                     own,   DP_ARRAY_LEN(own), true, true };
static const dp_args_command list = {
    "list", "", 0, 0, "Lists models", "One.\n\n.two 'x' \\ -", own, 1, false, false, true
};
static const dp_args_command *const commands[] = { &run, &list, NULL };
static const dp_args_exit exits[] = { { 0, "all is well" }, { 2, "usage" } };

static const dp_args_program program = { "prog",
                                         "1.2",
                                         "does things",
                                         "It does -- things.",
                                         commands,
                                         shared,
                                         DP_ARRAY_LEN(shared),
                                         letters,
                                         DP_ARRAY_LEN(letters),
                                         exits,
                                         DP_ARRAY_LEN(exits),
                                         "None.",
                                         "prog list" };

static size_t count_words(char *const *words)
{
    size_t count = 0;

    while (words[count])
        count++;
    return count;
}

/* name = value given; value NULL: the text expected is the default. */
static void test_values(void **state)
{
    static const struct {
        char *words[8];
        const char *name, *want;
    } rows[] = {
        { { "m" }, "prompt", NULL },
        { { "m" }, "max-tokens", "7" },
        { { "m" }, "ram", "auto" },
        { { "m", "--prompt", "a b" }, "prompt", "a b" },
        { { "m", "--prompt=a=b" }, "prompt", "a=b" },
        { { "m", "--prompt=" }, "prompt", "" },
        { { "m", "--prompt", "--json" }, "prompt", "--json" },
        { { "-p", "x", "m" }, "prompt", "x" },
        { { "-px", "m" }, "prompt", "x" },
        { { "m", "-n", "100" }, "max-tokens", "100" },
        { { "m", "-n5" }, "max-tokens", "5" },
        { { "m", "-n", "1", "-n", "2" }, "max-tokens", "2" },
        { { "m", "-t", "none" }, "threads", "none" }, /* the owner of the table says no */
        { { "m", "--json" }, "json", "on" },
        { { "m", "--json=off" }, "json", "off" },
        { { "m", "--color", "off" }, "color", "off" },
        { { "m", "--rate", "-1" }, "rate", "-1" },
        { { "m", "--part", "1MiB" }, "part", "1MiB" },
        { { "--", "m" }, "json", "off" },
        { { "--", "m", "--json" }, "json", "off" },
        { { "m", "-" }, "json", "off" },
    };
    dp_args args;
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        const char *got;

        CHECK_OK(
            dp_args_parse(&args, &program, &run, rows[i].words, count_words(rows[i].words), &err),
            err);
        got = dp_args_text(&args, rows[i].name);
        CHECK((got == NULL) == (rows[i].want == NULL) && (!got || strcmp(got, rows[i].want) == 0),
              "row %zu: \"%s\" instead of \"%s\"", i, got ? got : "(null)",
              rows[i].want ? rows[i].want : "(null)");
    }
}

static void test_refusals(void **state)
{
    static const struct {
        char *words[8];
        const char *text;
    } rows[] = {
        { { NULL }, "run: an argument is missing: prog run MODEL [-]" },
        { { "a", "b", "c" }, "run: \"c\" is one argument too many: prog run MODEL [-]" },
        { { "m", "--promt", "x" },
          "run: no option --promt; did you mean --prompt? (prog help run" },
        { { "m", "--thr=1" }, "did you mean --threads?" },
        { { "m", "--xyzzy" }, "run: no option --xyzzy (prog help run lists them)" },
        { { "m", "--peer=x" }, "run: no option --peer" },
        { { "m", "-x" }, "run: no option -x (prog help run lists them)" },
        { { "m", "--prompt" }, "run: --prompt needs a value: --prompt TEXT" },
        { { "m", "-n", "0" }, "run: --max-tokens takes N (1 to 100; default 7), not \"0\"" },
        { { "m", "-n", "101" }, "not \"101\"" },
        { { "m", "-n", "" }, "not \"\"" },
        { { "m", "-n", "1e1" }, "not \"1e1\"" },
        { { "m", "--rate", "1.5" }, "run: --rate takes X (-1 to 1; default 0), not \"1.5\"" },
        { { "m", "--rate", "nan" }, "not \"nan\"" },
        { { "m", "--part", "2MiB" }, "not \"2MiB\"" },
        { { "m", "--color", "of" }, "run: --color takes auto|on|off (default auto), not \"of\"" },
        { { "m", "--color=" }, "not \"\"" },
        { { "m", "--color", "auto|on" }, "not \"auto|on\"" },
        { { "m", "--json=yes" }, "run: --json takes on or off, not \"yes\"" },
        { { "m", "--"
                 "\xff\xfe"
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
          "run: no option" },
    };
    dp_args args;
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_status st =
            dp_args_parse(&args, &program, &run, rows[i].words, count_words(rows[i].words), &err);

        CHECK(st == DP_E_INVALID, "row %zu gave %d", i, st);
        CHECK(strstr(err.text, rows[i].text), "row %zu: %s", i, err.text);
    }
}

static void test_commands_take_their_options_only(void **state)
{
    char *words[] = { "--temp", "1" }, *short_words[] = { "-t", "1" };
    dp_args args;
    dp_error err;

    CHECK(dp_args_parse(&args, &program, &list, words, 2, &err) == DP_E_INVALID,
          "list took --temp");
    CHECK(dp_args_parse(&args, &program, &list, short_words, 2, &err) == DP_E_INVALID,
          "list took -t");
    CHECK(dp_args_find_command(&program, "list", &err) == &list, "no list");
    CHECK(!dp_args_find_command(&program, "lsit", &err), "found lsit");
    CHECK(strstr(err.text, "no command \"lsit\"; did you mean \"list\"?"), "%s", err.text);
    CHECK(!dp_args_find_command(&program, "", &err), "found the empty command");
    CHECK(!strstr(err.text, "did you mean"), "%s", err.text);
}

static void test_repeats_and_limits(void **state)
{
    char *words[2 * (DP_ARGS_VALUES_MAX + 1) + 1] = { "m", "--stop",   "a", "-n",
                                                      "3", "--stop=b", "-h" };
    dp_args args;
    dp_error err;
    size_t at = 0;

    CHECK_OK(dp_args_parse(&args, &program, &run, words, 6, &err), err);
    CHECK(strcmp(dp_args_next(&args, "stop", &at), "a") == 0, "the first stop");
    CHECK(strcmp(dp_args_next(&args, "stop", &at), "b") == 0, "the second stop");
    CHECK(!dp_args_next(&args, "stop", &at), "a third stop");
    CHECK(dp_args_is_given(&args, "stop") && !dp_args_is_given(&args, "json"), "given");
    CHECK(dp_args_count(&args, "max-tokens") == 3 && !args.wants_help, "count");

    CHECK_OK(dp_args_parse(&args, &program, &run, words + 3, 4, &err), err);
    CHECK(args.wants_help, "-h behind options");

    for (size_t i = 0; i < 2 * (DP_ARGS_VALUES_MAX + 1); i += 2) {
        words[i] = "-n";
        words[i + 1] = "1";
    }
    CHECK(dp_args_parse(&args, &program, &run, words, 2 * (DP_ARGS_VALUES_MAX + 1), &err) ==
              DP_E_LIMIT,
          "a command line without end");
}

static void test_nearest(void **state)
{
    static const char *const names[] = { "run", "chat", "inspect", "tokenize", "perplexity" };
    static const struct {
        const char *word, *want;
    } rows[] = {
        { "run", "run" },         { "rnu", "run" },
        { "ru", "run" },          { "chta", "chat" },
        { "inspct", "inspect" },  { "tokenise", "tokenize" },
        { "perp", "perplexity" }, { "perpelxtiy", "perplexity" },
        { "serve", NULL },        { "", NULL },
        { "xx", NULL },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        const char *got = dp_args_nearest(rows[i].word, names, DP_ARRAY_LEN(names));

        CHECK((got == NULL) == (rows[i].want == NULL) && (!got || strcmp(got, rows[i].want) == 0),
              "\"%s\": %s", rows[i].word, got ? got : "nothing");
    }
}

/* Every line of a help fits a terminal, and no option of the command is missing. */
static void test_help(void **state)
{
    dp_buf out;
    char *line;

    dp_buf_init(&out, 1 << 16);
    CHECK(dp_args_help_program(&program, &out) == DP_OK, "program");
    CHECK(strstr(out.bytes, "\n  list         Lists models\n"), "%s", out.bytes);
    dp_buf_reset(&out);
    CHECK(dp_args_help_command(&program, &run, &out) == DP_OK, "command");
    for (size_t i = 0; i < DP_ARRAY_LEN(own); i++)
        CHECK(strstr(out.bytes, own[i].summary), "%s is missing:\n%s", own[i].name, out.bytes);
    CHECK(strstr(out.bytes,
                 "\nSampling:\n  -s, --temp X              temperature (0 to 10; default 0.8)"),
          "%s", out.bytes);
    CHECK(
        strstr(out.bytes, "\nMemory:\n      --ram BYTES           memory to use (default auto)\n"),
        "%s", out.bytes);
    for (line = strtok(out.bytes, "\n"); line; line = strtok(NULL, "\n"))
        CHECK(strlen(line) <= 80, "%zu columns: %s", strlen(line), line);
    dp_buf_deinit(&out);
}

static void test_man(void **state)
{
    dp_buf out;

    dp_buf_init(&out, 1 << 16);
    CHECK(dp_args_man(&program, &out) == DP_OK, "man");
    CHECK(strstr(out.bytes, "\\fB\\-n\\fR, \\fB\\-\\-max\\-tokens\\fR \\fIN\\fR\n"), "%s",
          out.bytes);
    CHECK(strstr(out.bytes, "One.\n.PP\n\\&.two 'x' \\e \\-\n"), "%s", out.bytes);
    CHECK(strstr(out.bytes, ".SH \"EXIT STATUS\"\n.TP\n.B 0\nall is well.\n"), "%s", out.bytes);
    dp_buf_deinit(&out);
}

/* A help that does not fit its buffer is a status, wherever it stops fitting. */
static void test_help_of_limited_size(void **state)
{
    dp_status st = DP_E_LIMIT;

    for (size_t size = 0; st == DP_E_LIMIT; size++) {
        dp_buf out;

        dp_buf_init(&out, size);
        st = dp_args_man(&program, &out);
        CHECK(st == DP_OK || st == DP_E_LIMIT, "%d", st);
        CHECK(out.size <= size, "%zu of %zu", out.size, size);
        dp_buf_deinit(&out);
    }
}

/* The group "swarm" alone: of models that are only looked at. */
static void test_swarm_alone(void **state)
{
    char *peers[] = { "--peer=a", "--peer", "b" }, *ram[] = { "--ram=1GiB" };
    dp_args args;
    dp_error err;
    size_t at = 0;

    CHECK_OK(dp_args_parse(&args, &program, &list, peers, 3, &err), err);
    CHECK(!strcmp(dp_args_next(&args, "peer", &at), "a") &&
              !strcmp(dp_args_next(&args, "peer", &at), "b") && !dp_args_next(&args, "peer", &at),
          "both");
    CHECK(dp_args_parse(&args, &program, &list, ram, 1, &err) == DP_E_INVALID, "%s", err.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_commands_take_their_options_only),
        cmocka_unit_test(test_repeats_and_limits),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_man),
        cmocka_unit_test(test_swarm_alone),
        cmocka_unit_test(test_help_of_limited_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
