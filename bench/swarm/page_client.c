/* page_client - pages of a model by the pager, one after the other, and how long each took.
 *
 * A page is some pieces of the file, in as many runs as an expert has tensors. It is wanted
 * at once and is there when every piece has been hashed; then its bytes are compared with the
 * file's own. A JSON line a page, and one at the end about the pager and its peers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/mem.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/str.h"
#include "base/thread.h"
#include "page_bench.h"
#include "swarm/pager.h"

#define PEERS_MAX  16
#define PIECES_MAX 1024
#define NS_PER_MS  1000000ull

typedef struct options {
    const char *path;
    uint64_t piece_size, pages, pieces, runs, gap_ms, seed, deadline_ms, trace;
    uint64_t period_ms, phase_ms; /* a page every so often, from then on; period 0: after gap_ms */
    const char *peers[PEERS_MAX];
    size_t peer_count;
} options;

typedef struct client client;

typedef struct piece_job {
    dp_pager_job job;
    client *client;
    uint64_t done_ns;
    uint32_t endpoint;
    dp_status status;
} piece_job;

struct client {
    options o;
    dp_layout_file part;
    dp_layout layout;
    dp_hash *hashes;
    uint8_t *file, *page;
    dp_pager *pager;
    piece_job jobs[PIECES_MAX];
    dp_mutex lock;
    dp_cond is_done;
    uint32_t left; /* under lock */
};

static uint64_t now_ns(void)
{
    return dp_clock_now_ns(&dp_clock_real);
}

/* ---- setting up ---- */

/* The true bytes, for comparing, and their hashes, as a torrent would give them. */
static dp_status read_file(client *c, dp_error *err)
{
    dp_file file;
    dp_status st = page_shape(&c->part, &c->layout, c->o.path, (uint32_t)c->o.piece_size, err);

    if (st)
        return st;
    c->file = dp_alloc(1, c->part.pieces.file_size);
    c->page = dp_alloc(c->o.pieces, c->o.piece_size);
    c->hashes = dp_alloc(c->layout.piece_count, sizeof *c->hashes);
    if (!c->file || !c->page || !c->hashes)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for all of it", c->o.path);
    memset(c->page, 0, c->o.pieces * c->o.piece_size);
    st = dp_file_open(&file, c->o.path, false, err);
    if (st)
        return st;
    st = dp_file_read(&file, c->o.path, 0, c->file, c->part.pieces.file_size, err);
    dp_file_close(&file);
    for (uint32_t i = 0; i < c->layout.piece_count && !st; i++)
        st = dp_piece_hash(&c->hashes[i], c->part.pieces, i, c->file + i * c->o.piece_size, err);
    c->part.hashes = c->hashes;
    return st;
}

static dp_status add_peers(client *c, dp_error *err)
{
    for (size_t i = 0; i < c->o.peer_count; i++) {
        char url[256];
        const char *urls[] = { url };
        dp_pager_endpoint endpoint = {
            .urls = urls, .name = c->o.peers[i], .is_peer = true, .allows_private = true
        };
        uint32_t id;
        dp_status st;

        snprintf(url, sizeof url, "http://%s/" PAGE_KEY "/" PAGE_NAME, c->o.peers[i]);
        st = dp_pager_add(c->pager, &endpoint, &id, err);
        if (st)
            return st;
    }
    return DP_OK;
}

/* ---- a page ---- */

static void on_done(dp_pager_job *job, uint32_t endpoint, const dp_error *error)
{
    piece_job *j = job->user;
    client *c = j->client;

    j->done_ns = now_ns();
    j->endpoint = endpoint;
    j->status = error ? error->status : DP_OK;
    if (error)
        fprintf(stderr, "page_client: piece %u: %s\n", job->piece, error->text);
    dp_mutex_lock(&c->lock);
    if (--c->left == 0)
        dp_cond_signal(&c->is_done);
    dp_mutex_unlock(&c->lock);
}

