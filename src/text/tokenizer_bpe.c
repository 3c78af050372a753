/* tokenizer_bpe.c - byte-level BPE: pieces of the pre-tokenizer, merged by rank. */
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "text/tokenizer_impl.h"
#include "base/utf8.h"

/* Files write bytes as printable characters (GPT-2's map): printable Latin-1 stands
 * for itself, the other 68 bytes for U+0100 and up, in order. -1: no byte. */
static int byte_of(uint32_t cp)
{
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) || (cp >= 0xAE && cp <= 0xFF))
        return (int)cp;
    if (cp >= 0x100 && cp <= 0x120)
        return (int)(cp - 0x100); /* 00..20 */
    if (cp >= 0x121 && cp <= 0x142)
        return (int)(cp - 0x121 + 0x7F); /* 7F..A0 */
    return cp == 0x143 ? 0xAD : -1;
}

/* A name with a character that stands for no byte is left as it is. */
static size_t decode(dp_str name, char *out)
{
    size_t count = 0;

    for (size_t at = 0; at < name.size;) {
        uint32_t cp;
        int byte;

        at += dp_utf8_decode(name.bytes + at, name.size - at, &cp);
        byte = byte_of(cp);
        if (byte < 0) {
            memcpy(out, name.bytes, name.size);
            return name.size;
        }
        out[count++] = (char)byte;
    }
    return count;
}

/* The token of a part of a merge, by its bytes or, when its name is not decoded, by that. */
static uint32_t find_part(const dp_tokenizer *t, dp_str name, dp_str text)
{
    uint32_t id = dp_map_str_get(&t->by_text, text);

    return id == DP_MAP_NONE ? dp_map_str_get(&t->by_name, name) : id;
}

/* Adds merge `rank`; scratch has room for it twice. */
static dp_status add_merge(dp_tokenizer *t, uint32_t rank, dp_str merge, char *scratch,
                           dp_error *err)
{
    const char *space = merge.size > 1 ? memchr(merge.bytes + 1, ' ', merge.size - 1) : NULL;
    dp_str left_name, right_name, whole_name, left, right, whole;
    uint32_t left_id, right_id, whole_id;

    if (!space)
        return dp_fail(err, DP_E_CORRUPT, "tokenizer: merge %u is not two tokens", rank);
    left_name = (dp_str){ merge.bytes, (size_t)(space - merge.bytes) };
    right_name = (dp_str){ space + 1, merge.size - left_name.size - 1 };
    left = (dp_str){ scratch, decode(left_name, scratch) };
    right = (dp_str){ scratch + left.size, decode(right_name, scratch + left.size) };
    whole = (dp_str){ scratch, left.size + right.size };
    whole_name = (dp_str){ scratch + merge.size, merge.size - 1 };
    memcpy(scratch + merge.size, left_name.bytes, left_name.size);
    memcpy(scratch + merge.size + left_name.size, right_name.bytes, right_name.size);

    left_id = find_part(t, left_name, left);
    right_id = find_part(t, right_name, right);
    whole_id = find_part(t, whole_name, whole);
    if (left_id == DP_MAP_NONE || right_id == DP_MAP_NONE || whole_id == DP_MAP_NONE)
        return dp_fail(err, DP_E_CORRUPT, "tokenizer: merge %u (\"%.*s\") names no token", rank,
                       (int)DP_MIN(merge.size, 64), merge.bytes);
    t->merged[rank] = (dp_token)whole_id;
    if (dp_tokenizer_is_control(t, (dp_token)left_id) ||
        dp_tokenizer_is_control(t, (dp_token)right_id) ||
        dp_tokenizer_is_control(t, (dp_token)whole_id))
        return DP_OK; /* plain text makes no control tokens */
    if (dp_map_u64_add(&t->merges, (uint64_t)left_id << 32 | right_id, rank, NULL))
        return dp_fail(err, DP_E_NOMEM, "tokenizer: merge %u", rank);
    return DP_OK;
}

