/* replay.h - recorded traces: what a run wanted of its experts, and how often caches of other
 * policies and sizes would have had it.
 *
 * A trace is written by a run with option "trace"; its format is documented in
 * docs/formats/trace.md. Replaying needs no model.
 *
 * Threads  One at a time on one replay.
 */
#ifndef DOPPLER_REPLAY_H
#define DOPPLER_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include "doppler/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_replay dp_replay;

typedef struct dp_replay_info {
    uint32_t layer_count; /* that have experts */
    uint32_t expert_count, expert_used;
    uint64_t expert_bytes; /* of all experts */
    uint64_t model_bytes;  /* weights in the file; 0: not known */
    uint64_t cache_bytes;  /* that experts shared when it was recorded; 0: not known */
    uint64_t steps, tokens, texts, wants;
    bool has_hits;
    uint64_t hits; /* as recorded */
    bool is_cut;   /* the end of the file is missing or damaged: the rest was read */
} dp_replay_info;

/* One cache: what is asked, and what came of it. */
typedef struct dp_replay_cache {
    const char *policy;                 /* of dp_replay_policy, or "belady": knows the future */
    uint64_t capacity_bytes;            /* for experts */
    uint64_t wants, hits, missed_bytes; /* missed_bytes: 0 of belady */
} dp_replay_cache;

#define DP_REPLAY_CACHES_MAX 4096

/* Reads a trace. DP_E_CORRUPT, DP_E_UNSUPPORTED, DP_E_LIMIT, DP_E_IO ... */
DP_API dp_status dp_replay_open(dp_replay **out, const char *path, dp_error *err);
DP_API void dp_replay_close(dp_replay *replay);
DP_API void dp_replay_info_read(const dp_replay *replay, dp_replay_info *out);

/* The i-th policy and which page leaves first by it; NULL past the last. */
DP_API const char *dp_replay_policy(uint32_t i, const char **summary);

/* Replays the trace with caches [count], empty at first. DP_E_NOTFOUND: no such policy. */
DP_API dp_status dp_replay_run(const dp_replay *replay, dp_replay_cache *caches, uint32_t count,
                               dp_error *err);

#ifdef __cplusplus
}
#endif
#endif
