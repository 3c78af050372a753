#include "text/chat_template.h"

#include <string.h>

#include "base/status.h"

/* Messages as JSON; the first failure stops further writing. */
typedef struct writer {
    dp_buf out;
    dp_status st;
} writer;

static void put(writer *w, const char *text)
{
    if (!w->st)
        w->st = dp_buf_text(&w->out, text);
}

static void put_string(writer *w, const char *text)
{
    size_t plain = 0, size = strlen(text);

    put(w, "\"");
    for (size_t at = 0; at <= size && !w->st; at++) {
        bool is_end = at == size;

        if (!is_end && text[at] != '"' && text[at] != '\\' && (uint8_t)text[at] >= 0x20)
            continue;
        w->st = dp_buf_append(&w->out, text + plain, at - plain);
        if (!w->st && !is_end)
            w->st = dp_buf_format(&w->out, "\\u%04x", (uint8_t)text[at]);
        plain = at + 1;
    }
    put(w, "\"");
}

/* A member that is there; JSON text goes in as it is. */
static void put_member(writer *w, const char *name, const char *text, bool is_json)
{
    if (!text)
        return;
    put(w, ", \"");
    put(w, name);
    put(w, "\": ");
    if (is_json)
        put(w, text);
    else
        put_string(w, text);
}

static void put_messages(writer *w, const dp_message *messages, size_t count)
{
    put(w, "[");
    for (size_t i = 0; i < count && !w->st; i++) {
        const dp_message *m = &messages[i];

        put(w, i ? ", {\"role\": " : "{\"role\": ");
        put_string(w, m->role);
        put_member(w, "content", m->content ? m->content : "null", !m->content);
        put_member(w, "reasoning_content", m->thinking, false);
        put_member(w, "thinking", m->thinking, false);
        put_member(w, "tool_calls", m->tool_calls, true);
        put_member(w, "name", m->name, false);
        put_member(w, "tool_call_id", m->tool_call_id, false);
        put(w, "}");
    }
    put(w, "]");
}

static dp_jinja_var json_var(const char *name, const char *text)
{
    return (dp_jinja_var){ name, dp_str_from(text), true };
}

static size_t add_token(dp_jinja_var *vars, size_t count, const char *name, const dp_tokenizer *t,
                        dp_token token)
{
    if (token == DP_TOKEN_NONE)
        return count;
    vars[count] = (dp_jinja_var){ name, dp_tokenizer_text(t, token), false };
    return count + 1;
}

dp_status dp_chat_template_render(const dp_jinja *jinja, const dp_tokenizer *t,
                                  const dp_chat_input *input, dp_prompt *out, dp_error *err)
{
    const char *messages = input->messages_json ? input->messages_json : "[]";
    dp_jinja_var vars[8];
    writer w = { .st = DP_OK };
    size_t count = 0;
    dp_status st;

    dp_buf_init(&w.out, DP_CHAT_JSON_MAX);
    if (input->messages) {
        put_messages(&w, input->messages, input->message_count);
        messages = w.out.bytes;
    }
    if (w.st) {
        dp_buf_deinit(&w.out);
        return dp_fail(err, w.st, "chat: %zu messages", input->message_count);
    }
    if (input->args_json)
        vars[count++] = json_var(NULL, input->args_json);
    vars[count++] = json_var("messages", messages);
    vars[count++] = json_var("tools", input->tools_json ? input->tools_json : "null");
    vars[count++] = json_var("documents", "null");
    vars[count++] = json_var("add_generation_prompt", input->is_closed ? "false" : "true");
    count = add_token(vars, count, "bos_token", t, dp_tokenizer_bos(t));
    count = add_token(vars, count, "eos_token", t, dp_tokenizer_eos(t));
    st = dp_jinja_render(jinja, vars, count, input->now_s, out, err);
    dp_buf_deinit(&w.out);
    return st;
}
