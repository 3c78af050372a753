/* chat_messages.h - messages as JSON -> messages as structs, for the built-in formats.
 *
 * Templates read the JSON themselves; a built-in format knows a role, text and thoughts.
 *
 * Threads  Any; one at a time on one list.
 */
#ifndef DP_TEXT_CHAT_MESSAGES_H
#define DP_TEXT_CHAT_MESSAGES_H

#include "base/buf.h"
#include "base/str.h"
#include "doppler/chat.h"

#define DP_CHAT_MESSAGES_MAX ((size_t)1 << 16)

typedef struct dp_chat_messages {
    dp_message *items; /* [count], owned; their text lies in `text` */
    size_t count;
    dp_buf text;
} dp_chat_messages;

/* Reads an array of objects: "role" and "content" are strings, "content" may be null,
 * "reasoning_content" and "thinking" are thoughts; other members are passed over. Owned:
 * dp_chat_messages_deinit. DP_E_CORRUPT: not JSON; DP_E_INVALID: not messages;
 * DP_E_UNSUPPORTED: content in parts, calls of tools; DP_E_LIMIT, DP_E_NOMEM. */
dp_status dp_chat_messages_parse(dp_chat_messages *out, dp_str json, dp_error *err);
void dp_chat_messages_deinit(dp_chat_messages *messages); /* zeroed is fine */

#endif
