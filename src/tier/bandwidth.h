/* bandwidth.h - how fast threads together read memory.
 *
 * Decoding reads every weight it uses once a token, so this number is the ceiling of
 * a model that is all resident. */
#ifndef DP_TIER_BANDWIDTH_H
#define DP_TIER_BANDWIDTH_H

#include "base/clock.h"
#include "doppler/status.h"

#define DP_BANDWIDTH_BYTES (256 * DP_MIB) /* more than caches hold; reading it takes some 10 ms */

typedef struct dp_bandwidth_config {
    uint32_t threads;  /* 1 .. DP_POOL_THREADS_MAX */
    uint64_t bytes;    /* taken and read, pass after pass */
    uint64_t limit_ns; /* no pass begins later; at least two are read */
    const dp_clock *clock;
} dp_bandwidth_config;

/* *bytes_s: of the fastest pass: what slows one down is other programs. DP_E_NOMEM, DP_E_LIMIT. */
dp_status dp_bandwidth_measure(double *bytes_s, const dp_bandwidth_config *config, dp_error *err);

#endif
