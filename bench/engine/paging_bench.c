/* paging_bench - decode speed of a model that does not fit, beside what its drive gives.
 *
 *   bench_paging MODEL WARM TOKENS SAMPLES [NAME=VALUE ...]    options as of doppler
 *
 * Drops the model's cached pages, measures what the drive gives for a second or so, says WARM
 * tokens and more until no memory is left to fill, then takes samples of TOKENS decoded tokens. On
 * either side of each the drive's own speed is measured (read_speed.h, with the run's engine,
 * request and depth), once the run reads nothing ahead any more. Prints one JSON object. The limit
 * by reading is the drive's speed, the larger of both, over the bytes a token read in that
 * sample: an engine that never lets the drive rest says as many. What a page takes from the drive
 * alone is measured at the end, in three ranges that lie apart, as matrices of an expert do, and
 * in one. Latencies of pages are those of the samples, not of what came before. Texts are sampled,
 * so that tokens and with them routings differ. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "doppler/doppler.h"
#include "read_speed.h"

#define SAMPLES_MAX  31
#define PROMPT       8
#define DRIVE_BYTES  (512 * DP_MIB)
#define BEST_BYTES   (2 * DP_GIB) /* before the run */
#define ALONE_PAGES  41
#define FILL_TOKENS  8
#define FILL_PART    256 /* of the memory, filled by so many tokens: as good as full */
#define FILL_ROUNDS  12
#define IDLE_POLLS   5 /* without a byte between them: the run reads nothing */
#define IDLE_WAIT_NS 4000000
#define RANGE_EXPERT (4 * DP_MIB)  /* about a matrix of an expert */
#define RANGE_LAYER  (64 * DP_MIB) /* layers stream in order */

typedef struct sample {
    double probe_gb_s; /* of the drive alone, before it */
    double drive_gb_s; /* the larger of that and of the one after it */
    double run_gb_s;   /* of the run itself, while something was being read */
    double tok_s, cpu_s_per_token;
    double hit_rate; /* of experts, prefetched ones are hits; 1: none were wanted */
    double gb_per_token, limit_tok_s, ratio;
    double ratio_of_best; /* with the most the drive ever gave, of this run, for its limit */
    double wait_share;    /* of the time: the step waited for pages */
    double idle_share;    /* of the time: nothing was being read */
} sample;

typedef struct bench {
    const char *path;
    int warm, tokens, samples;
    drive_config drive;
    dp_engine *engine;
    dp_session *session;
    dp_page_times times; /* of all samples */
    double best_gb_s;    /* of the drive: before the run, and of all probes */
} bench;

static _Noreturn void die(const dp_error *err)
{
    fprintf(stderr, "bench_paging: %s\n", err->text);
    exit(1);
}

static double seconds(void)
{
    return (double)dp_clock_now_ns(&dp_clock_real) / 1e9;
}

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void decode(dp_session *s, int count)
{
    dp_error err;

    for (int i = 0; i < count; i++) {
        dp_token token;
        if (dp_session_sample(s, &token, &err) || dp_session_append(s, &token, 1, &err) ||
            dp_session_eval(s, &err))
            die(&err);
    }
}

static void add_times(dp_latency *sum, const dp_latency *before, const dp_latency *after)
{
    for (uint32_t i = 0; i < DP_LATENCY_BUCKETS; i++)
        sum->buckets[i] += after->buckets[i] - before->buckets[i];
}

/* Waits until what the run reads ahead has come: the drive is to be measured alone. */
static void wait_idle(bench *b)
{
    uint64_t busy_ns = 0;

    for (int polls = 0; polls < IDLE_POLLS;) {
        dp_stats stats;
        dp_engine_stats(b->engine, &stats);
        polls = stats.read_busy_ns == busy_ns ? polls + 1 : 0;
        busy_ns = stats.read_busy_ns;
        nanosleep(&(struct timespec){ .tv_nsec = IDLE_WAIT_NS }, NULL);
    }
}

