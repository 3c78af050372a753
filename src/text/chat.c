#include "text/chat.h"

#include <string.h>

#include "base/status.h"

#define IS_SPACE(c)       (memchr(" \t\n\v\f\r", (c), 6) != NULL)
#define THOUGHTS_END      "</think>"
#define THOUGHTS_END_SIZE (sizeof THOUGHTS_END - 1)

/* Full-width bars and U+2581 for spaces. */
#define DEEPSEEK_USER      "<\uFF5CUser\uFF5C>"
#define DEEPSEEK_ASSISTANT "<\uFF5CAssistant\uFF5C>"
#define DEEPSEEK_END       "<\uFF5Cend\u2581of\u2581sentence\uFF5C>"

typedef enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_COUNT } role;

static const char *const role_names[ROLE_COUNT] = { "system", "user", "assistant" };

/* In the order of detection: a marker that others contain comes last. */
static const struct {
    dp_chat_format format;
    const char *marker; /* in templates */
    const char *also;   /* a second one, or NULL */
    bool is_token;      /* the marker in a vocabulary tells, too */
} markers[] = {
    { DP_CHAT_CHATML, "<|im_start|>", NULL, true },
    { DP_CHAT_LLAMA31, "<|start_header_id|>", "Cutting Knowledge Date", false },
    { DP_CHAT_LLAMA3, "<|start_header_id|>", NULL, true },
    { DP_CHAT_HARMONY, "<|channel|>", NULL, true },
    { DP_CHAT_DEEPSEEK_R1, DEEPSEEK_ASSISTANT, DEEPSEEK_ASSISTANT "<think>\\n", false },
    { DP_CHAT_DEEPSEEK, DEEPSEEK_ASSISTANT, NULL, true },
    { DP_CHAT_MISTRAL, "[INST]", NULL, true },
};

static bool contains(dp_str text, const char *part)
{
    return text.size > 0 && memmem(text.bytes, text.size, part, strlen(part)) != NULL;
}

dp_chat_format dp_chat_format_detect(dp_str chat_template, const dp_tokenizer *t)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(markers); i++) {
        bool is_in_template = contains(chat_template, markers[i].marker) &&
                              (!markers[i].also || contains(chat_template, markers[i].also));
        bool is_in_vocabulary = chat_template.size == 0 && markers[i].is_token &&
                                dp_tokenizer_find(t, dp_str_from(markers[i].marker)) >= 0;

        if (is_in_template || is_in_vocabulary)
            return markers[i].format;
    }
    return DP_CHAT_PLAIN;
}

/* A prompt under construction; the first failure stops further writing. */
typedef struct prompt {
    dp_prompt *out;
    dp_status st;
    dp_str system; /* waits for the user's text (Mistral) */
} prompt;

static void put(prompt *p, const char *text)
{
    if (!p->st)
        p->st = dp_prompt_add(p->out, dp_str_from(text), true);
}

static void put_str(prompt *p, dp_str text)
{
    if (!p->st)
        p->st = dp_prompt_add(p->out, text, false);
}

static dp_str trim(dp_str text)
{
    while (text.size > 0 && IS_SPACE(text.bytes[0]))
        text = (dp_str){ text.bytes + 1, text.size - 1 };
    while (text.size > 0 && IS_SPACE(text.bytes[text.size - 1]))
        text.size--;
    return text;
}

/* The answer alone: models are not shown what they thought in earlier turns. */
static dp_str without_thoughts(dp_str text)
{
    for (size_t at = text.size; at >= THOUGHTS_END_SIZE; at--)
        if (!memcmp(text.bytes + at - THOUGHTS_END_SIZE, THOUGHTS_END, THOUGHTS_END_SIZE))
            return (dp_str){ text.bytes + at, text.size - at };
    return text;
}

static void put_chatml(prompt *p, role who, dp_str text)
{
    dp_str answer = who == ROLE_ASSISTANT ? without_thoughts(text) : text;

    while (answer.size < text.size && answer.size > 0 && answer.bytes[0] == '\n')
        answer = (dp_str){ answer.bytes + 1, answer.size - 1 };
    put(p, "<|im_start|>");
    put(p, role_names[who]);
    put(p, "\n");
    put_str(p, answer);
    put(p, "<|im_end|>\n");
}

static void put_llama3(prompt *p, role who, dp_str text)
{
    put(p, "<|start_header_id|>");
    put(p, role_names[who]);
    put(p, "<|end_header_id|>\n\n");
    put_str(p, trim(text));
    put(p, "<|eot_id|>");
}

