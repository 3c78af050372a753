/* engine.h - a model opened inside a memory budget.
 *
 * An engine owns the model's files, the memory for its weights, keys and values,
 * and the threads that compute. Sessions (session.h) are timelines on it.
 *
 * Promises The budget holds for the whole run; what cannot fit is refused by
 *          dp_engine_open with one sentence that says which number to change.
 *          Logits are bit-identical for every budget, thread count, read method,
 *          batch size and number of sessions stepped together.
 *
 * Threads  Calls on one engine and its sessions come from one thread at a time;
 *          dp_engine_cancel, dp_engine_set_budget and dp_engine_stats from any.
 */
#ifndef DOPPLER_ENGINE_H
#define DOPPLER_ENGINE_H

#include <stdbool.h>
#include "doppler/options.h"
#include "doppler/stats.h"
#include "doppler/vocab.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_engine dp_engine;

/* Called while the always-used weights load; return false to cancel. */
typedef bool (*dp_progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);

/* Opens the GGUF model at path (any part of a split model). options: borrowed,
 * NULL for defaults. Owned: dp_engine_close, after its sessions. */
DP_API dp_status dp_engine_open(dp_engine **out, const char *path, const dp_options *options,
                                dp_progress progress, void *user, dp_error *err);
DP_API void dp_engine_close(dp_engine *engine);

/* NULL: the file has none that can be used. Token ids and logits need none. */
DP_API const dp_vocab *dp_engine_vocab(const dp_engine *engine);
/* Why there is none: one sentence; NULL when there is one. */
DP_API const char *dp_engine_vocab_problem(const dp_engine *engine);
DP_API uint32_t dp_engine_vocab_size(const dp_engine *engine);  /* logits per token */
DP_API uint32_t dp_engine_context_max(const dp_engine *engine); /* tokens of one session (--ctx) */

/* Makes the running step of any session return DP_E_CANCELED soon, or the next one
 * when none runs; async-signal-safe. */
DP_API void dp_engine_cancel(dp_engine *engine);

/* Another budget from now on, at least what tables, keys and values, buffers and two
 * pages take (DP_E_BUDGET). What can leave at once does, the rest before the next step
 * or, while none runs, now. Results do not change. Any thread. */
DP_API dp_status dp_engine_set_budget(dp_engine *engine, uint64_t budget_bytes, dp_error *err);

DP_API void dp_engine_stats(dp_engine *engine, dp_stats *out);

#ifdef __cplusplus
}
#endif
#endif
