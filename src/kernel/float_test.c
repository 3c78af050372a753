/* float_test.c - every table's float operations against the reference to the bit, and
 * the reference against double arithmetic and an independent f16 conversion. */
#include <math.h>
#include "testing/check.h"
#include "kernel/kernel.h"

enum { N_MAX = 200, N_LARGE = 4099, PAD = 16 };

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint32_t random_bits(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

/* Uniform in [-scale, scale), with a tiny, zero or negative zero thrown in at times. */
static float random_float(float scale)
{
    static const float rare[] = { 0.0f, -0.0f, 1e-30f, -1e-30f, 1e-40f, -1e-40f };
    uint32_t bits = random_bits();

    if (bits % 16 == 0)
        return rare[bits / 16 % DP_ARRAY_LEN(rare)];
    return ((float)(random_bits() >> 8) * 0x1p-23f - 1.0f) * scale;
}

static void fill(float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = random_float(scale);
}

static uint32_t bits_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static void check_same(const void *got, const void *want, size_t bytes, const char *table,
                       const char *what, size_t n)
{
    CHECK(memcmp(got, want, bytes) == 0, "%s %s: n=%zu differs from the reference", table, what, n);
}

/* ---- every table against the reference ---- */

/* One operation on n floats, for a table: x and y are inputs, out starts as a copy of x. */
typedef void (*op_fn)(const dp_kernels *t, float *out, const float *x, const float *y, size_t n);

static void op_rmsnorm(const dp_kernels *t, float *out, const float *x, const float *y, size_t n)
{
    t->rmsnorm(out, x, y, n, 1e-5f);
}

static void op_rmsnorm_in_place(const dp_kernels *t, float *out, const float *x, const float *y,
                                size_t n)
{
    t->rmsnorm(out, out, y, n, 1e-6f);
}

static void op_exp(const dp_kernels *t, float *out, const float *x, const float *y, size_t n)
{
    t->exp(out, x, n);
}

static void op_softmax(const dp_kernels *t, float *out, const float *x, const float *y, size_t n)
{
    t->softmax(out, n);
}

static void op_swiglu(const dp_kernels *t, float *out, const float *x, const float *y, size_t n)
{
    t->swiglu(out, x, y, n);
}

/* Up is within +-1 and gate up to the scale: the limits cut both. */
static void op_swiglu_clamped(const dp_kernels *t, float *out, const float *x, const float *y,
                              size_t n)
{
    t->swiglu_clamped(out, x, y, n, 1.702f, 0.75f);
}

static void op_add(const dp_kernels *t, float *out, const float *x, const float *y, size_t n)
{
    t->add(out, y, n);
}

static void op_add_scaled(const dp_kernels *t, float *out, const float *x, const float *y, size_t n)
{
    t->add_scaled(out, y, -0.37f, n);
}

static void op_f16(const dp_kernels *t, float *out, const float *x, const float *y, size_t n)
{
    uint16_t halves[N_LARGE + PAD];

    t->f16_from_f32(halves, x, n);
    t->f32_from_f16(out, halves, n);
}

static const struct {
    const char *name;
    op_fn op;
    float scale;
} ops[] = {
    { "rmsnorm", op_rmsnorm, 3.0f },
    { "rmsnorm in place", op_rmsnorm_in_place, 1e-3f },
    { "exp", op_exp, 100.0f },
    { "softmax", op_softmax, 20.0f },
    { "swiglu", op_swiglu, 12.0f },
    { "swiglu far", op_swiglu, 120.0f },
    { "swiglu clamped", op_swiglu_clamped, 2.0f },
    { "swiglu clamped far", op_swiglu_clamped, 99.0f },
    { "add", op_add, 1.0f },
    { "add scaled", op_add_scaled, 1.0f },
    { "f16", op_f16, 70000.0f },
    { "f16 small", op_f16, 1e-4f },
};

/* Past n both outputs hold the same guard, so a store too far is seen too. */
static void check_op(size_t which, const dp_kernels *t, size_t n)
{
    static float x[N_LARGE + PAD], y[N_LARGE + PAD], got[N_LARGE + PAD], want[N_LARGE + PAD];

    fill(x, n + PAD, ops[which].scale);
    fill(y, n + PAD, 1.0f);
    memcpy(got, x, sizeof got);
    memcpy(want, x, sizeof want);
    ops[which].op(t, got, x, y, n);
    ops[which].op(&dp_kernels_ref, want, x, y, n);
    check_same(got, want, sizeof got, t->name, ops[which].name, n);
}

static void test_tables(void **state)
{
    for (size_t i = 0; dp_kernels_all[i]; i++) {
        const dp_kernels *t = dp_kernels_all[i];

        if (!t->usable()) {
            printf("skipped: this CPU cannot run %s\n", t->name);
            continue;
        }
        for (size_t which = 0; which < DP_ARRAY_LEN(ops); which++) {
            for (size_t n = 0; n <= N_MAX; n++)
                check_op(which, t, n);
            check_op(which, t, 4096);
            check_op(which, t, N_LARGE);
        }
    }
}

static void check_rope(const dp_kernels *t, size_t heads, size_t dim, dp_rope_layout layout)
{
    enum { STRIDE = N_MAX + 7, HEADS = 3 };
    static float got[HEADS * STRIDE], want[HEADS * STRIDE], c[N_MAX], s[N_MAX];

    fill(got, DP_ARRAY_LEN(got), 2.0f);
    memcpy(want, got, sizeof got);
    fill(c, DP_ARRAY_LEN(c), 1.0f);
    fill(s, DP_ARRAY_LEN(s), 1.0f);
    t->rope(got, heads, STRIDE, dim, layout, c, s);
    dp_kernels_ref.rope(want, heads, STRIDE, dim, layout, c, s);
    check_same(got, want, sizeof got, t->name, layout == DP_ROPE_PAIRS ? "pairs" : "halves", dim);
}

static void test_rope_tables(void **state)
{
    for (size_t i = 0; dp_kernels_all[i]; i++) {
        const dp_kernels *t = dp_kernels_all[i];

        for (size_t dim = 0; t->usable() && dim <= N_MAX; dim += 2) {
            check_rope(t, dim % 4, dim, DP_ROPE_PAIRS);
            check_rope(t, dim % 4, dim, DP_ROPE_HALVES);
        }
    }
}

/* ---- the reference against the formulas ---- */

/* Distance in units in the last place of `want` as a float. */
static double ulps(float got, double want)
{
    int exponent;

    frexp(want, &exponent);
    return fabs((double)got - want) / ldexp(1.0, exponent - 24);
}

static void test_exp(void **state)
{
    double worst = 0;
    float out[2];

    /* Every 997th float of both signs up to the bounds, and the bounds themselves. */
    for (uint32_t bits = 0; bits <= 0x42b00000u; bits += 997) {
        float x[2] = { float_of(bits), -float_of(bits) };

        dp_kernels_ref.exp(out, x, 2);
        worst = fmax(worst, ulps(out[0], exp(x[0])));
        if (x[1] > -87.0f)
            worst = fmax(worst, ulps(out[1], exp(x[1])));
        else
            CHECK(out[1] == 0.0f, "exp(%g) = %g", x[1], out[1]);
    }
    printf("exp: at most %.3f ulp\n", worst);
    CHECK(worst < 2.0, "%g ulp", worst);
}

static void test_exp_bounds(void **state)
{
    static const struct {
        float x, like; /* exp(x) is taken as exp(like); NAN: as 0 */
    } rows[] = {
        { -87.0f, NAN },    { -88.0f, NAN },     { -1e30f, NAN },
        { -INFINITY, NAN }, { 88.0f, 88.0f },    { 88.1f, 88.0f },
        { 1e30f, 88.0f },   { INFINITY, 88.0f }, { -86.99999f, -86.99999f },
        { 0.0f, 0.0f },     { -0.0f, 0.0f },     { 1e-40f, 0.0f },
    };

    for (size_t i = 0; dp_kernels_all[i]; i++) {
        const dp_kernels *t = dp_kernels_all[i];

        for (size_t row = 0; t->usable() && row < DP_ARRAY_LEN(rows); row++) {
            float x[17], out[17];
            double want = isnan(rows[row].like) ? 0.0 : exp(rows[row].like);

            for (int j = 0; j < 17; j++)
                x[j] = rows[row].x;
            t->exp(out, x, 17);
            for (int j = 0; j < 17; j++)
                CHECK(want == 0 ? out[j] == 0 : ulps(out[j], want) < 2, "%s: exp(%g) = %g", t->name,
                      x[j], out[j]);
            x[3] = x[16] = NAN;
            t->exp(out, x, 17);
            CHECK(isnan(out[3]) && isnan(out[16]), "%s: exp(NaN) = %g %g", t->name, out[3],
                  out[16]);
        }
    }
}

static void test_formulas(void **state)
{
    enum { N = 77 };
    float x[N], g[N], out[N], p[N];
    double squares = 0, sum = 0, max = -INFINITY;

    fill(x, N, 4.0f);
    fill(g, N, 1.0f);
    memcpy(p, x, sizeof p);
    for (int i = 0; i < N; i++) {
        squares += (double)x[i] * x[i];
        max = fmax(max, x[i]);
    }
    for (int i = 0; i < N; i++)
        sum += exp(x[i] - max);

    dp_kernels_ref.rmsnorm(out, x, g, N, 1e-5f);
    for (int i = 0; i < N; i++) {
        double want = x[i] * g[i] / sqrt(squares / N + 1e-5);
        CHECK(fabs(out[i] - want) <= 4e-7 * fabs(want) + 1e-37, "rmsnorm %d: %g, not %g", i, out[i],
              want);
    }
    dp_kernels_ref.softmax(p, N);
    for (int i = 0; i < N; i++) {
        double want = exp(x[i] - max) / sum;
        CHECK(fabs(p[i] - want) <= 1e-6 * want, "softmax %d: %g, not %g", i, p[i], want);
    }
    dp_kernels_ref.swiglu(out, x, g, N);
    for (int i = 0; i < N; i++) {
        double want = x[i] / (1 + exp(-(double)x[i])) * g[i];
        CHECK(fabs(out[i] - want) <= 5e-7 * fabs(want) + 1e-37, "swiglu %d: %g, not %g", i, out[i],
              want);
    }
    dp_kernels_ref.swiglu_clamped(out, x, g, N, 1.5f, 0.5f);
    for (int i = 0; i < N; i++) {
        double a = fmin(x[i], 0.5), b = fmax(fmin(g[i], 0.5), -0.5);
        double want = a / (1 + exp(-1.5 * a)) * (b + 1);
        CHECK(fabs(out[i] - want) <= 7e-7 * fabs(want) + 1e-37, "swiglu clamped %d: %g, not %g", i,
              out[i], want);
    }
}

/* What is not a number stays visible. */
static void test_clamped_nan(void **state)
{
    const float x[3] = { NAN, 1, NAN }, y[3] = { 1, NAN, NAN };

    for (size_t i = 0; dp_kernels_all[i]; i++) {
        float out[3];

        if (!dp_kernels_all[i]->usable())
            continue;
        dp_kernels_all[i]->swiglu_clamped(out, x, y, 3, 1.702f, 7);
        CHECK(isnan(out[0]) && isnan(out[1]) && isnan(out[2]), "%s: %g %g %g",
              dp_kernels_all[i]->name, out[0], out[1], out[2]);
    }
}

static void test_rope_formula(void **state)
{
    enum { PAIRS = 5, DIM = 2 * PAIRS };
    float pairs[DIM + 1], halves[DIM + 1], c[PAIRS], s[PAIRS];

    for (int i = 0; i < PAIRS; i++) {
        c[i] = (float)cos(0.7 * i + 0.1);
        s[i] = (float)sin(0.7 * i + 0.1);
        pairs[2 * i] = halves[i] = (float)(i + 1);
        pairs[2 * i + 1] = halves[PAIRS + i] = (float)(3 - 2 * i);
    }
    pairs[DIM] = halves[DIM] = 42.0f;
    dp_kernels_ref.rope(pairs, 1, DIM + 1, DIM, DP_ROPE_PAIRS, c, s);
    dp_kernels_ref.rope(halves, 1, DIM + 1, DIM, DP_ROPE_HALVES, c, s);
    for (int i = 0; i < PAIRS; i++) {
        double a = (i + 1) * cos(0.7 * i + 0.1) - (3 - 2 * i) * sin(0.7 * i + 0.1);
        double b = (i + 1) * sin(0.7 * i + 0.1) + (3 - 2 * i) * cos(0.7 * i + 0.1);

        CHECK(fabs(pairs[2 * i] - a) < 2e-6 && fabs(pairs[2 * i + 1] - b) < 2e-6, "pair %d", i);
        CHECK(halves[i] == pairs[2 * i] && halves[PAIRS + i] == pairs[2 * i + 1], "half %d", i);
    }
    CHECK(pairs[DIM] == 42.0f && halves[DIM] == 42.0f, "past rope_dim nothing turns");
}

/* ---- f16, against arithmetic on doubles ---- */

/* The value of a finite half. */
static double half_value(uint16_t bits)
{
    int exponent = bits >> 10 & 31;
    double fraction = bits & 1023;
    double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);

    return bits & 0x8000 ? -magnitude : magnitude;
}

