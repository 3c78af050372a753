/* attention_test.c - attention of every table against the reference to the bit, and the
 * reference against a softmax over all keys in double. */
#include <math.h>
#include "testing/check.h"
#include "kernel/kernel.h"

enum { DIM_MAX = 600, GUARD = 16, HEADS_MAX = 9 };

static uint64_t random_state = 0x243f6a8885a308d3u;

static float random_float(float scale)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return ((float)(random_state >> 40) * 0x1p-23f - 1.0f) * scale;
}

/* Element i of keys or values of a type. */
static void *at(dp_dtype type, void *x, size_t i)
{
    return (uint8_t *)x + i * (type == DP_F32 ? sizeof(float) : sizeof(uint16_t));
}

static void put(dp_dtype type, void *x, size_t i, float value)
{
    if (type == DP_F32)
        *(float *)at(type, x, i) = value;
    else
        *(uint16_t *)at(type, x, i) = dp_f16_from_f32(value);
}

static float get(dp_dtype type, void *x, size_t i)
{
    return type == DP_F32 ? *(float *)at(type, x, i) : dp_f32_from_f16(*(uint16_t *)at(type, x, i));
}

static void fill(dp_dtype type, void *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        put(type, x, i, random_float(scale));
}

/* ---- every table against the reference ---- */

typedef struct head {
    dp_attend_state state;
    float acc[DIM_MAX + GUARD];
    float out[DIM_MAX + GUARD];
} head;

static float q[HEADS_MAX][DIM_MAX];
static float keys[DP_KV_BLOCK * DIM_MAX], values[DP_KV_BLOCK * DIM_MAX]; /* room for any type */

static const dp_dtype types[] = { DP_F16, DP_F32 };
static dp_dtype type; /* of keys and values, in the running row */

static void head_init(head *h)
{
    memset(h, 0, sizeof *h);
    for (int i = 0; i < DIM_MAX + GUARD; i++)
        h->acc[i] = h->out[i] = NAN; /* nothing may be taken from before the first key */
    h->state.acc = h->acc;
    h->state.max = -INFINITY;
    h->state.sum = NAN;
}

static void check_heads(const head *got, const head *want, const char *table, const dp_attend *a)
{
    for (uint32_t h = 0; h < a->heads; h++) {
        /* Zeros of either sign are one maximum. */
        bool same = got[h].state.max == want[h].state.max &&
                    memcmp(&got[h].state.sum, &want[h].state.sum, sizeof(float)) == 0 &&
                    memcmp(got[h].acc, want[h].acc, sizeof got->acc) == 0 &&
                    memcmp(got[h].out, want[h].out, sizeof got->out) == 0;

        CHECK(same, "%s: %s, head %u of %u, key_dim=%u value_dim=%u keys [%u, %u)", table,
              dp_dtype_get(type)->name, h, a->heads, a->key_dim, a->value_dim, a->begin, a->end);
    }
}

/* The heads of `a` together on one table, and each alone by the reference. */
static void run_both(const dp_kernels *t, head *got, head *want, const dp_attend *a)
{
    dp_attend_state states[HEADS_MAX];

    for (uint32_t h = 0; h < a->heads; h++)
        states[h] = got[h].state;
    t->attend[type](states, a);
    for (uint32_t h = 0; h < a->heads; h++) {
        dp_attend one = *a;

        one.q = a->q + h * a->q_stride;
        one.heads = 1;
        got[h].state = states[h];
        dp_kernels_ref.attend[type](&want[h].state, &one);
    }
}

/* Three blocks in a row, so that the running state is met from both sides, then the
 * end with or without a sink. Values are the first of each key's if in_keys. */
static void check_attend(const dp_kernels *t, uint32_t heads, uint32_t key_dim, uint32_t value_dim,
                         uint32_t begin, uint32_t end, bool has_sink, bool in_keys)
{
    static head got[HEADS_MAX], want[HEADS_MAX];
    float sink = random_float(3.0f);

    for (uint32_t h = 0; h < heads; h++) {
        head_init(&got[h]);
        head_init(&want[h]);
    }
    for (int block = 0; block < 3; block++) {
        dp_attend a = { .q = q[0],
                        .q_stride = DIM_MAX,
                        .k = keys,
                        .v = in_keys ? keys : values,
                        .key_dim = key_dim,
                        .value_dim = value_dim,
                        .v_stride = in_keys ? key_dim : value_dim,
                        .heads = heads,
                        .begin = begin,
                        .end = end,
                        .scale = random_float(1.0f) };

        fill(type, keys, (size_t)DP_KV_BLOCK * key_dim, 2.0f);
        fill(type, values, (size_t)DP_KV_BLOCK * value_dim, 1.0f);
        for (uint32_t h = 0; h < heads; h++)
            for (uint32_t i = 0; i < key_dim; i++)
                q[h][i] = (h + i) % 9 ? random_float(2.0f) : -0.0f;
        run_both(t, got, want, &a);
        for (uint32_t h = 0; block == 2 && h < heads; h++) {
            t->attend_finish(&got[h].state, got[h].out, value_dim, has_sink ? &sink : NULL);
            dp_kernels_ref.attend_finish(&want[h].state, want[h].out, value_dim,
                                         has_sink ? &sink : NULL);
        }
        check_heads(got, want, t->name, &a);
    }
}

