#include "engine/engine.h"

#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"

/* ---- lifetime ---- */

static uint64_t logits_bytes(const dp_engine *engine)
{
    return (uint64_t)dp_engine_vocab_size(engine) * sizeof(float);
}

static uint64_t logits_rows_bytes(const dp_engine *engine)
{
    return (1 + engine->plan.draft_tokens) * logits_bytes(engine);
}

static const float *logits_now(const dp_session *s)
{
    return s->logits + (size_t)s->row * dp_engine_vocab_size(s->engine);
}

dp_status dp_session_open(dp_session **out, dp_engine *engine, const dp_options *options,
                          dp_error *err)
{
    uint32_t context = engine->plan.context_tokens;
    dp_session *s;
    dp_status st;

    *out = NULL;
    if (engine->session_count == engine->plan.session_max)
        return dp_fail(err, DP_E_BUDGET, "room for %u session%s only (--sessions)",
                       engine->plan.session_max, engine->plan.session_max == 1 ? "" : "s");
    s = dp_alloc_zero(1, sizeof *s);
    if (!s)
        return dp_fail(err, DP_E_NOMEM, "session: no memory");
    s->engine = engine;
    engine->session_count++;
    s->wanted = UINT32_MAX;
    s->tokens = dp_alloc(context, sizeof *s->tokens);
    s->logits = dp_map_acquire(logits_rows_bytes(engine));
    if (!s->tokens || !s->logits) {
        st = dp_fail(err, DP_E_NOMEM, "session: %u tokens", context);
        goto done;
    }
    if (engine->plan.draft_tokens && !dp_draft_init(&s->draft, context)) {
        st = dp_fail(err, DP_E_NOMEM, "session: drafts of %u tokens", context);
        goto done;
    }
    st = dp_kv_seq_init(&s->seq, engine->kv, context, err);
    if (st)
        goto done;
    st = dp_sampler_init(&s->sampler, options, dp_engine_vocab_size(engine),
                         dp_clock_now_ns(&dp_clock_real), err);
    if (st)
        goto done;

    *out = s;
    s = NULL;
done:
    dp_session_close(s);
    return st;
}

void dp_session_close(dp_session *session)
{
    if (!session)
        return;
    dp_session_set_adapters(session, NULL, 0, NULL);
    dp_kv_seq_deinit(&session->seq);
    dp_sampler_deinit(&session->sampler);
    dp_map_release(session->logits, logits_rows_bytes(session->engine));
    dp_draft_deinit(&session->draft);
    dp_free(session->tokens);
    session->engine->session_count--;
    dp_free(session);
}

/* ---- the timeline ---- */

uint32_t dp_session_count(const dp_session *session)
{
    return session->count;
}

uint32_t dp_session_pending(const dp_session *session)
{
    return session->count - session->evaluated;
}

const dp_token *dp_session_tokens(const dp_session *session)
{
    return session->tokens;
}

static dp_status check_tokens(const dp_session *s, const dp_token *tokens, size_t count,
                              uint32_t kept, dp_error *err)
{
    uint32_t room = s->engine->plan.context_tokens - kept;
    uint32_t vocab = dp_engine_vocab_size(s->engine);

    if (count > room)
        return dp_fail(err, DP_E_LIMIT,
                       "%zu tokens do not fit: %u of a context of %u are left (--ctx)", count, room,
                       s->engine->plan.context_tokens);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= vocab)
            return dp_fail(err, DP_E_INVALID, "token %zu is %d, the vocabulary has 0 to %u", i,
                           tokens[i], vocab - 1);
    return DP_OK;
}

void dp_session_drop_guesses(dp_session *s)
{
    if (s->guessed)
        dp_kv_seq_cut(&s->seq, s->evaluated);
    s->guessed = 0;
}

/* Tokens that were guessed stand already, and the logits after them. Returns how many. */
static uint32_t accept(dp_session *s, const dp_token *tokens, size_t count)
{
    dp_engine *e = s->engine;
    uint32_t same = 0;

    while (same < count && same < s->guessed && tokens[same] == s->tokens[s->count + same])
        same++;
    s->count += same;
    s->evaluated += same;
    s->row += same;
    s->guessed -= same;
    if (same) {
        dp_mutex_lock(&e->stats_lock);
        e->run.decode_tokens += same;
        e->run.draft_accepted += same;
        dp_mutex_unlock(&e->stats_lock);
    }
    return same;
}

dp_status dp_session_append(dp_session *session, const dp_token *tokens, size_t count,
                            dp_error *err)
{
    dp_status st = check_tokens(session, tokens, count, session->count, err);
    uint32_t same;

    if (st || count == 0)
        return st;
    same = accept(session, tokens, count);
    tokens += same;
    count -= same;
    if (count) {
        dp_session_drop_guesses(session);
        if (session->asked_ns == 0 && (count > 1 || session->evaluated == 0))
            session->asked_ns = dp_clock_now_ns(&dp_clock_real);
        memcpy(session->tokens + session->count, tokens, count * sizeof *tokens);
        session->count += (uint32_t)count;
        session->has_logits = false;
    }
    if (session->engine->plan.draft_tokens)
        dp_draft_extend(&session->draft, session->tokens, session->count);
    return DP_OK;
}

