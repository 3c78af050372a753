/* convert_special.c - which tokens begin and end texts, and the chat template. */
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "convert/convert_tokenizer.h"

#define NAME_MAX_SIZE 1024               /* of a special token */
#define TEMPLATE_MAX  ((size_t)16 << 20) /* published ones reach 20 KiB */
#define NONE          UINT32_MAX
#define MEMBER_DEPTH  1  /* of an object that is a member of the document */
#define STOPS_MAX     16 /* ids that end a generation; published lists have 3 */

struct special {
    const dp_hf_docs *docs;
    const dp_hf_vocab *v;
    dp_gguf_out *out;
    dp_error *err;
};

/* The token of that text: an added one, or else any. */
static uint32_t find_token(const dp_hf_vocab *v, dp_str text)
{
    uint32_t found = NONE;

    for (uint32_t i = 0; i < v->count; i++)
        if (v->tokens[i].size == text.size && dp_str_equal(dp_hf_vocab_text(v, i), text)) {
            if (v->tokens[i].is_added)
                return i;
            found = found == NONE ? i : found;
        }
    return found;
}

/* A name in tokenizer_config.json: a string, or an object with its content. */
static dp_status find_named(struct special *s, const char *path, const char *content_path,
                            uint32_t *out)
{
    const dp_doc *doc = &s->docs->tokenizer_config;
    dp_json json;
    dp_json_token token;
    bool is_found;
    dp_buf text;
    dp_status st = dp_doc_find(doc, path, &json, &token, &is_found, s->err);

    *out = NONE;
    dp_buf_init(&text, NAME_MAX_SIZE);
    if (!st && is_found)
        st = dp_doc_str(doc, token.kind == DP_JSON_OBJECT_BEGIN ? content_path : path, &text,
                        &is_found, s->err);
    if (!st && is_found && text.bytes)
        *out = find_token(s->v, (dp_str){ text.bytes, text.size });
    dp_json_deinit(&json);
    dp_buf_deinit(&text);
    return st;
}

/* A number, or a list of them: appended to ids[STOPS_MAX]. */
static dp_status read_ids(struct special *s, const dp_doc *doc, const char *path, uint32_t *ids,
                          size_t *count)
{
    dp_json json;
    dp_json_token token;
    bool is_found, is_array;
    int64_t id;
    dp_status st = dp_doc_find(doc, path, &json, &token, &is_found, s->err);

    is_array = is_found && token.kind == DP_JSON_ARRAY_BEGIN;
    while (!st && is_found) {
        if (is_array && !dp_doc_next(&json, &token, &st, s->err))
            break;
        if (token.kind != DP_JSON_NUMBER || !dp_json_i64(&token, &id) || id < 0 ||
            id >= s->v->count)
            st = dp_fail(s->err, DP_E_CORRUPT, "%s: \"%s\" names no token of the vocabulary",
                         doc->name, path);
        if (!st && *count < STOPS_MAX)
            ids[(*count)++] = (uint32_t)id;
        if (!is_array)
            break;
    }
    dp_json_deinit(&json);
    return st;
}

/* The files in the order of their word: a name, then numbers. */
static dp_status find_id(struct special *s, const char *name, const char *content, const char *path,
                         uint32_t *out)
{
    uint32_t ids[STOPS_MAX];
    size_t count = 0;
    dp_status st = find_named(s, name, content, out);

    if (!st && *out == NONE)
        st = read_ids(s, s->docs->config, path, ids, &count);
    if (!st && *out == NONE && count == 0)
        st = read_ids(s, &s->docs->generation_config, path, ids, &count);
    if (!st && *out == NONE && count)
        *out = ids[0];
    return st;
}

/* Further ids that end an answer: GGUF has a place for two of them. Readers know
 * the usual ends by their names, so one that finds no place is only mentioned. */
static dp_status put_stops(struct special *s, uint32_t eos)
{
    static const char *const keys[] = { "tokenizer.ggml.eot_token_id",
                                        "tokenizer.ggml.eom_token_id" };
    uint32_t ids[2 * STOPS_MAX];
    size_t count = 0, used = 0;
    dp_status st = read_ids(s, &s->docs->generation_config, "eos_token_id", ids, &count);
    bool is_known;

    if (!st)
        st = read_ids(s, s->docs->config, "eos_token_id", ids, &count);
    for (size_t i = 0; i < count && !st; i++) {
        is_known = ids[i] == eos;
        for (size_t j = 0; j < i; j++)
            is_known |= ids[j] == ids[i];
        if (is_known)
            continue;
        if (used < DP_ARRAY_LEN(keys))
            dp_gguf_out_u32(s->out, keys[used++], ids[i]);
        else
            DP_LOG_WARN("convert", "stop_token=%u event=left_out reason=no_key_for_a_fourth",
                        ids[i]);
    }
    return st;
}

