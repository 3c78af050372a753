/* play.h - tokens through a model, the logits of every position kept.
 *
 * A small layer over libdoppler's public calls for tests that compare logits.
 * Each call that fails ends the cmocka test with the library's own sentence.
 */
#ifndef DP_TESTS_ORACLE_PLAY_H
#define DP_TESTS_ORACLE_PLAY_H

#include "doppler/doppler.h"

#define PLAY_SETTINGS_MAX 8

typedef struct play_setting {
    const char *name, *value;
} play_setting;

typedef struct play_recorder {
    float *logits; /* [capacity][vocab]; rows are written at their position */
    uint32_t vocab, capacity;
    uint32_t count; /* rows so far; positions must come in order */
} play_recorder;

/* Options with settings up to the first without a name. Owned: dp_options_close. */
dp_options *play_options(const play_setting settings[PLAY_SETTINGS_MAX]);
dp_engine *play_open(const char *path, const dp_options *options);

void play_recorder_init(play_recorder *r, uint32_t vocab, uint32_t capacity);
void play_recorder_deinit(play_recorder *r);

/* A session whose logits are recorded. Owned: dp_session_close. */
dp_session *play_session(dp_engine *engine, play_recorder *recorder);
/* Appends tokens and evaluates them. */
void play_tokens(dp_session *session, const dp_token *tokens, uint32_t count);

uint32_t play_argmax(const float *logits, uint32_t count);

#endif
