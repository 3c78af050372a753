#include "app/cli/answer.h"

#include <stdio.h>
#include <string.h>
#include "app/cli/json_text.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"

#define DIM_BEGIN "\x1b[2m"
#define DIM_END   "\x1b[0m"

/* ---- tools ---- */

static dp_status read_tools(dp_answer *a, const char *path, dp_error *err)
{
    json_error_t why;
    json_t *list;
    dp_status st = dp_file_read_all(&a->tools, &a->tools_size, path, DP_ANSWER_TOOLS_MAX, err);

    if (st)
        return st;
    list = json_loadb(a->tools, a->tools_size, 0, &why);
    if (!list)
        st = dp_fail(err, DP_E_INVALID, "%s: line %d: no JSON: %s", path, why.line, why.text);
    else if (!json_is_array(list))
        st = dp_fail(err, DP_E_INVALID, "%s: not a JSON list of tools", path);
    json_decref(list);
    return st;
}

dp_status dp_answer_init(dp_answer *a, const dp_args *args, dp_output *output, dp_error *err)
{
    const char *thinking = dp_args_text(args, "thinking");
    const char *tools = dp_args_text(args, "tools");

    *a = (dp_answer){ .output = output };
    dp_buf_init(&a->content, DP_ANSWER_TEXT_MAX);
    dp_buf_init(&a->thinking, DP_ANSWER_TEXT_MAX);
    dp_buf_init(&a->calls_text, DP_ANSWER_TEXT_MAX);
    a->shows_thinking =
        output && (!strcmp(thinking, "show") || (!strcmp(thinking, "auto") && output->is_terminal));
    return tools ? read_tools(a, tools, err) : DP_OK;
}

void dp_answer_deinit(dp_answer *a)
{
    dp_chat_parser_close(a->parser);
    dp_free(a->tools);
    json_decref(a->calls);
    dp_buf_deinit(&a->content);
    dp_buf_deinit(&a->thinking);
    dp_buf_deinit(&a->calls_text);
}

/* ---- events ---- */

static bool show(dp_answer *a, const char *text, size_t size)
{
    return !a->output || (dp_output_write(a->output, text, size) && dp_output_flush(a->output));
}

static bool show_text(dp_answer *a, const char *text)
{
    return show(a, text, strlen(text));
}

/* The border between thoughts and the rest. */
static bool turn_thinking(dp_answer *a, bool is_thinking)
{
    bool is_terminal = a->output && a->output->is_terminal;

    if (!a->shows_thinking || is_thinking == a->is_thinking)
        return true;
    a->is_thinking = is_thinking;
    if (is_thinking)
        return show_text(a, is_terminal ? DIM_BEGIN : "<think>\n");
    return show_text(a, is_terminal ? DIM_END "\n\n" : "\n</think>\n\n");
}

/* Arguments as JSON; what is broken stays a string. */
static json_t *arguments_of(const dp_chat_event *event)
{
    json_t *value = NULL;

    if (!event->is_broken)
        value = json_loadb(event->text, event->size, JSON_DECODE_ANY, NULL);
    return value ? value : dp_json_text(event->text, event->size);
}

/* {"id", "name", "arguments"} of a call; models that give no id get one. Nine letters and
 * digits: what Mistral's template asks for, and others take. */
static json_t *call_of(dp_answer *a, const dp_chat_event *event)
{
    json_t *call = json_object();
    char id[16];

    snprintf(id, sizeof id, "call%05u", ++a->call_count % 100000);
    if (call &&
        !json_object_set_new(call, "id",
                             event->id[0] ? dp_json_text(event->id, strlen(event->id))
                                          : json_string(id)) &&
        !json_object_set_new(call, "name", dp_json_text(event->name, strlen(event->name))) &&
        !json_object_set_new(call, "arguments", arguments_of(event)))
        return call;
    json_decref(call);
    return NULL;
}

