/* super_avx2.h - products of super-blocks of 256 with integer scales, 8 rows at a time.
 *
 * Room     A row in each lane (rows_avx2.h). A super-block of 8 rows is unpacked to a
 *          tile of 64 + 16 + 8 registers on the stack, which lives in L1 and meets all
 *          columns of the pass, 4 at once: each register of weights loaded serves 4
 *          columns, and only the activations are loaded anew. How a type is unpacked
 *          is its file's matter (matmul_k_avx2.c, matmul_iq_avx2.c).
 */
#ifndef DP_KERNEL_X86_SUPER_AVX2_H
#define DP_KERNEL_X86_SUPER_AVX2_H

#include "kernel/x86/rows_avx2.h"

enum { AT_ONCE = 4 };

typedef struct tile256 {
    __m256i w[64];     /* lane r of w[g]: elements 4g..4g+3 of row r, plus the type's bias */
    __m256i scale[16]; /* lane r: the scale twice, as int16, to multiply pairs of sums */
    __m256i pair[8];   /* lane r of pair[i]: int16 factors of the activation sums 2i, 2i + 1 */
    __m256 d, m;
} tile256;

/* What is known of a type when its function is compiled. */
typedef struct traits256 {
    void (*unpack)(tile256 *t, const rows8 *rows, size_t at);
    size_t block_bytes;
    int scale_groups; /* registers of w that share a scale */
    int sum_groups;   /* of these, how many products int16 can hold; 0: one, w is signed */
    int bias;         /* what was added to w, whose sums pair[] weighs with scales */
    bool has_min;     /* pair[] holds mins */
} traits256;

/* Byte i of each lane, sign-extended, in both halves of the lane. */
static DP_ALWAYS_INLINE __m256i byte_twice(__m256i v, int i)
{
    __m256i order = _mm256_setr_epi8(-1, 0, -1, 0, -1, 4, -1, 4, -1, 8, -1, 8, -1, 12, -1, 12, -1,
                                     0, -1, 0, -1, 4, -1, 4, -1, 8, -1, 8, -1, 12, -1, 12);

    order = _mm256_add_epi8(order, _mm256_set1_epi16((short)(i << 8)));
    return _mm256_srai_epi16(_mm256_shuffle_epi8(v, order), 8);
}

/* Bytes 2i and 2i + 1 of each lane, sign-extended, in its two halves. */
static DP_ALWAYS_INLINE __m256i byte_pair(__m256i v, int i)
{
    __m256i order = _mm256_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1,
                                     0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);

    order = _mm256_add_epi8(order, _mm256_set1_epi16((short)(2 * i << 8)));
    return _mm256_srai_epi16(_mm256_shuffle_epi8(v, order), 8);
}

/* Four scales, or mins of twice 16 elements: lane r holds those of row r as bytes. */
static DP_ALWAYS_INLINE void spread_bytes(__m256i out[4], __m256i bytes)
{
    for (int i = 0; i < 4; i++)
        out[i] = byte_twice(bytes, i);
}

static DP_ALWAYS_INLINE void spread_pairs(__m256i out[2], __m256i bytes)
{
    out[0] = byte_pair(bytes, 0);
    out[1] = byte_pair(bytes, 1);
}

/* Two bits each: 32 bytes hold 128 elements, the lowest two bits the first 32. */
static DP_ALWAYS_INLINE void unpack_twos(tile256 *t, const rows8 *rows, size_t at)
{
    for (size_t i = 0; i < 4; i++) { /* half i / 2, its first or second 16 of each 32 */
        __m256i packed[4];
        __m256i *w = t->w + i / 2 * 32 + i % 2 * 4;

        load_rows_16(packed, rows, at + 16 * i);
        for (int g = 0; g < 4; g++) {
            for (int j = 0; j < 4; j++)
                w[8 * j + g] = right_and(packed[g], 2 * j, 3);
        }
    }
}

/* isum[c] += the sums of one scale's weights times column c, times the scale. x[c] is
 * where the scale's activations begin. */
static DP_ALWAYS_INLINE void add_scale(__m256i *isum, const __m256i *w, __m256i scale,
                                       const int8_t *const *x, int cols, traits256 t)
{
    const int step = t.sum_groups ? t.sum_groups : 1;

    for (int first = 0; first < t.scale_groups; first += step) {
        __m256i part[AT_ONCE];

        for (int g = first; g < first + step; g++) {
            for (int c = 0; c < cols; c++) {
                __m256i at = broadcast_dword(x[c] + 4 * g);
                __m256i product = t.sum_groups ? _mm256_maddubs_epi16(w[g], at)
                                               : _mm256_maddubs_epi16(_mm256_abs_epi8(w[g]),
                                                                      _mm256_sign_epi8(at, w[g]));
                part[c] = g == first ? product : _mm256_add_epi16(part[c], product);
            }
        }
        for (int c = 0; c < cols; c++)
            isum[c] = _mm256_add_epi32(isum[c], _mm256_madd_epi16(part[c], scale));
    }
}

