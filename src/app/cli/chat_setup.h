/* chat_setup.h - how conversations are written, as the command line says.
 *
 * Room     --chat-template, --chat-format, --chat-arg and --chat-date, for every
 *          command that makes prompts of conversations.
 *
 * Threads  One at a time.
 */
#ifndef DP_APP_CLI_CHAT_SETUP_H
#define DP_APP_CLI_CHAT_SETUP_H

#include "app/common/args.h"
#include "doppler/chat.h"

#define DP_CHAT_SETUP_TEMPLATE_MAX ((size_t)1 << 20)

typedef struct dp_chat_setup {
    dp_chat *chat;
    char *args_json; /* an object, or NULL */
    int64_t now_s;
} dp_chat_setup;

/* The vocabulary is borrowed until deinit. Says on standard error when the model's own
 * template cannot be used. DP_E_INVALID, DP_E_UNSUPPORTED: an option's value, or what is
 * wrong with the template; DP_E_NOTFOUND, DP_E_IO, DP_E_LIMIT of its file; DP_E_NOMEM. */
dp_status dp_chat_setup_init(dp_chat_setup *s, const dp_vocab *vocab, const dp_args *args,
                             dp_error *err);
void dp_chat_setup_deinit(dp_chat_setup *s); /* zeroed is fine */
/* Gives the template its arguments and the date; borrowed from s. */
void dp_chat_setup_fill(const dp_chat_setup *s, dp_chat_input *input);

#endif
