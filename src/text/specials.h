/* specials.h - tokens that are found by their name, before anything merges.
 *
 * Room     A trie of names. A name is one of two kinds: those that count in any
 *          text (user-defined tokens) and those that count only where the caller
 *          trusts the text (control tokens).
 *
 * Time     A search looks at each byte once, plus the longest common beginning
 *          with a name where one may start.
 *
 * Threads  Immutable after the last add: any thread.
 */
#ifndef DP_TEXT_SPECIALS_H
#define DP_TEXT_SPECIALS_H

#include "base/map.h"
#include "text/tokenizer.h"

enum { DP_SPECIAL_ALWAYS = 1, DP_SPECIAL_TRUSTED = 2 };

typedef struct dp_specials {
    dp_map_u64 children; /* node << 8 | byte -> node; node 0 is the root */
    struct dp_special_end {
        dp_token id; /* DP_TOKEN_NONE: no name ends here */
        uint8_t kind;
    } * nodes; /* [node_count], room for [node_capacity] */
    uint32_t node_count, node_capacity;
    uint8_t first[256]; /* which kinds begin with this byte */
} dp_specials;

/* Room for names of name_bytes bytes in all. DP_E_NOMEM, DP_E_LIMIT. */
dp_status dp_specials_init(dp_specials *s, uint64_t name_bytes);
void dp_specials_deinit(dp_specials *s);
/* An empty name is never found; of equal names the first stays. DP_E_NOMEM. */
dp_status dp_specials_add(dp_specials *s, dp_str name, dp_token id, uint8_t kind);

/* Where a search looks: at places of text [0, begin_end), for names of DP_SPECIAL_ALWAYS
 * that end anywhere, and for those of DP_SPECIAL_TRUSTED that end at trusted_end or
 * before it. */
typedef struct dp_special_scope {
    dp_str text;
    size_t begin_end, trusted_end;
} dp_special_scope;

/* The first place where a name stands, and the longest one there. False: none. */
bool dp_specials_find(const dp_specials *s, const dp_special_scope *scope, size_t *at, size_t *size,
                      dp_token *id);

#endif
