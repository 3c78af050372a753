/* chat_parse_formats.c - the formats of published models' answers, and how a model's is told.
 *
 * Sources: the chat templates of the models; openai/harmony's description of its format. */
#include <string.h>

#include "text/chat_parse_impl.h"

/* Full-width bars, and U+2581 for spaces. */
#define DEEPSEEK(words) "<\uFF5C" words "\uFF5C>"
#define SP              "\u2581"

#define THINK                                                                                      \
    { "<think>", DP_MARK_THINK },                                                                  \
    {                                                                                              \
        "</think>", DP_MARK_THINK_END                                                              \
    }
#define TAGGED                                                                                     \
    .begin = dp_chat_tagged_begin, .on_text = dp_chat_tagged_text, .on_mark = dp_chat_tagged_mark, \
    .on_end = dp_chat_tagged_end

/* In the order of detection. */
static const dp_chat_rules formats[] = {
    { .name = "harmony", /* gpt-oss */
      .template_marks = { "<|channel|>", "<|message|>" },
      .vocabulary_mark = "<|channel|>",
      .marks = { { "<|start|>", DP_MARK_START },
                 { "<|channel|>", DP_MARK_CHANNEL },
                 { "<|constrain|>", DP_MARK_CONSTRAIN },
                 { "<|message|>", DP_MARK_MESSAGE },
                 { "<|end|>", DP_MARK_END },
                 { "<|return|>", DP_MARK_END },
                 { "<|call|>", DP_MARK_END } },
      .begin = dp_chat_harmony_begin,
      .on_text = dp_chat_harmony_text,
      .on_mark = dp_chat_harmony_mark,
      .on_end = dp_chat_harmony_end },
    { .name = "kimi-k2",
      .template_marks = { "<|tool_call_argument_begin|>" },
      .vocabulary_mark = "<|tool_call_argument_begin|>",
      .marks = { THINK,
                 { "<|tool_calls_section_begin|>", DP_MARK_SECTION },
                 { "<|tool_calls_section_end|>", DP_MARK_SECTION_END },
                 { "<|tool_call_begin|>", DP_MARK_CALL },
                 { "<|tool_call_argument_begin|>", DP_MARK_ARGUMENTS },
                 { "<|tool_call_end|>", DP_MARK_CALL_END } },
      TAGGED,
      .read_calls = dp_chat_calls_kimi },
    { .name = "deepseek", /* V3, R1, V3.1 */
      .template_marks = { DEEPSEEK("Assistant") },
      .vocabulary_mark = DEEPSEEK("tool" SP "calls" SP "begin"),
      .marks = { THINK,
                 { DEEPSEEK("tool" SP "calls" SP "begin"), DP_MARK_SECTION },
                 { DEEPSEEK("tool" SP "calls" SP "end"), DP_MARK_SECTION_END },
                 { DEEPSEEK("tool" SP "call" SP "begin"), DP_MARK_CALL },
                 { DEEPSEEK("tool" SP "sep"), DP_MARK_ARGUMENTS },
                 { DEEPSEEK("tool" SP "call" SP "end"), DP_MARK_CALL_END } },
      TAGGED,
      .read_calls = dp_chat_calls_deepseek },
    { .name = "qwen3-coder",
      .template_marks = { "<tool_call>", "<function=" },
      .marks = { THINK,
                 { "<tool_call>", DP_MARK_CALL },
                 { "</tool_call>", DP_MARK_CALL_END },
                 { "<function=", DP_MARK_FUNCTION },
                 { "</function>", DP_MARK_FUNCTION_END } },
      TAGGED,
      .read_calls = dp_chat_calls_hermes },
    { .name = "hermes", /* and Qwen 2.5, Qwen 3 */
      .template_marks = { "<tool_call>" },
      .vocabulary_mark = "<tool_call>",
      .marks = { THINK, { "<tool_call>", DP_MARK_CALL }, { "</tool_call>", DP_MARK_CALL_END } },
      TAGGED,
      .read_calls = dp_chat_calls_hermes },
    { .name = "llama3",
      .template_marks = { "<|start_header_id|>" },
      .vocabulary_mark = "<|python_tag|>",
      .marks = { THINK, { "<|python_tag|>", DP_MARK_CALL } },
      .takes_whole_json = true,
      TAGGED,
      .read_calls = dp_chat_calls_llama },
    { .name = "mistral",
      .template_marks = { "[TOOL_CALLS]" },
      .vocabulary_mark = "[TOOL_CALLS]",
      .marks = { { "[THINK]", DP_MARK_THINK },
                 { "[/THINK]", DP_MARK_THINK_END },
                 { "[TOOL_CALLS]", DP_MARK_CALL },
                 { "[CALL_ID]", DP_MARK_ID },
                 { "[ARGS]", DP_MARK_ARGUMENTS } },
      TAGGED,
      .read_calls = dp_chat_calls_mistral },
    { .name = "think", .template_marks = { "</think>" }, .marks = { THINK }, TAGGED },
    { .name = "none", TAGGED },
};

static bool contains(dp_str text, const char *part)
{
    return text.size > 0 && memmem(text.bytes, text.size, part, strlen(part)) != NULL;
}

static bool is_in_template(const dp_chat_rules *rules, dp_str chat_template)
{
    if (!rules->template_marks[0])
        return false;
    for (size_t i = 0; i < DP_ARRAY_LEN(rules->template_marks) && rules->template_marks[i]; i++)
        if (!contains(chat_template, rules->template_marks[i]))
            return false;
    return true;
}

const dp_chat_rules *dp_chat_rules_detect(dp_str chat_template, const dp_tokenizer *t)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(formats); i++) {
        const char *mark = formats[i].vocabulary_mark;

        if (chat_template.size > 0 ? is_in_template(&formats[i], chat_template)
                                   : mark && t && dp_tokenizer_find(t, dp_str_from(mark)) >= 0)
            return &formats[i];
    }
    return &formats[DP_ARRAY_LEN(formats) - 1];
}

const dp_chat_rules *dp_chat_rules_at(uint32_t n)
{
    return n < DP_ARRAY_LEN(formats) ? &formats[n] : NULL;
}

const char *dp_chat_rules_name(const dp_chat_rules *rules)
{
    return rules->name;
}

const dp_chat_rules *dp_chat_rules_find(const char *name)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(formats); i++)
        if (!strcmp(name, formats[i].name))
            return &formats[i];
    return NULL;
}

const char *dp_chat_parse_format_at(uint32_t n)
{
    return n < DP_ARRAY_LEN(formats) ? formats[n].name : NULL;
}
