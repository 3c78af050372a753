#include "base/rng.h"

#include <math.h>

#include "base/assert.h"
#include "base/map.h"

void dp_rng_init(dp_rng *rng, uint64_t seed)
{
    /* splitmix64: a counter with the golden ratio as its step, and a finisher.
     * It gives no four zeros in a row, the one state xoshiro cannot leave. */
    for (int i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        rng->state[i] = dp_hash_u64(seed);
    }
}

static uint64_t rotate_left(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

uint64_t dp_rng_u64(dp_rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

double dp_rng_unit(dp_rng *rng)
{
    return (double)(dp_rng_u64(rng) >> 11) * 0x1p-53;
}

uint64_t dp_rng_below(dp_rng *rng, uint64_t bound)
{
    uint64_t uneven;
    uint64_t x;

    DP_ASSERT(bound > 0);
    /* 2^64 mod bound: dropping that many of the smallest numbers leaves every
     * remainder equally often. */
    uneven = (0 - bound) % bound;
    do
        x = dp_rng_u64(rng);
    while (x < uneven);
    return x % bound;
}

float dp_rng_normal(dp_rng *rng)
{
    double radius = sqrt(-2.0 * log(1.0 - dp_rng_unit(rng))); /* 1 - u is never 0 */
    double angle = 6.283185307179586 * dp_rng_unit(rng);

    return (float)(radius * cos(angle));
}
