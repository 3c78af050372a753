/* origin.h - where a model comes from: files at a path, or a source of bytes.
 *
 * Room     Both are described alike (format/gguf.h) and read alike (tier/source.h); this is
 *          the one place that knows which it is.
 *
 * Threads  Any that is not the source's: a source is waited for.
 */
#ifndef DP_ENGINE_ORIGIN_H
#define DP_ENGINE_ORIGIN_H

#include "format/gguf.h"
#include "tier/source.h"

typedef struct dp_origin {
    const char *path;  /* NULL: */
    dp_source *source; /* its parts are the model's */
} dp_origin;

/* Reads the header. Files of the description are the source's by their index. Owned:
 * dp_gguf_close. The errors of dp_gguf_open, and what the source says. */
dp_status dp_origin_describe(dp_gguf **out, const dp_origin *origin, dp_error *err);

#endif
