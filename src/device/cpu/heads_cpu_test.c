/* What latent attention asks of a device: a product of its own for each head, either way
 * round, and attention whose values are a part of its keys. Against plain loops in double
 * from the text of device.h, and against itself on every table, thread count and split. */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "device/device.h"
#include "kernel/kernel.h"
#include "testing/check.h"
#include "testing/gguf_fill.h"

#define TOKENS    37 /* more than are multiplied together */
#define HEADS     11 /* more than see a block together */
#define LATENT    96 /* outputs of one way, inputs of the other */
#define NOPE      64
#define ROPE      10
#define OUT       (LATENT + ROPE)
#define POSITIONS 70 /* two blocks and a bit */
#define KEY       (LATENT + ROPE)
#define OFFSET    128

static const dp_device_limits limits = { TOKENS, 1, LATENT, LATENT };

static float x[TOKENS][HEADS][NOPE + ROPE];
static float latent[POSITIONS][LATENT], rope[POSITIONS][ROPE], q[TOKENS][HEADS][KEY];

struct result {
    float y[TOKENS][HEADS][OUT];
};

static void fill(float *out, size_t n, dp_rng *rng)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dp_rng_normal(rng);
}

static int make_world(void **unused)
{
    dp_rng rng;

    dp_rng_init(&rng, 21);
    fill(x[0][0], sizeof x / sizeof(float), &rng);
    fill(latent[0], sizeof latent / sizeof(float), &rng);
    fill(rope[0], sizeof rope / sizeof(float), &rng);
    fill(q[0][0], sizeof q / sizeof(float), &rng);
    return 0;
}

static int memory_is_free(void **unused)
{
    dp_mem_stats mem;

    dp_mem_stats_read(&mem);
    return mem.heap_blocks || mem.map_regions;
}

static dp_device *open_device(const char *kernels, uint32_t threads)
{
    dp_device *d;
    dp_error err;

    CHECK_OK(dp_device_cpu_open(&d, kernels, threads, &limits, &err), err);
    return d;
}

/* ---- weights ---- */

/* HEADS matrices one behind the other with a gap of `gap` rows before each. */
struct stack {
    dp_mat w;
    uint32_t rows, gap;
    uint8_t *bytes;
};

static struct stack make_stack(dp_dtype type, uint32_t rows, uint32_t gap, uint32_t k)
{
    struct stack s = { .rows = rows, .gap = gap };
    dp_gguf_fill how;
    uint64_t row_bytes;
    dp_rng rng;

    dp_rng_init(&rng, 22);
    CHECK(dp_dtype_row_bytes(type, k, &row_bytes), "type %d", type);
    s.w = (dp_mat){ NULL, type, HEADS * (gap + rows), k, row_bytes };
    s.bytes = malloc(row_bytes * s.w.rows);
    s.w.bytes = s.bytes;
    CHECK(dp_gguf_fill_init(&how, type, 0, 0.1f), "type %d", type);
    dp_gguf_fill_run(&how, &rng, s.bytes, row_bytes * s.w.rows / dp_dtype_get(type)->block_bytes);
    return s;
}

/* out [rows][k] of head h. */
static void read_head(const struct stack *s, uint32_t h, float *out)
{
    for (uint32_t r = 0; r < s->rows; r++) {
        size_t row = (size_t)h * (s->gap + s->rows) + s->gap + r;
        dp_dequantize_row(s->w.dtype, out + (size_t)r * s->w.k, s->bytes + row * s->w.row_bytes,
                          s->w.k);
    }
}

static void run_heads(dp_device *d, const struct stack *s, bool is_transposed, uint32_t first,
                      uint32_t count, struct result *out)
{
    dp_op_matmul_heads op = { .w = s->w,
                              .row_first = s->gap,
                              .row_step = s->gap + s->rows,
                              .rows = s->rows,
                              .is_transposed = is_transposed,
                              .x = x[first][0],
                              .x_stride = HEADS * (NOPE + ROPE),
                              .x_head = NOPE + ROPE,
                              .y = out->y[first][0],
                              .y_stride = HEADS * OUT,
                              .y_head = OUT,
                              .tokens = count,
                              .heads = HEADS,
                              .tail = ROPE };

    d->ops->matmul_heads(d, &op);
}

static const struct {
    dp_dtype type;
    bool is_transposed;
} products[] = {
    { DP_F32, false },  { DP_F32, true },   { DP_F16, false },
    { DP_BF16, false }, { DP_BF16, true },  { DP_Q8_0, false },
    { DP_Q8_0, true },  { DP_Q4_0, false }, { DP_Q5_1, true },
};

