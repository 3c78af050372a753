#include "swarm/pager.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/thread.h"
#include "swarm/http_fake.h"
#include "testing/check.h"

#define PIECE     ((uint32_t)64 << 10)
#define SIZE_0    ((size_t)60 * PIECE - 4321)
#define SIZE_1    ((size_t)3 * PIECE + 1)
#define PIECES    64
#define FAKES_MAX 4
#define WAIT_MS   8000 /* of every job; tests end long before */

/* ---- a published model, servers of it, a pager, jobs -------------------------------------- */

static uint8_t *contents;
static dp_hash hashes[PIECES];
static http_fake_file fake_files[] = { { "/m/a.gguf", NULL, SIZE_0 },
                                       { "/m/b.gguf", NULL, SIZE_1 } };

typedef struct job {
    dp_pager_job job;
    uint32_t done_count;
    dp_status status;
    uint32_t endpoint;
    char text[DP_ERROR_TEXT_MAX];
    uint64_t done_ns;
    struct rig *rig;
} job;

typedef struct rig {
    dp_layout_file files[2];
    dp_layout layout;
    dp_pager *pager;
    http_fake *fakes[FAKES_MAX];
    uint32_t ids[FAKES_MAX];
    uint8_t *out; /* of every piece its place */
    job jobs[PIECES];
    dp_mutex lock;
    dp_cond changed;
    uint32_t done_count;
    uint32_t order[PIECES]; /* pieces as they ended */
} rig;

static uint8_t *piece_bytes(uint8_t *base, uint32_t piece)
{
    return base + (size_t)piece * PIECE; /* files begin with a piece */
}

static int make_contents(void **state)
{
    dp_rng rng;

    contents = calloc(PIECES, PIECE);
    dp_rng_init(&rng, 7);
    for (size_t i = 0; i < (size_t)PIECES * PIECE; i += 8) {
        uint64_t x = dp_rng_u64(&rng);

        memcpy(contents + i, &x, 8);
    }
    fake_files[0].bytes = contents;
    fake_files[1].bytes = piece_bytes(contents, 60);
    for (uint32_t i = 0; i < PIECES; i++) {
        dp_pieces p = { i < 60 ? SIZE_0 : SIZE_1, PIECE };

        CHECK(dp_piece_hash(&hashes[i], p, i < 60 ? i : i - 60, piece_bytes(contents, i), NULL) ==
                  0,
              "hash");
    }
    return 0;
}

static int free_contents(void **state)
{
    free(contents);
    return 0;
}

static void rig_open(rig *r, bool is_hashed)
{
    dp_pager_config config = { .layout = &r->layout, .clock = &dp_clock_real, .token = "secret" };
    dp_error err = { 0 };

    memset(r, 0, sizeof *r);
    r->files[0] = (dp_layout_file){ "m/a.gguf", { SIZE_0, PIECE }, 0, is_hashed ? hashes : NULL };
    r->files[1] =
        (dp_layout_file){ "m/b.gguf", { SIZE_1, PIECE }, 60, is_hashed ? hashes + 60 : NULL };
    r->layout = (dp_layout){ r->files, 2, PIECE, PIECES };
    r->out = calloc(PIECES, PIECE);
    dp_mutex_init(&r->lock);
    dp_cond_init(&r->changed);
    CHECK_OK(dp_pager_open(&r->pager, &config, &err), err);
}

static uint32_t rig_add(rig *r, uint16_t port, bool is_peer, const uint8_t *have, bool private_ok)
{
    char urls[2][64];
    const char *list[] = { urls[0], urls[1] };
    dp_pager_endpoint endpoint = {
        .urls = list, .name = "fake", .is_peer = is_peer, .have = have, .allows_private = private_ok
    };
    dp_error err = { 0 };
    uint32_t id;

    snprintf(urls[0], sizeof urls[0], "http://127.0.0.1:%u/m/a.gguf", port);
    snprintf(urls[1], sizeof urls[1], "http://127.0.0.1:%u/m/b.gguf", port);
    CHECK_OK(dp_pager_add(r->pager, &endpoint, &id, &err), err);
    return id;
}

/* Fake i, as a peer that has everything. */
static void rig_fake(rig *r, uint32_t i, const http_fake_rules *rules)
{
    r->fakes[i] = http_fake_open(fake_files, 2, rules);
    r->ids[i] = rig_add(r, http_fake_port(r->fakes[i]), true, NULL, true);
}

