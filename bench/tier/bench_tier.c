/* bench_tier - random page loads through the tier, against a plain sequential read.
 *
 * usage: bench_tier FILE [SAMPLES]
 *
 * FILE is made (2 GiB of noise) if it does not exist. A page is three ranges in three
 * thirds of the file, as the matrices of an expert lie; batches of eight pages are wanted
 * in random order, with room for sixteen. One JSON line for each page size, way of reading
 * and depth; medians. Buffered runs start with the file's cached pages dropped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/thread.h"
#include "tier/source_file.h"
#include "tier/tier.h"

#define FILE_BYTES  (2 * DP_GIB)
#define RUN_BYTES   (512 * DP_MIB) /* read in each sample */
#define BATCH_PAGES 8
#define SLOT_COUNT  16
#define PARTS       3
#define REQUEST_MAX DP_MIB
#define SAMPLES_MAX 15
#define BOUND_DEPTH 4
#define BOUND_BYTES (8 * DP_MIB) /* a request of the sequential read */
#define WAIT_NS     60000000000ull

typedef struct sample {
    double gb_per_s;
    double p50_ms, p99_ms;
} sample;

typedef struct setup {
    const char *path;
    uint64_t page_bytes;
    dp_io_mode mode;
    dp_aio_engine engine;
    uint32_t depth;
} setup;

static _Noreturn void fail(const dp_error *err)
{
    fprintf(stderr, "bench_tier: %s\n", err->text);
    exit(1);
}

static double seconds_since(uint64_t begin_ns)
{
    return (double)(dp_clock_now_ns(&dp_clock_real) - begin_ns) / 1e9;
}

static bool make_file(const char *path)
{
    size_t size = 8 * DP_MIB;
    uint64_t *noise = dp_alloc(1, size);
    FILE *file = fopen(path, "rb");
    bool is_made = file != NULL;
    dp_rng rng;

    dp_rng_init(&rng, 1);
    if (!file && noise) {
        file = fopen(path, "wb");
        is_made = file != NULL;
        for (uint64_t at = 0; is_made && at < FILE_BYTES; at += size) {
            for (size_t i = 0; i < size / 8; i++)
                noise[i] = dp_rng_u64(&rng);
            is_made = fwrite(noise, 1, size, file) == size;
        }
    }
    if (file && fclose(file))
        is_made = false;
    dp_free(noise);
    return is_made;
}

/* Page i: a range in each third of the file, off sectors as tensors in files are. */
static void add_pages(dp_tier *tier, const setup *s, uint32_t count)
{
    uint64_t part_bytes = s->page_bytes / PARTS;
    dp_error err;

    for (uint32_t i = 0; i < count; i++) {
        dp_page_desc desc = { DP_PAGE_EXPERT, 0, i, PARTS };
        dp_page_id id;
        for (uint32_t part = 0; part < PARTS; part++)
            desc.parts[part] =
                (dp_page_part){ 0, part * (FILE_BYTES / PARTS) + 32 + i * part_bytes, part_bytes };
        if (dp_tier_add_page(tier, &desc, &id, &err))
            fail(&err);
    }
}

/* Wants batches until enough was read. Touches one byte a page. */
static void load_pages(dp_tier *tier, const setup *s, uint32_t page_count, dp_rng *rng)
{
    uint8_t states[BATCH_PAGES];
    dp_error err;

    for (uint64_t read = 0; read < RUN_BYTES; read += BATCH_PAGES * s->page_bytes) {
        dp_page_id pages[BATCH_PAGES];
        dp_page_id first = (dp_page_id)dp_rng_below(rng, page_count);
        dp_tier_batch batch;
        dp_lease lease;
        size_t index;
        dp_status st;

        for (uint32_t i = 0; i < BATCH_PAGES; i++)
            pages[i] = (first + 17 * i) % page_count;
        st = dp_tier_want(tier, pages, BATCH_PAGES, states, &batch, &err);
        while (st == DP_OK) {
            st = dp_tier_next(&batch, &lease, &index, WAIT_NS, &err);
            if (st == DP_OK)
                dp_tier_release(tier, &lease);
        }
        if (st != DP_E_NOTFOUND)
            fail(&err);
        dp_tier_batch_end(&batch);
        dp_tier_tick(tier);
    }
}

