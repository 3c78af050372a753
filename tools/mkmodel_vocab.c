#include "mkmodel.h"

#include <stdio.h>
#include "base/mem.h"

#define PIECE_SIZE 24
#define BYTE_FIRST 3              /* after <unk>, <s>, </s> */
#define PIECES     259            /* the first piece, after the 256 bytes */
#define SPACE      "\xe2\x96\x81" /* U+2581, which stands for a space */

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, UNUSED = 5, BYTE = 6 }; /* token types of the format */

#define SYLLABLES 120 /* 20 consonants by 6 vowels */

static const char *syllable(char out[3], uint32_t i)
{
    out[0] = "bcdfghjklmnpqrstvwxz"[i / 6];
    out[1] = "aeiouy"[i % 6];
    out[2] = '\0';
    return out;
}

/* Piece i: printable characters, then words of one, two and three syllables,
 * each with and without a leading space. False past the last. */
static bool make_piece(char out[PIECE_SIZE], uint32_t i)
{
    const uint32_t twos = SYLLABLES * SYLLABLES, threes = SYLLABLES * 40 * 24;
    char a[3], b[3], c[3];

    if (i < 94) {
        snprintf(out, PIECE_SIZE, "%c", 33 + (int)i);
        return true;
    }
    i -= 94;
    if (i == 0) {
        snprintf(out, PIECE_SIZE, SPACE);
        return true;
    }
    i -= 1;
    if (i < 2 * SYLLABLES) {
        snprintf(out, PIECE_SIZE, "%s%s", i < SYLLABLES ? "" : SPACE, syllable(a, i % SYLLABLES));
        return true;
    }
    i -= 2 * SYLLABLES;
    if (i < 2 * twos) {
        snprintf(out, PIECE_SIZE, "%s%s%s", i < twos ? SPACE : "",
                 syllable(a, i % twos / SYLLABLES), syllable(b, i % SYLLABLES));
        return true;
    }
    i -= 2 * twos;
    if (i >= 2 * threes)
        return false;
    snprintf(out, PIECE_SIZE, "%s%s%s%s", i < threes ? SPACE : "",
             syllable(a, i % threes / (40 * 24)), syllable(b, i / 24 % 40 * 3),
             syllable(c, i % 24 * 5));
    return true;
}

/* The text, type and score of token i. */
static void make_token(char out[PIECE_SIZE], int32_t *type, float *score, uint32_t i)
{
    static const char *const special[] = { "<unk>", "<s>", "</s>" };

    *score = 0;
    if (i < BYTE_FIRST) {
        *type = i == 0 ? UNKNOWN : CONTROL;
        snprintf(out, PIECE_SIZE, "%s", special[i]);
    } else if (i < PIECES) {
        *type = BYTE;
        snprintf(out, PIECE_SIZE, "<0x%02X>", i - BYTE_FIRST);
    } else if (make_piece(out, i - PIECES)) {
        *type = NORMAL;
        *score = -(float)(i - PIECES);
    } else {
        *type = UNUSED;
        *score = -1e9f;
        snprintf(out, PIECE_SIZE, "<|pad_%u|>", i);
    }
}

bool mkmodel_add_vocab(dp_gguf_writer *w, uint32_t n_vocab)
{
    char(*texts)[PIECE_SIZE] = dp_alloc(n_vocab, sizeof *texts);
    const char **tokens = dp_alloc(n_vocab, sizeof *tokens);
    int32_t *types = dp_alloc(n_vocab, sizeof *types);
    float *scores = dp_alloc(n_vocab, sizeof *scores);
    bool is_ok = texts && tokens && types && scores;

    for (uint32_t i = 0; i < n_vocab && is_ok; i++) {
        make_token(texts[i], &types[i], &scores[i], i);
        tokens[i] = texts[i];
    }
    if (is_ok) {
        dp_gguf_writer_str(w, "tokenizer.ggml.model", "llama");
        dp_gguf_writer_str(w, "tokenizer.ggml.pre", "default");
        dp_gguf_writer_str_array(w, "tokenizer.ggml.tokens", n_vocab, tokens);
        dp_gguf_writer_array(w, "tokenizer.ggml.scores", DP_GGUF_F32, n_vocab, scores);
        dp_gguf_writer_array(w, "tokenizer.ggml.token_type", DP_GGUF_I32, n_vocab, types);
        dp_gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 1);
        dp_gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 2);
        dp_gguf_writer_u32(w, "tokenizer.ggml.unknown_token_id", 0);
        dp_gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", true);
    }
    dp_free(scores);
    dp_free(types);
    dp_free(tokens);
    dp_free(texts);
    return is_ok;
}
