/* rates.h - how fast this machine multiplies a token's weights, measured type by type.
 *
 * One small matrix of each type, that caches hold, is multiplied over and over: what is
 * left is the kernels' own speed. */
#ifndef DP_ENGINE_RATES_H
#define DP_ENGINE_RATES_H

#include "base/base.h"
#include "doppler/status.h"
#include "format/gguf.h"

typedef struct dp_rates_config {
    const char *kernels; /* as --kernels */
    uint32_t threads;
    uint64_t type_ns; /* time for each type of weights */
} dp_rates_config;

/* *seconds: a token's products, were all weights in caches. used [tensor count]: the share of
 * each tensor that a token uses. DP_E_NOMEM, DP_E_UNSUPPORTED. */
dp_status dp_rates_compute(double *seconds, const dp_gguf *gguf, const double *used,
                           const dp_rates_config *config, dp_error *err);

#endif