static void on_done(dp_pager_job *pager_job, uint32_t endpoint, const dp_error *error)
{
    job *j = pager_job->user;
    rig *r = j->rig;

    dp_mutex_lock(&r->lock);
    j->done_count++;
    j->status = error ? error->status : DP_OK;
    j->endpoint = endpoint;
    snprintf(j->text, sizeof j->text, "%s", error ? error->text : "");
    j->done_ns = dp_clock_now_ns(&dp_clock_real);
    r->order[r->done_count++] = pager_job->piece;
    dp_cond_broadcast(&r->changed);
    dp_mutex_unlock(&r->lock);
}

static void rig_submit(rig *r, uint32_t first, uint32_t count, dp_pager_class class_,
                       uint32_t deadline_ms)
{
    dp_pager_job *list[PIECES];

    for (uint32_t i = 0; i < count; i++) {
        job *j = &r->jobs[first + i];

        memset(j, 0, sizeof *j);
        j->rig = r;
        j->job = (dp_pager_job){ .piece = first + i,
                                 .out = piece_bytes(r->out, first + i),
                                 .class_ = class_,
                                 .deadline_ns = dp_clock_now_ns(&dp_clock_real) +
                                                (uint64_t)deadline_ms * 1000000,
                                 .done = on_done,
                                 .user = j };
        list[i] = &j->job;
    }
    dp_pager_submit(r->pager, list, count);
}

/* Until so many have ended since the rig was opened. */
static void rig_wait(rig *r, uint32_t count)
{
    uint64_t end = dp_clock_now_ns(&dp_clock_real) + (uint64_t)2 * WAIT_MS * 1000000;

    dp_mutex_lock(&r->lock);
    while (r->done_count < count) {
        uint64_t now = dp_clock_now_ns(&dp_clock_real);

        CHECK(now < end, "%u of %u ended", r->done_count, count);
        dp_cond_wait_for(&r->changed, &r->lock, end - now);
    }
    dp_mutex_unlock(&r->lock);
}

static void check_jobs(const char *name, rig *r, uint32_t first, uint32_t count, dp_status want)
{
    for (uint32_t i = first; i < first + count; i++) {
        const job *j = &r->jobs[i];
        uint32_t size = dp_layout_find(&r->layout, i).size;

        CHECK(j->done_count == 1 && j->status == want, "%s: piece %u: %u times, status %d, %s",
              name, i, j->done_count, j->status, j->text);
        CHECK(want != DP_OK || memcmp(j->job.out, piece_bytes(contents, i), size) == 0,
              "%s: piece %u has other bytes", name, i);
    }
}

static void rig_close(rig *r)
{
    dp_mem_stats mem;

    dp_pager_close(r->pager);
    for (int i = 0; i < FAKES_MAX; i++)
        http_fake_close(r->fakes[i]);
    dp_mutex_deinit(&r->lock);
    dp_cond_deinit(&r->changed);
    free(r->out);
    dp_mem_stats_read(&mem);
    CHECK(mem.heap_blocks == 0, "%llu blocks left", (unsigned long long)mem.heap_blocks);
}

/* ---- one server of three is bad --------------------------------------------------------------- */

static const struct {
    const char *name;
    http_fake_rules rules; /* of the third; the others are good: 5 ms, 20 MB/s */
    uint32_t ms_max;       /* generous: the machine may be busy */
    uint32_t bans, stalls_max;
} faults[] = {
    { "nothing", { .bytes_s = 20000000, .delay_ms = 5 }, 1500, 0, 9 },
    { "stalls in the middle", { .stall_at = 300000, .delay_ms = 5 }, 2000, 0, 9 },
    { "stalls and goes on", { .stall_at = 300000, .stall_ms = 400, .delay_ms = 5 }, 2000, 0, 9 },
    { "is silent", { .is_silent = true }, 2500, 0, 9 },
    { "trickles", { .bytes_s = 20000, .delay_ms = 5 }, 3000, 0, 9 },
    { "is cut in the middle", { .cut_at = 100000, .delay_ms = 5 }, 2000, 0, 9 },
    { "lies", { .lies = true, .delay_ms = 5, .bytes_s = 20000000 }, 2000, 1, 9 },
    { "404", { .status = 404 }, 2000, 0, 9 },
    { "503", { .status = 503, .retry_s = 1 }, 2000, 0, 9 },
    { "403", { .status = 403 }, 2000, 0, 9 },
    { "416", { .status = 416 }, 2000, 0, 9 },
    { "a piece at a time", { .most = PIECE, .delay_ms = 5 }, 2000, 0, 9 },
    { "a part that ends within a piece", { .most = 1000 }, 2000, 0, 9 },
    { "redirects", { .status = 302, .location = "http://127.0.0.1:1/x" }, 2000, 0, 9 },
    { "200 and everything", { .ignores_range = true }, 2000, 0, 9 },
    { "another range", { .range = "bytes 0-99/3927855" }, 2000, 0, 9 },
    { "a range without sense", { .range = "bytes 9-3/x" }, 2000, 0, 9 },
    { "another size", { .range = "bytes 0-65535/65536" }, 2000, 0, 9 },
    { "a head of 100 KB", { .head_bytes = 100000 }, 2000, 0, 9 },
};

