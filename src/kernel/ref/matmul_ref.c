/* matmul_ref.c - the definition of packing and of products. Order, not speed. */
#include <math.h>
#include <string.h>
#include "base/assert.h"
#include "kernel/kernel_impl.h"

/* ---- packing ---- */

/* Magnitudes are compared as integers: the bits of |x| ascend with |x|, infinity
 * above all numbers and NaN above infinity, so neither can be lost in a maximum.
 * With either in it a block keeps no values, only a d that is not finite. */
static float pack_block(int8_t *q, const float *x, size_t n)
{
    uint32_t bits, bits_max = 0;
    float m, inverse;

    for (size_t i = 0; i < n; i++) {
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffff;
        bits_max = DP_MAX(bits_max, bits);
    }
    memcpy(&m, &bits_max, sizeof m);
    memset(q, 0, n);
    if (m < DP_ACT_TINY)
        return 0;
    if (!isfinite(m))
        return m;
    inverse = 127.0f / m;
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)lrintf(x[i] * inverse);
    return m / 127.0f;
}

static void pack(dp_act kind, size_t block, void *out, const float *x, size_t k)
{
    dp_act_view view = dp_act_get(kind, out, k);
    int8_t *q = (int8_t *)view.q;
    float *d = (float *)view.d;
    int16_t *sum = (int16_t *)view.sum;

    DP_ASSERT(k % block == 0);
    for (size_t b = 0; b < k / block; b++)
        d[b] = pack_block(q + b * block, x + b * block, block);
    for (size_t i = 0; i < k / 16; i++) {
        sum[i] = 0;
        for (size_t j = 0; j < 16; j++)
            sum[i] = (int16_t)(sum[i] + q[i * 16 + j]);
    }
}

void dp_pack_q8_32_ref(void *out, const float *x, size_t k)
{
    pack(DP_ACT_Q8_32, DP_QK, out, x, k);
}

void dp_pack_q8_256_ref(void *out, const float *x, size_t k)
{
    pack(DP_ACT_Q8_256, DP_QK_K, out, x, k);
}

/* ---- products ---- */

static float weight_at(dp_dtype type, const uint8_t *row, size_t i)
{
    uint16_t half;
    float x;

    if (type == DP_F32) {
        memcpy(&x, row + i * 4, 4);
        return x;
    }
    memcpy(&half, row + i * 2, 2);
    return type == DP_F16 ? dp_f32_from_f16(half) : dp_f32_from_bf16(half);
}

static float dot_float(dp_dtype type, const uint8_t *row, const float *x, size_t k)
{
    float v[16] = { 0 };

    for (size_t i = 0; i < k; i++)
        v[i % 16] = fmaf(weight_at(type, row, i), x[i], v[i % 16]);
    for (size_t width = 8; width > 0; width /= 2)
        for (size_t j = 0; j < width; j++)
            v[j] += v[j + width];
    return v[0];
}

static int32_t dot_int(const int8_t *a, const int8_t *b, size_t n)
{
    int32_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static float add_block32(float y, const dp_ints32 *w, bool has_min, dp_act_view x, size_t b)
{
    int32_t isum = dot_int(w->q, x.q + b * DP_QK, DP_QK);

    y = fmaf(w->d * x.d[b], (float)isum, y);
    if (has_min)
        y = fmaf(w->m * x.d[b], (float)(x.sum[2 * b] + x.sum[2 * b + 1]), y);
    return y;
}

static float add_block256(float y, const dp_ints256 *w, bool has_min, dp_act_view x, size_t b)
{
    int32_t isum = 0, msum = 0;

    for (size_t s = 0; s < 16; s++) {
        isum += w->scale[s] * dot_int(w->q + s * 16, x.q + b * DP_QK_K + s * 16, 16);
        msum += w->min[s] * x.sum[b * 16 + s];
    }
    y = fmaf(w->d * x.d[b], (float)isum, y);
    if (has_min)
        y = fmaf(-(w->dmin * x.d[b]), (float)msum, y);
    return y;
}

/* One row against all columns; y[c * y_stride] carries the running sums, so that a
 * block is unpacked once. */
static void row_quant(dp_dtype type, float *y, size_t y_stride, const uint8_t *row,
                      const uint8_t *x, size_t x_stride, size_t cols, size_t k)
{
    const dp_dtype_info *info = dp_dtype_get(type);
    dp_act kind = dp_act_for(type);
    bool has_min32 = type == DP_Q4_1 || type == DP_Q5_1;
    bool has_min256 = type == DP_Q4_K || type == DP_Q5_K || type == DP_Q2_K;
    dp_ints32 w32;
    dp_ints256 w256;

    for (size_t c = 0; c < cols; c++)
        y[c * y_stride] = 0;
    for (size_t b = 0; b < k / info->block_elems; b++) {
        const uint8_t *block = row + b * info->block_bytes;

        if (kind == DP_ACT_Q8_32)
            dp_ints32_unpack(&w32, type, block);
        else
            dp_ints256_unpack(&w256, type, block);
        for (size_t c = 0; c < cols; c++) {
            dp_act_view view = dp_act_get(kind, x + c * x_stride, k);
            float *at = &y[c * y_stride];

            *at = kind == DP_ACT_Q8_32 ? add_block32(*at, &w32, has_min32, view, b)
                                       : add_block256(*at, &w256, has_min256, view, b);
        }
    }
}

static void matmul(dp_dtype type, float *y, size_t y_stride, const void *w, size_t row_bytes,
                   size_t rows, const void *x, size_t x_stride, size_t cols, size_t k)
{
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *row = (const uint8_t *)w + r * row_bytes;

        if (dp_act_for(type) != DP_ACT_F32) {
            row_quant(type, y + r, y_stride, row, x, x_stride, cols, k);
            continue;
        }
        for (size_t c = 0; c < cols; c++)
            y[c * y_stride + r] =
                dot_float(type, row, (const float *)((const uint8_t *)x + c * x_stride), k);
    }
}

#define DEFINE(set, type, id)                                                                      \
    void dp_matmul_##set##_##type(float *y, size_t y_stride, const void *w, size_t row_bytes,      \
                                  size_t rows, const void *x, size_t x_stride, size_t cols,        \
                                  size_t k)                                                        \
    {                                                                                              \
        matmul(id, y, y_stride, w, row_bytes, rows, x, x_stride, cols, k);                         \
    }

DP_MATMUL_FLOAT_TYPES(DEFINE, ref)
DP_MATMUL_QUANT_TYPES(DEFINE, ref)
DP_MATMUL_IQ_TYPES(DEFINE, ref)
