/* matmul_iq_avx2.c - products of the IQ and TQ super-blocks. How the 8 rows of a
 * super-block are unpacked; the rest is super_avx2.h, the formats are dequant_iq_ref.c.
 *
 * Codebook entries are fetched one by one, eight weights (or four) at a time: a load is
 * faster here than any shuffle of a table, and than the gather instruction. Signs are
 * then put on by (w ^ m) - m, with m = -1 for minus.
 */
#include "kernel/ref/iq_codes.h"
#include "kernel/x86/super_avx2.h"

/* ---- codebooks, a byte a weight ---- */

#define TWO_BITS(code, i)   ((uint64_t)((code) >> (2 * (i)) & 3))
#define THREE_BITS(code, i) ((uint32_t)((code) >> (4 * (i)) & 7))

#define IQ2_BYTE(code, i)                                                                          \
    ((8 + 17 * TWO_BITS(code, i) + (TWO_BITS(code, i) == 2 ? 1 : 0)) << (8 * (i)))
#define IQ2_OCTET(code)                                                                            \
    IQ2_BYTE(code, 0) | IQ2_BYTE(code, 1) | IQ2_BYTE(code, 2) | IQ2_BYTE(code, 3) |                \
        IQ2_BYTE(code, 4) | IQ2_BYTE(code, 5) | IQ2_BYTE(code, 6) | IQ2_BYTE(code, 7),

/* Eighths, less the shift and plus IQ1_BIAS. */
#define IQ1_BYTE(code, i) (8 * TWO_BITS(code, i) << (8 * (i)))
#define IQ1_OCTET(code)                                                                            \
    IQ1_BYTE(code, 0) | IQ1_BYTE(code, 1) | IQ1_BYTE(code, 2) | IQ1_BYTE(code, 3) |                \
        IQ1_BYTE(code, 4) | IQ1_BYTE(code, 5) | IQ1_BYTE(code, 6) | IQ1_BYTE(code, 7),

#define IQ3_XXS_BYTE(code, i)                                                                      \
    ((4 + 8 * THREE_BITS(code, i) + (THREE_BITS(code, i) == 7 ? 2 : 0)) << (8 * (i)))
#define IQ3_XXS_QUARTET(code)                                                                      \
    IQ3_XXS_BYTE(code, 0) | IQ3_XXS_BYTE(code, 1) | IQ3_XXS_BYTE(code, 2) | IQ3_XXS_BYTE(code, 3),

#define IQ3_S_BYTE(code, i) ((1 + 2 * THREE_BITS(code, i)) << (8 * (i)))
#define IQ3_S_QUARTET(code)                                                                        \
    IQ3_S_BYTE(code, 0) | IQ3_S_BYTE(code, 1) | IQ3_S_BYTE(code, 2) | IQ3_S_BYTE(code, 3),

static const uint64_t iq2_xxs_octets[256] = { DP_IQ2_XXS_CODES(IQ2_OCTET) };
static const uint64_t iq2_xs_octets[512] = { DP_IQ2_XS_CODES(IQ2_OCTET) };
static const uint64_t iq2_s_octets[1024] = { DP_IQ2_S_CODES(IQ2_OCTET) };
static const uint64_t iq1_octets[2048] = { DP_IQ1_CODES(IQ1_OCTET) };
static const uint32_t iq3_xxs_quartets[256] = { DP_IQ3_XXS_CODES(IQ3_XXS_QUARTET) };
static const uint32_t iq3_s_quartets[512] = { DP_IQ3_S_CODES(IQ3_S_QUARTET) };

/* What is added to weights to make them unsigned. */
enum { IQ2_BIAS = 64, IQ3_XXS_BIAS = 64, IQ3_S_BIAS = 16, IQ1_BIAS = 9, TQ_BIAS = 1 };

