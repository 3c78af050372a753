/* matmul_k_avx2.c - products of the K types: super-blocks of 256 with integer scales.
 *
 * 8 rows at a time, a row in each lane (rows_avx2.h). A super-block of 8 rows is
 * unpacked to a tile of 64 + 16 + 8 registers on the stack, which lives in L1 and
 * meets all columns of the pass, 4 at once: each register of weights loaded serves 4
 * columns, and only the activations are loaded anew. */
#include "kernel/kernel_impl.h"
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
    dp_dtype type;
    size_t block_bytes;
    int scale_groups; /* registers of w that share a scale */
    int sum_groups;   /* of these, how many products int16 can hold */
    int bias_shift;   /* the bias of w is 1 << this; 0: none, and pair[] holds mins */
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

/* The head of Q4_K and Q5_K: d, dmin, then eight scales and mins of 6 bits. */
static DP_ALWAYS_INLINE void unpack_head_45(tile256 *t, const rows8 *rows, size_t at)
{
    __m256i head[4];

    load_rows_16(head, rows, at);
    t->d = low_f16(head[0]);
    t->m = high_f16(head[0]);
    spread_bytes(t->scale, right_and(head[1], 0, 63));
    spread_bytes(t->pair, right_and(head[2], 0, 63));
    spread_bytes(t->scale + 4,
                 _mm256_or_si256(right_and(head[3], 0, 15), right_and(head[1], 2, 0x30)));
    spread_bytes(t->pair + 4,
                 _mm256_or_si256(right_and(head[3], 4, 15), right_and(head[2], 2, 0x30)));
}

/* A run of 32 bytes holds 64 elements, low nibbles first. */
static DP_ALWAYS_INLINE void unpack_nibbles(tile256 *t, const rows8 *rows, size_t at)
{
    for (size_t i = 0; i < 8; i++) { /* run i / 2, its first or second 16 bytes */
        __m256i packed[4];
        __m256i *w = t->w + i / 2 * 16 + i % 2 * 4;

        load_rows_16(packed, rows, at + 16 * i);
        for (int g = 0; g < 4; g++) {
            w[g] = right_and(packed[g], 0, 15);
            w[g + 8] = right_and(packed[g], 4, 15);
        }
    }
}

static DP_ALWAYS_INLINE void unpack_q4_k(tile256 *t, const rows8 *rows, size_t at)
{
    unpack_head_45(t, rows, at);
    unpack_nibbles(t, rows, at + offsetof(dp_block_q4_k, qs));
}

/* Bit s of byte l is the fifth bit of element 32s + l. */
static DP_ALWAYS_INLINE void unpack_q5_k(tile256 *t, const rows8 *rows, size_t at)
{
    __m256i bits[8];

    unpack_head_45(t, rows, at);
    unpack_nibbles(t, rows, at + offsetof(dp_block_q5_k, qs));
    load_rows_16(bits, rows, at + offsetof(dp_block_q5_k, qh));
    load_rows_16(bits + 4, rows, at + offsetof(dp_block_q5_k, qh) + 16);
    for (int s = 0; s < 8; s++) {
        for (int g = 0; g < 8; g++) {
            __m256i fifth = s < 4 ? left_and(bits[g], 4 - s, 16) : right_and(bits[g], s - 4, 16);
            t->w[8 * s + g] = _mm256_or_si256(t->w[8 * s + g], fifth);
        }
    }
}

/* Each half of 128 elements: the low nibbles of 64 bytes, then their high nibbles;
 * the upper two bits as in Q2_K. */
static DP_ALWAYS_INLINE void unpack_q6_k(tile256 *t, const rows8 *rows, size_t at)
{
    __m256i scales[4];

    for (size_t i = 0; i < 4; i++) { /* half i / 2, its first or second 16 of each 32 */
        size_t low = at + i / 2 * 64 + i % 2 * 16;
        __m256i *w = t->w + i / 2 * 32 + i % 2 * 4;
        __m256i a[4], b[4], top[4];

        load_rows_16(a, rows, low);
        load_rows_16(b, rows, low + 32);
        load_rows_16(top, rows, at + offsetof(dp_block_q6_k, qh) + 16 * i);
        for (int g = 0; g < 4; g++) {
            w[g] = _mm256_or_si256(right_and(a[g], 0, 15), left_and(top[g], 4, 0x30));
            w[g + 8] = _mm256_or_si256(right_and(b[g], 0, 15), left_and(top[g], 2, 0x30));
            w[g + 16] = _mm256_or_si256(right_and(a[g], 4, 15), right_and(top[g], 0, 0x30));
            w[g + 24] = _mm256_or_si256(right_and(b[g], 4, 15), right_and(top[g], 2, 0x30));
        }
    }
    load_rows_16(scales, rows, at + offsetof(dp_block_q6_k, scales));
    for (int i = 0; i < 4; i++) {
        spread_bytes(t->scale + 4 * i, scales[i]);
        spread_pairs(t->pair + 2 * i, scales[i]);
    }
    t->d = load_rows_f16(rows, at + offsetof(dp_block_q6_k, d));
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

static DP_ALWAYS_INLINE void unpack_q2_k(tile256 *t, const rows8 *rows, size_t at)
{
    __m256i halves = load_rows_dword(rows, at + offsetof(dp_block_q2_k, d));
    __m256i scales[4];

    t->d = low_f16(halves);
    t->m = high_f16(halves);
    unpack_twos(t, rows, at + offsetof(dp_block_q2_k, qs));
    load_rows_16(scales, rows, at);
    for (int i = 0; i < 4; i++) {
        spread_bytes(t->scale + 4 * i, right_and(scales[i], 0, 15));
        spread_pairs(t->pair + 2 * i, right_and(scales[i], 4, 15));
    }
}

/* Twelve bytes of scales: low nibbles of scales s in byte s % 8, two high bits in
 * byte 8 + s % 4; d follows. */
static DP_ALWAYS_INLINE void unpack_scales_q3_k(tile256 *t, const rows8 *rows, size_t at)
{
    __m256i raw[4], bytes[3];

    /* Read from two bytes before, so that nothing past the block is touched; then
     * moved by those two bytes. */
    load_rows_16(raw, rows, at + offsetof(dp_block_q3_k, scales) - 2);
    for (int i = 0; i < 3; i++)
        bytes[i] =
            _mm256_or_si256(_mm256_srli_epi32(raw[i], 16), _mm256_slli_epi32(raw[i + 1], 16));
    t->d = high_f16(raw[3]);
    for (int i = 0; i < 4; i++) {
        __m256i low = right_and(bytes[i % 2], i / 2 * 4, 15);
        __m256i high =
            i < 2 ? left_and(bytes[2], 4 - 2 * i, 0x30) : right_and(bytes[2], 2 * i - 4, 0x30);
        __m256i scales = _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32));

        spread_bytes(t->scale + 4 * i, scales);
        spread_pairs(t->pair + 2 * i, scales);
    }
}

