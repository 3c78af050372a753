/* unpack_iq_avx512.h - the IQ and TQ super-blocks of 16 rows, turned to words a lane.
 *
 * Room     As unpack_k_avx512.h: word t of sub-block s holds weights 32 s + 4 t ... + 3 of
 *          row r in lane r, unsigned by a bias. The formats: dequant_iq_ref.c.
 *
 * Lookups  A codebook's entries are 16-bit codes. VPERMI2W picks 32 of 64 such codes by
 *          the low six bits of 32 half words, so a book of 512 is eight of them and seven
 *          blends by the bits above. Two indices of a row fit its lane. IQ1's book of
 *          2048 is too large for that and is read by gathers.
 *
 *          A code becomes bytes by being copied to both halves of the lane, shifted by a
 *          number of its own in each half, and looked up again in 16 bytes of values.
 *
 *          `type` is a constant wherever these are called, so each switch folds.
 */
#ifndef DP_KERNEL_X86_UNPACK_IQ_AVX512_H
#define DP_KERNEL_X86_UNPACK_IQ_AVX512_H

#include "kernel/ref/iq_codes.h"
#include "kernel/x86/super_avx512.h"

/* ---- facts ---- */

static DP_ALWAYS_INLINE bool k_has_min(dp_dtype type)
{
    (void)type;
    return false;
}

/* Scales cover 32 weights (or more), not 16. */
static DP_ALWAYS_INLINE bool k_has_wide_scales(dp_dtype type)
{
    return type != DP_IQ1_M && type != DP_IQ2_XS && type != DP_IQ2_S;
}

/* Some u8 * s8 products of pairs leave 16 bits. */
static DP_ALWAYS_INLINE bool k_is_wide(dp_dtype type)
{
    return type == DP_IQ4_XS;
}

/* What was added to each weight. */
static DP_ALWAYS_INLINE int k_bias(dp_dtype type)
{
    switch (type) {
    case DP_IQ1_S:
    case DP_IQ1_M:
        return 9;
    case DP_IQ3_S:
        return 16;
    case DP_IQ4_XS:
        return 128;
    case DP_TQ1_0:
    case DP_TQ2_0:
        return 1;
    default:
        return 64;
    }
}

/* k_begin brings everything but the weights of IQ4_XS, which come a sub-block at a time. */
static DP_ALWAYS_INLINE int k_part_subs(dp_dtype type)
{
    return type == DP_IQ4_XS ? 1 : 8;
}

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

/* ---- what k_begin brings ---- */

typedef struct k_raw {
    __m512i index[16]; /* bytes of indices, or half words; of IQ4_XS and TQ the weights */
    __m512i sign[8];   /* for each sub-block: byte g has the signs of octet g */
    __m512i high[4];   /* bits of indices above the eighth */
} k_raw;

/* Seven bits a byte; the eighth makes their number even. */
static DP_ALWAYS_INLINE __m512i even_signs(__m512i seven)
{
    const __m512i odd = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0));
    __m512i low = _mm512_shuffle_epi8(odd, seven);
    __m512i high = _mm512_shuffle_epi8(odd, and8(_mm512_srli_epi32(seven, 4), 7));

    return _mm512_ternarylogic_epi32(seven, low, high, 0xf6); /* a | (b ^ c) */
}

static DP_ALWAYS_INLINE __m512i and32(__m512i v, uint32_t mask)
{
    return _mm512_and_si512(v, _mm512_set1_epi32((int)mask));
}

static DP_ALWAYS_INLINE __m512i or3(__m512i a, __m512i b, __m512i c)
{
    return _mm512_ternarylogic_epi32(a, b, c, 0xfe);
}

/* Four times seven bits and four bits of scale. */
static DP_ALWAYS_INLINE __m512i signs_packed(__m512i word)
{
    __m512i low = _mm512_or_si512(and32(word, 0x7f), and32(_mm512_slli_epi32(word, 1), 0x7f00));

    return even_signs(or3(low, and32(_mm512_slli_epi32(word, 2), 0x7f0000),
                          and32(_mm512_slli_epi32(word, 3), 0x7f000000)));
}

