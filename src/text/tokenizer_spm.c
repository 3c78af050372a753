/* tokenizer_spm.c - SentencePiece BPE: characters merged by score, bytes for the rest.
 *
 * A file writes a space as U+2581. Tokens are decoded at open, so text needs no
 * escaping; a U+2581 in the text itself is not taken for a space, but written as
 * bytes, and comes back as it was. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "text/tokenizer_impl.h"
#include "base/utf8.h"

#define SPACE_MARK      "\xE2\x96\x81" /* U+2581 */
#define SPACE_MARK_SIZE 3

static size_t decode(dp_str name, char *out)
{
    size_t count = 0;

    for (size_t at = 0; at < name.size;) {
        if (name.size - at >= SPACE_MARK_SIZE &&
            !memcmp(name.bytes + at, SPACE_MARK, SPACE_MARK_SIZE)) {
            out[count++] = ' ';
            at += SPACE_MARK_SIZE;
        } else {
            out[count++] = name.bytes[at++];
        }
    }
    return count;
}

/* A number that falls as the score rises. */
static uint32_t rank_of_score(float score)
{
    uint32_t bits;

    if (isnan(score))
        return DP_RANK_NONE - 1;
    score += 0.0f; /* -0 is 0 */
    memcpy(&bits, &score, sizeof bits);
    return bits >> 31 ? bits : ~(bits | 1u << 31);
}

static bool has_inner_space(dp_str text)
{
    for (size_t i = 1; i < text.size; i++)
        if (text.bytes[i] == ' ' && text.bytes[i - 1] != ' ')
            return true;
    return false;
}

static dp_status spm_open(dp_tokenizer *t, const dp_vocab_tables *tables, dp_error *err)
{
    t->ranks = dp_alloc(t->count, sizeof *t->ranks);
    if (!t->ranks)
        return dp_fail(err, DP_E_NOMEM, "tokenizer: %u scores", t->count);
    for (uint32_t i = 0; i < t->count; i++) {
        dp_token_kind kind = dp_tokenizer_kind(t, (dp_token)i);

        t->ranks[i] = rank_of_score(tables->scores ? tables->scores[i] : 0.0f);
        if (kind == DP_TOKEN_BYTE && t->texts[i].size == 1)
            t->byte_tokens[(uint8_t)t->texts[i].bytes[0]] = (dp_token)i;
        else if (!dp_tokenizer_is_control(t, (dp_token)i))
            t->has_inner_space |= has_inner_space(t->texts[i]);
    }
    return DP_OK;
}

static void spm_close(dp_tokenizer *t)
{
    dp_free(t->ranks);
}

static uint32_t rank_of(const dp_tokenizer *t, const dp_symbol *left, const dp_symbol *right,
                        dp_token *merged)
{
    dp_str both = { left->text.bytes, left->text.size + right->text.size };
    uint32_t id;

    if (both.size > t->text_size_max)
        return DP_RANK_NONE;
    id = dp_map_str_get(&t->by_text, both);
    if (id == DP_MAP_NONE)
        return DP_RANK_NONE;
    *merged = (dp_token)id;
    return t->ranks[id];
}

/* Text that merges by itself. */
static dp_status encode_run(const dp_tokenizer *t, dp_str text, dp_merge_scratch *scratch,
                            dp_token_list *list)
{
    dp_status st = dp_merge_begin(scratch, text.size);

    if (st)
        return st;
    for (size_t at = 0; at < text.size;) {
        uint32_t cp;
        dp_str c = { text.bytes + at, dp_utf8_decode(text.bytes + at, text.size - at, &cp) };
        uint32_t id = dp_map_str_get(&t->by_text, c);

        dp_merge_add(scratch, c, id == DP_MAP_NONE ? DP_TOKEN_NONE : (dp_token)id);
        at += c.size;
    }
    st = dp_merge_run(scratch, t, rank_of);
    for (uint32_t i = 0; i != DP_SYMBOL_NONE && !st; i = scratch->symbols[i].next) {
        const dp_symbol *symbol = &scratch->symbols[i];

        if (symbol->id != DP_TOKEN_NONE) {
            st = dp_token_list_add(list, symbol->id);
            continue;
        }
        for (size_t j = 0; j < symbol->text.size && !st; j++)
            st = dp_tokenizer_add_byte(t, symbol->text.bytes[j], list);
    }
    return st;
}

/* Where the first run of text ends: before a space that follows something else.
 * No token reaches across, so no merge does, and short runs merge faster. */
static size_t run_size(const dp_tokenizer *t, dp_str text)
{
    if (!t->has_inner_space)
        for (size_t i = 1; i < text.size; i++)
            if (text.bytes[i] == ' ' && text.bytes[i - 1] != ' ')
                return i;
    return text.size;
}

static dp_status spm_encode(const dp_tokenizer *t, dp_str text, dp_merge_scratch *scratch,
                            dp_token_list *list)
{
    dp_status st = DP_OK;
    char *prefixed = NULL;

    /* Each text that follows no other text begins with a space, as words do. */
    if (t->adds_space_prefix) {
        prefixed = dp_alloc(text.size + 1, 1);
        if (!prefixed)
            return DP_E_NOMEM;
        prefixed[0] = ' ';
        memcpy(prefixed + 1, text.bytes, text.size);
        text = (dp_str){ prefixed, text.size + 1 };
    }
    while (text.size > 0 && !st) {
        size_t size = run_size(t, text);

        st = encode_run(t, (dp_str){ text.bytes, size }, scratch, list);
        text = (dp_str){ text.bytes + size, text.size - size };
    }
    dp_free(prefixed);
    return st;
}

const dp_family dp_family_spm = { .model = "llama",
                                  .is_spm = true,
                                  .decode = decode,
                                  .open = spm_open,
                                  .close = spm_close,
                                  .encode = spm_encode };
