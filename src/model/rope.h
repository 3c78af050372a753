/* rope.h - rotary positions: how fast each pair of a head turns.
 *
 * theta_i = base^(-2i/dim), divided by the file's divisors (Llama 3.1's
 * rope_freqs), by the linear factor, or blended by YaRN. Computed in double.
 * Su et al. 2021, arXiv:2104.09864; Peng et al. 2023, arXiv:2309.00071 §3.
 *
 * Threads  Immutable once set up; dp_rope_angles: any.
 */
#ifndef DP_MODEL_ROPE_H
#define DP_MODEL_ROPE_H

#include "base/base.h"
#include "format/hparams.h"

#define DP_ROPE_PAIRS_MAX 512

typedef struct dp_rope {
    uint32_t pair_count;
    double theta[DP_ROPE_PAIRS_MAX];
    double magnitude; /* cos and sin are multiplied by it: 1 without YaRN */
} dp_rope;

/* divisors [rope_dim / 2] or NULL. rounds_range: YaRN's correction range is
 * rounded outward to whole pairs, as ggml does it. */
void dp_rope_init(dp_rope *rope, const dp_hparams *hp, const float *divisors, bool rounds_range);

/* cos_out, sin_out [pair_count] for one position. */
void dp_rope_angles(const dp_rope *rope, uint32_t position, float *cos_out, float *sin_out);

#endif
