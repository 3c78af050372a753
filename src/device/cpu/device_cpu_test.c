/* Each operation twice: against a plain loop in double written from device.h, and
 * against itself on every kernel table, thread count and split into batches,
 * where not a bit may differ. */
#include "device/device.h"

#include <math.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernel/kernel.h"
#include "testing/check.h"
#include "testing/gguf_fill.h"

#define TOKENS    7
#define WIDTH_MAX 4096 /* floats per token of any operation below */
#define POSITIONS 96   /* three blocks */
#define K_MAX     512
#define PARTS     3
#define ROWS_MAX  300
#define HEADS     6
#define KV_HEADS  2
#define KEY_DIM   24
#define VALUE_DIM 40
#define KV_OFFSET 64 /* another layer's part comes first */
#define BLOCK_SIZE                                                                                 \
    (KV_OFFSET + KV_HEADS * DP_KV_BLOCK_TOKENS * (KEY_DIM + VALUE_DIM) * 4) /* of any type */
#define USED 3

static const dp_device_limits limits = { 2 * POSITIONS, WIDTH_MAX, 64 };

/* ---- one problem per operation ---- */

struct matmul_case {
    dp_dtype type[PARTS];
    uint32_t k, rows[PARTS];
    bool has_bias[PARTS];
};

static const struct matmul_case matmul_cases[] = {
    { { DP_F32, DP_F16, DP_BF16 }, 100, { 300, 17, 5 }, { false, true, false } },
    { { DP_Q4_K, DP_Q6_K, DP_Q8_0 }, 512, { 129, 64, 33 }, { false, true, true } },
    { { DP_F32, DP_Q4_K, DP_Q8_0 }, 256, { 16, 1, 15 }, { true, true, true } },
    { { DP_Q4_0, DP_MXFP4, DP_Q5_1 }, 96, { 40, 40, 40 }, { false, false, true } },
    { { DP_Q2_K, DP_Q3_K, DP_Q5_K }, 256, { 20, 30, 40 }, { false, false, false } },
    { { DP_Q4_1, DP_Q5_0, DP_F16 }, 64, { 7, 1, 3 }, { false, true, false } },
};

/* Inputs shared by all; filled once. */
static struct world {
    float x[TOKENS][WIDTH_MAX], a[TOKENS][WIDTH_MAX], gain[WIDTH_MAX];
    float k[2][POSITIONS][KV_HEADS * KEY_DIM], v[2][POSITIONS][KV_HEADS * VALUE_DIM];
    float sinks[HEADS];
    uint8_t *weights[DP_ARRAY_LEN(matmul_cases)][PARTS];
    float bias[PARTS][ROWS_MAX];
} w;

static const uint32_t gather[TOKENS] = { 3, 0, 6, 3, 1, 5, 2 };
static const uint32_t sequence_of[TOKENS] = { 0, 1, 0, 1, 1, 0, 0 };
static const uint32_t position_of[TOKENS] = { 0, 31, 32, 40, 95, 64, 63 };

static void fill(float *out, size_t n, dp_rng *rng)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dp_rng_normal(rng);
}

static size_t row_bytes(dp_dtype type, uint32_t k)
{
    uint64_t bytes;

    CHECK(dp_dtype_row_bytes(type, k, &bytes), "type %d, k=%u", type, k);
    return (size_t)bytes;
}

static int make_world(void **unused)
{
    dp_rng rng;

    dp_rng_init(&rng, 11);
    fill(w.x[0], TOKENS * WIDTH_MAX, &rng);
    fill(w.a[0], TOKENS * WIDTH_MAX, &rng);
    fill(w.gain, WIDTH_MAX, &rng);
    fill(w.k[0][0], sizeof w.k / sizeof(float), &rng);
    fill(w.v[0][0], sizeof w.v / sizeof(float), &rng);
    fill(w.sinks, HEADS, &rng);
    fill(w.bias[0], PARTS * ROWS_MAX, &rng);
    for (size_t c = 0; c < DP_ARRAY_LEN(matmul_cases); c++)
        for (uint32_t p = 0; p < PARTS; p++) {
            const struct matmul_case *m = &matmul_cases[c];
            size_t size = row_bytes(m->type[p], m->k) * m->rows[p];
            dp_gguf_fill how;

            w.weights[c][p] = malloc(size);
            CHECK(dp_gguf_fill_init(&how, m->type[p], 0, 0.1f), "type %d", m->type[p]);
            dp_gguf_fill_run(&how, &rng, w.weights[c][p],
                             size / dp_dtype_get(m->type[p])->block_bytes);
        }
    return 0;
}

