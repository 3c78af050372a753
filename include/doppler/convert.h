/* convert.h - a model as it is published -> a GGUF file.
 *
 * Reads a Hugging Face directory: config.json, model.safetensors or the files that
 * model.safetensors.index.json names, tokenizer.json and what stands beside it.
 * Weights stream through a few buffers, so that the model may be far larger than
 * memory; the file appears under its name when it is whole.
 */
#ifndef DOPPLER_CONVERT_H
#define DOPPLER_CONVERT_H

#include <stdbool.h>
#include "doppler/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Called now and then; return false to cancel. */
typedef bool (*dp_convert_progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);

typedef struct dp_convert_how {
    /* Of matrices: "f32", "f16", "bf16", "q8_0", or "auto" (NULL too): as they are published, FP8
     * as BF16. Vectors and routers become F32; MXFP4 stays MXFP4, bit for bit. */
    const char *type;
    const char *name;             /* general.name; NULL: the directory's own */
    dp_convert_progress progress; /* NULL: none */
    void *user;
} dp_convert_how;

typedef struct dp_convert_report {
    const char *architecture; /* static */
    uint64_t tensor_count;
    uint64_t file_bytes;
} dp_convert_report;

/* Converts the model in directory `dir` to the file at `path`. how: NULL for
 * defaults; report: NULL or filled on success. DP_E_UNSUPPORTED names what the model
 * has that is not converted, DP_E_NOTFOUND what is missing; DP_E_CORRUPT,
 * DP_E_LIMIT, DP_E_IO, DP_E_NOMEM, DP_E_CANCELED. Nothing is left at `path` then
 * that was not there before. Any thread. */
DP_API dp_status dp_convert(const char *dir, const char *path, const dp_convert_how *how,
                            dp_convert_report *report, dp_error *err);

/* True for a directory with a config.json in it: something to convert. */
DP_API bool dp_convert_is_directory(const char *path);

#ifdef __cplusplus
}
#endif
#endif
