#include "text/pretokenizer_impl.h"

#include "text/unicode.h"
#include "base/utf8.h"

/* One character ahead. At the end its bit is 0, which is in no set. */
typedef struct next_char {
    uint32_t cp, bit;
    size_t size;
} next_char;

static inline next_char look(const char *at, const char *end)
{
    next_char c = { 0, 0, 0 };

    if (at == end)
        return c;
    c.size = 1;
    c.cp = (uint8_t)*at;
    if (c.cp >= 0x80)
        c.size = dp_utf8_decode(at, (size_t)(end - at), &c.cp);
    c.bit = dp_unicode_bit(c.cp);
    return c;
}

/* Behind the characters of `set` that begin at `at`. */
static const char *run(const char *at, const char *end, uint32_t set)
{
    for (next_char c = look(at, end); c.bit & set; c = look(at, end))
        at += c.size;
    return at;
}

static bool is_newline(uint32_t cp)
{
    return cp == '\r' || cp == '\n';
}

static bool is_ascii_letter(uint32_t cp)
{
    return (cp | 0x20) >= 'a' && (cp | 0x20) <= 'z';
}

/* 's 't 're 've 'm 'll 'd. Ignoring case also takes U+017F, a small s. */
static size_t match_contraction(const char *at, const char *end, bool ignores_case)
{
    static const char two_letters[][2] = { { 'r', 'e' }, { 'v', 'e' }, { 'l', 'l' } };
    uint8_t letters[2] = { 0, 0 };

    if (at == end || *at != '\'')
        return 0;
    for (size_t i = 0; i < 2 && (size_t)(end - at) > i + 1; i++) {
        letters[i] = (uint8_t)at[i + 1];
        if (ignores_case && is_ascii_letter(letters[i]))
            letters[i] |= 0x20;
    }
    if (letters[0] == 's' || letters[0] == 't' || letters[0] == 'm' || letters[0] == 'd')
        return 2;
    if (ignores_case && letters[0] == 0xC5 && letters[1] == 0xBF)
        return 3;
    for (size_t i = 0; i < DP_ARRAY_LEN(two_letters); i++)
        if (letters[0] == two_letters[i][0] && letters[1] == two_letters[i][1])
            return 3;
    return 0;
}

/* \s+(?!\S)|\s+ : white space without its last character, which belongs to the
 * word behind it, unless nothing follows or nothing else is left. */
static size_t match_space(const char *at, const char *end)
{
    const char *last = at, *to = at;

    for (next_char c = look(to, end); c.bit & DP_IS_SPACE; c = look(to, end)) {
        last = to;
        to += c.size;
    }
    return (size_t)((to == end || last == at ? to : last) - at);
}

/* \s*[\r\n]+ : white space up to its last line break. */
static size_t match_line_end(const char *at, const char *end)
{
    const char *line_end = at, *to = at;

    for (next_char c = look(to, end); c.bit & DP_IS_SPACE; c = look(to, end)) {
        to += c.size;
        if (is_newline(c.cp))
            line_end = to;
    }
    return (size_t)(line_end - at);
}

/* Behind the letters of `set` that begin at `at`. */
static const char *run_letters(const struct dp_pre_stage *stage, const char *at, const char *end,
                               uint32_t set)
{
    if (!stage->has_han_runs)
        return run(at, end, set);
    for (next_char c = look(at, end); c.bit & set && !dp_unicode_is_han(c.cp); c = look(at, end))
        at += c.size;
    return at;
}

/* [\p{Han}]+ */
static size_t match_han(const char *at, const char *end)
{
    const char *to = at;

    for (next_char c = look(to, end); c.size > 0 && dp_unicode_is_han(c.cp); c = look(to, end))
        to += c.size;
    return (size_t)(to - at);
}

/* [A]*[B]+ with A capitals, B small letters, both with what has no case. A* takes
 * all it can; when no B follows it gives back up to its last B. */
static size_t match_capitals_then_small(const struct dp_pre_stage *stage, const char *at,
                                        const char *end)
{
    const uint32_t both = DP_IS_LM | DP_IS_LO | DP_IS_M;
    const char *to = at, *both_end = at;

    for (next_char c = look(to, end); c.bit & (DP_IS_LU | DP_IS_LT | both); c = look(to, end)) {
        if (stage->has_han_runs && dp_unicode_is_han(c.cp))
            break;
        to += c.size;
        if (c.bit & both)
            both_end = to;
    }
    if (run_letters(stage, to, end, DP_IS_LL | both) > to)
        both_end = run_letters(stage, to, end, DP_IS_LL | both);
    return (size_t)(both_end - at);
}

/* The word at `at`, with the prefix it may have. */
static size_t match_word(const struct dp_pre_stage *stage, const char *at, const char *end)
{
    next_char c = look(at, end);
    const char *word = at;
    size_t size;

    if (c.bit & stage->word_prefix && !is_newline(c.cp))
        word += c.size;
    if (!stage->is_cased) {
        const char *to = run(word, end, stage->letters);

        if (to == word)
            to = run(at, end, stage->letters); /* a mark: no prefix, but a word by itself */
        return (size_t)(to - at);
    }
    size = match_capitals_then_small(stage, word, end);
    if (size > 0)
        return (size_t)(word - at) + size;
    size = match_capitals_then_small(stage, at, end);
    if (size > 0)
        return size;
    /* Capitals alone. */
    size = (size_t)(run(word, end, DP_IS_LU | DP_IS_LT) - word);
    return size ? (size_t)(word - at) + size : 0;
}