/* y[c] after super-block b, for 1 or AT_ONCE columns. */
static DP_ALWAYS_INLINE void add_block(__m256 *y, const tile256 *w, const dp_act_view *x, size_t b,
                                       int cols, traits256 t)
{
    __m256i isum[AT_ONCE], extra[AT_ONCE];
    const int8_t *q[AT_ONCE];

    for (int c = 0; c < cols; c++) {
        isum[c] = extra[c] = _mm256_setzero_si256();
        q[c] = x[c].q + b * DP_QK_K;
    }
    for (int s = 0; s < 64 / t.scale_groups; s++) {
        add_scale(isum, w->w + s * t.scale_groups, w->scale[s], q, cols, t);
        for (int c = 0; c < cols; c++)
            q[c] += 4 * t.scale_groups;
    }
    /* Sums of activations times mins; or times scales, for the bias. */
    for (int i = 0; (t.bias || t.has_min) && i < 8; i++) {
        for (int c = 0; c < cols; c++) {
            __m256i xsum = broadcast_dword(x[c].sum + b * 16 + 2 * i);
            extra[c] = _mm256_add_epi32(extra[c], _mm256_madd_epi16(w->pair[i], xsum));
        }
    }
    for (int c = 0; c < cols; c++) {
        __m256 dx = _mm256_set1_ps(x[c].d[b]);

        if (t.bias)
            isum[c] =
                _mm256_sub_epi32(isum[c], _mm256_mullo_epi32(extra[c], _mm256_set1_epi32(t.bias)));
        y[c] = _mm256_fmadd_ps(_mm256_mul_ps(w->d, dx), _mm256_cvtepi32_ps(isum[c]), y[c]);
        if (t.has_min)
            y[c] = _mm256_fnmadd_ps(_mm256_mul_ps(w->m, dx), _mm256_cvtepi32_ps(extra[c]), y[c]);
    }
}

/* 8 rows, of which `rows` are stored, against `cols` columns. */
static DP_ALWAYS_INLINE void times_columns(float *y, size_t y_stride, const rows8 *w, size_t rows,
                                           const dp_act_view *x, size_t cols, size_t k, traits256 t)
{
    __m256 sum[COLS];
    tile256 tile;

    for (size_t c = 0; c < cols; c++)
        sum[c] = _mm256_setzero_ps();
    for (size_t b = 0; b < k / DP_QK_K; b++) {
        size_t c = 0;

        prefetch_next_rows(w, b, t.block_bytes);
        t.unpack(&tile, w, b * t.block_bytes);
        for (; c + AT_ONCE <= cols; c += AT_ONCE)
            add_block(sum + c, &tile, x + c, b, AT_ONCE, t);
        for (; c < cols; c++)
            add_block(sum + c, &tile, x + c, b, 1, t);
    }
    for (size_t c = 0; c < cols; c++)
        store_rows(y + c * y_stride, rows, sum[c]);
}

static DP_ALWAYS_INLINE void matmul(float *y, size_t y_stride, const void *w, size_t row_bytes,
                                    size_t rows, const void *x, size_t x_stride, size_t cols,
                                    size_t k, traits256 t)
{
    dp_act_view view[COLS];

    for (size_t c = 0; c < cols; c += COLS) {
        size_t count = DP_MIN(cols - c, COLS);
        float *at = y + c * y_stride;

        columns_get(view, DP_ACT_Q8_256, (const uint8_t *)x + c * x_stride, x_stride, count, k);
        for (size_t r = 0; r < rows; r += ROWS) {
            rows8 w8 = rows8_at(w, row_bytes, r, rows);

            times_columns(at + r, y_stride, &w8, rows - r, view, count, k, t);
        }
    }
}

/* The product of a type: unpack_<name>, dp_block_<name>. */
#define DEFINE_SUPER(name, scale_groups, sum_groups, bias, has_min)                                \
    void dp_matmul_avx2_##name(float *y, size_t y_stride, const void *w, size_t row_bytes,         \
                               size_t rows, const void *x, size_t x_stride, size_t cols, size_t k) \
    {                                                                                              \
        traits256 t = { unpack_##name, sizeof(dp_block_##name), scale_groups, sum_groups, bias,    \
                        has_min };                                                                 \
        matmul(y, y_stride, w, row_bytes, rows, x, x_stride, cols, k, t);                          \
    }

#endif
