/* iq_words_vbmi.h - indices of the IQ types to words of weights, with VBMI.
 *
 * VPERMI2B picks 64 bytes out of 128 by the low seven bits of 64 indices: the four indices of
 * a lane at once. An entry is 16 bits, so a book is two planes of bytes, and each plane of
 * 256 << n entries is 2 << n of them and blends by the bits above.
 *
 * VPMULTISHIFTQB then gives each byte of a word eight bits of its lane's code, from wherever
 * its weight's begin, and VPERMB, which looks at six of them, the weight. What the lowest bits
 * do not say is the next weights' and has no say: the table of 64 repeats.
 */
#ifndef DP_KERNEL_X86_IQ_WORDS_VBMI_H
#define DP_KERNEL_X86_IQ_WORDS_VBMI_H

#include "kernel/ref/iq_codes.h"
#include "kernel/x86/iq_blocks_avx512.h"

/* ---- codebooks: the first half of an entry's weights, and the last ---- */

#define FIRST_HALF(code) (uint8_t)(code),
#define LAST_HALF(code)  (uint8_t)((code) >> 8),

typedef struct byte_book {
    const uint8_t *first, *last;
} byte_book;

#define BOOK(name, entries, codes)                                                                 \
    static const uint8_t __attribute__((aligned(64)))                                              \
    name##_first[entries] = { codes(FIRST_HALF) };                                                 \
    static const uint8_t __attribute__((aligned(64))) name##_last[entries] = { codes(LAST_HALF) }; \
    static const byte_book name = { name##_first, name##_last };

BOOK(iq1_book, 2048, DP_IQ1_CODES)
BOOK(iq2_xxs_book, 256, DP_IQ2_XXS_CODES)
BOOK(iq2_xs_book, 512, DP_IQ2_XS_CODES)
BOOK(iq2_s_book, 1024, DP_IQ2_S_CODES)
BOOK(iq3_xxs_book, 256, DP_IQ3_XXS_CODES)
BOOK(iq3_s_book, 512, DP_IQ3_S_CODES)
#undef BOOK

/* Bits 7, 8, 9 and 10 of 64 indices. */
typedef struct high_bits {
    __mmask64 bit[4];
} high_bits;

static DP_ALWAYS_INLINE __m512i look_up_128(const uint8_t *plane, __m512i index)
{
    return _mm512_permutex2var_epi8(_mm512_load_si512(plane), index, _mm512_load_si512(plane + 64));
}

/* A level of blends each. */
static DP_ALWAYS_INLINE __m512i look_up_256(const uint8_t *plane, __m512i index, high_bits high)
{
    return _mm512_mask_blend_epi8(high.bit[0], look_up_128(plane, index),
                                  look_up_128(plane + 128, index));
}

static DP_ALWAYS_INLINE __m512i look_up_512(const uint8_t *plane, __m512i index, high_bits high)
{
    return _mm512_mask_blend_epi8(high.bit[1], look_up_256(plane, index, high),
                                  look_up_256(plane + 256, index, high));
}

static DP_ALWAYS_INLINE __m512i look_up_1024(const uint8_t *plane, __m512i index, high_bits high)
{
    return _mm512_mask_blend_epi8(high.bit[2], look_up_512(plane, index, high),
                                  look_up_512(plane + 512, index, high));
}

static DP_ALWAYS_INLINE __m512i look_up_2048(const uint8_t *plane, __m512i index, high_bits high)
{
    return _mm512_mask_blend_epi8(high.bit[3], look_up_1024(plane, index, high),
                                  look_up_1024(plane + 1024, index, high));
}

/* ---- bits to bytes ---- */

/* Byte k of each lane: eight bits from bit `from` + k * step of the lane on. */
static DP_ALWAYS_INLINE __m512i spread(__m512i v, int from, int step)
{
    const int even = (from & 63) | ((from + step) & 63) << 8 | ((from + 2 * step) & 63) << 16 |
                     ((from + 3 * step) & 63) << 24;
    const __m512i at =
        _mm512_xor_si512(_mm512_set1_epi32(even), _mm512_set1_epi64(0x2020202000000000));

    return _mm512_multishift_epi64_epi8(at, v);
}

/* Sixteen bytes four times: a table for the low four bits. */
static DP_ALWAYS_INLINE __m512i table16(__m128i bytes)
{
    return _mm512_broadcast_i32x4(bytes);
}

/* The bits of a under the mask, of b elsewhere. */
static DP_ALWAYS_INLINE __m512i choose(__m512i a, __m512i b, int mask)
{
    return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi8((char)mask), 0xe4);
}

/* ---- words ---- */