static dp_status bpe_open(dp_tokenizer *t, const dp_vocab_tables *tables, dp_error *err)
{
    dp_status st = DP_OK;
    char *scratch = NULL;
    size_t merge_size_max = 1;

    t->pre = dp_pretokenizer_find(tables->pre);
    if (!t->pre)
        return dp_fail(err, DP_E_UNSUPPORTED, "tokenizer: unknown pre-tokenizer \"%.*s\"",
                       (int)DP_MIN(tables->pre.size, 64), tables->pre.bytes);
    for (uint32_t i = 0; i < tables->merge_count; i++)
        merge_size_max = DP_MAX(merge_size_max, tables->merges[i].size);
    scratch = dp_alloc(merge_size_max, 2);
    t->merged = dp_alloc_zero(DP_MAX(tables->merge_count, 1), sizeof *t->merged);
    if (!scratch || !t->merged || dp_map_u64_init(&t->merges, tables->merge_count)) {
        st = dp_fail(err, DP_E_NOMEM, "tokenizer: %u merges", tables->merge_count);
        goto done;
    }
    for (uint32_t i = 0; i < tables->merge_count && !st; i++)
        st = add_merge(t, i, tables->merges[i], scratch, err);
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        uint32_t id = dp_map_str_get(&t->by_text, (dp_str){ &c, 1 });

        t->byte_tokens[byte] = id == DP_MAP_NONE ? DP_TOKEN_NONE : (dp_token)id;
    }
done:
    dp_free(scratch);
    return st;
}

static void bpe_close(dp_tokenizer *t)
{
    dp_map_u64_deinit(&t->merges);
    dp_free(t->merged);
}

static uint32_t rank_of(const dp_tokenizer *t, const dp_symbol *left, const dp_symbol *right,
                        dp_token *merged)
{
    uint32_t rank;

    if (left->id == DP_TOKEN_NONE || right->id == DP_TOKEN_NONE)
        return DP_RANK_NONE;
    rank = dp_map_u64_get(&t->merges, (uint64_t)(uint32_t)left->id << 32 | (uint32_t)right->id);
    if (rank == DP_MAP_NONE)
        return DP_RANK_NONE;
    *merged = t->merged[rank];
    return rank;
}

static dp_status encode_piece(const dp_tokenizer *t, dp_str piece, dp_merge_scratch *scratch,
                              dp_token_list *list)
{
    dp_status st;

    if (t->pre->ignores_merges) {
        uint32_t id = dp_map_str_get(&t->by_text, piece);

        if (id != DP_MAP_NONE)
            return dp_token_list_add(list, (dp_token)id);
    }
    st = dp_merge_begin(scratch, piece.size);
    if (st)
        return st;
    for (size_t i = 0; i < piece.size; i++)
        dp_merge_add(scratch, (dp_str){ piece.bytes + i, 1 },
                     t->byte_tokens[(uint8_t)piece.bytes[i]]);
    st = dp_merge_run(scratch, t, rank_of);
    for (uint32_t i = 0; i != DP_SYMBOL_NONE && !st; i = scratch->symbols[i].next) {
        const dp_symbol *symbol = &scratch->symbols[i];

        st = symbol->id == DP_TOKEN_NONE ? dp_tokenizer_add_byte(t, symbol->text.bytes[0], list)
                                         : dp_token_list_add(list, symbol->id);
    }
    return st;
}

static dp_status bpe_encode(const dp_tokenizer *t, dp_str text, dp_merge_scratch *scratch,
                            dp_token_list *list)
{
    dp_status st = DP_OK;
    dp_pieces pieces;
    dp_str piece;

    dp_pieces_init(&pieces, t->pre, text);
    while (!st && dp_pieces_next(&pieces, &piece))
        st = encode_piece(t, piece, scratch, list);
    return st;
}

const dp_family dp_family_bpe = {
    .model = "gpt2", .decode = decode, .open = bpe_open, .close = bpe_close, .encode = bpe_encode
};
