/* Conversations to prompts: the api's chat.h over text/chat.h. */
#include "doppler/chat.h"

#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "engine/vocab.h"

#define MESSAGES_MAX     65536
#define PROMPT_BYTES_MAX ((size_t)1 << 30)

struct dp_chat {
    const dp_vocab *vocab;
    dp_chat_format format;
};

dp_status dp_chat_open(dp_chat **out, const dp_vocab *vocab, const char *format,
                       const char *template_text, dp_error *err)
{
    const char *text = template_text ? template_text : vocab->chat_template;
    dp_chat_format chosen;
    dp_chat *chat;

    *out = NULL;
    if (!format || !strcmp(format, "auto"))
        chosen = dp_chat_format_detect(dp_str_from(text), vocab->tokenizer);
    else if (!dp_chat_format_find(format, &chosen))
        return dp_fail(err, DP_E_INVALID, "chat: there is no format \"%.64s\"", format);
    chat = dp_alloc_zero(1, sizeof *chat);
    if (!chat)
        return dp_fail(err, DP_E_NOMEM, "chat: no memory");
    chat->vocab = vocab;
    chat->format = chosen;
    *out = chat;
    return DP_OK;
}

void dp_chat_close(dp_chat *chat)
{
    dp_free(chat);
}

const char *dp_chat_name(const dp_chat *chat)
{
    return dp_chat_format_name(chat->format);
}

const char *dp_chat_warning(const dp_chat *chat)
{
    return NULL;
}

static dp_status render(const dp_chat *chat, const dp_chat_input *input, dp_prompt *out,
                        dp_error *err)
{
    if (input->message_count > MESSAGES_MAX)
        return dp_fail(err, DP_E_LIMIT, "chat: %zu messages, at most %d", input->message_count,
                       MESSAGES_MAX);
    if (input->tools_json || input->args_json || (!input->messages && input->messages_json))
        return dp_fail(err, DP_E_UNSUPPORTED,
                       "chat: the format %s takes neither tools nor arguments nor JSON: those are "
                       "for templates",
                       dp_chat_name(chat));
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
                                      DP_ENCODE_ADD_BOS, &list, err);
    if (st)
        dp_token_list_deinit(&list);
    dp_prompt_deinit(&prompt);
    *tokens = list.ids;
    *count = list.count;
    return st;
}