static void test_faults(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(faults); i++) {
        static rig r;
        http_fake_rules good = { .delay_ms = 5, .bytes_s = 20000000 };
        uint64_t begin;
        dp_pager_stats stats;

        rig_open(&r, true);
        rig_fake(&r, 0, &good);
        rig_fake(&r, 1, &good);
        rig_fake(&r, 2, &faults[i].rules);
        begin = dp_clock_now_ns(&dp_clock_real);
        rig_submit(&r, 0, PIECES, DP_PAGER_DEMAND, WAIT_MS);
        rig_wait(&r, PIECES);
        begin = (dp_clock_now_ns(&dp_clock_real) - begin) / 1000000;
        check_jobs(faults[i].name, &r, 0, PIECES, DP_OK);
        dp_pager_stats_read(r.pager, &stats);
        CHECK(begin <= faults[i].ms_max, "%s: %llu ms", faults[i].name, (unsigned long long)begin);
        CHECK(stats.bans == faults[i].bans, "%s: %llu bans", faults[i].name,
              (unsigned long long)stats.bans);
        CHECK(stats.pieces == PIECES, "%s: %llu pieces", faults[i].name,
              (unsigned long long)stats.pieces);
        rig_close(&r);
    }
}

/* ---- liars and mixtures ------------------------------------------------------------------------ */

static const dp_pager_peer_stats *peer_stats(rig *r, uint32_t i)
{
    static dp_pager_peer_stats list[FAKES_MAX];
    size_t count = dp_pager_peers(r->pager, list, FAKES_MAX);

    for (size_t k = 0; k < count && k < FAKES_MAX; k++) {
        if (list[k].id == r->ids[i])
            return &list[k];
    }
    CHECK(false, "no endpoint %u", r->ids[i]);
    return NULL;
}

/* Waits for what another thread brings about; looks often, gives up late. */
static void wait_until(rig *r, bool (*is_so)(rig *r), const char *what)
{
    for (int i = 0; i < WAIT_MS && !is_so(r); i++) {
        dp_mutex_lock(&r->lock);
        dp_cond_wait_for(&r->changed, &r->lock, 1000000);
        dp_mutex_unlock(&r->lock);
    }
    CHECK(is_so(r), "%s", what);
}

static bool first_gave_its_part(rig *r)
{
    return http_fake_stats_read(r->fakes[0]).bytes >= 30000;
}

/* The liar gives the first part of a piece and an honest server the rest: both are suspects,
 * and the right bytes tell who it was. */
static void test_mixture(void **state)
{
    static rig r;
    http_fake_rules liar = { .lies = true, .stall_at = 30000 };

    rig_open(&r, true);
    rig_fake(&r, 0, &liar);
    rig_submit(&r, 7, 1, DP_PAGER_DEMAND, WAIT_MS);
    wait_until(&r, first_gave_its_part, "the liar's part");
    rig_fake(&r, 1, NULL);
    rig_wait(&r, 1);
    check_jobs("mixture", &r, 7, 1, DP_OK);
    CHECK(r.jobs[7].endpoint == r.ids[1], "endpoint %u", r.jobs[7].endpoint);
    CHECK(peer_stats(&r, 0)->banned_s > 500 && peer_stats(&r, 0)->bad_pieces == 1, "the liar");
    CHECK(peer_stats(&r, 1)->banned_s == 0 && peer_stats(&r, 1)->bad_pieces == 0, "the honest one");
    rig_close(&r);
}

