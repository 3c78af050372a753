/* rates.h - how fast this machine multiplies a token's weights, measured product by product.
 *
 * Room     Two measures of the same products. By types: one small matrix of each type of weights,
 *          that caches hold, multiplied over and over: what is left is the kernels' own speed.
 *          By shapes: matrices of the model's own sizes one behind the other in memory, as a step
 *          meets them: what memory gives to kernels that start, wait for each other and end with
 *          every product. A sweep through memory (tier/bandwidth.h) is faster than that, the more
 *          so the smaller the matrices are.
 */
#ifndef DP_ENGINE_RATES_H
#define DP_ENGINE_RATES_H

#include "base/base.h"
#include "doppler/status.h"
#include "format/gguf.h"

typedef struct dp_rates_config {
    const char *kernels; /* as --kernels */
    uint32_t threads;
    uint64_t measure_ns;   /* time for each type, and for each shape */
    uint64_t region_bytes; /* of memory that shapes are read from; taken for the call */
} dp_rates_config;

/* How a token multiplies a tensor: `products` matrices of `rows` rows of it. 0: not at all. */
typedef struct dp_rates_use {
    double products;
    uint64_t rows;
} dp_rates_use;

typedef struct dp_rates {
    double compute_s; /* a token's products, were all weights in caches */
    double step_s;    /* from memory, each for itself */
} dp_rates;

/* used [tensor count]. DP_E_NOMEM, DP_E_UNSUPPORTED. */
dp_status dp_rates_measure(dp_rates *out, const dp_gguf *gguf, const dp_rates_use *used,
                           const dp_rates_config *config, dp_error *err);

#endif
