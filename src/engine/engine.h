/* engine.h - the root of all lifetimes: device, source, tier, model, vocabulary, sessions.
 *
 * Public face: doppler/engine.h, doppler/session.h. This is what the files of
 * the engine share.
 *
 * Threads  The step thread; `cancel` and the statistics from any.
 */
#ifndef DP_ENGINE_ENGINE_H
#define DP_ENGINE_ENGINE_H

#include <stdatomic.h>

#include "base/thread.h"
#include "doppler/adapter.h"
#include "doppler/session.h"
#include "engine/plan.h"
#include "engine/resize.h"
#include "engine/sample.h"
#include "engine/speculate.h"
#include "engine/watch.h"
#include "tier/budget.h"
#include "tier/source_file.h"

/* Times and counts of steps. */
typedef struct dp_run_stats {
    uint64_t prompt_tokens, prompt_ns, decode_tokens, decode_ns, ttft_ns;
    uint64_t draft_tokens, draft_accepted, draft_steps;
} dp_run_stats;

/* How files are read: the options, with what they leave open filled in. */
typedef struct dp_io_choice {
    dp_io_mode mode;
    dp_aio_engine engine;
    uint32_t depth;
    uint64_t request_bytes;
    bool is_probed; /* a saved probe filled something in */
} dp_io_choice;

struct dp_engine {
    dp_model *model;
    dp_vocab *vocab;        /* NULL: none that can be used */
    dp_error vocab_problem; /* why not */
    dp_io_choice io;
    dp_source *files;  /* the model's, unless it is from elsewhere, and adapters' */
    dp_source *source; /* what the tier reads: `files`, or elsewhere joined with them */
    dp_tier *tier;
    dp_watch *watch;
    dp_device *device;
    dp_kv *kv;
    dp_step *step;
    dp_plan plan;
    dp_adapter *adapters; /* open ones, latest first */
    dp_budget budget;
    dp_resize resize;
    uint64_t model_bytes;

    dp_batch_token *batch; /* [plan.step.batch_tokens] */
    uint32_t session_count;
    size_t turn;       /* counts steps: which session of a step comes first */
    bool prompt_waits; /* the last step had no room for any of a prompt */
    dp_speculate speculate;
    bool always_drafts; /* whatever it costs */
    atomic_bool cancel;

    dp_mutex stats_lock; /* guards run; never held across work */
    dp_run_stats run;
};

struct dp_session {
    dp_engine *engine;
    dp_token *tokens; /* [count], then [guessed], of [engine->plan.context_tokens] */
    uint32_t count;
    uint32_t evaluated; /* <= count; keys and values of these positions stand */
    dp_kv_seq seq;
    dp_lora_set set;                        /* of tokens still to be evaluated */
    dp_adapter *adapters[DP_LORA_USES_MAX]; /* [set.count] whose they are */
    dp_sampler sampler;
    float *logits; /* [1 + draft_tokens][vocab_size]; row 0: after the last token of a step */
    uint32_t row;  /* of logits: after token `evaluated - 1`, if has_logits */
    bool has_logits;
    dp_draft draft;   /* not set up while draft_tokens is 0 */
    uint32_t guessed; /* tokens behind the timeline whose keys, values and logits stand; while
                          there are any, nothing is pending */
    uint32_t wanted;  /* guesses past so many are of no use to who generates */
    dp_logits_sink sink;
    void *sink_user;
    uint64_t asked_ns; /* when the prompt arrived; 0: its first logits came */
};

/* Forgets what was guessed behind the timeline. */
void dp_session_drop_guesses(dp_session *session);

/* For inspect, which plans as a run does. */

/* An engine of nothing, NULL when memory is short; dp_engine_close. */
dp_engine *dp_engine_new(void);
/* Description, vocabulary, source and page table: everything but memory for
 * weights, buffers, keys and values. `gguf` is borrowed for the call; foreign: where the
 * model is, until the engine is closed, or NULL for the files that gguf names. */
dp_status dp_engine_open_tables(dp_engine *e, const dp_gguf *gguf, dp_source *foreign,
                                const dp_options *options, dp_error *err);

#endif
