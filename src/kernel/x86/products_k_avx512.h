/* products_k_avx512.h - products of super-blocks of 256, 16 rows at a time.
 *
 * Room     Few columns: each sub-block's words go from registers to the product. More: a
 *          super-block of the tile is unpacked to L1 once, then every column meets it,
 *          eight columns in registers. Both add the same integers, so they give the same
 *          bits.
 *
 *          The file that includes this has included how its types are unpacked
 *          (unpack_k_avx512.h or unpack_iq_avx512.h): k_begin, k_load, k_words and the
 *          facts k_has_min, k_has_wide_scales, k_is_wide, k_bias, k_part_subs.
 */
#ifndef DP_KERNEL_X86_PRODUCTS_K_AVX512_H
#define DP_KERNEL_X86_PRODUCTS_K_AVX512_H

#include "kernel/x86/super_avx512.h"

/* y after one super-block: isum with biases on; msum mins, or scales, times sums of x. */
static DP_ALWAYS_INLINE __m512 k_finish(dp_dtype type, __m512 y, __m512i isum, __m512i msum,
                                        __m512 d, __m512 dmin, const uint8_t *dx_at)
{
    __m512 dx = broadcast_f32(dx_at);

    if (!k_has_min(type))
        isum = _mm512_sub_epi32(isum, _mm512_mullo_epi32(msum, _mm512_set1_epi32(k_bias(type))));
    y = _mm512_fmadd_ps(_mm512_mul_ps(d, dx), _mm512_cvtepi32_ps(isum), y);
    if (k_has_min(type))
        y = _mm512_fnmadd_ps(_mm512_mul_ps(dmin, dx), _mm512_cvtepi32_ps(msum), y);
    return y;
}

/* Adds sub-block s of column x (its q at q, its sums at sum) to isum and msum. */
static DP_ALWAYS_INLINE void k_sub(dp_dtype type, __m512i *isum, __m512i *msum,
                                   const __m512i word[8], const k_head *h, int s, const uint8_t *q,
                                   const uint8_t *sum)
{
    __m512i a = _mm512_setzero_si512(), b = a; /* two chains, each half as long */

#pragma GCC unroll 4
    for (int t = 0; t < 4; t++) {
        a = dot4(a, word[t], broadcast4(q + 4 * t), k_is_wide(type));
        b = dot4(b, word[t + 4], broadcast4(q + 4 * t + 16), k_is_wide(type));
    }
    if (k_has_wide_scales(type)) {
        a = _mm512_mullo_epi32(_mm512_add_epi32(a, b), h->scale[s]);
    } else {
        a = _mm512_mullo_epi32(a, h->scale[2 * s]);
        b = _mm512_mullo_epi32(b, h->scale[2 * s + 1]);
        a = _mm512_add_epi32(a, b);
    }
    *isum = _mm512_add_epi32(*isum, a);
    *msum = dot2(*msum, h->pair[s], broadcast4(sum));
}

/* ---- few columns ---- */

static DP_ALWAYS_INLINE void k_direct(dp_dtype type, const int cols, float *y, size_t y_stride,
                                      const rows16 *rows, size_t held, const uint8_t *x,
                                      size_t x_stride, act_offsets at, size_t blocks)
{
    const size_t bytes = block_bytes(type);
    __m512 total[DIRECT_COLS];

    for (int c = 0; c < cols; c++)
        total[c] = _mm512_setzero_ps();
    for (size_t b = 0; b < blocks; b++) {
        __m512i isum[DIRECT_COLS], msum[DIRECT_COLS], word[8];
        k_head h;
        k_raw raw;

        k_begin(type, &h, &raw, rows, b * bytes);
        for (int c = 0; c < cols; c++)
            isum[c] = msum[c] = _mm512_setzero_si512();
#pragma GCC unroll 8
        for (int s = 0; s < 8; s++) {
            if (s % k_part_subs(type) == 0)
                k_load(type, &raw, rows, b * bytes, s);
            k_words(type, word, &raw, s);
            prefetch_next(rows, type, b, (size_t)s, 8);
            for (int c = 0; c < cols; c++) {
                const uint8_t *column = x + (size_t)c * x_stride;

                k_sub(type, &isum[c], &msum[c], word, &h, s, column + b * DP_QK_K + s * 32,
                      column + at.sum + b * 32 + s * 4);
            }
        }
        for (int c = 0; c < cols; c++)
            total[c] = k_finish(type, total[c], isum[c], msum[c], h.d, h.dmin,
                                x + (size_t)c * x_stride + at.d + b * 4);
    }
    for (int c = 0; c < cols; c++)
        store_rows(y + (size_t)c * y_stride, total[c], held);
}

/* ---- many columns ---- */

typedef struct k_tile {
    __m512i word[64];
    k_head head;
} k_tile;

static DP_ALWAYS_INLINE void k_unpack(dp_dtype type, k_tile *tile, const rows16 *rows,
                                      size_t offset)
{
    k_raw raw;

    k_begin(type, &tile->head, &raw, rows, offset);
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        if (s % k_part_subs(type) == 0)
            k_load(type, &raw, rows, offset, s);
        k_words(type, tile->word + s * 8, &raw, s);
    }
}

