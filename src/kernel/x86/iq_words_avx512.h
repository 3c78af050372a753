/* iq_words_avx512.h - indices of the IQ types to words of weights, with AVX-512 BW.
 *
 * A codebook's entries are 16-bit codes. VPERMI2W picks 32 of 64 such codes by the low six
 * bits of 32 half words, so a book of 512 is eight of them and seven blends by the bits
 * above. Two indices of a row fit its lane. IQ1's book of 2048 is too large for that and is
 * read by gathers.
 *
 * A code becomes bytes by being copied to both halves of the lane, shifted by a number of
 * its own in each half, and looked up again in 16 bytes of values.
 */
#ifndef DP_KERNEL_X86_IQ_WORDS_AVX512_H
#define DP_KERNEL_X86_IQ_WORDS_AVX512_H

#include "kernel/ref/iq_codes.h"
#include "kernel/x86/iq_blocks_avx512.h"

/* ---- codebooks ---- */

/* Weights 0, 2, 4, 6 in the low byte and 1, 3, 5, 7 in the high one, two bits each: shifted
 * right by 2 n, the two bytes begin with weights 2 n and 2 n + 1. */
#define MOVE_TWO(code, i) (((code) >> (2 * (i)) & 3) << ((i) / 2 * 2 + (i) % 2 * 8))
#define IQ2_PAIRS(code)                                                                            \
    MOVE_TWO(code, 0) | MOVE_TWO(code, 1) | MOVE_TWO(code, 2) | MOVE_TWO(code, 3) |                \
        MOVE_TWO(code, 4) | MOVE_TWO(code, 5) | MOVE_TWO(code, 6) | MOVE_TWO(code, 7),

/* The same for quartets: weights 0, 2 and 1, 3, four bits each. */
#define MOVE_FOUR(code, i) (((code) >> (4 * (i)) & 15) << ((i) / 2 * 4 + (i) % 2 * 8))
#define IQ3_PAIRS(code)                                                                            \
    MOVE_FOUR(code, 0) | MOVE_FOUR(code, 1) | MOVE_FOUR(code, 2) | MOVE_FOUR(code, 3),

/* A byte for weights i and i + 4: eight times v + 1, from bit 3 on and from bit 5 on. */
#define IQ1_BYTE(code, i)                                                                          \
    (((uint32_t)(code) >> (2 * (i)) & 3) << (8 * (i) + 3) |                                        \
     ((uint32_t)(code) >> (2 * (i) + 8) & 3) << (8 * (i) + 5))
#define IQ1_BYTES(code)                                                                            \
    IQ1_BYTE(code, 0) | IQ1_BYTE(code, 1) | IQ1_BYTE(code, 2) | IQ1_BYTE(code, 3),

#define BOOK static const uint16_t __attribute__((aligned(64)))
BOOK iq2_xxs_book[256] = { DP_IQ2_XXS_CODES(IQ2_PAIRS) };
BOOK iq2_xs_book[512] = { DP_IQ2_XS_CODES(IQ2_PAIRS) };
BOOK iq2_s_book[1024] = { DP_IQ2_S_CODES(IQ2_PAIRS) };
BOOK iq3_xxs_book[256] = { DP_IQ3_XXS_CODES(IQ3_PAIRS) };
BOOK iq3_s_book[512] = { DP_IQ3_S_CODES(IQ3_PAIRS) };
#undef BOOK
static const uint32_t iq1_book[2048] = { DP_IQ1_CODES(IQ1_BYTES) };

/* Which half words have bits of `mask`. */
static DP_ALWAYS_INLINE __mmask32 has_bits(__m512i v, uint32_t mask)
{
    return _mm512_test_epi16_mask(v, _mm512_set1_epi32((int)mask));
}

static DP_ALWAYS_INLINE __m512i look_up_64(const uint16_t *book, __m512i index)
{
    return _mm512_permutex2var_epi16(_mm512_load_si512(book), index, _mm512_load_si512(book + 32));
}

static DP_ALWAYS_INLINE __m512i look_up_256(const uint16_t *book, __m512i index, __mmask32 bit6,
                                            __mmask32 bit7)
{
    __m512i low =
        _mm512_mask_blend_epi16(bit6, look_up_64(book, index), look_up_64(book + 64, index));
    __m512i high =
        _mm512_mask_blend_epi16(bit6, look_up_64(book + 128, index), look_up_64(book + 192, index));

    return _mm512_mask_blend_epi16(bit7, low, high);
}

