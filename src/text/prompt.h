/* prompt.h - text under construction that remembers which of it may be trusted.
 *
 * Room     A prompt is written by two hands: a template, which may name control
 *          tokens, and people, tools and models, whose text must stay text whatever
 *          it spells. Runs say which hand wrote which bytes; the tokenizer reads
 *          names of control tokens in trusted runs alone.
 *
 * Invariants
 *   (1) runs cover the text without gaps: each begins where the one before ends.
 *   (2) neighbours differ in trust, so that a name written in pieces is in one run.
 *
 * Threads  One at a time.
 */
#ifndef DP_TEXT_PROMPT_H
#define DP_TEXT_PROMPT_H

#include "base/buf.h"
#include "base/str.h"

typedef struct dp_run {
    size_t end; /* in bytes from the beginning of the text */
    bool is_trusted;
} dp_run;

typedef struct dp_runs {
    dp_run *list; /* [count] */
    size_t count, capacity;
} dp_runs;

typedef struct dp_prompt {
    dp_buf text;
    dp_runs runs;
} dp_prompt;

void dp_prompt_init(dp_prompt *prompt, size_t size_max);
void dp_prompt_deinit(dp_prompt *prompt);
/* DP_E_NOMEM, DP_E_LIMIT: the prompt is as it was. */
dp_status dp_prompt_add(dp_prompt *prompt, dp_str text, bool is_trusted);
/* Back to its first `size` bytes. */
void dp_prompt_cut(dp_prompt *prompt, size_t size);

#endif
