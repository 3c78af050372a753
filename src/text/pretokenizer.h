/* pretokenizer.h - which runs of text a byte-level BPE may merge.
 *
 * Room     Every vocabulary was trained on text cut by its own regular
 *          expressions; merges never cross a cut. Here each expression is a
 *          linear scanner, described by a row of a table, and a rule is a list
 *          of them: the first cuts the text, the next cuts the pieces, and so
 *          on. What an expression does not match stays together as a piece.
 *
 * Text     Any bytes: an invalid one counts as U+FFFD and is one byte long.
 *          \s is the White_Space property, classes are those of unicode.h.
 *
 * Threads  Rules are constant: any thread. An iterator belongs to one.
 */
#ifndef DP_TEXT_PRETOKENIZER_H
#define DP_TEXT_PRETOKENIZER_H

#include "base/str.h"

#define DP_PRETOKENIZER_STAGES_MAX 6

typedef struct dp_pretokenizer {
    const char *name;
    const struct dp_pre_stage *const *stages; /* [stage_count] */
    uint32_t stage_count;
    bool ignores_merges; /* a piece that is a token as a whole becomes it, merges or not */
    bool adds_bos;       /* unless the file says otherwise */
} dp_pretokenizer;

/* By the name files use for it (tokenizer.ggml.pre) or one of its other names;
 * "" and "default" give gpt-2. NULL: unknown. */
const dp_pretokenizer *dp_pretokenizer_find(dp_str name);

/* Every rule once, for tests: NULL behind the last. */
const dp_pretokenizer *dp_pretokenizer_at(uint32_t i);

typedef struct dp_pieces {
    const dp_pretokenizer *_rule;
    struct {
        const char *at, *end;
        const char *match_end; /* of the match at `at`, NULL: not looked for yet */
    } _stages[DP_PRETOKENIZER_STAGES_MAX];
    uint32_t _depth;
} dp_pieces;

/* Walks the pieces of text (borrowed until the last call of next). Pieces are
 * never empty and follow each other without gaps. Linear in the text. */
void dp_pieces_init(dp_pieces *pieces, const dp_pretokenizer *rule, dp_str text);
bool dp_pieces_next(dp_pieces *pieces, dp_str *piece);

#endif