/* Runs lie evenly over the file, as gate, up and down of one expert do. */
static void choose_pieces(client *c, dp_rng *rng)
{
    uint64_t runs = c->o.runs, zone = c->layout.piece_count / runs, done = 0;
    uint64_t longest = (c->o.pieces + runs - 1) / runs;
    uint64_t at = dp_rng_below(rng, zone - longest + 1);

    for (uint64_t run = 0; run < runs; run++) {
        uint64_t count = (c->o.pieces - done) / (runs - run);

        for (uint64_t i = 0; i < count; i++, done++) {
            c->jobs[done] = (piece_job){ .client = c };
            c->jobs[done].job = (dp_pager_job){ .piece = (uint32_t)(run * zone + at + i),
                                                .out = c->page + done * c->o.piece_size,
                                                .class_ = DP_PAGER_DEMAND,
                                                .done = on_done,
                                                .user = &c->jobs[done] };
        }
    }
}

static void print_page(const client *c, uint64_t number, uint64_t begin_ns)
{
    uint64_t end_ns = begin_ns;
    uint32_t failed = 0, wrong = 0;

    for (uint64_t i = 0; i < c->o.pieces; i++) {
        const piece_job *j = &c->jobs[i];
        size_t size = dp_pieces_size(c->part.pieces, j->job.piece);

        end_ns = DP_MAX(end_ns, j->done_ns);
        failed += j->status != DP_OK;
        wrong += j->status == DP_OK &&
                 memcmp(j->job.out, c->file + (uint64_t)j->job.piece * c->o.piece_size, size) != 0;
    }
    printf("{\"page\":%llu,\"ms\":%.3f,\"failed\":%u,\"wrong\":%u", (unsigned long long)number,
           (double)(end_ns - begin_ns) / NS_PER_MS, failed, wrong);
    for (uint64_t i = 0; c->o.trace && i < c->o.pieces; i++)
        printf("%s[%u,%.2f,%u]", i ? "," : ",\"pieces\":[", c->jobs[i].job.piece,
               (double)(c->jobs[i].done_ns - begin_ns) / NS_PER_MS, c->jobs[i].endpoint);
    puts(c->o.trace ? "]}" : "}");
    fflush(stdout);
}

static void page_in(client *c, uint64_t number, dp_rng *rng)
{
    dp_pager_job *list[PIECES_MAX];
    uint64_t begin_ns;

    choose_pieces(c, rng);
    begin_ns = now_ns();
    for (uint64_t i = 0; i < c->o.pieces; i++) {
        c->jobs[i].job.deadline_ns = begin_ns + c->o.deadline_ms * NS_PER_MS;
        list[i] = &c->jobs[i].job;
    }
    c->left = (uint32_t)c->o.pieces;
    dp_pager_submit(c->pager, list, c->o.pieces);
    dp_mutex_lock(&c->lock);
    while (c->left)
        dp_cond_wait(&c->is_done, &c->lock);
    dp_mutex_unlock(&c->lock);
    print_page(c, number, begin_ns);
}

static void print_end(client *c)
{
    dp_pager_peer_stats peers[PEERS_MAX];
    dp_pager_stats s;
    size_t count = dp_pager_peers(c->pager, peers, PEERS_MAX);

    dp_pager_stats_read(c->pager, &s);
    printf("{\"bytes\":%llu,\"wasted_bytes\":%llu,\"pieces_bad\":%llu,\"stalls\":%llu,"
           "\"hedges\":%llu,\"bans\":%llu,\"requests\":%llu,\"connects\":%llu,\"peers\":[",
           (unsigned long long)s.bytes, (unsigned long long)s.wasted_bytes,
           (unsigned long long)s.pieces_bad, (unsigned long long)s.stalls,
           (unsigned long long)s.hedges, (unsigned long long)s.bans, (unsigned long long)s.requests,
           (unsigned long long)s.connects);
    for (size_t i = 0; i < count && i < PEERS_MAX; i++)
        printf("%s{\"name\":\"%s\",\"bytes\":%llu,\"mbit_s\":%.1f,\"rtt_ms\":%.2f,\"stalls\":%u,"
               "\"failures\":%u,\"bad_pieces\":%u,\"banned_s\":%.1f}",
               i ? "," : "", peers[i].name, (unsigned long long)peers[i].bytes,
               peers[i].bytes_s * 8e-6, peers[i].rtt_ms, peers[i].stalls, peers[i].failures,
               peers[i].bad_pieces, peers[i].banned_s);
    puts("]}");
}

/* ---- start ---- */

