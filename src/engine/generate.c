/* Generation: sample, decode to text, watch for stop strings, evaluate, again. */
#include <string.h>

#include "base/status.h"
#include "base/str.h"
#include "engine/engine.h"
#include "engine/vocab.h"

/* Text that may still turn out to begin a stop string is held back: at most the
 * longest stop and one token's text. */
#define HELD_MAX ((size_t)1 << 20)

struct generation {
    dp_session *session;
    const dp_generate *how;
    dp_decoder decoder;
    dp_buf held;
    bool is_canceled; /* on_text said so */
    bool met_stop;
};

/* Where the first stop string begins in the held text, or its size. */
static size_t find_stop(const struct generation *g)
{
    size_t first = g->held.size;

    for (size_t i = 0; i < g->how->stop_count; i++) {
        size_t size = strlen(g->how->stops[i]);
        for (size_t at = 0; size > 0 && at + size <= g->held.size && at < first; at++)
            if (memcmp(g->held.bytes + at, g->how->stops[i], size) == 0)
                first = at;
    }
    return first;
}

/* How many bytes at the end of the held text may be the beginning of a stop. */
static size_t unsure_size(const struct generation *g)
{
    size_t unsure = 0;

    for (size_t i = 0; i < g->how->stop_count; i++) {
        size_t n = DP_MIN(strlen(g->how->stops[i]), g->held.size + 1);
        while (n > unsure + 1) {
            n--; /* a proper beginning */
            if (memcmp(g->held.bytes + g->held.size - n, g->how->stops[i], n) == 0)
                unsure = n;
        }
    }
    return unsure;
}

static void emit(struct generation *g, size_t size)
{
    if (size == 0)
        return;
    if (g->how->on_text && !g->how->on_text(g->how->user, g->held.bytes, size))
        g->is_canceled = true;
    memmove(g->held.bytes, g->held.bytes + size, g->held.size - size);
    g->held.size -= size;
}

/* Emits what cannot be part of a stop string; at the end, everything. */
static void flush(struct generation *g, bool is_end)
{
    size_t stop;

    if (g->held.size == 0)
        return;
    stop = find_stop(g);
    if (stop < g->held.size) {
        emit(g, stop);
        g->met_stop = true;
        dp_buf_reset(&g->held);
        return;
    }
    emit(g, g->held.size - (is_end ? 0 : unsure_size(g)));
}

/* Everything before the token goes out before it. */
static dp_status take_control(struct generation *g, dp_token token)
{
    dp_status st;

    if (!g->how->on_control || dp_tokenizer_kind(g->decoder.tokenizer, token) != DP_TOKEN_CONTROL)
        return DP_OK;
    st = dp_decoder_finish(&g->decoder, &g->held);
    if (st)
        return st;
    flush(g, true);
    if (!g->met_stop && !g->is_canceled && !g->how->on_control(g->how->user, token))
        g->is_canceled = true;
    return DP_OK;
}

static dp_status check_request(const dp_session *s, const dp_generate *how, dp_error *err)
{
    if (!s->engine->vocab)
        return dp_fail(err, DP_E_UNSUPPORTED, "the model has no vocabulary to write text with: %s",
                       dp_engine_vocab_problem(s->engine));
    if (s->count == 0)
        return dp_fail(err, DP_E_INVALID, "there is no prompt: at least one token is needed");
    if (how->stop_count > DP_STOPS_MAX)
        return dp_fail(err, DP_E_LIMIT, "%zu stop strings, at most %d", how->stop_count,
                       DP_STOPS_MAX);
    for (size_t i = 0; i < how->stop_count; i++)
        if (strlen(how->stops[i]) > DP_STOP_BYTES_MAX)
            return dp_fail(err, DP_E_LIMIT, "stop string %zu is longer than %d bytes", i,
                           DP_STOP_BYTES_MAX);
    return DP_OK;
}