/* Keeps the first `count` tokens, and what was evaluated of the first `evaluated`. */
static void cut(dp_session *s, uint32_t count, uint32_t evaluated)
{
    s->count = count;
    s->evaluated = DP_MIN(s->evaluated, evaluated);
    s->has_logits = false;
    s->guessed = 0;
    dp_kv_seq_cut(&s->seq, s->evaluated);
    dp_draft_cut(&s->draft, s->tokens, count);
}

void dp_session_rewind(dp_session *session, uint32_t count)
{
    /* The last token left is evaluated again: its logits are wanted. */
    if (count < session->count)
        cut(session, count, count ? count - 1 : 0);
}

dp_status dp_session_sync(dp_session *session, const dp_token *tokens, size_t count, dp_error *err)
{
    dp_status st = check_tokens(session, tokens, count, 0, err);
    uint32_t same = 0;

    if (st)
        return st;
    while (same < count && same < session->count && tokens[same] == session->tokens[same])
        same++;
    if (same == count)
        dp_session_rewind(session, same);
    else
        cut(session, same, same);
    return dp_session_append(session, tokens + same, count - same, err);
}

/* ---- stepping ---- */

void dp_session_set_logits_sink(dp_session *session, dp_logits_sink sink, void *user)
{
    dp_session_drop_guesses(session); /* the sink is told of every token, in order */
    session->sink = sink;
    session->sink_user = user;
}

const float *dp_session_logits(const dp_session *session)
{
    return session->has_logits && session->evaluated == session->count ? logits_now(session) : NULL;
}

/* What the running step has of a session: tokens of its timeline, then guesses. */
struct share {
    uint32_t taken, guessed;
};

struct step_job {
    dp_engine *engine;
    dp_session *const *sessions;
    size_t session_count;
    struct share *shares; /* [session_count] in order of the batch */
};

static bool on_logits(void *user, uint32_t index, const float *logits)
{
    const struct step_job *job = user;
    uint64_t bytes = logits_bytes(job->engine);
    dp_session *s = NULL;
    uint32_t position;

    for (size_t i = 0, first = 0; !s; i++) {
        first += job->shares[i].taken + job->shares[i].guessed;
        if (index < first)
            s = job->sessions[i];
    }
    position = job->engine->batch[index].position;
    if (position + 1 >= s->count) {
        memcpy((char *)s->logits + (position + 1 - s->count) * bytes, logits, bytes);
        s->row = 0;
        s->has_logits = true;
    }
    return !s->sink || s->sink(s->sink_user, position, logits);
}

/* How many tokens of each session the step takes. Sessions with one token left go
 * before long prompts, so that decoding does not wait for them; but a prompt that
 * got nothing goes first in the next step, and each step begins with another
 * session: with any batch, all advance. */
static void share_room(const struct step_job *job)
{
    dp_engine *e = job->engine;
    uint32_t room = e->plan.step.batch_tokens;
    bool decoding_first = !e->prompt_waits;

    e->turn++;
    e->prompt_waits = false;
    memset(job->shares, 0, job->session_count * sizeof *job->shares);
    for (int pass = 0; pass < 2; pass++)
        for (size_t n = 0; n < job->session_count; n++) {
            size_t i = (e->turn + n) % job->session_count;
            uint32_t pending = dp_session_pending(job->sessions[i]);
            if (pending == 0 || (pending == 1) != (decoding_first == (pass == 0)))
                continue;
            job->shares[i].taken = DP_MIN(pending, room);
            room -= job->shares[i].taken;
            e->prompt_waits = e->prompt_waits || (pending > 1 && job->shares[i].taken == 0);
        }
}

static bool is_prompt(const dp_session *s, uint32_t taken)
{
    return taken > 1 || (taken && s->asked_ns);
}

/* Adds guesses to a step that decodes; the context and who generates set an end to them. */
static void share_guesses(const struct step_job *job)
{
    dp_engine *e = job->engine;
    uint32_t rows = 0;
    double tokens = 0;

    for (size_t i = 0; i < job->session_count; i++) {
        rows += job->shares[i].taken;
        if (is_prompt(job->sessions[i], job->shares[i].taken))
            return;
    }
    tokens = rows;
    for (size_t i = 0; i < job->session_count && e->plan.draft_tokens; i++) {
        const dp_session *s = job->sessions[i];
        uint32_t most = DP_MIN(e->plan.draft_tokens, e->plan.step.batch_tokens - rows);

        most = DP_MIN(most, DP_MIN(s->wanted, e->plan.context_tokens - s->count));
        if (!job->shares[i].taken || s->sink || !s->draft.source)
            continue;
        job->shares[i].guessed =
            e->always_drafts ? most
                             : dp_speculate_choose(&e->speculate, &s->draft, rows, tokens, most);
        rows += job->shares[i].guessed;
        tokens += dp_draft_expect(&s->draft, job->shares[i].guessed);
    }
}

