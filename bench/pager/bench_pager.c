/* What a page-in by HTTP ranges costs: time against the floor, and processor time.
 *
 * Three servers (http_fake.h, a process each) hold a model; a page is three slices of 17 pieces
 * that lie apart, 13.4 MB in pieces of 256 KiB, every piece hashed. Floor: the round trip, and
 * the bytes at the rate of all servers that work. Usage: bench_pager [PAGES]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/thread.h"
#include "swarm/http_fake.h"
#include "swarm/pager.h"

#define PIECE        ((uint32_t)256 << 10)
#define SLICE_PIECES 17
#define PAGE_PIECES  (3 * SLICE_PIECES)
#define PIECES       1024
#define SERVERS      3

static uint8_t *contents, *out;
static dp_hash hashes[PIECES];
static dp_layout_file file = { "model.gguf", { (uint64_t)PIECES * PIECE, PIECE }, 0, hashes };
static dp_layout layout = { &file, 1, PIECE, PIECES };

typedef struct server {
    pid_t pid;
    uint16_t port;
} server;

static server start_server(const http_fake_rules *rules)
{
    http_fake_file served = { "/model.gguf", contents, (size_t)PIECES * PIECE };
    server s = { 0 };
    int pipe_fds[2];

    DP_CHECK(pipe(pipe_fds) == 0);
    s.pid = fork();
    DP_CHECK(s.pid >= 0);
    if (s.pid == 0) {
        uint16_t port;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        port = http_fake_port(http_fake_open(&served, 1, rules));
        DP_CHECK(write(pipe_fds[1], &port, sizeof port) == sizeof port);
        for (;;)
            pause();
    }
    DP_CHECK(read(pipe_fds[0], &s.port, sizeof s.port) == sizeof s.port);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    return s;
}

/* ---- pages ------------------------------------------------------------------------------------ */

typedef struct page {
    dp_pager_job jobs[PAGE_PIECES];
    dp_mutex lock;
    dp_cond changed;
    uint32_t left;
} page;

static void on_done(dp_pager_job *job, uint32_t endpoint, const dp_error *error)
{
    page *page = job->user;

    if (error)
        fprintf(stderr, "bench_pager: %s\n", error->text);
    DP_CHECK(!error);
    dp_mutex_lock(&page->lock);
    if (--page->left == 0)
        dp_cond_signal(&page->changed);
    dp_mutex_unlock(&page->lock);
}

