#include "app/cli/answer.h"

#include <stdlib.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "testing/check.h"

static char path[] = "/tmp/doppler-answer-XXXXXX";

static const dp_option options[] = {
    { "thinking", "", DP_OPTION_CHOICE, "", 0, 0, "auto", "auto|show|hide", "" },
    { "tools", "", DP_OPTION_TEXT, "FILE", 0, 0, NULL, NULL, "" },
};
static const dp_args_command command = { .name = "chat", .options = options, .option_count = 2 };
static const dp_args_program program = { .name = "doppler" };

static void set_options(dp_args *args, const char *thinking, const char *tools)
{
    char *words[4] = { 0 };
    size_t count = 0;
    dp_error err = { 0 };

    if (thinking) {
        words[count++] = "--thinking";
        words[count++] = (char *)thinking;
    }
    if (tools) {
        words[count++] = "--tools";
        words[count++] = (char *)tools;
    }
    CHECK_OK(dp_args_parse(args, &program, &command, words, count, &err), err);
}

#define CALL(arguments) "<tool_call>{\"name\": \"f\", \"arguments\": " arguments "}</tool_call>"

static const struct {
    const char *name, *thinking, *text; /* what the model writes */
    bool is_terminal;
    const char *shown, *content, *thoughts, *calls;
} cases[] = {
    { "an answer", NULL, "Yes.", false, "Yes.", "Yes.", NULL, NULL },
    { "thoughts are for people", NULL, "<think>\nHm.\n</think>\n\nYes.", false, "Yes.", "Yes.",
      "Hm.", NULL },
    { "on a terminal", NULL, "<think>\nHm.\n</think>\n\nYes.", true, "\x1b[2mHm.\x1b[0m\n\nYes.",
      "Yes.", "Hm.", NULL },
    { "hidden there", "hide", "<think>\nHm.\n</think>\n\nYes.", true, "Yes.", "Yes.", "Hm.", NULL },
    { "shown elsewhere", "show", "<think>\nHm.\n</think>\n\nYes.", false,
      "<think>\nHm.\n</think>\n\nYes.", "Yes.", "Hm.", NULL },
    { "thoughts without an end", "show", "<think>Hm.", true, "\x1b[2mHm.\x1b[0m\n\n", "", "Hm.",
      NULL },
    { "calls", NULL, "I look.\n" CALL("{\"a\": 1}") "\n" CALL("{]"), false,
      "I look.\n{\"tool_call\": {\"id\": \"call00001\", \"name\": \"f\", \"arguments\": {\"a\": "
      "1}}}\n"
      "{\"tool_call\": {\"id\": \"call00002\", \"name\": \"f\", \"arguments\": \"{]}\"}}\n",
      "I look.", NULL,
      "[{\"id\": \"call00001\", \"type\": \"function\", \"function\": {\"name\": \"f\", "
      "\"arguments\": {\"a\": 1}}}, {\"id\": \"call00002\", \"type\": \"function\", \"function\": "
      "{\"name\": \"f\", \"arguments\": \"{]}\"}}]\n" },
    { "a call behind thoughts", "show", "<think>Hm.</think>" CALL("{}"), false,
      "<think>\nHm.\n</think>\n\n"
      "{\"tool_call\": {\"id\": \"call00001\", \"name\": \"f\", \"arguments\": {}}}\n",
      "", "Hm.",
      "[{\"id\": \"call00001\", \"type\": \"function\", \"function\": {\"name\": \"f\", "
      "\"arguments\": {}}}]\n" },
};

static bool is_same(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}

static void test_what_is_shown(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++) {
        dp_error err = { 0 };
        dp_output *output;
        dp_message message;
        dp_answer a;
        dp_args args;
        char *shown;
        size_t size;

        CHECK_OK(dp_output_open(&output, path, &err), err);
        output->is_terminal = cases[i].is_terminal;
        set_options(&args, cases[i].thinking, NULL);
        CHECK_OK(dp_answer_init(&a, &args, output, &err), err);
        CHECK_OK(dp_answer_begin_format(&a, NULL, "hermes", NULL, 0, &err), err);
        CHECK(dp_answer_text(&a, cases[i].text, strlen(cases[i].text)), "%s", cases[i].name);
        CHECK_OK(dp_answer_finish(&a, &err), err);
        message = dp_answer_message(&a);
        CHECK(is_same(message.content, cases[i].content) &&
                  is_same(message.thinking, cases[i].thoughts) &&
                  is_same(message.tool_calls, cases[i].calls) && !strcmp(message.role, "assistant"),
              "%s: %s %s %s", cases[i].name, message.content, message.thinking, message.tool_calls);
        dp_answer_deinit(&a);
        CHECK_OK(dp_output_close(output, &err), err);
        CHECK_OK(dp_file_read_all(&shown, &size, path, 10000, &err), err);
        CHECK(!strcmp(shown, cases[i].shown), "%s: %s", cases[i].name, shown);
        dp_free(shown);
    }
}

