/* rows_avx2.h - 8 rows of quantized weights side by side: one row a lane.
 *
 * Room     The integer products keep a row in each 32-bit lane of a register. A file
 *          holds rows one after the other, so 16 bytes of 8 rows are turned round as
 *          4 registers of 8 dwords: lane r of register g holds bytes 4g..4g+3 of
 *          row r. One dword of activations is then broadcast to all lanes, and
 *          VPMADDUBSW and VPMADDWD leave each row's exact sum in its own lane: no
 *          sum is ever taken across lanes, and a column of 8 results is one store.
 *
 * Widths   VPMADDUBSW adds two u8 * s8 products in int16 and saturates. Weights are
 *          kept unsigned (their bias is taken off later by the sums of activations)
 *          and |x| <= 127, so 15 * 127 * 2 = 3810 can be added 8 times, 31 * 127 * 2
 *          4 times and 63 * 127 * 2 twice before the sum is widened.
 */
#ifndef DP_KERNEL_X86_ROWS_AVX2_H
#define DP_KERNEL_X86_ROWS_AVX2_H

#include <immintrin.h>
#include <string.h>

#include "base/base.h"
#include "kernel/kernel_impl.h"

enum {
    ROWS = 8,
    COLS = 32 /* at most this many columns per pass over the rows: they stay in L2 */
};

/* Where 8 rows begin. Past the last row the last one is repeated: computed, not stored. */
typedef struct rows8 {
    const uint8_t *at[ROWS];
    const uint8_t *next; /* the 8 rows after these, or these if they are the last */
} rows8;

static inline rows8 rows8_at(const void *w, size_t row_bytes, size_t row, size_t rows)
{
    rows8 r;

    for (size_t i = 0; i < ROWS; i++)
        r.at[i] = (const uint8_t *)w + DP_MIN(row + i, rows - 1) * row_bytes;
    r.next = (const uint8_t *)w + (row + 2 * ROWS <= rows ? row + ROWS : row) * row_bytes;
    return r;
}

/* Asks for the next 8 rows while these are computed, as many bytes as block b of these
 * takes. 8 short streams that start anew every few microseconds are more than the
 * hardware's own prefetch follows; the next rows are one stream, a few KiB ahead. */
static DP_ALWAYS_INLINE void prefetch_next_rows(const rows8 *rows, size_t b, size_t block_bytes)
{
    const uint8_t *from = rows->next + b * ROWS * block_bytes;

    for (size_t i = 0; i < ROWS * block_bytes; i += DP_CACHE_LINE)
        _mm_prefetch((const char *)(from + i), _MM_HINT_T1);
}

/* The views of `cols` packed columns. */
static inline void columns_get(dp_act_view *view, dp_act kind, const void *x, size_t x_stride,
                               size_t cols, size_t k)
{
    for (size_t c = 0; c < cols; c++)
        view[c] = dp_act_get(kind, (const uint8_t *)x + c * x_stride, k);
}

/* Stores the first `count` of 8 lanes, all from 8 up. */
static DP_ALWAYS_INLINE void store_rows(float *y, size_t count, __m256 value)
{
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    if (count >= ROWS)
        _mm256_storeu_ps(y, value);
    else
        _mm256_maskstore_ps(y, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), index), value);
}

/* out[g] lane r = bytes 4g..4g+3 of the 16 at `offset` of row r. */
static DP_ALWAYS_INLINE void load_rows_16(__m256i out[4], const rows8 *rows, size_t offset)
{
    __m256i a[4], low01, low23, high01, high23;

    /* Row i in the low half, row i + 4 in the high: the shuffles below stay in halves. */
    for (int i = 0; i < 4; i++) {
        __m128i low = _mm_loadu_si128((const __m128i *)(rows->at[i] + offset));
        __m128i high = _mm_loadu_si128((const __m128i *)(rows->at[i + 4] + offset));
        a[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    }
    low01 = _mm256_unpacklo_epi32(a[0], a[1]); /* dwords 0 and 1 of rows 0, 1 | 4, 5 */
    low23 = _mm256_unpacklo_epi32(a[2], a[3]);
    high01 = _mm256_unpackhi_epi32(a[0], a[1]); /* dwords 2 and 3 */
    high23 = _mm256_unpackhi_epi32(a[2], a[3]);
    out[0] = _mm256_unpacklo_epi64(low01, low23);
    out[1] = _mm256_unpackhi_epi64(low01, low23);
    out[2] = _mm256_unpacklo_epi64(high01, high23);
    out[3] = _mm256_unpackhi_epi64(high01, high23);
}

static DP_ALWAYS_INLINE int32_t load_dword(const void *p)
{
    int32_t x;

    memcpy(&x, p, sizeof x);
    return x;
}

static DP_ALWAYS_INLINE int16_t load_word(const void *p)
{
    int16_t x;

    memcpy(&x, p, sizeof x);
    return x;
}

/* Lane r = the dword at `offset` of row r. */
static DP_ALWAYS_INLINE __m256i load_rows_dword(const rows8 *rows, size_t offset)
{
    const uint8_t *const *at = rows->at;

    return _mm256_setr_epi32(load_dword(at[0] + offset), load_dword(at[1] + offset),
                             load_dword(at[2] + offset), load_dword(at[3] + offset),
                             load_dword(at[4] + offset), load_dword(at[5] + offset),
                             load_dword(at[6] + offset), load_dword(at[7] + offset));
}

/* Lane r = the f16 at `offset` of row r, widened. */
static DP_ALWAYS_INLINE __m256 load_rows_f16(const rows8 *rows, size_t offset)
{
    const uint8_t *const *at = rows->at;

    return _mm256_cvtph_ps(_mm_setr_epi16(load_word(at[0] + offset), load_word(at[1] + offset),
                                          load_word(at[2] + offset), load_word(at[3] + offset),
                                          load_word(at[4] + offset), load_word(at[5] + offset),
                                          load_word(at[6] + offset), load_word(at[7] + offset)));
}

/* The f16 in the low half of each lane, widened. */
static DP_ALWAYS_INLINE __m256 low_f16(__m256i v)
{
    v = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
    return _mm256_cvtph_ps(
        _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
}

static DP_ALWAYS_INLINE __m256 high_f16(__m256i v)
{
    return low_f16(_mm256_srli_epi32(v, 16));
}

/* Four activations, or two of their sums, in every lane. */
static DP_ALWAYS_INLINE __m256i broadcast_dword(const void *p)
{
    return _mm256_set1_epi32(load_dword(p));
}

/* Bits of each byte: (v >> shift) & mask, and the same to the left. The bits that a
 * dword's shift carries into a neighbouring byte fall to the mask. */
static DP_ALWAYS_INLINE __m256i right_and(__m256i v, int shift, int mask)
{
    return _mm256_and_si256(_mm256_srli_epi32(v, shift), _mm256_set1_epi8((char)mask));
}

static DP_ALWAYS_INLINE __m256i left_and(__m256i v, int shift, int mask)
{
    return _mm256_and_si256(_mm256_slli_epi32(v, shift), _mm256_set1_epi8((char)mask));
}

#endif