size_t dp_pre_match_words(const struct dp_pre_stage *stage, const char *at, const char *end,
                          size_t *skipped)
{
    next_char c = look(at, end);
    const char *to = at;
    size_t size = 0;

    if (stage->contractions == DP_CONTRACTION_FIRST)
        size = match_contraction(at, end, true);
    if (stage->has_han_runs)
        size = match_han(at, end);
    if (size > 0)
        return size;
    if (stage->has_symbol_words && c.cp < 0x80 && c.bit & (DP_IS_P | DP_IS_S)) {
        for (to++; to < end && is_ascii_letter((uint8_t)*to);)
            to++;
        if (to > at + 1)
            return (size_t)(to - at);
    }

    size = match_word(stage, at, end);
    if (size > 0 && stage->contractions == DP_CONTRACTION_BEHIND_WORD)
        size += match_contraction(at + size, end, true);
    if (size > 0)
        return size;

    to = at;
    for (uint32_t i = 0; i < stage->count_max && look(to, end).bit & DP_IS_N; i++)
        to += look(to, end).size;
    if (to > at)
        return (size_t)(to - at);

    to = run(at + (c.cp == ' '), end, stage->symbols);
    if (to > at + (c.cp == ' ')) {
        while (to < end && !stage->leaves_newlines &&
               (is_newline((uint8_t)*to) || (stage->takes_slash && *to == '/')))
            to++;
        return (size_t)(to - at);
    }
    size = match_line_end(at, end);
    return size ? size : match_space(at, end);
}

size_t dp_pre_match_gpt2(const struct dp_pre_stage *stage, const char *at, const char *end,
                         size_t *skipped)
{
    static const uint32_t runs[] = { DP_IS_L, DP_IS_N,
                                     DP_IS_ANY & ~(DP_IS_SPACE | DP_IS_L | DP_IS_N) };
    size_t size = match_contraction(at, end, false);
    const char *word = at + (*at == ' ');
    uint32_t bit = look(word, end).bit;

    if (size > 0)
        return size;
    for (size_t i = 0; i < DP_ARRAY_LEN(runs); i++)
        if (bit & runs[i])
            return (size_t)(run(word, end, runs[i]) - at);
    return match_space(at, end);
}

static bool is_in_set(const struct dp_pre_stage *stage, next_char c)
{
    uint32_t low = 0, high = stage->range_count;

    if (c.bit & stage->set)
        return true;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (c.cp > stage->ranges[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < stage->range_count && c.cp >= stage->ranges[low].first && c.size > 0;
}

size_t dp_pre_match_set(const struct dp_pre_stage *stage, const char *at, const char *end,
                        size_t *skipped)
{
    next_char c = look(at, end);
    const char *to = at;
    uint32_t count = 0;

    if (stage->takes_space && c.bit & DP_IS_SPACE && is_in_set(stage, look(at + c.size, end))) {
        to += c.size;
        c = look(to, end);
    }
    while (is_in_set(stage, c) && (stage->count_max == 0 || count < stage->count_max)) {
        count++;
        to += c.size;
        c = look(to, end);
    }
    return (size_t)(to - at);
}

size_t dp_pre_match_trailing_space(const struct dp_pre_stage *stage, const char *at,
                                   const char *end, size_t *skipped)
{
    const char *to = run(at, end, DP_IS_SPACE);

    if (to == end)
        return (size_t)(to - at);
    if (to > at)
        *skipped = (size_t)(to - at); /* else a long run would be read once a character */
    return 0;
}

void dp_pieces_init(dp_pieces *pieces, const dp_pretokenizer *rule, dp_str text)
{
    pieces->_rule = rule;
    pieces->_depth = 0;
    pieces->_stages[0].at = text.bytes;
    pieces->_stages[0].end = text.bytes + text.size;
    pieces->_stages[0].match_end = NULL;
}

/* Cuts the next piece off what stage `depth` has left: a match, or all up to the
 * next one. That match is remembered, so that nothing is matched twice. */
static dp_str cut(dp_pieces *pieces, uint32_t depth)
{
    const struct dp_pre_stage *stage = pieces->_rule->stages[depth];
    const char *start = pieces->_stages[depth].at, *end = pieces->_stages[depth].end;
    const char *at = pieces->_stages[depth].match_end;

    pieces->_stages[depth].match_end = NULL;
    if (!at) {
        size_t matched = 0;

        for (at = start; at < end;) {
            size_t skipped = look(at, end).size;

            matched = stage->match(stage, at, end, &skipped);
            if (matched > 0)
                break;
            at += skipped;
        }
        if (at > start && matched > 0)
            pieces->_stages[depth].match_end = at + matched;
        else
            at += matched;
    }
    pieces->_stages[depth].at = at;
    return (dp_str){ start, (size_t)(at - start) };
}

bool dp_pieces_next(dp_pieces *pieces, dp_str *piece)
{
    for (;;) {
        uint32_t depth = pieces->_depth;

        if (pieces->_stages[depth].at == pieces->_stages[depth].end) {
            if (depth == 0)
                return false;
            pieces->_depth--;
            continue;
        }
        *piece = cut(pieces, depth);
        if (depth + 1 == pieces->_rule->stage_count)
            return true;
        pieces->_depth++;
        pieces->_stages[depth + 1].at = piece->bytes;
        pieces->_stages[depth + 1].end = piece->bytes + piece->size;
        pieces->_stages[depth + 1].match_end = NULL;
    }
}
