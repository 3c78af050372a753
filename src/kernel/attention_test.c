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

static void fill_half(uint16_t *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = dp_f16_from_f32(random_float(scale));
}

/* ---- every table against the reference ---- */

typedef struct head {
    dp_attend_state state;
    float acc[DIM_MAX + GUARD];
    float out[DIM_MAX + GUARD];
} head;

static float q[HEADS_MAX][DIM_MAX];
static uint16_t keys[DP_KV_BLOCK * DIM_MAX], values[DP_KV_BLOCK * DIM_MAX];

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

        CHECK(same, "%s: head %u of %u, key_dim=%u value_dim=%u keys [%u, %u)", table, h, a->heads,
              a->key_dim, a->value_dim, a->begin, a->end);
    }
}

/* The heads of `a` together on one table, and each alone by the reference. */
static void run_both(const dp_kernels *t, head *got, head *want, const dp_attend *a)
{
    dp_attend_state states[HEADS_MAX];

    for (uint32_t h = 0; h < a->heads; h++)
        states[h] = got[h].state;
    t->attend(states, a);
    for (uint32_t h = 0; h < a->heads; h++) {
        dp_attend one = *a;

        one.q = a->q + h * a->q_stride;
        one.heads = 1;
        got[h].state = states[h];
        dp_kernels_ref.attend(&want[h].state, &one);
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

        fill_half(keys, (size_t)DP_KV_BLOCK * key_dim, 2.0f);
        fill_half(values, (size_t)DP_KV_BLOCK * value_dim, 1.0f);
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
        if (dp_kernels_all[i]->usable())
            check_table(dp_kernels_all[i]);
        else
            printf("skipped: this CPU cannot run %s\n", dp_kernels_all[i]->name);
    }
}

/* What lies in invisible keys and values is not looked at, be it NaN. */
static void test_invisible(void **state)
{
    enum { DIM = 64, HEADS = 5 };
    static head got[HEADS], want[HEADS];

    for (size_t i = 0; dp_kernels_all[i]; i++) {
        const dp_kernels *t = dp_kernels_all[i];
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

        if (!t->usable())
            continue;
        fill_half(keys, DP_KV_BLOCK * DIM, 1.0f);
        fill_half(values, DP_KV_BLOCK * DIM, 1.0f);
        for (int h = 0; h < HEADS; h++) {
            head_init(&got[h]);
            head_init(&want[h]);
        }
        run_both(t, got, want, &a);
        for (uint32_t j = 0; j < DP_KV_BLOCK; j++) {
            for (int e = 0; (j < a.begin || j >= a.end) && e < DIM; e++)
                keys[j * DIM + e] = values[j * DIM + e] = 0x7e00;
        }
        for (int h = 0; h < HEADS; h++) {
            head_init(&got[h]);
            states[h] = got[h].state;
        }
        t->attend(states, &a);
        for (int h = 0; h < HEADS; h++)
            got[h].state = states[h];
        check_heads(got, want, t->name, &a);
    }
}

/* ---- the reference against the formula ---- */

enum { BLOCKS = 4, KEYS = BLOCKS * DP_KV_BLOCK, K_DIM = 24, V_DIM = 10, FIRST = 7, LAST = 109 };

static uint16_t all_keys[KEYS][K_DIM], all_values[KEYS][V_DIM];

/* softmax(scale q.k) v over keys FIRST..LAST, with a weightless key of score sink. */
static void attend_double(double out[V_DIM], const float *query, double scale, const float *sink)
{
    double weight[KEYS], sum = sink ? exp(*sink) : 0;

    for (int j = FIRST; j <= LAST; j++) {
        double score = 0;
        for (int i = 0; i < K_DIM; i++)
            score += (double)query[i] * dp_f32_from_f16(all_keys[j][i]);
        weight[j] = exp(scale * score);
        sum += weight[j];
    }
    for (int i = 0; i < V_DIM; i++) {
        out[i] = 0;
        for (int j = FIRST; j <= LAST; j++)
            out[i] += weight[j] / sum * dp_f32_from_f16(all_values[j][i]);
    }
}

static void test_formula(void **state)
{
    static const float sinks[] = { -5.0f, 2.0f, 30.0f };
    float query[K_DIM], acc[V_DIM];
    double want[V_DIM];

    fill_half(all_keys[0], KEYS * K_DIM, 2.0f);
    fill_half(all_values[0], KEYS * V_DIM, 1.0f);
    for (int i = 0; i < K_DIM; i++)
        query[i] = random_float(2.0f);
    for (size_t row = 0; row <= DP_ARRAY_LEN(sinks); row++) {
        const float *sink = row < DP_ARRAY_LEN(sinks) ? &sinks[row] : NULL;
        dp_attend_state s = { .max = -INFINITY, .acc = acc };

        for (uint32_t block = 0; block < BLOCKS; block++) {
            dp_attend a = { .q = query,
                            .k = all_keys[block * DP_KV_BLOCK],
                            .v = all_values[block * DP_KV_BLOCK],
                            .key_dim = K_DIM,
                            .value_dim = V_DIM,
                            .v_stride = V_DIM,
                            .heads = 1,
                            .begin = block == 0 ? FIRST : 0,
                            .end =
                                block == BLOCKS - 1 ? LAST + 1 - block * DP_KV_BLOCK : DP_KV_BLOCK,
                            .scale = 0.2f };
            dp_kernels_ref.attend(&s, &a);
        }
        dp_kernels_ref.attend_finish(&s, acc, V_DIM, sink);
        attend_double(want, query, 0.2f, sink);
        for (int i = 0; i < V_DIM; i++)
            CHECK(fabs(acc[i] - want[i]) < 2e-6, "sink row %zu, %d: %g, not %g", row, i, acc[i],
                  want[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_invisible),
        cmocka_unit_test(test_formula),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
