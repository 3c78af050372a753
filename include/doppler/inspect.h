/* inspect.h - what a model file holds, and what a budget would hold of it, without loading it.
 *
 * Threads  Immutable once open: any.
 */
#ifndef DOPPLER_INSPECT_H
#define DOPPLER_INSPECT_H

#include <stdbool.h>
#include "doppler/options.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_inspect dp_inspect;
struct dp_drive_probe; /* doctor.h */

typedef struct dp_model_info {
    const char *path, *architecture, *name; /* borrowed from the dp_inspect */
    bool is_supported;                      /* doppler can run it ... */
    const char *unsupported;                /* ... or this sentence says why not */
    uint32_t part_count;
    uint64_t file_bytes, tensor_bytes, parameter_count;
    uint32_t tensor_count, key_count;
    uint32_t layer_count, embed_dim, vocab_size, context_max;
    uint32_t head_count, kv_head_count, key_dim, value_dim, ff_dim; /* of layer 0 */
    uint32_t expert_count, expert_used, expert_shared, expert_ff_dim;
    uint64_t kv_bytes_per_token; /* in f16; twice that in f32 */
} dp_model_info;

typedef struct dp_tensor_info {
    const char *name, *type;
    uint32_t dim_count;
    uint64_t ne[4]; /* fastest first */
    uint64_t offset, size;
    uint32_t part;
} dp_tensor_info;

typedef struct dp_key_info {
    const char *key, *type;
    char value[96]; /* printable and cut; arrays: "[128256] ..." */
} dp_key_info;

/* Pages of one kind, as the engine would make them. */
typedef struct dp_page_group {
    const char *kind; /* "always", "expert" */
    uint32_t page_count;
    uint64_t bytes, bytes_min, bytes_max; /* of all; of one */
    uint64_t bytes_per_token;             /* used by one token */
} dp_page_group;

/* What would be held under options (--ram, --ctx, ...). */
typedef struct dp_plan_info {
    uint64_t budget_bytes, tables_bytes, kv_bytes, buffer_bytes, slot_bytes;
    uint64_t reserve_bytes;                /* left to the system when --ram is auto, else 0 */
    uint32_t context_tokens, batch_tokens; /* as given or chosen (--ctx, --batch) */
    const char *kv_type;                   /* of keys and values: "f16", "f32"; static */
    uint64_t always_bytes;                 /* slot bytes of the always-used part */
    bool pins_always;                      /* all of it stays; otherwise it streams */
    uint32_t experts_held, experts_total;
    uint64_t kept_bytes;   /* of the always-used part in memory */
    uint64_t expert_bytes; /* one in memory, in the mean */
    double heat_share;     /* hits that saved heat (--heat) promises; below 0: there is none */
    uint64_t least_bytes;  /* the smallest --ram that would run */
    bool fits;
} dp_plan_info;

/* What a token takes, by what the machine was measured to do. */
typedef struct dp_prediction {
    uint64_t token_bytes, drive_bytes;   /* of weights a token uses; of them from the drive */
    double hit_rate;                     /* of experts */
    bool hit_is_from_heat;               /* else the share of experts held */
    double memory_bytes_s;               /* as measured now */
    double memory_s, compute_s, drive_s; /* each for itself */
    double step_s;                       /* a token's products from memory, one by one */
    double token_s, tok_s;               /* together; 0: the drive was never probed */
    char bottleneck[12];                 /* "memory", "compute", "drive" */
} dp_prediction;

DP_API dp_status dp_inspect_open(dp_inspect **out, const char *path, dp_error *err);
DP_API void dp_inspect_close(dp_inspect *inspect);
DP_API void dp_inspect_model(const dp_inspect *inspect, dp_model_info *out);
/* The path of a part, or its name where it is from elsewhere; of a split model parts come by
 * number when opened by path. Borrowed; NULL: past the end. */
DP_API const char *dp_inspect_part(const dp_inspect *inspect, uint32_t part);
DP_API bool dp_inspect_tensor(const dp_inspect *inspect, uint32_t i,
                              dp_tensor_info *out); /* false: past the end */
DP_API bool dp_inspect_key(const dp_inspect *inspect, uint32_t i, dp_key_info *out);
DP_API bool dp_inspect_pages(const dp_inspect *inspect, uint32_t i, dp_page_group *out);
/* DP_E_UNSUPPORTED for a model that can't run. */
DP_API dp_status dp_inspect_plan(const dp_inspect *inspect, const dp_options *options,
                                 dp_plan_info *out, dp_error *err);

/* A plan that fits, as speed: measures memory and kernels for a second. drive: a probe of what
 * the model lies on, NULL: none. Short contexts: keys and values are not counted. DP_E_NOMEM. */
DP_API dp_status dp_inspect_predict(const dp_inspect *inspect, const dp_options *options,
                                    const dp_plan_info *plan, const struct dp_drive_probe *drive,
                                    dp_prediction *out, dp_error *err);

#ifdef __cplusplus
}
#endif
#endif
