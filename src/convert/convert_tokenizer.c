#include "convert/convert_tokenizer.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "base/map.h"
#include "base/mem.h"
#include "base/status.h"
#include "convert/convert_pre.h"

#define TEXT_MAX   ((size_t)256 << 20) /* of all tokens; gpt-oss has 2 MB */
#define MERGED_MAX 4096                /* bytes of one token that merges make */

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

struct reader {
    const dp_doc *doc;
    dp_hf_vocab *v;
    dp_map_str by_text; /* SPM: of tokens */
    dp_error *err;
};

static dp_status fail_corrupt(const struct reader *r, const char *what)
{
    return dp_fail(r->err, DP_E_CORRUPT, "%s: %s", r->doc->name, what);
}

dp_str dp_hf_vocab_text(const dp_hf_vocab *v, uint32_t id)
{
    return (dp_str){ v->text.bytes + v->tokens[id].at, v->tokens[id].size };
}

/* ---- tokens ---- */

static dp_status keep_text(struct reader *r, dp_hf_token *t, dp_str text)
{
    dp_status st;

    t->at = (uint32_t)r->v->text.size;
    t->size = (uint32_t)text.size;
    st = dp_buf_append(&r->v->text, text.bytes, text.size);
    if (!st)
        st = dp_buf_append(&r->v->text, "", 1); /* never NULL, and easy to read in a debugger */
    return st ? dp_fail(r->err, st, "%s: no memory for tokens", r->doc->name) : DP_OK;
}

static dp_status take_id(struct reader *r, const dp_json_token *token, dp_hf_token **out)
{
    int64_t id;

    if (token->kind != DP_JSON_NUMBER || !dp_json_i64(token, &id) || id < 0)
        return fail_corrupt(r, "a token's id is not a whole number from 0");
    if (id >= r->v->count)
        return dp_fail(r->err, DP_E_LIMIT, "%s: token %lld, but the embedding has %u rows",
                       r->doc->name, (long long)id, r->v->count);
    *out = &r->v->tokens[id];
    return DP_OK;
}

/* {"text": id, ...} */
static dp_status read_vocab(struct reader *r)
{
    dp_hf_token t = { .kind = NORMAL }, *to;
    dp_json json;
    dp_json_token token;
    bool is_found;
    dp_status st = dp_doc_find(r->doc, "model.vocab", &json, &token, &is_found, r->err);

    if (!st && (!is_found || token.kind != DP_JSON_OBJECT_BEGIN))
        st = fail_corrupt(r, "\"model.vocab\" is not an object");
    while (dp_doc_next(&json, &token, &st, r->err)) {
        st = keep_text(r, &t, token.text);
        if (!st)
            st = dp_json_next(&json, &token, r->err);
        if (!st)
            st = take_id(r, &token, &to);
        if (!st && to->kind)
            st = dp_fail(r->err, DP_E_CORRUPT, "%s: two tokens have the id %.20s", r->doc->name,
                         token.text.bytes);
        if (!st)
            *to = t;
    }
    dp_json_deinit(&json);
    return st;
}

/* Names that publishers write as <|...|> are no text, whatever the file says of them. */
static bool looks_special(dp_str text)
{
    return text.size > 4 &&
           ((dp_str_starts_with(text, "<|") && dp_str_ends_with(text, "|>")) ||
            (dp_str_starts_with(text, "<\xEF\xBD\x9C") && dp_str_ends_with(text, "\xEF\xBD\x9C>")));
}

/* One of added_tokens, whose BEGIN was just read. */
static dp_status read_added(struct reader *r, dp_json *json)
{
    dp_hf_token t = { .kind = USER_DEFINED, .is_added = true }, *to = NULL;
    bool is_special = false, has_text = false;
    dp_json_token token;
    dp_status st = DP_OK;

    while (dp_doc_next(json, &token, &st, r->err)) {
        bool is_id = dp_str_is(token.text, "id"), is_text = dp_str_is(token.text, "content");
        bool is_flag = dp_str_is(token.text, "special");

        st = dp_json_next(json, &token, r->err);
        if (st)
            break;
        if (is_id)
            st = take_id(r, &token, &to);
        else if (is_text && token.kind == DP_JSON_STRING) {
            has_text = true;
            st = keep_text(r, &t, token.text);
        } else if (is_flag)
            is_special = token.kind == DP_JSON_TRUE;
        else
            st = dp_json_skip(json, &token, r->err);
    }
    if (!st && (!to || !has_text))
        st = fail_corrupt(r, "one of \"added_tokens\" has no id or no content");
    if (st)
        return st;
    if (is_special || looks_special((dp_str){ r->v->text.bytes + t.at, t.size }))
        t.kind = CONTROL;
    *to = t;
    return DP_OK;
}

