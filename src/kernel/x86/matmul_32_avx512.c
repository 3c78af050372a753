/* matmul_32_avx512.c - products of Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 MXFP4
 * IQ4_NL, 16 rows at a time.
 *
 * As matmul_k_avx512.c, but each block has its own float scale, so the running
 * sums are floats in registers over all blocks of a row (few columns) or of a tile
 * of eight blocks (more).
 */
#include "kernel/x86/unpack_32_avx512.h"

#define TILE_BLOCKS 8 /* 8 x 640 bytes, beside 8 KiB of sums and the columns, fit L1 */

/* y after block b of the column x. */
static DP_ALWAYS_INLINE __m512 q32_finish(dp_dtype type, __m512 y, __m512i isum, __m512 d, __m512 m,
                                          const uint8_t *d_at, const uint8_t *sum_at)
{
    __m512 dx = broadcast_f32(d_at);

    y = _mm512_fmadd_ps(_mm512_mul_ps(d, dx), _mm512_cvtepi32_ps(isum), y);
    if (q32_has_min(type)) {
        __m512i xsum = dot2(_mm512_setzero_si512(), broadcast4(sum_at), _mm512_set1_epi16(1));
        y = _mm512_fmadd_ps(_mm512_mul_ps(m, dx), _mm512_cvtepi32_ps(xsum), y);
    }
    return y;
}

/* The bias times the sum of x: where each integer sum begins. */
static DP_ALWAYS_INLINE __m512i q32_begin(dp_dtype type, const uint8_t *sum_at)
{
    if (q32_bias(type) == 0)
        return _mm512_setzero_si512();
    return dot2(_mm512_setzero_si512(), broadcast4(sum_at),
                _mm512_set1_epi16((short)q32_bias(type)));
}

/* ---- few columns ---- */

/* A column's sum of block b; two chains, each half as long. */
static DP_ALWAYS_INLINE __m512 q32_add(dp_dtype type, __m512 y, const q32_block *block,
                                       const uint8_t *column, act_offsets at, size_t b)
{
    const uint8_t *q = column + b * DP_QK;
    const bool is_wide = q32_is_wide(type);
    __m512i even = q32_begin(type, column + at.sum + b * 4), odd = _mm512_setzero_si512();

#pragma GCC unroll 4
    for (size_t t = 0; t < 8; t += 2) {
        even = dot4(even, block->word[t], broadcast4(q + 4 * t), is_wide);
        odd = dot4(odd, block->word[t + 1], broadcast4(q + 4 * t + 4), is_wide);
    }
    return q32_finish(type, y, _mm512_add_epi32(even, odd), block->d, block->m,
                      column + at.d + b * 4, column + at.sum + b * 4);
}

static DP_ALWAYS_INLINE void q32_direct(dp_dtype type, const int cols, float *y, size_t y_stride,
                                        const rows16 *rows, size_t held, const uint8_t *x,
                                        size_t x_stride, act_offsets at, size_t blocks)
{
    const size_t bytes = block_bytes(type);
    __m512 total[DIRECT_COLS];
    q32_block block;

    for (int c = 0; c < cols; c++)
        total[c] = _mm512_setzero_ps();
    for (size_t b = 0; b < blocks; b++) {
        prefetch_next(rows, type, b, 0, 1);
        q32_get(type, &block, rows, b * bytes);
        for (int c = 0; c < cols; c++)
            total[c] = q32_add(type, total[c], &block, x + (size_t)c * x_stride, at, b);
    }
    for (int c = 0; c < cols; c++)
        store_rows(y + (size_t)c * y_stride, total[c], held);
}

/* ---- many columns ---- */

/* `cols` columns, a constant up to 8, against a tile of `blocks` blocks, the first
 * of which is block b. */
