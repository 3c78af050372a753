/* matmul_k_avx2.c - products of the K types. How the 8 rows of a super-block are unpacked;
 * the rest is super_avx2.h. */
#include "kernel/x86/super_avx2.h"

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

static void unpack_q4_k(tile256 *t, const rows8 *rows, size_t at)
{
    unpack_head_45(t, rows, at);
    unpack_nibbles(t, rows, at + offsetof(dp_block_q4_k, qs));
}

/* Bit s of byte l is the fifth bit of element 32s + l. */
static void unpack_q5_k(tile256 *t, const rows8 *rows, size_t at)
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
static void unpack_q6_k(tile256 *t, const rows8 *rows, size_t at)
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

static void unpack_q2_k(tile256 *t, const rows8 *rows, size_t at)
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
static void unpack_q3_k(tile256 *t, const rows8 *rows, size_t at)
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

DEFINE_SUPER(q2_k, 4, 4, 0, true)
DEFINE_SUPER(q3_k, 4, 4, 4, false)
DEFINE_SUPER(q4_k, 8, 8, 0, true)
DEFINE_SUPER(q5_k, 8, 4, 0, true)
DEFINE_SUPER(q6_k, 4, 2, 32, false)