static dp_status read_all_added(struct reader *r)
{
    dp_json json;
    dp_json_token token;
    bool is_found;
    dp_status st = dp_doc_find(r->doc, "added_tokens", &json, &token, &is_found, r->err);

    if (is_found && token.kind == DP_JSON_ARRAY_BEGIN)
        while (dp_doc_next(&json, &token, &st, r->err))
            st = token.kind == DP_JSON_OBJECT_BEGIN
                     ? read_added(r, &json)
                     : fail_corrupt(r, "one of \"added_tokens\" is no object");
    dp_json_deinit(&json);
    return st;
}

/* Rows of the embedding that no token has: sizes are rounded up for machines. */
static dp_status fill_unused(struct reader *r)
{
    char name[24];
    dp_status st = DP_OK;

    for (uint32_t i = 0; i < r->v->count && !st; i++) {
        dp_hf_token *t = &r->v->tokens[i];

        if (t->kind)
            continue;
        snprintf(name, sizeof name, "[PAD%u]", i);
        t->kind = UNUSED;
        st = keep_text(r, t, dp_str_from(name));
    }
    return st;
}

/* ---- merges ---- */

/* The next of model.merges as "left right" in out[MERGED_MAX + 1]: a string, or an
 * array of two. */
static dp_status read_merge(struct reader *r, dp_json *json, dp_json_token *token, char *out,
                            size_t *out_size)
{
    bool is_array = token->kind == DP_JSON_ARRAY_BEGIN;
    size_t spaces = 0;
    dp_status st = DP_OK;

    *out_size = 0;
    for (int part = 0; part < (is_array ? 2 : 1) && !st; part++) {
        if (is_array)
            st = dp_json_next(json, token, r->err);
        if (!st && token->kind != DP_JSON_STRING)
            st = fail_corrupt(r, "one of \"model.merges\" is neither \"a b\" nor [\"a\", \"b\"]");
        if (!st && token->text.size + 1 > MERGED_MAX - *out_size)
            st = dp_fail(r->err, DP_E_LIMIT, "%s: a merge of more than %d bytes", r->doc->name,
                         MERGED_MAX);
        if (st)
            return st;
        if (part)
            out[(*out_size)++] = ' ';
        memcpy(out + *out_size, token->text.bytes, token->text.size);
        *out_size += token->text.size;
    }
    if (is_array) {
        st = dp_json_next(json, token, r->err);
        if (!st && token->kind != DP_JSON_ARRAY_END)
            st = fail_corrupt(r, "one of \"model.merges\" has more than two parts");
    }
    for (size_t i = 0; i < *out_size; i++)
        spaces += out[i] == ' ';
    if (!st && spaces != 1)
        st = fail_corrupt(r, "one of \"model.merges\" is not two tokens with one space between");
    return st;
}

/* Of SentencePiece's pieces, the better one is merged first; in tokenizer.json each
 * piece has become the merges that make it, best pieces first. So the first merge
 * that makes a piece tells its place. Pieces that no merge makes come last. */
static dp_status score_merge(struct reader *r, char *merge, size_t size, uint32_t rank)
{
    char *space = memchr(merge, ' ', size);
    uint32_t id;

    memmove(space, space + 1, size - (size_t)(space - merge) - 1);
    id = dp_map_str_get(&r->by_text, (dp_str){ merge, size - 1 });
    if (id == DP_MAP_NONE)
        return dp_fail(r->err, DP_E_CORRUPT, "%s: merge %u makes no token", r->doc->name, rank);
    if (r->v->scores[id] == 0)
        r->v->scores[id] = -(float)(rank + 1);
    return DP_OK;
}

