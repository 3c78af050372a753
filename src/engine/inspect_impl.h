/* inspect_impl.h - the inside of a dp_inspect, for the files that answer questions about it. */
#ifndef DP_ENGINE_INSPECT_IMPL_H
#define DP_ENGINE_INSPECT_IMPL_H

#include "doppler/inspect.h"
#include "engine/engine.h"

struct dp_inspect {
    dp_gguf *gguf;
    dp_source *source; /* borrowed; NULL: files */
    dp_model *model;   /* NULL: doppler cannot run it, `unsupported` says why */
    dp_error unsupported;
    char *path, *architecture, *name;
    dp_hparams *hp; /* NULL when the keys don't say */
};

#endif
