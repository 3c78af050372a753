/* session.h - one mutable timeline of tokens on an engine.
 *
 * States   Tokens are appended, then evaluated; the logits after the last one
 *          choose the next. pending = appended but not evaluated.
 *
 * Drafts   With --speculate a step may also evaluate guesses of what comes next. A
 *          token appended as guessed then stands at once: it is not pending. Logits,
 *          draws and texts are the same with and without.
 *
 * Threads  The engine's (engine.h).
 */
#ifndef DOPPLER_SESSION_H
#define DOPPLER_SESSION_H

#include "doppler/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_session dp_session;

/* options: the sampling group is read here (NULL: defaults). DP_E_BUDGET when
 * the engine has no room for another timeline (--sessions). */
DP_API dp_status dp_session_open(dp_session **out, dp_engine *engine, const dp_options *options,
                                 dp_error *err);
DP_API void dp_session_close(dp_session *session);

DP_API uint32_t dp_session_count(const dp_session *session);   /* tokens on the timeline */
DP_API uint32_t dp_session_pending(const dp_session *session); /* of these, not evaluated yet */
DP_API const dp_token *dp_session_tokens(const dp_session *session);

/* Adds tokens at the end. DP_E_LIMIT past the context, DP_E_INVALID for an id
 * outside the vocabulary. */
DP_API dp_status dp_session_append(dp_session *session, const dp_token *tokens, size_t count,
                                   dp_error *err);
/* Cuts the timeline to its first count tokens; what was evaluated of them stays. */
DP_API void dp_session_rewind(dp_session *session, uint32_t count);
/* Makes the timeline equal tokens [count], keeping the evaluated common prefix. */
DP_API dp_status dp_session_sync(dp_session *session, const dp_token *tokens, size_t count,
                                 dp_error *err);

/* One pass of the model over pending tokens of several sessions together, at
 * most --batch of them in all; call until nothing is pending. */
DP_API dp_status dp_engine_step(dp_engine *engine, dp_session *const *sessions, size_t count,
                                dp_error *err);
/* Steps one session until nothing is pending. */
DP_API dp_status dp_session_eval(dp_session *session, dp_error *err);

/* Logits after the last token [vocab_size], NULL while something is pending.
 * Borrowed until the next step, append or rewind. */
DP_API const float *dp_session_logits(const dp_session *session);

/* Called during steps with the logits after every token, in order of position; such a
 * session makes no drafts. NULL (the default): only the last token's are computed. Return false to cancel. */
typedef bool (*dp_logits_sink)(void *user, uint32_t position, const float *logits);
DP_API void dp_session_set_logits_sink(dp_session *session, dp_logits_sink sink, void *user);

/* Chooses the next token from the logits by the session's sampling options and
 * appends nothing. DP_E_INVALID while something is pending. */
DP_API dp_status dp_session_sample(dp_session *session, dp_token *out, dp_error *err);

typedef enum dp_finish {
    DP_FINISH_STOP_TOKEN, /* the model ended its turn */
    DP_FINISH_STOP_TEXT,  /* a stop string came up (it is not part of the text) */
    DP_FINISH_LENGTH,     /* max_tokens, or the context is full */
    DP_FINISH_CANCELED
} dp_finish;

typedef struct dp_generate {
    uint32_t max_tokens;      /* 0: until the context is full */
    const char *const *stops; /* [stop_count] strings that end the text */
    size_t stop_count;
    bool ignores_stop_tokens; /* goes on past the end of the turn */
    bool shows_special;       /* writes the names of control tokens */
    bool (*on_text)(void *user, const char *text,
                    size_t size); /* whole characters; false cancels */
    /* A control token, in its place between texts, and the one that ends the turn: what a
     * dp_chat_parser is fed. No stop string reaches across it. NULL: they are silent. */
    bool (*on_control)(void *user, dp_token token);
    void *user;
} dp_generate;

#define DP_STOPS_MAX      16
#define DP_STOP_BYTES_MAX 256

/* Evaluates what is pending, then samples and evaluates until a reason to
 * finish comes up; the timeline ends with the last token of the text (a stop token is
 * not appended). On DP_OK *finish is set. */
DP_API dp_status dp_session_generate(dp_session *session, const dp_generate *how, dp_finish *finish,
                                     dp_error *err);

#ifdef __cplusplus
}
#endif
#endif
