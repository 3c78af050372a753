#include "tier/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/thread.h"

#define READS_MAX     64 /* of a page in the smallest requests (13 MiB / 256 KiB), or a depth */
#define ROUNDS        2
#define SUSTAIN_PART  5    /* and one for going on with the chosen way */
#define LATENCY_PART  4    /* one in so many parts of the time is for latencies */
#define SAMPLES_MAX   4096 /* of one latency */
#define SAMPLES_LEAST 3    /* however slow they are */
#define NEAR          0.97 /* of the fastest */
#define OUTLASTS      4    /* times its time that a way's first requests may take */

static const uint64_t sizes[DP_PROBE_SIZES_MAX] = { 4 * DP_KIB, DP_MIB, 4 * DP_MIB, 13 * DP_MIB };

/* Reads under way: shared with the queue's thread. */
typedef struct pump {
    dp_aio *aio;
    const dp_probe_config *config;
    uint64_t window;
    bool is_direct;

    dp_mutex lock; /* guards all below */
    dp_cond idle;
    uint64_t offset;  /* of the next request of a sweep */
    uint64_t stop_ns; /* none is sent later; 0: none is sent but the first */
    uint64_t end_ns;  /* when the last one ended */
    uint64_t bytes;   /* that arrived */
    uint32_t pending;
    int errnum;
    dp_aio_read reads[READS_MAX];
} pump;

/* ---- the grid and the choice ---- */

static uint64_t flight_of(const dp_probe_row *row)
{
    return row->request_bytes * row->depth;
}

static int by_flight(const void *a, const void *b)
{
    const dp_probe_row *x = a, *y = b;

    if (flight_of(x) != flight_of(y))
        return flight_of(x) < flight_of(y) ? -1 : 1;
    if (x->depth != y->depth)
        return x->depth < y->depth ? -1 : 1;
    if (x->is_direct != y->is_direct)
        return x->is_direct ? -1 : 1;
    return strcmp(x->engine, y->engine);
}

typedef struct grid {
    dp_probe_row *rows;
    uint32_t count;
} grid;

static void add_ways(grid *g, const char *engine, bool is_direct, uint32_t request_step,
                     uint32_t depth_step, uint32_t depth_first)
{
    for (uint64_t request = request_step > 1 ? DP_MIB : 256 * DP_KIB; request <= 16 * DP_MIB;
         request <<= request_step)
        for (uint32_t depth = depth_first; depth <= 32; depth <<= depth_step) {
            if (request * depth > DP_PROBE_FLIGHT_MAX || g->count == DP_PROBE_ROWS_MAX)
                continue;
            g->rows[g->count] =
                (dp_probe_row){ .is_direct = is_direct, .request_bytes = request, .depth = depth };
            snprintf(g->rows[g->count++].engine, sizeof g->rows[0].engine, "%s", engine);
        }
}

uint32_t dp_probe_ways(dp_probe_row rows[DP_PROBE_ROWS_MAX], bool has_direct, bool has_uring,
                       bool is_quick)
{
    const char *first = has_uring ? "io_uring" : "threads";
    grid g = { rows, 0 };

    if (is_quick) {
        add_ways(&g, first, has_direct, 2, 2, 2); /* 1, 4, 16 MiB by 2, 8, 32 */
    } else {
        add_ways(&g, first, has_direct, 1, 1, 1);
        if (has_direct)
            add_ways(&g, first, false, 2, 2, 2);
        if (has_uring)
            add_ways(&g, "threads", has_direct, 2, 2, 2);
    }
    qsort(rows, g.count, sizeof *rows, by_flight);
    return g.count;
}

/* Enough under way, in enough requests, for a run. */
static bool is_ample(const dp_probe_row *row)
{
    return flight_of(row) >= DP_PROBE_FLIGHT_LEAST && row->depth >= DP_PROBE_DEPTH_LEAST;
}

