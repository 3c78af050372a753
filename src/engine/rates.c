#include "engine/rates.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "device/device.h"

#define CACHED_BYTES ((uint64_t)512 << 10) /* a thread, within second-level caches */
#define CACHED_K     2048
#define PASSES_LEAST 3
#define PASSES_MAX   4096
#define SHAPES_MAX   (32 + DP_DTYPE_END) /* 32, and one of every type that comes later */

typedef struct shape {
    dp_dtype type;
    uint64_t k, rows, row_bytes;
    double products; /* of a token */
} shape;

typedef struct bench {
    const dp_rates_config *config;
    dp_device *device;
    shape shapes[SHAPES_MAX];
    uint32_t count;
    uint64_t k_max, rows_max;
    uint8_t *region; /* [config->region_bytes] of zeros: no kernel's time depends on weights */
    float *x, *y;    /* [k_max], [rows_max] */
    uint64_t ns[PASSES_MAX];
} bench;

/* ---- what is multiplied ---- */

static shape *find_type(bench *b, dp_dtype type)
{
    for (uint32_t i = 0; i < b->count; i++)
        if (b->shapes[i].type == type)
            return &b->shapes[i];
    return NULL;
}

static shape *find_shape(bench *b, const shape *like)
{
    for (uint32_t i = 0; i < b->count; i++)
        if (b->shapes[i].type == like->type && b->shapes[i].k == like->k &&
            b->shapes[i].rows == like->rows)
            return &b->shapes[i];
    return NULL;
}

static void add_shape(bench *b, const shape *more)
{
    shape *same = find_shape(b, more), *near = find_type(b, more->type);

    if (same) {
        same->products += more->products;
    } else if (near && b->count >= SHAPES_MAX - DP_DTYPE_END) {
        /* models have a handful; one that has more counts as so many bytes of another */
        near->products += more->products * (double)(more->rows * more->row_bytes) /
                          (double)(near->rows * near->row_bytes);
    } else {
        b->shapes[b->count++] = *more;
    }
}

/* A tall matrix is read as many, none of which takes more than half of the region. */
static void collect(bench *b, const dp_gguf *gguf, const dp_rates_use *used)
{
    uint64_t bytes_max = b->config->region_bytes / 2;

    for (size_t i = 0; i < dp_gguf_tensor_count(gguf); i++) {
        const dp_tensor *t = dp_gguf_tensor(gguf, i);
        shape s = { t->dtype, t->ne[0], used[i].rows, 0, used[i].products };

        /* norms and biases are next to nothing */
        if (t->dim_count < 2 || t->dtype >= DP_DTYPE_END || s.products <= 0 || !s.rows ||
            !b->device->ops->has_dtype(b->device, s.type) ||
            !dp_dtype_row_bytes(s.type, s.k, &s.row_bytes) || s.row_bytes > bytes_max)
            continue;
        if (s.rows * s.row_bytes > bytes_max) {
            s.rows = bytes_max / s.row_bytes;
            s.products *= (double)used[i].rows / (double)s.rows;
        }
        b->k_max = DP_MAX(b->k_max, s.k);
        b->rows_max = DP_MAX(b->rows_max, s.rows);
        add_shape(b, &s);
    }
}

/* ---- how long it takes ---- */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Times products for a while, each behind the one before in the first `within` bytes of the
 * region; leaves *count times in order of length. */
static void time_products(bench *b, const shape *s, uint64_t within, uint32_t *count)
{
    uint64_t size = s->rows * s->row_bytes, at = 0;
    uint64_t begin_ns = dp_clock_now_ns(&dp_clock_real), from_ns = begin_ns;
    dp_op_matmul op = { .x = b->x, .x_stride = s->k, .tokens = 1, .part_count = 1 };

    op.part[0] = (dp_matmul_part){ .w = { b->region, s->type, (uint32_t)s->rows, (uint32_t)s->k,
                                          s->row_bytes },
                                   .y = b->y,
                                   .y_stride = s->rows };
    for (*count = 0; *count < PASSES_MAX &&
                     (*count < PASSES_LEAST || from_ns - begin_ns < b->config->measure_ns);
         ++*count) {
        uint64_t now_ns;

        at = at + size <= within ? at : 0;
        op.part[0].w.bytes = b->region + at;
        at += dp_align_up(size, DP_CACHE_LINE);
        b->device->ops->matmul(b->device, &op);
        now_ns = dp_clock_now_ns(&dp_clock_real);
        b->ns[*count] = DP_MAX(now_ns - from_ns, 1);
        from_ns = now_ns;
    }
    qsort(b->ns, *count, sizeof *b->ns, compare);
}