static void drop_cache(const char *path)
{
    dp_file file;
    dp_error err;

    if (dp_file_open(&file, path, false, &err))
        fail(&err);
    dp_file_drop_cache(&file);
    dp_file_close(&file);
}

static sample run(const setup *s, uint64_t seed)
{
    dp_source_file_config file = { &s->path, 1, s->mode, s->engine, s->depth, REQUEST_MAX };
    dp_tier_config config = { SLOT_COUNT * (s->page_bytes + PARTS * 2 * DP_FILE_SECTOR),
                              &dp_policy_lru, NULL, &dp_clock_real };
    uint32_t page_count = (uint32_t)((FILE_BYTES - DP_MIB) / s->page_bytes);
    dp_tier_stats stats;
    sample sample;
    dp_tier *tier;
    dp_rng rng;
    uint64_t begin_ns;
    dp_error err;

    drop_cache(s->path);
    dp_rng_init(&rng, seed);
    if (dp_source_file_open(&config.source, &file, &err) || dp_tier_open(&tier, &config, &err))
        fail(&err);
    add_pages(tier, s, page_count);
    begin_ns = dp_clock_now_ns(&dp_clock_real);
    load_pages(tier, s, page_count, &rng);
    dp_tier_stats_read(tier, &stats);
    sample.gb_per_s = (double)stats.read_bytes / 1e9 / seconds_since(begin_ns);
    sample.p50_ms = (double)dp_latency_quantile(&stats.times.demand, 0.5) / 1e6;
    sample.p99_ms = (double)dp_latency_quantile(&stats.times.demand, 0.99) / 1e6;
    dp_tier_close(tier);
    config.source->ops->close(config.source);
    return sample;
}

typedef struct bound {
    dp_source *source;
    dp_source_read reads[BOUND_DEPTH];
    dp_mutex lock;
    dp_cond changed;
    uint64_t next_offset;
    uint32_t running_count;
} bound;

static void bound_done(dp_source_read *read, const dp_error *error)
{
    bound *bound = read->user;
    bool is_more;

    if (error)
        fail(error);
    dp_mutex_lock(&bound->lock);
    is_more = bound->next_offset + BOUND_BYTES <= FILE_BYTES;
    read->offset = bound->next_offset;
    bound->next_offset += is_more ? BOUND_BYTES : 0;
    bound->running_count -= !is_more;
    dp_cond_broadcast(&bound->changed);
    dp_mutex_unlock(&bound->lock);
    if (is_more)
        bound->source->ops->submit(bound->source, read);
}

/* The whole file in order, straight into memory that is already there: what the drive
 * and the system give to a plain reader. */
static double read_in_order(const char *path, dp_io_mode mode)
{
    dp_source_file_config file = { &path, 1, mode, DP_AIO_AUTO, BOUND_DEPTH, BOUND_BYTES };
    uint8_t *room = dp_map_acquire(BOUND_DEPTH * BOUND_BYTES);
    bound bound = { .running_count = BOUND_DEPTH, .next_offset = BOUND_DEPTH * BOUND_BYTES };
    uint64_t begin_ns;
    double seconds;
    dp_error err;

    drop_cache(path);
    if (!room || dp_source_file_open(&bound.source, &file, &err))
        fail(&err);
    memset(room, 1, BOUND_DEPTH * BOUND_BYTES);
    dp_mutex_init(&bound.lock);
    dp_cond_init(&bound.changed);
    begin_ns = dp_clock_now_ns(&dp_clock_real);
    for (uint64_t i = 0; i < BOUND_DEPTH; i++) {
        bound.reads[i] = (dp_source_read){ .offset = i * BOUND_BYTES, .size = BOUND_BYTES };
        bound.reads[i].room = room + i * BOUND_BYTES;
        bound.reads[i].done = bound_done;
        bound.reads[i].user = &bound;
        bound.source->ops->submit(bound.source, &bound.reads[i]);
    }
    dp_mutex_lock(&bound.lock);
    while (bound.running_count)
        dp_cond_wait(&bound.changed, &bound.lock);
    dp_mutex_unlock(&bound.lock);
    seconds = seconds_since(begin_ns);
    bound.source->ops->close(bound.source);
    dp_cond_deinit(&bound.changed);
    dp_mutex_deinit(&bound.lock);
    dp_map_release(room, BOUND_DEPTH * BOUND_BYTES);
    return (double)FILE_BYTES / 1e9 / seconds;
}