/* The codes of a book of 256 << (number of high bits): indices have 8 bits, bit 8 and bit 9
 * come as masks. */
static DP_ALWAYS_INLINE __m512i look_up(const uint16_t *book, size_t entries, __m512i index,
                                        __mmask32 bit8, __mmask32 bit9)
{
    __mmask32 bit6 = has_bits(index, 0x00400040), bit7 = has_bits(index, 0x00800080);
    __m512i code[4];

#pragma GCC unroll 4
    for (size_t i = 0; i < entries / 256; i++)
        code[i] = look_up_256(book + 256 * i, index, bit6, bit7);
    if (entries >= 512)
        code[0] = _mm512_mask_blend_epi16(bit8, code[0], code[1]);
    if (entries >= 1024)
        code[0] =
            _mm512_mask_blend_epi16(bit9, code[0], _mm512_mask_blend_epi16(bit8, code[2], code[3]));
    return code[0];
}

/* The code in half h of each lane, in both halves. */
static DP_ALWAYS_INLINE __m512i both_halves(__m512i code, int h)
{
    const __m512i low =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13));

    return _mm512_shuffle_epi8(code, _mm512_add_epi8(low, _mm512_set1_epi8((char)(2 * h))));
}

/* Each half shifted right by its own number. */
static DP_ALWAYS_INLINE __m512i shift_halves(__m512i v, int low, int high)
{
    return _mm512_srlv_epi16(v, _mm512_set1_epi32(low | high << 16));
}

/* ---- words ---- */

/* The signs of octet g, its first four weights or its last, on w, which has the bias added:
 * bias - v is twice the bias less bias + v. */
static DP_ALWAYS_INLINE __m512i put_signs(__m512i w, __m512i copies, int half, int bias)
{
    const __m512i bits = _mm512_set1_epi32(half ? (int)0x80402010u : 0x08040201);

    return _mm512_mask_sub_epi8(w, _mm512_test_epi8_mask(copies, bits),
                                _mm512_set1_epi8((char)(2 * bias)), w);
}

/* The two words of octet g: its code is in half h of each lane of `code`. */
static DP_ALWAYS_INLINE void octet_words(__m512i word[2], __m512i code, int h, __m512i sign, int g)
{
    const __m512i values = _mm512_broadcast_i32x4(
        _mm_setr_epi8(64 + 8, 64 + 25, 64 + 43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    __m512i copies = copy_byte(sign, g);

    code = both_halves(code, h);
    word[0] = _mm512_shuffle_epi8(values, and8(shift_halves(code, 0, 2), 3));
    word[1] = _mm512_shuffle_epi8(values, and8(shift_halves(code, 4, 6), 3));
    word[0] = put_signs(word[0], copies, 0, 64);
    word[1] = put_signs(word[1], copies, 1, 64);
}

static DP_ALWAYS_INLINE void words_iq2(dp_dtype type, __m512i word[8], const k_raw *raw, int s)
{
    __m512i even, odd, code[2]; /* of octets 0, 2 and 1, 3; in IQ2_XS of 0, 1 and 2, 3 */

    if (type == DP_IQ2_XS) {
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++)
            code[i] = look_up(iq2_xs_book, 512, raw->index[2 * s + i],
                              has_bits(raw->index[2 * s + i], 0x01000100), 0);
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++)
            octet_words(word + 2 * g, code[g / 2], g % 2, raw->sign[s], g);
        return;
    }
    even = and32(raw->index[s], 0x00ff00ff);
    odd = _mm512_srli_epi16(raw->index[s], 8);
    if (type == DP_IQ2_XXS) {
        code[0] = look_up(iq2_xxs_book, 256, even, 0, 0);
        code[1] = look_up(iq2_xxs_book, 256, odd, 0, 0);
    } else {
        __m512i high = copy_byte(raw->high[s / 4], s % 4);

        code[0] =
            look_up(iq2_s_book, 1024, even, has_bits(high, 0x00100001), has_bits(high, 0x00200002));
        code[1] =
            look_up(iq2_s_book, 1024, odd, has_bits(high, 0x00400004), has_bits(high, 0x00800008));
    }
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++)
        octet_words(word + 2 * g, code[g % 2], g / 2, raw->sign[s], g);
}

