#include "play.h"

#include <stdlib.h>
#include "testing/check.h"

dp_options *play_options(const play_setting settings[PLAY_SETTINGS_MAX])
{
    dp_options *options = dp_options_open();
    dp_error err = { 0 };

    CHECK(options, "no memory for options");
    for (int i = 0; i < PLAY_SETTINGS_MAX && settings[i].name; i++)
        CHECK_OK(dp_options_set(options, settings[i].name, settings[i].value, &err), err);
    return options;
}

dp_engine *play_open(const char *path, const dp_options *options)
{
    dp_engine *engine = NULL;
    dp_error err = { 0 };

    CHECK_OK(dp_engine_open(&engine, path, options, NULL, NULL, &err), err);
    return engine;
}

void play_recorder_init(play_recorder *r, uint32_t vocab, uint32_t capacity)
{
    *r = (play_recorder){ .vocab = vocab, .capacity = capacity };
    r->logits = calloc((size_t)capacity * vocab, sizeof *r->logits);
    CHECK(r->logits, "no memory for %u rows of %u logits", capacity, vocab);
}

void play_recorder_deinit(play_recorder *r)
{
    free(r->logits);
    r->logits = NULL;
}

static bool record(void *user, uint32_t position, const float *logits)
{
    play_recorder *r = user;

    CHECK(position == r->count, "position %u came after %u rows", position, r->count);
    CHECK(position < r->capacity, "position %u of %u", position, r->capacity);
    memcpy(r->logits + (size_t)position * r->vocab, logits, r->vocab * sizeof *logits);
    r->count++;
    return true;
}

dp_session *play_session(dp_engine *engine, play_recorder *recorder)
{
    dp_session *session = NULL;
    dp_error err = { 0 };

    CHECK(dp_engine_vocab_size(engine) == recorder->vocab, "%u logits, expected %u",
          dp_engine_vocab_size(engine), recorder->vocab);
    CHECK_OK(dp_session_open(&session, engine, NULL, &err), err);
    dp_session_set_logits_sink(session, record, recorder);
    return session;
}

void play_tokens(dp_session *session, const dp_token *tokens, uint32_t count)
{
    dp_error err = { 0 };

    CHECK_OK(dp_session_append(session, tokens, count, &err), err);
    CHECK_OK(dp_session_eval(session, &err), err);
    CHECK(dp_session_pending(session) == 0, "%u tokens pending after eval",
          dp_session_pending(session));
}

uint32_t play_argmax(const float *logits, uint32_t count)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < count; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}