/* With nobody else the piece ends at once: it is asked of no liar again. */
static void test_only_liar(void **state)
{
    static rig r;
    http_fake_rules liar = { .lies = true };

    rig_open(&r, true);
    rig_fake(&r, 0, &liar);
    rig_submit(&r, 7, 3, DP_PAGER_DEMAND, WAIT_MS);
    rig_wait(&r, 3);
    check_jobs("only a liar", &r, 7, 3, DP_E_NOTFOUND);
    rig_close(&r);
}

/* ---- who has what ------------------------------------------------------------------------------ */

static void test_have(void **state)
{
    static rig r;
    uint8_t have[PIECES / 8] = { 0xf0 }; /* pieces 0 to 3 */
    http_fake_rules lacking = { .lacks_begin = 12 * PIECE, .lacks_end = 13 * PIECE };

    rig_open(&r, true);
    rig_submit(&r, 0, 1, DP_PAGER_DEMAND, WAIT_MS);
    rig_wait(&r, 1);
    check_jobs("no endpoint", &r, 0, 1, DP_E_NOTFOUND);

    r.fakes[0] = http_fake_open(fake_files, 2, NULL);
    r.ids[0] = rig_add(&r, http_fake_port(r.fakes[0]), true, have, true);
    rig_submit(&r, 0, 6, DP_PAGER_DEMAND, WAIT_MS);
    rig_wait(&r, 7);
    check_jobs("has", &r, 0, 4, DP_OK);
    check_jobs("has not", &r, 4, 2, DP_E_NOTFOUND);
    have[0] = 0xff;
    dp_pager_set_have(r.pager, r.ids[0], have);
    rig_submit(&r, 4, 4, DP_PAGER_DEMAND, WAIT_MS);
    rig_wait(&r, 11);
    check_jobs("has now", &r, 4, 4, DP_OK);

    /* One absent piece in a range of twelve: it is found, the others arrive. */
    rig_fake(&r, 1, &lacking);
    memset(have, 0xff, sizeof have);
    dp_pager_set_have(r.pager, r.ids[1], have);
    dp_pager_remove(r.pager, r.ids[0]);
    rig_submit(&r, 8, 12, DP_PAGER_DEMAND, WAIT_MS);
    rig_wait(&r, 23);
    check_jobs("before", &r, 8, 4, DP_OK);
    check_jobs("absent", &r, 12, 1, DP_E_NOTFOUND);
    check_jobs("behind", &r, 13, 7, DP_OK);
    dp_pager_remove(r.pager, r.ids[1]);
    rig_submit(&r, 20, 2, DP_PAGER_DEMAND, WAIT_MS);
    rig_wait(&r, 25);
    check_jobs("removed", &r, 20, 2, DP_E_NOTFOUND);
    CHECK(strstr(r.jobs[20].text, "m/a.gguf: nobody has piece 20"), "%s", r.jobs[20].text);
    rig_close(&r);
}

static bool has_failed(rig *r)
{
    return peer_stats(r, 0)->failures > 0;
}

/* An answer breaks where the peer then says it lost a piece: it need not rest for that. */
static void test_told_cut(void **state)
{
    static rig r;
    uint8_t have[PIECES / 8];
    http_fake_rules cutting = { .cut_at = 2 * PIECE },
                    lacking = { .lacks_begin = 2 * PIECE, .lacks_end = 3 * PIECE };

    rig_open(&r, true);
    memset(have, 0xff, sizeof have);
    r.fakes[0] = http_fake_open(fake_files, 2, &cutting);
    r.ids[0] = rig_add(&r, http_fake_port(r.fakes[0]), true, have, true);
    rig_submit(&r, 0, 6, DP_PAGER_DEMAND, WAIT_MS);
    wait_until(&r, has_failed, "a cut");
    CHECK(peer_stats(&r, 0)->backoff_s > 0, "it rests");
    http_fake_set(r.fakes[0], &lacking);
    have[0] = 0xdf;
    dp_pager_set_have(r.pager, r.ids[0], have);
    CHECK(peer_stats(&r, 0)->failures == 0 && peer_stats(&r, 0)->backoff_s == 0, "no more");
    rig_wait(&r, 6);
    check_jobs("before", &r, 0, 2, DP_OK);
    check_jobs("lost", &r, 2, 1, DP_E_NOTFOUND);
    check_jobs("behind", &r, 3, 3, DP_OK);
    rig_close(&r);
}

static bool fake_is_asked(rig *r)
{
    return http_fake_stats_read(r->fakes[0]).requests >= 1;
}