static int free_world(void **unused)
{
    dp_mem_stats mem;

    for (size_t c = 0; c < DP_ARRAY_LEN(matmul_cases); c++)
        for (uint32_t p = 0; p < PARTS; p++)
            free(w.weights[c][p]);
    dp_mem_stats_read(&mem);
    return mem.heap_blocks || mem.map_regions;
}

/* ---- operations on tokens [first, first + count), one row of out a token ---- */

typedef void (*op_fn)(dp_device *d, uint32_t variant, uint32_t first, uint32_t count,
                      float (*out)[WIDTH_MAX]);

static void run_matmul(dp_device *d, uint32_t variant, uint32_t first, uint32_t count,
                       float (*out)[WIDTH_MAX])
{
    const struct matmul_case *m = &matmul_cases[variant];
    dp_op_matmul op = { .x = w.x[0],
                        .x_stride = WIDTH_MAX,
                        .x_rows = gather + first,
                        .tokens = count,
                        .part_count = PARTS };
    uint32_t at = 0;

    for (uint32_t p = 0; p < PARTS; at += m->rows[p++])
        op.part[p] = (dp_matmul_part){ { w.weights[variant][p], m->type[p], m->rows[p], m->k,
                                         row_bytes(m->type[p], m->k) },
                                       m->has_bias[p] ? w.bias[p] : NULL,
                                       out[0] + at,
                                       WIDTH_MAX };
    d->ops->matmul(d, &op);
}

static void run_rmsnorm(dp_device *d, uint32_t variant, uint32_t first, uint32_t count,
                        float (*out)[WIDTH_MAX])
{
    d->ops->rmsnorm(d, out[0], w.x[first], w.gain, count, WIDTH_MAX, 1e-5f);
}

#define ROPE_HEADS 24
#define ROPE_HEAD  128
#define ROPE_DIM   96

static void make_turn(float *cos_out, float *sin_out, uint32_t token)
{
    for (uint32_t i = 0; i < ROPE_DIM / 2; i++) {
        cos_out[i] = cosf(0.3f * (float)(i + 1) * (float)token);
        sin_out[i] = sinf(0.3f * (float)(i + 1) * (float)token);
    }
}

static void run_rope(dp_device *d, uint32_t variant, uint32_t first, uint32_t count,
                     float (*out)[WIDTH_MAX])
{
    float cosines[TOKENS][ROPE_DIM / 2], sines[TOKENS][ROPE_DIM / 2];
    dp_op_rope op = { out[0],
                      WIDTH_MAX,
                      count,
                      ROPE_HEADS,
                      ROPE_HEAD,
                      ROPE_DIM,
                      variant ? DP_ROPE_STYLE_HALVES : DP_ROPE_STYLE_PAIRS,
                      cosines[0],
                      sines[0] };

    for (uint32_t t = 0; t < count; t++)
        make_turn(cosines[t], sines[t], first + t);
    memcpy(out, w.x[first], count * sizeof *out);
    d->ops->rope(d, &op);
}

struct kv_memory {
    uint8_t *rows[2][POSITIONS / DP_KV_BLOCK_TOKENS];
    dp_kv_layer layer[2];
};