/* out[0] and out[1], lane r: the first and last four weights of entry index[r]. */
static DP_ALWAYS_INLINE void get_octets(__m256i out[2], const uint64_t *book,
                                        const uint32_t index[ROWS])
{
    __m256 pair[2]; /* entries of rows 0, 1 | 4, 5 and of rows 2, 3 | 6, 7 */

    for (int i = 0; i < 2; i++) {
        __m128i a = _mm_loadl_epi64((const __m128i *)(book + index[2 * i]));
        __m128i b = _mm_loadl_epi64((const __m128i *)(book + index[2 * i + 1]));
        __m128i c = _mm_loadl_epi64((const __m128i *)(book + index[2 * i + 4]));
        __m128i d = _mm_loadl_epi64((const __m128i *)(book + index[2 * i + 5]));

        pair[i] = _mm256_castsi256_ps(
            _mm256_set_m128i(_mm_unpacklo_epi64(c, d), _mm_unpacklo_epi64(a, b)));
    }
    out[0] = _mm256_castps_si256(_mm256_shuffle_ps(pair[0], pair[1], 0x88));
    out[1] = _mm256_castps_si256(_mm256_shuffle_ps(pair[0], pair[1], 0xdd));
}

static DP_ALWAYS_INLINE __m256i get_quartets(const uint32_t *book, const uint32_t index[ROWS])
{
    return _mm256_setr_epi32((int)book[index[0]], (int)book[index[1]], (int)book[index[2]],
                             (int)book[index[3]], (int)book[index[4]], (int)book[index[5]],
                             (int)book[index[6]], (int)book[index[7]]);
}

static DP_ALWAYS_INLINE __m256i and_dword(__m256i v, uint32_t mask)
{
    return _mm256_and_si256(v, _mm256_set1_epi32((int)mask));
}

/* Indices of bytes and of half words are where they lie, so each is read when it is used. */
static DP_ALWAYS_INLINE uint32_t short_index(dp_dtype type, const uint8_t *block, size_t g)
{
    switch (type) {
    case DP_IQ2_XXS:
        return block[offsetof(dp_block_iq2_xxs, qs) + g / 4 * 8 + g % 4];
    case DP_IQ2_XS:
        return (uint32_t)load_word(block + offsetof(dp_block_iq2_xs, qs) + 2 * g) & 511;
    default: /* DP_IQ3_XXS */
        return block[offsetof(dp_block_iq3_xxs, qs) + g];
    }
}

/* The others keep eight bits here and the rest there: eight rows' are put together at once.
 * Octets g = 4s ... of sub-block s, quartets g = 8s ... */
static DP_ALWAYS_INLINE __m256i long_index(dp_dtype type, const rows8 *rows, size_t at, size_t g)
{
    const size_t high_at = at + (type == DP_IQ2_S   ? offsetof(dp_block_iq2_s, qh) + g / 16 * 4
                                 : type == DP_IQ1_S ? offsetof(dp_block_iq1_s, qh) + g / 8 * 4
                                 : type == DP_IQ1_M ? offsetof(dp_block_iq1_m, qh) + g / 8 * 4
                                                    : offsetof(dp_block_iq3_s, qh) + g / 32 * 4);
    const size_t low_at = at + (type == DP_IQ1_M ? 0 : 2) + g / 4 * 4; /* qs after d, if any */
    const int from = (int)(type == DP_IQ2_S   ? g % 16 * 2
                           : type == DP_IQ1_S ? g / 4 % 2 * 16 + g % 4 * 3
                           : type == DP_IQ1_M ? g % 8 * 4
                                              : g % 32);
    const uint32_t mask = type == DP_IQ2_S ? 0x300 : type == DP_IQ3_S ? 0x100 : 0x700;
    __m256i low = _mm256_srli_epi32(load_rows_dword(rows, low_at), (int)(g % 4 * 8));
    __m256i high = load_rows_dword(rows, high_at);

    high = from < 8 ? _mm256_slli_epi32(high, 8 - from) : _mm256_srli_epi32(high, from - 8);
    return _mm256_or_si256(and_dword(low, 255), and_dword(high, mask));
}

static DP_ALWAYS_INLINE void indices_of(uint32_t index[ROWS], dp_dtype type, const rows8 *rows,
                                        size_t at, size_t g)
{
    if (type != DP_IQ2_XXS && type != DP_IQ2_XS && type != DP_IQ3_XXS) {
        _mm256_storeu_si256((__m256i *)(void *)index, long_index(type, rows, at, g));
        return;
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < ROWS; r++)
        index[r] = short_index(type, rows->at[r] + at, g);
}

/* ---- signs: byte g of a lane has those of octet g ---- */

