/* gguf_fill.h - random blocks of weights with a wanted size of values.
 *
 * Nothing is quantised from floats: the bytes of a block are random, and its
 * scales are then set so that the decoded values have rms `std` and mean near
 * 0. That is exact enough to keep activations finite, and close to the speed of
 * writing memory. All packed bits of scales vary, so decoders are exercised.
 *
 * Threads  Any; one at a time on one rng.
 */
#ifndef DP_TESTING_GGUF_FILL_H
#define DP_TESTING_GGUF_FILL_H

#include "base/rng.h"
#include "format/dtype.h"

typedef struct dp_gguf_fill {
    dp_dtype type;
    float mean, std;
    uint16_t d[64];      /* f16 scales, spread by a quarter around the wanted one */
    uint16_t offset[64]; /* f16 offsets that make the mean 0, for types that have one */
    uint8_t e;           /* MXFP4: the lesser exponent ... */
    uint8_t e_odds;      /* ... and in how many of 256 blocks the greater one */
} dp_gguf_fill;

/* False for types that cannot be filled: integers, F64, Q8_1, Q8_K, NVFP4 and Q1_0;
 * and for a mean other than 0 with types of blocks. */
bool dp_gguf_fill_init(dp_gguf_fill *fill, dp_dtype type, float mean, float std);

/* Writes `count` blocks (of F32, F16 and BF16: values). Runs of multiples of 8
 * give the same bytes as one long run. */
void dp_gguf_fill_run(const dp_gguf_fill *fill, dp_rng *rng, void *out, size_t count);

#endif