/* The half nearest to x, the even one of two: among neighbours of a rough guess. */
static uint16_t nearest_half(float x)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    double magnitude = fabs((double)x);
    uint16_t low = 0, high = 0x7c00; /* half_value(0x7c00) reads as 65536, the next step */

    while (high - low > 1) {
        uint16_t middle = (uint16_t)((low + high) / 2);
        if (half_value(middle) <= magnitude)
            low = middle;
        else
            high = middle;
    }
    if (magnitude >= 65536)
        return sign | 0x7c00;
    double below = magnitude - half_value(low);
    double above = (high == 0x7c00 ? 65536.0 : half_value(high)) - magnitude;
    bool up = above < below || (above == below && low % 2);
    return sign | (up ? high : low);
}

static void check_to_f16(float x)
{
    uint16_t got = dp_f16_from_f32(x);
    uint16_t want = nearest_half(x);

    CHECK(got == want, "%a gives 0x%04x, not 0x%04x", x, got, want);
}

static void test_f16(void **state)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float x = dp_f32_from_f16((uint16_t)h);

        if ((h & 0x7c00) == 0x7c00) {
            CHECK(h & 0x3ff ? isnan(x) : isinf(x) && !signbit(x) == !(h & 0x8000), "0x%04x", h);
            CHECK(isinf(x) || isnan(dp_f32_from_f16(dp_f16_from_f32(x))), "0x%04x", h);
            continue;
        }
        CHECK(x == half_value((uint16_t)h) && !signbit(x) == !(h & 0x8000), "0x%04x: %a", h, x);
        /* The half, the tie with the next one, and the floats beside that tie. */
        float next =
            (h & 0x7fff) == 0x7bff ? copysignf(65536.0f, x) : dp_f32_from_f16((uint16_t)(h + 1));
        float tie = (float)(((double)x + next) / 2);
        check_to_f16(x);
        check_to_f16(tie);
        check_to_f16(nextafterf(tie, INFINITY));
        check_to_f16(nextafterf(tie, -INFINITY));
    }
    for (int i = 0; i < 200000; i++) {
        float x = float_of(random_bits());
        if (isfinite(x))
            check_to_f16(x);
    }
}

