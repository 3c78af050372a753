/* answer.h - what an assistant says, while it says it: shown as it comes, and kept in its parts.
 *
 * Room     Feeds a dp_chat_parser from dp_session_generate. Content goes to the
 *          output as it comes. Thoughts go there too when asked for: dimmed on a
 *          terminal, elsewhere between <think> and </think>. A call of a tool is
 *          one line: {"tool_call": {"id", "name", "arguments"}}. What was said is
 *          then a message for the conversation.
 *
 * Threads  One at a time.
 */
#ifndef DP_APP_CLI_ANSWER_H
#define DP_APP_CLI_ANSWER_H

#include <jansson.h>
#include "app/cli/output.h"
#include "app/common/args.h"
#include "base/buf.h"
#include "doppler/doppler.h"

#define DP_ANSWER_TEXT_MAX  ((size_t)256 << 20) /* a million tokens of long words */
#define DP_ANSWER_TOOLS_MAX ((size_t)16 << 20)  /* as many tools as a prompt has room for */

typedef struct dp_answer {
    dp_output *output; /* borrowed; NULL: nothing is shown */
    bool shows_thinking;
    char *tools; /* the file of --tools, NULL: none */
    size_t tools_size;
    uint32_t call_count; /* of all answers: ids are made of it */

    /* of the answer at hand */
    dp_chat_parser *parser;
    const char *template_text; /* while it begins: the chat's; NULL: the vocabulary's */
    bool is_thinking;          /* on the output, now */
    dp_buf content, thinking, calls_text;
    json_t *calls; /* [{"id", "type": "function", "function": {"name", "arguments"}}] */
} dp_answer;

/* Reads --thinking and --tools; output is borrowed. DP_E_INVALID: the file has no JSON
 * list; DP_E_NOTFOUND, DP_E_IO, DP_E_LIMIT, DP_E_NOMEM. Deinit in any case. */
dp_status dp_answer_init(dp_answer *a, const dp_args *args, dp_output *output, dp_error *err);
void dp_answer_deinit(dp_answer *a);

/* The next answer of `chat`, to the prompt that `input` makes. Both are borrowed for the
 * call, vocab until the answer is finished. The statuses of dp_chat_text. */
dp_status dp_answer_begin(dp_answer *a, const dp_vocab *vocab, const dp_chat *chat,
                          const dp_chat_input *input, dp_error *err);
/* The same from a prompt's text, in a format by name (NULL: the vocabulary's). */
dp_status dp_answer_begin_format(dp_answer *a, const dp_vocab *vocab, const char *format,
                                 const char *prompt, size_t prompt_size, dp_error *err);
/* For dp_generate: False ends it, a failed write among other things. */
bool dp_answer_text(dp_answer *a, const char *text, size_t size);
bool dp_answer_control(dp_answer *a, dp_token token);
/* The answer is over, complete or not. DP_E_NOMEM. */
dp_status dp_answer_finish(dp_answer *a, dp_error *err);

/* What was said, as a message of the assistant: borrowed until the next begin. */
dp_message dp_answer_message(const dp_answer *a);

#endif