/* Walks model.merges: counts them, and either scores pieces or (out) writes them. */
static dp_status walk_merges(struct reader *r, uint32_t *count, bool scores, dp_gguf_out *out)
{
    char merge[MERGED_MAX + 1];
    size_t size;
    dp_json json;
    dp_json_token token;
    bool is_found;
    dp_status st = dp_doc_find(r->doc, "model.merges", &json, &token, &is_found, r->err);

    *count = 0;
    if (!st && (!is_found || token.kind != DP_JSON_ARRAY_BEGIN))
        st = fail_corrupt(r, "\"model.merges\" is not an array");
    while (dp_doc_next(&json, &token, &st, r->err)) {
        st = read_merge(r, &json, &token, merge, &size);
        if (!st && *count == DP_HF_MERGES_MAX)
            st = dp_fail(r->err, DP_E_LIMIT, "%s: more than %u merges", r->doc->name,
                         DP_HF_MERGES_MAX);
        if (!st && scores)
            st = score_merge(r, merge, size, *count);
        if (!st && out)
            dp_gguf_out_text_element(out, (dp_str){ merge, size });
        ++*count;
    }
    dp_json_deinit(&json);
    return st;
}

/* ---- SentencePiece ---- */

static bool is_byte_name(dp_str text)
{
    return text.size == 6 && dp_str_starts_with(text, "<0x") && isxdigit((uint8_t)text.bytes[3]) &&
           isxdigit((uint8_t)text.bytes[4]) && text.bytes[5] == '>';
}

static dp_status mark_spm(struct reader *r)
{
    bool has_unknown;
    uint32_t previous;
    dp_buf unknown;
    dp_status st;

    dp_buf_init(&unknown, MERGED_MAX);
    st = dp_doc_str(r->doc, "model.unk_token", &unknown, &has_unknown, r->err);
    for (uint32_t i = 0; i < r->v->count && !st; i++) {
        dp_hf_token *t = &r->v->tokens[i];
        dp_str text = dp_hf_vocab_text(r->v, i);

        if (has_unknown && dp_str_equal(text, (dp_str){ unknown.bytes, unknown.size }))
            t->kind = UNKNOWN;
        else if (t->kind == NORMAL && is_byte_name(text))
            t->kind = BYTE;
        st = dp_map_str_add(&r->by_text, text, i, &previous);
        if (st)
            dp_fail(r->err, st, "%s: no memory for an index of tokens", r->doc->name);
    }
    dp_buf_deinit(&unknown);
    return st;
}

static dp_status score_spm(struct reader *r)
{
    dp_status st;

    r->v->scores = dp_alloc_zero(r->v->count, sizeof(float));
    st = r->v->scores ? dp_map_str_init(&r->by_text, r->v->count) : DP_E_NOMEM;
    if (st)
        return dp_fail(r->err, st, "%s: no memory for scores", r->doc->name);
    st = mark_spm(r);
    if (!st)
        st = walk_merges(r, &r->v->merge_count, true, NULL);
    for (uint32_t i = 0; i < r->v->count && !st; i++)
        if (r->v->scores[i] == 0 && r->v->tokens[i].kind == NORMAL)
            r->v->scores[i] = -(float)(r->v->merge_count + i + 1);
    return st;
}

/* ---- the whole ---- */

/* What is done to text before it is cut: nothing, or for published files NFC, which
 * text as people type it is in already. */
static dp_status check_normalizer(struct reader *r)
{
    dp_json json;
    dp_json_token token;
    bool is_found;
    uint32_t depth;
    dp_status st = dp_doc_find(r->doc, "normalizer", &json, &token, &is_found, r->err);

    depth = st ? 0 : token.depth;
    while (!st && is_found && token.kind != DP_JSON_END) {
        if (token.kind == DP_JSON_KEY && dp_str_is(token.text, "type")) {
            st = dp_json_next(&json, &token, r->err);
            if (!st && !(token.kind == DP_JSON_STRING &&
                         (dp_str_is(token.text, "Sequence") || dp_str_is(token.text, "NFC"))))
                st = dp_fail(r->err, DP_E_UNSUPPORTED,
                             "%s: a normalizer of type %.20s is not converted", r->doc->name,
                             token.kind == DP_JSON_STRING ? token.text.bytes : "(none)");
        }
        if (!st && token.kind == DP_JSON_OBJECT_END && token.depth == depth)
            break;
        if (!st)
            st = dp_json_next(&json, &token, r->err);
    }
    dp_json_deinit(&json);
    return st;
}