/* Bit s of mask byte l is the third bit of element 32s + l. */
static DP_ALWAYS_INLINE void unpack_q3_k(tile256 *t, const rows8 *rows, size_t at)
{
    __m256i bits[8];

    unpack_scales_q3_k(t, rows, at);
    unpack_twos(t, rows, at + offsetof(dp_block_q3_k, qs));
    load_rows_16(bits, rows, at);
    load_rows_16(bits + 4, rows, at + 16);
    for (int s = 0; s < 8; s++) {
        for (int g = 0; g < 8; g++) {
            __m256i third = s < 2 ? left_and(bits[g], 2 - s, 4) : right_and(bits[g], s - 2, 4);
            t->w[8 * s + g] = _mm256_or_si256(t->w[8 * s + g], third);
        }
    }
}

static DP_ALWAYS_INLINE void unpack(tile256 *t, dp_dtype type, const rows8 *rows, size_t at)
{
    switch (type) {
    case DP_Q2_K:
        unpack_q2_k(t, rows, at);
        break;
    case DP_Q3_K:
        unpack_q3_k(t, rows, at);
        break;
    case DP_Q4_K:
        unpack_q4_k(t, rows, at);
        break;
    case DP_Q5_K:
        unpack_q5_k(t, rows, at);
        break;
    default: /* DP_Q6_K */
        unpack_q6_k(t, rows, at);
        break;
    }
}

/* isum[c] += the sums of one scale's weights times column c, times the scale. x[c] is
 * where the scale's activations begin. */
static DP_ALWAYS_INLINE void add_scale(__m256i *isum, const __m256i *w, __m256i scale,
                                       const int8_t *const *x, int cols, traits256 t)
{
    for (int first = 0; first < t.scale_groups; first += t.sum_groups) {
        __m256i part[AT_ONCE];

        for (int g = first; g < first + t.sum_groups; g++) {
            for (int c = 0; c < cols; c++) {
                __m256i product = _mm256_maddubs_epi16(w[g], broadcast_dword(x[c] + 4 * g));
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
    for (int i = 0; i < 8; i++) {
        for (int c = 0; c < cols; c++) {
            __m256i xsum = broadcast_dword(x[c].sum + b * 16 + 2 * i);
            extra[c] = _mm256_add_epi32(extra[c], _mm256_madd_epi16(w->pair[i], xsum));
        }
    }
    for (int c = 0; c < cols; c++) {
        __m256 dx = _mm256_set1_ps(x[c].d[b]);

        if (t.bias_shift)
            isum[c] = _mm256_sub_epi32(isum[c], _mm256_slli_epi32(extra[c], t.bias_shift));
        y[c] = _mm256_fmadd_ps(_mm256_mul_ps(w->d, dx), _mm256_cvtepi32_ps(isum[c]), y[c]);
        if (!t.bias_shift)
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
        unpack(&tile, t.type, w, b * t.block_bytes);
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

#define DEFINE(name, id, scale_groups, sum_groups, bias_shift)                                     \
    void dp_matmul_avx2_##name(float *y, size_t y_stride, const void *w, size_t row_bytes,         \
                               size_t rows, const void *x, size_t x_stride, size_t cols, size_t k) \
    {                                                                                              \
        traits256 t = { id, sizeof(dp_block_##name), scale_groups, sum_groups, bias_shift };       \
        matmul(y, y_stride, w, row_bytes, rows, x, x_stride, cols, k, t);                          \
    }

DEFINE(q2_k, DP_Q2_K, 4, 4, 0)
DEFINE(q3_k, DP_Q3_K, 4, 4, 2)
DEFINE(q4_k, DP_Q4_K, 8, 8, 0)
DEFINE(q5_k, DP_Q5_K, 8, 4, 0)
DEFINE(q6_k, DP_Q6_K, 4, 2, 5)
