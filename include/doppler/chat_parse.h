/* chat_parse.h - what a chat model writes, told apart as it comes: answer, thoughts, calls of tools.
 *
 * A parser reads one message of the assistant, as text and control tokens, in
 * pieces of any size, and gives events. It never refuses what a model wrote: what
 * does not follow its format is content. Give it text of whole characters and
 * its events have whole characters; how the text was cut changes nothing else.
 *
 * Threads  A parser belongs to one.
 */
#ifndef DOPPLER_CHAT_PARSE_H
#define DOPPLER_CHAT_PARSE_H

#include "doppler/vocab.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dp_chat_event_kind {
    DP_CHAT_EVENT_CONTENT,   /* text: a piece of the answer */
    DP_CHAT_EVENT_REASONING, /* text: a piece of what it thought */
    DP_CHAT_EVENT_CALL,      /* text: the arguments, all of them, as JSON */
    DP_CHAT_EVENT_MARKUP, /* text: belongs to the format. With content and reasoning, all that was fed */
    DP_CHAT_EVENT_END /* of the message */
} dp_chat_event_kind;

typedef struct dp_chat_event {
    dp_chat_event_kind kind;
    const char *text; /* [size] and a NUL behind a CALL's; borrowed until the callback returns */
    size_t size;
    const char *name; /* CALL: of the tool; NUL-terminated, borrowed alike */
    const char *id;   /* CALL: as the model gave it; "": it gave none */
    bool is_broken;   /* CALL: text is not well-formed JSON: as the model wrote it */
} dp_chat_event;

/* Returns false to cancel. It must not call the parser. */
typedef bool (*dp_chat_event_sink)(void *user, const dp_chat_event *event);

typedef struct dp_chat_parse {
    const char *format; /* NULL or "auto": told by the template, or the vocabulary without one */
    const char *template_text; /* the chat template, NUL-terminated; NULL: the vocabulary's own */
    const char *prompt; /* [prompt_size] the rendered prompt, whose end says whether the model
                           thinks already; NULL: it does not */
    size_t prompt_size;
    const char *tools; /* [tools_size] list of tools in OpenAI's JSON, copied; NULL: none. Says
                          whether JSON may be a call, and which arguments are strings */
    size_t tools_size;
    bool wants_markup; /* MARKUP events too */
    dp_chat_event_sink on_event;
    void *user;
} dp_chat_parse;

typedef struct dp_chat_parser dp_chat_parser;

/* The n-th name of a format: "none" (all is content), "think", "hermes" ...; NULL behind the last. */
DP_API const char *dp_chat_parse_format_at(uint32_t n);
/* vocab (borrowed until close): its control tokens count as such, and text that
 * spells their names is text. NULL: names in the text are the tokens; `format`
 * must be given then. DP_E_INVALID: no such format; DP_E_CORRUPT: tools are no JSON;
 * DP_E_LIMIT, DP_E_NOMEM. Owned: dp_chat_parser_close. */
DP_API dp_status dp_chat_parser_open(dp_chat_parser **out, const dp_vocab *vocab,
                                     const dp_chat_parse *how, dp_error *err);
DP_API void dp_chat_parser_close(dp_chat_parser *parser);
DP_API const char *dp_chat_parser_format(const dp_chat_parser *parser); /* "hermes", ... */

/* Text as the decoder gives it. DP_E_CANCELED: on_event said so; DP_E_NOMEM. The
 * first failure is given again and nothing more is parsed. */
DP_API dp_status dp_chat_parser_feed(dp_chat_parser *parser, const char *text, size_t size);
/* A control token, between the pieces of text; the one that ends the turn as well.
 * Others are ignored: their text comes through dp_chat_parser_feed. */
DP_API dp_status dp_chat_parser_feed_token(dp_chat_parser *parser, dp_token token);
/* The message is over: what was held back comes out, and END. */
DP_API dp_status dp_chat_parser_finish(dp_chat_parser *parser);

#ifdef __cplusplus
}
#endif
#endif