static bool add_call(dp_answer *a, const dp_chat_event *event)
{
    json_t *call = call_of(a, event), *function = json_object(), *row = json_object();
    json_t *shown = json_object();
    bool is_ok = call && function && row && shown && !json_object_set(shown, "tool_call", call) &&
                 !json_object_set(function, "name", json_object_get(call, "name")) &&
                 !json_object_set(function, "arguments", json_object_get(call, "arguments")) &&
                 !json_object_set(row, "id", json_object_get(call, "id")) &&
                 !json_object_set_new(row, "type", json_string("function")) &&
                 !json_object_set(row, "function", function) && !json_array_append(a->calls, row);
    dp_buf line;

    dp_buf_init(&line, DP_ANSWER_TEXT_MAX);
    is_ok = is_ok && dp_json_write(&line, shown, 0) == DP_OK && turn_thinking(a, false);
    if (is_ok && a->output && !a->output->is_line_start)
        is_ok = show_text(a, "\n");
    is_ok = is_ok && show(a, line.bytes, line.size);
    dp_buf_deinit(&line);
    json_decref(shown);
    json_decref(row);
    json_decref(function);
    json_decref(call);
    return is_ok;
}

static bool on_event(void *user, const dp_chat_event *event)
{
    dp_answer *a = user;

    switch (event->kind) {
    case DP_CHAT_EVENT_CONTENT:
        return dp_buf_append(&a->content, event->text, event->size) == DP_OK &&
               turn_thinking(a, false) && show(a, event->text, event->size);
    case DP_CHAT_EVENT_REASONING:
        return dp_buf_append(&a->thinking, event->text, event->size) == DP_OK &&
               turn_thinking(a, true) && (!a->shows_thinking || show(a, event->text, event->size));
    case DP_CHAT_EVENT_CALL:
        return add_call(a, event);
    default:
        return turn_thinking(a, false);
    }
}

/* ---- an answer ---- */

dp_status dp_answer_begin_format(dp_answer *a, const dp_vocab *vocab, const char *format,
                                 const char *prompt, size_t prompt_size, dp_error *err)
{
    dp_chat_parse how = { .format = format,
                          .template_text = a->template_text,
                          .prompt = prompt,
                          .prompt_size = prompt_size,
                          .tools = a->tools,
                          .tools_size = a->tools_size,
                          .on_event = on_event,
                          .user = a };

    dp_chat_parser_close(a->parser);
    a->parser = NULL;
    json_decref(a->calls);
    a->calls = json_array();
    dp_buf_reset(&a->content);
    dp_buf_reset(&a->thinking);
    dp_buf_reset(&a->calls_text);
    a->is_thinking = false;
    if (!a->calls)
        return dp_fail(err, DP_E_NOMEM, "chat: no memory for an answer");
    return dp_chat_parser_open(&a->parser, vocab, &how, err);
}

dp_status dp_answer_begin(dp_answer *a, const dp_vocab *vocab, const dp_chat *chat,
                          const dp_chat_input *input, dp_error *err)
{
    char *prompt = NULL;
    size_t size;
    dp_status st = dp_chat_text(chat, input, &prompt, &size, err);

    a->template_text = dp_chat_template_text(chat);
    if (!st)
        st = dp_answer_begin_format(a, vocab, NULL, prompt, size, err);
    a->template_text = NULL;
    dp_text_free(prompt);
    return st;
}

bool dp_answer_text(dp_answer *a, const char *text, size_t size)
{
    return dp_chat_parser_feed(a->parser, text, size) == DP_OK;
}

bool dp_answer_control(dp_answer *a, dp_token token)
{
    return dp_chat_parser_feed_token(a->parser, token) == DP_OK;
}

dp_status dp_answer_finish(dp_answer *a, dp_error *err)
{
    dp_status st = dp_chat_parser_finish(a->parser);

    if (st == DP_E_CANCELED) /* by a failed write, which the output knows */
        st = a->output && a->output->error ? DP_OK : DP_E_NOMEM;
    if (!st && json_array_size(a->calls) > 0)
        st = dp_json_write(&a->calls_text, a->calls, 0);
    return st ? dp_fail(err, st, "chat: no memory for an answer") : DP_OK;
}

dp_message dp_answer_message(const dp_answer *a)
{
    bool has_calls = a->calls_text.size > 0, has_thoughts = a->thinking.size > 0;

    /* gpt-oss's template refuses a call with both; words for the user stay. */
    if (has_calls && a->content.size > 0 && !strcmp(dp_chat_parser_format(a->parser), "harmony"))
        has_thoughts = false;
    return (dp_message){
        .role = "assistant",
        .content = a->content.size > 0 ? a->content.bytes : "", /* templates look into it */
        .thinking = has_thoughts ? a->thinking.bytes : NULL,
        .tool_calls = has_calls ? a->calls_text.bytes : NULL,
    };
}
