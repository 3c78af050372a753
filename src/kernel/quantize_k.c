/* Q4_K, Q5_K, Q6_K: super-blocks of 256. The rules are in quantize.h.
 *
 * A search tries sixteen answers at a time, one a lane: each loop over LANES
 * below does the same to all of them, which a compiler makes wide instructions
 * of without changing any lane's order of additions. Fitting the lines a second
 * time, and fitting d and dmin again to the chosen steps, were tried: each takes
 * 0.2 % off the error and a third off the speed. */
#include <math.h>
#include <string.h>
#include "kernel/quantize_impl.h"

#ifndef DP_QUANTIZE_SET
#define DP_QUANTIZE_SET ref
#endif

#define LANES  16
#define RUN    32 /* values of a scale in Q4_K and Q5_K; in Q6_K it is 16 */
#define RUNS   (DP_QK_K / RUN)
#define RUN_6  16
#define RUNS_6 (DP_QK_K / RUN_6)

/* Below this a run is taken as constant: f16 scales could not say it anyway. */
#define RANGE_TINY 0x1p-40f

/* Sixteen lines x = a * q + c, with q a whole number from bottom to top. */
typedef struct lines {
    float a[LANES];
    float inverse[LANES]; /* 1 / a; 0 where a is 0 */
    float c[LANES];
    float bottom, top;
} lines;

/* What least squares needs of a run and its steps q under a line, with weights w. */
typedef struct sums {
    float w, wx, wxx;                        /* of the run alone */
    float wq[LANES], wqq[LANES], wqx[LANES]; /* of each line's steps */
} sums;

/* To the nearest whole number, halves to even, for |x| < 2^22: a float this large
 * has no fraction left. */