/* ---- added to every text ---- */

/* The walk through a member of the document, depth 1, is not over yet. */
static bool is_inside(const dp_json_token *token)
{
    return token->kind != DP_JSON_END &&
           !(token->kind == DP_JSON_OBJECT_END && token->depth == MEMBER_DEPTH);
}

/* Finds post_processor's template of a single text: its first and last special
 * tokens, NONE for text there. *has_template: there is one. */
static dp_status read_template(struct special *s, bool *has_template, uint32_t *first,
                               uint32_t *last)
{
    dp_json json;
    dp_json_token token;
    bool is_found, is_single = false;
    uint32_t array_depth = 0;
    dp_status st =
        dp_doc_find(&s->docs->tokenizer, "post_processor", &json, &token, &is_found, s->err);

    *has_template = false;
    *first = *last = NONE;
    is_found = is_found && token.kind == DP_JSON_OBJECT_BEGIN;
    while (!st && is_found && is_inside(&token) && !*has_template) {
        st = dp_json_next(&json, &token, s->err);
        if (st)
            break;
        if (!is_single && token.kind == DP_JSON_KEY && dp_str_is(token.text, "single")) {
            st = dp_json_next(&json, &token, s->err);
            is_single = !st && token.kind == DP_JSON_ARRAY_BEGIN;
            array_depth = token.depth;
        } else if (is_single && token.kind == DP_JSON_ARRAY_END && token.depth == array_depth) {
            *has_template = true;
        } else if (is_single && token.kind == DP_JSON_KEY && dp_str_is(token.text, "Sequence")) {
            *first = *first == NONE ? NONE - 1 : *first; /* text came first */
            *last = NONE;
        } else if (is_single && token.kind == DP_JSON_KEY && dp_str_is(token.text, "id")) {
            st = dp_json_next(&json, &token, s->err);
            if (!st && token.kind == DP_JSON_STRING && !dp_str_is(token.text, "A")) {
                *last = find_token(s->v, token.text);
                *first = *first == NONE ? *last : *first;
            }
        }
    }
    if (*first == NONE - 1)
        *first = NONE;
    dp_json_deinit(&json);
    return st;
}

/* tokenizer_config.json says so, or the template shows it, or nobody knows and the
 * reader's own default holds. */
static dp_status put_flags(struct special *s, uint32_t bos, uint32_t eos)
{
    const dp_doc *doc = &s->docs->tokenizer_config;
    uint32_t first, last;
    bool has_template, is_found, adds;
    dp_status st = read_template(s, &has_template, &first, &last);

    adds = bos != NONE && first == bos;
    if (!st)
        st = dp_doc_bool(doc, "add_bos_token", &adds, &is_found, s->err);
    if (!st && (is_found || has_template))
        dp_gguf_out_bool(s->out, "tokenizer.ggml.add_bos_token", adds);
    adds = eos != NONE && last == eos;
    if (!st)
        st = dp_doc_bool(doc, "add_eos_token", &adds, &is_found, s->err);
    if (!st && (is_found || (has_template && adds)))
        dp_gguf_out_bool(s->out, "tokenizer.ggml.add_eos_token", adds);
    return st;
}

/* SentencePiece: is a space put before a text? */
static dp_status put_space_prefix(struct special *s)
{
    const dp_doc *doc = &s->docs->tokenizer;
    bool adds = false, is_found = false;
    dp_json json;
    dp_json_token token;
    dp_status st = dp_doc_find(doc, "normalizer", &json, &token, &is_found, s->err);

    is_found = is_found && token.kind == DP_JSON_OBJECT_BEGIN;
    while (!st && is_found && is_inside(&token)) { /* {"type": "Prepend", ...} */
        st = dp_json_next(&json, &token, s->err);
        adds |= !st && token.kind == DP_JSON_STRING && dp_str_is(token.text, "Prepend");
    }
    dp_json_deinit(&json);
    if (!st)
        st = dp_doc_find(doc, "pre_tokenizer.prepend_scheme", &json, &token, &is_found, s->err);
    if (!st && is_found && token.kind == DP_JSON_STRING)
        adds = !dp_str_is(token.text, "never");
    dp_json_deinit(&json);
    if (!st)
        st = dp_doc_bool(&s->docs->tokenizer_config, "add_prefix_space", &adds, &is_found, s->err);
    if (!st)
        dp_gguf_out_bool(s->out, "tokenizer.ggml.add_space_prefix", adds);
    return st;
}