/* Evaluates the token that was appended, and perhaps guesses behind it. One that was
 * guessed right takes no step, but meets a cancel as if it did. */
static dp_status evaluate(struct generation *g, uint32_t left, dp_error *err)
{
    dp_session *s = g->session;

    s->wanted = left ? left - 1 : UINT32_MAX; /* the last one need not be evaluated */
    if (dp_session_pending(s) == 0 &&
        atomic_exchange_explicit(&s->engine->cancel, false, memory_order_relaxed))
        return dp_fail(err, DP_E_CANCELED, "canceled");
    return dp_session_eval(s, err);
}

/* One token: sampled, written, evaluated. *finish is set when is_done. */
static dp_status advance(struct generation *g, uint32_t made, dp_finish *finish, bool *is_done,
                         dp_error *err)
{
    dp_session *s = g->session;
    dp_token token;
    dp_status st;

    *is_done = true;
    *finish = DP_FINISH_LENGTH;
    if (s->count == s->engine->plan.context_tokens)
        return DP_OK; /* the text ends where the timeline does */
    st = dp_session_sample(s, &token, err);
    if (st)
        return st;
    st = take_control(g, token);
    *finish = g->met_stop      ? DP_FINISH_STOP_TEXT
              : g->is_canceled ? DP_FINISH_CANCELED
                               : DP_FINISH_STOP_TOKEN;
    if (!st && !g->how->ignores_stop_tokens && dp_vocab_is_stop(s->engine->vocab, token))
        return DP_OK;
    if (!st && !g->met_stop)
        st = dp_decoder_push(&g->decoder, token, &g->held);
    if (st)
        return dp_fail(err, st, "generation: no memory for text");
    flush(g, false);
    *finish = g->met_stop ? DP_FINISH_STOP_TEXT : DP_FINISH_CANCELED;
    if (g->met_stop)
        return DP_OK;
    st = dp_session_append(s, &token, 1, err);
    if (st || g->is_canceled)
        return st;
    *finish = DP_FINISH_LENGTH;
    if (g->how->max_tokens && made + 1 >= g->how->max_tokens)
        return DP_OK; /* the last token need not be evaluated */
    *is_done = false;
    return evaluate(g, g->how->max_tokens ? g->how->max_tokens - made - 1 : 0, err);
}

dp_status dp_session_generate(dp_session *session, const dp_generate *how, dp_finish *finish,
                              dp_error *err)
{
    struct generation g = { .session = session, .how = how };
    bool is_done = false;
    dp_status st = check_request(session, how, err);

    if (st)
        return st;
    dp_buf_init(&g.held, HELD_MAX);
    dp_decoder_init(&g.decoder, session->engine->vocab->tokenizer, how->shows_special);
    g.decoder.is_first = false; /* the text goes on after a prompt */
    /* Logits are needed even when the whole timeline stands already. */
    if (dp_session_pending(session) == 0 && !session->has_logits)
        session->evaluated--;
    session->wanted = how->max_tokens ? how->max_tokens - 1 : UINT32_MAX;
    st = dp_session_eval(session, err);
    for (uint32_t made = 0; !st && !is_done; made++)
        st = advance(&g, made, finish, &is_done, err);
    if (st == DP_E_CANCELED) {
        *finish = DP_FINISH_CANCELED;
        st = DP_OK;
    }
    if (!st && !g.met_stop && !g.is_canceled) {
        st = dp_decoder_finish(&g.decoder, &g.held);
        flush(&g, true);
        if (g.met_stop)
            *finish = DP_FINISH_STOP_TEXT;
    }
    /* A cancel that reached on_text first is met: it must not end the next call. */
    if (!st && *finish == DP_FINISH_CANCELED)
        atomic_store_explicit(&session->engine->cancel, false, memory_order_relaxed);
    session->wanted = UINT32_MAX;
    dp_buf_deinit(&g.held);
    return st;
}
