/* rows_avx512.h - sixteen rows of weights at once, one row a lane.
 *
 * Room     The products of quantized types all work on a tile of 16 rows. Bytes
 *          are turned so that 32-bit lane r of a register holds four neighbouring
 *          weights of row r; then one activation word of four bytes, broadcast,
 *          meets all rows in one VPDPBUSD, scales multiply lane by lane, and no
 *          sum ever crosses lanes. The turning is paid once a tile: by one
 *          column when decoding, by up to 128 when not.
 *
 *          Compiled without and with VNNI, the IQ and TQ types also with VBMI (names
 *          in PRODUCT).
 */
#ifndef DP_KERNEL_X86_ROWS_AVX512_H
#define DP_KERNEL_X86_ROWS_AVX512_H

#include <immintrin.h>
#include <string.h>
#include "kernel/kernel_impl.h"

#ifdef __AVX512VBMI__
#define PRODUCT(type) dp_matmul_avx512vbmi_##type
#elif defined __AVX512VNNI__
#define PRODUCT(type) dp_matmul_avx512vnni_##type
#else
#define PRODUCT(type) dp_matmul_avx512_##type
#endif

#define TILE_ROWS   16
#define TILE_COLS   128 /* columns whose running sums stay in L1: 8 KiB */
#define GROUP_COLS  8   /* columns in registers: 8 chains hide the latency of 4 */
#define DIRECT_COLS 3   /* up to here unpacked weights go from register to product */

/* A constant wherever the type is one. */
static DP_ALWAYS_INLINE size_t block_bytes(dp_dtype type)
{
    switch (type) {
    case DP_Q4_0:
        return sizeof(dp_block_q4_0);
    case DP_Q4_1:
        return sizeof(dp_block_q4_1);
    case DP_Q5_0:
        return sizeof(dp_block_q5_0);
    case DP_Q5_1:
        return sizeof(dp_block_q5_1);
    case DP_Q8_0:
        return sizeof(dp_block_q8_0);
    case DP_MXFP4:
        return sizeof(dp_block_mxfp4);
    case DP_Q2_K:
        return sizeof(dp_block_q2_k);
    case DP_Q3_K:
        return sizeof(dp_block_q3_k);
    case DP_Q4_K:
        return sizeof(dp_block_q4_k);
    case DP_Q5_K:
        return sizeof(dp_block_q5_k);
    case DP_IQ1_S:
        return sizeof(dp_block_iq1_s);
    case DP_IQ1_M:
        return sizeof(dp_block_iq1_m);
    case DP_IQ2_XXS:
        return sizeof(dp_block_iq2_xxs);
    case DP_IQ2_XS:
        return sizeof(dp_block_iq2_xs);
    case DP_IQ2_S:
        return sizeof(dp_block_iq2_s);
    case DP_IQ3_XXS:
        return sizeof(dp_block_iq3_xxs);
    case DP_IQ3_S:
        return sizeof(dp_block_iq3_s);
    case DP_IQ4_NL:
        return sizeof(dp_block_iq4_nl);
    case DP_IQ4_XS:
        return sizeof(dp_block_iq4_xs);
    case DP_TQ1_0:
        return sizeof(dp_block_tq1_0);
    case DP_TQ2_0:
        return sizeof(dp_block_tq2_0);
    default:
        return sizeof(dp_block_q6_k);
    }
}

/* ---- where the rows are ---- */

/* Row 4i + j begins at at[j] + i * step. When fewer than 16 rows are left step is
 * 0 and the tile holds rows j < 4 only, four times over. */
typedef struct rows16 {
    const uint8_t *at[4];
    size_t step;
    const uint8_t *next; /* where the following tile begins, to prefetch */
} rows16;

/* The tile that covers row `first` and as many after it as it can; the last tile
 * of many moves back and computes some rows again. Returns the rows it holds,
 * beginning at *begin. */