/* Seven bits a byte; the eighth makes their number even. */
static DP_ALWAYS_INLINE __m256i even_signs(__m256i seven)
{
    const __m256i odd = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0));
    __m256i low = _mm256_shuffle_epi8(odd, seven);
    __m256i high = _mm256_shuffle_epi8(odd, right_and(seven, 4, 7));

    return _mm256_or_si256(seven, _mm256_xor_si256(low, high));
}

/* Four times seven bits and four bits of scale. */
static DP_ALWAYS_INLINE __m256i signs_packed(__m256i word)
{
    __m256i low =
        _mm256_or_si256(and_dword(word, 0x7f), and_dword(_mm256_slli_epi32(word, 1), 0x7f00));
    __m256i high = _mm256_or_si256(and_dword(_mm256_slli_epi32(word, 2), 0x7f0000),
                                   and_dword(_mm256_slli_epi32(word, 3), 0x7f000000));

    return even_signs(_mm256_or_si256(low, high));
}

/* IQ2_XS: the top seven bits of four half words. */
static DP_ALWAYS_INLINE __m256i signs_above(__m256i first, __m256i second)
{
    __m256i low = _mm256_or_si256(and_dword(_mm256_srli_epi32(first, 9), 0x7f),
                                  and_dword(_mm256_srli_epi32(first, 17), 0x7f00));
    __m256i high = _mm256_or_si256(and_dword(_mm256_slli_epi32(second, 7), 0x7f0000),
                                   and_dword(_mm256_srli_epi32(second, 1), 0x7f000000));

    return even_signs(_mm256_or_si256(low, high));
}

/* w with the signs of octet g, its first four weights or its last; plus the bias. */
static DP_ALWAYS_INLINE __m256i put_signs(__m256i w, __m256i signs, int g, int half, int bias)
{
    const __m256i bits = _mm256_set1_epi32(half ? (int)0x80402010u : 0x08040201);
    __m256i copies = _mm256_add_epi8(_mm256_set1_epi8((char)g),
                                     _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0,
                                                       0x04040404, 0x08080808, 0x0c0c0c0c));
    __m256i minus = _mm256_and_si256(_mm256_shuffle_epi8(signs, copies), bits);

    minus = _mm256_cmpeq_epi8(minus, bits);
    return _mm256_add_epi8(_mm256_xor_si256(w, minus),
                           _mm256_sub_epi8(_mm256_set1_epi8((char)bias), minus));
}

/* The signs of sub-block s. */
static DP_ALWAYS_INLINE __m256i signs_of(dp_dtype type, const rows8 *rows, size_t at, size_t s)
{
    switch (type) {
    case DP_IQ2_XXS:
        return signs_packed(load_rows_dword(rows, at + offsetof(dp_block_iq2_xxs, qs) + 8 * s + 4));
    case DP_IQ2_XS:
        at += offsetof(dp_block_iq2_xs, qs) + 8 * s;
        return signs_above(load_rows_dword(rows, at), load_rows_dword(rows, at + 4));
    case DP_IQ2_S:
        return load_rows_dword(rows, at + offsetof(dp_block_iq2_s, signs) + 4 * s);
    case DP_IQ3_XXS:
        return signs_packed(load_rows_dword(rows, at + offsetof(dp_block_iq3_xxs, signs) + 4 * s));
    default: /* DP_IQ3_S */
        return load_rows_dword(rows, at + offsetof(dp_block_iq3_s, signs) + 4 * s);
    }
}

/* ---- scales ---- */

/* 2 v + 1 for `count` bits of each lane from `from` on. */
static DP_ALWAYS_INLINE __m256i odd_scale(__m256i v, int from, int count)
{
    __m256i twice = from ? _mm256_srli_epi32(v, from - 1) : _mm256_slli_epi32(v, 1);

    return _mm256_or_si256(and_dword(twice, ((1u << count) - 1) << 1), _mm256_set1_epi32(1));
}

static DP_ALWAYS_INLINE __m256i both_halves(__m256i low, __m256i high)
{
    return _mm256_or_si256(low, _mm256_slli_epi32(high, 16));
}

/* The scale of 32 weights. */
static DP_ALWAYS_INLINE void put_scale32(tile256 *t, size_t s, __m256i scale)
{
    t->scale[s] = t->pair[s] = both_halves(scale, scale);
}

