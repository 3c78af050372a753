/* adapter.h - LoRA adapters: small files that change what a model says.
 *
 * An adapter is opened on an engine once and then used by any of its sessions, each
 * with a scale of its own; sessions with different adapters are stepped together.
 * W x becomes W x + (alpha / rank) * scale * B (A x) for the weights it names, adapter
 * after adapter in the order given.
 *
 * Memory   Its weights are pages under --ram like the model's: read when a step needs
 *          them, kept while there is room. Opening one takes its description, a step's
 *          buffers and room for its largest page from what weights may use; closing
 *          gives that back.
 *
 * Promises Results are those of engine.h: the same bits for every budget, thread count,
 *          batch and company. A scale of 0 gives the bits of no adapter.
 *
 * Threads  The engine's (engine.h).
 */
#ifndef DOPPLER_ADAPTER_H
#define DOPPLER_ADAPTER_H

#include "doppler/session.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_adapter dp_adapter;

#define DP_ADAPTERS_MAX         64 /* open on one engine */
#define DP_SESSION_ADAPTERS_MAX 16 /* of one session: each costs products of its own */

/* Opens the GGUF adapter at path, between steps. Owned: dp_adapter_close, before the
 * engine. DP_E_INVALID: the file is no adapter. DP_E_UNSUPPORTED: of another
 * architecture, split, or for a weight that cannot be adapted; DP_E_CORRUPT: shapes that are
 * not the model's; DP_E_BUDGET: no room beside the model; DP_E_LIMIT, DP_E_NOMEM, DP_E_IO.
 * The engine is as it was then. */
DP_API dp_status dp_adapter_open(dp_adapter **out, dp_engine *engine, const char *path,
                                 dp_error *err);
/* No session uses it any more. NULL is fine. */
DP_API void dp_adapter_close(dp_adapter *adapter);

typedef struct dp_adapter_info {
    float alpha;                 /* 0: the file has none, and the scale alone counts */
    uint32_t rank_min, rank_max; /* of its matrices */
    uint32_t matrix_count;       /* weights it changes; a stack of experts is one */
    uint32_t page_count;
    uint64_t bytes, page_bytes_max; /* of its weights; of its largest page */
} dp_adapter_info;

DP_API void dp_adapter_describe(const dp_adapter *adapter, dp_adapter_info *out);

typedef struct dp_adapter_use {
    dp_adapter *adapter;
    float scale; /* 1: as it was trained */
} dp_adapter_use;

/* What tokens evaluated from now on meet; replaces what was set, 0 uses is none. Keys,
 * values and logits that were computed stay as they were computed: who wants the whole
 * timeline in the new light rewinds it to 0 and appends it again. DP_E_INVALID, with
 * nothing changed: an adapter of another engine or named twice, a scale that is not finite;
 * DP_E_LIMIT: more than DP_SESSION_ADAPTERS_MAX. */
DP_API dp_status dp_session_set_adapters(dp_session *session, const dp_adapter_use *uses,
                                         size_t count, dp_error *err);

#ifdef __cplusplus
}
#endif
#endif
