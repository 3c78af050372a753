/* tokenizer.h - text <-> tokens: the interface, and the vocabulary tables both families share.
 *
 * Room     A tokenizer is built from plain tables (whoever read the file hands
 *          them in) and copies what it keeps. tokenizer_bpe.c merges byte-level
 *          pieces by rank; tokenizer_spm.c merges characters by score.
 *          Pre-tokenising (which runs of text may merge) is pretokenizer.h.
 *
 * Time     Encoding is O(n log n) in the text, whatever the text: pre-tokenizing
 *          is one linear pass, merges use a heap.
 *
 * Text     Any bytes. Invalid UTF-8 is encoded byte by byte, and decoding an
 *          encoding gives back the same bytes (SPM: but for its added space).
 *
 * Threads  Immutable once open: any thread. A decoder belongs to one.
 */
#ifndef DP_TEXT_TOKENIZER_H
#define DP_TEXT_TOKENIZER_H

#include "base/buf.h"
#include "base/str.h"
#include "doppler/vocab.h"
#include "text/prompt.h"

#define DP_TOKEN_NONE ((dp_token)-1)

typedef enum dp_token_kind { /* GGUF tokenizer.ggml.token_type */
                             DP_TOKEN_NORMAL = 1,
                             DP_TOKEN_UNKNOWN = 2,
                             DP_TOKEN_CONTROL = 3,
                             DP_TOKEN_USER_DEFINED = 4,
                             DP_TOKEN_UNUSED = 5,
                             DP_TOKEN_BYTE = 6,
} dp_token_kind;

/* Borrowed for the call of dp_tokenizer_open. */
typedef struct dp_vocab_tables {
    dp_str model;         /* "gpt2" (byte-level BPE) or "llama" (SPM) */
    dp_str pre;           /* BPE: which pre-tokenizer; may be empty */
    const dp_str *tokens; /* [token_count], as stored in the file */
    uint32_t token_count;
    const int32_t *kinds; /* [token_count] dp_token_kind, or NULL: all normal */
    const float *scores;  /* [token_count], SPM only, or NULL */
    const dp_str *merges; /* [merge_count] "left right", BPE only */
    uint32_t merge_count;
    dp_token bos, eos, eot, unknown; /* DP_TOKEN_NONE: the file has none */
    const dp_token *stops;           /* further tokens that end a turn (eom ...) */
    uint32_t stop_count;
    int add_bos, add_eos, add_space_prefix; /* 1, 0, or -1: the family's default */
} dp_vocab_tables;

#define DP_TOKEN_COUNT_MAX (1u << 24)

typedef struct dp_tokenizer dp_tokenizer;

/* DP_E_UNSUPPORTED names the model or pre it does not know; DP_E_CORRUPT a table
 * that contradicts itself (a merge of no tokens, a bos outside the vocabulary). */
dp_status dp_tokenizer_open(dp_tokenizer **out, const dp_vocab_tables *tables, dp_error *err);
void dp_tokenizer_close(dp_tokenizer *t);

uint32_t dp_tokenizer_count(const dp_tokenizer *t);
dp_token dp_tokenizer_bos(const dp_tokenizer *t); /* DP_TOKEN_NONE: none */
dp_token dp_tokenizer_eos(const dp_tokenizer *t);
dp_token dp_tokenizer_eot(const dp_tokenizer *t);
bool dp_tokenizer_adds_bos(const dp_tokenizer *t);
/* True for tokens that end generation: eos, eot, the stops, and control tokens
 * whose text is a known end of turn (<|eot_id|>, <|im_end|>, <|return|>, ...). */
bool dp_tokenizer_is_stop(const dp_tokenizer *t, dp_token token);
dp_token_kind dp_tokenizer_kind(const dp_tokenizer *t, dp_token token);
/* The token's bytes as they come out of decoding (control tokens: their name).
 * Borrowed from the tokenizer. Out of range: an empty view. */
dp_str dp_tokenizer_text(const dp_tokenizer *t, dp_token token);
dp_token dp_tokenizer_find(const dp_tokenizer *t, dp_str name); /* by stored name; DP_TOKEN_NONE */

typedef struct dp_token_list { /* owned; dp_token_list_deinit */
    dp_token *ids;
    size_t count, capacity;
} dp_token_list;

void dp_token_list_deinit(dp_token_list *list);
dp_status dp_token_list_add(dp_token_list *list, dp_token id);

/* flags: DP_ENCODE_SPECIAL (user-defined tokens are found without it too), DP_ENCODE_ADD_BOS. */

#define DP_ENCODE_SIZE_MAX                                                                         \
    ((size_t)1 << 30) /* bytes of text a call; symbols are counted in 32 bits */

/* Appends the tokens of `text` to list; on failure list is as it was. A byte that no
 * token can write becomes the unknown token, or nothing where there is none.
 * DP_E_NOMEM, DP_E_LIMIT. */
dp_status dp_tokenizer_encode(const dp_tokenizer *t, dp_str text, uint32_t flags,
                              dp_token_list *list, dp_error *err);

/* The same for text that is only partly trusted: names of control tokens become those
 * tokens where a single trusted run holds them, and stay text elsewhere; DP_ENCODE_SPECIAL
 * is not looked at. The runs cover the text. */
dp_status dp_tokenizer_encode_runs(const dp_tokenizer *t, dp_str text, const dp_runs *runs,
                                   uint32_t flags, dp_token_list *list, dp_error *err);

/* Turns tokens into text piece by piece and never splits a UTF-8 character: what
 * is not complete yet is held back; what can never become valid comes out as it is. */
typedef struct dp_decoder {
    const dp_tokenizer *tokenizer;
    bool shows_special; /* print names of control tokens; otherwise they are silent */
    bool is_first;      /* SPM: the first leading space belongs to the encoding and is dropped;
                           clear it when the tokens continue a text */
    uint8_t held[8];
    uint32_t held_count;
} dp_decoder;

void dp_decoder_init(dp_decoder *d, const dp_tokenizer *t, bool shows_special);
/* Appends what became printable to out. */
dp_status dp_decoder_push(dp_decoder *d, dp_token token, dp_buf *out);
/* The end: whatever is held comes out. */
dp_status dp_decoder_finish(dp_decoder *d, dp_buf *out);

#endif