/* IQ2_XS: the top seven bits of four half words. */
static DP_ALWAYS_INLINE __m512i signs_above(__m512i first, __m512i second)
{
    __m512i low = _mm512_or_si512(and32(_mm512_srli_epi32(first, 9), 0x7f),
                                  and32(_mm512_srli_epi32(first, 17), 0x7f00));

    return even_signs(or3(low, and32(_mm512_slli_epi32(second, 7), 0x7f0000),
                          and32(_mm512_srli_epi32(second, 1), 0x7f000000)));
}

/* ---- scales ---- */

/* 2 v + 1 for `count` bits of each lane from `from` on. */
static DP_ALWAYS_INLINE __m512i odd_scale(__m512i v, int from, int count)
{
    __m512i twice = from ? _mm512_srli_epi32(v, (unsigned)(from - 1)) : _mm512_slli_epi32(v, 1);

    return _mm512_or_si512(and32(twice, ((1u << count) - 1) << 1), _mm512_set1_epi32(1));
}

static DP_ALWAYS_INLINE __m512i pair_of(__m512i low, __m512i high)
{
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

static DP_ALWAYS_INLINE void put_scale32(k_head *h, int s, __m512i scale)
{
    h->scale[s] = scale;
    h->pair[s] = pair_of(and32(scale, 0xffff), scale);
}

static DP_ALWAYS_INLINE void put_scales16(k_head *h, int s, __m512i first, __m512i second)
{
    h->scale[2 * s] = first;
    h->scale[2 * s + 1] = second;
    h->pair[s] = pair_of(first, second);
}

/* Eight bytes with two scales each, of 16 weights. */
static DP_ALWAYS_INLINE void put_scale_nibbles(k_head *h, __m512i first, __m512i second)
{
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        __m512i word = s < 4 ? first : second;
        put_scales16(h, s, odd_scale(word, s % 4 * 8, 4), odd_scale(word, s % 4 * 8 + 4, 4));
    }
}

static DP_ALWAYS_INLINE void put_ones(k_head *h)
{
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        h->scale[s] = _mm512_set1_epi32(1);
        h->pair[s] = _mm512_set1_epi16(1);
    }
}

static DP_ALWAYS_INLINE __m512 times(__m512 d, float unit)
{
    return _mm512_mul_ps(d, _mm512_set1_ps(unit));
}

/* ---- a type's block: everything turned, scales ready ---- */

static DP_ALWAYS_INLINE void begin_iq2_xxs(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    __m512i word[16];

    turn32(word, rows, at + 2);
    turn32(word + 8, rows, at + 34);
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        raw->index[s] = word[2 * s];
        raw->sign[s] = signs_packed(word[2 * s + 1]);
        put_scale32(h, s, odd_scale(word[2 * s + 1], 28, 4));
    }
    h->d = times(gather_f16(rows, at), 0.125f);
}

static DP_ALWAYS_INLINE void begin_iq2_xs(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    __m512i last[4];

    turn32(raw->index, rows, at + 2);
    turn32(raw->index + 8, rows, at + 34);
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++)
        raw->sign[s] = signs_above(raw->index[2 * s], raw->index[2 * s + 1]);
    turn16(last, rows, at + sizeof(dp_block_iq2_xs) - 16);
    put_scale_nibbles(h, last[2], last[3]);
    h->d = times(gather_f16(rows, at), 0.125f);
}

static DP_ALWAYS_INLINE void begin_iq2_s(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    __m512i last[4];

    turn32(raw->index, rows, at + offsetof(dp_block_iq2_s, qs));
    turn32(raw->sign, rows, at + offsetof(dp_block_iq2_s, signs));
    turn16(last, rows, at + offsetof(dp_block_iq2_s, qh));
    raw->high[0] = last[0];
    raw->high[1] = last[1];
    put_scale_nibbles(h, last[2], last[3]);
    h->d = times(gather_f16(rows, at), 0.125f);
}