static inline size_t rows16_init(rows16 *rows, size_t *begin, const void *w, size_t row_bytes,
                                 size_t row_count, size_t first)
{
    size_t held = row_count >= TILE_ROWS ? TILE_ROWS : DP_MIN(row_count, (size_t)4);

    *begin = DP_MIN(first, row_count - held);
    for (size_t j = 0; j < 4; j++)
        rows->at[j] = (const uint8_t *)w + (*begin + DP_MIN(j, held - 1)) * row_bytes;
    rows->step = held == TILE_ROWS ? 4 * row_bytes : 0;
    rows->next = (const uint8_t *)w + (*begin + held) * row_bytes;
    return held;
}

static DP_ALWAYS_INLINE const uint8_t *row_at(const rows16 *rows, size_t r)
{
    return rows->at[r % 4] + r / 4 * rows->step;
}

/* ---- turning ---- */

static DP_ALWAYS_INLINE __m128i load16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* 16 bytes at p and 16 at q. */
static DP_ALWAYS_INLINE __m256i load16x2(const uint8_t *p, const uint8_t *q)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load16(p)), load16(q), 1);
}

/* 128-bit lane i: 16 bytes of row 4i + j. By halves: inserts from memory into half a
 * register go three a cycle on Zen 4, into a whole one one a cycle. */
static DP_ALWAYS_INLINE __m512i every_fourth(const rows16 *rows, size_t j, size_t offset)
{
    const uint8_t *p = rows->at[j] + offset;
    __m256i low = load16x2(p, p + rows->step);
    __m256i high = load16x2(p + 2 * rows->step, p + 3 * rows->step);

    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* out[n], lane r: bytes offset + 4n ... + 3 of row r. A 4x4 transpose of words
 * inside each 128-bit lane; the loads have already spread the rows over lanes. */
static DP_ALWAYS_INLINE void turn16(__m512i out[4], const rows16 *rows, size_t offset)
{
    __m512i v0 = every_fourth(rows, 0, offset), v1 = every_fourth(rows, 1, offset);
    __m512i v2 = every_fourth(rows, 2, offset), v3 = every_fourth(rows, 3, offset);
    __m512i low01 = _mm512_unpacklo_epi32(v0, v1), high01 = _mm512_unpackhi_epi32(v0, v1);
    __m512i low23 = _mm512_unpacklo_epi32(v2, v3), high23 = _mm512_unpackhi_epi32(v2, v3);

    out[0] = _mm512_unpacklo_epi64(low01, low23);
    out[1] = _mm512_unpackhi_epi64(low01, low23);
    out[2] = _mm512_unpacklo_epi64(high01, high23);
    out[3] = _mm512_unpackhi_epi64(high01, high23);
}

/* Element r: the byte (2, 4 bytes) at `offset` of row r. By inserts: sixteen stores
 * and one load, which waits until they have reached L1, lost a tenth on Q4_0;
 * storing the scales of eight blocks ahead of their use still lost 8 %. */
static DP_ALWAYS_INLINE __m128i gather_u8(const rows16 *rows, size_t offset)
{
    __m128i low = _mm_setzero_si128(), high = low;

#define INSERT(r)                                                                                  \
    low = _mm_insert_epi8(low, (char)row_at(rows, r)[offset], r);                                  \
    high = _mm_insert_epi8(high, (char)row_at(rows, r + 8)[offset], r + 8);
    INSERT(0)
    INSERT(1)
    INSERT(2)
    INSERT(3)
    INSERT(4)
    INSERT(5)
    INSERT(6)
    INSERT(7)
#undef INSERT
    return _mm_or_si128(low, high);
}

static DP_ALWAYS_INLINE short load_i16(const uint8_t *p)
{
    int16_t v;

    memcpy(&v, p, 2);
    return v;
}

static DP_ALWAYS_INLINE __m512 gather_f16(const rows16 *rows, size_t offset)
{
    __m128i low = _mm_setzero_si128(), high = low;

#define INSERT(r)                                                                                  \
    low = _mm_insert_epi16(low, load_i16(row_at(rows, r) + offset), r);                            \
    high = _mm_insert_epi16(high, load_i16(row_at(rows, r + 8) + offset), r);
    INSERT(0)
    INSERT(1)
    INSERT(2)
    INSERT(3)
    INSERT(4)
    INSERT(5)
    INSERT(6)
    INSERT(7)
#undef INSERT
    return _mm512_cvtph_ps(_mm256_set_m128i(high, low));
}

static DP_ALWAYS_INLINE __m512i gather_u32(const rows16 *rows, size_t offset)
{
    __m128i quarter[4];

#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        int32_t word[4];

        for (size_t j = 0; j < 4; j++)
            memcpy(&word[j], row_at(rows, 4 * i + j) + offset, 4);
        quarter[i] = _mm_setr_epi32(word[0], word[1], word[2], word[3]);
    }
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_set_m128i(quarter[1], quarter[0])),
                              _mm256_set_m128i(quarter[3], quarter[2]), 1);
}