/* Keys and values of both sequences, stored by the device in one call. */
static void store_all(dp_device *d, struct kv_memory *m, dp_dtype type)
{
    dp_kv_layer kv[2 * POSITIONS];
    uint32_t position[2 * POSITIONS];
    dp_op_kv_store op = { w.k[0][0],
                          w.v[0][0],
                          KV_HEADS * KEY_DIM,
                          KV_HEADS * VALUE_DIM,
                          2 * POSITIONS,
                          KV_HEADS,
                          KEY_DIM,
                          VALUE_DIM,
                          kv,
                          position };

    for (uint32_t s = 0; s < 2; s++) {
        for (size_t b = 0; b < DP_ARRAY_LEN(m->rows[s]); b++)
            m->rows[s][b] = calloc(1, BLOCK_SIZE);
        m->layer[s] = (dp_kv_layer){ m->rows[s], KV_OFFSET, type };
        for (uint32_t i = 0; i < POSITIONS; i++) {
            kv[s * POSITIONS + i] = m->layer[s];
            position[s * POSITIONS + i] = i;
        }
    }
    d->ops->kv_store(d, &op);
}

static void free_all(struct kv_memory *m)
{
    for (size_t s = 0; s < 2; s++)
        for (size_t b = 0; b < DP_ARRAY_LEN(m->rows[s]); b++)
            free(m->rows[s][b]);
}

static const struct {
    uint32_t window;
    bool has_sinks;
    dp_dtype type; /* of keys and values */
} attentions[] = {
    { 0, false, DP_F16 },  { 33, true, DP_F16 }, { 1, false, DP_F16 },  { 32, true, DP_F16 },
    { 64, false, DP_F16 }, { 0, true, DP_F32 },  { 33, false, DP_F32 },
};

static void run_attention(dp_device *d, uint32_t variant, uint32_t first, uint32_t count,
                          float (*out)[WIDTH_MAX])
{
    struct kv_memory m;
    dp_kv_layer kv[TOKENS];
    dp_op_attention op = { w.x[first],
                           WIDTH_MAX,
                           out[0],
                           WIDTH_MAX,
                           count,
                           HEADS,
                           KV_HEADS,
                           KEY_DIM,
                           VALUE_DIM,
                           0.2f,
                           attentions[variant].window,
                           attentions[variant].has_sinks ? w.sinks : NULL,
                           kv,
                           position_of + first };

    store_all(d, &m, attentions[variant].type);
    for (uint32_t t = 0; t < count; t++)
        kv[t] = m.layer[sequence_of[first + t]];
    d->ops->attention(d, &op);
    free_all(&m);
}

static void run_swiglu(dp_device *d, uint32_t variant, uint32_t first, uint32_t count,
                       float (*out)[WIDTH_MAX])
{
    d->ops->swiglu(d, out[0], w.x[first], w.a[first], (size_t)count * WIDTH_MAX);
}

/* Limits that cut into normally distributed values. */
static void run_swiglu_clamped(dp_device *d, uint32_t variant, uint32_t first, uint32_t count,
                               float (*out)[WIDTH_MAX])
{
    d->ops->swiglu_clamped(d, out[0], w.x[first], w.a[first], (size_t)count * WIDTH_MAX, 1.702f,
                           1.25f);
}

static void run_add(dp_device *d, uint32_t variant, uint32_t first, uint32_t count,
                    float (*out)[WIDTH_MAX])
{
    memcpy(out, w.x[first], count * sizeof *out);
    d->ops->add(d, out[0], w.a[first], (size_t)count * WIDTH_MAX);
}

static uint32_t mix_row(uint32_t token, uint32_t rank)
{
    return (token * 5 + rank * 3) % TOKENS;
}

static void run_mix(dp_device *d, uint32_t variant, uint32_t first, uint32_t count,
                    float (*out)[WIDTH_MAX])
{
    uint32_t rows[TOKENS][USED];
    float weights[TOKENS][USED];
    dp_op_mix op = { out[0], w.a[0], rows[0], weights[0], count, USED, WIDTH_MAX };

    for (uint32_t t = 0; t < count; t++)
        for (uint32_t r = 0; r < USED; r++) {
            rows[t][r] = mix_row(first + t, r);
            weights[t][r] = w.gain[(first + t) * USED + r];
        }
    memcpy(out, w.x[first], count * sizeof *out);
    d->ops->mix(d, &op);
}