static DP_ALWAYS_INLINE void begin_iq3_xxs(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    __m512i word[8];

    turn32(raw->index, rows, at + 2);
    turn32(raw->index + 8, rows, at + 34);
    turn32(word, rows, at + offsetof(dp_block_iq3_xxs, signs));
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        raw->sign[s] = signs_packed(word[s]);
        put_scale32(h, s, odd_scale(word[s], 28, 4));
    }
    h->d = times(gather_f16(rows, at), 0.25f);
}

static DP_ALWAYS_INLINE void begin_iq3_s(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    __m512i last[4];

    turn32(raw->index, rows, at + 2);
    turn32(raw->index + 8, rows, at + 34);
    turn32(raw->sign, rows, at + offsetof(dp_block_iq3_s, signs));
    turn16(last, rows, at + sizeof(dp_block_iq3_s) - 16);
    raw->high[0] = gather_u32(rows, at + offsetof(dp_block_iq3_s, qh));
    raw->high[1] = gather_u32(rows, at + offsetof(dp_block_iq3_s, qh) + 4);
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++)
        put_scale32(h, s, odd_scale(last[3], 4 * s, 4));
    h->d = gather_f16(rows, at);
}

static DP_ALWAYS_INLINE void begin_iq1_s(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    turn32(raw->index, rows, at + offsetof(dp_block_iq1_s, qs));
    turn16(raw->high, rows, at + offsetof(dp_block_iq1_s, qh));
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++)
        put_scale32(h, s, odd_scale(raw->high[s / 2], s % 2 * 16 + 12, 3));
    h->d = times(gather_f16(rows, at), 0.125f);
}

/* d is in the top nibbles of the scales' four half words. */
static DP_ALWAYS_INLINE __m512 d_of_iq1_m(__m512i first, __m512i second)
{
    __m512i low = _mm512_or_si512(and32(_mm512_srli_epi32(first, 12), 0xf),
                                  and32(_mm512_srli_epi32(first, 24), 0xf0));

    return low_f16(or3(low, and32(_mm512_srli_epi32(second, 4), 0xf00),
                       and32(_mm512_srli_epi32(second, 16), 0xf000)));
}

static DP_ALWAYS_INLINE void begin_iq1_m(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    __m512i last[4];

    turn32(raw->index, rows, at + offsetof(dp_block_iq1_m, qs));
    turn16(raw->high, rows, at + offsetof(dp_block_iq1_m, qh));
    turn16(last, rows, at + sizeof(dp_block_iq1_m) - 16);
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        const int from = s / 2 % 2 * 16 + s % 2 * 6;
        put_scales16(h, s, odd_scale(last[2 + s / 4], from, 3),
                     odd_scale(last[2 + s / 4], from + 3, 3));
    }
    h->d = times(d_of_iq1_m(last[2], last[3]), 0.125f);
}

static DP_ALWAYS_INLINE void begin_iq4_xs(k_head *h, const rows16 *rows, size_t at)
{
    __m512i word[4];

    turn16(word, rows, at); /* d and the scales' high bits, their low ones, ... */
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        __m512i low = and32(_mm512_srli_epi32(word[1], (unsigned)(4 * s)), 15);
        __m512i high = and32(_mm512_srli_epi32(word[0], (unsigned)(12 + 2 * s)), 48);

        put_scale32(h, s, _mm512_sub_epi32(_mm512_or_si512(low, high), _mm512_set1_epi32(32)));
    }
    h->d = low_f16(word[0]);
}

static DP_ALWAYS_INLINE void begin_tq1_0(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    turn32(raw->index, rows, at);
    turn16(raw->index + 8, rows, at + 32);
    raw->index[12] = gather_u32(rows, at + offsetof(dp_block_tq1_0, qh));
    put_ones(h);
    h->d = gather_f16(rows, at + offsetof(dp_block_tq1_0, d));
}

static DP_ALWAYS_INLINE void begin_tq2_0(k_head *h, k_raw *raw, const rows16 *rows, size_t at)
{
    turn32(raw->index, rows, at);
    turn32(raw->index + 8, rows, at + 32);
    put_ones(h);
    h->d = gather_f16(rows, at + offsetof(dp_block_tq2_0, d));
}

