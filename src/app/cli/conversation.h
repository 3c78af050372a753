/* conversation.h - the messages of a chat, in order, and what of them fits a context.
 *
 * Invariants
 *   (1) a system message, if any, is the first and the only one.
 *   (2) a user begins; what follows up to the next user's message belongs to it: calls
 *       of tools, their results, the answer.
 *
 * Threads  One at a time.
 */
#ifndef DP_APP_CLI_CONVERSATION_H
#define DP_APP_CLI_CONVERSATION_H

#include "base/base.h"
#include "doppler/chat.h"

#define DP_CONVERSATION_MESSAGES_MAX 65536              /* a day of typing */
#define DP_CONVERSATION_TEXT_MAX     ((size_t)64 << 20) /* one message: a long file pasted */

typedef struct dp_conversation {
    dp_message *messages; /* [count]; all but roles is owned here */
    size_t count, capacity;
} dp_conversation;

void dp_conversation_init(dp_conversation *c);
void dp_conversation_deinit(dp_conversation *c);
void dp_conversation_reset(dp_conversation *c); /* forgets all but the system message */

/* Adds a message of "user" or "assistant" (a static string), copying text [size].
 * DP_E_NOMEM, DP_E_LIMIT. */
dp_status dp_conversation_add(dp_conversation *c, const char *role, const char *text, size_t size,
                              dp_error *err);
/* Adds a copy of a message; its role is a static string. The same statuses. */
dp_status dp_conversation_add_message(dp_conversation *c, const dp_message *message, dp_error *err);
/* Sets, replaces or (text empty) removes the system message. */
dp_status dp_conversation_set_system(dp_conversation *c, const char *text, dp_error *err);
void dp_conversation_drop_last(dp_conversation *c);
/* Forgets the oldest question and what belongs to it; false when it is the newest one. */
bool dp_conversation_drop_oldest(dp_conversation *c);

/* What a template is given: borrowed from the conversation and the text of the tools,
 * which may be NULL. */
dp_chat_input dp_conversation_input(const dp_conversation *c, const char *tools);

/* Writes {"model", "messages": [{"role", "content"}]} to path; messages may also have
 * "reasoning", "tool_calls", "name" and "tool_call_id". */
dp_status dp_conversation_save(const dp_conversation *c, const char *model, const char *path,
                               dp_error *err);

#endif