static void test_remove_under_way(void **state)
{
    static rig r;
    http_fake_rules silent = { .is_silent = true };

    rig_open(&r, true);
    rig_fake(&r, 0, &silent);
    rig_submit(&r, 0, 20, DP_PAGER_DEMAND, WAIT_MS);
    wait_until(&r, fake_is_asked, "a request");
    rig_fake(&r, 1, NULL);
    dp_pager_remove(r.pager, r.ids[0]);
    rig_wait(&r, 20);
    check_jobs("removed", &r, 0, 20, DP_OK);
    rig_close(&r);
}

/* ---- deadlines, cancel, promote, close ------------------------------------------------------------ */

static void test_deadline(void **state)
{
    static rig r;
    http_fake_rules silent = { .is_silent = true };
    uint64_t begin = dp_clock_now_ns(&dp_clock_real), ms;

    rig_open(&r, true);
    rig_fake(&r, 0, &silent);
    rig_submit(&r, 0, 3, DP_PAGER_DEMAND, 120);
    rig_submit(&r, 30, 2, DP_PAGER_FILL, 120);
    rig_wait(&r, 5);
    check_jobs("deadline", &r, 0, 3, DP_E_TIMEOUT);
    check_jobs("deadline", &r, 30, 2, DP_E_TIMEOUT);
    ms = (r.jobs[0].done_ns - begin) / 1000000;
    CHECK(ms >= 120 && ms < 1000, "%llu ms", (unsigned long long)ms);
    rig_close(&r);
}

static void test_cancel(void **state)
{
    static rig r;
    http_fake_rules silent = { .is_silent = true };
    static job twin;
    dp_pager_job *list = &twin.job;

    rig_open(&r, true);
    rig_fake(&r, 0, &silent);
    rig_submit(&r, 0, 4, DP_PAGER_FILL, WAIT_MS);
    wait_until(&r, fake_is_asked, "a request");
    rig_submit(&r, 40, 4, DP_PAGER_FILL, WAIT_MS);
    twin = r.jobs[1];
    dp_pager_submit(r.pager, &list, 1);
    CHECK(dp_pager_cancel(r.pager, &r.jobs[40].job), "it was not asked for");
    CHECK(dp_pager_cancel(r.pager, &twin.job), "nor was the second of two");
    CHECK(!dp_pager_cancel(r.pager, &r.jobs[0].job), "it was asked for");
    rig_wait(&r, 1);
    check_jobs("canceled", &r, 0, 1, DP_E_CANCELED);
    dp_pager_close(r.pager);
    r.pager = NULL;
    check_jobs("closed", &r, 1, 3, DP_E_CANCELED);
    check_jobs("closed", &r, 41, 3, DP_E_CANCELED);
    CHECK(r.jobs[40].done_count == 0 && r.done_count == 7, "%u ended", r.done_count);
    rig_close(&r);
}

/* What nobody waits for yields: the run that is promoted ends before the one that was first. */
static void test_order(void **state)
{
    static rig r;
    http_fake_rules slow = { .bytes_s = 4000000, .delay_ms = 2 };
    uint32_t before = 0;

    rig_open(&r, true);
    rig_fake(&r, 0, &slow);
    rig_submit(&r, 0, 40, DP_PAGER_PREFETCH, WAIT_MS);
    rig_submit(&r, 50, 3, DP_PAGER_PREFETCH, WAIT_MS);
    wait_until(&r, fake_is_asked, "a request");
    rig_submit(&r, 60, 3, DP_PAGER_DEMAND, WAIT_MS);
    for (uint32_t i = 50; i < 53; i++)
        dp_pager_promote(r.pager, &r.jobs[i].job);
    rig_wait(&r, 46);
    check_jobs("order", &r, 0, 40, DP_OK);
    check_jobs("order", &r, 50, 3, DP_OK);
    check_jobs("order", &r, 60, 3, DP_OK);
    for (uint32_t i = 0, found = 0; found < 6; i++) {
        found += r.order[i] >= 50;
        before += r.order[i] < 50;
    }
    CHECK(before < 30, "%u of 40 prefetched pieces came before what was waited for", before);
    rig_close(&r);
}