static DP_ALWAYS_INLINE void put_scales16(tile256 *t, size_t s, __m256i first, __m256i second)
{
    t->scale[2 * s] = both_halves(first, first);
    t->scale[2 * s + 1] = both_halves(second, second);
    t->pair[s] = both_halves(first, second);
}

/* Eight bytes with two scales each, of 16 weights. */
static DP_ALWAYS_INLINE void put_scale_nibbles(tile256 *t, const rows8 *rows, size_t at)
{
    __m256i word[2] = { load_rows_dword(rows, at), load_rows_dword(rows, at + 4) };

#pragma GCC unroll 8
    for (size_t s = 0; s < 8; s++)
        put_scales16(t, s, odd_scale(word[s / 4], (int)(s % 4 * 8), 4),
                     odd_scale(word[s / 4], (int)(s % 4 * 8 + 4), 4));
}

static DP_ALWAYS_INLINE __m256 times(__m256 d, float unit)
{
    return _mm256_mul_ps(d, _mm256_set1_ps(unit));
}

/* ---- IQ2, IQ3 ---- */

static DP_ALWAYS_INLINE void put_octets(tile256 *t, dp_dtype type, const uint64_t *book,
                                        const rows8 *rows, size_t at)
{
    uint32_t index[ROWS];

#pragma GCC unroll 8
    for (size_t s = 0; s < 8; s++) {
        __m256i signs = signs_of(type, rows, at, s);

#pragma GCC unroll 4
        for (size_t g = 0; g < 4; g++) {
            __m256i *w = t->w + 8 * s + 2 * g;

            indices_of(index, type, rows, at, 4 * s + g);
            get_octets(w, book, index);
            w[0] = put_signs(w[0], signs, (int)g, 0, IQ2_BIAS);
            w[1] = put_signs(w[1], signs, (int)g, 1, IQ2_BIAS);
        }
    }
}

static DP_ALWAYS_INLINE void put_quartets(tile256 *t, dp_dtype type, const uint32_t *book, int bias,
                                          const rows8 *rows, size_t at)
{
    uint32_t index[ROWS];

#pragma GCC unroll 8
    for (size_t s = 0; s < 8; s++) {
        __m256i signs = signs_of(type, rows, at, s);

#pragma GCC unroll 8
        for (size_t g = 0; g < 8; g++) {
            indices_of(index, type, rows, at, 8 * s + g);
            t->w[8 * s + g] =
                put_signs(get_quartets(book, index), signs, (int)g / 2, (int)g % 2, bias);
        }
    }
}

static void unpack_iq2_xxs(tile256 *t, const rows8 *rows, size_t at)
{
    put_octets(t, DP_IQ2_XXS, iq2_xxs_octets, rows, at);
    for (size_t s = 0; s < 8; s++)
        put_scale32(t, s, odd_scale(load_rows_dword(rows, at + 2 + 8 * s + 4), 28, 4));
    t->d = times(load_rows_f16(rows, at), 0.125f);
}

static void unpack_iq2_xs(tile256 *t, const rows8 *rows, size_t at)
{
    put_octets(t, DP_IQ2_XS, iq2_xs_octets, rows, at);
    put_scale_nibbles(t, rows, at + offsetof(dp_block_iq2_xs, scales));
    t->d = times(load_rows_f16(rows, at), 0.125f);
}

static void unpack_iq2_s(tile256 *t, const rows8 *rows, size_t at)
{
    put_octets(t, DP_IQ2_S, iq2_s_octets, rows, at);
    put_scale_nibbles(t, rows, at + offsetof(dp_block_iq2_s, scales));
    t->d = times(load_rows_f16(rows, at), 0.125f);
}

static void unpack_iq3_xxs(tile256 *t, const rows8 *rows, size_t at)
{
    put_quartets(t, DP_IQ3_XXS, iq3_xxs_quartets, IQ3_XXS_BIAS, rows, at);
    for (size_t s = 0; s < 8; s++)
        put_scale32(t, s,
                    odd_scale(load_rows_dword(rows, at + offsetof(dp_block_iq3_xxs, signs) + 4 * s),
                              28, 4));
    t->d = times(load_rows_f16(rows, at), 0.25f);
}

