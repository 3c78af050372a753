/* chat_template.h - conversations through a model's own template (jinja.h).
 *
 * Room     What a template is given, as transformers gives it: messages, tools,
 *          documents (none), add_generation_prompt, bos_token, eos_token and the
 *          caller's arguments. The names of the two tokens are trusted, all else is not.
 *
 * Threads  Any.
 */
#ifndef DP_TEXT_CHAT_TEMPLATE_H
#define DP_TEXT_CHAT_TEMPLATE_H

#include "doppler/chat.h"
#include "text/jinja.h"
#include "text/tokenizer.h"

#define DP_CHAT_JSON_MAX ((size_t)256 << 20) /* of all messages together */

/* Appends the prompt; the statuses of dp_jinja_render. A message's thoughts go by both
 * names that templates know: reasoning_content and thinking. */
dp_status dp_chat_template_render(const dp_jinja *jinja, const dp_tokenizer *t,
                                  const dp_chat_input *input, dp_prompt *out, dp_error *err);

#endif