/* GB/s of the drive alone, now. */
static double probe(bench *b, int index)
{
    double speed;
    dp_error err;

    wait_idle(b);
    b->drive.seed = (uint64_t)index + 1;
    if (drive_speed(&speed, b->path, &b->drive, &err))
        die(&err);
    b->best_gb_s = DP_MAX(b->best_gb_s, speed / 1e9);
    return speed / 1e9;
}

static void take_sample(bench *b, sample *out)
{
    double begin, cpu, took, busy;
    dp_stats before, after;
    uint64_t hits, wants;

    dp_engine_stats(b->engine, &before);
    begin = seconds();
    cpu = cpu_seconds();
    decode(b->session, b->tokens);
    took = seconds() - begin;
    cpu = cpu_seconds() - cpu;
    dp_engine_stats(b->engine, &after);
    hits = after.expert_hits + after.expert_prefetch_hits - before.expert_hits -
           before.expert_prefetch_hits;
    wants = hits + after.expert_misses - before.expert_misses;
    busy = (double)(after.read_busy_ns - before.read_busy_ns) / 1e9;
    out->tok_s = b->tokens / took;
    out->cpu_s_per_token = cpu / b->tokens;
    out->hit_rate = wants ? (double)hits / (double)wants : 1;
    out->gb_per_token = (double)(after.disk_read_bytes - before.disk_read_bytes) / 1e9 / b->tokens;
    out->run_gb_s = busy > 0 ? out->gb_per_token * b->tokens / busy : 0;
    out->wait_share = (double)(after.wait_ns - before.wait_ns) / 1e9 / took;
    out->idle_share = 1 - busy / took;
    add_times(&b->times.demand, &before.pages.demand, &after.pages.demand);
    add_times(&b->times.covered, &before.pages.covered, &after.pages.covered);
    add_times(&b->times.turn, &before.pages.turn, &after.pages.turn);
    add_times(&b->times.ahead, &before.pages.ahead, &after.pages.ahead);
}

/* Another program may slow the drive for seconds: so it is measured on either side of a sample. */
static void take_samples(bench *b, sample *samples)
{
    double next = probe(b, 0);

    for (int i = 0; i < b->samples; i++) {
        sample *s = &samples[i];
        s->probe_gb_s = next;
        take_sample(b, s);
        next = probe(b, i + 1);
        s->drive_gb_s = DP_MAX(s->probe_gb_s, next);
        if (s->gb_per_token > 0) {
            s->limit_tok_s = s->drive_gb_s / s->gb_per_token;
            s->ratio = s->tok_s / s->limit_tok_s;
        }
    }
    for (int i = 0; i < b->samples; i++)
        samples[i].ratio_of_best = samples[i].tok_s * samples[i].gb_per_token / b->best_gb_s;
}

/* ---- report ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* "name_samples": [...], "name": median of it. */
static void print_samples(const char *name, const sample *samples, int count, size_t offset)
{
    double values[SAMPLES_MAX];

    printf("\"%s_samples\": [", name);
    for (int i = 0; i < count; i++) {
        memcpy(&values[i], (const char *)&samples[i] + offset, sizeof values[i]);
        printf("%s%.4g", i ? ", " : "", values[i]);
    }
    qsort(values, (size_t)count, sizeof *values, compare);
    printf("], \"%s\": %.4g, ", name,
           count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2);
}

/* "page_ms_NAME": {pages, quantiles, histogram: [[the row's end, pages] ...]}; within 9 %. */
static void print_times(const char *name, const dp_latency *times)
{
    const char *comma = "";

    printf("\"page_ms_%s\": {\"pages\": %llu, \"p50\": %.3g, \"p90\": %.3g, \"p99\": %.3g, "
           "\"max\": %.3g, \"histogram\": [",
           name, (unsigned long long)dp_latency_count(times),
           (double)dp_latency_quantile(times, 0.5) / 1e6,
           (double)dp_latency_quantile(times, 0.9) / 1e6,
           (double)dp_latency_quantile(times, 0.99) / 1e6,
           (double)dp_latency_quantile(times, 1) / 1e6);
    for (uint32_t i = 0; i < DP_LATENCY_BUCKETS; i++) {
        if (!times->buckets[i])
            continue;
        printf("%s[%.3g, %llu]", comma, exp2((i + 1) / 4.0) / 1000,
               (unsigned long long)times->buckets[i]);
        comma = ", ";
    }
    printf("]}");
}