/* ---- the chat template ---- */

/* A list of named templates: the one named default. */
static dp_status read_listed(struct special *s, dp_json *json, dp_buf *out, bool *is_found)
{
    dp_json_token token;
    dp_status st = DP_OK;
    bool is_default;

    *is_found = false;
    while (dp_doc_next(json, &token, &st, s->err)) {
        is_default = false;
        dp_buf_reset(out);
        while (token.kind == DP_JSON_OBJECT_BEGIN && dp_doc_next(json, &token, &st, s->err)) {
            bool is_name = dp_str_is(token.text, "name");
            bool is_text = dp_str_is(token.text, "template");

            st = dp_json_next(json, &token, s->err);
            if (!st && is_name)
                is_default = token.kind == DP_JSON_STRING && dp_str_is(token.text, "default");
            else if (!st && is_text && token.kind == DP_JSON_STRING)
                st = dp_buf_append(out, token.text.bytes, token.text.size);
            else if (!st)
                st = dp_json_skip(json, &token, s->err);
            token.kind = DP_JSON_OBJECT_BEGIN;
        }
        if (!st && is_default) {
            *is_found = true;
            return DP_OK;
        }
    }
    return st;
}

static dp_status read_config_template(struct special *s, dp_buf *out, bool *is_found)
{
    const dp_doc *doc = &s->docs->tokenizer_config;
    dp_json json;
    dp_json_token token;
    dp_status st = dp_doc_find(doc, "chat_template", &json, &token, is_found, s->err);

    if (!st && *is_found && token.kind == DP_JSON_ARRAY_BEGIN)
        st = read_listed(s, &json, out, is_found);
    else if (!st && *is_found)
        st = dp_doc_str(doc, "chat_template", out, is_found, s->err);
    dp_json_deinit(&json);
    return st;
}

static dp_status put_template(struct special *s)
{
    dp_doc file = { .text = NULL };
    bool is_found;
    dp_buf text;
    dp_status st;

    dp_buf_init(&text, TEMPLATE_MAX);
    st = read_config_template(s, &text, &is_found);
    if (!st && is_found)
        dp_gguf_out_text(s->out, "tokenizer.chat_template",
                         (dp_str){ text.bytes ? text.bytes : "", text.size });
    if (!st && !is_found)
        st = dp_doc_open(&file, s->docs->dir, "chat_template.jinja", true, s->err);
    if (!st && file.text)
        dp_gguf_out_text(s->out, "tokenizer.chat_template", (dp_str){ file.text, file.size });
    dp_doc_close(&file);
    dp_buf_deinit(&text);
    return st;
}

dp_status dp_hf_special_keys(const dp_hf_docs *docs, const dp_hf_vocab *v, dp_gguf_out *out,
                             dp_error *err)
{
    struct special s = { docs, v, out, err };
    uint32_t bos, eos, unknown = NONE, pad;
    dp_status st = find_id(&s, "bos_token", "bos_token.content", "bos_token_id", &bos);

    if (!st)
        st = find_id(&s, "eos_token", "eos_token.content", "eos_token_id", &eos);
    if (!st)
        st = find_named(&s, "unk_token", "unk_token.content", &unknown);
    if (!st)
        st = find_named(&s, "pad_token", "pad_token.content", &pad);
    for (uint32_t i = 0; i < v->count && !st && v->is_spm && unknown == NONE; i++)
        if (v->tokens[i].kind == 2)
            unknown = i;
    if (st)
        return st;
    if (bos != NONE)
        dp_gguf_out_u32(out, "tokenizer.ggml.bos_token_id", bos);
    if (eos != NONE)
        dp_gguf_out_u32(out, "tokenizer.ggml.eos_token_id", eos);
    if (unknown != NONE)
        dp_gguf_out_u32(out, "tokenizer.ggml.unknown_token_id", unknown);
    if (pad != NONE)
        dp_gguf_out_u32(out, "tokenizer.ggml.padding_token_id", pad);
    st = put_stops(&s, eos);
    if (!st)
        st = put_flags(&s, bos, eos);
    if (!st && v->is_spm)
        st = put_space_prefix(&s);
    return st ? st : put_template(&s);
}