static void unpack_iq3_s(tile256 *t, const rows8 *rows, size_t at)
{
    __m256i scales = load_rows_dword(rows, at + offsetof(dp_block_iq3_s, scales));

    put_quartets(t, DP_IQ3_S, iq3_s_quartets, IQ3_S_BIAS, rows, at);
#pragma GCC unroll 8
    for (size_t s = 0; s < 8; s++)
        put_scale32(t, s, odd_scale(scales, (int)(4 * s), 4));
    t->d = load_rows_f16(rows, at);
}

/* ---- IQ1 ---- */

/* 8 v + 1 or 8 v - 1 plus 9: the table has 8 (v + 1), the shift adds 2 or nothing. */
static DP_ALWAYS_INLINE void put_shifted(tile256 *t, dp_dtype type, size_t g, __m256i is_down,
                                         const rows8 *rows, size_t at)
{
    const __m256i shift = _mm256_andnot_si256(is_down, _mm256_set1_epi8(2));
    uint32_t index[ROWS];
    __m256i *w = t->w + 2 * g;

    indices_of(index, type, rows, at, g);
    get_octets(w, iq1_octets, index);
    w[0] = _mm256_or_si256(w[0], shift);
    w[1] = _mm256_or_si256(w[1], shift);
}

static void unpack_iq1_s(tile256 *t, const rows8 *rows, size_t at)
{
    __m256i half[4]; /* two sub-blocks' half words a lane */

    load_rows_16(half, rows, at + offsetof(dp_block_iq1_s, qh));
#pragma GCC unroll 8
    for (size_t s = 0; s < 8; s++) {
        __m256i word = s % 2 ? half[s / 2] : _mm256_slli_epi32(half[s / 2], 16);

#pragma GCC unroll 4
        for (size_t g = 0; g < 4; g++)
            put_shifted(t, DP_IQ1_S, 4 * s + g, _mm256_srai_epi32(word, 31), rows, at);
        put_scale32(t, s, odd_scale(word, 28, 3));
    }
    t->d = times(load_rows_f16(rows, at), 0.125f);
}

/* d is in the top nibbles of the scales' four half words. */
static DP_ALWAYS_INLINE __m256 d_of_iq1_m(__m256i first, __m256i second)
{
    __m256i low = _mm256_or_si256(and_dword(_mm256_srli_epi32(first, 12), 0xf),
                                  and_dword(_mm256_srli_epi32(first, 24), 0xf0));
    __m256i high = _mm256_or_si256(and_dword(_mm256_srli_epi32(second, 4), 0xf00),
                                   and_dword(_mm256_srli_epi32(second, 16), 0xf000));

    return low_f16(_mm256_or_si256(low, high));
}

static void unpack_iq1_m(tile256 *t, const rows8 *rows, size_t at)
{
    const size_t scales_at = at + offsetof(dp_block_iq1_m, scales);
    __m256i nibbles[4]; /* of eight octets each */
    __m256i scales[2] = { load_rows_dword(rows, scales_at), load_rows_dword(rows, scales_at + 4) };

    load_rows_16(nibbles, rows, at + offsetof(dp_block_iq1_m, qh));
#pragma GCC unroll 8
    for (size_t s = 0; s < 8; s++) {
        const int from = (int)(s / 2 % 2 * 16 + s % 2 * 6);

#pragma GCC unroll 4
        for (size_t g = 4 * s; g < 4 * s + 4; g++) {
            __m256i top = _mm256_slli_epi32(nibbles[g / 8], (int)(28 - g % 8 * 4));
            put_shifted(t, DP_IQ1_M, g, _mm256_srai_epi32(top, 31), rows, at);
        }
        put_scales16(t, s, odd_scale(scales[s / 4], from, 3),
                     odd_scale(scales[s / 4], from + 3, 3));
    }
    t->d = times(d_of_iq1_m(scales[0], scales[1]), 0.125f);
}

/* ---- IQ4_XS, TQ ---- */

static void unpack_iq4_xs(tile256 *t, const rows8 *rows, size_t at)
{
    const __m256i values =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)dp_iq4_values));
    __m256i head = load_rows_dword(rows, at), low = load_rows_dword(rows, at + 4);

    t->d = low_f16(head);
