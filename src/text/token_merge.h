/* token_merge.h - the one loop of both families: merge the best pair of neighbours until none is left.
 *
 * Room     A run of symbols is a linked list, pairs that may merge wait in a
 *          heap, lowest rank first and leftmost among equals. What may merge,
 *          and at which rank, a function of the family says.
 *          O(n log n) in the number of symbols, whatever they are.
 *
 * Threads  A scratch belongs to one call.
 */
#ifndef DP_TEXT_TOKEN_MERGE_H
#define DP_TEXT_TOKEN_MERGE_H

#include "text/tokenizer.h"

#define DP_SYMBOL_NONE UINT32_MAX
#define DP_RANK_NONE   UINT32_MAX

typedef struct dp_symbol {
    dp_str text;         /* where in the text it stands; neighbours touch */
    dp_token id;         /* DP_TOKEN_NONE: not a token by itself */
    uint32_t prev, next; /* DP_SYMBOL_NONE: the end */

    uint32_t rank;   /* of the pair with next, DP_RANK_NONE: does not merge */
    dp_token merged; /* what that pair becomes */
} dp_symbol;

/* Rank of left and right as one token, and which; DP_RANK_NONE: they do not merge. */
typedef uint32_t (*dp_merge_rank)(const dp_tokenizer *t, const dp_symbol *left,
                                  const dp_symbol *right, dp_token *merged);

typedef struct dp_merge_scratch { /* zeroed to begin with, reused from piece to piece */
    dp_symbol *symbols;
    uint32_t count, capacity;
    uint64_t *heap; /* rank << 32 | index of the left symbol */
    size_t heap_count, heap_capacity;
} dp_merge_scratch;

void dp_merge_scratch_deinit(dp_merge_scratch *s);

/* Empties the scratch and makes room for count symbols. DP_E_NOMEM. */
dp_status dp_merge_begin(dp_merge_scratch *s, size_t count);
/* Adds a symbol behind the last; there is room for it. */
void dp_merge_add(dp_merge_scratch *s, dp_str text, dp_token id);
/* Merges until nothing merges. What is left starts at symbols[0] and is linked by
 * next. DP_E_NOMEM. */
dp_status dp_merge_run(dp_merge_scratch *s, const dp_tokenizer *t, dp_merge_rank rank_of);

#endif