static DP_ALWAYS_INLINE void codes_iq2(dp_dtype type, __m512i code[2], const k_raw *raw, int s)
{
    const __m512i even = _mm512_add_epi8(
        _mm512_set1_epi32(0x42400200), /* bytes 0 and 2 of two lanes */
        _mm512_set_epi32(0x3c3c3c3c, 0x38383838, 0x34343434, 0x30303030, 0x2c2c2c2c, 0x28282828,
                         0x24242424, 0x20202020, 0x1c1c1c1c, 0x18181818, 0x14141414, 0x10101010,
                         0x0c0c0c0c, 0x08080808, 0x04040404, 0));
    high_bits high = { { 0 } };
    __m512i index = raw->index[s], above;

    if (type == DP_IQ2_XS) { /* half words: eight bits of index, the ninth, signs */
        index = _mm512_permutex2var_epi8(raw->index[2 * s], even, raw->index[2 * s + 1]);
        above = _mm512_permutex2var_epi8(
            raw->index[2 * s], _mm512_add_epi8(even, _mm512_set1_epi8(1)), raw->index[2 * s + 1]);
        high.bit[1] = _mm512_test_epi8_mask(above, _mm512_set1_epi8(1));
    }
    if (type == DP_IQ2_S) { /* two bits for each octet in byte s */
        above = copy_byte(raw->high[s / 4], s % 4);
        high.bit[1] = _mm512_test_epi8_mask(above, _mm512_set1_epi32(0x40100401));
        high.bit[2] = _mm512_test_epi8_mask(above, _mm512_set1_epi32((int)0x80200802));
    }
    high.bit[0] = _mm512_movepi8_mask(index);
    if (type == DP_IQ2_XXS) {
        code[0] = look_up_256(iq2_xxs_book.first, index, high);
        code[1] = look_up_256(iq2_xxs_book.last, index, high);
    } else if (type == DP_IQ2_XS) {
        code[0] = look_up_512(iq2_xs_book.first, index, high);
        code[1] = look_up_512(iq2_xs_book.last, index, high);
    } else {
        code[0] = look_up_1024(iq2_s_book.first, index, high);
        code[1] = look_up_1024(iq2_s_book.last, index, high);
    }
}

/* Word t is half of octet t / 2: two bits of code a weight, and above them its sign. */
static DP_ALWAYS_INLINE void words_iq2(dp_dtype type, __m512i word[8], const k_raw *raw, int s)
{
    const __m512i values =
        table16(_mm_setr_epi8(64 + 8, 64 + 25, 64 + 43, 0, 64 - 8, 64 - 25, 64 - 43, 0, 64 + 8,
                              64 + 25, 64 + 43, 0, 64 - 8, 64 - 25, 64 - 43, 0));
    __m512i code[2];

    codes_iq2(type, code, raw, s);
#pragma GCC unroll 8
    for (int t = 0; t < 8; t++) {
        __m512i bits =
            choose(spread(code[t % 2], t / 2 * 8, 2), spread(raw->sign[s], 4 * t - 2, 1), 3);
        word[t] = _mm512_permutexvar_epi8(bits, values);
    }
}

/* Four quartets at a time: entries of four bits a weight, the highest of which takes the sign,
 * two weights to a plane; then the planes' bytes side by side. */
static DP_ALWAYS_INLINE void words_iq3(dp_dtype type, __m512i word[8], const k_raw *raw, int s)
{
    const bool is_s = type == DP_IQ3_S;
    const __m512i values = table16(
        is_s ? _mm_setr_epi8(17, 19, 21, 23, 25, 27, 29, 31, 15, 13, 11, 9, 7, 5, 3, 1)
             : _mm_setr_epi8(68, 76, 84, 92, 100, 108, 116, 126, 60, 52, 44, 36, 28, 20, 12, 2));
    const __m512i sign01 = table16(
        _mm_setr_epi8(0, 8, -128, -120, 0, 8, -128, -120, 0, 8, -128, -120, 0, 8, -128, -120));
    const __m512i sign23 = table16(
        _mm_setr_epi8(0, 0, 0, 0, 8, 8, 8, 8, -128, -128, -128, -128, -120, -120, -120, -120));
    const __m512i beside = _mm512_add_epi8(
        _mm512_set1_epi32(0x41014000), /* bytes 0 and 1 of two lanes */
        _mm512_set_epi32(0x3c3c3c3c, 0x38383838, 0x34343434, 0x30303030, 0x2c2c2c2c, 0x28282828,
                         0x24242424, 0x20202020, 0x1c1c1c1c, 0x18181818, 0x14141414, 0x10101010,
                         0x0c0c0c0c, 0x08080808, 0x04040404, 0));
    const __m512i ninths = is_s ? copy_byte(raw->high[s / 4], s % 4) : _mm512_setzero_si512();

#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) { /* quartets 4i ... 4i + 3 */
        __m512i index = raw->index[2 * s + i], first, last, both[2];
        __m512i sign = spread(raw->sign[s], 16 * i, 4);
        high_bits high = { { _mm512_movepi8_mask(index) } };

        if (is_s) {
            high.bit[1] = _mm512_test_epi8_mask(
                ninths, _mm512_set1_epi32((int)(i ? 0x80402010u : 0x08040201u)));
            first = look_up_512(iq3_s_book.first, index, high);
            last = look_up_512(iq3_s_book.last, index, high);
        } else {
            first = look_up_256(iq3_xxs_book.first, index, high);
            last = look_up_256(iq3_xxs_book.last, index, high);
        }
        first = _mm512_or_si512(first, _mm512_permutexvar_epi8(sign, sign01));
        last = _mm512_or_si512(last, _mm512_permutexvar_epi8(sign, sign23));
        both[0] = _mm512_permutex2var_epi8(first, beside, last);
        both[1] =
            _mm512_permutex2var_epi8(first, _mm512_add_epi8(beside, _mm512_set1_epi8(2)), last);
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++)
            word[4 * i + t] = _mm512_permutexvar_epi8(spread(both[t / 2], t % 2 * 16, 4), values);
    }
}

