/* quantize.h - a GGUF model in, the same model in fewer bits out.
 *
 * Weights stream through buffers of a few MiB, so the model may be far larger than
 * memory. The output is the same bytes for every number of threads; it appears
 * under its name when it is whole. Which tensor becomes what: docs/quantize.md.
 */
#ifndef DOPPLER_QUANTIZE_H
#define DOPPLER_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include "doppler/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a model can be made: "q8_0", "q4_k_m" ... */
typedef struct dp_quantize_type {
    const char *name;
    const char *summary; /* "matrices Q4_K, some Q6_K" */
} dp_quantize_type;

/* All of them, [*count], static. Any thread. */
DP_API const dp_quantize_type *dp_quantize_types(size_t *count);

typedef struct dp_quantize_tensor {
    const char *name, *from, *to; /* types: "BF16", "Q4_K" */
    const char *instead_of;       /* the type its rows are too short for, or NULL */
    uint64_t from_bytes, to_bytes;
} dp_quantize_tensor;

typedef struct dp_quantize_how {
    const char *type; /* a name of dp_quantize_types; case is ignored */
    /* "PATTERN=TYPE" [override_count]: tensors whose whole name matches PATTERN (* is any
     * text, ? any character) become TYPE, a tensor's type such as "Q8_0". The first
     * that matches counts. */
    const char *const *overrides;
    size_t override_count;
    uint32_t threads; /* 0: as many as the process may use */
    /* Quantises again what has less than eight bits already: its errors add up. */
    bool allows_requantize;
    /* Called before each tensor, and after each piece of it. Either may be NULL. */
    void (*on_tensor)(void *user, const dp_quantize_tensor *tensor);
    bool (*on_progress)(void *user, uint64_t done_bytes, uint64_t total_bytes); /* false: cancel */
    void *user;
} dp_quantize_how;

typedef struct dp_quantize_report {
    uint64_t tensor_count, value_count;
    uint64_t fallback_count;       /* tensors with an instead_of */
    uint64_t from_bytes, to_bytes; /* of all tensors */
    uint64_t file_bytes;           /* of the output */
    uint64_t ns;
} dp_quantize_report;

/* Reads the model at in_path (any part of a split model), writes one file at out_path.
 * report: NULL, or filled on success. DP_E_INVALID: a type or pattern that makes no
 * sense (the sentence names the known ones), an input that is quantised already, an
 * output that is one of the inputs; DP_E_CORRUPT: a weight that is NaN, infinite or
 * out of range (tensor and element are named); DP_E_UNSUPPORTED: a type without a
 * decoder; DP_E_IO, DP_E_NOTFOUND, DP_E_NOMEM, DP_E_BUSY, DP_E_CANCELED. Nothing
 * is left at out_path then that was not there before. Any thread. */
DP_API dp_status dp_quantize(const char *in_path, const char *out_path, const dp_quantize_how *how,
                             dp_quantize_report *report, dp_error *err);

#ifdef __cplusplus
}
#endif
#endif