static const struct {
    const char *name;
    op_fn run;
    uint32_t variant_count;
} ops[] = {
    { "matmul", run_matmul, DP_ARRAY_LEN(matmul_cases) },
    { "rmsnorm", run_rmsnorm, 1 },
    { "rope", run_rope, 2 },
    { "attention", run_attention, DP_ARRAY_LEN(attentions) },
    { "swiglu", run_swiglu, 1 },
    { "swiglu_clamped", run_swiglu_clamped, 1 },
    { "add", run_add, 1 },
    { "mix", run_mix, 1 },
};

static dp_device *open_device(const char *kernels, uint32_t threads)
{
    dp_device *d;
    dp_error err;

    CHECK_OK(dp_device_cpu_open(&d, kernels, threads, &limits, &err), err);
    return d;
}

/* ---- identity ---- */

static float whole[TOKENS][WIDTH_MAX], part[TOKENS][WIDTH_MAX];

/* Every split into batches of `batch` tokens gives the bits of `whole`. */
static void check_op(dp_device *d, size_t op, uint32_t variant, uint32_t batch)
{
    memset(part, 0, sizeof part);
    for (uint32_t first = 0; first < TOKENS; first += batch)
        ops[op].run(d, variant, first, DP_MIN(batch, TOKENS - first), part + first);
    for (uint32_t t = 0; t < TOKENS; t++)
        CHECK(memcmp(part[t], whole[t], sizeof part[t]) == 0,
              "%s, variant %u, token %u in batches of %u on %s", ops[op].name, variant, t, batch,
              d->name);
}

static void every_way_of_computing_gives_the_same_bits(void **unused)
{
    static const uint32_t threads[] = { 1, 2, 3, 5 };
    dp_device *first = open_device("ref", 1);

    for (size_t k = 0; dp_kernels_all[k]; k++) {
        if (!dp_kernels_all[k]->usable()) {
            printf("skipped: this processor can't run %s\n", dp_kernels_all[k]->name);
            continue;
        }
        for (size_t i = 0; i < DP_ARRAY_LEN(threads); i++) {
            dp_device *d = open_device(dp_kernels_all[k]->name, threads[i]);
            for (size_t op = 0; op < DP_ARRAY_LEN(ops); op++)
                for (uint32_t variant = 0; variant < ops[op].variant_count; variant++) {
                    memset(whole, 0, sizeof whole);
                    ops[op].run(first, variant, 0, TOKENS, whole);
                    for (uint32_t batch = 1; batch <= TOKENS; batch++)
                        check_op(d, op, variant, batch);
                }
            d->ops->close(d);
        }
    }
    first->ops->close(first);
}

/* ---- against plain loops ---- */

static void check_near(double found, double want, double bound, const char *what, uint32_t token,
                       uint32_t i)
{
    CHECK(fabs(found - want) <= bound, "%s: token %u, value %u: %.9g, expected %.9g within %g",
          what, token, i, found, want, bound);
}

/* Weights of blocks meet 8-bit activations: off by half a step, 1/254 of the
 * largest, for every weight. */
static void matmul_is_a_product(void **unused)
{
    dp_device *d = open_device("auto", 2);

    for (uint32_t c = 0; c < DP_ARRAY_LEN(matmul_cases); c++) {
        const struct matmul_case *m = &matmul_cases[c];
        run_matmul(d, c, 0, TOKENS, whole);
        for (uint32_t t = 0; t < TOKENS; t++)
            for (uint32_t p = 0, at = 0; p < PARTS; at += m->rows[p++])
                for (uint32_t r = 0; r < m->rows[p]; r++) {
                    const float *x = w.x[gather[t]];
                    double y = m->has_bias[p] ? w.bias[p][r] : 0, size = 1e-3, largest = 0;
                    float row[K_MAX];
                    bool is_packed = dp_act_for(m->type[p]) != DP_ACT_F32;

                    dp_dequantize_row(m->type[p], row,
                                      w.weights[c][p] + r * row_bytes(m->type[p], m->k), m->k);
                    for (uint32_t i = 0; i < m->k; i++) {
                        y += (double)row[i] * x[i];
                        size += fabs((double)row[i]);
                        largest = fmax(largest, fabs((double)x[i]));
                    }
                    check_near(whole[t][at + r], y, size * largest * (is_packed ? 1 / 253.0 : 2e-6),
                               dp_dtype_get(m->type[p])->name, t, r);
                }
    }
    d->ops->close(d);
}

