/* vocab.h - text <-> tokens of a model, without its weights.
 *
 * A vocabulary comes from any GGUF file that has one (a vocabulary-only file is
 * enough). Immutable: any thread. A dp_text_stream belongs to one.
 */
#ifndef DOPPLER_VOCAB_H
#define DOPPLER_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include "doppler/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t dp_token;
typedef struct dp_vocab dp_vocab;

enum {
    DP_ENCODE_SPECIAL = 1, /* names of control tokens in the text become those tokens */
    DP_ENCODE_ADD_BOS = 2  /* begin-of-sequence first (end last) where the vocabulary says so */
};

/* DP_E_NOTFOUND, DP_E_CORRUPT, DP_E_UNSUPPORTED name what is wrong. */
DP_API dp_status dp_vocab_open(dp_vocab **out, const char *path, dp_error *err);
DP_API void dp_vocab_close(dp_vocab *vocab);

DP_API uint32_t dp_vocab_count(const dp_vocab *vocab);
DP_API dp_token dp_vocab_bos(const dp_vocab *vocab); /* -1: none */
DP_API dp_token dp_vocab_eos(const dp_vocab *vocab);
DP_API bool dp_vocab_is_stop(const dp_vocab *vocab, dp_token token); /* ends a turn or the text */
/* The bytes of one token, *size of them, borrowed from the vocabulary. */
DP_API const char *dp_vocab_token_bytes(const dp_vocab *vocab, dp_token token, size_t *size);

/* Encodes text[0..size). *tokens is owned by the caller: dp_tokens_free. */
DP_API dp_status dp_vocab_encode(const dp_vocab *vocab, const char *text, size_t size,
                                 uint32_t flags, dp_token **tokens, size_t *count, dp_error *err);
DP_API void dp_tokens_free(dp_token *tokens);

/* Tokens -> text piece by piece; never cuts a UTF-8 character in two. */
typedef struct dp_text_stream dp_text_stream;

DP_API dp_text_stream *dp_text_stream_open(const dp_vocab *vocab,
                                           bool shows_special); /* NULL: no memory */
DP_API void dp_text_stream_close(dp_text_stream *stream);
/* What became printable, *size bytes, borrowed until the next call. */
DP_API dp_status dp_text_stream_push(dp_text_stream *stream, dp_token token, const char **text,
                                     size_t *size);
DP_API dp_status dp_text_stream_finish(dp_text_stream *stream, const char **text, size_t *size);

/* Of text that a call gave away. */
DP_API void dp_text_free(char *text);

#ifdef __cplusplus
}
#endif
#endif
