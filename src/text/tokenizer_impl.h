/* tokenizer_impl.h - what tokenizer.c shares with the two families. Private to the room.
 *
 * Invariants
 *   (1) by_text holds what plain text may become: no control or unknown token,
 *       and no byte token of SPM, so that text cannot forge them.
 *   (2) texts are decoded once, at open: raw bytes, as they are printed.
 */
#ifndef DP_TEXT_TOKENIZER_IMPL_H
#define DP_TEXT_TOKENIZER_IMPL_H

#include "base/map.h"
#include "text/pretokenizer.h"
#include "text/specials.h"
#include "text/token_merge.h"

#define DP_TOKEN_IS_STOP 0x80 /* beside the kind */

typedef struct dp_family {
    const char *model; /* tokenizer.ggml.model */
    bool is_spm;

    /* Writes the bytes that a stored name of an ordinary token stands for to out
     * [name.size] and returns how many. */
    size_t (*decode)(dp_str name, char *out);
    /* The family's own tables; the shared ones are ready. */
    dp_status (*open)(dp_tokenizer *t, const dp_vocab_tables *tables, dp_error *err);
    void (*close)(dp_tokenizer *t);
    /* Appends the tokens of text without special tokens; nothing but special tokens
     * stands right before it. DP_E_NOMEM. */
    dp_status (*encode)(const dp_tokenizer *t, dp_str text, dp_merge_scratch *scratch,
                        dp_token_list *list);
} dp_family;

extern const dp_family dp_family_bpe, dp_family_spm;

struct dp_tokenizer {
    const dp_family *family;
    uint32_t count;
    dp_str *texts;  /* [count] (2) */
    uint8_t *kinds; /* [count] dp_token_kind, DP_TOKEN_IS_STOP */
    char *bytes;    /* what texts and names point into */
    size_t text_size_max;
    dp_map_str by_text; /* (1) */
    dp_map_str by_name; /* stored names that are not decoded */
    dp_specials specials;
    dp_token bos, eos, eot, unknown;
    bool adds_bos, adds_eos, adds_space_prefix;
    dp_token byte_tokens[256]; /* DP_TOKEN_NONE: that byte cannot be written */

    /* BPE */
    const dp_pretokenizer *pre;
    dp_map_u64 merges; /* left << 32 | right -> rank */
    dp_token *merged;  /* [rank] */

    /* SPM */
    uint32_t *ranks;      /* [count] 0 for the best score */
    bool has_inner_space; /* a token has a space behind something else */
};

/* Control tokens and the unknown one: not text. */
bool dp_tokenizer_is_control(const dp_tokenizer *t, dp_token token);
/* `byte` as a token of its own, else the unknown token, else nothing. */
dp_status dp_tokenizer_add_byte(const dp_tokenizer *t, char byte, dp_token_list *list);

#endif
