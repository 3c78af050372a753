/* matmul_test.c - packing and products of every table against the reference, bit for
 * bit, and the reference against sums in double. */
#include <math.h>
#include <stdlib.h>
#include "base/rng.h"
#include "kernel/kernel_impl.h"
#include "testing/check.h"

#define ROWS_MAX 40
#define COLS_MAX 40

/* ---- random weights, blocks whose every field may be extreme ---- */

typedef struct scale_field {
    dp_dtype type;
    size_t offset, count; /* neighbouring f16 */
} scale_field;

static const scale_field scale_fields[] = {
    { DP_Q4_0, 0, 1 },
    { DP_Q4_1, 0, 2 },
    { DP_Q5_0, 0, 1 },
    { DP_Q5_1, 0, 2 },
    { DP_Q8_0, 0, 1 },
    { DP_Q2_K, offsetof(dp_block_q2_k, d), 2 },
    { DP_Q3_K, offsetof(dp_block_q3_k, d), 1 },
    { DP_Q4_K, offsetof(dp_block_q4_k, d), 2 },
    { DP_Q5_K, offsetof(dp_block_q5_k, d), 2 },
    { DP_Q6_K, offsetof(dp_block_q6_k, d), 1 },
    { DP_IQ1_S, 0, 1 },
    { DP_IQ2_XXS, 0, 1 },
    { DP_IQ2_XS, 0, 1 },
    { DP_IQ2_S, 0, 1 },
    { DP_IQ3_XXS, 0, 1 },
    { DP_IQ3_S, 0, 1 },
    { DP_IQ4_NL, 0, 1 },
    { DP_IQ4_XS, 0, 1 },
    { DP_TQ1_0, offsetof(dp_block_tq1_0, d), 1 },
    { DP_TQ2_0, offsetof(dp_block_tq2_0, d), 1 },
};

static uint16_t random_f16(dp_rng *rng)
{
    static const uint16_t extremes[] = { 0, 0x8000, 1, 0x83ff, 0x7bff, 0xfbff, 0x3c00, 0xbc00 };

    if (dp_rng_below(rng, 4) == 0)
        return extremes[dp_rng_below(rng, DP_ARRAY_LEN(extremes))];
    return dp_f16_from_f32(dp_rng_normal(rng) * 0.01f);
}

/* The quarters of d lie above the scales, in four half words. */
static void put_d_iq1_m(uint8_t *block, uint16_t half)
{
    uint8_t *scales = block + offsetof(dp_block_iq1_m, scales);

    for (int i = 0; i < 4; i++)
        scales[2 * i + 1] = (uint8_t)((scales[2 * i + 1] & 15) | (half >> (4 * i) & 15) << 4);
}

static void fill_block(dp_dtype type, uint8_t *block, dp_rng *rng)
{
    static const uint8_t fills[] = { 0x00, 0xff, 0x80, 0x7f };
    const dp_dtype_info *info = dp_dtype_get(type);
    bool is_random = dp_rng_below(rng, 3) != 0;
    uint8_t fill = fills[dp_rng_below(rng, DP_ARRAY_LEN(fills))];

    for (size_t i = 0; i < info->block_bytes; i++)
        block[i] = is_random ? (uint8_t)dp_rng_u64(rng) : fill;
    if (type == DP_MXFP4)
        block[0] = (uint8_t)dp_rng_below(rng, 160);
    if (type == DP_IQ1_M)
        put_d_iq1_m(block, random_f16(rng));
    for (size_t f = 0; f < DP_ARRAY_LEN(scale_fields); f++)
        for (size_t i = 0; scale_fields[f].type == type && i < scale_fields[f].count; i++) {
            uint16_t half = random_f16(rng);
            memcpy(block + scale_fields[f].offset + i * 2, &half, 2);
        }
}

static void fill_float(dp_dtype type, uint8_t *at, dp_rng *rng)
{
    float x = dp_rng_normal(rng);
    uint16_t half = random_f16(rng);
    uint32_t bits;

    memcpy(&bits, &x, 4);
    if (type == DP_F32)
        memcpy(at, &x, 4);
    if (type == DP_BF16)
        half = (uint16_t)(bits >> 16);
    if (type != DP_F32)
        memcpy(at, &half, 2);
}

/* Both allocations end where their data end, so that the address sanitizer sees
 * one byte too many. */