static void test_twice(void **state)
{
    static rig r;
    http_fake_rules slow = { .bytes_s = 4000000, .delay_ms = 20 };
    static job twin;
    static uint8_t out[PIECE];
    dp_pager_job *list = &twin.job;

    rig_open(&r, true);
    rig_fake(&r, 0, &slow);
    rig_submit(&r, 3, 2, DP_PAGER_PREFETCH, WAIT_MS);
    twin = r.jobs[3];
    twin.job.user = &twin;
    twin.job.out = out;
    dp_pager_submit(r.pager, &list, 1);
    dp_pager_promote(r.pager, &twin.job);
    rig_wait(&r, 3);
    check_jobs("first", &r, 3, 2, DP_OK);
    CHECK(twin.done_count == 1 && twin.status == DP_OK &&
              memcmp(out, piece_bytes(contents, 3), PIECE) == 0,
          "second: %s", twin.text);
    rig_close(&r);
}

/* ---- connections and secrets ------------------------------------------------------------------- */

static void test_kept_connections(void **state)
{
    static rig r;
    http_fake_stats stats;
    dp_pager_stats pager;
    dp_mem_stats before = { 0 }, after;

    rig_open(&r, true);
    rig_fake(&r, 0, NULL);
    for (uint32_t round = 0; round < 40; round++) {
        rig_submit(&r, 0, PIECES, DP_PAGER_DEMAND, WAIT_MS);
        rig_wait(&r, PIECES);
        check_jobs("round", &r, 0, PIECES, DP_OK);
        dp_mem_stats_read(round == 2 ? &before : &after);
        r.done_count = 0;
    }
    dp_mem_stats_read(&after);
    CHECK(after.heap_bytes == before.heap_bytes, "memory grew from %llu to %llu bytes",
          (unsigned long long)before.heap_bytes, (unsigned long long)after.heap_bytes);
    stats = http_fake_stats_read(r.fakes[0]);
    dp_pager_stats_read(r.pager, &pager);
    CHECK(stats.connections <= 3 && stats.broken == 0, "%u connections for %u requests, %u broken",
          stats.connections, stats.requests, stats.broken);
    CHECK(pager.connects == stats.connections && pager.requests == stats.requests, "counted");
    CHECK(pager.bytes == stats.bytes && pager.wasted_bytes == 0, "bytes");
    rig_close(&r);
}

static bool is_warm(rig *r)
{
    dp_pager_stats stats;

    dp_pager_stats_read(r->pager, &stats);
    return stats.connects == 4 && peer_stats(r, 0)->rtt_ms > 0 && peer_stats(r, 1)->rtt_ms > 0;
}

/* Whoever comes is connected to at once: what is asked later finds the lines. */
static void test_warm(void **state)
{
    static rig r;
    http_fake_rules far = { .delay_ms = 30 };

    rig_open(&r, true);
    rig_fake(&r, 0, &far);
    rig_fake(&r, 1, &far);
    wait_until(&r, is_warm, "two lines each");
    CHECK(peer_stats(&r, 0)->rtt_ms >= 30, "%f ms", peer_stats(&r, 0)->rtt_ms);
    rig_submit(&r, 0, PIECES, DP_PAGER_DEMAND, WAIT_MS);
    rig_wait(&r, PIECES);
    check_jobs("warm", &r, 0, PIECES, DP_OK);
    for (int i = 0; i < 2; i++) {
        http_fake_stats stats = http_fake_stats_read(r.fakes[i]);

        CHECK(stats.connections == 2 && stats.heads == 2, "%u connections, %u heads",
              stats.connections, stats.heads);
    }
    rig_close(&r);
}

static void test_token(void **state)
{
    static rig r;
    http_fake_rules closed = { .need = "Authorization: Bearer secret\r\n" };
    dp_pager_peer_stats peer;

    rig_open(&r, true);
    rig_fake(&r, 0, &closed);
    rig_submit(&r, 0, 5, DP_PAGER_DEMAND, WAIT_MS);
    rig_wait(&r, 5);
    check_jobs("a peer", &r, 0, 5, DP_OK);
    dp_pager_remove(r.pager, r.ids[0]);
    r.ids[0] = rig_add(&r, http_fake_port(r.fakes[0]), false, NULL, true);
    rig_submit(&r, 0, 5, DP_PAGER_DEMAND, 150);
    rig_wait(&r, 10);
    check_jobs("a web seed is told no secret", &r, 0, 5, DP_E_TIMEOUT);
    CHECK(strstr(r.jobs[0].text, "fake answered 401"), "%s", r.jobs[0].text);
    dp_pager_remove(r.pager, r.ids[0]);

    /* Who wants another one has nothing for us. */
    closed.need = "Authorization: Bearer other\r\n";
    http_fake_set(r.fakes[0], &closed);
    r.ids[0] = rig_add(&r, http_fake_port(r.fakes[0]), true, NULL, true);
    rig_submit(&r, 0, 5, DP_PAGER_DEMAND, WAIT_MS);
    rig_wait(&r, 15);
    check_jobs("another token", &r, 0, 5, DP_E_NOTFOUND);
    CHECK(strstr(r.jobs[0].text, "fake wants a token (--swarm-token)"), "%s", r.jobs[0].text);
    CHECK(dp_pager_peers(r.pager, &peer, 1) == 1 && peer.wants_token, "it is not said");
    rig_close(&r);
}

