/* matmul_bench.c - speed of products, one JSON line a case.
 *
 *   bench_matmul [--table NAME] [--type NAME] [--rows N] [--k N] [--cols N]
 *                [--threads N] [--samples N] [--commit TEXT]
 *
 * Without options: every table of this CPU, every type, one thread and all of
 * them, 1 column (decoding: weights come from memory, so the matrix is larger
 * than caches and the number to look at is "of_bandwidth") and 128 (a prompt:
 * "gmacs"). Weights are random bytes; speed does not depend on them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "kernel/kernel.h"

#define DECODE_BYTES (192 * DP_MIB) /* of weights; the largest L3 around is 32 MiB a core group */
#define PROMPT_ROWS  2048
#define SAMPLES_MAX  1000
#define GRAIN_ROWS   256

typedef struct bench {
    const char *table, *type, *commit;
    size_t rows, k, cols, samples;
    uint32_t threads;

    dp_pool *pool;
    uint8_t *weights; /* DECODE_BYTES, random */
    double bandwidth; /* bytes per ns read by this many threads */
} bench;

typedef struct product {
    dp_matmul_fn fn;
    float *y;
    const uint8_t *w, *x;
    size_t row_bytes, rows, x_stride, cols, k;
} product;

static void run_rows(void *user, size_t begin, size_t end, uint32_t worker)
{
    const product *p = user;

    p->fn(p->y + begin, p->rows, p->w + begin * p->row_bytes, p->row_bytes, end - begin, p->x,
          p->x_stride, p->cols, p->k);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* ---- memory bandwidth ---- */

typedef struct reading {
    const uint8_t *bytes;
    uint64_t sum[DP_POOL_THREADS_MAX][8]; /* a line each */
} reading;

/* Four streams at a time, a few lines ahead: one alone does not fill the memory's
 * queues. */
static void read_bytes(void *user, size_t begin, size_t end, uint32_t worker)
{
    reading *r = user;
    const size_t stream = (end - begin) / 4 / 8;
    const uint64_t *word = (const uint64_t *)(const void *)(r->bytes + begin);
    uint64_t s[8] = { 0 };

    for (size_t i = 0; i < stream; i += 8)
        for (size_t at = i; at < 4 * stream; at += stream) {
            __builtin_prefetch(word + at + 128, 0, 2);
            for (size_t j = 0; j < 8; j++)
                s[j] ^= word[at + j];
        }
    for (size_t j = 0; j < 8; j++)
        r->sum[worker][j] ^= s[j];
}

static double measure_bandwidth(bench *b)
{
    static reading r;
    uint64_t best = UINT64_MAX;

    r.bytes = b->weights;
    for (int i = 0; i < 12; i++) {
        uint64_t t = dp_clock_now_ns(&dp_clock_real);

        dp_pool_run(b->pool, DECODE_BYTES, 256 * DP_KIB, read_bytes, &r);
        t = dp_clock_now_ns(&dp_clock_real) - t;
        best = DP_MIN(best, t);
    }
    return (double)DECODE_BYTES / (double)best;
}

/* ---- one case ---- */

static bool prepare(const bench *b, const dp_kernels *table, dp_dtype type, size_t cols, product *p)
{
    const dp_dtype_info *info = dp_dtype_get(type);
    dp_act kind = dp_act_for(type);
    float *x;
    uint8_t *columns;
    dp_rng rng;

    p->fn = table->matmul[type];
    p->cols = cols;
    p->k = b->k;
    p->row_bytes = p->k / info->block_elems * info->block_bytes;
    p->rows = b->rows    ? b->rows
              : cols < 8 ? DECODE_BYTES / p->row_bytes / GRAIN_ROWS * GRAIN_ROWS
                         : PROMPT_ROWS;
    p->rows = DP_MIN(p->rows, DECODE_BYTES / p->row_bytes);
    p->x_stride = dp_act_bytes(kind, p->k);
    p->w = b->weights;
    p->y = dp_alloc_zero(p->rows * cols, sizeof(float));
    columns = dp_map_acquire(cols * p->x_stride);
    p->x = columns;
    x = dp_alloc(p->k, sizeof *x);
    if (!p->y || !columns || !x)
        return false;
    dp_rng_init(&rng, 1);
    for (size_t i = 0; i < p->k; i++)
        x[i] = dp_rng_normal(&rng);
    for (size_t c = 0; c < cols; c++) {
        if (kind == DP_ACT_F32)
            memcpy(columns + c * p->x_stride, x, p->k * sizeof *x);
        else if (kind == DP_ACT_Q8_32)
            table->pack_q8_32(columns + c * p->x_stride, x, p->k);
        else
            table->pack_q8_256(columns + c * p->x_stride, x, p->k);
    }
    dp_free(x);
    return true;
}

static void report(const bench *b, const dp_kernels *table, const product *p, dp_dtype type,
                   double best, double median)
{
    double bytes = (double)p->rows * (double)p->row_bytes;
    double macs = (double)p->rows * (double)p->cols * (double)p->k;

    printf("{\"bench\":\"matmul\",\"host\":\"%s\",\"commit\":\"%s\",\"table\":\"%s\","
           "\"type\":\"%s\",\"rows\":%zu,\"k\":%zu,\"cols\":%zu,\"threads\":%u,\"samples\":%zu,"
           "\"best_ms\":%.4f,\"median_ms\":%.4f,\"weights_gbs\":%.2f,\"gmacs\":%.2f,"
           "\"read_gbs\":%.2f,\"of_bandwidth\":%.3f}\n",
           dp_cpu_get()->name, b->commit, table->name, dp_dtype_get(type)->name, p->rows, p->k,
           p->cols, b->threads, b->samples, best / 1e6, median / 1e6, bytes / best, macs / best,
           b->bandwidth, bytes / best / b->bandwidth);
    fflush(stdout);
}

static bool run_case(const bench *b, const dp_kernels *table, dp_dtype type, size_t cols)
{
    double times[SAMPLES_MAX];
    product p;

    if (!prepare(b, table, type, cols, &p))
        return false;
    for (size_t i = 0; i < b->samples; i++) {
        uint64_t t = dp_clock_now_ns(&dp_clock_real);

        dp_pool_run(b->pool, p.rows, GRAIN_ROWS, run_rows, &p);
        times[i] = (double)(dp_clock_now_ns(&dp_clock_real) - t);
    }
    qsort(times, b->samples, sizeof times[0], compare);
    report(b, table, &p, type, times[0], times[b->samples / 2]);
    dp_free(p.y);
    dp_map_release((void *)p.x, cols * p.x_stride);
    return true;
}

static bool run_threads(bench *b, uint32_t threads)
{
    static const size_t cols[] = { 1, 128 };
    dp_error err;
    bool ok = true;

    b->threads = threads;
    if (dp_pool_open(&b->pool, threads, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return false;
    }
    b->bandwidth = measure_bandwidth(b);
    for (size_t t = 0; dp_kernels_all[t]; t++)
        for (uint32_t type = 0; type < DP_DTYPE_END; type++) {
            const dp_kernels *table = dp_kernels_all[t];

            if (!table->usable() || !table->matmul[type] ||
                (b->table && strcmp(b->table, table->name) != 0) ||
                (b->type && strcmp(b->type, dp_dtype_get(type)->name) != 0))
                continue;
            for (size_t i = 0; i < DP_ARRAY_LEN(cols); i++)
                if (!b->cols || i == 0)
                    ok = ok && run_case(b, table, type, b->cols ? b->cols : cols[i]);
        }
    dp_pool_close(b->pool);
    return ok;
}

static bool parse(bench *b, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        size_t number = value ? strtoull(value, NULL, 10) : 0;

        if (!value)
            return false;
        if (strcmp(name, "--table") == 0)
            b->table = value;
        else if (strcmp(name, "--type") == 0)
            b->type = value;
        else if (strcmp(name, "--commit") == 0)
            b->commit = value;
        else if (strcmp(name, "--rows") == 0)
            b->rows = number;
        else if (strcmp(name, "--k") == 0)
            b->k = number;
        else if (strcmp(name, "--cols") == 0)
            b->cols = number;
        else if (strcmp(name, "--threads") == 0)
            b->threads = (uint32_t)number;
        else if (strcmp(name, "--samples") == 0)
            b->samples = number;
        else
            return false;
    }
    return b->k % DP_QK_K == 0 && b->k > 0 && b->k <= DP_MIB && b->samples > 0 &&
           b->samples <= SAMPLES_MAX && b->cols <= 4096 && b->threads <= DP_POOL_THREADS_MAX;
}

/* Random bytes, each 001xxxxx or 101xxxxx: whichever of them a format takes for a
 * scale, it is a normal number near 1, as in a real model. Subnormal ones would
 * be measured instead of products. */
static void fill(uint8_t *bytes)
{
    uint64_t *word = (uint64_t *)(void *)bytes;
    dp_rng rng;

    dp_rng_init(&rng, 2);
    for (size_t i = 0; i < DECODE_BYTES / 8; i++)
        word[i] = (dp_rng_u64(&rng) & 0xbfbfbfbfbfbfbfbfu) | 0x2020202020202020u;
}

int main(int argc, char **argv)
{
    bench b = { .k = 4096, .samples = 11, .commit = "" };
    bool ok;

    if (!parse(&b, argc, argv)) {
        fprintf(stderr,
                "usage: bench_matmul [--table T] [--type T] [--rows N] [--k N] [--cols N] "
                "[--threads N] [--samples N] [--commit TEXT]\n"
                "k is a multiple of 256, at most 2^20; samples at most %d\n",
                SAMPLES_MAX);
        return 2;
    }
    b.weights = dp_map_acquire(DECODE_BYTES);
    if (!b.weights) {
        fprintf(stderr, "no memory\n");
        return 1;
    }
    fill(b.weights);
    if (b.threads)
        ok = run_threads(&b, b.threads);
    else
        ok = run_threads(&b, 1) &&
             (dp_cpu_get()->thread_count == 1 || run_threads(&b, dp_cpu_get()->thread_count));
    dp_map_release(b.weights, DECODE_BYTES);
    return ok ? 0 : 1;
}