static bool read_options(options *o, int argc, char **argv)
{
    const struct {
        const char *name;
        uint64_t *value;
    } numbers[] = { { "--piece-size", &o->piece_size },   { "--pages", &o->pages },
                    { "--pieces", &o->pieces },           { "--runs", &o->runs },
                    { "--gap-ms", &o->gap_ms },           { "--seed", &o->seed },
                    { "--deadline-ms", &o->deadline_ms }, { "--trace", &o->trace },
                    { "--period-ms", &o->period_ms },     { "--phase-ms", &o->phase_ms } };

    for (int i = 1; i < argc; i++) {
        size_t n = 0;

        while (n < DP_ARRAY_LEN(numbers) && strcmp(argv[i], numbers[n].name))
            n++;
        if (n < DP_ARRAY_LEN(numbers)) {
            if (i + 1 == argc || !dp_parse_u64(dp_str_from(argv[++i]), numbers[n].value))
                return false;
        } else if (!o->path) {
            o->path = argv[i];
        } else if (o->peer_count < PEERS_MAX) {
            o->peers[o->peer_count++] = argv[i];
        } else {
            return false;
        }
    }
    return o->path && o->peer_count && o->pieces && o->pieces <= PIECES_MAX && o->runs &&
           o->runs <= o->pieces && o->piece_size;
}

static void sleep_ns(uint64_t ns)
{
    struct timespec gap = { .tv_sec = (time_t)(ns / 1000000000),
                            .tv_nsec = (long)(ns % 1000000000) };

    nanosleep(&gap, NULL);
}

/* Silence before page `number`: until its time by the clock, or as long as every time. */
static void wait_for_page(const options *o, uint64_t number, uint64_t begin_ns)
{
    uint64_t at_ns = begin_ns + (o->phase_ms + number * o->period_ms) * NS_PER_MS, now = now_ns();

    if (o->period_ms)
        sleep_ns(at_ns > now ? at_ns - now : 0);
    else if (number > 0)
        sleep_ns(o->gap_ms * NS_PER_MS);
}

static dp_status run(client *c, dp_error *err)
{
    dp_pager_config config = { .user_agent = "page_client", .clock = &dp_clock_real };
    dp_rng rng;
    uint64_t begin_ns;
    dp_status st = read_file(c, err);

    if (st)
        return st;
    if (c->layout.piece_count / c->o.runs < (c->o.pieces + c->o.runs - 1) / c->o.runs)
        return dp_fail(err, DP_E_INVALID, "%s: shorter than a page of %llu pieces", c->o.path,
                       (unsigned long long)c->o.pieces);
    config.layout = &c->layout;
    st = dp_pager_open(&c->pager, &config, err);
    if (st)
        return st;
    st = add_peers(c, err);
    dp_rng_init(&rng, c->o.seed);
    begin_ns = now_ns();
    if (c->o.period_ms) /* by a clock that others share */
        begin_ns = (begin_ns / (c->o.period_ms * NS_PER_MS) + 1) * c->o.period_ms * NS_PER_MS;
    for (uint64_t i = 0; i < c->o.pages && !st; i++) {
        wait_for_page(&c->o, i, begin_ns);
        page_in(c, i, &rng);
    }
    if (!st)
        print_end(c);
    return st;
}

int main(int argc, char **argv)
{
    static client c = { .o = { .piece_size = 256 << 10,
                               .pages = 100,
                               .pieces = 50,
                               .runs = 3,
                               .gap_ms = 20,
                               .seed = 1,
                               .deadline_ms = 10000 } };
    dp_error err = { 0 };
    dp_status st;

    if (!read_options(&c.o, argc, argv)) {
        fputs("usage: page_client FILE HOST:PORT... [--pages N] [--pieces N] [--runs N]\n"
              "                   [--piece-size BYTES] [--gap-ms N] [--seed N] [--deadline-ms N]\n"
              "                   [--trace 1] [--period-ms N [--phase-ms N]]\n",
              stderr);
        return 2;
    }
    dp_mutex_init(&c.lock);
    dp_cond_init(&c.is_done);
    st = run(&c, &err);
    if (st)
        fprintf(stderr, "page_client: %s\n", err.text);
    dp_pager_close(c.pager);
    dp_cond_deinit(&c.is_done);
    dp_mutex_deinit(&c.lock);
    dp_free(c.hashes);
    dp_free(c.file);
    dp_free(c.page);
    return st ? 1 : 0;
}
