/* quantize.h - float rows -> blocks of weights: what dp_dequantize_row takes apart.
 *
 * Room     One definition a type, in plain C (quantize_32.c, quantize_k.c), that is
 *          compiled once for every machine and once with wider registers: the
 *          same operations in the same order, so the same bits everywhere.
 *          Nothing here sees more than one row, so rows may be split over threads.
 *
 * Types    F32; F16 and BF16: nearest even.
 *
 *          Q8_0  d = max|x| / 127, q = nearest(x / d), halves away from 0.
 *          Q4_0  d = (the value of largest magnitude, with its sign) / -8, so that
 *          Q5_0  it is met exactly by the side with one more step; Q5_0: / -16.
 *                q = nearest(x / d), cut at the other end.
 *          Q4_1  d = (max - min) / 15, m = min; Q5_1: / 31.
 *          Q5_1
 *          These are the rules in common use: a file comes out byte for byte as
 *          from the format's own tools.
 *
 *          MXFP4 The scale is a power of two: the largest that lets max|x| still be
 *                a number of the top binade (OCP Microscaling 1.0, 6.3), or of its two
 *                neighbours the one with less squared error. Elements: nearest,
 *                halves to the even code, cut at 6.
 *
 *          Q4_K  Each run of 32 values (Q6_K: 16) gets a line (a scale) by weighted
 *          Q5_K  least squares: x is rounded to the steps of sixteen lines about as
 *          Q6_K  wide as its range, each is fitted again to its steps, the best
 *                kept. The super-block's d and dmin follow from the largest; then
 *                each run takes the best of sixteen roundings of its scale and min.
 *                Weight of a value: its magnitude plus the run's rms, since large
 *                weights move a product most.
 *
 * Range    Scales are f16. Rows must be finite and at most dp_quantize_max(type)
 *          in magnitude: dp_quantize_check first.
 *
 * Threads  Any. No allocation.
 */
#ifndef DP_KERNEL_QUANTIZE_H
#define DP_KERNEL_QUANTIZE_H

#include "kernel/kernel.h"

/* True for types dp_quantize_row can make. */
bool dp_quantize_has(dp_dtype type);

/* x [k] -> a row of the type: k is whole blocks and the row passed the check.
 * kernels: any table; all give the same bytes. False, and nothing written, when
 * the type has no quantizer. */
bool dp_quantize_row(const dp_kernels *kernels, dp_dtype type, void *out, const float *x, size_t k);

/* The largest magnitude of a value that every block of the type can hold. */
float dp_quantize_max(dp_dtype type);

/* The first element of x [k] that is NaN, infinite or beyond `max`; k: none. */
size_t dp_quantize_check(const float *x, size_t k, float max);

#endif
