/* chat.h - a list of messages -> the prompt text a model was trained on.
 *
 * Formats are told by the markers their templates contain; a model without a
 * template is a base model and gets "plain": messages one after the other.
 *
 * Threads  Any.
 */
#ifndef DP_TEXT_CHAT_H
#define DP_TEXT_CHAT_H

#include "doppler/chat.h"
#include "text/prompt.h"
#include "text/tokenizer.h"

typedef enum dp_chat_format {
    DP_CHAT_PLAIN,    /* no markers: text, newline */
    DP_CHAT_CHATML,   /* <|im_start|>role\n...<|im_end|>\n (Qwen) */
    DP_CHAT_LLAMA3,   /* <|start_header_id|>role<|end_header_id|>\n\n...<|eot_id|> */
    DP_CHAT_LLAMA31,  /* the same behind a system message with two dates */
    DP_CHAT_MISTRAL,  /* [INST] ... [/INST] answer</s> (Mixtral); system text first in [INST] */
    DP_CHAT_HARMONY,  /* <|start|>role<|message|>...<|end|> (gpt-oss), answers in channel final */
    DP_CHAT_DEEPSEEK, /* <|User|>...<|Assistant|>...<|end of sentence|> with full-width bars */
    DP_CHAT_DEEPSEEK_R1, /* the same, and the assistant begins to think */
    DP_CHAT_FORMAT_COUNT
} dp_chat_format;

const char *dp_chat_format_name(dp_chat_format format);
bool dp_chat_format_find(const char *name, dp_chat_format *out);
/* From tokenizer.chat_template's text (empty: PLAIN unless the vocabulary has
 * the markers of a format). */
dp_chat_format dp_chat_format_detect(dp_str chat_template, const dp_tokenizer *t);

/* Appends the prompt for messages [count], which ends where the assistant begins to
 * speak, unless is_closed. What messages say is not trusted. The bos token is left to
 * DP_ENCODE_ADD_BOS. DP_E_INVALID names an unknown role, DP_E_UNSUPPORTED a call of a
 * tool; on failure out keeps what it had.
 * Clocks stay out of prompts: Llama 3.1 gets its template's default date, and
 * harmony's system message goes without one. */
dp_status dp_chat_render(dp_chat_format format, const dp_message *messages, size_t count,
                         bool is_closed, dp_prompt *out, dp_error *err);

#endif
