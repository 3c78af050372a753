#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"
#include "text/chat.h"
#include "text/tokenizer_testing.h"

#define BAR "\uFF5C"
#define EOS "<" BAR "end\u2581of\u2581sentence" BAR ">"
#define L31                                                                                        \
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday "  \
    "Date: 26 Jul 2024\n\n"
#define HARMONY                                                                                    \
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"       \
    "Knowledge cutoff: 2024-06\n\nReasoning: medium\n\n# Valid channels: analysis, commentary, "   \
    "final. Channel must be included for every message.<|end|>"
#define HEAD(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"

static const dp_message talk[] = {
    { "system", "Be brief." },
    { "user", " Hi " },
    { "assistant", "<think>\nhm\n</think>\n\nHello." },
    { "user", "Bye" },
};

static const struct {
    const char *name;
    const char *whole;     /* all of talk */
    const char *no_system; /* talk[3] alone */
} formats[] = {
    { "plain", "Be brief.\n Hi \n<think>\nhm\n</think>\n\nHello.\nBye\n", "Bye\n" },
    { "chatml",
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n"
      "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>"
      "assistant\n",
      "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n" },
    { "llama3",
      HEAD("system") "Be brief.<|eot_id|>" HEAD("user") "Hi<|eot_id|>" HEAD(
          "assistant") "<think>\nhm\n</think>\n\nHello.<|eot_id|>" HEAD("user") "Bye<|eot_id|"
                                                                                ">" HEAD("assistan"
                                                                                         "t"),
      HEAD("user") "Bye<|eot_id|>" HEAD("assistant") },
    { "llama3.1",
      L31 "Be brief.<|eot_id|>" HEAD("user") "Hi<|eot_id|>" HEAD(
          "assistant") "<think>\nhm\n</think>\n\nHello.<|eot_id|>" HEAD("user") "Bye<|eot_id|"
                                                                                ">" HEAD("assistan"
                                                                                         "t"),
      L31 "<|eot_id|>" HEAD("user") "Bye<|eot_id|>" HEAD("assistant") },
    { "mistral",
      "[INST] Be brief.\n\n Hi  [/INST] <think>\nhm\n</think>\n\nHello.</s>[INST] Bye [/INST]",
      "[INST] Bye [/INST]" },
    { "harmony",
      HARMONY
      "<|start|>developer<|message|># Instructions\n\nBe brief.\n\n<|end|>"
      "<|start|>user<|message|> Hi <|end|><|start|>assistant<|channel|>final<|message|>"
      "<think>\nhm\n</think>\n\nHello.<|end|><|start|>user<|message|>Bye<|end|><|start|>assistant",
      HARMONY "<|start|>user<|message|>Bye<|end|><|start|>assistant" },
    { "deepseek",
      "Be brief.<" BAR "User" BAR "> Hi <" BAR "Assistant" BAR ">\n\nHello." EOS "<" BAR "User" BAR
      ">Bye<" BAR "Assistant" BAR ">",
      "<" BAR "User" BAR ">Bye<" BAR "Assistant" BAR ">" },
    { "deepseek-r1",
      "Be brief.<" BAR "User" BAR "> Hi <" BAR "Assistant" BAR ">\n\nHello." EOS "<" BAR "User" BAR
      ">Bye<" BAR "Assistant" BAR "><think>\n",
      "<" BAR "User" BAR ">Bye<" BAR "Assistant" BAR "><think>\n" },
};

static void check_render(const char *name, const dp_message *messages, size_t count,
                         const char *want)
{
    dp_error err = { 0 };
    dp_chat_format format;
    dp_prompt out;

    dp_prompt_init(&out, 1 << 16);
    CHECK(dp_chat_format_find(name, &format), "%s", name);
    CHECK(!strcmp(dp_chat_format_name(format), name), "%s", name);
    CHECK_OK(dp_chat_render(format, messages, count, false, &out, &err), err);
    CHECK(!strcmp(out.text.bytes, want), "%s:\n%s\nnot\n%s", name, out.text.bytes, want);
    dp_prompt_deinit(&out);
}

static void test_render(void **state)
{
    const dp_message system_last = { "system", "Be brief." };

    CHECK(DP_ARRAY_LEN(formats) == DP_CHAT_FORMAT_COUNT, "every format has a row");
    for (size_t i = 0; i < DP_ARRAY_LEN(formats); i++) {
        check_render(formats[i].name, talk, DP_ARRAY_LEN(talk), formats[i].whole);
        check_render(formats[i].name, talk + 3, 1, formats[i].no_system);
    }
    check_render("mistral", &system_last, 1, "[INST] Be brief.\n\n [/INST]");
}