uint32_t dp_probe_choose(const dp_probe_row *rows, uint32_t count)
{
    uint32_t chosen = DP_PROBE_NONE;
    bool has_ample = false;
    double best = 0;

    for (uint32_t i = 0; i < count; i++)
        has_ample = has_ample || (rows[i].bytes_s > 0 && is_ample(&rows[i]));
    for (uint32_t i = 0; i < count; i++)
        if (!has_ample || is_ample(&rows[i]))
            best = rows[i].bytes_s > best ? rows[i].bytes_s : best;
    for (uint32_t i = 0; i < count; i++) {
        const dp_probe_row *row = &rows[i];

        if (row->bytes_s <= 0 || row->bytes_s < best * NEAR || (has_ample && !is_ample(row)))
            continue;
        if (chosen == DP_PROBE_NONE || (row->is_direct && !rows[chosen].is_direct) ||
            (row->is_direct == rows[chosen].is_direct && by_flight(row, &rows[chosen]) < 0))
            chosen = i;
    }
    return chosen;
}

/* ---- reads ---- */

static void read_done(dp_aio_read *read, int errnum);

/* Caller holds p->lock. The place of the next request of a sweep, over the window's end to
 * its beginning. */
static void aim_locked(pump *p, dp_aio_read *read, uint64_t size)
{
    if (p->offset + size > p->window)
        p->offset = 0;
    read->offset = p->offset;
    p->offset += size;
    p->pending++;
}

static void read_done(dp_aio_read *read, int errnum)
{
    pump *p = read->user;
    bool goes_on;

    dp_mutex_lock(&p->lock);
    p->pending--;
    p->end_ns = dp_clock_now_ns(p->config->clock);
    if (errnum)
        p->errnum = errnum;
    else
        p->bytes += read->size;
    goes_on = !p->errnum && p->end_ns < p->stop_ns;
    if (goes_on)
        aim_locked(p, read, read->size);
    else if (p->pending == 0)
        dp_cond_signal(&p->idle);
    dp_mutex_unlock(&p->lock);
    if (goes_on)
        dp_aio_submit(p->aio, read);
}

static void prepare(pump *p, uint32_t i, uint8_t *room, uint64_t size)
{
    p->reads[i] = (dp_aio_read){ .file = p->config->file,
                                 .is_direct = p->is_direct,
                                 .class_ = DP_AIO_DEMAND,
                                 .size = size,
                                 .size_needed = size,
                                 .out = room,
                                 .done = read_done,
                                 .user = p };
}

/* Sends count prepared reads and waits for them and what they send. */
static dp_status run_reads(pump *p, uint32_t count, dp_error *err)
{
    int errnum;

    for (uint32_t i = 0; i < count; i++)
        dp_aio_submit(p->aio, &p->reads[i]);
    dp_mutex_lock(&p->lock);
    while (p->pending)
        dp_cond_wait(&p->idle, &p->lock);
    errnum = p->errnum;
    dp_mutex_unlock(&p->lock);
    if (errnum)
        return dp_fail_errno(err, DP_E_IO, errnum, "%s: probing reads of it", p->config->path);
    return DP_OK;
}

/* One way for about run_ns; the faster of what it had and has counts. */
static dp_status sweep(pump *p, dp_probe_row *row, uint8_t *room, uint64_t run_ns, dp_error *err)
{
    uint64_t begin_ns;
    double rate;
    dp_status st;

    p->is_direct = row->is_direct;
    if (!row->is_direct)
        dp_file_drop_range(p->config->file, 0, p->window);
    for (uint32_t i = 0; i < row->depth; i++)
        prepare(p, i, room + i * row->request_bytes, row->request_bytes);
    begin_ns = dp_clock_now_ns(p->config->clock);
    dp_mutex_lock(&p->lock);
    p->stop_ns = begin_ns + run_ns;
    p->bytes = 0;
    for (uint32_t i = 0; i < row->depth; i++)
        aim_locked(p, &p->reads[i], row->request_bytes);
    dp_mutex_unlock(&p->lock);
    st = run_reads(p, row->depth, err);
    if (st)
        return st;
    rate = (double)p->bytes * 1e9 / (double)DP_MAX(p->end_ns - begin_ns, 1u);
    row->bytes_s = rate > row->bytes_s ? rate : row->bytes_s;
    return DP_OK;
}

