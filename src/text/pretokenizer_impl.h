/* pretokenizer_impl.h - what pretokenizer.c can scan, and pretokenizer_rules.c describes. */
#ifndef DP_TEXT_PRETOKENIZER_IMPL_H
#define DP_TEXT_PRETOKENIZER_IMPL_H

#include "text/pretokenizer.h"
#include "text/unicode.h"

typedef dp_unicode_range dp_pre_range;

enum dp_pre_contractions { DP_CONTRACTION_NONE, DP_CONTRACTION_FIRST, DP_CONTRACTION_BEHIND_WORD };

/* What one regular expression does. `match` gives the size of its match at `at`,
 * 0 when there is none; then *skipped (one character unless it says more) cannot
 * begin a match either. */
struct dp_pre_stage {
    size_t (*match)(const struct dp_pre_stage *stage, const char *at, const char *end,
                    size_t *skipped);

    /* dp_pre_match_set: \s?[set]{1,count_max} */
    uint32_t set;               /* classes ... */
    const dp_pre_range *ranges; /* ... and ranges, sorted [range_count] */
    uint32_t range_count;
    uint32_t count_max; /* 0: no maximum. Of dp_pre_match_words: digits, 0 for none */
    bool takes_space;

    /* dp_pre_match_words */
    uint32_t letters;     /* what words are made of */
    uint32_t word_prefix; /* what one character before a word may be, but not \r or \n */
    uint32_t symbols;
    enum dp_pre_contractions contractions;
    bool is_cased;         /* a word is capitals and then small letters */
    bool has_symbol_words; /* ASCII punctuation may begin an ASCII word */
    bool takes_slash;      /* behind symbols: [\r\n/]*, not [\r\n]* */
    bool leaves_newlines;  /* behind symbols: nothing */
    bool has_han_runs;     /* [\p{Han}]+ first, and words have none of it */
};

/* Some set of characters: \s?[set]{1,count_max} */
size_t dp_pre_match_set(const struct dp_pre_stage *stage, const char *at, const char *end,
                        size_t *skipped);
/* \s+$ */
size_t dp_pre_match_trailing_space(const struct dp_pre_stage *stage, const char *at,
                                   const char *end, size_t *skipped);
/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
size_t dp_pre_match_gpt2(const struct dp_pre_stage *stage, const char *at, const char *end,
                         size_t *skipped);
/* The expressions that followed GPT-4's:
 *   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
 *    ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * with other sets and limits. Cased words are
 *   [^\r\n\p{L}\p{N}]?[A]*[B]+ | [^\r\n\p{L}\p{N}]?[A]+[B]*
 *   A = \p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}, B = \p{Ll}\p{Lm}\p{Lo}\p{M} */
size_t dp_pre_match_words(const struct dp_pre_stage *stage, const char *at, const char *end,
                          size_t *skipped);

#endif