static uint8_t *random_weights(dp_dtype type, size_t rows, size_t k, dp_rng *rng)
{
    const dp_dtype_info *info = dp_dtype_get(type);
    size_t size = rows * k / info->block_elems * info->block_bytes;
    uint8_t *w = malloc(size);

    CHECK(w, "%zu bytes", size);
    for (size_t at = 0; at < size; at += info->block_bytes) {
        if (dp_act_for(type) == DP_ACT_F32)
            fill_float(type, w + at, rng);
        else
            fill_block(type, w + at, rng);
    }
    return w;
}

static void random_values(float *x, size_t k, dp_rng *rng)
{
    float scale = dp_rng_below(rng, 8) == 0 ? 0 : ldexpf(1, (int)dp_rng_below(rng, 20) - 10);

    for (size_t i = 0; i < k; i++)
        x[i] = dp_rng_normal(rng) * scale;
}

static void pack(const dp_kernels *t, dp_act kind, void *out, const float *x, size_t k)
{
    if (kind == DP_ACT_F32)
        memcpy(out, x, k * sizeof *x);
    else if (kind == DP_ACT_Q8_32)
        t->pack_q8_32(out, x, k);
    else
        t->pack_q8_256(out, x, k);
}

static uint8_t *random_columns(dp_act kind, size_t cols, size_t k, dp_rng *rng)
{
    size_t size = dp_act_bytes(kind, k);
    uint8_t *out = aligned_alloc(64, cols * size);
    float *x = malloc(k * sizeof *x);

    CHECK(out && x, "%zu columns", cols);
    memset(out, 0, cols * size);
    for (size_t c = 0; c < cols; c++) {
        random_values(x, k, rng);
        pack(&dp_kernels_ref, kind, out + c * size, x, k);
    }
    free(x);
    return out;
}

/* ---- every table against the reference ---- */

typedef struct products {
    const dp_kernels *table;
    dp_dtype type;
    size_t rows, cols, k;
    const uint8_t *w, *x;
    const float *want; /* [cols][rows], the reference's */
} products;

#define CANARY 123456.0f

static void check_shape(const products *p, size_t rows, size_t cols)
{
    size_t x_stride = dp_act_bytes(dp_act_for(p->type), p->k);
    const dp_dtype_info *info = dp_dtype_get(p->type);
    size_t row_bytes = p->k / info->block_elems * info->block_bytes;
    size_t y_stride = rows + rows % 3; /* gaps between columns stay untouched */
    float *y = malloc(cols * y_stride * sizeof *y);

    CHECK(y, "%zu x %zu", rows, cols);
    for (size_t i = 0; i < cols * y_stride; i++)
        y[i] = CANARY;
    /* The last rows of the weights and the last columns, so that reading past
     * either end shows. */
    p->table->matmul[p->type](y, y_stride, p->w + (p->rows - rows) * row_bytes, row_bytes, rows,
                              p->x + (p->cols - cols) * x_stride, x_stride, cols, p->k);
    for (size_t c = 0; c < cols; c++) {
        const float *want = p->want + (p->cols - cols + c) * p->rows + p->rows - rows;

        for (size_t r = 0; r < rows; r++)
            CHECK(memcmp(&y[c * y_stride + r], &want[r], sizeof *y) == 0,
                  "%s %s: %zu rows, %zu cols, k %zu: [%zu][%zu] is %a, should be %a",
                  p->table->name, info->name, rows, cols, p->k, r, c, y[c * y_stride + r], want[r]);
        for (size_t r = rows; r < y_stride; r++)
            CHECK(y[c * y_stride + r] == CANARY, "%s %s: wrote between columns", p->table->name,
                  info->name);
    }
    free(y);
}

static void check_type(dp_dtype type, size_t rows, size_t cols, size_t k, bool all_shapes)
{
    const dp_dtype_info *info = dp_dtype_get(type);
    size_t row_bytes = k / info->block_elems * info->block_bytes;
    size_t x_stride = dp_act_bytes(dp_act_for(type), k);
    float *want = malloc(rows * cols * sizeof *want);
    dp_rng rng;
    uint8_t *w, *x;

    dp_rng_init(&rng, type * 1000003 + k);
    w = random_weights(type, rows, k, &rng);
    x = random_columns(dp_act_for(type), cols, k, &rng);
    dp_kernels_ref.matmul[type](want, rows, w, row_bytes, rows, x, x_stride, cols, k);
    for (size_t t = 0; dp_kernels_all[t]; t++) {
        products p = { dp_kernels_all[t], type, rows, cols, k, w, x, want };

        if (!p.table->usable() || (p.table == &dp_kernels_ref && !all_shapes))
            continue;
        check_shape(&p, rows, cols);
        for (size_t r = 1; all_shapes && r <= rows; r++)
            for (size_t c = 1; c <= cols; c++)
                if (r <= 17 || c <= 17 || (r + c) % 5 == 0)
                    check_shape(&p, r, c);
    }
    free(w);
    free(x);
    free(want);
}