static void test_refuses(void **state)
{
    const dp_message bad[] = { { "user", "Hi" }, { "narrator", "So" } };
    const dp_message call = { "assistant", NULL, .tool_calls = "[]" };
    dp_error err = { 0 };
    dp_prompt out;
    dp_chat_format format;

    dp_prompt_init(&out, 1 << 16);
    CHECK(dp_prompt_add(&out, dp_str_from("kept"), true) == DP_OK, "append");
    CHECK(dp_chat_render(DP_CHAT_CHATML, bad, 2, false, &out, &err) == DP_E_INVALID,
          "an unknown role");
    CHECK(strstr(err.text, "narrator"), "%s", err.text);
    CHECK(!strcmp(out.text.bytes, "kept") && out.text.size == 4, "%s", out.text.bytes);
    CHECK(dp_chat_render(DP_CHAT_FORMAT_COUNT, bad, 1, false, &out, &err) == DP_E_INVALID,
          "no format");
    CHECK(dp_chat_render(DP_CHAT_CHATML, &call, 1, false, &out, &err) == DP_E_UNSUPPORTED,
          "a call");
    out.text.size_max = 8;
    CHECK(dp_chat_render(DP_CHAT_CHATML, bad, 1, false, &out, &err) == DP_E_LIMIT, "a full buffer");
    CHECK(!dp_chat_format_find("vicuna", &format), "an unknown name");
    CHECK(!strcmp(dp_chat_format_name(DP_CHAT_FORMAT_COUNT), "unknown"), "a name for none");
    dp_prompt_deinit(&out);
}

/* Who wrote what, and an end without the assistant's beginning. */
static void test_runs(void **state)
{
    static const struct {
        size_t end;
        bool is_trusted;
    } want[] = { { 17, true }, { 19, false }, { 30, true } };
    const dp_message hi = { "user", "Hi" };
    dp_error err = { 0 };
    dp_prompt out;

    dp_prompt_init(&out, 1 << 16);
    CHECK_OK(dp_chat_render(DP_CHAT_CHATML, &hi, 1, true, &out, &err), err);
    CHECK(!strcmp(out.text.bytes, "<|im_start|>user\nHi<|im_end|>\n"), "%s", out.text.bytes);
    CHECK(out.runs.count == DP_ARRAY_LEN(want), "%zu runs", out.runs.count);
    for (size_t i = 0; i < DP_ARRAY_LEN(want); i++)
        CHECK(out.runs.list[i].end == want[i].end &&
                  out.runs.list[i].is_trusted == want[i].is_trusted,
              "run %zu ends at %zu", i, out.runs.list[i].end);
    dp_prompt_cut(&out, 18);
    CHECK(out.runs.count == 2 && out.runs.list[1].end == 18, "cut inside a run");
    dp_prompt_cut(&out, 17);
    CHECK(out.runs.count == 1 && out.runs.list[0].end == 17, "cut at a border");
    dp_prompt_cut(&out, 0);
    CHECK(out.runs.count == 0 && out.text.bytes[0] == 0, "cut to nothing");
    dp_prompt_deinit(&out);
}

static void test_detect(void **state)
{
    static const struct {
        const char *chat_template;
        dp_chat_format want;
    } cases[] = {
        { "{{- '<|im_start|>' + message.role }}", DP_CHAT_CHATML },
        { "<|start_header_id|>", DP_CHAT_LLAMA3 },
        { "<|start_header_id|> {{ \"Cutting Knowledge Date: \" }}", DP_CHAT_LLAMA31 },
        { "{{ '[INST] ' }}", DP_CHAT_MISTRAL },
        { "<|start|>assistant<|channel|>final<|message|>", DP_CHAT_HARMONY },
        { "{{'<" BAR "Assistant" BAR ">'}}", DP_CHAT_DEEPSEEK },
        { "{{'<" BAR "Assistant" BAR "><think>\\n'}}", DP_CHAT_DEEPSEEK_R1 },
        { "### Instruction:", DP_CHAT_PLAIN },
    };
    dp_tokenizer *t;
    dp_error err = { 0 };
    static test_vocab v;

    test_vocab_bpe(&v, "gpt-2");
    CHECK_OK(dp_tokenizer_open(&t, &v.tables, &err), err);
    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++)
        CHECK(dp_chat_format_detect(dp_str_from(cases[i].chat_template), t) == cases[i].want, "%s",
              cases[i].chat_template);
    CHECK(dp_chat_format_detect(dp_str_from(""), t) == DP_CHAT_CHATML, "by the vocabulary");
    dp_tokenizer_close(t);

    test_vocab_spm(&v);
    CHECK_OK(dp_tokenizer_open(&t, &v.tables, &err), err);
    CHECK(dp_chat_format_detect(dp_str_from(""), t) == DP_CHAT_PLAIN, "a base model");
    dp_tokenizer_close(t);
}

static void test_survives_lack_of_memory(void **state)
{
    dp_mem_stats stats;
    uint64_t failed = 1;

    for (uint64_t n = 0; failed > 0; n++) {
        dp_error err = { 0 };
        dp_status st;
        dp_prompt out;

        dp_prompt_init(&out, 1 << 16);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_chat_render(DP_CHAT_HARMONY, talk, DP_ARRAY_LEN(talk), false, &out, &err);
        failed = dp_fault_disarm(DP_FAULT_MEM);
        CHECK(st == (failed ? DP_E_NOMEM : DP_OK), "allocation %d: %d", (int)n, st);
        CHECK(!failed || out.text.size == 0, "%zu bytes stayed", out.text.size);
        dp_prompt_deinit(&out);
        dp_mem_stats_read(&stats);
        CHECK(stats.heap_blocks == 0, "allocation %d leaks", (int)n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_render),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_detect),
        cmocka_unit_test(test_survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