static struct stack stack_of(size_t row)
{
    return products[row].is_transposed ? make_stack(products[row].type, NOPE, 7, LATENT)
                                       : make_stack(products[row].type, LATENT, 7, NOPE);
}

static void heads_are_products(void **unused)
{
    static float w[LATENT * NOPE];
    static struct result got;

    for (size_t row = 0; row < DP_ARRAY_LEN(products); row++) {
        bool is_packed =
            !products[row].is_transposed && dp_act_for(products[row].type) != DP_ACT_F32;
        dp_device *d = open_device("auto", 2);
        struct stack s = stack_of(row);

        run_heads(d, &s, products[row].is_transposed, 0, TOKENS, &got);
        for (uint32_t h = 0; h < HEADS; h++) {
            read_head(&s, h, w);
            for (uint32_t t = 0; t < TOKENS; t++) {
                for (uint32_t o = 0; o < LATENT; o++) {
                    double want = 0, size = 1e-3, largest = 0;
                    for (uint32_t i = 0; i < NOPE; i++) {
                        double weight =
                            products[row].is_transposed ? w[i * LATENT + o] : w[o * NOPE + i];
                        want += weight * x[t][h][i];
                        size += fabs(weight);
                        largest = fmax(largest, fabs((double)x[t][h][i]));
                    }
                    CHECK(fabs(got.y[t][h][o] - want) <=
                              size * largest * (is_packed ? 1 / 253.0 : 2e-6),
                          "row %zu: token %u, head %u, %u: %g, expected %g", row, t, h, o,
                          got.y[t][h][o], want);
                }
                CHECK(memcmp(got.y[t][h] + LATENT, x[t][h] + NOPE, ROPE * sizeof(float)) == 0,
                      "row %zu: the tail of token %u, head %u", row, t, h);
            }
        }
        free(s.bytes);
        d->ops->close(d);
    }
}

/* The same numbers stored the other way round give the same bits. */
static void transposed_floats_give_the_same_bits(void **unused)
{
    static float w[LATENT * NOPE];
    static struct result plain, turned;
    struct stack a = make_stack(DP_F32, LATENT, 0, NOPE), b = make_stack(DP_F32, NOPE, 3, LATENT);

    for (uint32_t h = 0; h < HEADS; h++) {
        float *to = (float *)a.bytes + (size_t)h * LATENT * NOPE;
        read_head(&b, h, w);
        for (uint32_t i = 0; i < NOPE; i++)
            for (uint32_t o = 0; o < LATENT; o++)
                to[o * NOPE + i] = w[i * LATENT + o];
    }
    for (size_t k = 0; dp_kernels_all[k]; k++) {
        dp_device *d;

        if (!dp_kernels_all[k]->usable())
            continue;
        d = open_device(dp_kernels_all[k]->name, 1);
        run_heads(d, &a, false, 0, TOKENS, &plain);
        run_heads(d, &b, true, 0, TOKENS, &turned);
        CHECK(memcmp(&plain, &turned, sizeof plain) == 0, "%s", d->name);
        d->ops->close(d);
    }
    free(a.bytes);
    free(b.bytes);
}

/* ---- values inside keys ---- */

struct kept {
    uint8_t rows[POSITIONS / DP_KV_BLOCK_TOKENS + 1]
                [OFFSET + DP_KV_BLOCK_TOKENS * KEY * sizeof(float)]; /* of any type */
    uint8_t *table[POSITIONS / DP_KV_BLOCK_TOKENS + 1];
};

static void store_all(dp_device *d, struct kept *kept, dp_kv_layer *layer, dp_dtype type)
{
    dp_kv_layer kv[POSITIONS];
    uint32_t position[POSITIONS];
    dp_op_kv_store op = { rope[0], latent[0], ROPE, LATENT,   POSITIONS, 1,
                          KEY,     LATENT,    kv,   position, true };

    memset(kept, 0, sizeof *kept);
    for (size_t b = 0; b < DP_ARRAY_LEN(kept->table); b++)
        kept->table[b] = kept->rows[b];
    *layer = (dp_kv_layer){ kept->table, OFFSET, type };
    for (uint32_t i = 0; i < POSITIONS; i++) {
        kv[i] = *layer;
        position[i] = i;
    }
    d->ops->kv_store(d, &op);
}

static uint32_t position_of(uint32_t token)
{
    return (token * 29 + 3) % POSITIONS;
}