static void check_table(const dp_kernels *t)
{
    static const uint32_t dims[][2] = { { 64, 64 }, { 128, 128 }, { 576, 512 }, { 192, 128 },
                                        { 80, 80 }, { 96, 96 },   { 256, 256 }, { 72, 200 },
                                        { 15, 17 }, { 33, 1 } };

    for (uint32_t dim = 1; dim <= 140; dim += dim < 36 ? 1 : 7)
        for (uint32_t heads = 1; heads <= 5; heads += 4)
            check_attend(t, heads, dim, 141 - dim, dim % 32, 32, dim % 2, false);
    for (size_t i = 0; i < DP_ARRAY_LEN(dims); i++) {
        check_attend(t, 1, dims[i][0], dims[i][1], 0, 32, true, false);
        check_attend(t, 2, dims[i][0], dims[i][1], 5, 23, false, false);
    }
    for (uint32_t heads = 1; heads <= HEADS_MAX; heads++) {
        check_attend(t, heads, 576, 512, 0, 32, false, true);
        check_attend(t, heads, 40, 33, 6, 29, true, true);
    }
    for (uint32_t begin = 0; begin < DP_KV_BLOCK; begin++) {
        for (uint32_t end = begin + 1; end <= DP_KV_BLOCK; end++)
            check_attend(t, 1 + end % 6, 20, 24, begin, end, end % 2, false);
    }
}

static void test_tables(void **state)
{
    for (size_t i = 0; dp_kernels_all[i]; i++) {
        if (!dp_kernels_all[i]->usable()) {
            printf("skipped: this CPU cannot run %s\n", dp_kernels_all[i]->name);
            continue;
        }
        for (size_t j = 0; j < DP_ARRAY_LEN(types); j++) {
            type = types[j];
            check_table(dp_kernels_all[i]);
        }
    }
}

static void check_invisible(const dp_kernels *t)
{
    enum { DIM = 64, HEADS = 5 };
    static head got[HEADS], want[HEADS];
    dp_attend_state states[HEADS];
    dp_attend a = { .q = q[0],
                    .q_stride = DIM_MAX,
                    .k = keys,
                    .v = values,
                    .key_dim = DIM,
                    .value_dim = DIM,
                    .v_stride = DIM,
                    .heads = HEADS,
                    .begin = 3,
                    .end = 18,
                    .scale = 0.125f };

    fill(type, keys, DP_KV_BLOCK * DIM, 1.0f);
    fill(type, values, DP_KV_BLOCK * DIM, 1.0f);
    for (int h = 0; h < HEADS; h++) {
        head_init(&got[h]);
        head_init(&want[h]);
    }
    run_both(t, got, want, &a);
    for (uint32_t j = 0; j < DP_KV_BLOCK; j++)
        for (uint32_t e = 0; (j < a.begin || j >= a.end) && e < DIM; e++) {
            put(type, keys, j * DIM + e, NAN);
            put(type, values, j * DIM + e, NAN);
        }
    for (int h = 0; h < HEADS; h++) {
        head_init(&got[h]);
        states[h] = got[h].state;
    }
    t->attend[type](states, &a);
    for (int h = 0; h < HEADS; h++)
        got[h].state = states[h];
    check_heads(got, want, t->name, &a);
}

/* What lies in invisible keys and values is not looked at, be it NaN. */
static void test_invisible(void **state)
{
    for (size_t i = 0; dp_kernels_all[i]; i++)
        for (size_t j = 0; j < DP_ARRAY_LEN(types) && dp_kernels_all[i]->usable(); j++) {
            type = types[j];
            check_invisible(dp_kernels_all[i]);
        }
}

