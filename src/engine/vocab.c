#include "engine/vocab.h"

#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "doppler/source.h"
#include "engine/origin.h"

#define TEXT_BYTES_MAX ((size_t)1 << 30) /* a rendered conversation */

/* ---- from a file ---- */

static dp_token token_key(const dp_gguf *gguf, const char *key)
{
    uint64_t id;

    return dp_gguf_get_u64(gguf, key, 0, &id, NULL) || id >= DP_TOKEN_COUNT_MAX ? DP_TOKEN_NONE
                                                                                : (dp_token)id;
}

static int flag_key(const dp_gguf *gguf, const char *key)
{
    bool value;

    return dp_gguf_get_bool(gguf, key, &value, NULL) ? -1 : value;
}

static dp_str str_key(const dp_gguf *gguf, const char *key)
{
    dp_str value;

    return dp_gguf_get_str(gguf, key, &value, NULL) ? dp_str_from("") : value;
}

static dp_status check_array(const dp_gguf_value *v, uint64_t count, dp_error *err)
{
    if (v->is_array && v->count == count)
        return DP_OK;
    return dp_fail(err, DP_E_CORRUPT, "key %s: %llu entries, expected %llu, one a token",
                   v->key.bytes, (unsigned long long)v->count, (unsigned long long)count);
}

/* Copies of the arrays that a file stores unaligned or in another width. */
static dp_status read_kinds(const dp_gguf *gguf, uint32_t count, int32_t **out, dp_error *err)
{
    const dp_gguf_value *v = dp_gguf_find(gguf, "tokenizer.ggml.token_type");
    dp_status st;

    if (!v)
        return DP_OK;
    st = check_array(v, count, err);
    if (st)
        return st;
    *out = dp_alloc(count, sizeof **out);
    if (!*out)
        return dp_fail(err, DP_E_NOMEM, "vocabulary: %u token types", count);
    for (uint32_t i = 0; !st && i < count; i++) {
        int64_t kind;
        st = dp_gguf_get_i64(gguf, "tokenizer.ggml.token_type", i, &kind, err);
        if (!st)
            (*out)[i] = (int32_t)kind;
    }
    return st;
}

static dp_status read_scores(const dp_gguf *gguf, uint32_t count, float **out, dp_error *err)
{
    const dp_gguf_value *v = dp_gguf_find(gguf, "tokenizer.ggml.scores");
    dp_status st;

    if (!v)
        return DP_OK;
    st = check_array(v, count, err);
    if (!st && v->type != DP_GGUF_F32)
        st = dp_fail(err, DP_E_CORRUPT, "key %s: not an array of f32", v->key.bytes);
    if (st)
        return st;
    *out = dp_alloc(count, sizeof **out);
    if (!*out)
        return dp_fail(err, DP_E_NOMEM, "vocabulary: %u scores", count);
    memcpy(*out, v->bytes, count * sizeof **out);
    return DP_OK;
}

static dp_status read_tables(dp_vocab_tables *t, const dp_gguf *gguf, int32_t **kinds,
                             float **scores, dp_error *err)
{
    const dp_gguf_value *tokens = dp_gguf_find(gguf, "tokenizer.ggml.tokens");
    const dp_gguf_value *merges = dp_gguf_find(gguf, "tokenizer.ggml.merges");
    dp_status st = dp_gguf_get_str(gguf, "tokenizer.ggml.model", &t->model, err);

    if (st)
        return st;
    if (!tokens || !tokens->strings)
        return dp_fail(err, DP_E_NOTFOUND, "key tokenizer.ggml.tokens: missing or not strings");
    if (tokens->count > DP_TOKEN_COUNT_MAX)
        return dp_fail(err, DP_E_LIMIT, "key tokenizer.ggml.tokens: %llu tokens, at most %u",
                       (unsigned long long)tokens->count, DP_TOKEN_COUNT_MAX);
    t->tokens = tokens->strings;
    t->token_count = (uint32_t)tokens->count;
    if (merges && merges->strings && merges->count <= UINT32_MAX) {
        t->merges = merges->strings;
        t->merge_count = (uint32_t)merges->count;
    }
    st = read_kinds(gguf, t->token_count, kinds, err);
    if (!st)
        st = read_scores(gguf, t->token_count, scores, err);
    t->kinds = *kinds;
    t->scores = *scores;
    return st;
}