static void test_private(void **state)
{
    static rig r;
    http_fake_rules redirect = { .status = 302 };
    char location[64];

    rig_open(&r, true);
    r.fakes[0] = http_fake_open(fake_files, 2, NULL);
    r.ids[0] = rig_add(&r, http_fake_port(r.fakes[0]), false, NULL, false);
    rig_submit(&r, 0, 2, DP_PAGER_DEMAND, 150);
    rig_wait(&r, 2);
    check_jobs("private", &r, 0, 2, DP_E_TIMEOUT);
    CHECK(strstr(r.jobs[0].text, "private address"), "%s", r.jobs[0].text);
    CHECK(http_fake_stats_read(r.fakes[0]).connections == 0, "it was connected to");

    /* A warm connection of somebody who may is no way around. */
    r.ids[1] = rig_add(&r, http_fake_port(r.fakes[0]), true, NULL, true);
    rig_submit(&r, 0, 2, DP_PAGER_DEMAND, WAIT_MS);
    rig_wait(&r, 4);
    check_jobs("allowed", &r, 0, 2, DP_OK);
    dp_pager_remove(r.pager, r.ids[1]);
    dp_pager_remove(r.pager, r.ids[0]);
    r.ids[0] = rig_add(&r, http_fake_port(r.fakes[0]), false, NULL, false);
    rig_submit(&r, 0, 2, DP_PAGER_DEMAND, 150);
    rig_wait(&r, 6);
    check_jobs("private", &r, 0, 2, DP_E_TIMEOUT);
    CHECK(http_fake_stats_read(r.fakes[0]).requests == 1, "it was asked");
    dp_pager_remove(r.pager, r.ids[0]);

    /* A redirect is followed for a web seed that may. */
    snprintf(location, sizeof location, "http://127.0.0.1:%u/m/a.gguf", http_fake_port(r.fakes[0]));
    redirect.location = location;
    r.fakes[1] = http_fake_open(fake_files, 2, &redirect);
    r.ids[1] = rig_add(&r, http_fake_port(r.fakes[1]), false, NULL, true);
    rig_submit(&r, 0, 2, DP_PAGER_DEMAND, WAIT_MS);
    rig_wait(&r, 8);
    check_jobs("redirected", &r, 0, 2, DP_OK);
    rig_close(&r);
}

/* ---- files without hashes ----------------------------------------------------------------------- */

static const struct {
    const char *name;
    http_fake_rules first, second;
    dp_status want; /* of the second */
} versions[] = {
    { "same tag", { .etag = "\"a\"" }, { .etag = "\"a\"" }, DP_OK },
    { "other tag", { .etag = "\"a\"" }, { .etag = "\"b\"" }, DP_E_CORRUPT },
    { "same weak tag", { .etag = "W/\"a\"" }, { .etag = "W/\"a\"" }, DP_OK },
    { "other weak tag", { .etag = "W/\"a\"" }, { .etag = "W/\"b\"" }, DP_E_CORRUPT },
    { "no tag any more", { .etag = "\"a\"" }, { .etag = NULL }, DP_E_CORRUPT },
    { "no tag at all", { .etag = NULL }, { .etag = NULL }, DP_OK },
    { "other size", { .etag = NULL }, { .range = "bytes 0-65535/65536" }, DP_E_CORRUPT },
};

static void test_versions(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(versions); i++) {
        static rig r;

        rig_open(&r, false);
        r.fakes[0] = http_fake_open(fake_files, 2, &versions[i].first);
        r.ids[0] = rig_add(&r, http_fake_port(r.fakes[0]), false, NULL, true);
        rig_submit(&r, 0, 10, DP_PAGER_DEMAND, WAIT_MS);
        rig_wait(&r, 10);
        check_jobs(versions[i].name, &r, 0, 10, DP_OK);
        http_fake_set(r.fakes[0], &versions[i].second);
        rig_submit(&r, 0, 1, DP_PAGER_DEMAND, WAIT_MS);
        rig_wait(&r, 11);
        check_jobs(versions[i].name, &r, 0, 1, versions[i].want);
        CHECK(versions[i].want == DP_OK || strstr(r.jobs[0].text, "changed on the server"),
              "%s: %s", versions[i].name, r.jobs[0].text);
        rig_close(&r);
    }
}

