/* chat_parse.h - which format a model's answers are in, and the parser behind doppler/chat_parse.h.
 *
 * Room     A message is text with marks in it (names of control tokens, or tags
 *          like <think>). chat_parse.c finds the marks that count where the message
 *          stands; a machine (chat_parse_tagged.c, chat_parse_harmony.c) says what
 *          a mark does and what text is; chat_parse_call.c reads a call's name
 *          and arguments out of its text. The formats are rows in
 *          chat_parse_formats.c.
 *
 * Invariants
 *   (1) Content, reasoning and markup add up to what was fed, in order: bytes are
 *       given out once, as one of them. Calls are said in addition to their markup.
 *   (2) Events do not depend on how the text was cut, but for where one piece of
 *       content or reasoning ends and the next begins.
 *   (3) Marks that are control tokens of the vocabulary cannot be spelled by text.
 *   (4) What is held back is bounded: the beginning of a mark, white space, one call.
 *
 * Time     Linear in the text, times the number of marks of a format.
 *
 * Threads  A parser belongs to one; formats are constant.
 */
#ifndef DP_TEXT_CHAT_PARSE_H
#define DP_TEXT_CHAT_PARSE_H

#include "doppler/chat_parse.h"
#include "text/tokenizer.h"

#define DP_CHAT_CALL_BYTES_MAX  ((size_t)4 << 20)  /* a call that writes a long file */
#define DP_CHAT_TOOLS_BYTES_MAX ((size_t)16 << 20) /* as many tools as a prompt has room for */
#define DP_CHAT_SPACE_BYTES_MAX 4096 /* white space that waits for what follows; more is content */

typedef struct dp_chat_rules dp_chat_rules; /* of a format */

/* By name; NULL: there is none. */
const dp_chat_rules *dp_chat_rules_find(const char *name);
const dp_chat_rules *dp_chat_rules_at(uint32_t n);          /* NULL behind the last */
const char *dp_chat_rules_name(const dp_chat_rules *rules); /* static */
/* From tokenizer.chat_template's text, and what a model without one has in its
 * vocabulary; never NULL. */
const dp_chat_rules *dp_chat_rules_detect(dp_str chat_template, const dp_tokenizer *t);

/* dp_chat_parser_open with the tokenizer instead of the vocabulary (NULL: names in the
 * text are the tokens). how's format and template_text are not read. */
dp_status dp_chat_parser_open_rules(dp_chat_parser **out, const dp_chat_rules *rules,
                                    const dp_tokenizer *t, const dp_chat_parse *how, dp_error *err);

#endif