/* Eight times v + 1, and 2 where the shift is up: with the bias of 9, 8 v + 1 or 8 v - 1. */
static DP_ALWAYS_INLINE void words_iq1(dp_dtype type, __m512i word[8], const k_raw *raw, int s)
{
    const __m512i values =
        table16(_mm_setr_epi8(0, 8, 16, 0, 0, 8, 16, 0, 0, 8, 16, 0, 0, 8, 16, 0));
    const __m512i two = _mm512_set1_epi8(2);
    const __m512i index = raw->index[s];
    const __m512i above = spread(raw->high[s / 2], s % 2 * 16, type == DP_IQ1_S ? 3 : 4);
    const high_bits high = {
        { _mm512_movepi8_mask(index), _mm512_test_epi8_mask(above, _mm512_set1_epi8(1)),
          _mm512_test_epi8_mask(above, two), _mm512_test_epi8_mask(above, _mm512_set1_epi8(4)) }
    };
    __m512i code[2], shift;

    code[0] = look_up_2048(iq1_book.first, index, high);
    code[1] = look_up_2048(iq1_book.last, index, high);
    if (type == DP_IQ1_S) /* one for all 32, in the half word's highest bit */
        shift = _mm512_maskz_mov_epi32(
            _mm512_testn_epi32_mask(raw->high[s / 2],
                                    _mm512_set1_epi32((int)(0x8000u << (s % 2 * 16)))),
            two);
    else
        shift = _mm512_maskz_mov_epi8(_mm512_testn_epi8_mask(above, _mm512_set1_epi8(8)), two);
#pragma GCC unroll 8
    for (int t = 0; t < 8; t++) {
        word[t] = _mm512_permutexvar_epi8(spread(code[t % 2], t / 2 * 8, 2), values);
        word[t] = _mm512_or_si512(word[t], type == DP_IQ1_S ? shift : copy_byte(shift, t / 2));
    }
}

/* ---- ternary digits ---- */

#define DIGIT(byte, power) (((byte) * (power)&255) * 3 >> 8)
#define FOUR_DIGITS(byte)                                                                          \
    DIGIT(byte, 1) | DIGIT(byte, 3) << 2 | DIGIT(byte, 9) << 4 | DIGIT(byte, 27) << 6,
#define LAST_DIGIT(byte) DIGIT(byte, 81),
#define FOUR(F, from)    F((from)) F((from) + 1) F((from) + 2) F((from) + 3)
#define SIXTEEN(F, from) FOUR(F, from) FOUR(F, (from) + 4) FOUR(F, (from) + 8) FOUR(F, (from) + 12)
#define SIXTY_FOUR(F, from)                                                                        \
    SIXTEEN(F, from) SIXTEEN(F, (from) + 16) SIXTEEN(F, (from) + 32) SIXTEEN(F, (from) + 48)
#define EVERY_BYTE(F) SIXTY_FOUR(F, 0) SIXTY_FOUR(F, 64) SIXTY_FOUR(F, 128) SIXTY_FOUR(F, 192)

static const uint8_t __attribute__((aligned(64))) four_digits[256] = { EVERY_BYTE(FOUR_DIGITS) };
static const uint8_t __attribute__((aligned(64))) last_digit[256] = { EVERY_BYTE(LAST_DIGIT) };

/* Digit n of each byte, by table. */
static DP_ALWAYS_INLINE __m512i ternary_digit(__m512i v, int n)
{
    const high_bits high = { { _mm512_movepi8_mask(v) } };

    if (n == 4)
        return look_up_256(last_digit, v, high);
    return bits8(look_up_256(four_digits, v, high), 2 * n, 2, 0);
}

#endif