/* Median ms of a page read alone, in so many ranges. */
static double alone_ms(const bench *b, uint64_t page_bytes, uint32_t ranges)
{
    double ms[ALONE_PAGES];
    drive_config drive = b->drive;

    drive.range_bytes = dp_align_up(page_bytes / ranges, DP_FILE_SECTOR);
    drive.total_bytes = drive.range_bytes * ranges;
    for (int i = 0; i < ALONE_PAGES; i++) {
        double speed;
        dp_error err;
        drive.seed = (uint64_t)i + 1000;
        if (drive_speed(&speed, b->path, &drive, &err))
            die(&err);
        ms[i] = (double)drive.total_bytes / speed * 1e3;
    }
    qsort(ms, ALONE_PAGES, sizeof *ms, compare);
    return ms[ALONE_PAGES / 2];
}

static void print_alone(bench *b, const dp_stats *s)
{
    uint64_t page_bytes = s->page_bytes_max;

    if (!page_bytes)
        return;
    wait_idle(b);
    printf("\"page_bytes\": %llu, \"alone_ms\": %.3g, \"alone_ms_contiguous\": %.3g, ",
           (unsigned long long)page_bytes, alone_ms(b, page_bytes, 3), alone_ms(b, page_bytes, 1));
}

static void report(bench *b, const sample *samples)
{
    dp_stats s;

    dp_engine_stats(b->engine, &s);
    printf("{\"bench\": \"paging\", \"version\": \"%s\", \"commit\": \"%s\", \"cpu\": \"%s\", "
           "\"model\": \"%s\", \"threads\": %u, \"kernels\": \"%s\", \"source\": \"%s\", "
           "\"io_depth\": %u, \"io_request_bytes\": %llu, \"cache_state\": \"%s\", \"samples\": "
           "%d, \"warm_tokens\": %d, \"tokens\": %d, ",
           dp_version(), DP_BENCH_COMMIT, dp_cpu_get()->name, b->path, s.threads, s.kernels,
           s.source, s.io_depth, (unsigned long long)s.io_request_bytes, s.cache_state, b->samples,
           b->warm, b->tokens);
#define PRINT(field) print_samples(#field, samples, b->samples, offsetof(sample, field))
    PRINT(probe_gb_s);
    PRINT(drive_gb_s);
    PRINT(run_gb_s);
    PRINT(tok_s);
    PRINT(hit_rate);
    PRINT(gb_per_token);
    PRINT(limit_tok_s);
    PRINT(ratio);
    PRINT(ratio_of_best);
    PRINT(wait_share);
    PRINT(idle_share);
    PRINT(cpu_s_per_token);
#undef PRINT
    printf("\"drive_best_gb_s\": %.4g, ", b->best_gb_s);
    print_alone(b, &s);
    printf("\"model_bytes\": %llu, \"budget_bytes\": %llu, \"peak_bytes\": %llu, "
           "\"pinned_bytes\": %llu, \"slot_budget_bytes\": %llu, \"prefetch_useful_bytes\": %llu, "
           "\"prefetch_wasted_bytes\": %llu, ",
           (unsigned long long)s.model_bytes, (unsigned long long)s.budget_bytes,
           (unsigned long long)s.peak_bytes, (unsigned long long)s.pinned_bytes,
           (unsigned long long)s.slot_budget_bytes, (unsigned long long)s.prefetch_useful_bytes,
           (unsigned long long)s.prefetch_wasted_bytes);
    print_times("demand", &b->times.demand);
    printf(", ");
    print_times("covered", &b->times.covered);
    printf(", ");
    print_times("turn", &b->times.turn);
    printf(", ");
    print_times("ahead", &b->times.ahead);
    printf("}\n");
}