/* Ids go on from answer to answer; what an answer had is gone with the next. */
static void test_next_answer(void **state)
{
    dp_error err = { 0 };
    dp_answer a;
    dp_args args;

    set_options(&args, NULL, NULL);
    CHECK_OK(dp_answer_init(&a, &args, NULL, &err), err);
    for (int i = 1; i <= 3; i++) {
        char id[16];
        const char *text = CALL("{}");

        snprintf(id, sizeof id, "call%05d", i);
        CHECK_OK(dp_answer_begin_format(&a, NULL, "hermes", NULL, 0, &err), err);
        CHECK(dp_answer_text(&a, text, strlen(text)), "answer %d", i);
        CHECK_OK(dp_answer_finish(&a, &err), err);
        CHECK(json_array_size(a.calls) == 1 && strstr(a.calls_text.bytes, id), "%s",
              a.calls_text.bytes);
    }
    CHECK_OK(dp_answer_begin_format(&a, NULL, "hermes", NULL, 0, &err), err);
    CHECK_OK(dp_answer_finish(&a, &err), err);
    CHECK(!dp_answer_message(&a).tool_calls && !strcmp(dp_answer_message(&a).content, ""),
          "nothing was said");
    dp_answer_deinit(&a);
}

/* With a call gpt-oss's template takes thoughts or content, not both. */
static void test_harmony(void **state)
{
    static const char thoughts[] = "<|channel|>analysis<|message|>Hm.<|end|>";
    static const char words[] = "<|channel|>commentary<|message|>I look.<|end|>";
    static const char call[] = "<|channel|>commentary to=functions.f<|message|>{}<|call|>";
    dp_error err = { 0 };
    dp_message message;
    dp_answer a;
    dp_args args;

    set_options(&args, NULL, NULL);
    CHECK_OK(dp_answer_init(&a, &args, NULL, &err), err);
    for (int has_words = 0; has_words < 2; has_words++) {
        CHECK_OK(dp_answer_begin_format(&a, NULL, "harmony", NULL, 0, &err), err);
        dp_answer_text(&a, thoughts, strlen(thoughts));
        dp_answer_text(&a, words, has_words ? strlen(words) : 0);
        dp_answer_text(&a, call, strlen(call));
        CHECK_OK(dp_answer_finish(&a, &err), err);
        message = dp_answer_message(&a);
        CHECK(message.tool_calls && is_same(message.thinking, has_words ? NULL : "Hm.") &&
                  is_same(message.content, has_words ? "I look." : ""),
              "%s %s", message.thinking, message.content);
    }
    dp_answer_deinit(&a);
}

static void test_tools(void **state)
{
    static const struct {
        const char *file;
        dp_status want;
    } rows[] = { { "[]", DP_OK },
                 { "[{\"type\": \"function\"}]", DP_OK },
                 { "{}", DP_E_INVALID },
                 { "[", DP_E_INVALID },
                 { "", DP_E_INVALID } };
    dp_error err = { 0 };
    dp_answer a;
    dp_args args;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        FILE *file = fopen(path, "w");

        CHECK(file && fputs(rows[i].file, file) >= 0 && fclose(file) == 0, "%s", path);
        set_options(&args, NULL, path);
        CHECK(dp_answer_init(&a, &args, NULL, &err) == rows[i].want, "%s: %s", rows[i].file,
              err.text);
        CHECK(rows[i].want || !strcmp(a.tools, rows[i].file), "%s", a.tools);
        dp_answer_deinit(&a);
    }
    set_options(&args, NULL, "/no/such/file");
    CHECK(dp_answer_init(&a, &args, NULL, &err) == DP_E_NOTFOUND, "%s", err.text);
    dp_answer_deinit(&a);
}

/* A failed write ends the answer, and the output is who says so. */
static void test_full_disk(void **state)
{
    dp_error err = { 0 };
    dp_output *output;
    dp_answer a;
    dp_args args;

    CHECK_OK(dp_output_open(&output, "/dev/full", &err), err);
    set_options(&args, NULL, NULL);
    CHECK_OK(dp_answer_init(&a, &args, output, &err), err);
    CHECK_OK(dp_answer_begin_format(&a, NULL, "none", NULL, 0, &err), err);
    CHECK(!dp_answer_text(&a, "a", 1) && output->error, "a full disk");
    CHECK_OK(dp_answer_finish(&a, &err), err);
    dp_answer_deinit(&a);
    CHECK(dp_output_close(output, &err) == DP_E_IO, "close");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_shown), cmocka_unit_test(test_next_answer),
        cmocka_unit_test(test_harmony),       cmocka_unit_test(test_tools),
        cmocka_unit_test(test_full_disk),
    };
    int failed, fd = mkstemp(path);

    if (fd < 0)
        return 1;
    close(fd);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