/* The first message, when it is the system's, joins the one with the dates. */
static void put_llama31_system(prompt *p, dp_str text)
{
    put(p, "<|start_header_id|>system<|end_header_id|>\n\n"
           "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
    put_str(p, trim(text));
    put(p, "<|eot_id|>");
}

static void put_mistral(prompt *p, role who, dp_str text)
{
    if (who == ROLE_SYSTEM) {
        p->system = text;
    } else if (who == ROLE_USER) {
        put(p, "[INST] ");
        put_str(p, p->system);
        put(p, p->system.size > 0 ? "\n\n" : "");
        put_str(p, text);
        put(p, " [/INST]");
        p->system = (dp_str){ NULL, 0 };
    } else {
        put(p, " ");
        put_str(p, text);
        put(p, "</s>");
    }
}

/* What callers call system, harmony calls developer; its own system message says
 * which channels there are. */
static void put_harmony_system(prompt *p)
{
    put(p, "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
           "Knowledge cutoff: 2024-06\n\nReasoning: medium\n\n"
           "# Valid channels: analysis, commentary, final. "
           "Channel must be included for every message.<|end|>");
}

static void put_harmony(prompt *p, role who, dp_str text)
{
    static const char *const begin[ROLE_COUNT] = {
        "<|start|>developer<|message|># Instructions\n\n",
        "<|start|>user<|message|>",
        "<|start|>assistant<|channel|>final<|message|>",
    };

    put(p, begin[who]);
    put_str(p, text);
    put(p, who == ROLE_SYSTEM ? "\n\n<|end|>" : "<|end|>");
}

static void put_deepseek(prompt *p, role who, dp_str text)
{
    static const char *const begin[ROLE_COUNT] = { "", DEEPSEEK_USER, DEEPSEEK_ASSISTANT };

    put(p, begin[who]);
    put_str(p, who == ROLE_ASSISTANT ? without_thoughts(text) : text);
    put(p, who == ROLE_ASSISTANT ? DEEPSEEK_END : "");
}

static void put_plain(prompt *p, role who, dp_str text)
{
    put_str(p, text);
    put(p, "\n");
}

#define LLAMA3_END "<|start_header_id|>assistant<|end_header_id|>\n\n"

static const struct {
    const char *name;
    void (*put)(prompt *p, role who, dp_str text);
    const char *end; /* where the assistant begins to speak */
} formats[DP_CHAT_FORMAT_COUNT] = {
    [DP_CHAT_PLAIN] = { "plain", put_plain, "" },
    [DP_CHAT_CHATML] = { "chatml", put_chatml, "<|im_start|>assistant\n" },
    [DP_CHAT_LLAMA3] = { "llama3", put_llama3, LLAMA3_END },
    [DP_CHAT_LLAMA31] = { "llama3.1", put_llama3, LLAMA3_END },
    [DP_CHAT_MISTRAL] = { "mistral", put_mistral, "" },
    [DP_CHAT_HARMONY] = { "harmony", put_harmony, "<|start|>assistant" },
    [DP_CHAT_DEEPSEEK] = { "deepseek", put_deepseek, DEEPSEEK_ASSISTANT },
    [DP_CHAT_DEEPSEEK_R1] = { "deepseek-r1", put_deepseek, DEEPSEEK_ASSISTANT "<think>\n" },
};

const char *dp_chat_format_name(dp_chat_format format)
{
    return (unsigned)format < DP_CHAT_FORMAT_COUNT ? formats[format].name : "unknown";
}

bool dp_chat_format_find(const char *name, dp_chat_format *out)
{
    for (int i = 0; i < DP_CHAT_FORMAT_COUNT; i++)
        if (!strcmp(name, formats[i].name)) {
            *out = (dp_chat_format)i;
            return true;
        }
    return false;
}

static void put_message(prompt *p, dp_chat_format format, const dp_message *message, size_t i,
                        dp_error *err)
{
    role who = ROLE_SYSTEM;

    while (who < ROLE_COUNT && strcmp(message->role, role_names[who]))
        who++;
    if (who == ROLE_COUNT)
        p->st = dp_fail(err, DP_E_INVALID, "chat: message %zu: unknown role \"%.32s\"", i,
                        message->role);
    else if (message->tool_calls)
        p->st = dp_fail(err, DP_E_UNSUPPORTED,
                        "chat: message %zu calls a tool, which the format %s cannot write", i,
                        formats[format].name);
    else
        formats[format].put(p, who, dp_str_from(message->content));
}

dp_status dp_chat_render(dp_chat_format format, const dp_message *messages, size_t count,
                         bool is_closed, dp_prompt *out, dp_error *err)
{
    prompt p = { .out = out };
    size_t size = out->text.size, i = 0;

    if ((unsigned)format >= DP_CHAT_FORMAT_COUNT)
        return dp_fail(err, DP_E_INVALID, "chat: no format %d", (int)format);
    if (format == DP_CHAT_HARMONY)
        put_harmony_system(&p);
    if (format == DP_CHAT_LLAMA31) {
        bool has_system = count > 0 && !strcmp(messages[0].role, role_names[ROLE_SYSTEM]);

        put_llama31_system(&p, dp_str_from(has_system ? messages[0].content : NULL));
        i = has_system;
    }
    for (; i < count && !p.st; i++)
        put_message(&p, format, &messages[i], i, err);
    if (p.system.size > 0) /* nobody spoke after it */
        put_mistral(&p, ROLE_USER, (dp_str){ NULL, 0 });
    if (!is_closed)
        put(&p, formats[format].end);
    if (p.st) {
        dp_prompt_cut(out, size);
        if (p.st == DP_E_NOMEM || p.st == DP_E_LIMIT)
            dp_fail(err, p.st, "chat: a prompt of %zu messages", count);
    }
    return p.st;
}