static void test_f16_tables(void **state)
{
    enum { COUNT = 65536 };
    static uint16_t halves[COUNT], got_half[COUNT], want_half[COUNT];
    static float got[COUNT], want[COUNT];

    for (uint32_t h = 0; h < COUNT; h++)
        halves[h] = (uint16_t)h;
    dp_kernels_ref.f32_from_f16(want, halves, COUNT);
    for (size_t i = 0; dp_kernels_all[i]; i++) {
        const dp_kernels *t = dp_kernels_all[i];

        if (!t->usable())
            continue;
        t->f32_from_f16(got, halves, COUNT);
        check_same(got, want, sizeof got, t->name, "all halves", COUNT);
        for (uint32_t f = 0; f < COUNT; f++) /* every exponent, both signs, NaNs as well */
            got[f] = float_of(f << 16 | (random_bits() & 0xffff));
        t->f16_from_f32(got_half, got, COUNT);
        dp_kernels_ref.f16_from_f32(want_half, got, COUNT);
        check_same(got_half, want_half, sizeof got_half, t->name, "floats to halves", COUNT);
    }
}

static void test_other_scalars(void **state)
{
    for (uint32_t bits = 0; bits < 65536; bits += 7)
        CHECK(bits_of(dp_f32_from_bf16((uint16_t)bits)) == bits << 16, "0x%04x", bits);
    for (int e = 0; e < 255; e++)
        CHECK(dp_f32_from_e8m0_half((uint8_t)e) == ldexp(1.0, e - 128), "e=%d", e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),      cmocka_unit_test(test_rope_tables),
        cmocka_unit_test(test_exp),         cmocka_unit_test(test_exp_bounds),
        cmocka_unit_test(test_formulas),    cmocka_unit_test(test_rope_formula),
        cmocka_unit_test(test_f16),         cmocka_unit_test(test_f16_tables),
        cmocka_unit_test(test_clamped_nan), cmocka_unit_test(test_other_scalars),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
