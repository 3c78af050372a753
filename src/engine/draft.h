/* draft.h - what comes next, guessed from what came before (prompt lookup).
 *
 * Room     Text repeats itself: names, quotations, code, answers that copy from the
 *          question. An index says where the last tokens of a timeline stood before;
 *          the draft is what followed them there. While the text goes on as there,
 *          the copy goes on; else another place is looked up. No model is asked.
 *          Whether a draft is worth its price is speculate.h.
 *          Idea: Saxena 2023, "Prompt Lookup Decoding".
 *
 * Chance   Of each length of agreement it is learned how often the next token was
 *          right, drafted or not: that costs nothing and is never out of date.
 *
 * Cost     A token is a few table entries, coming and going; memory is dp_draft_bytes,
 *          taken at the start. The newest place wins an entry: one lost costs a draft and
 *          nothing else. A cut takes entries back, so that the index is the timeline's.
 *
 * Threads  A draft belongs to one session.
 */
#ifndef DP_ENGINE_DRAFT_H
#define DP_ENGINE_DRAFT_H

#include "base/base.h"
#include "doppler/vocab.h"

#define DP_DRAFT_GRAMS     2  /* lengths that are indexed */
#define DP_DRAFT_MATCH_MAX 32 /* a longer agreement promises no more */
#define DP_DRAFT_CLASSES   6  /* of agreements: 2, 3, 4 to 5, 6 to 8, 9 to 16, longer */

typedef struct dp_draft {
    uint32_t *tables;                 /* all of: */
    uint32_t *last[DP_DRAFT_GRAMS];   /* [size] by hash: which token came after; 0: none */
    uint32_t *before[DP_DRAFT_GRAMS]; /* [context] what that token's entry was */
    uint32_t size;                    /* a power of two */
    uint32_t seen;                    /* the first tokens of the timeline are in the index */
    uint32_t source;                  /* the token to copy next; 0: nothing agrees */
    uint32_t match;                   /* tokens before it that agree with the end */
    float right[DP_DRAFT_CLASSES];    /* chance of the next token */
    uint32_t tried[DP_DRAFT_CLASSES];
} dp_draft;

uint64_t dp_draft_bytes(uint32_t context);
/* For a timeline of at most `context` tokens. False when memory is short. */
bool dp_draft_init(dp_draft *d, uint32_t context);
void dp_draft_deinit(dp_draft *d); /* zeroed is fine */

/* tokens [count] is the timeline now. Learns from a single new token: more come from outside. */
void dp_draft_extend(dp_draft *d, const dp_token *tokens, uint32_t count);
/* Only the first count of tokens, which still has them all, are left; there is nothing to
 * copy until the next one. */
void dp_draft_cut(dp_draft *d, const dp_token *tokens, uint32_t count);

/* How many of the next `count` tokens of the copy will be right. */
double dp_draft_expect(const dp_draft *d, uint32_t count);
/* Writes the guess behind the timeline: tokens [d->seen + count]. Needs d->source. */
void dp_draft_copy(const dp_draft *d, dp_token *tokens, uint32_t count);

#endif
