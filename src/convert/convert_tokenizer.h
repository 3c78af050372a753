/* convert_tokenizer.h - tokenizer.json and its companions -> the tokenizer.ggml keys.
 *
 * Room     Two families, as docs/formats/tokenizers.md has them: byte-level BPE, and
 *          SentencePiece BPE, which tokenizer.json writes as BPE with byte_fallback.
 *          For the second, merges are turned back into the scores they came from.
 *
 * Beside   tokenizer_config.json (names of special tokens, chat template),
 *          generation_config.json and config.json (numbers of special tokens),
 *          chat_template.jinja. All but tokenizer.json may be missing.
 *
 * Threads  One at a time.
 */
#ifndef DP_CONVERT_CONVERT_TOKENIZER_H
#define DP_CONVERT_CONVERT_TOKENIZER_H

#include "convert/convert_doc.h"
#include "format/gguf_out.h"

#define DP_HF_MERGES_MAX (1u << 24)

typedef struct dp_hf_token {
    uint32_t at, size; /* in text */
    uint8_t kind;      /* GGUF's token type; 0: no such token */
    bool is_added;     /* listed in added_tokens */
} dp_hf_token;

typedef struct dp_hf_vocab {
    dp_hf_token *tokens; /* [count] */
    uint32_t count;
    dp_buf text;
    bool is_spm;
    const char *pre; /* byte-level BPE */
    float *scores;   /* SPM, [count] */
    uint32_t merge_count;
} dp_hf_vocab;

/* The documents of a directory that say something of tokens. */
typedef struct dp_hf_docs {
    const dp_doc *config;
    dp_doc tokenizer, tokenizer_config, generation_config;
    const char *dir;
} dp_hf_docs;

/* Reads vocabulary, added tokens and (SPM) scores. token_count: rows of the
 * embedding; tokens past those of the files become unused ones. DP_E_UNSUPPORTED:
 * another kind of tokenizer; DP_E_CORRUPT, DP_E_LIMIT, DP_E_NOMEM. */
dp_status dp_hf_vocab_read(dp_hf_vocab *out, const dp_doc *tokenizer, uint32_t token_count,
                           dp_error *err);
void dp_hf_vocab_deinit(dp_hf_vocab *v); /* all zero is fine */
dp_str dp_hf_vocab_text(const dp_hf_vocab *v, uint32_t id);

/* All tokenizer keys. */
dp_status dp_hf_tokenizer_keys(const dp_hf_docs *docs, uint32_t token_count, dp_gguf_out *out,
                               dp_error *err);

/* Of these: which tokens begin and end texts, whether they are added, and the chat
 * template. In convert_special.c. */
dp_status dp_hf_special_keys(const dp_hf_docs *docs, const dp_hf_vocab *v, dp_gguf_out *out,
                             dp_error *err);

#endif