dp_status dp_vocab_from_gguf(dp_vocab **out, const dp_gguf *gguf, dp_error *err)
{
    dp_status st = DP_OK;
    int32_t *kinds = NULL;
    float *scores = NULL;
    dp_token stops[1];
    dp_vocab *vocab = NULL;
    dp_str template;
    dp_vocab_tables tables = {
        .pre = str_key(gguf, "tokenizer.ggml.pre"),
        .bos = token_key(gguf, "tokenizer.ggml.bos_token_id"),
        .eos = token_key(gguf, "tokenizer.ggml.eos_token_id"),
        .eot = token_key(gguf, "tokenizer.ggml.eot_token_id"),
        .unknown = token_key(gguf, "tokenizer.ggml.unknown_token_id"),
        .add_bos = flag_key(gguf, "tokenizer.ggml.add_bos_token"),
        .add_eos = flag_key(gguf, "tokenizer.ggml.add_eos_token"),
        .add_space_prefix = flag_key(gguf, "tokenizer.ggml.add_space_prefix"),
        .stops = stops,
    };

    *out = NULL;
    stops[0] = token_key(gguf, "tokenizer.ggml.eom_token_id");
    tables.stop_count = stops[0] != DP_TOKEN_NONE;
    st = read_tables(&tables, gguf, &kinds, &scores, err);
    if (st)
        goto done;
    vocab = dp_alloc_zero(1, sizeof *vocab);
    if (!vocab) {
        st = dp_fail(err, DP_E_NOMEM, "vocabulary: no memory");
        goto done;
    }
    st = dp_tokenizer_open(&vocab->tokenizer, &tables, err);
    if (st)
        goto done;
    template = str_key(gguf, "tokenizer.chat_template");
    vocab->chat_template = template.size ? dp_strndup(template.bytes, template.size) : NULL;
    if (template.size && !vocab->chat_template)
        st = dp_fail(err, DP_E_NOMEM, "vocabulary: a chat template of %zu bytes", template.size);
    if (st)
        goto done;

    *out = vocab;
    vocab = NULL;
done:
    dp_vocab_close(vocab);
    dp_free(kinds);
    dp_free(scores);
    return st;
}

static dp_status open_vocab(dp_vocab **out, const dp_origin *origin, dp_error *err)
{
    dp_gguf *gguf;
    dp_status st = dp_origin_describe(&gguf, origin, err);

    *out = NULL;
    if (st)
        return st;
    st = dp_vocab_from_gguf(out, gguf, err);
    dp_gguf_close(gguf);
    return st;
}

dp_status dp_vocab_open(dp_vocab **out, const char *path, dp_error *err)
{
    return open_vocab(out, &(dp_origin){ .path = path }, err);
}

dp_status dp_vocab_open_source(dp_vocab **out, dp_source *source, dp_error *err)
{
    return open_vocab(out, &(dp_origin){ .source = source }, err);
}

void dp_vocab_close(dp_vocab *vocab)
{
    if (!vocab)
        return;
    dp_tokenizer_close(vocab->tokenizer);
    dp_free(vocab->chat_template);
    dp_free(vocab);
}

/* ---- questions ---- */

uint32_t dp_vocab_count(const dp_vocab *vocab)
{
    return dp_tokenizer_count(vocab->tokenizer);
}

dp_token dp_vocab_bos(const dp_vocab *vocab)
{
    return dp_tokenizer_bos(vocab->tokenizer);
}

dp_token dp_vocab_eos(const dp_vocab *vocab)
{
    return dp_tokenizer_eos(vocab->tokenizer);
}

bool dp_vocab_is_stop(const dp_vocab *vocab, dp_token token)
{
    return dp_tokenizer_is_stop(vocab->tokenizer, token);
}

const char *dp_vocab_token_bytes(const dp_vocab *vocab, dp_token token, size_t *size)
{
    dp_str text = dp_tokenizer_text(vocab->tokenizer, token);

    *size = text.size;
    return text.bytes;
}

dp_status dp_vocab_encode(const dp_vocab *vocab, const char *text, size_t size, uint32_t flags,
                          dp_token **tokens, size_t *count, dp_error *err)
{
    dp_token_list list = { 0 };
    dp_status st = dp_tokenizer_encode(vocab->tokenizer, (dp_str){ text, size }, flags, &list, err);

    if (st)
        dp_token_list_deinit(&list);
    *tokens = list.ids;
    *count = list.count;
    return st;
}

void dp_tokens_free(dp_token *tokens)
{
    dp_free(tokens);
}

/* ---- streams ---- */

struct dp_text_stream {
    dp_decoder decoder;
    dp_buf text;
};

dp_text_stream *dp_text_stream_open(const dp_vocab *vocab, bool shows_special)
{
    dp_text_stream *s = dp_alloc_zero(1, sizeof *s);

    if (!s)
        return NULL;
    dp_decoder_init(&s->decoder, vocab->tokenizer, shows_special);
    dp_buf_init(&s->text, TEXT_BYTES_MAX);
    return s;
}

void dp_text_stream_close(dp_text_stream *stream)
{
    if (!stream)
        return;
    dp_buf_deinit(&stream->text);
    dp_free(stream);
}

static dp_status stream_result(dp_text_stream *s, dp_status st, const char **text, size_t *size)
{
    *text = s->text.bytes ? s->text.bytes : "";
    *size = st ? 0 : s->text.size;
    return st;
}

dp_status dp_text_stream_push(dp_text_stream *stream, dp_token token, const char **text,
                              size_t *size)
{
    dp_buf_reset(&stream->text);
    return stream_result(stream, dp_decoder_push(&stream->decoder, token, &stream->text), text,
                         size);
}

dp_status dp_text_stream_finish(dp_text_stream *stream, const char **text, size_t *size)
{
    dp_buf_reset(&stream->text);
    return stream_result(stream, dp_decoder_finish(&stream->decoder, &stream->text), text, size);
}

void dp_text_free(char *text)
{
    dp_free(text);
}