/* The low (high) f16 of each lane. */
static DP_ALWAYS_INLINE __m512 low_f16(__m512i v)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
}

static DP_ALWAYS_INLINE __m512 high_f16(__m512i v)
{
    return low_f16(_mm512_srli_epi32(v, 16));
}

/* Part `part` of `parts` of block b's share in the next tile's rows, to L2: they lie
 * in one run, which is kinder to memory than sixteen. Past the end of a map it is
 * harmless. On Zen 4, prefetching to L1 lost 60 % of the speed, as the lines wait in
 * its few miss buffers; unrolled, the compiler gathers the lines of all parts in one
 * place and Q6_K loses half. */
static DP_ALWAYS_INLINE void prefetch_next(const rows16 *rows, dp_dtype type, size_t b, size_t part,
                                           size_t parts)
{
    const size_t bytes = block_bytes(type) * TILE_ROWS;
    const char *next = (const char *)rows->next + b * bytes;

#pragma GCC unroll 1
    for (size_t i = part * 64; i < bytes; i += parts * 64)
        _mm_prefetch(next + i, _MM_HINT_T1);
}

/* ---- integer steps, exact ---- */

/* acc + the four products u8 * s8 of each lane. VPMADDUBSW saturates at 16 bits:
 * two products fit while u <= 128, and `is_wide` splits off the top bit of u. */
static DP_ALWAYS_INLINE __m512i dot4(__m512i acc, __m512i u, __m512i x, bool is_wide)
{
#ifdef __AVX512VNNI__
    (void)is_wide;
    return _mm512_dpbusd_epi32(acc, u, x);
#else
    const __m512i one = _mm512_set1_epi16(1), low = _mm512_set1_epi8(0x7f);
    __m512i pairs;

    if (is_wide) {
        pairs = _mm512_maddubs_epi16(_mm512_andnot_si512(low, u), x);
        acc = _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, one));
        u = _mm512_and_si512(u, low);
    }
    pairs = _mm512_maddubs_epi16(u, x);
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, one));
#endif
}

/* acc + the two products s16 * s16 of each lane. */
static DP_ALWAYS_INLINE __m512i dot2(__m512i acc, __m512i a, __m512i b)
{
#ifdef __AVX512VNNI__
    return _mm512_dpwssd_epi32(acc, a, b);
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
#endif
}

/* Four bytes of an activation, in every lane. */
static DP_ALWAYS_INLINE __m512i broadcast4(const uint8_t *p)
{
    int32_t word;

    memcpy(&word, p, 4);
    return _mm512_set1_epi32(word);
}

static DP_ALWAYS_INLINE __m512 broadcast_f32(const uint8_t *p)
{
    float x;

    memcpy(&x, p, 4);
    return _mm512_set1_ps(x);
}

/* ---- columns ---- */

/* Offsets of the parts of a packed column from its beginning. */
typedef struct act_offsets {
    size_t d, sum;
} act_offsets;

static inline act_offsets act_offsets_of(dp_act kind, size_t k)
{
    const uint8_t base[1] = { 0 };
    dp_act_view view = dp_act_get(kind, base, k);

    return (act_offsets){ (size_t)((uintptr_t)view.d - (uintptr_t)base),
                          (size_t)((uintptr_t)view.sum - (uintptr_t)base) };
}

static DP_ALWAYS_INLINE void store_rows(float *y, __m512 v, size_t held)
{
    _mm512_mask_storeu_ps(y, (__mmask16)((1u << held) - 1), v);
}

#endif