#pragma GCC unroll 8
    for (size_t s = 0; s < 8; s++) {
        __m256i *w = t->w + 8 * s, packed[4], scale;

        load_rows_16(packed, rows, at + offsetof(dp_block_iq4_xs, qs) + 16 * s);
        for (int g = 0; g < 4; g++) {
            w[g] = _mm256_shuffle_epi8(values, right_and(packed[g], 0, 15));
            w[g + 4] = _mm256_shuffle_epi8(values, right_and(packed[g], 4, 15));
        }
        scale = _mm256_or_si256(and_dword(_mm256_srli_epi32(low, (int)(4 * s)), 15),
                                and_dword(_mm256_srli_epi32(head, (int)(12 + 2 * s)), 48));
        scale = and_dword(_mm256_sub_epi32(scale, _mm256_set1_epi32(32)), 0xffff);
        put_scale32(t, s, scale);
    }
}

static DP_ALWAYS_INLINE void put_ones(tile256 *t)
{
    for (size_t s = 0; s < 8; s++)
        put_scale32(t, s, _mm256_set1_epi32(1));
}

/* Bytes as fractions of 256, the even ones and the odd ones of each half word. */
typedef struct fractions {
    __m256i even, odd;
} fractions;

static DP_ALWAYS_INLINE fractions split_bytes(__m256i v)
{
    return (fractions){ _mm256_and_si256(v, _mm256_set1_epi16(255)), _mm256_srli_epi16(v, 8) };
}

/* The next ternary digit of each byte: the whole part of three times the fraction. */
static DP_ALWAYS_INLINE __m256i next_digit(fractions *f)
{
    const __m256i low = _mm256_set1_epi16(255);
    __m256i even = _mm256_add_epi16(f->even, _mm256_add_epi16(f->even, f->even));
    __m256i odd = _mm256_add_epi16(f->odd, _mm256_add_epi16(f->odd, f->odd));

    f->even = _mm256_and_si256(even, low);
    f->odd = _mm256_and_si256(odd, low);
    return _mm256_or_si256(_mm256_srli_epi16(even, 8), _mm256_andnot_si256(low, odd));
}

/* Digit n of `groups` registers of bytes, then digit n + 1: neighbouring weights. */
static DP_ALWAYS_INLINE __m256i *put_digits(__m256i *w, const __m256i *bytes, int groups,
                                            int digits)
{
    fractions f[8];

    for (int g = 0; g < groups; g++)
        f[g] = split_bytes(bytes[g]);
    for (int n = 0; n < digits; n++)
        for (int g = 0; g < groups; g++)
            *w++ = next_digit(&f[g]);
    return w;
}

static void unpack_tq1_0(tile256 *t, const rows8 *rows, size_t at)
{
    __m256i bytes[12], last = load_rows_dword(rows, at + offsetof(dp_block_tq1_0, qh));
    __m256i *w = t->w;

    for (size_t i = 0; i < 3; i++)
        load_rows_16(bytes + 4 * i, rows, at + 16 * i);
    w = put_digits(w, bytes, 8, 5);
    w = put_digits(w, bytes + 8, 4, 5);
    put_digits(w, &last, 1, 4);
    put_ones(t);
    t->d = load_rows_f16(rows, at + offsetof(dp_block_tq1_0, d));
}

static void unpack_tq2_0(tile256 *t, const rows8 *rows, size_t at)
{
    unpack_twos(t, rows, at);
    put_ones(t);
    t->d = load_rows_f16(rows, at + offsetof(dp_block_tq2_0, d));
}

/* The largest unsigned weights: 64 + 43, 64 + 62, 16 + 15, 9 + 9, 1 + 2. */
DEFINE_SUPER(iq1_s, 8, 4, IQ1_BIAS, false)
DEFINE_SUPER(iq1_m, 4, 4, IQ1_BIAS, false)
DEFINE_SUPER(iq2_xxs, 8, 1, IQ2_BIAS, false)
DEFINE_SUPER(iq2_xs, 4, 1, IQ2_BIAS, false)
DEFINE_SUPER(iq2_s, 4, 1, IQ2_BIAS, false)
DEFINE_SUPER(iq3_xxs, 8, 1, IQ3_XXS_BIAS, false)
DEFINE_SUPER(iq3_s, 8, 4, IQ3_S_BIAS, false)
DEFINE_SUPER(iq4_xs, 8, 0, 0, false)
DEFINE_SUPER(tq1_0, 8, 8, TQ_BIAS, false)
DEFINE_SUPER(tq2_0, 8, 8, TQ_BIAS, false)