static void embed_reads_one_row(void **unused)
{
    dp_device *d = open_device("auto", 1);

    for (uint32_t c = 0; c < DP_ARRAY_LEN(matmul_cases); c++)
        for (uint32_t p = 0; p < PARTS; p++) {
            const struct matmul_case *m = &matmul_cases[c];
            dp_mat table = { w.weights[c][p], m->type[p], m->rows[p], m->k,
                             row_bytes(m->type[p], m->k) };
            float want[K_MAX], found[K_MAX];
            uint32_t row = m->rows[p] - 1;

            dp_dequantize_row(m->type[p], want, w.weights[c][p] + row * table.row_bytes, m->k);
            d->ops->embed(d, found, &table, row);
            CHECK(memcmp(found, want, m->k * sizeof(float)) == 0, "case %u, part %u", c, p);
        }
    d->ops->close(d);
}

static void rmsnorm_is_the_formula(void **unused)
{
    dp_device *d = open_device("auto", 2);

    run_rmsnorm(d, 0, 0, TOKENS, whole);
    for (uint32_t t = 0; t < TOKENS; t++) {
        double sum = 0;
        for (uint32_t i = 0; i < WIDTH_MAX; i++)
            sum += (double)w.x[t][i] * w.x[t][i];
        for (uint32_t i = 0; i < WIDTH_MAX; i++)
            check_near(whole[t][i], w.gain[i] * w.x[t][i] / sqrt(sum / WIDTH_MAX + 1e-5), 1e-5,
                       "rmsnorm", t, i);
    }
    d->ops->close(d);
}

static void rope_turns_pairs_and_leaves_the_rest(void **unused)
{
    dp_device *d = open_device("auto", 2);

    for (uint32_t variant = 0; variant < 2; variant++) {
        run_rope(d, variant, 0, TOKENS, whole);
        for (uint32_t t = 0; t < TOKENS; t++) {
            float cosines[ROPE_DIM / 2], sines[ROPE_DIM / 2];
            make_turn(cosines, sines, t);
            for (uint32_t i = 0; i < ROPE_HEADS * ROPE_HEAD; i++) {
                uint32_t at = i % ROPE_HEAD, head = i - at, half = ROPE_DIM / 2;
                uint32_t pair = variant ? at % half : at / 2;
                bool is_second = variant ? at >= half : at % 2;
                uint32_t a = head + (variant ? pair : 2 * pair);
                uint32_t b = head + (variant ? pair + half : 2 * pair + 1);
                double want = w.x[t][i];
                if (at < ROPE_DIM && !is_second)
                    want = (double)w.x[t][a] * cosines[pair] - (double)w.x[t][b] * sines[pair];
                else if (at < ROPE_DIM)
                    want = (double)w.x[t][a] * sines[pair] + (double)w.x[t][b] * cosines[pair];
                check_near(whole[t][i], want, at < ROPE_DIM ? 1e-6 * 8 : 0, "rope", t, i);
            }
        }
    }
    d->ops->close(d);
}

static double kept(dp_dtype type, float x)
{
    return type == DP_F16 ? dp_f32_from_f16(dp_f16_from_f32(x)) : x;
}

