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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, make_contents, free_contents);
}