static int compare_speed(const void *a, const void *b)
{
    double x = ((const sample *)a)->gb_per_s;
    double y = ((const sample *)b)->gb_per_s;

    return (x > y) - (x < y);
}

static void measure(const setup *s, int sample_count, double bound_gb_per_s)
{
    static const char *const modes[] = { "auto", "direct", "buffered" };
    sample samples[SAMPLES_MAX];
    const sample *median = &samples[sample_count / 2];

    for (int i = 0; i < sample_count; i++)
        samples[i] = run(s, (uint64_t)i);
    qsort(samples, (size_t)sample_count, sizeof(sample), compare_speed);
    printf("{\"bench\":\"tier_load\",\"page_mib\":%llu,\"mode\":\"%s\",\"engine\":\"%s\","
           "\"depth\":%u,\"gb_per_s\":%.3f,\"of_sequential\":%.2f,\"page_ms_p50\":%.2f,"
           "\"page_ms_p99\":%.2f,\"samples\":%d,\"cache_state\":\"cold\"}\n",
           (unsigned long long)(s->page_bytes / DP_MIB), modes[s->mode],
           s->engine == DP_AIO_URING ? "io_uring" : "threads", s->depth, median->gb_per_s,
           median->gb_per_s / bound_gb_per_s, median->p50_ms, median->p99_ms, sample_count);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const uint64_t page_mibs[] = { 1, 4, 13 };
    static const dp_io_mode modes[] = { DP_IO_DIRECT, DP_IO_BUFFERED };
    static const dp_aio_engine engines[] = { DP_AIO_URING, DP_AIO_THREADS };
    static const uint32_t depths[] = { 1, 2, 4, 8, 16, 32 };
    int sample_count = argc > 2 ? atoi(argv[2]) : 3;
    double bounds[3] = { 0 };

    if (argc < 2 || sample_count < 1 || sample_count > SAMPLES_MAX || !make_file(argv[1])) {
        fprintf(stderr, "usage: bench_tier FILE [SAMPLES up to %d]\n", SAMPLES_MAX);
        return 2;
    }
    for (size_t m = 0; m < DP_ARRAY_LEN(modes); m++) {
        bounds[modes[m]] = read_in_order(argv[1], modes[m]);
        printf("{\"bench\":\"tier_sequential\",\"cpu\":\"%s\",\"mode\":\"%s\",\"gb_per_s\":%.3f}\n",
               dp_cpu_get()->name, modes[m] == DP_IO_DIRECT ? "direct" : "buffered",
               bounds[modes[m]]);
    }
    for (size_t p = 0; p < DP_ARRAY_LEN(page_mibs); p++)
        for (size_t m = 0; m < DP_ARRAY_LEN(modes); m++)
            for (size_t e = 0; e < DP_ARRAY_LEN(engines); e++)
                for (size_t d = 0; d < DP_ARRAY_LEN(depths); d++) {
                    setup s = { argv[1], page_mibs[p] * DP_MIB, modes[m], engines[e], depths[d] };
                    measure(&s, sample_count, bounds[DP_IO_DIRECT]);
                }
    return 0;
}
