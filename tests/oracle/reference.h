/* reference.h - what an independent program computed for a model, read from tests/oracle.
 *
 * A set is one JSON file: prompts of token ids and, for each, the logits (raw
 * little-endian f32 rows, for the positions from `first` on, or none), the best
 * token after every position, the mean loss and the tokens that follow when the best is
 * always taken. tests/oracle/README.md tells where the numbers come from.
 */
#ifndef DP_TESTS_ORACLE_REFERENCE_H
#define DP_TESTS_ORACLE_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>
#include "doppler/vocab.h"

#define REFERENCE_PROMPTS_MAX 8
#define REFERENCE_TEXTS_MAX   64

typedef struct reference_ids {
    dp_token *ids;
    uint32_t count;
} reference_ids;

typedef struct reference_prompt {
    reference_ids tokens;
    reference_ids argmax; /* [tokens.count] */
    reference_ids greedy; /* the tokens after the prompt */
    double nll;           /* mean over tokens 1.., nats */
    float *logits;        /* [tokens.count - first][vocab], or NULL */
    uint32_t first;
} reference_prompt;

typedef struct reference {
    uint32_t vocab;
    uint32_t prompt_count;
    reference_prompt prompts[REFERENCE_PROMPTS_MAX];
} reference;

/* The set at path; logits files stand beside it. On failure prints why and
 * returns false. Owned: reference_close. */
bool reference_open(reference *out, const char *path);
void reference_close(reference *r);

typedef struct reference_text {
    char *text;
    size_t size;
    reference_ids ids;
} reference_text;

typedef struct reference_texts {
    uint32_t count;
    reference_text rows[REFERENCE_TEXTS_MAX];
} reference_texts;

/* Strings and their token ids, begin-of-sequence included. */
bool reference_texts_open(reference_texts *out, const char *path);
void reference_texts_close(reference_texts *t);

#endif
