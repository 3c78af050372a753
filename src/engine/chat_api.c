/* Conversations to prompts: the api's chat.h over text/chat.h. */
#include "doppler/chat.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "engine/vocab.h"
#include "text/chat_messages.h"
#include "text/chat_template.h"

#define MESSAGES_MAX     65536
#define PROMPT_BYTES_MAX ((size_t)1 << 30)

struct dp_chat {
    const dp_vocab *vocab;
    dp_jinja *jinja;                      /* NULL: a built-in format */
    dp_chat_format format;                /* without jinja */
    char *template_text;                  /* another one than the vocabulary's, or NULL */
    char warning[DP_ERROR_TEXT_MAX + 64]; /* "": none */
};

/* "auto": the template if it can be read. One that was given for this purpose must be;
 * the vocabulary's own is only recognised then. */
static dp_status choose(dp_chat *chat, bool is_given, dp_error *err)
{
    dp_str text = dp_str_from(dp_chat_template_text(chat));
    dp_error why = { 0 };
    dp_status st = DP_OK;

    if (text.size > 0)
        st = dp_jinja_open(&chat->jinja, text, &why);
    if (st && (is_given || st == DP_E_NOMEM))
        return dp_fail(err, st, "%s", why.text);
    if (chat->jinja)
        return DP_OK;
    chat->format = dp_chat_format_detect(text, chat->vocab->tokenizer);
    if (st)
        snprintf(chat->warning, sizeof chat->warning, "%s; the built-in format %s is used instead",
                 why.text, dp_chat_format_name(chat->format));
    return DP_OK;
}

dp_status dp_chat_open(dp_chat **out, const dp_vocab *vocab, const char *format,
                       const char *template_text, dp_error *err)
{
    dp_status st = DP_OK;
    dp_chat *chat;

    *out = NULL;
    chat = dp_alloc_zero(1, sizeof *chat);
    if (!chat)
        return dp_fail(err, DP_E_NOMEM, "chat: no memory");
    chat->vocab = vocab;
    if (template_text) {
        chat->template_text = dp_strndup(template_text, strlen(template_text));
        if (!chat->template_text) {
            st = dp_fail(err, DP_E_NOMEM, "chat: no memory for a template");
            goto done;
        }
    }
    if (!format || !strcmp(format, "auto"))
        st = choose(chat, template_text != NULL, err);
    else if (!strcmp(format, "template") && dp_chat_template_text(chat))
        st = choose(chat, true, err);
    else if (!strcmp(format, "template"))
        st = dp_fail(err, DP_E_INVALID, "chat: the model has no template");
    else if (!dp_chat_format_find(format, &chat->format))
        st = dp_fail(err, DP_E_INVALID, "chat: there is no format \"%.64s\"", format);
    if (st)
        goto done;

    *out = chat;
    chat = NULL;
done:
    dp_chat_close(chat);
    return st;
}

void dp_chat_close(dp_chat *chat)
{
    if (!chat)
        return;
    dp_jinja_close(chat->jinja);
    dp_free(chat->template_text);
    dp_free(chat);
}

const char *dp_chat_name(const dp_chat *chat)
{
    return chat->jinja ? "template" : dp_chat_format_name(chat->format);
}

const char *dp_chat_template_text(const dp_chat *chat)
{
    return chat->template_text ? chat->template_text : chat->vocab->chat_template;
}

const char *dp_chat_warning(const dp_chat *chat)
{
    return chat->warning[0] ? chat->warning : NULL;
}

static dp_status render(const dp_chat *chat, const dp_chat_input *input, dp_prompt *out,
                        dp_error *err)
{
    if (input->message_count > MESSAGES_MAX)
        return dp_fail(err, DP_E_LIMIT, "chat: %zu messages, at most %d", input->message_count,
                       MESSAGES_MAX);
    if (chat->jinja)
        return dp_chat_template_render(chat->jinja, chat->vocab->tokenizer, input, out, err);
    if (input->tools_json || input->args_json)
        return dp_fail(err, DP_E_UNSUPPORTED,
                       "chat: the format %s takes neither tools nor arguments: those are for "
                       "templates",
                       dp_chat_name(chat));
    if (!input->messages && input->messages_json) {
        dp_chat_messages messages;
        dp_status st = dp_chat_messages_parse(&messages, dp_str_from(input->messages_json), err);

        if (!st)
            st = dp_chat_render(chat->format, messages.items, messages.count, input->is_closed, out,
                                err);
        dp_chat_messages_deinit(&messages);
        return st;
    }
    return dp_chat_render(chat->format, input->messages, input->message_count, input->is_closed,
                          out, err);
}

dp_status dp_chat_text(const dp_chat *chat, const dp_chat_input *input, char **text, size_t *size,
                       dp_error *err)
{
    dp_prompt prompt;
    dp_status st;

    *text = NULL;
    *size = 0;
    dp_prompt_init(&prompt, PROMPT_BYTES_MAX);
    st = render(chat, input, &prompt, err);
    if (!st && !prompt.text.bytes) { /* an empty prompt is still a string */
        st = dp_buf_text(&prompt.text, "");
        if (st)
            dp_fail(err, st, "chat: no memory");
    }
    if (!st) {
        *text = prompt.text.bytes; /* the caller owns it now */
        *size = prompt.text.size;
        prompt.text.bytes = NULL;
    }
    dp_prompt_deinit(&prompt);
    return st;
}

dp_status dp_chat_tokens(const dp_chat *chat, const dp_chat_input *input, dp_token **tokens,
                         size_t *count, dp_error *err)
{
    dp_token_list list = { 0 };
    dp_prompt prompt;
    dp_status st;

    *tokens = NULL;
    *count = 0;
    dp_prompt_init(&prompt, PROMPT_BYTES_MAX);
    st = render(chat, input, &prompt, err);
    if (!st)
        st = dp_tokenizer_encode_runs(chat->vocab->tokenizer,
                                      (dp_str){ prompt.text.bytes, prompt.text.size }, &prompt.runs,
                                      chat->jinja ? 0 : DP_ENCODE_ADD_BOS, &list, err);
    if (st)
        dp_token_list_deinit(&list);
    dp_prompt_deinit(&prompt);
    *tokens = list.ids;
    *count = list.count;
    return st;
}