/* Milliseconds until the last piece of three slices, at random places, is there and checked. */
static double page_in(dp_pager *pager, page *page, dp_rng *rng)
{
    dp_pager_job *list[PAGE_PIECES];
    uint64_t begin = dp_clock_now_ns(&dp_clock_real);

    page->left = PAGE_PIECES;
    for (uint32_t i = 0; i < PAGE_PIECES; i++) {
        static uint32_t first;

        if (i % SLICE_PIECES == 0) /* a third of the model each: slices never touch */
            first = i / SLICE_PIECES * (PIECES / 3) +
                    (uint32_t)dp_rng_below(rng, PIECES / 3 - SLICE_PIECES);
        page->jobs[i] = (dp_pager_job){ .piece = first + i % SLICE_PIECES,
                                        .out = out + (size_t)i * PIECE,
                                        .deadline_ns = begin + 60000000000,
                                        .done = on_done,
                                        .user = page };
        list[i] = &page->jobs[i];
    }
    dp_pager_submit(pager, list, PAGE_PIECES);
    dp_mutex_lock(&page->lock);
    while (page->left > 0)
        dp_cond_wait(&page->changed, &page->lock);
    dp_mutex_unlock(&page->lock);
    return (double)(dp_clock_now_ns(&dp_clock_real) - begin) * 1e-6;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static const struct {
    const char *name;
    double bytes_s; /* of each server; 0: as fast as it can */
    uint32_t rtt_ms;
    http_fake_rules third; /* what is wrong with one of them */
    bool is_bad;

} rows[] = {
    { "loopback", 0, 0, { 0 }, false },
    { "3 x 333 Mbit/s, 20 ms", 41666667, 20, { 0 }, false },
    { "3 x 333 Mbit/s, 20 ms, one stalls after 1 MB", 41666667, 20, { .stall_at = 1000000 }, true },
    { "3 x 333 Mbit/s, 20 ms, one is ten times slower",
      41666667,
      20,
      { .bytes_s = 4166667 },
      true },
    { "3 x 333 Mbit/s, 20 ms, one lies", 41666667, 20, { .lies = true }, true },
};

static void run_row(size_t i, uint32_t pages)
{
    dp_pager_config config = { .layout = &layout, .clock = &dp_clock_real, .user_agent = "bench" };
    http_fake_rules rules = { .bytes_s = (uint64_t)rows[i].bytes_s, .delay_ms = rows[i].rtt_ms };
    double *ms = calloc(pages, sizeof *ms), cpu, floor_ms = 0, warm_ms = 0, bytes;
    dp_pager_stats stats, warm;
    server servers[SERVERS];
    page page = { .left = 0 };
    dp_pager *pager;
    dp_error err;
    dp_rng rng;
    uint32_t id;

    dp_mutex_init(&page.lock);
    dp_cond_init(&page.changed);
    dp_rng_init(&rng, 11);
    for (int k = 0; k < SERVERS; k++) {
        if (rows[i].is_bad && k == 2) {
            rules = rows[i].third;
            rules.delay_ms = rows[i].rtt_ms;
            if (rules.bytes_s == 0)
                rules.bytes_s = (uint64_t)rows[i].bytes_s;
        }
        servers[k] = start_server(&rules);
    }
    DP_CHECK(dp_pager_open(&pager, &config, &err) == DP_OK);
    for (int k = 0; k < SERVERS; k++) {
        char url[64];
        const char *urls = url;
        dp_pager_endpoint endpoint = {
            .urls = &urls, .name = "fake", .is_peer = true, .allows_private = true
        };

        snprintf(url, sizeof url, "http://127.0.0.1:%u/model.gguf", servers[k].port);
        DP_CHECK(dp_pager_add(pager, &endpoint, &id, &err) == DP_OK);
    }
    warm_ms = page_in(pager, &page, &rng);
    for (int k = 0; k < 4; k++)
        page_in(pager, &page, &rng);
    dp_pager_stats_read(pager, &warm);
    cpu = cpu_s();
    for (uint32_t k = 0; k < pages; k++)
        ms[k] = page_in(pager, &page, &rng);
    cpu = cpu_s() - cpu;
    dp_pager_stats_read(pager, &stats);
    bytes = (double)pages * PAGE_PIECES * PIECE;
    qsort(ms, pages, sizeof *ms, by_size);
    if (rows[i].bytes_s > 0)
        floor_ms = rows[i].rtt_ms +
                   PAGE_PIECES * (double)PIECE / rows[i].bytes_s / (SERVERS - rows[i].is_bad) * 1e3;
    printf("{\"bench\":\"pager\",\"row\":\"%s\",\"page_mb\":%.2f,\"pages\":%u,\"floor_ms\":%.0f,"
           "\"first_ms\":%.0f,\"p50_ms\":%.1f,\"p90_ms\":%.1f,\"p99_ms\":%.1f,\"max_ms\":%.1f,"
           "\"cpu_s_per_gb\":%.2f,\"requests_per_page\":%.1f,\"hedges\":%llu,\"stalls\":%llu,"
           "\"bans\":%llu,\"wasted_percent\":%.1f,\"connects\":%llu}\n",
           rows[i].name, PAGE_PIECES * (double)PIECE * 1e-6, pages, floor_ms, warm_ms,
           ms[pages / 2], ms[pages * 9 / 10], ms[pages * 99 / 100], ms[pages - 1],
           cpu / bytes * 1e9, (double)(stats.requests - warm.requests) / pages,
           (unsigned long long)stats.hedges, (unsigned long long)stats.stalls,
           (unsigned long long)stats.bans,
           100.0 * (double)(stats.wasted_bytes - warm.wasted_bytes) / bytes,
           (unsigned long long)stats.connects);
    fflush(stdout);
    dp_pager_close(pager);
    for (int k = 0; k < SERVERS; k++)
        kill(servers[k].pid, SIGKILL);
    free(ms);
}

int main(int argc, char **argv)
{
    uint32_t pages = argc > 1 ? (uint32_t)atoi(argv[1]) : 200;
    dp_rng rng;

    contents = malloc((size_t)PIECES * PIECE);
    out = calloc(PAGE_PIECES, PIECE);
    dp_rng_init(&rng, 5);
    for (size_t i = 0; i < (size_t)PIECES * PIECE; i += 8) {
        uint64_t x = dp_rng_u64(&rng);

        memcpy(contents + i, &x, 8);
    }
    for (uint32_t i = 0; i < PIECES; i++)
        DP_CHECK(dp_piece_hash(&hashes[i], file.pieces, i, contents + (size_t)i * PIECE, NULL) ==
                 0);
    for (size_t i = 0; i < DP_ARRAY_LEN(rows) && pages > 0; i++)
        run_row(i, pages);
    free(contents);
    free(out);
    return 0;
}