static dp_aio_engine engine_of(const dp_probe_row *row)
{
    return strcmp(row->engine, "io_uring") == 0 ? DP_AIO_URING : DP_AIO_THREADS;
}

static dp_status sweep_alone(pump *p, dp_probe_row *row, uint8_t *room, uint64_t run_ns,
                             dp_error *err)
{
    dp_status st = dp_aio_open(&p->aio, engine_of(row), row->depth, err);

    if (!st)
        st = sweep(p, row, room, run_ns, err);
    dp_aio_close(p->aio);
    p->aio = NULL;
    return st;
}

/* All ways in ROUNDS rounds, as far as time goes. */
static dp_status sweep_all(pump *p, dp_drive_probe *out, uint8_t *room, uint64_t limit_ns,
                           dp_error *err)
{
    const dp_clock *clock = p->config->clock;
    uint64_t begin_ns = dp_clock_now_ns(clock);
    uint64_t run_ns = limit_ns / (out->row_count * ROUNDS);
    double best = 0;

    for (uint32_t n = 0; n < out->row_count * ROUNDS; n++) {
        dp_probe_row *row = &out->rows[n % out->row_count];
        double run_s = (double)run_ns / 1e9;
        dp_status st;

        if (dp_clock_now_ns(clock) - begin_ns > limit_ns && best > 0)
            break;
        if (flight_of(row) > p->config->flight_max || flight_of(row) > p->window ||
            (best > 0 && (double)flight_of(row) > best * run_s * OUTLASTS))
            continue;
        st = sweep_alone(p, row, room, run_ns, err);
        if (st)
            return st;
        best = row->bytes_s > best ? row->bytes_s : best;
    }
    return DP_OK;
}

/* ---- latencies ---- */

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* One read of `size` bytes at a random place, cut as a run would cut it. */
static dp_status read_once(pump *p, uint8_t *room, uint64_t size, uint64_t request, dp_rng *rng,
                           uint64_t *took_ns, dp_error *err)
{
    uint64_t places = (p->window - size) / DP_FILE_SECTOR + 1;
    uint64_t offset = dp_rng_below(rng, places) * DP_FILE_SECTOR;
    uint64_t begin_ns;
    uint32_t count = 0;
    dp_status st;

    for (uint64_t at = 0; at < size; at += request, count++) {
        prepare(p, count, room + at, DP_MIN(request, size - at));
        p->reads[count].offset = offset + at;
    }
    if (!p->is_direct)
        dp_file_drop_range(p->config->file, offset, size);
    dp_mutex_lock(&p->lock);
    p->stop_ns = 0;
    p->pending = count;
    dp_mutex_unlock(&p->lock);
    begin_ns = dp_clock_now_ns(p->config->clock);
    st = run_reads(p, count, err);
    *took_ns = p->end_ns - begin_ns;
    return st;
}

static dp_status measure_latency(pump *p, dp_probe_latency *out, uint8_t *room,
                                 const dp_probe_row *best, uint64_t limit_ns, uint64_t *samples,
                                 dp_rng *rng, dp_error *err)
{
    uint64_t begin_ns = dp_clock_now_ns(p->config->clock);
    uint64_t sum_ns = 0;
    uint64_t request = DP_MAX(best->request_bytes, out->size_bytes / (READS_MAX - 1));

    request = dp_align_up(request, DP_FILE_SECTOR);
    while (out->count < SAMPLES_MAX && (out->count < SAMPLES_LEAST ||
                                        dp_clock_now_ns(p->config->clock) - begin_ns < limit_ns)) {
        dp_status st = read_once(p, room, out->size_bytes, request, rng, &samples[out->count], err);

        if (st)
            return st;
        out->count++;
    }
    for (uint32_t i = 0; i < out->count; i++)
        sum_ns += samples[i];
    out->mean_ns = sum_ns / out->count;
    qsort(samples, out->count, sizeof *samples, by_time);
    out->p50_ns = samples[out->count / 2];
    out->p99_ns = samples[(uint64_t)out->count * 99 / 100];
    return DP_OK;
}