static dp_status check_type(struct reader *r)
{
    bool is_found;
    dp_buf type;
    dp_status st;

    dp_buf_init(&type, 64);
    st = dp_doc_str(r->doc, "model.type", &type, &is_found, r->err);
    if (!st && is_found && !dp_str_is((dp_str){ type.bytes, type.size }, "BPE"))
        st = dp_fail(r->err, DP_E_UNSUPPORTED, "%s: a tokenizer of type %s is not converted",
                     r->doc->name, type.size ? type.bytes : "(none)");
    dp_buf_deinit(&type);
    if (!st)
        st = dp_doc_bool(r->doc, "model.byte_fallback", &r->v->is_spm, &is_found, r->err);
    return st;
}

dp_status dp_hf_vocab_read(dp_hf_vocab *out, const dp_doc *tokenizer, uint32_t token_count,
                           dp_error *err)
{
    struct reader r = { .doc = tokenizer, .v = out, .err = err };
    dp_status st;

    *out = (dp_hf_vocab){ .count = token_count };
    dp_buf_init(&out->text, TEXT_MAX);
    out->tokens = dp_alloc_zero(token_count, sizeof *out->tokens);
    if (!out->tokens)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for %u tokens", tokenizer->name,
                       token_count);
    st = check_type(&r);
    if (!st)
        st = read_vocab(&r);
    if (!st)
        st = read_all_added(&r);
    if (!st)
        st = fill_unused(&r);
    if (!st && out->is_spm)
        st = score_spm(&r);
    if (!st && !out->is_spm)
        st = check_normalizer(&r);
    if (!st && !out->is_spm)
        st = dp_hf_pre_find(&out->pre, tokenizer, err);
    if (!st && !out->is_spm)
        st = walk_merges(&r, &out->merge_count, false, NULL);
    dp_map_str_deinit(&r.by_text);
    return st;
}

void dp_hf_vocab_deinit(dp_hf_vocab *v)
{
    dp_buf_deinit(&v->text);
    dp_free(v->tokens);
    dp_free(v->scores);
    v->tokens = NULL;
    v->scores = NULL;
}

static dp_status put_tables(const dp_hf_docs *docs, dp_hf_vocab *v, dp_gguf_out *out, dp_error *err)
{
    struct reader r = { .doc = &docs->tokenizer, .v = v, .err = err };
    int32_t *kinds = dp_alloc(v->count, sizeof *kinds);
    uint32_t count;
    dp_status st = DP_OK;

    if (!kinds)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for %u tokens", r.doc->name, v->count);
    dp_gguf_out_str(out, "tokenizer.ggml.model", v->is_spm ? "llama" : "gpt2");
    if (v->pre)
        dp_gguf_out_str(out, "tokenizer.ggml.pre", v->pre);
    dp_gguf_out_text_array(out, "tokenizer.ggml.tokens", v->count);
    for (uint32_t i = 0; i < v->count; i++) {
        kinds[i] = v->tokens[i].kind;
        dp_gguf_out_text_element(out, dp_hf_vocab_text(v, i));
    }
    if (v->scores)
        dp_gguf_out_array(out, "tokenizer.ggml.scores", DP_GGUF_F32, v->count, v->scores);
    dp_gguf_out_array(out, "tokenizer.ggml.token_type", DP_GGUF_I32, v->count, kinds);
    if (!v->is_spm) {
        dp_gguf_out_text_array(out, "tokenizer.ggml.merges", v->merge_count);
        st = walk_merges(&r, &count, false, out);
    }
    dp_free(kinds);
    return st;
}

dp_status dp_hf_tokenizer_keys(const dp_hf_docs *docs, uint32_t token_count, dp_gguf_out *out,
                               dp_error *err)
{
    dp_hf_vocab v;
    dp_status st = dp_hf_vocab_read(&v, &docs->tokenizer, token_count, err);

    if (!st)
        st = put_tables(docs, &v, out, err);
    if (!st)
        st = dp_hf_special_keys(docs, &v, out, err);
    dp_hf_vocab_deinit(&v);
    return st;
}