/* What is stored is rounded to its type; the rest is a softmax over the visible positions. */
static double attend(uint32_t variant, uint32_t t, uint32_t head, uint32_t i)
{
    uint32_t s = sequence_of[t], last = position_of[t], kv_head = head / (HEADS / KV_HEADS);
    uint32_t window = attentions[variant].window;
    uint32_t first = window && last + 1 > window ? last + 1 - window : 0;
    double sum = attentions[variant].has_sinks ? exp(w.sinks[head]) : 0, out = 0;

    for (uint32_t j = first; j <= last; j++) {
        double score = 0, p;
        for (uint32_t c = 0; c < KEY_DIM; c++)
            score += (double)w.x[t][head * KEY_DIM + c] *
                     kept(attentions[variant].type, w.k[s][j][kv_head * KEY_DIM + c]);
        p = exp((double)0.2f * score);
        sum += p;
        out += p * kept(attentions[variant].type, w.v[s][j][kv_head * VALUE_DIM + i]);
    }
    return out / sum;
}

static void attention_is_a_softmax_over_visible_keys(void **unused)
{
    dp_device *d = open_device("auto", 3);

    for (uint32_t variant = 0; variant < DP_ARRAY_LEN(attentions); variant++) {
        run_attention(d, variant, 0, TOKENS, whole);
        for (uint32_t t = 0; t < TOKENS; t++)
            for (uint32_t i = 0; i < HEADS * VALUE_DIM; i++)
                check_near(whole[t][i], attend(variant, t, i / VALUE_DIM, i % VALUE_DIM), 1e-5,
                           "attention", t, i);
    }
    d->ops->close(d);
}

/* Element i of the part of a block that begins at `part`. */
static double element(dp_dtype type, const uint8_t *part, size_t i)
{
    uint16_t half;
    float whole;

    memcpy(&half, part + i * sizeof half, sizeof half);
    memcpy(&whole, part + i * sizeof whole, sizeof whole);
    return type == DP_F16 ? dp_f32_from_f16(half) : whole;
}

static void store_leaves_other_layers_alone(void **unused)
{
    static const dp_dtype types[] = { DP_F16, DP_F32 };
    dp_device *d = open_device("auto", 1);

    for (size_t i = 0; i < DP_ARRAY_LEN(types); i++) {
        size_t size = types[i] == DP_F16 ? 2 : 4;
        struct kv_memory m;
        const uint8_t *k, *v;

        store_all(d, &m, types[i]);
        /* Position 70 of the second sequence is place 6 of its third block. */
        k = m.rows[1][2] + KV_OFFSET;
        v = k + KV_HEADS * DP_KV_BLOCK_TOKENS * KEY_DIM * size;
        for (uint32_t h = 0; h < KV_HEADS; h++) {
            size_t place = h * DP_KV_BLOCK_TOKENS + 6;
            CHECK(element(types[i], k, place * KEY_DIM) == kept(types[i], w.k[1][70][h * KEY_DIM]),
                  "key %u", h);
            CHECK(element(types[i], v, place * VALUE_DIM) ==
                      kept(types[i], w.v[1][70][h * VALUE_DIM]),
                  "value %u", h);
        }
        for (uint32_t b = 0; b < KV_OFFSET; b++)
            CHECK(m.rows[1][2][b] == 0, "byte %u", b);
        for (size_t b =
                 (size_t)(v - m.rows[1][2]) + KV_HEADS * DP_KV_BLOCK_TOKENS * VALUE_DIM * size;
             b < BLOCK_SIZE; b++)
            CHECK(m.rows[1][2][b] == 0, "byte %zu", b);
        free_all(&m);
    }
    d->ops->close(d);
}

static void pointwise_operations_are_their_formulas(void **unused)
{
    dp_device *d = open_device("auto", 2);

    run_swiglu(d, 0, 0, TOKENS, whole);
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < WIDTH_MAX; i++)
            check_near(whole[t][i], w.x[t][i] / (1 + exp(-(double)w.x[t][i])) * w.a[t][i], 4e-6,
                       "swiglu", t, i);
    run_swiglu_clamped(d, 0, 0, TOKENS, whole);
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < WIDTH_MAX; i++) {
            double gate = fmin(w.x[t][i], 1.25), up = fmax(fmin(w.a[t][i], 1.25), -1.25);
            check_near(whole[t][i], gate / (1 + exp(-(double)1.702f * gate)) * (up + 1), 4e-6,
                       "swiglu_clamped", t, i);
        }
    run_add(d, 0, 0, TOKENS, whole);
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < WIDTH_MAX; i++)
            check_near(whole[t][i], w.x[t][i] + w.a[t][i], 0, "add", t, i);
    d->ops->close(d);
}