static void run_attention(dp_device *d, dp_dtype type, uint32_t first, uint32_t count,
                          struct result *out)
{
    static struct kept kept;
    dp_kv_layer layer, kv[TOKENS];
    uint32_t position[TOKENS];
    dp_op_attention op = { q[first][0], HEADS * KEY, out->y[first][0],
                           HEADS * OUT, count,       HEADS,
                           1,           KEY,         LATENT,
                           0.15f,       0,           NULL,
                           kv,          position,    true };

    store_all(d, &kept, &layer, type);
    for (uint32_t t = 0; t < count; t++) {
        kv[t] = layer;
        position[t] = position_of(first + t);
    }
    /* Heads of the result lie LATENT apart. */
    d->ops->attention(d, &op);
}

static double kept_value(dp_dtype type, uint32_t j, uint32_t i)
{
    float x = i < LATENT ? latent[j][i] : rope[j][i - LATENT];

    return type == DP_F16 ? dp_f32_from_f16(dp_f16_from_f32(x)) : x;
}

static const dp_dtype kv_types[] = { DP_F16, DP_F32 };

static void check_values(dp_dtype type)
{
    static struct result got;
    dp_device *d = open_device("auto", 3);

    run_attention(d, type, 0, TOKENS, &got);
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t h = 0; h < HEADS; h++) {
            double p[POSITIONS], sum = 0;
            for (uint32_t j = 0; j <= position_of(t); j++) {
                double score = 0;
                for (uint32_t i = 0; i < KEY; i++)
                    score += (double)q[t][h][i] * kept_value(type, j, i);
                sum += p[j] = exp(score * 0.15);
            }
            for (uint32_t i = 0; i < LATENT; i++) {
                double want = 0;
                for (uint32_t j = 0; j <= position_of(t); j++)
                    want += p[j] / sum * kept_value(type, j, i);
                CHECK(fabs((&got.y[t][0][0])[h * LATENT + i] - want) < 1e-5,
                      "token %u, head %u, %u: %g, expected %g", t, h, i,
                      (&got.y[t][0][0])[h * LATENT + i], want);
            }
        }
    d->ops->close(d);
}

static void values_are_the_first_of_keys(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(kv_types); i++)
        check_values(kv_types[i]);
}

/* ---- a block at a time ---- */

#define OWN 24 /* a head's own keys, and values */

#define OWN_VALUES (HEADS * DP_KV_BLOCK_TOKENS * OWN * 2) /* elements of a block */

/* Attention over keys and values of every head, all blocks at once and one by one. */
static void check_blocks(dp_dtype type)
{
    static float blocks[POSITIONS / DP_KV_BLOCK_TOKENS + 1][OWN_VALUES]; /* of any type */
    static float whole[TOKENS][HEADS][OWN], parts[TOKENS][HEADS][OWN];
    static float max[TOKENS][HEADS], sum[TOKENS][HEADS];
    uint8_t *rows[DP_ARRAY_LEN(blocks)];
    uint32_t position[TOKENS];
    dp_kv_layer kv[TOKENS];
    dp_op_attention op = { q[0][0], HEADS * KEY, whole[0][0], HEADS * OWN, TOKENS,
                           HEADS,   HEADS,       OWN,         OWN,         0.2f,
                           0,       NULL,        kv,          position,    false };
    dp_op_attend_block one = { .q = q[0][0],
                               .q_stride = HEADS * KEY,
                               .out = parts[0][0],
                               .out_stride = HEADS * OWN,
                               .max = max[0],
                               .sum = sum[0],
                               .type = type,
                               .tokens = TOKENS,
                               .heads = HEADS,
                               .key_dim = OWN,
                               .value_dim = OWN,
                               .scale = 0.2f,
                               .position = position };
    uint16_t *half = (uint16_t *)blocks;
    dp_rng rng;

    dp_rng_init(&rng, 23);
    for (size_t b = 0; b < DP_ARRAY_LEN(blocks); b++)
        for (size_t i = 0; i < OWN_VALUES; i++)
            blocks[b][i] = dp_rng_normal(&rng);
    for (size_t i = 0; i < sizeof blocks / sizeof *half && type == DP_F16; i++)
        half[i] = dp_f16_from_f32(dp_rng_normal(&rng));
    for (size_t b = 0; b < DP_ARRAY_LEN(blocks); b++)
        rows[b] = (uint8_t *)blocks[b];
    for (uint32_t t = 0; t < TOKENS; t++) {
        kv[t] = (dp_kv_layer){ rows, 0, type };
        position[t] = POSITIONS - TOKENS + t;
    }
    for (size_t k = 0; dp_kernels_all[k]; k++) {
        dp_device *d;

        if (!dp_kernels_all[k]->usable())
            continue;
        d = open_device(dp_kernels_all[k]->name, 2);
        for (uint32_t t = 0; t < TOKENS; t++)
            for (uint32_t h = 0; h < HEADS; h++)
                max[t][h] = -INFINITY;
        d->ops->attention(d, &op);
        for (one.first = 0; one.first < POSITIONS; one.first += DP_KV_BLOCK_TOKENS) {
            one.block = rows[one.first / DP_KV_BLOCK_TOKENS];
            one.is_last = one.first + DP_KV_BLOCK_TOKENS >= POSITIONS;
            d->ops->attend_block(d, &one);
        }
        CHECK(memcmp(whole, parts, sizeof whole) == 0, "%s", d->name);
        d->ops->close(d);
    }
}

