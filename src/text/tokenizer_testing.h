/* tokenizer_testing.h - two small vocabularies made by hand, for tests and fuzzing. */
#ifndef DP_TEXT_TOKENIZER_TESTING_H
#define DP_TEXT_TOKENIZER_TESTING_H

#include <stdio.h>
#include <string.h>

#include "text/tokenizer.h"
#include "base/utf8.h"

enum { TEST_VOCAB_TOKENS = 512, TEST_VOCAB_TEXT = 8192 };

typedef struct test_vocab {
    dp_vocab_tables tables;
    dp_str tokens[TEST_VOCAB_TOKENS], merges[TEST_VOCAB_TOKENS];
    int32_t kinds[TEST_VOCAB_TOKENS];
    float scores[TEST_VOCAB_TOKENS];
    char text[TEST_VOCAB_TEXT]; /* names that are made here */
    size_t used;
} test_vocab;

static inline dp_token test_vocab_add(test_vocab *v, dp_str name, dp_token_kind kind, float score)
{
    uint32_t i = v->tables.token_count++;

    v->tokens[i] = name;
    v->kinds[i] = kind;
    v->scores[i] = score;
    return (dp_token)i;
}

static inline void test_vocab_begin(test_vocab *v, const char *model)
{
    memset(v, 0, sizeof *v);
    v->tables = (dp_vocab_tables){
        .model = dp_str_from(model),
        .tokens = v->tokens,
        .kinds = v->kinds,
        .scores = v->scores,
        .merges = v->merges,
        .bos = DP_TOKEN_NONE,
        .eos = DP_TOKEN_NONE,
        .eot = DP_TOKEN_NONE,
        .unknown = DP_TOKEN_NONE,
        .add_bos = -1,
        .add_eos = -1,
        .add_space_prefix = -1,
    };
}

/* A merge, and the token it makes. */
static inline dp_token test_vocab_merge(test_vocab *v, const char *left, const char *right)
{
    size_t left_size = strlen(left), right_size = strlen(right);
    char *text = v->text + v->used;

    v->used += (size_t)sprintf(text, "%s %s", left, right);
    v->merges[v->tables.merge_count++] = (dp_str){ text, left_size + 1 + right_size };
    text = v->text + v->used;
    v->used += (size_t)sprintf(text, "%s%s", left, right);
    return test_vocab_add(v, (dp_str){ text, left_size + right_size }, DP_TOKEN_NORMAL, 0);
}

/* Ids 0-255 are the bytes, in order; then merges, then special tokens. */
static inline void test_vocab_bpe(test_vocab *v, const char *pre)
{
    static const char *const merges[][2] = {
        { "l", "l" },           { "h", "e" },           { "he", "ll" },
        { "hell", "o" },        { "\u0120", "w" }, /* 256-260 */
        { "o", "r" },           { "\u0120w", "or" },    { "l", "d" },
        { "\u0120", "\u0120" }, { "a", "a" }, /* 261-265 */
        { "aa", "aa" },         { "aa", "a" },          { "1", "2" },
        { "\u00C3", "\u00A9" }, { "\u010A", "\u010A" }, /* 266-270 */
    };
    uint32_t others = 0x100;

    test_vocab_begin(v, "gpt2");
    v->tables.pre = dp_str_from(pre);
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool is_printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
        char *text = v->text + v->used;
        size_t size = dp_utf8_encode(is_printable ? byte : others++, text);

        test_vocab_add(v, (dp_str){ text, size }, DP_TOKEN_NORMAL, 0);
        v->used += size;
    }
    for (size_t i = 0; i < DP_ARRAY_LEN(merges); i++)
        test_vocab_merge(v, merges[i][0], merges[i][1]);
    v->tables.bos = test_vocab_add(v, dp_str_from("<|begin|>"), DP_TOKEN_CONTROL, 0);  /* 271 */
    v->tables.eos = test_vocab_add(v, dp_str_from("<|im_end|>"), DP_TOKEN_CONTROL, 0); /* 272 */
    test_vocab_add(v, dp_str_from("<|im_start|>"), DP_TOKEN_CONTROL, 0);               /* 273 */
    test_vocab_add(v, dp_str_from("<|im|>"), DP_TOKEN_USER_DEFINED, 0);                /* 274 */
    test_vocab_add(v, dp_str_from("<|im|>!"), DP_TOKEN_CONTROL, 0);                    /* 275 */
    test_vocab_add(v, dp_str_from("hello\u0120world"), DP_TOKEN_NORMAL, 0);            /* 276 */
    test_vocab_add(v, dp_str_from("ab"), DP_TOKEN_NORMAL, 0); /* 277: no merge makes it */
}

/* Ids 0-2 are <unk> <s> </s>, 3-258 the bytes; then pieces with scores. */
static inline void test_vocab_spm(test_vocab *v)
{
    static const struct {
        const char *piece;
        float score;
    } pieces[] = {
        { "\u2581", -1 },  { "h", -9 },           { "e", -9 },
        { "l", -9 },       { "o", -9 }, /* 259-263 */
        { "he", -2 },      { "ll", -3 },          { "hell", -5 },
        { "hello", -6 },   { "\u2581hello", -7 }, /* 264-268 */
        { "\u2581h", -8 }, { "lo", -4 },          { "\u2581\u2581", -1 },
        { "a", -9 },       { "aa", -1 },                             /* 269-273 */
        { "aaa", -1 },     { "\u00E9", -9 },      { "e\u00E9", -3 }, /* 274-276 */
    };

    test_vocab_begin(v, "llama");
    v->tables.unknown = test_vocab_add(v, dp_str_from("<unk>"), DP_TOKEN_UNKNOWN, 0);
    v->tables.bos = test_vocab_add(v, dp_str_from("<s>"), DP_TOKEN_CONTROL, 0);
    v->tables.eos = test_vocab_add(v, dp_str_from("</s>"), DP_TOKEN_CONTROL, 0);
    for (uint32_t byte = 0; byte < 256; byte++) {
        char *text = v->text + v->used;

        v->used += (size_t)sprintf(text, "<0x%02X>", byte);
        test_vocab_add(v, (dp_str){ text, 6 }, DP_TOKEN_BYTE, 0);
    }
    for (size_t i = 0; i < DP_ARRAY_LEN(pieces); i++)
        test_vocab_add(v, dp_str_from(pieces[i].piece), DP_TOKEN_NORMAL, pieces[i].score);
    test_vocab_add(v, dp_str_from("<mark>"), DP_TOKEN_USER_DEFINED, 0); /* 277 */
}

#endif
