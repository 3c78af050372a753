#include "model/rope.h"

#include <math.h>

/* The pair that turns `turns` times over the original context. */
static double correction_pair(const dp_hparams *hp, double turns)
{
    return hp->rope_dim * log(hp->rope_original_context / (2 * M_PI * turns)) /
           (2 * log(hp->rope_base));
}

/* Pairs faster than beta_fast turns keep their speed, slower than beta_slow are
 * divided by the factor, with a linear ramp between (eq. 12 and 13 of YaRN). */
static void blend_yarn(dp_rope *rope, const dp_hparams *hp, bool rounds_range)
{
    double low = correction_pair(hp, hp->yarn_beta_fast);
    double high = correction_pair(hp, hp->yarn_beta_slow);

    if (rounds_range) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, hp->rope_dim - 1.0);
    for (uint32_t i = 0; i < rope->pair_count; i++) {
        double ramp = (i - low) / fmax(high - low, 0.001);
        ramp = fmin(fmax(ramp, 0), 1);
        rope->theta[i] *= 1 - ramp + ramp / hp->rope_factor;
    }
    /* With a log multiplier the magnitude is the softmax's (block_mla.c). */
    rope->magnitude = hp->rope_attn_factor;
    if (hp->yarn_log_multiplier == 0)
        rope->magnitude *= 0.1 * log(hp->rope_factor) + 1;
}

void dp_rope_init(dp_rope *rope, const dp_hparams *hp, const float *divisors, bool rounds_range)
{
    rope->pair_count = hp->rope_dim / 2;
    rope->magnitude = 1;
    for (uint32_t i = 0; i < rope->pair_count; i++) {
        rope->theta[i] = pow(hp->rope_base, -2.0 * i / hp->rope_dim);
        if (divisors)
            rope->theta[i] /= divisors[i];
        if (hp->rope_scaling == DP_ROPE_LINEAR)
            rope->theta[i] /= hp->rope_factor;
    }
    if (hp->rope_scaling == DP_ROPE_YARN)
        blend_yarn(rope, hp, rounds_range);
}

void dp_rope_angles(const dp_rope *rope, uint32_t position, float *cos_out, float *sin_out)
{
    for (uint32_t i = 0; i < rope->pair_count; i++) {
        double angle = position * rope->theta[i];
        cos_out[i] = (float)(cos(angle) * rope->magnitude);
        sin_out[i] = (float)(sin(angle) * rope->magnitude);
    }
}