static void blocks_join_as_attention_does(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(kv_types); i++)
        check_blocks(kv_types[i]);
}

/* What was stored comes back, rounded to its type; matrices come back turned round. */
static void what_is_kept_is_read_back(void **unused)
{
    static struct kept kept;
    static float back[8][KEY], turned[HEADS][LATENT][NOPE], w[NOPE * LATENT];
    dp_device *d = open_device("auto", 2);
    struct stack s = make_stack(DP_Q8_0, NOPE, 0, LATENT);
    dp_op_kv_load load = { back[0], { 0 }, 40, 8, KEY };
    dp_op_turn_heads turn = { turned[0][0], s.w, HEADS, NOPE };

    for (size_t k = 0; k < DP_ARRAY_LEN(kv_types); k++) {
        store_all(d, &kept, &load.kv, kv_types[k]);
        d->ops->kv_load(d, &load);
        for (uint32_t j = 0; j < 8; j++)
            for (uint32_t i = 0; i < KEY; i++)
                CHECK(back[j][i] == (float)kept_value(kv_types[k], 40 + j, i), "key %u, %u", j, i);
    }
    d->ops->turn_heads(d, &turn);
    for (uint32_t h = 0; h < HEADS; h++) {
        read_head(&s, h, w);
        for (uint32_t r = 0; r < NOPE; r++)
            for (uint32_t i = 0; i < LATENT; i++)
                CHECK(turned[h][i][r] == w[r * LATENT + i], "head %u, %u %u", h, r, i);
    }
    free(s.bytes);
    d->ops->close(d);
}

/* ---- identity ---- */

static void run_row(dp_device *d, size_t row, uint32_t first, uint32_t count, struct result *out)
{
    struct stack s;

    if (row >= DP_ARRAY_LEN(products)) {
        run_attention(d, kv_types[row - DP_ARRAY_LEN(products)], first, count, out);
        return;
    }
    s = stack_of(row);
    run_heads(d, &s, products[row].is_transposed, first, count, out);
    free(s.bytes);
}

static void every_way_of_computing_gives_the_same_bits(void **unused)
{
    static const uint32_t threads[] = { 1, 3 }, batches[] = { 1, 5, 18, TOKENS };
    static struct result whole, part;
    dp_device *first = open_device("ref", 1);

    for (size_t row = 0; row < DP_ARRAY_LEN(products) + DP_ARRAY_LEN(kv_types); row++) {
        memset(&whole, 0, sizeof whole);
        run_row(first, row, 0, TOKENS, &whole);
        for (size_t k = 0; dp_kernels_all[k]; k++)
            for (size_t i = 0; i < DP_ARRAY_LEN(threads) * DP_ARRAY_LEN(batches); i++) {
                uint32_t batch = batches[i / DP_ARRAY_LEN(threads)];
                dp_device *d;

                if (!dp_kernels_all[k]->usable())
                    continue;
                d = open_device(dp_kernels_all[k]->name, threads[i % DP_ARRAY_LEN(threads)]);
                memset(&part, 0, sizeof part);
                for (uint32_t t = 0; t < TOKENS; t += batch)
                    run_row(d, row, t, DP_MIN(batch, TOKENS - t), &part);
                CHECK(memcmp(&whole, &part, sizeof part) == 0, "row %zu in batches of %u on %s",
                      row, batch, d->name);
                d->ops->close(d);
            }
    }
    first->ops->close(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_products),
        cmocka_unit_test(transposed_floats_give_the_same_bits),
        cmocka_unit_test(values_are_the_first_of_keys),
        cmocka_unit_test(blocks_join_as_attention_does),
        cmocka_unit_test(what_is_kept_is_read_back),
        cmocka_unit_test(every_way_of_computing_gives_the_same_bits),
    };

    return cmocka_run_group_tests(tests, make_world, memory_is_free);
}