static void test_expected_version(void **state)
{
    static rig r;
    const char *urls[2], *tags[2] = { "\"old\"", NULL };
    dp_pager_endpoint endpoint = { .urls = urls, .tags = tags, .allows_private = true };
    http_fake_rules now = { .etag = "\"new\"" };
    char url[64];
    dp_error err = { 0 };

    rig_open(&r, false);
    r.fakes[0] = http_fake_open(fake_files, 2, &now);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/m/a.gguf", http_fake_port(r.fakes[0]));
    urls[0] = urls[1] = url;
    CHECK_OK(dp_pager_add(r.pager, &endpoint, &r.ids[0], &err), err);
    rig_submit(&r, 0, 2, DP_PAGER_DEMAND, WAIT_MS);
    rig_wait(&r, 2);
    check_jobs("another version than the one that was looked at", &r, 0, 2, DP_E_CORRUPT);
    rig_close(&r);
}

/* ---- refusals, failures ---------------------------------------------------------------------------- */

static void test_refusals(void **state)
{
    static rig r;
    static char long_url[DP_PAGER_URL_MAX + 1];
    const char *urls[2] = { "http://127.0.0.1:9/a", "file:///etc/passwd" };
    dp_pager_endpoint endpoint = { .urls = urls, .name = "x" };
    dp_error err = { 0 };
    uint32_t id, extra;

    rig_open(&r, true);
    CHECK(dp_pager_add(r.pager, &endpoint, &id, &err) == DP_E_INVALID, "%s", err.text);
    memset(long_url, 'x', DP_PAGER_URL_MAX);
    memcpy(long_url, "http://", 7);
    urls[1] = long_url;
    CHECK(dp_pager_add(r.pager, &endpoint, &id, &err) == DP_E_LIMIT, "%s", err.text);
    urls[1] = urls[0];
    for (int i = 0; i < DP_PAGER_ENDPOINTS_MAX; i++)
        CHECK_OK(dp_pager_add(r.pager, &endpoint, &id, &err), err);
    CHECK(dp_pager_add(r.pager, &endpoint, &extra, &err) == DP_E_LIMIT, "%s", err.text);
    dp_pager_remove(r.pager, id);
    CHECK_OK(dp_pager_add(r.pager, &endpoint, &id, &err), err);
    rig_close(&r);
}

static void test_no_memory(void **state)
{
    static const dp_fault points[] = { DP_FAULT_MEM, DP_FAULT_THREAD };

    for (size_t k = 0; k < DP_ARRAY_LEN(points); k++) {
        for (uint64_t n = 0;; n++) {
            dp_layout_file file = { "a", { SIZE_0, PIECE }, 0, hashes };
            dp_layout layout = { &file, 1, PIECE, 60 };
            dp_pager_config config = { .layout = &layout, .clock = &dp_clock_real };
            const char *url = "http://127.0.0.1:9/a";
            uint8_t have[8] = { 0 };
            dp_pager_endpoint endpoint = { .urls = &url, .name = "x", .have = have };
            dp_pager *pager;
            dp_mem_stats mem;
            dp_status st;
            uint32_t id;

            dp_fault_arm(points[k], n, 1);
            st = dp_pager_open(&pager, &config, NULL);
            if (!st)
                st = dp_pager_add(pager, &endpoint, &id, NULL);
            dp_pager_close(pager);
            dp_mem_stats_read(&mem);
            CHECK(mem.heap_blocks == 0, "%llu: %llu blocks left", (unsigned long long)n,
                  (unsigned long long)mem.heap_blocks);
            if (dp_fault_disarm(points[k]) == 0)
                break;
            CHECK(st == DP_E_NOMEM, "%llu: status %d", (unsigned long long)n, st);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_mixture),
        cmocka_unit_test(test_only_liar),
        cmocka_unit_test(test_have),
        cmocka_unit_test(test_told_cut),
        cmocka_unit_test(test_remove_under_way),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_kept_connections),
        cmocka_unit_test(test_warm),
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_private),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_expected_version),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, make_contents, free_contents);
}
