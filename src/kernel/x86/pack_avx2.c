/* pack_avx2.c - activations to 8 bits, 32 or 256 to a scale. */
#include <immintrin.h>
#include <string.h>
#include "kernel/kernel_impl.h"

/* Largest of eight unsigned words. */
static DP_ALWAYS_INLINE uint32_t max_across(__m256i v)
{
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

/* 32 values to bytes. Packing works in 128-bit halves, which leaves words in the
 * order 0 4 1 5 2 6 3 7 (in fours); the permutation puts them right. The two sums
 * are of each 16: bytes times 1, pairs, fours, then across. */
static DP_ALWAYS_INLINE void pack32(int8_t *q, int16_t *sum, const float *x, __m256 inverse)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i v[4], bytes, sums;

    for (int i = 0; i < 4; i++)
        v[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i * 8), inverse));
    bytes = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    bytes = _mm256_permutevar8x32_epi32(bytes, order);
    _mm256_storeu_si256((__m256i *)(void *)q, bytes);
    sums = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
    sums = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
    sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0x4e));
    sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0xb1));
    sum[0] = (int16_t)_mm256_extract_epi32(sums, 0);
    sum[1] = (int16_t)_mm256_extract_epi32(sums, 4);
}

/* Maxima of bits, not of floats, so that NaN is not lost (matmul_ref.c). Returns d. */
static DP_ALWAYS_INLINE float pack_block(int8_t *q, int16_t *sum, const float *x, const size_t n)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i max = _mm256_setzero_si256();
    uint32_t bits;
    float m;

    for (size_t i = 0; i < n; i += 8)
        max = _mm256_max_epu32(
            max, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), magnitude));
    bits = max_across(max);
    memcpy(&m, &bits, sizeof m);
    if (!(m >= DP_ACT_TINY && m < __builtin_inff())) {
        memset(q, 0, n);
        memset(sum, 0, n / 16 * sizeof *sum);
        return m < DP_ACT_TINY ? 0 : m;
    }
    for (size_t i = 0; i < n; i += 32)
        pack32(q + i, sum + i / 16, x + i, _mm256_set1_ps(127.0f / m));
    return m / 127.0f;
}

void dp_pack_q8_32_avx2(void *out, const float *x, size_t k)
{
    dp_act_view view = dp_act_get(DP_ACT_Q8_32, out, k);

    for (size_t b = 0; b < k / DP_QK; b++)
        ((float *)view.d)[b] =
            pack_block((int8_t *)view.q + b * 32, (int16_t *)view.sum + b * 2, x + b * 32, DP_QK);
}

void dp_pack_q8_256_avx2(void *out, const float *x, size_t k)
{
    dp_act_view view = dp_act_get(DP_ACT_Q8_256, out, k);

    for (size_t b = 0; b < k / DP_QK_K; b++)
        ((float *)view.d)[b] = pack_block((int8_t *)view.q + b * 256, (int16_t *)view.sum + b * 16,
                                          x + b * 256, DP_QK_K);
}
