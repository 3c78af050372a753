/* source.h - an origin of model bytes other than files at a path: opaque here.
 *
 * A mount of a swarm or of a URL (swarm.h) gives one; an engine, a vocabulary or a look
 * at a model is opened from it as from a path. Results are the same bits.
 *
 * Ownership Borrowed by what is opened from it and owned by who gave it: close the
 *           engine first.
 */
#ifndef DOPPLER_SOURCE_H
#define DOPPLER_SOURCE_H

#include "doppler/engine.h"
#include "doppler/inspect.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_source dp_source;

/* As dp_engine_open, dp_vocab_open and dp_inspect_open. */
DP_API dp_status dp_engine_open_source(dp_engine **out, dp_source *source,
                                       const dp_options *options, dp_progress progress, void *user,
                                       dp_error *err);
DP_API dp_status dp_vocab_open_source(dp_vocab **out, dp_source *source, dp_error *err);
DP_API dp_status dp_inspect_open_source(dp_inspect **out, dp_source *source, dp_error *err);

#ifdef __cplusplus
}
#endif
#endif