static DP_ALWAYS_INLINE void q32_group(dp_dtype type, const int cols, float (*total)[TILE_ROWS],
                                       const q32_block *tile, size_t blocks, const uint8_t *x,
                                       size_t x_stride, act_offsets at, size_t b)
{
    __m512 sum[GROUP_COLS];
    __m512i a[GROUP_COLS];

#pragma GCC unroll 8
    for (int c = 0; c < cols; c++)
        sum[c] = _mm512_load_ps(total[c]);
    for (const q32_block *end = tile + blocks; tile < end; tile++, b++) {
        const uint8_t *q = x + b * DP_QK;
        const uint8_t *d_at = x + at.d + b * 4, *sum_at = x + at.sum + b * 4;

#pragma GCC unroll 8
        for (int c = 0; c < cols; c++)
            a[c] = q32_begin(type, sum_at + (size_t)c * x_stride);
#pragma GCC unroll 8
        for (size_t t = 0; t < 8; t++) {
            __m512i word = tile->word[t];
#pragma GCC unroll 8
            for (int c = 0; c < cols; c++)
                a[c] = dot4(a[c], word, broadcast4(q + (size_t)c * x_stride + 4 * t),
                            q32_is_wide(type));
        }
#pragma GCC unroll 8
        for (int c = 0; c < cols; c++)
            sum[c] = q32_finish(type, sum[c], a[c], tile->d, tile->m, d_at + (size_t)c * x_stride,
                                sum_at + (size_t)c * x_stride);
    }
#pragma GCC unroll 8
    for (int c = 0; c < cols; c++)
        _mm512_store_ps(total[c], sum[c]);
}

static DP_ALWAYS_INLINE void q32_tiled(dp_dtype type, float *y, size_t y_stride, const rows16 *rows,
                                       size_t held, const uint8_t *x, size_t x_stride, size_t cols,
                                       act_offsets at, size_t blocks)
{
    float total[TILE_COLS][TILE_ROWS] __attribute__((aligned(64)));
    q32_block tile[TILE_BLOCKS];
    size_t c, n;

    memset(total, 0, cols * sizeof total[0]);
    for (size_t b = 0; b < blocks; b += n) {
        n = DP_MIN(blocks - b, (size_t)TILE_BLOCKS);
        for (size_t i = 0; i < n; i++)
            q32_get(type, &tile[i], rows, (b + i) * block_bytes(type));
        for (c = 0; c + 8 <= cols; c += 8)
            q32_group(type, 8, total + c, tile, n, x + c * x_stride, x_stride, at, b);
        if (cols & 4) {
            q32_group(type, 4, total + c, tile, n, x + c * x_stride, x_stride, at, b);
            c += 4;
        }
        if (cols & 2) {
            q32_group(type, 2, total + c, tile, n, x + c * x_stride, x_stride, at, b);
            c += 2;
        }
        if (cols & 1)
            q32_group(type, 1, total + c, tile, n, x + c * x_stride, x_stride, at, b);
    }
    for (c = 0; c < cols; c++)
        store_rows(y + c * y_stride, _mm512_load_ps(total[c]), held);
}

static DP_ALWAYS_INLINE void matmul_32(dp_dtype type, float *y, size_t y_stride, const void *w,
                                       size_t row_bytes, size_t row_count, const void *x,
                                       size_t x_stride, size_t cols, size_t k)
{
    act_offsets at = act_offsets_of(DP_ACT_Q8_32, k);
    const size_t blocks = k / DP_QK;
    rows16 rows;
    size_t begin, held;

    for (size_t r = 0; r < row_count; r = begin + held) {
        held = rows16_init(&rows, &begin, w, row_bytes, row_count, r);
        if (cols == 1)
            q32_direct(type, 1, y + begin, y_stride, &rows, held, x, x_stride, at, blocks);
        else if (cols == 2)
            q32_direct(type, 2, y + begin, y_stride, &rows, held, x, x_stride, at, blocks);
        else if (cols == 3)
            q32_direct(type, 3, y + begin, y_stride, &rows, held, x, x_stride, at, blocks);
        else
            for (size_t c = 0; c < cols; c += TILE_COLS)
                q32_tiled(type, y + c * y_stride + begin, y_stride, &rows, held,
                          (const uint8_t *)x + c * x_stride, x_stride,
                          DP_MIN(cols - c, (size_t)TILE_COLS), at, blocks);
    }
}

#define DEFINE(type, id)                                                                           \
    void PRODUCT(type)(float *y, size_t y_stride, const void *w, size_t row_bytes, size_t rows,    \
                       const void *x, size_t x_stride, size_t cols, size_t k)                      \
    {                                                                                              \
        matmul_32(id, y, y_stride, w, row_bytes, rows, x, x_stride, cols, k);                      \
    }

DEFINE(q4_0, DP_Q4_0)
DEFINE(q4_1, DP_Q4_1)
DEFINE(q5_0, DP_Q5_0)
DEFINE(q5_1, DP_Q5_1)
DEFINE(q8_0, DP_Q8_0)
DEFINE(mxfp4, DP_MXFP4)
DEFINE(iq4_nl, DP_IQ4_NL)