static DP_ALWAYS_INLINE void k_begin(dp_dtype type, k_head *h, k_raw *raw, const rows16 *rows,
                                     size_t at)
{
    h->dmin = _mm512_setzero_ps();
    switch (type) {
    case DP_IQ1_S:
        begin_iq1_s(h, raw, rows, at);
        break;
    case DP_IQ1_M:
        begin_iq1_m(h, raw, rows, at);
        break;
    case DP_IQ2_XXS:
        begin_iq2_xxs(h, raw, rows, at);
        break;
    case DP_IQ2_XS:
        begin_iq2_xs(h, raw, rows, at);
        break;
    case DP_IQ2_S:
        begin_iq2_s(h, raw, rows, at);
        break;
    case DP_IQ3_XXS:
        begin_iq3_xxs(h, raw, rows, at);
        break;
    case DP_IQ3_S:
        begin_iq3_s(h, raw, rows, at);
        break;
    case DP_IQ4_XS:
        begin_iq4_xs(h, rows, at);
        break;
    case DP_TQ1_0:
        begin_tq1_0(h, raw, rows, at);
        break;
    default: /* DP_TQ2_0 */
        begin_tq2_0(h, raw, rows, at);
        break;
    }
}

static DP_ALWAYS_INLINE void k_load(dp_dtype type, k_raw *raw, const rows16 *rows, size_t at, int s)
{
    if (type == DP_IQ4_XS)
        turn16(raw->index, rows, at + offsetof(dp_block_iq4_xs, qs) + 16 * (size_t)s);
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

/* Byte g of each lane four times. */
static DP_ALWAYS_INLINE __m512i copy_byte(__m512i v, int g)
{
    const __m512i first =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));

    return _mm512_shuffle_epi8(v, _mm512_add_epi8(first, _mm512_set1_epi8((char)g)));
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

static DP_ALWAYS_INLINE void words_iq4_xs(__m512i word[8], const k_raw *raw)
{
    const __m512i values =
        _mm512_xor_si512(_mm512_broadcast_i32x4(load16((const uint8_t *)dp_iq4_values)),
                         _mm512_set1_epi8(-128)); /* the bias */

#pragma GCC unroll 4
    for (int t = 0; t < 4; t++) {
        word[t] = _mm512_shuffle_epi8(values, bits8(raw->index[t], 0, 4, 0));
        word[t + 4] = _mm512_shuffle_epi8(values, bits8(raw->index[t], 4, 4, 0));
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

/* 32 bytes have digit s of sub-blocks 0 to 4, 16 bytes two digits each of 5, 6 and half of 7,
 * four bytes the rest. */
static DP_ALWAYS_INLINE void words_tq1_0(__m512i word[8], const k_raw *raw, int s)
{
#pragma GCC unroll 8
    for (int t = 0; t < 8; t++) {
        const int n = 2 * (s - 5) + t / 4; /* of the 16 bytes */

        if (s < 5)
            word[t] = ternary_digit(raw->index[t], s);
        else if (n < 5)
            word[t] = ternary_digit(raw->index[8 + t % 4], n);
        else
            word[t] = ternary_digit(raw->index[12], t - 4);
    }
}

/* The eight words of sub-block s. */
static DP_ALWAYS_INLINE void k_words(dp_dtype type, __m512i word[8], k_raw *raw, int s)
{
    switch (type) {
    case DP_IQ1_S:
    case DP_IQ1_M:
        words_iq1(type, word, raw, s);
        break;
    case DP_IQ2_XXS:
    case DP_IQ2_XS:
    case DP_IQ2_S:
        words_iq2(type, word, raw, s);
        break;
    case DP_IQ3_XXS:
    case DP_IQ3_S:
        words_iq3(type, word, raw, s);
        break;
    case DP_IQ4_XS:
        words_iq4_xs(word, raw);
        break;
    case DP_TQ1_0:
        words_tq1_0(word, raw, s);
        break;
    default: /* DP_TQ2_0: two bits each, 32 bytes have four sub-blocks */
#pragma GCC unroll 8
        for (int t = 0; t < 8; t++)
            word[t] = bits8(raw->index[s / 4 * 8 + t], s % 4 * 2, 2, 0);
        break;
    }
}

#endif