/* Fills the batch and makes room for its keys and values. */
static uint32_t gather(const struct step_job *job, dp_error *err, dp_status *st)
{
    dp_engine *e = job->engine;
    uint32_t count = 0;

    share_room(job);
    share_guesses(job);
    for (size_t i = 0; i < job->session_count && !*st; i++) {
        dp_session *s = job->sessions[i];
        uint32_t rows = job->shares[i].taken + job->shares[i].guessed;
        if (job->shares[i].guessed)
            dp_draft_copy(&s->draft, s->tokens, job->shares[i].guessed);
        *st = dp_kv_seq_reserve(&s->seq, s->evaluated + rows, err);
        for (uint32_t t = 0; t < rows && !*st; t++, count++) {
            uint32_t position = s->evaluated + t;
            e->batch[count] = (dp_batch_token){ .id = s->tokens[position],
                                                .position = position,
                                                .seq = &s->seq,
                                                .wants_logits = s->sink || position + 1 >= s->count,
                                                .adapters = s->set.count ? &s->set : NULL };
        }
    }
    return count;
}

/* A step that takes more than one token of any session counts as prompt. */
static void account(const struct step_job *job, uint32_t rows, uint64_t begin_ns)
{
    uint64_t now = dp_clock_now_ns(&dp_clock_real);
    dp_engine *e = job->engine;
    bool has_prompt = false;
    uint32_t guessed = 0;

    dp_mutex_lock(&e->stats_lock);
    for (size_t i = 0; i < job->session_count; i++) {
        dp_session *s = job->sessions[i];
        has_prompt = has_prompt || is_prompt(s, job->shares[i].taken);
        s->evaluated += job->shares[i].taken;
        guessed += job->shares[i].guessed;
        if (job->shares[i].taken)
            s->guessed = job->shares[i].guessed;
        if (s->asked_ns && s->evaluated == s->count) {
            e->run.ttft_ns = now - s->asked_ns;
            s->asked_ns = 0;
        }
    }
    *(has_prompt ? &e->run.prompt_tokens : &e->run.decode_tokens) += rows - guessed;
    *(has_prompt ? &e->run.prompt_ns : &e->run.decode_ns) += now - begin_ns;
    e->run.draft_tokens += guessed;
    e->run.draft_steps += guessed > 0;
    dp_mutex_unlock(&e->stats_lock);
    if (!has_prompt)
        dp_speculate_record(&e->speculate, rows, guessed > 0, now - begin_ns);
}

static bool starts_text(const struct step_job *job)
{
    for (size_t i = 0; i < job->session_count; i++)
        if (job->shares[i].taken && job->sessions[i]->evaluated == 0)
            return true;
    return false;
}

#define SESSIONS_MAX 1024 /* as the table of options says */

dp_status dp_engine_step(dp_engine *engine, dp_session *const *sessions, size_t count,
                         dp_error *err)
{
    struct share shares[SESSIONS_MAX];
    struct step_job job = { engine, sessions, count, shares };
    uint64_t begin_ns = dp_clock_now_ns(&dp_clock_real);
    dp_status st = DP_OK;
    uint32_t rows;

    if (count > engine->session_count)
        return dp_fail(err, DP_E_INVALID, "a step of %zu sessions, the engine has %u", count,
                       engine->session_count);
    for (size_t i = 0; i < count; i++) {
        if (sessions[i]->engine != engine)
            return dp_fail(err, DP_E_INVALID, "session %zu of the step is of another engine", i);
        for (size_t j = 0; j < i; j++)
            if (sessions[j] == sessions[i])
                return dp_fail(err, DP_E_INVALID, "sessions %zu and %zu of the step are the same",
                               j, i);
    }
    rows = gather(&job, err, &st);
    if (!st && rows) {
        dp_resize_begin_step(engine);
        dp_watch_step(engine->watch, rows, starts_text(&job));
        st = dp_step_run(engine->step, engine->batch, rows, on_logits, &job, err);
        dp_resize_end_step(engine);
    }
    if (st == DP_E_CANCELED)
        atomic_store_explicit(&engine->cancel, false, memory_order_relaxed);
    if (!st && rows)
        account(&job, rows, begin_ns);
    return st;
}

dp_status dp_session_eval(dp_session *session, dp_error *err)
{
    dp_status st = DP_OK;

    while (!st && dp_session_pending(session))
        st = dp_engine_step(session->engine, &session, 1, err);
    return st;
}

dp_status dp_session_sample(dp_session *session, dp_token *out, dp_error *err)
{
    *out = -1;
    if (!dp_session_logits(session))
        return dp_fail(err, DP_E_INVALID, "nothing was evaluated to sample from");
    return dp_sampler_choose(&session->sampler, logits_now(session), session->tokens,
                             session->count, out, err);
}