/* In order of rank, each step rounded once: the exact float is known. */
static void mix_adds_in_order_of_rank(void **unused)
{
    dp_device *d = open_device("auto", 2);

    run_mix(d, 0, 0, TOKENS, whole);
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < WIDTH_MAX; i++) {
            float want = w.x[t][i];
            for (uint32_t r = 0; r < USED; r++)
                want = fmaf(w.gain[t * USED + r], w.a[mix_row(t, r)][i], want);
            check_near(whole[t][i], want, 0, "mix", t, i);
        }
    d->ops->close(d);
}

/* ---- opening ---- */

static void unknown_kernels_are_named(void **unused)
{
    dp_device *d;
    dp_error err;

    CHECK(dp_device_cpu_open(&d, "z80", 1, &limits, &err) == DP_E_UNSUPPORTED && !d, "opened");
    CHECK(strstr(err.text, "\"z80\""), "%s", err.text);
}

static void types_without_a_kernel_are_told(void **unused)
{
    CHECK(dp_device_cpu_has_dtype(DP_Q4_K) && dp_device_cpu_has_dtype(DP_MXFP4), "known types");
    CHECK(!dp_device_cpu_has_dtype(DP_I32) && !dp_device_cpu_has_dtype(DP_F64), "not weights");
    CHECK(!dp_device_cpu_has_dtype(DP_DTYPE_END) && !dp_device_cpu_has_dtype((dp_dtype)-1),
          "no types");
}

static void scratch_is_what_was_promised(void **unused)
{
    dp_mem_stats before, after;
    dp_device *d;

    dp_mem_stats_read(&before);
    d = open_device("auto", 3);
    dp_mem_stats_read(&after);
    /* Two regions, each rounded up to whole pages. */
    CHECK(after.map_bytes - before.map_bytes < dp_device_cpu_scratch_bytes(&limits, 3) + 2 * 65536,
          "%llu bytes", (unsigned long long)(after.map_bytes - before.map_bytes));
    CHECK(after.map_bytes - before.map_bytes >= dp_device_cpu_scratch_bytes(&limits, 3), "less");
    d->ops->close(d);
}

static void short_memory_is_refused(void **unused)
{
    static const dp_fault points[] = { DP_FAULT_MEM, DP_FAULT_THREAD };

    for (size_t p = 0; p < DP_ARRAY_LEN(points); p++) {
        dp_status st = DP_E_NOMEM;
        for (uint64_t n = 0; st; n++) {
            dp_mem_stats mem;
            dp_device *d;
            dp_error err;

            dp_fault_arm(points[p], n, 1);
            st = dp_device_cpu_open(&d, "auto", 3, &limits, &err);
            dp_fault_disarm(points[p]);
            CHECK(!st == !!d && n < 100, "visit %d", (int)n);
            if (d)
                d->ops->close(d);
            dp_mem_stats_read(&mem);
            CHECK(mem.heap_blocks == 0 && mem.map_regions == 0, "visit %d leaked", (int)n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_of_computing_gives_the_same_bits),
        cmocka_unit_test(matmul_is_a_product),
        cmocka_unit_test(embed_reads_one_row),
        cmocka_unit_test(rmsnorm_is_the_formula),
        cmocka_unit_test(rope_turns_pairs_and_leaves_the_rest),
        cmocka_unit_test(attention_is_a_softmax_over_visible_keys),
        cmocka_unit_test(store_leaves_other_layers_alone),
        cmocka_unit_test(pointwise_operations_are_their_formulas),
        cmocka_unit_test(mix_adds_in_order_of_rank),
        cmocka_unit_test(unknown_kernels_are_named),
        cmocka_unit_test(types_without_a_kernel_are_told),
        cmocka_unit_test(scratch_is_what_was_promised),
        cmocka_unit_test(short_memory_is_refused),
    };

    return cmocka_run_group_tests(tests, make_world, free_world);
}
