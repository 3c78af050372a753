/* pack_avx512.c - activations to 8 bits, 32 or 256 to a scale. */
#include <immintrin.h>
#include <string.h>
#include "kernel/kernel_impl.h"

/* Packs 16 * regs values, 16 in a register. Maxima of bits, not of floats, so that
 * NaN is not lost (matmul_ref.c). Returns d. */
static DP_ALWAYS_INLINE float pack_block(int8_t *q, int16_t *sum, const float *x, const int regs)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i max = _mm512_setzero_si512();
    __m512 inverse;
    uint32_t bits;
    float m;

    for (int i = 0; i < regs; i++)
        max = _mm512_max_epu32(
            max, _mm512_and_si512(_mm512_castps_si512(_mm512_loadu_ps(x + i * 16)), magnitude));
    bits = _mm512_reduce_max_epu32(max);
    memcpy(&m, &bits, sizeof m);
    if (!(m >= DP_ACT_TINY && m < __builtin_inff())) {
        memset(q, 0, (size_t)regs * 16);
        memset(sum, 0, (size_t)regs * sizeof *sum);
        return m < DP_ACT_TINY ? 0 : m;
    }
    inverse = _mm512_set1_ps(127.0f / m);
    for (int i = 0; i < regs; i++) {
        __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i * 16), inverse));
        _mm_storeu_si128((__m128i *)(void *)(q + i * 16), _mm512_cvtepi32_epi8(v));
        sum[i] = (int16_t)_mm512_reduce_add_epi32(v);
    }
    return m / 127.0f;
}

void dp_pack_q8_32_avx512(void *out, const float *x, size_t k)
{
    dp_act_view view = dp_act_get(DP_ACT_Q8_32, out, k);

    for (size_t b = 0; b < k / DP_QK; b++)
        ((float *)view.d)[b] =
            pack_block((int8_t *)view.q + b * 32, (int16_t *)view.sum + b * 2, x + b * 32, 2);
}

void dp_pack_q8_256_avx512(void *out, const float *x, size_t k)
{
    dp_act_view view = dp_act_get(DP_ACT_Q8_256, out, k);

    for (size_t b = 0; b < k / DP_QK_K; b++)
        ((float *)view.d)[b] =
            pack_block((int8_t *)view.q + b * 256, (int16_t *)view.sum + b * 16, x + b * 256, 16);
}
