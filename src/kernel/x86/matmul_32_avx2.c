/* matmul_32_avx2.c - products of the types with 32 elements to a block.
 *
 * 8 rows at a time, a row in each lane (rows_avx2.h). The 32 elements of 8 rows fill
 * 8 registers, which are made once and meet all columns of the pass: a column costs 8
 * broadcasts, 8 VPMADDUBSW and a few steps for the scales, and its running sums are
 * one register of 8 rows. */
#include "kernel/kernel_impl.h"
#include "kernel/x86/rows_avx2.h"

/* w[g] lane r = elements 4g..4g+3 of row r, plus the type's bias. */
typedef struct block32 {
    __m256i w[8];
    __m256 d, m;
} block32;

/* What is known of a type when its function is compiled. */
typedef struct traits32 {
    dp_dtype type;
    size_t block_bytes;
    int sum_groups; /* products that int16 can hold; 0: weights are signed, none */
    int bias;       /* what was added to make the weights unsigned */
    bool has_min;
} traits32;

/* A byte holds element j below and j + 16 above. */
static DP_ALWAYS_INLINE void unpack_nibbles(block32 *b, const rows8 *rows, size_t offset)
{
    __m256i packed[4];

    load_rows_16(packed, rows, offset);
    for (int g = 0; g < 4; g++) {
        b->w[g] = right_and(packed[g], 0, 15);
        b->w[g + 4] = right_and(packed[g], 4, 15);
    }
}

/* Bit i of a row's dword is the fifth bit of element i: the byte that holds the bits
 * of 4 elements is repeated 4 times, each copy is tested for its own bit. */
static DP_ALWAYS_INLINE void add_fifth_bits(block32 *b, __m256i bits)
{
    for (int g = 0; g < 8; g++) {
        __m256i repeat = _mm256_add_epi8(_mm256_set1_epi8((char)(g / 2)),
                                         _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0,
                                                           0x04040404, 0x08080808, 0x0c0c0c0c));
        __m256i own = _mm256_set1_epi32(g % 2 ? (int)0x80402010u : 0x08040201);
        __m256i set = _mm256_and_si256(_mm256_shuffle_epi8(bits, repeat), own);

        set = _mm256_and_si256(_mm256_cmpeq_epi8(set, own), _mm256_set1_epi8(16));
        b->w[g] = _mm256_or_si256(b->w[g], set);
    }
}

/* Doubled E2M1 by table, 12 added: 0 .. 24. */
static DP_ALWAYS_INLINE void look_up_e2m1(block32 *b)
{
    const __m256i table =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, /* positive */
                                                  12, 11, 10, 9, 8, 6, 4, 0));

    for (int g = 0; g < 8; g++)
        b->w[g] = _mm256_shuffle_epi8(table, b->w[g]);
}

/* Signed, as they are. */
static DP_ALWAYS_INLINE void look_up_iq4(block32 *b)
{
    const __m256i table =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)dp_iq4_values));

    for (int g = 0; g < 8; g++)
        b->w[g] = _mm256_shuffle_epi8(table, b->w[g]);
}

/* 2^(e-128) of each row; 0 and 1 give subnormals, which have no exponent to write. */
static DP_ALWAYS_INLINE __m256 load_rows_e8m0_half(const rows8 *rows, size_t offset)
{
    const uint8_t *const *at = rows->at;
    __m256i e = _mm256_setr_epi32(at[0][offset], at[1][offset], at[2][offset], at[3][offset],
                                  at[4][offset], at[5][offset], at[6][offset], at[7][offset]);
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x200000), e);
    __m256i is_normal = _mm256_cmpgt_epi32(e, _mm256_set1_epi32(1));

    return _mm256_castsi256_ps(_mm256_blendv_epi8(small, normal, is_normal));
}

static DP_ALWAYS_INLINE void unpack(block32 *b, dp_dtype type, const rows8 *rows, size_t at)
{
    __m256i halves;

    b->m = _mm256_setzero_ps();
    switch (type) {
    case DP_Q4_0:
        b->d = load_rows_f16(rows, at);
        unpack_nibbles(b, rows, at + offsetof(dp_block_q4_0, qs));
        break;
    case DP_Q5_0:
        b->d = load_rows_f16(rows, at);
        unpack_nibbles(b, rows, at + offsetof(dp_block_q5_0, qs));
        add_fifth_bits(b, load_rows_dword(rows, at + offsetof(dp_block_q5_0, qh)));
        break;
    case DP_Q4_1:
        halves = load_rows_dword(rows, at);
        b->d = low_f16(halves);
        b->m = high_f16(halves);
        unpack_nibbles(b, rows, at + offsetof(dp_block_q4_1, qs));
        break;
    case DP_Q5_1:
        halves = load_rows_dword(rows, at);
        b->d = low_f16(halves);
        b->m = high_f16(halves);
        unpack_nibbles(b, rows, at + offsetof(dp_block_q5_1, qs));
        add_fifth_bits(b, load_rows_dword(rows, at + offsetof(dp_block_q5_1, qh)));
        break;
    case DP_MXFP4:
        b->d = load_rows_e8m0_half(rows, at);
        unpack_nibbles(b, rows, at + offsetof(dp_block_mxfp4, qs));
        look_up_e2m1(b);
        break;
    case DP_IQ4_NL:
        b->d = load_rows_f16(rows, at);
        unpack_nibbles(b, rows, at + offsetof(dp_block_iq4_nl, qs));
        look_up_iq4(b);
        break;
    default: /* DP_Q8_0 */
        b->d = load_rows_f16(rows, at);
        load_rows_16(b->w, rows, at + offsetof(dp_block_q8_0, qs));
        load_rows_16(b->w + 4, rows, at + offsetof(dp_block_q8_0, qs) + 16);
        break;
    }
}