static bool has_kernel(dp_dtype type)
{
    return dp_kernels_ref.matmul[type] != NULL;
}

static void tables_are_complete(void **state)
{
    for (size_t t = 0; dp_kernels_all[t]; t++) {
        const dp_kernels *table = dp_kernels_all[t];

        if (!table->usable())
            print_message("SKIPPED %s: this CPU can't run it\n", table->name);
        for (uint32_t type = 0; type < DP_DTYPE_END; type++)
            CHECK((table->matmul[type] != NULL) == (dp_act_for(type) != DP_ACT_NONE), "%s type %u",
                  table->name, type);
        CHECK(dp_kernels_find(table->name) == (table->usable() ? table : NULL), "%s", table->name);
        if (!dp_kernels_all[t + 1])
            CHECK(table == &dp_kernels_ref, "the last table is %s", table->name);
    }
    CHECK(dp_kernels_find("no such table") == NULL, "found");
    CHECK(dp_kernels_find("auto") == dp_kernels_find(NULL), "auto is not the best");
}

static void small_shapes_match(void **state)
{
    for (uint32_t type = 0; type < DP_DTYPE_END; type++) {
        size_t block = has_kernel(type) ? dp_dtype_get(type)->block_elems : 0;

        if (block)
            check_type(type, ROWS_MAX, COLS_MAX, block == 1 ? 43 : block, true);
    }
}

/* Lengths: blocks beside the groups that loops work in, and odd tails of floats. */
static void row_lengths_match(void **state)
{
    static const size_t counts[] = { 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100 };

    for (uint32_t type = 0; type < DP_DTYPE_END; type++)
        for (size_t i = 0; has_kernel(type) && i < DP_ARRAY_LEN(counts); i++)
            for (size_t cols = 1; cols <= 13; cols += 3)
                check_type(type, 19, cols, counts[i] * dp_dtype_get(type)->block_elems, false);
}

static void many_columns_match(void **state)
{
    for (uint32_t type = 0; type < DP_DTYPE_END; type++)
        if (has_kernel(type))
            check_type(type, 18, 263, 768, false);
}

/* ---- the reference against double ---- */

/* Each block adds at most four roundings of running sums, which are no larger
 * than the sum of magnitudes; decoding rounds once more. */
static double rounding_bound(dp_dtype type, size_t k, double magnitude)
{
    double steps = dp_act_for(type) == DP_ACT_F32
                       ? (double)k / 16 + 5
                       : 4.0 * (double)k / dp_dtype_get(type)->block_elems + 2;

    return steps * 0x1p-24 * magnitude;
}

/* |scale * q| + |min| of each weight: what the sums really add, which may be more
 * than |weight| when the two cancel. */
static void magnitudes(dp_dtype type, double *out, const uint8_t *row, const float *values,
                       size_t k)
{
    const dp_dtype_info *info = dp_dtype_get(type);
    dp_ints32 b32;
    dp_ints256 b256;

    for (size_t i = 0; i < k; i++) {
        size_t e = i % info->block_elems;
        const uint8_t *block = row + i / info->block_elems * info->block_bytes;

        out[i] = fabs(values[i]);
        if (dp_ints32_unpack(&b32, type, block))
            out[i] = fabs((double)b32.d * b32.q[e]) + fabs(b32.m);
        if (dp_ints256_unpack(&b256, type, block))
            out[i] = fabs((double)b256.d * b256.scale[e / 16] * b256.q[e]) +
                     fabs((double)b256.dmin * b256.min[e / 16]);
    }
}

static double act_value(dp_act kind, const uint8_t *x, size_t k, size_t i)
{
    dp_act_view view;

    if (kind == DP_ACT_F32)
        return ((const float *)(const void *)x)[i];
    view = dp_act_get(kind, x, k);
    return (double)view.d[i / (kind == DP_ACT_Q8_32 ? DP_QK : DP_QK_K)] * view.q[i];
}