static inline float nearest_even(float x)
{
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

static inline float clamp(float x, float low, float high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

static void weigh(float *w, const float *x, int n)
{
    float square = 0, rms;

    for (int i = 0; i < n; i++)
        square += x[i] * x[i];
    rms = sqrtf(square / (float)n);
    for (int i = 0; i < n; i++)
        w[i] = rms + fabsf(x[i]);
}

static void add_up(sums *s, const float *x, const float *w, int n)
{
    s->w = s->wx = s->wxx = 0;
    for (int i = 0; i < n; i++) {
        s->w += w[i];
        s->wx += w[i] * x[i];
        s->wxx += w[i] * x[i] * x[i];
    }
}

/* The steps of each line nearest to x, summed. */
static void add_up_steps(sums *s, const lines *l, const float *x, const float *w, int n)
{
    float wq[LANES] = { 0 }, wqq[LANES] = { 0 }, wqx[LANES] = { 0 };

    for (int i = 0; i < n; i++)
        for (int j = 0; j < LANES; j++) {
            float q = nearest_even(clamp((x[i] - l->c[j]) * l->inverse[j], l->bottom, l->top));
            float weighted = w[i] * q;

            wq[j] += weighted;
            wqq[j] += weighted * q;
            wqx[j] += weighted * x[i];
        }
    memcpy(s->wq, wq, sizeof wq);
    memcpy(s->wqq, wqq, sizeof wqq);
    memcpy(s->wqx, wqx, sizeof wqx);
}

/* The loops over lanes below have no branches, only choices: a divisor that may
 * not divide becomes infinite, and the quotient 0. */
static inline float divisor(float x, bool is_good)
{
    return is_good ? x : INFINITY;
}

static void invert(lines *l)
{
    for (int j = 0; j < LANES; j++)
        l->inverse[j] = 1 / divisor(l->a[j], fabsf(l->a[j]) >= DP_QUANTIZE_TINY);
}

static int least_of(const float error[LANES])
{
    int best = 0;

    for (int j = 1; j < LANES; j++)
        if (error[j] < error[best])
            best = j;
    return best;
}

/* Each lane's line by least squares for its steps, with c <= 0 (the format keeps
 * -c unsigned), and the weighted squared error it leaves. */
static void solve_lines(lines *l, const sums *s, float error[LANES])
{
    for (int j = 0; j < LANES; j++) {
        float det = s->w * s->wqq[j] - s->wq[j] * s->wq[j];
        float good = divisor(det, det > 0);
        float a = (s->w * s->wqx[j] - s->wq[j] * s->wx) / good;
        float c = (s->wqq[j] * s->wx - s->wq[j] * s->wqx[j]) / good;
        float through_zero = s->wqx[j] / divisor(s->wqq[j], s->wqq[j] > 0);

        a = c > 0 ? through_zero : a;
        c = c > 0 ? 0 : c;
        c = a > 0 ? c : 0;
        a = a > 0 ? a : 0;
        error[j] = s->wxx - a * s->wqx[j] - c * s->wx;
        l->a[j] = a;
        l->c[j] = c;
    }
    invert(l);
}

/* A run's line x = a * q - b with q from 0 to top. */
static void fit_line(float *a, float *b, const float *x, const float *w, float top)
{
    float low = 0, high = x[0], error[LANES];
    lines l = { .bottom = 0, .top = top };
    sums s;
    int best;

    for (int i = 0; i < RUN; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    *a = 0;
    *b = -low;
    if (high - low < RANGE_TINY)
        return;
    add_up(&s, x, w, RUN);
    for (int j = 0; j < LANES; j++) { /* from a wide line to one that cuts off both ends */
        l.a[j] = (high - low) / (top - 1.2f + 0.18f * (float)j);
        l.c[j] = low;
    }
    invert(&l);
    add_up_steps(&s, &l, x, w, RUN);
    solve_lines(&l, &s, error);
    best = least_of(error);
    *a = l.a[best];
    *b = -l.c[best];
}

/* The line, of sixteen, with the least weighted squared error; the error counts
 * what the decoder would make of the nearest steps. */
static int choose_line(const lines *l, const float *x, const float *w, int n)
{
    float error[LANES] = { 0 };

    for (int i = 0; i < n; i++)
        for (int j = 0; j < LANES; j++) {
            float q = nearest_even(clamp((x[i] - l->c[j]) * l->inverse[j], l->bottom, l->top));
            float off = x[i] - (l->a[j] * q + l->c[j]);

            error[j] += w[i] * off * off;
        }
    return least_of(error);
}

static void take_steps(int8_t *q, const lines *l, int j, const float *x, int n)
{
    for (int i = 0; i < n; i++)
        q[i] = (int8_t)nearest_even(clamp((x[i] - l->c[j]) * l->inverse[j], l->bottom, l->top));
}

/* ---- Q4_K and Q5_K ---- */

/* A super-block as integers: x = d * scale * q - dmin * min. */
typedef struct block_45 {
    uint16_t d, dmin;
    uint8_t scale[RUNS], min[RUNS];
    int8_t q[DP_QK_K];
} block_45;

/* Whole number from 0 to 63 nearest to x / unit. */
static float sixth(float x, float unit)
{
    return unit > 0 ? nearest_even(clamp(x / unit, 0, 63)) : 0;
}

/* Scales and mins around a / d and b / dmin, the best pair of each run, and its steps. */
static void round_runs(block_45 *b, const float *a, const float *offset, const float *x,
                       const float *w, float top)
{
    float d = dp_f32_from_f16(b->d), dmin = dp_f32_from_f16(b->dmin);

    for (int r = 0; r < RUNS; r++) {
        /* The middle first: it wins a tie. */
        static const float around_scale[LANES] = { 0,  0,  0, 0, 0, -1, -1, -1,
                                                   -1, -1, 1, 1, 1, 1,  1,  2 };
        static const float around_min[LANES] = { 0,  -1, 1, -2, 2, 0,  -1, 1,
                                                 -2, 2,  0, -1, 1, -2, 2,  0 };
        float scale = sixth(a[r], d), min = sixth(offset[r], dmin);
        float scales[LANES], mins[LANES];
        lines l = { .bottom = 0, .top = top };
        int best;

        for (int j = 0; j < LANES; j++) {
            scales[j] = clamp(scale + around_scale[j], 0, 63);
            mins[j] = clamp(min + around_min[j], 0, 63);
            l.a[j] = d * scales[j];
            l.c[j] = -(dmin * mins[j]);
        }
        invert(&l);
        best = choose_line(&l, x + r * RUN, w + r * RUN, RUN);
        b->scale[r] = (uint8_t)scales[best];
        b->min[r] = (uint8_t)mins[best];
        take_steps(b->q + r * RUN, &l, best, x + r * RUN, RUN);
    }
}

static void quantize_45(block_45 *b, const float *x, float top)
{
    float w[DP_QK_K], a[RUNS], offset[RUNS], a_max = 0, offset_max = 0;

    for (int r = 0; r < RUNS; r++) {
        weigh(w + r * RUN, x + r * RUN, RUN);
        fit_line(&a[r], &offset[r], x + r * RUN, w + r * RUN, top);
        a_max = a[r] > a_max ? a[r] : a_max;
        offset_max = offset[r] > offset_max ? offset[r] : offset_max;
    }
    b->d = dp_f16_from_f32(a_max / 63);
    b->dmin = dp_f16_from_f32(offset_max / 63);
    round_runs(b, a, offset, x, w, top);
}

/* The twelve bytes of 6-bit scales and mins: the last four of each lie in the
 * upper bits of the first and in a byte of nibbles. */
static void pack_scales(uint8_t packed[12], const uint8_t scale[RUNS], const uint8_t min[RUNS])
{
    for (int s = 0; s < 4; s++) {
        packed[s] = (uint8_t)(scale[s] | (scale[s + 4] >> 4) << 6);
        packed[s + 4] = (uint8_t)(min[s] | (min[s + 4] >> 4) << 6);
        packed[s + 8] = (uint8_t)((scale[s + 4] & 15) | (min[s + 4] & 15) << 4);
    }
}

/* A run of 32 bytes holds 64 values, low nibbles first. */
static void pack_nibbles(uint8_t qs[128], const int8_t q[DP_QK_K])
{
    for (int i = 0; i < 128; i++) {
        const int8_t *low = q + i / 32 * 64 + i % 32;

        qs[i] = (uint8_t)((low[0] & 15) | (low[32] & 15) << 4);
    }
}

void DP_QUANTIZE_NAME(q4_k)(void *out, const float *x, size_t k)
{
    dp_block_q4_k *to = out;
    block_45 b;

    for (; k > 0; k -= DP_QK_K, x += DP_QK_K, to++) {
        quantize_45(&b, x, 15);
        to->d = b.d;
        to->dmin = b.dmin;
        pack_scales(to->scales, b.scale, b.min);
        pack_nibbles(to->qs, b.q);
    }
}

void DP_QUANTIZE_NAME(q5_k)(void *out, const float *x, size_t k)
{
    dp_block_q5_k *to = out;
    block_45 b;

    for (; k > 0; k -= DP_QK_K, x += DP_QK_K, to++) {
        quantize_45(&b, x, 31);
        to->d = b.d;
        to->dmin = b.dmin;
        pack_scales(to->scales, b.scale, b.min);
        pack_nibbles(to->qs, b.q);
        memset(to->qh, 0, sizeof to->qh);
        for (int i = 0; i < DP_QK_K; i++) /* bit r of byte i: value i of run r */
            to->qh[i % 32] = (uint8_t)(to->qh[i % 32] | (b.q[i] >> 4) << i / 32);
    }
}

/* ---- Q6_K ---- */

/* A run's scale, of either sign: q goes from -32 to 31, so the value of largest
 * magnitude fits best on the side with one more step, but not always. */
static float fit_scale(const float *x, const float *w)
{
    lines l = { .bottom = -32, .top = 31 };
    float m = 0, error[LANES];
    sums s;

    for (int i = 0; i < RUN_6; i++)
        m = fabsf(x[i]) > fabsf(m) ? x[i] : m;
    if (fabsf(m) < RANGE_TINY)
        return 0;
    add_up(&s, x, w, RUN_6);
    for (int j = 0; j < LANES; j++) {
        float steps = 29.5f + 0.5f * (float)(j % 8);

        l.a[j] = m / (j < 8 ? -steps : steps);
    }
    invert(&l);
    add_up_steps(&s, &l, x, w, RUN_6);
    for (int j = 0; j < LANES; j++) {
        l.a[j] = s.wqx[j] / divisor(s.wqq[j], s.wqq[j] > 0);
        error[j] = s.wxx - l.a[j] * s.wqx[j];
    }
    return l.a[least_of(error)];
}

static void quantize_6(dp_block_q6_k *to, int8_t q[DP_QK_K], const float *x)
{
    float w[DP_QK_K], a[RUNS_6], a_max = 0, d;

    for (int r = 0; r < RUNS_6; r++) {
        weigh(w + r * RUN_6, x + r * RUN_6, RUN_6);
        a[r] = fit_scale(x + r * RUN_6, w + r * RUN_6);
        a_max = fabsf(a[r]) > fabsf(a_max) ? a[r] : a_max;
    }
    to->d = dp_f16_from_f32(a_max / -128);
    d = dp_f32_from_f16(to->d);
    for (int r = 0; r < RUNS_6; r++) {
        lines l = { .bottom = -32, .top = 31 };
        float scales[LANES], middle;
        int best;

        middle = d != 0 ? nearest_even(clamp(a[r] / d, -128, 127)) : 0;
        for (int j = 0; j < LANES; j++) { /* 0, -1, 1, -2, 2 ... around it */
            float step = (float)((j + 1) / 2);

            scales[j] = clamp(middle + (j % 2 ? -step : step), -128, 127);
            l.a[j] = d * scales[j];
        }
        invert(&l);
        best = choose_line(&l, x + r * RUN_6, w + r * RUN_6, RUN_6);
        to->scales[r] = (int8_t)scales[best];
        take_steps(q + r * RUN_6, &l, best, x + r * RUN_6, RUN_6);
    }
}

/* Each half of 128: low nibbles of 64 bytes, then their high nibbles; the upper
 * two bits four to a byte, 32 values apart. */
static void pack_sixes(dp_block_q6_k *to, const int8_t q[DP_QK_K])
{
    memset(to->ql, 0, sizeof to->ql);
    memset(to->qh, 0, sizeof to->qh);
    for (int i = 0; i < DP_QK_K; i++) {
        int half = i / 128, at = i % 128, code = q[i] + 32;
        uint8_t *low = &to->ql[half * 64 + at % 64], *high = &to->qh[half * 32 + at % 32];

        *low = (uint8_t)(*low | (code & 15) << at / 64 * 4);
        *high = (uint8_t)(*high | (code >> 4) << at / 32 * 2);
    }
}

void DP_QUANTIZE_NAME(q6_k)(void *out, const float *x, size_t k)
{
    dp_block_q6_k *to = out;
    int8_t q[DP_QK_K];

    for (; k > 0; k -= DP_QK_K, x += DP_QK_K, to++) {
        quantize_6(to, q, x);
        pack_sixes(to, q);
    }
}