/* Keys and values that f16 holds give the same bits in either type. */
static void test_types_agree(void **state)
{
    enum { DIM = 72, HEADS = 6 };
    static head half[HEADS], whole[HEADS];
    static float wide_keys[DP_KV_BLOCK * DIM], wide_values[DP_KV_BLOCK * DIM];

    fill(DP_F32, q, HEADS * DIM_MAX, 1.0f);
    fill(DP_F16, keys, DP_KV_BLOCK * DIM, 1.0f);
    fill(DP_F16, values, DP_KV_BLOCK * DIM, 1.0f);
    for (size_t i = 0; i < DP_ARRAY_LEN(wide_keys); i++) {
        wide_keys[i] = get(DP_F16, keys, i);
        wide_values[i] = get(DP_F16, values, i);
    }
    for (size_t i = 0; dp_kernels_all[i]; i++) {
        const dp_kernels *t = dp_kernels_all[i];
        dp_attend_state states[2][HEADS];
        dp_attend a = { .q = q[0],
                        .q_stride = DIM_MAX,
                        .k = keys,
                        .v = values,
                        .key_dim = DIM,
                        .value_dim = DIM,
                        .v_stride = DIM,
                        .heads = HEADS,
                        .end = 27,
                        .scale = 0.125f };

        if (!t->usable())
            continue;
        for (int h = 0; h < HEADS; h++) {
            head_init(&half[h]);
            head_init(&whole[h]);
            states[0][h] = half[h].state;
            states[1][h] = whole[h].state;
        }
        t->attend[DP_F16](states[0], &a);
        a.k = wide_keys;
        a.v = wide_values;
        t->attend[DP_F32](states[1], &a);
        for (int h = 0; h < HEADS; h++) {
            half[h].state = states[0][h];
            whole[h].state = states[1][h];
        }
        check_heads(half, whole, t->name, &a);
    }
}

/* ---- the reference against the formula ---- */

enum { BLOCKS = 4, KEYS = BLOCKS * DP_KV_BLOCK, K_DIM = 24, V_DIM = 10, FIRST = 7, LAST = 109 };

static float all_keys[KEYS * K_DIM], all_values[KEYS * V_DIM]; /* room for any type */

/* softmax(scale q.k) v over keys FIRST..LAST, with a weightless key of score sink. */
static void attend_double(double out[V_DIM], const float *query, double scale, const float *sink)
{
    double weight[KEYS], sum = sink ? exp(*sink) : 0;

    for (int j = FIRST; j <= LAST; j++) {
        double score = 0;
        for (int i = 0; i < K_DIM; i++)
            score += (double)query[i] * get(type, all_keys, (size_t)j * K_DIM + i);
        weight[j] = exp(scale * score);
        sum += weight[j];
    }
    for (int i = 0; i < V_DIM; i++) {
        out[i] = 0;
        for (int j = FIRST; j <= LAST; j++)
            out[i] += weight[j] / sum * get(type, all_values, (size_t)j * V_DIM + i);
    }
}

static void check_formula(void)
{
    static const float sinks[] = { -5.0f, 2.0f, 30.0f };
    float query[K_DIM], acc[V_DIM];
    double want[V_DIM];

    fill(type, all_keys, KEYS * K_DIM, 2.0f);
    fill(type, all_values, KEYS * V_DIM, 1.0f);
    for (int i = 0; i < K_DIM; i++)
        query[i] = random_float(2.0f);
    for (size_t row = 0; row <= DP_ARRAY_LEN(sinks); row++) {
        const float *sink = row < DP_ARRAY_LEN(sinks) ? &sinks[row] : NULL;
        dp_attend_state s = { .max = -INFINITY, .acc = acc };

        for (uint32_t block = 0; block < BLOCKS; block++) {
            dp_attend a = { .q = query,
                            .k = at(type, all_keys, block * DP_KV_BLOCK * K_DIM),
                            .v = at(type, all_values, block * DP_KV_BLOCK * V_DIM),
                            .key_dim = K_DIM,
                            .value_dim = V_DIM,
                            .v_stride = V_DIM,
                            .heads = 1,
                            .begin = block == 0 ? FIRST : 0,
                            .end =
                                block == BLOCKS - 1 ? LAST + 1 - block * DP_KV_BLOCK : DP_KV_BLOCK,
                            .scale = 0.2f };
            dp_kernels_ref.attend[type](&s, &a);
        }
        dp_kernels_ref.attend_finish(&s, acc, V_DIM, sink);
        attend_double(want, query, 0.2f, sink);
        for (int i = 0; i < V_DIM; i++)
            CHECK(fabs(acc[i] - want[i]) < 2e-6, "%s, sink row %zu, %d: %g, not %g",
                  dp_dtype_get(type)->name, row, i, acc[i], want[i]);
    }
}

static void test_formula(void **state)
{
    for (size_t j = 0; j < DP_ARRAY_LEN(types); j++) {
        type = types[j];
        check_formula();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_invisible),
        cmocka_unit_test(test_types_agree),
        cmocka_unit_test(test_formula),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