static void reference_is_near_exact(void **state)
{
    enum { K = 1024 };
    float values[K], y;
    double magnitude[K];
    dp_rng rng;

    dp_rng_init(&rng, 7);
    for (uint32_t type = 0; type < DP_DTYPE_END; type++)
        for (int i = 0; has_kernel(type) && i < 20; i++) {
            dp_act kind = dp_act_for(type);
            uint8_t *w = random_weights(type, 1, K, &rng);
            uint8_t *x = random_columns(kind, 1, K, &rng);
            double sum = 0, total = 0;

            CHECK(dp_dequantize_row(type, values, w, K), "type %u", type);
            magnitudes(type, magnitude, w, values, K);
            for (size_t e = 0; e < K; e++) {
                double a = act_value(kind, x, K, e);
                sum += values[e] * a;
                total += magnitude[e] * fabs(a);
            }
            dp_kernels_ref.matmul[type](&y, 1, w, 0, 1, x, 0, 1, K);
            CHECK(fabs(y - sum) <= rounding_bound(type, K, total), "%s: %a, exactly %a, of %g",
                  dp_dtype_get(type)->name, y, sum, total);
            free(w);
            free(x);
        }
}

/* ---- packing ---- */

static void check_pack(dp_act kind, const float *x, size_t k, const char *what)
{
    size_t size = dp_act_bytes(kind, k);
    uint8_t *want = aligned_alloc(64, size), *got = aligned_alloc(64, size);
    float *exact = malloc(k * sizeof *exact); /* reading past its end shows */

    CHECK(want && got && exact, "%zu bytes", size);
    memcpy(exact, x, k * sizeof *x);
    memset(want, 0xa5, size);
    pack(&dp_kernels_ref, kind, want, exact, k);
    for (size_t t = 0; dp_kernels_all[t]; t++) {
        if (!dp_kernels_all[t]->usable())
            continue;
        memset(got, 0xa5, size);
        pack(dp_kernels_all[t], kind, got, exact, k);
        CHECK(memcmp(want, got, size) == 0, "%s: %s, k %zu", dp_kernels_all[t]->name, what, k);
    }
    free(want);
    free(got);
    free(exact);
}

static void packing_matches(void **state)
{
    enum { K = 256 * 5 };
    static const float odd[] = { 0.0f,       -0.0f,     0x1p-149f, -0x1p-101f, 0x1p-100f,
                                 0x1p-99f,   1.0f,      -127.0f,   0.5f,       63.5f,
                                 0x1.fp127f, -0x1p127f, INFINITY,  -INFINITY,  NAN };
    float x[K];
    dp_rng rng;

    dp_rng_init(&rng, 11);
    for (int i = 0; i < 50; i++) {
        for (size_t b = 0; b < K; b += 32)
            random_values(x + b, 32, &rng);
        for (size_t k = 32; k <= K; k += 32)
            check_pack(DP_ACT_Q8_32, x, k, "random");
        for (size_t k = 256; k <= K; k += 256)
            check_pack(DP_ACT_Q8_256, x, k, "random");
    }
    for (size_t i = 0; i < DP_ARRAY_LEN(odd); i++) {
        memset(x, 0, sizeof x);
        x[37] = odd[i];
        check_pack(DP_ACT_Q8_32, x, K, "one odd value");
        check_pack(DP_ACT_Q8_256, x, K, "one odd value");
    }
    for (size_t i = 0; i < K; i++) /* ties: scale 1, halves round to even */
        x[i] = i % 32 == 0 ? 127 : (float)(i % 254) / 2 - 63;
    check_pack(DP_ACT_Q8_32, x, K, "ties");
    check_pack(DP_ACT_Q8_256, x, K, "ties");
}

static void packing_means_what_it_says(void **state)
{
    float x[32] = { 127, 0.5f, 1.5f, -2.5f, -127 };
    uint8_t column[192] __attribute__((aligned(64))) = { 0 };
    dp_act_view view = dp_act_get(DP_ACT_Q8_32, column, 32);

    CHECK(dp_act_bytes(DP_ACT_Q8_32, 32) == sizeof column, "%zu", dp_act_bytes(DP_ACT_Q8_32, 32));
    x[16] = 3;
    dp_kernels_ref.pack_q8_32(column, x, 32);
    CHECK(view.d[0] == 1, "%g", view.d[0]);
    CHECK(view.q[0] == 127 && view.q[1] == 0 && view.q[2] == 2 && view.q[3] == -2 &&
              view.q[4] == -127 && view.q[16] == 3,
          "%d %d %d %d", view.q[1], view.q[2], view.q[3], view.q[4]);
    CHECK(view.sum[0] == 0 && view.sum[1] == 3, "%d %d", view.sum[0], view.sum[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_complete), cmocka_unit_test(packing_means_what_it_says),
        cmocka_unit_test(packing_matches),     cmocka_unit_test(reference_is_near_exact),
        cmocka_unit_test(small_shapes_match),  cmocka_unit_test(row_lengths_match),
        cmocka_unit_test(many_columns_match),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
