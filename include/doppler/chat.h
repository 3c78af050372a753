/* chat.h - conversations -> the prompts a model was trained on.
 *
 * Room     A dp_chat is the way one vocabulary writes conversations: the model's
 *          own chat template (Jinja), another template, or one of the formats that
 *          are built in. It renders messages to text, or straight to tokens.
 *
 * Safety   Only what the template itself says becomes a control token. Text of
 *          messages, tools and arguments stays text, whatever it spells; that is
 *          why tokens should come from dp_chat_tokens, not from encoding the text.
 *
 * Threads  A dp_chat never changes: any thread.
 */
#ifndef DOPPLER_CHAT_H
#define DOPPLER_CHAT_H

#include "doppler/vocab.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Borrowed, UTF-8, NUL-terminated; what a message does not have is NULL. */
typedef struct dp_message {
    const char *role;         /* "system", "user", "assistant", "tool", or as the template says */
    const char *content;      /* may be NULL where tools are called */
    const char *thinking;     /* of an assistant: what it thought before it spoke */
    const char *tool_calls;   /* of an assistant: a JSON array of
                                 {"id", "type": "function", "function": {"name", "arguments": {}}} */
    const char *name;         /* of a tool's result: the tool */
    const char *tool_call_id; /* of a tool's result: which call */
} dp_message;

typedef struct dp_chat dp_chat;

/* `format`: "template", the name of a built-in format ("chatml", "llama3", ...), or
 * "auto", the same as NULL: the template if there is one. A vocabulary's template that
 * cannot be read is then recognised as a built-in format, with a warning.
 * `template_text`, NUL-terminated and copied, stands in for the vocabulary's own; NULL:
 * no other. The vocabulary is borrowed until dp_chat_close.
 * DP_E_INVALID: an unknown format, no template, or what is wrong with it and where;
 * DP_E_UNSUPPORTED names what of Jinja it needs and doppler has not. */
DP_API dp_status dp_chat_open(dp_chat **out, const dp_vocab *vocab, const char *format,
                              const char *template_text, dp_error *err);
DP_API void dp_chat_close(dp_chat *chat);
DP_API const char *dp_chat_name(const dp_chat *chat); /* "template", "chatml", ... */
/* The template it was opened with, in use or not; NULL: none. */
DP_API const char *dp_chat_template_text(const dp_chat *chat);
/* NULL, or one sentence about a template that "auto" could not use. */
DP_API const char *dp_chat_warning(const dp_chat *chat);

/* What is rendered. Zero is a good start. All text is UTF-8 and NUL-terminated. */
typedef struct dp_chat_input {
    const dp_message *messages; /* [message_count] */
    size_t message_count;
    const char *messages_json; /* or a JSON array of objects, when messages is NULL */
    const char *tools_json;    /* a JSON array of tools, or NULL */
    const char *args_json;     /* a JSON object: further variables of the template, or NULL:
                                  {"enable_thinking": false} */
    bool is_closed;            /* do not begin the assistant's answer */
    int64_t now_s; /* local time in seconds since 1970, for templates that say the date */
} dp_chat_input;

/* The prompt. *text, *size bytes and a NUL, is owned: dp_text_free; *tokens: dp_tokens_free.
 * DP_E_INVALID: what is wrong with the messages, as the template (its line) or the format
 * says; DP_E_UNSUPPORTED: a built-in format was given tools; DP_E_LIMIT; DP_E_CORRUPT:
 * JSON that is none. */
DP_API dp_status dp_chat_text(const dp_chat *chat, const dp_chat_input *input, char **text,
                              size_t *size, dp_error *err);
DP_API dp_status dp_chat_tokens(const dp_chat *chat, const dp_chat_input *input, dp_token **tokens,
                                size_t *count, dp_error *err);

#ifdef __cplusplus
}
#endif
#endif