/* `cols` columns, a constant up to 8, against the tile's super-block b. */
static DP_ALWAYS_INLINE void k_group(dp_dtype type, const int cols, float (*total)[TILE_ROWS],
                                     const k_tile *tile, const uint8_t *x, size_t x_stride,
                                     act_offsets at, size_t b)
{
    __m512i isum[GROUP_COLS], msum[GROUP_COLS], a[GROUP_COLS];
    const int segs = k_has_wide_scales(type) ? 1 : 2, words = 8 / segs;

#pragma GCC unroll 8
    for (int c = 0; c < cols; c++)
        isum[c] = msum[c] = _mm512_setzero_si512();
    for (size_t s = 0; s < 8; s++) {
        const uint8_t *q = x + b * DP_QK_K + s * 32;
        const uint8_t *sum = x + at.sum + b * 32 + s * 4;

#pragma GCC unroll 2
        for (int g = 0; g < segs; g++) {
#pragma GCC unroll 8
            for (int c = 0; c < cols; c++)
                a[c] = _mm512_setzero_si512();
#pragma GCC unroll 8
            for (int t = g * words; t < (g + 1) * words; t++) {
                __m512i word = tile->word[s * 8 + (size_t)t];
#pragma GCC unroll 8
                for (int c = 0; c < cols; c++)
                    a[c] = dot4(a[c], word, broadcast4(q + (size_t)c * x_stride + 4 * t),
                                k_is_wide(type));
            }
#pragma GCC unroll 8
            for (int c = 0; c < cols; c++)
                isum[c] = _mm512_add_epi32(
                    isum[c],
                    _mm512_mullo_epi32(a[c], tile->head.scale[s * (size_t)segs + (size_t)g]));
        }
#pragma GCC unroll 8
        for (int c = 0; c < cols; c++)
            msum[c] = dot2(msum[c], tile->head.pair[s], broadcast4(sum + (size_t)c * x_stride));
    }
#pragma GCC unroll 8
    for (int c = 0; c < cols; c++)
        _mm512_store_ps(total[c],
                        k_finish(type, _mm512_load_ps(total[c]), isum[c], msum[c], tile->head.d,
                                 tile->head.dmin, x + (size_t)c * x_stride + at.d + b * 4));
}

static DP_ALWAYS_INLINE void k_tiled(dp_dtype type, float *y, size_t y_stride, const rows16 *rows,
                                     size_t held, const uint8_t *x, size_t x_stride, size_t cols,
                                     act_offsets at, size_t blocks)
{
    const size_t bytes = block_bytes(type);
    float total[TILE_COLS][TILE_ROWS] __attribute__((aligned(64)));
    k_tile tile;
    size_t c;

    memset(total, 0, cols * sizeof total[0]);
    for (size_t b = 0; b < blocks; b++) {
        k_unpack(type, &tile, rows, b * bytes);
        for (c = 0; c + 8 <= cols; c += 8)
            k_group(type, 8, total + c, &tile, x + c * x_stride, x_stride, at, b);
        if (cols & 4) {
            k_group(type, 4, total + c, &tile, x + c * x_stride, x_stride, at, b);
            c += 4;
        }
        if (cols & 2) {
            k_group(type, 2, total + c, &tile, x + c * x_stride, x_stride, at, b);
            c += 2;
        }
        if (cols & 1)
            k_group(type, 1, total + c, &tile, x + c * x_stride, x_stride, at, b);
    }
    for (c = 0; c < cols; c++)
        store_rows(y + c * y_stride, _mm512_load_ps(total[c]), held);
}

static DP_ALWAYS_INLINE void matmul_k(dp_dtype type, float *y, size_t y_stride, const void *w,
                                      size_t row_bytes, size_t row_count, const void *x,
                                      size_t x_stride, size_t cols, size_t k)
{
    act_offsets at = act_offsets_of(DP_ACT_Q8_256, k);
    const size_t blocks = k / DP_QK_K;
    rows16 rows;
    size_t begin, held;

    for (size_t r = 0; r < row_count; r = begin + held) {
        held = rows16_init(&rows, &begin, w, row_bytes, row_count, r);
        if (cols == 1)
            k_direct(type, 1, y + begin, y_stride, &rows, held, x, x_stride, at, blocks);
        else if (cols == 2)
            k_direct(type, 2, y + begin, y_stride, &rows, held, x, x_stride, at, blocks);
        else if (cols == 3)
            k_direct(type, 3, y + begin, y_stride, &rows, held, x, x_stride, at, blocks);
        else
            for (size_t c = 0; c < cols; c += TILE_COLS)
                k_tiled(type, y + c * y_stride + begin, y_stride, &rows, held,
                        (const uint8_t *)x + c * x_stride, x_stride,
                        DP_MIN(cols - c, (size_t)TILE_COLS), at, blocks);
    }
}

#define DEFINE_SUPER(type, id)                                                                     \
    void PRODUCT(type)(float *y, size_t y_stride, const void *w, size_t row_bytes, size_t rows,    \
                       const void *x, size_t x_stride, size_t cols, size_t k)                      \
    {                                                                                              \
        matmul_k(id, y, y_stride, w, row_bytes, rows, x, x_stride, cols, k);                       \
    }

#endif
