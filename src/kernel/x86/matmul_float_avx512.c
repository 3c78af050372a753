/* matmul_float_avx512.c - products of F32, F16 and BF16 rows.
 *
 * Sixteen lanes of a register are the sixteen running sums of one row and column,
 * element i in lane i mod 16. A block of 6 rows x 4 columns keeps 24 of them: each
 * load of weights serves 4 columns, each load of x 6 rows, and the fused adds, not
 * the loads, are what it waits for.
 */
#include <immintrin.h>
#include <string.h>
#include "kernel/kernel_impl.h"

#define BLOCK_ROWS  6
#define BLOCK_COLS  4
#define CHUNK_BYTES (256 * 1024) /* weights that stay in L2 while the columns go by */

/* Elements i ... i + 15 of a row as float, those past the mask zero. */
static DP_ALWAYS_INLINE __m512 load_w(dp_dtype type, const uint8_t *row, size_t i, __mmask16 mask)
{
    if (type == DP_F32)
        return _mm512_maskz_loadu_ps(mask, row + i * 4);
    if (type == DP_F16)
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, row + i * 2));
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row + i * 2)), 16));
}

static DP_ALWAYS_INLINE float tree16(__m512 v)
{
    __m256 v8 = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 v4 = _mm_add_ps(_mm256_castps256_ps128(v8), _mm256_extractf128_ps(v8, 1));

    v4 = _mm_add_ps(v4, _mm_movehl_ps(v4, v4));
    return _mm_cvtss_f32(_mm_add_ss(v4, _mm_movehdup_ps(v4)));
}

/* `rows` x `cols`, constants: y[c * y_stride + r]. */
static DP_ALWAYS_INLINE void block(dp_dtype type, const size_t rows, const size_t cols, float *y,
                                   size_t y_stride, const uint8_t *w, size_t row_bytes,
                                   const uint8_t *x, size_t x_stride, size_t k)
{
    const size_t elem = type == DP_F32 ? 4 : 2;
    __m512 v[BLOCK_ROWS][BLOCK_COLS], xv[BLOCK_COLS];

#pragma GCC unroll 6
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t c = 0; c < cols; c++)
            v[r][c] = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 16 <= k; i += 16) {
#pragma GCC unroll 4
        for (size_t c = 0; c < cols; c++)
            xv[c] = _mm512_loadu_ps(x + c * x_stride + i * 4);
#pragma GCC unroll 6
        for (size_t r = 0; r < rows; r++) {
            __m512 wv = load_w(type, w + r * row_bytes, i, 0xffff);

            /* The next rows, one run of lines; 1 KiB ahead in each row lost 12 %. */
            if (cols == 1 && i * elem % 64 == 0)
                _mm_prefetch((const char *)w + rows * row_bytes + i * rows * elem + r * 64,
                             _MM_HINT_T1);
#pragma GCC unroll 4
            for (size_t c = 0; c < cols; c++)
                v[r][c] = _mm512_fmadd_ps(wv, xv[c], v[r][c]);
        }
    }
    if (i < k) { /* lanes past the end keep their sums as they are */
        __mmask16 mask = (__mmask16)((1u << (k - i)) - 1);

#pragma GCC unroll 6
        for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (size_t c = 0; c < cols; c++)
                v[r][c] = _mm512_mask3_fmadd_ps(
                    load_w(type, w + r * row_bytes, i, mask),
                    _mm512_maskz_loadu_ps(mask, x + c * x_stride + i * 4), v[r][c], mask);
    }
#pragma GCC unroll 6
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t c = 0; c < cols; c++)
            y[c * y_stride + r] = tree16(v[r][c]);
}

/* Rows of one chunk against one or four columns. */
static DP_ALWAYS_INLINE void chunk(dp_dtype type, const size_t cols, float *y, size_t y_stride,
                                   const uint8_t *w, size_t row_bytes, size_t rows,
                                   const uint8_t *x, size_t x_stride, size_t k)
{
    size_t r = 0;

    for (; r + BLOCK_ROWS <= rows; r += BLOCK_ROWS)
        block(type, BLOCK_ROWS, cols, y + r, y_stride, w + r * row_bytes, row_bytes, x, x_stride,
              k);
    for (; r < rows; r++)
        block(type, 1, cols, y + r, y_stride, w + r * row_bytes, row_bytes, x, x_stride, k);
}

static DP_ALWAYS_INLINE void matmul(dp_dtype type, float *y, size_t y_stride, const uint8_t *w,
                                    size_t row_bytes, size_t rows, const uint8_t *x,
                                    size_t x_stride, size_t cols, size_t k)
{
    size_t chunk_rows = CHUNK_BYTES / DP_MAX(row_bytes, (size_t)1) / BLOCK_ROWS * BLOCK_ROWS;
    size_t n, c;

    chunk_rows = DP_MAX(chunk_rows, (size_t)BLOCK_ROWS);
    for (size_t r = 0; r < rows; r += n) {
        n = DP_MIN(rows - r, chunk_rows);
        for (c = 0; c + BLOCK_COLS <= cols; c += BLOCK_COLS)
            chunk(type, BLOCK_COLS, y + c * y_stride + r, y_stride, w + r * row_bytes, row_bytes, n,
                  x + c * x_stride, x_stride, k);
        for (; c < cols; c++)
            chunk(type, 1, y + c * y_stride + r, y_stride, w + r * row_bytes, row_bytes, n,
                  x + c * x_stride, x_stride, k);
    }
}

#define DEFINE(set, type, id)                                                                      \
    void dp_matmul_##set##_##type(float *y, size_t y_stride, const void *w, size_t row_bytes,      \
                                  size_t rows, const void *x, size_t x_stride, size_t cols,        \
                                  size_t k)                                                        \
    {                                                                                              \
        matmul(id, y, y_stride, w, row_bytes, rows, x, x_stride, cols, k);                         \
    }

DP_MATMUL_FLOAT_TYPES(DEFINE, avx512)