/* Lane r = the exact sum of w * x over the block, for unsigned w. */
static DP_ALWAYS_INLINE __m256i dot_unsigned(const __m256i w[8], const int8_t *x, int sum_groups)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256();

    for (int g = 0; g < 8; g += sum_groups) {
        __m256i part = _mm256_maddubs_epi16(w[g], broadcast_dword(x + 4 * g));
        for (int i = g + 1; i < g + sum_groups; i++)
            part = _mm256_add_epi16(part, _mm256_maddubs_epi16(w[i], broadcast_dword(x + 4 * i)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(part, ones));
    }
    return sum;
}

/* The same for signed w: |w| times x with w's sign. |w| may be 128, which is fine as an
 * unsigned byte; 2 * 128 * 127 fits, and nothing more. */
static DP_ALWAYS_INLINE __m256i dot_signed(const __m256i w[8], const int8_t *x)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256();

    for (int g = 0; g < 8; g++) {
        __m256i signed_x = _mm256_sign_epi8(broadcast_dword(x + 4 * g), w[g]);
        __m256i part = _mm256_maddubs_epi16(_mm256_abs_epi8(w[g]), signed_x);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(part, ones));
    }
    return sum;
}

/* y after block b of one column. */
static DP_ALWAYS_INLINE __m256 add_block(__m256 y, const block32 *w, const dp_act_view *x, size_t b,
                                         traits32 t)
{
    __m256 dx = _mm256_set1_ps(x->d[b]);
    __m256i isum;

    if (t.sum_groups)
        isum = dot_unsigned(w->w, x->q + b * DP_QK, t.sum_groups);
    else
        isum = dot_signed(w->w, x->q + b * DP_QK);
    if (t.bias) { /* the two sums of 16 sit side by side: VPMADDWD adds them */
        __m256i xsum = broadcast_dword(x->sum + 2 * b);
        isum = _mm256_sub_epi32(isum, _mm256_madd_epi16(xsum, _mm256_set1_epi16((short)t.bias)));
    }
    y = _mm256_fmadd_ps(_mm256_mul_ps(w->d, dx), _mm256_cvtepi32_ps(isum), y);
    if (t.has_min) {
        __m256i xsum = _mm256_madd_epi16(broadcast_dword(x->sum + 2 * b), _mm256_set1_epi16(1));
        y = _mm256_fmadd_ps(_mm256_mul_ps(w->m, dx), _mm256_cvtepi32_ps(xsum), y);
    }
    return y;
}

/* 8 rows, of which `rows` are stored, against `cols` columns. */
static DP_ALWAYS_INLINE void times_columns(float *y, size_t y_stride, const rows8 *w, size_t rows,
                                           const dp_act_view *x, size_t cols, size_t k, traits32 t)
{
    __m256 sum[COLS];
    block32 block;

    for (size_t c = 0; c < cols; c++)
        sum[c] = _mm256_setzero_ps();
    for (size_t b = 0; b < k / DP_QK; b++) {
        prefetch_next_rows(w, b, t.block_bytes);
        unpack(&block, t.type, w, b * t.block_bytes);
        for (size_t c = 0; c < cols; c++)
            sum[c] = add_block(sum[c], &block, &x[c], b, t);
    }
    for (size_t c = 0; c < cols; c++)
        store_rows(y + c * y_stride, rows, sum[c]);
}

static DP_ALWAYS_INLINE void matmul(float *y, size_t y_stride, const void *w, size_t row_bytes,
                                    size_t rows, const void *x, size_t x_stride, size_t cols,
                                    size_t k, traits32 t)
{
    dp_act_view view[COLS];

    for (size_t c = 0; c < cols; c += COLS) {
        size_t count = DP_MIN(cols - c, COLS);
        float *at = y + c * y_stride;

        columns_get(view, DP_ACT_Q8_32, (const uint8_t *)x + c * x_stride, x_stride, count, k);
        for (size_t r = 0; r < rows; r += ROWS) {
            rows8 w8 = rows8_at(w, row_bytes, r, rows);

            if (count == 1) /* compiled apart: the running sum stays in a register */
                times_columns(at + r, y_stride, &w8, rows - r, view, 1, k, t);
            else
                times_columns(at + r, y_stride, &w8, rows - r, view, count, k, t);
        }
    }
}

#define DEFINE(name, id, groups, bias, has_min)                                                    \
    void dp_matmul_avx2_##name(float *y, size_t y_stride, const void *w, size_t row_bytes,         \
                               size_t rows, const void *x, size_t x_stride, size_t cols, size_t k) \
    {                                                                                              \
        traits32 t = { id, sizeof(dp_block_##name), groups, bias, has_min };                       \
        matmul(y, y_stride, w, row_bytes, rows, x, x_stride, cols, k, t);                          \
    }

DEFINE(q4_0, DP_Q4_0, 8, 8, false)
DEFINE(q4_1, DP_Q4_1, 8, 0, true)
DEFINE(q5_0, DP_Q5_0, 4, 16, false)
DEFINE(q5_1, DP_Q5_1, 4, 0, true)
DEFINE(q8_0, DP_Q8_0, 0, 0, false)
DEFINE(mxfp4, DP_MXFP4, 4, 12, false)
DEFINE(iq4_nl, DP_IQ4_NL, 0, 0, false)