/* Seconds a byte of the fastest product of a matrix that caches hold. */
static dp_status time_type(bench *b, dp_dtype type, double *byte_s, dp_error *err)
{
    shape s = { .type = type, .k = CACHED_K };
    uint32_t count;

    if (!dp_dtype_row_bytes(type, s.k, &s.row_bytes))
        return dp_fail(err, DP_E_UNSUPPORTED, "rates: rows of type %d", (int)type);
    s.rows = DP_MAX(CACHED_BYTES * b->config->threads / s.row_bytes, 16);
    s.rows = DP_MIN(s.rows, b->config->region_bytes / s.row_bytes);
    time_products(b, &s, s.rows * s.row_bytes, &count);
    *byte_s = (double)b->ns[0] / 1e9 / (double)(s.rows * s.row_bytes);
    return DP_OK;
}

static dp_status time_all(bench *b, dp_rates *out, dp_error *err)
{
    double byte_s[DP_DTYPE_END] = { 0 };

    for (uint32_t i = 0; i < b->count; i++) {
        const shape *s = &b->shapes[i];
        double bytes = s->products * (double)(s->rows * s->row_bytes);
        uint32_t count;
        dp_status st = DP_OK;

        if (byte_s[s->type] <= 0)
            st = time_type(b, s->type, &byte_s[s->type], err);
        if (st)
            return st;
        out->compute_s += bytes * byte_s[s->type];
        time_products(b, s, b->config->region_bytes, &count);
        out->step_s += s->products * (double)b->ns[count / 2] / 1e9;
    }
    return DP_OK;
}

/* ---- all of it ---- */

static dp_status take_memory(bench *b, dp_error *err)
{
    uint64_t rows = DP_MAX(b->rows_max, CACHED_BYTES * b->config->threads);

    b->region = dp_map_acquire(b->config->region_bytes);
    b->x = b->device->ops->acquire(b->device, b->k_max * sizeof *b->x);
    b->y = b->device->ops->acquire(b->device, rows * sizeof *b->y);
    if (!b->region || !b->x || !b->y)
        return dp_fail(err, DP_E_NOMEM, "rates: no memory for a matrix");
    /* Memory nobody wrote to is one page of zeros, which caches hold. */
    memset(b->region, 0, b->config->region_bytes);
    return DP_OK;
}

static void give_memory(bench *b)
{
    uint64_t rows = DP_MAX(b->rows_max, CACHED_BYTES * b->config->threads);

    if (b->x)
        b->device->ops->release(b->device, b->x, b->k_max * sizeof *b->x);
    if (b->y)
        b->device->ops->release(b->device, b->y, rows * sizeof *b->y);
    dp_map_release(b->region, b->config->region_bytes);
}

static uint64_t widest(const dp_gguf *gguf, const dp_rates_use *used)
{
    uint64_t k = CACHED_K;

    for (size_t i = 0; i < dp_gguf_tensor_count(gguf); i++)
        if (dp_gguf_tensor(gguf, i)->dim_count > 1 && used[i].products > 0)
            k = DP_MAX(k, dp_gguf_tensor(gguf, i)->ne[0]);
    return k;
}

dp_status dp_rates_measure(dp_rates *out, const dp_gguf *gguf, const dp_rates_use *used,
                           const dp_rates_config *config, dp_error *err)
{
    dp_device_limits limits = { .tokens = 1,
                                .k_max = (uint32_t)widest(gguf, used),
                                .value_dim = 64 };
    bench *b = dp_alloc_zero(1, sizeof *b);
    dp_status st;

    *out = (dp_rates){ 0 };
    if (!b)
        return dp_fail(err, DP_E_NOMEM, "rates: no memory");
    b->config = config;
    b->k_max = CACHED_K;
    st = dp_device_cpu_open(&b->device, config->kernels, config->threads, &limits, err);
    if (st)
        goto done;
    collect(b, gguf, used);
    st = take_memory(b, err);
    if (!st)
        st = time_all(b, out, err);
    give_memory(b);
    b->device->ops->close(b->device);
done:
    dp_free(b);
    return st;
}
