/* rng.h - seeded numbers, the same on every machine. One thread at a time.
 *
 * Source: xoshiro256** (Blackman and Vigna 2018, arXiv:1805.01407), seeded by splitmix64. */
#ifndef DP_BASE_RNG_H
#define DP_BASE_RNG_H

#include "base/base.h"

typedef struct dp_rng {
    uint64_t state[4];
} dp_rng;

void dp_rng_init(dp_rng *rng, uint64_t seed);
uint64_t dp_rng_u64(dp_rng *rng);
double dp_rng_unit(dp_rng *rng);                    /* [0, 1), 53 bits */
uint64_t dp_rng_below(dp_rng *rng, uint64_t bound); /* [0, bound), unbiased; bound > 0 */
float dp_rng_normal(dp_rng *rng);                   /* mean 0, variance 1 (Box-Muller) */

#endif
