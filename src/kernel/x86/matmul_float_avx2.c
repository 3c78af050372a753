/* matmul_float_avx2.c - products of F32, F16 and BF16 weights.
 *
 * A sum is the contract's 16 lanes along k: two accumulators, lanes 0-7 and 8-15. Four
 * rows at once, or two rows and two columns, make 8 chains, which hides the latency of
 * the fused adds; two by two also reads each weight and activation for two sums. */
#include "kernel/kernel_impl.h"
#include "kernel/x86/lanes_avx2.h"

enum {
    SUMS_MAX = 4,
    COLS = 8 /* columns per pass over the rows: 8 of 4096 floats stay in L2 */
};

static DP_ALWAYS_INLINE size_t weight_bytes(dp_dtype type)
{
    return type == DP_F32 ? 4 : 2;
}

/* 8 weights, widened. */
static DP_ALWAYS_INLINE __m256 load_weights(dp_dtype type, const uint8_t *w)
{
    if (type == DP_F32)
        return _mm256_loadu_ps((const float *)(const void *)w);
    if (type == DP_F16)
        return load_f16((const uint16_t *)(const void *)w);
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)w)), 16));
}

/* The last 1 to 15 elements of one row and column. Lanes past the end keep their
 * value: even adding 0 would turn a -0 into +0. */
static DP_ALWAYS_INLINE void add_tail(__m256 v[2], dp_dtype type, const uint8_t *w, const float *x,
                                      size_t left)
{
    uint8_t whole[16 * sizeof(float)] = { 0 };

    memcpy(whole, w, left * weight_bytes(type));
    for (size_t half = 0; half < 2 && left > 8 * half; half++) {
        __m256i lanes = first_lanes(left - 8 * half);
        __m256 wi = load_weights(type, whole + 8 * half * weight_bytes(type));
        __m256 xi = _mm256_maskload_ps(x + 8 * half, lanes);
        __m256 sum = _mm256_fmadd_ps(wi, xi, v[half]);

        v[half] = _mm256_blendv_ps(v[half], sum, _mm256_castsi256_ps(lanes));
    }
}

/* y[c * y_stride + r] for r < rows, c < cols; both are constants, rows * cols at most
 * SUMS_MAX. */
static DP_ALWAYS_INLINE void dot(float *y, size_t y_stride, const uint8_t *w, size_t row_bytes,
                                 size_t rows, const uint8_t *x, size_t x_stride, size_t cols,
                                 size_t k, dp_dtype type)
{
    __m256 v[SUMS_MAX][2]; /* v[c * rows + r]: lanes 0-7, lanes 8-15 */
    size_t bytes = weight_bytes(type);
    size_t i = 0;

    for (size_t n = 0; n < rows * cols; n++)
        v[n][0] = v[n][1] = _mm256_setzero_ps();
    for (; i + 16 <= k; i += 16) {
        for (size_t half = 0; half < 2; half++) {
            size_t at = i + 8 * half;
            __m256 wi[SUMS_MAX];

            for (size_t r = 0; r < rows; r++)
                wi[r] = load_weights(type, w + r * row_bytes + at * bytes);
            for (size_t c = 0; c < cols; c++) {
                __m256 xi = _mm256_loadu_ps((const float *)(const void *)(x + c * x_stride) + at);
                for (size_t r = 0; r < rows; r++)
                    v[c * rows + r][half] = _mm256_fmadd_ps(wi[r], xi, v[c * rows + r][half]);
            }
        }
    }
    for (size_t n = 0; n < rows * cols; n++) {
        size_t r = n % rows, c = n / rows;
        const float *xc = (const float *)(const void *)(x + c * x_stride);

        if (i < k)
            add_tail(v[n], type, w + r * row_bytes + i * bytes, xc + i, k - i);
        y[c * y_stride + r] = tree8(_mm256_add_ps(v[n][0], v[n][1]));
    }
}

/* All rows against one column. */
static DP_ALWAYS_INLINE void times_column(float *y, const uint8_t *w, size_t row_bytes, size_t rows,
                                          const uint8_t *x, size_t k, dp_dtype type)
{
    size_t r = 0;

    for (; r + 4 <= rows; r += 4)
        dot(y + r, 0, w + r * row_bytes, row_bytes, 4, x, 0, 1, k, type);
    for (; r < rows; r++)
        dot(y + r, 0, w + r * row_bytes, row_bytes, 1, x, 0, 1, k, type);
}

/* All rows against an even number of columns. */
static DP_ALWAYS_INLINE void times_columns(float *y, size_t y_stride, const uint8_t *w,
                                           size_t row_bytes, size_t rows, const uint8_t *x,
                                           size_t x_stride, size_t cols, size_t k, dp_dtype type)
{
    for (size_t r = 0; r < rows; r += 2) {
        for (size_t c = 0; c < cols; c += 2) {
            float *at = y + c * y_stride + r;
            const uint8_t *wr = w + r * row_bytes;
            const uint8_t *xc = x + c * x_stride;

            if (r + 2 <= rows)
                dot(at, y_stride, wr, row_bytes, 2, xc, x_stride, 2, k, type);
            else
                dot(at, y_stride, wr, row_bytes, 1, xc, x_stride, 2, k, type);
        }
    }
}

static DP_ALWAYS_INLINE void matmul(float *y, size_t y_stride, const uint8_t *w, size_t row_bytes,
                                    size_t rows, const uint8_t *x, size_t x_stride, size_t cols,
                                    size_t k, dp_dtype type)
{
    size_t even = cols - cols % 2;

    for (size_t c = 0; c < even; c += COLS)
        times_columns(y + c * y_stride, y_stride, w, row_bytes, rows, x + c * x_stride, x_stride,
                      DP_MIN(even - c, COLS), k, type);
    if (cols % 2)
        times_column(y + even * y_stride, w, row_bytes, rows, x + even * x_stride, k, type);
}

#define DEFINE(set, name, id)                                                                      \
    void dp_matmul_##set##_##name(float *y, size_t y_stride, const void *w, size_t row_bytes,      \
                                  size_t rows, const void *x, size_t x_stride, size_t cols,        \
                                  size_t k)                                                        \
    {                                                                                              \
        matmul(y, y_stride, w, row_bytes, rows, x, x_stride, cols, k, id);                         \
    }

DP_MATMUL_FLOAT_TYPES(DEFINE, avx2)