/* ---- set-up ---- */

static void set(dp_options *options, const char *name, const char *value)
{
    dp_error err;

    if (dp_options_set(options, name, value, &err))
        die(&err);
}

/* "NAME=VALUE" arguments. */
static void set_given(dp_options *options, char **given, int count)
{
    for (int i = 0; i < count; i++) {
        char *value = strchr(given[i], '=');

        if (value)
            *value++ = 0;
        set(options, given[i], value ? value : "");
    }
}

/* The drive is read as the run reads. */
static drive_config drive_of(const dp_stats *stats)
{
    return (drive_config){
        .engine = strstr(stats->source, "threads") ? DP_AIO_THREADS : DP_AIO_URING,
        .request_bytes = dp_align_down(stats->io_request_bytes, DP_FILE_SECTOR),
        .range_bytes = stats->expert_hits + stats->expert_misses ? RANGE_EXPERT : RANGE_LAYER,
        .total_bytes = DRIVE_BYTES,
        .depth = stats->io_depth,
    };
}

/* What the drive gives in one go, with room for nothing else to disturb it. */
static void find_best(bench *b)
{
    drive_config drive = {
        .engine = DP_AIO_AUTO,
        .request_bytes = DP_MIB,
        .range_bytes = RANGE_EXPERT,
        .total_bytes = BEST_BYTES,
        .depth = 16,
        .seed = 77,
    };
    double speed;
    dp_error err;

    if (drive_speed(&speed, b->path, &drive, &err))
        die(&err);
    b->best_gb_s = speed / 1e9;
}

/* Until memory is full: before, a slot's first use has the system zero it, on the reader's
 * thread, and fewer pages are held than will be. */
static void fill(bench *b)
{
    dp_stats stats;
    uint64_t held;

    dp_engine_stats(b->engine, &stats);
    for (int i = 0; i < FILL_ROUNDS; i++) {
        held = stats.slot_bytes;
        decode(b->session, FILL_TOKENS);
        b->warm += FILL_TOKENS;
        dp_engine_stats(b->engine, &stats);
        if (stats.slot_bytes <= held + stats.slot_budget_bytes / FILL_PART)
            break;
    }
}

static void open_model(bench *b, const dp_options *options)
{
    dp_token prompt[PROMPT];
    dp_stats stats;
    dp_error err;
    dp_file file;

    if (dp_file_open(&file, b->path, false, &err))
        die(&err);
    dp_file_drop_cache(&file);
    dp_file_close(&file);
    find_best(b);
    if (dp_engine_open(&b->engine, b->path, options, NULL, NULL, &err) ||
        dp_session_open(&b->session, b->engine, options, &err))
        die(&err);
    for (uint32_t i = 0; i < PROMPT; i++)
        prompt[i] = (dp_token)(i * 7 + 3);
    if (dp_session_append(b->session, prompt, PROMPT, &err) || dp_session_eval(b->session, &err))
        die(&err);
    decode(b->session, b->warm);
    fill(b);
    dp_engine_stats(b->engine, &stats);
    b->drive = drive_of(&stats);
}

int main(int argc, char **argv)
{
    dp_options *options = dp_options_open();
    sample samples[SAMPLES_MAX] = { 0 };
    bench b = { 0 };

    if (argc >= 5) {
        b.path = argv[1];
        b.warm = atoi(argv[2]);
        b.tokens = atoi(argv[3]);
        b.samples = atoi(argv[4]);
    }
    if (!options || b.tokens < 1 || b.samples < 1 || b.samples > SAMPLES_MAX) {
        fprintf(stderr, "usage: bench_paging MODEL WARM TOKENS SAMPLES [NAME=VALUE ...]\n");
        return 2;
    }
    set(options, "temp", "1");
    set(options, "seed", "1");
    set_given(options, argv + 5, argc - 5);
    open_model(&b, options);
    take_samples(&b, samples);
    report(&b, samples);
    dp_session_close(b.session);
    dp_engine_close(b.engine);
    dp_options_close(options);
    return 0;
}