static dp_status measure_latencies(pump *p, dp_drive_probe *out, uint8_t *room, uint64_t limit_ns,
                                   dp_error *err)
{
    uint64_t *samples = dp_alloc(SAMPLES_MAX, sizeof *samples);
    dp_status st;
    dp_rng rng;

    if (!samples)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory to probe it", p->config->path);
    dp_rng_init(&rng, 1);
    p->is_direct = out->best.is_direct;
    st = dp_aio_open(&p->aio, engine_of(&out->best), out->best.depth, err);
    for (size_t i = 0; i < DP_PROBE_SIZES_MAX && !st; i++) {
        dp_probe_latency *to = &out->latencies[out->latency_count];

        if (sizes[i] > p->window || sizes[i] > p->config->flight_max)
            break;
        *to = (dp_probe_latency){ .size_bytes = sizes[i] };
        st = measure_latency(p, to, room, &out->best, limit_ns / DP_PROBE_SIZES_MAX, samples, &rng,
                             err);
        if (!st)
            out->latency_count++;
    }
    dp_aio_close(p->aio);
    p->aio = NULL;
    dp_free(samples);
    return st;
}

/* ---- all of it ---- */

static bool has_uring(void)
{
    dp_aio *aio;
    bool is_there = dp_aio_open(&aio, DP_AIO_URING, 1, NULL) == DP_OK;

    if (is_there)
        dp_aio_close(aio);
    return is_there;
}

static dp_status measure(pump *p, dp_drive_probe *out, uint8_t *room, dp_error *err)
{
    uint64_t latency_ns = p->config->limit_ns / LATENCY_PART;
    uint64_t sustain_ns = p->config->limit_ns / SUSTAIN_PART;
    dp_probe_row going_on;
    uint32_t chosen;
    dp_status st;

    st = sweep_all(p, out, room, p->config->limit_ns - latency_ns - sustain_ns, err);
    if (st)
        return st;
    chosen = dp_probe_choose(out->rows, out->row_count);
    if (chosen == DP_PROBE_NONE)
        return dp_fail(err, DP_E_IO, "%s: nothing could be measured", p->config->path);
    out->best = out->rows[chosen];
    going_on = out->best;
    going_on.bytes_s = 0;
    st = sweep_alone(p, &going_on, room, sustain_ns, err);
    if (st)
        return st;
    out->sustained_bytes_s = going_on.bytes_s;
    return measure_latencies(p, out, room, latency_ns, err);
}

dp_status dp_probe_run(dp_drive_probe *out, const dp_probe_config *config, dp_error *err)
{
    uint64_t begin_ns = dp_clock_now_ns(config->clock);
    size_t room_bytes = (size_t)DP_MIN(config->flight_max, DP_PROBE_FLIGHT_MAX);
    pump *p = dp_alloc_zero(1, sizeof *p);
    uint8_t *room = dp_map_acquire(room_bytes);
    dp_status st;

    memset(out, 0, sizeof *out);
    out->version = DP_PROBE_VERSION;
    out->is_quick = config->is_quick;
    if (!p || !room) {
        st = dp_fail(err, DP_E_NOMEM, "%s: no memory to probe it", config->path);
        goto done;
    }
    p->config = config;
    p->window = dp_align_down(DP_MIN(config->file->size, DP_PROBE_WINDOW_MAX), DP_FILE_SECTOR);
    dp_mutex_init(&p->lock);
    dp_cond_init(&p->idle);
    out->file_bytes = p->window;
    out->row_count =
        dp_probe_ways(out->rows, config->file->fd_direct >= 0, has_uring(), config->is_quick);
    st = measure(p, out, room, err);
    out->seconds = (double)(dp_clock_now_ns(config->clock) - begin_ns) / 1e9;
    dp_cond_deinit(&p->idle);
    dp_mutex_deinit(&p->lock);
done:
    dp_map_release(room, room_bytes);
    dp_free(p);
    return st;
}