static DP_ALWAYS_INLINE void words_iq3(dp_dtype type, __m512i word[8], const k_raw *raw, int s)
{
    const bool is_s = type == DP_IQ3_S;
    const __m512i values = _mm512_broadcast_i32x4(
        is_s ? _mm_setr_epi8(17, 19, 21, 23, 25, 27, 29, 31, 0, 0, 0, 0, 0, 0, 0, 0)
             : _mm_setr_epi8(68, 76, 84, 92, 100, 108, 116, 126, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m512i high = is_s ? copy_byte(raw->high[s / 4], s % 4) : _mm512_setzero_si512();

#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) { /* indices 4i ... 4i + 3 */
        __m512i index = raw->index[2 * s + i], code[2];
        const uint32_t bits = 0x00040001u << (4 * i); /* of the first and third */

        code[0] = look_up(is_s ? iq3_s_book : iq3_xxs_book, is_s ? 512 : 256,
                          and32(index, 0x00ff00ff), is_s ? has_bits(high, bits) : 0, 0);
        code[1] = look_up(is_s ? iq3_s_book : iq3_xxs_book, is_s ? 512 : 256,
                          _mm512_srli_epi16(index, 8), is_s ? has_bits(high, bits << 1) : 0, 0);
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++)
            word[4 * i + t] =
                _mm512_shuffle_epi8(values, shift_halves(both_halves(code[t % 2], t / 2), 0, 4));
    }
#pragma GCC unroll 8
    for (int t = 0; t < 8; t++)
        word[t] = put_signs(word[t], copy_byte(raw->sign[s], t / 2), t % 2, k_bias(type));
}

/* Indices of 11 bits, one octet of 16 rows at a time. Bits below the values' are the next
 * weights' and are masked away. */
static DP_ALWAYS_INLINE void words_iq1(dp_dtype type, __m512i word[8], const k_raw *raw, int s)
{
    const __m512i mask = _mm512_set1_epi8(0x18), up = _mm512_set1_epi8(2);

#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) {
        const int from = type == DP_IQ1_S ? s % 2 * 16 + 3 * g : s % 2 * 16 + 4 * g;
        const int down = type == DP_IQ1_S ? s % 2 * 16 + 15 : from + 3;
        __m512i high = raw->high[s / 2], shift, entry;
        __m512i index = and32(_mm512_srli_epi32(raw->index[s], (unsigned)(8 * g)), 255);

        shift = _mm512_maskz_mov_epi32(
            _mm512_testn_epi32_mask(high, _mm512_set1_epi32((int)(1u << down))), up);
        high = from < 8 ? _mm512_slli_epi32(high, (unsigned)(8 - from))
                        : _mm512_srli_epi32(high, (unsigned)(from - 8));
        entry = _mm512_i32gather_epi32(_mm512_or_si512(index, and32(high, 0x700)), iq1_book, 4);
        word[2 * g] = _mm512_ternarylogic_epi32(entry, mask, shift, 0xea); /* (a & b) | c */
        word[2 * g + 1] = _mm512_ternarylogic_epi32(_mm512_srli_epi32(entry, 2), mask, shift, 0xea);
    }
}

/* Ternary digit n of each byte v, which is the fraction v / 256 in base three: the whole
 * part of three times what is left of it after n digits. */
static DP_ALWAYS_INLINE __m512i ternary_digit(__m512i v, int n)
{
    static const short powers[5] = { 1, 3, 9, 27, 81 };
    const __m512i low = _mm512_set1_epi16(255), power = _mm512_set1_epi16(powers[n]);
    const __m512i three = _mm512_set1_epi16(3);
    __m512i even = _mm512_and_si512(v, low), odd = _mm512_srli_epi16(v, 8);

    even = _mm512_and_si512(_mm512_mullo_epi16(even, power), low);
    odd = _mm512_and_si512(_mm512_mullo_epi16(odd, power), low);
    even = _mm512_srli_epi16(_mm512_mullo_epi16(even, three), 8);
    odd = _mm512_mullo_epi16(odd, three);
    return _mm512_ternarylogic_epi32(even, low, odd, 0xf2); /* a | (c & ~b) */
}

#endif
