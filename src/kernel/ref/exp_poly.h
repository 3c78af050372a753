/* exp_poly.h - exp and the 16-lane sum: the two definitions that every float kernel shares.
 *
 * Room     The constants of exp and the scalar order of its steps. The vector
 *          versions in x86/ take the same constants through the same steps, so a
 *          lane holds the bits that dp_exp_poly gives.
 *
 * How      x = n ln2 + r with |r| <= ln2 / 2, so exp(x) = 2^n exp(r). Adding 1.5 * 2^23
 *          to a small float rounds it to an integer (nearest even), which then sits
 *          in the low bits of the sum: one subtraction gives n as a float, one shift
 *          gives 2^n. ln2 is taken as a float and a rest, both in fused steps, so r
 *          is good to its last bit.
 *
 *          exp(r) = 1 + r + r^2 (C2 + C3 r + ... + C6 r^4), the C fitted by Remez
 *          exchange for least relative error: 3.1e-9, a twentieth of an ulp.
 */
#ifndef DP_KERNEL_REF_EXP_POLY_H
#define DP_KERNEL_REF_EXP_POLY_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define DP_EXP_MIN   (-87.0f) /* here and below the result is 0: it stays above the subnormals */
#define DP_EXP_MAX   88.0f    /* above, x is taken as this: the result stays finite */
#define DP_EXP_LOG2E 0x1.715476p+0f
#define DP_EXP_ROUND 0x1.8p+23f
#define DP_EXP_LN2   0x1.62e43p-1f /* ln2 = LN2 + LN2_REST */
#define DP_EXP_REST  (-0x1.05c61p-29f)
#define DP_EXP_C2    0.499999934321f
#define DP_EXP_C3    0.16666520399f
#define DP_EXP_C4    0.0416683907835f
#define DP_EXP_C5    0.00836874510894f
#define DP_EXP_C6    0.00138145401768f

/* NaN gives NaN. Any thread. */
static inline float dp_exp_poly(float x)
{
    uint32_t bits;
    float rounded, n, r, p, scale;

    if (x <= DP_EXP_MIN)
        return 0.0f;
    x = x > DP_EXP_MAX ? DP_EXP_MAX : x;
    rounded = x * DP_EXP_LOG2E + DP_EXP_ROUND;
    n = rounded - DP_EXP_ROUND;
    r = fmaf(n, -DP_EXP_LN2, x);
    r = fmaf(n, -DP_EXP_REST, r);
    p = fmaf(DP_EXP_C6, r, DP_EXP_C5);
    p = fmaf(p, r, DP_EXP_C4);
    p = fmaf(p, r, DP_EXP_C3);
    p = fmaf(p, r, DP_EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    /* The bits of `rounded` are a constant plus n: shifted into the exponent, the
     * constant falls off the top but for its low bits, which are zero. */
    memcpy(&bits, &rounded, sizeof bits);
    bits = (bits << 23) + 0x3f800000u;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* The sum of 16 lanes: v[j] += v[j+8], then +4, +2, +1. Overwrites v. */
static inline float dp_tree16(float v[16])
{
    for (int half = 8; half > 0; half /= 2) {
        for (int j = 0; j < half; j++)
            v[j] += v[j + half];
    }
    return v[0];
}

#endif
