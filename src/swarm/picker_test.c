#include "swarm/picker.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/status.h"
#include "testing/check.h"

#define MS         ((uint64_t)1000000)
#define PIECE      ((uint32_t)256 << 10)
#define PIECES_MAX 512
#define PEERS_MAX  64
#define ASKS_MAX   16
#define PER_PEER   2

/* A world of peers: each gives `rate` bytes/s, shared by its asks, after its latency. */
typedef struct peer {
    uint32_t id;
    double rate;
    uint64_t latency_ns;
    uint64_t silent_from, silent_to; /* gives nothing in between */
    uint64_t period_ns;              /* silent in every second half of it; 0: not */
    uint64_t cut_ns;                 /* all its answers break then */
    double lies;                     /* share of pieces in which it lies */
    uint8_t have[PIECES_MAX / 8];    /* what the picker was told */
    uint8_t lacks[PIECES_MAX / 8];   /* what it does not have all the same: 404 */
} peer;

typedef struct flight {
    dp_picker_ask *ask;
    uint64_t asked_ns;
    bool is_answered;
    double credit; /* bytes that may come */
} flight;

typedef struct world {
    dp_layout_file files[2];
    dp_layout layout;
    dp_picker *p;
    peer peers[PEERS_MAX];
    uint32_t peer_count;
    dp_picker_want wants[PIECES_MAX];
    uint32_t ended[PIECES_MAX]; /* times */
    dp_status status[PIECES_MAX];
    uint64_t done_ns[PIECES_MAX];
    uint32_t left;
    flight flights[ASKS_MAX];
    uint64_t now, arrived;
    uint32_t mixtures; /* pieces that came from several */
} world;

static bool bit(const uint8_t *bits, uint32_t i)
{
    return bits[i / 8] >> (7 - i % 8) & 1;
}

static void clear(uint8_t *bits, uint32_t i)
{
    bits[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
}

static void world_open(world *w, uint32_t pieces_0, uint32_t pieces_1)
{
    dp_picker_config config = { &w->layout, PEERS_MAX, ASKS_MAX, PER_PEER };
    dp_error err = { 0 };

    memset(w, 0, sizeof *w);
    w->now = 1000 * MS;
    w->files[0].pieces = (dp_pieces){ (uint64_t)pieces_0 * PIECE - 1000, PIECE };
    w->files[1].pieces = (dp_pieces){ (uint64_t)pieces_1 * PIECE - 77777, PIECE };
    w->files[1].first_piece = pieces_0;
    w->layout = (dp_layout){ w->files, pieces_1 ? 2 : 1, PIECE, pieces_0 + pieces_1 };
    CHECK_OK(dp_picker_open(&w->p, &config, &err), err);
}

static peer *world_peer(world *w, double rate, uint64_t latency_ms)
{
    peer *peer = &w->peers[w->peer_count++];

    peer->rate = rate;
    peer->latency_ns = latency_ms * MS;
    memset(peer->have, 0xff, sizeof peer->have);
    return peer;
}

static void world_join(world *w)
{
    for (uint32_t i = 0; i < w->peer_count; i++) {
        dp_error err = { 0 };

        CHECK_OK(dp_picker_add(w->p, w->peers[i].have, &w->peers[i].id, &err), err);
    }
}

static peer *peer_of(world *w, uint32_t id)
{
    for (uint32_t i = 0; i < w->peer_count; i++) {
        if (w->peers[i].id == id)
            return &w->peers[i];
    }
    CHECK(false, "no endpoint %u", id);
    return NULL;
}

static void world_want(world *w, uint32_t first, uint32_t count, uint32_t class_, uint64_t wait_ms)
{
    for (uint32_t i = first; i < first + count; i++) {
        CHECK(w->wants[i].state == DP_PICKER_OUT, "piece %u", i);
        w->wants[i] =
            (dp_picker_want){ .piece = i, .class_ = class_, .deadline_ns = w->now + wait_ms * MS };
        CHECK(dp_picker_want_add(w->p, &w->wants[i]), "piece %u", i);
        CHECK(!dp_picker_want_add(w->p, &(dp_picker_want){ .piece = i }), "piece %u twice", i);
        w->left++;
    }
}

static void world_end(world *w, uint32_t piece, dp_status status)
{
    CHECK(w->wants[piece].state == DP_PICKER_OUT, "piece %u", piece);
    w->ended[piece]++;
    w->status[piece] = status;
    w->done_ns[piece] = w->now;
    w->left--;
}

static bool lies_about(const peer *peer, uint32_t piece)
{
    return peer->lies > 0 && (piece * 2654435761u >> 16) % 100 < (uint32_t)(peer->lies * 100);
}

/* The executor's part when all bytes of a piece are there: a liar's part has another digest. */
static void judge(world *w, dp_picker_want *want)
{
    uint64_t digests[DP_PICKER_PARTS_MAX] = { 0 };
    bool is_right = true;

    CHECK(want->part_count > 0 && want->parts[want->part_count - 1].end == want->size, "parts");
    CHECK(want->suspect_count == 0 || want->part_count == 1, "piece %u: a second mixture",
          want->piece);
    w->mixtures += want->part_count > 1;
    for (uint32_t i = 0; i < want->part_count; i++) {
        digests[i] = lies_about(peer_of(w, want->parts[i].endpoint), want->piece) ? i + 1 : 0;
        is_right = is_right && digests[i] == 0;
    }
    if (is_right) {
        uint64_t right[DP_PICKER_PARTS_MAX] = { 0 };

        dp_picker_right(w->p, want, right, w->now);
        world_end(w, want->piece, DP_OK);
    } else {
        dp_picker_wrong(w->p, want, digests, w->now);
    }
}

static void end_flight(world *w, flight *f, dp_picker_end end)
{
    dp_picker_ended(w->p, f->ask, end, 0, w->now);
    f->ask = NULL;
}

/* `size` bytes come; right places, in order, nothing twice. */
static void deliver(world *w, flight *f, size_t size)
{
    while (size > 0) {
        dp_picker_want *want;
        uint32_t offset;
        size_t n = dp_picker_arrived(w->p, f->ask, size, w->now, &want, &offset);

        CHECK(n > 0 && n <= size, "%zu of %zu", n, size);
        if (want) {
            CHECK(offset + n == want->filled, "%u + %zu, filled %u", offset, n, want->filled);
            CHECK(want->filled <= want->size, "filled %u", want->filled);
            if (want->state == DP_PICKER_FULL)
                judge(w, want);
        }
        size -= n;
        w->arrived += n;
    }
    if (f->ask->_got == f->ask->size)
        end_flight(w, f, DP_PICKER_END_WHOLE);
}

static void begin_flight(world *w, dp_picker_ask *ask)
{
    peer *peer = peer_of(w, ask->endpoint);
    uint32_t of_peer = 1, all = 1, live;
    flight *f = NULL;

    for (int i = 0; i < ASKS_MAX; i++) {
        if (!w->flights[i].ask)
            f = f ? f : &w->flights[i];
        else
            of_peer += w->flights[i].ask->endpoint == ask->endpoint, all++;
    }
    CHECK(f && of_peer <= PER_PEER && all <= ASKS_MAX, "%u asks, %u of one", all, of_peer);
    for (uint32_t i = ask->first_piece; i < ask->first_piece + ask->piece_count; i++) {
        live = 0;
        for (int k = 0; k < ASKS_MAX; k++) {
            const dp_picker_ask *other = w->flights[k].ask;

            live += other && !other->is_stalled && !other->_is_dropped && i >= other->first_piece &&
                    i < other->first_piece + other->piece_count &&
                    other->offset + other->_got <=
                        ask->offset + (uint64_t)(i - ask->first_piece) * PIECE;
        }
        CHECK(bit(peer->have, i), "piece %u is not there", i);
        CHECK(live <= (ask->is_hedge ? 1u : 0u), "piece %u: %u others bring it", i, live);
    }
    *f = (flight){ .ask = ask, .asked_ns = w->now };
}

static void act_all(world *w)
{
    for (;;) {
        dp_picker_act act = dp_picker_next(w->p, w->now);

        if (act.kind == DP_PICKER_NOTHING)
            break;
        if (act.kind == DP_PICKER_ASK)
            begin_flight(w, act.ask);
        else if (act.kind == DP_PICKER_FAIL)
            world_end(w, act.want->piece, act.status);
        for (int i = 0; i < ASKS_MAX && act.kind == DP_PICKER_DROP; i++) {
            if (w->flights[i].ask == act.ask)
                end_flight(w, &w->flights[i], DP_PICKER_END_DROPPED);
        }
    }
}

/* The answer's head, as a server gives it: what it has from the beginning of the range on. False: it
 * has nothing of it. What it tells so is no secret any more. */
static bool answer(world *w, peer *peer, flight *f)
{
    dp_picker_ask *ask = f->ask;
    uint32_t count = 0, file_first = w->files[ask->file].first_piece;

    while (count < ask->piece_count && !bit(peer->lacks, ask->first_piece + count))
        count++;
    if (count < ask->piece_count)
        clear(peer->have, ask->first_piece + count);
    if (count == 0) {
        end_flight(w, f, DP_PICKER_END_GONE);
        return false;
    }
    dp_picker_answered(w->p, ask, peer->latency_ns, w->now);
    f->is_answered = true;
    if (count < ask->piece_count)
        CHECK(dp_picker_shortened(w->p, ask,
                                  (uint64_t)(ask->first_piece + count - file_first) * PIECE -
                                      ask->offset),
              "whole pieces");
    return true;
}

static void step_flight(world *w, flight *f, uint32_t of_peer, uint64_t step_ns)
{
    peer *peer = peer_of(w, f->ask->endpoint);
    size_t size;

    if (w->now >= peer->silent_from && w->now < peer->silent_to)
        return;
    if (peer->period_ns && (w->now + peer->id * 77 * MS) % peer->period_ns > peer->period_ns / 2)
        return;
    if (peer->cut_ns && w->now >= peer->cut_ns) {
        end_flight(w, f, DP_PICKER_END_CUT);
        return;
    }
    if (w->now - f->asked_ns < peer->latency_ns)
        return;
    if (!f->is_answered && !answer(w, peer, f))
        return;
    f->credit += peer->rate / of_peer * (double)step_ns * 1e-9;
    size = (size_t)DP_MIN(f->credit, (double)(f->ask->size - f->ask->_got));
    f->credit -= (double)size;
    deliver(w, f, size);
}

/* Until nothing is left or time is over. */
static void world_run(world *w, uint64_t ms)
{
    uint64_t end = w->now + ms * MS;

    act_all(w);
    while (w->left > 0 && w->now < end) {
        w->now += MS;
        for (int i = 0; i < ASKS_MAX; i++) {
            uint32_t of_peer = 0;

            for (int k = 0; k < ASKS_MAX && w->flights[i].ask; k++)
                of_peer +=
                    w->flights[k].ask && w->flights[k].ask->endpoint == w->flights[i].ask->endpoint;
            if (w->flights[i].ask)
                step_flight(w, &w->flights[i], of_peer, MS);
        }
        act_all(w);
    }
}

static void world_close(world *w)
{
    dp_picker_stats stats = dp_picker_stats_read(w->p);
    dp_mem_stats mem;
    uint64_t filled = 0;

    for (uint32_t i = 0; i < w->layout.piece_count; i++)
        filled += w->wants[i].state != DP_PICKER_OUT ? w->wants[i].filled : 0;
    CHECK(stats.bytes + stats.wasted_bytes == w->arrived, "%llu used, %llu wasted, %llu came",
          (unsigned long long)stats.bytes, (unsigned long long)stats.wasted_bytes,
          (unsigned long long)w->arrived);
    dp_picker_close(w->p);
    dp_mem_stats_read(&mem);
    CHECK(mem.heap_blocks == 0, "%llu blocks left", (unsigned long long)mem.heap_blocks);
}

/* ---- rows ------------------------------------------------------------------------------------ */

enum { NONE, STALL, STALL_RETURN, CUT, LIE, SLOW, TRICKLE, LACK, LACK_ALL };

/* Three peers of 40 MB/s and 20 ms hold 48 pieces (12.6 MB: 105 ms and 20 ms); something is
 * wrong with the last one from 40 ms on. */
static const struct {
    const char *name;
    int fault;
    uint32_t peers;
    uint64_t warm, ms_max; /* the second of two rounds ends within that */
    uint64_t wasted_max;   /* pieces */
    uint32_t bans, stalls_max;
} rows[] = {
    { "nothing", NONE, 3, 1, 135, 0, 0, 0 },
    { "cold", NONE, 3, 0, 145, 0, 0, 0 },
    { "one peer", NONE, 1, 1, 345, 0, 0, 0 },
    /* 150 ms of silence, then its third of the bytes from two others, and 20 ms */
    { "a peer stalls", STALL, 3, 1, 270, 0, 0, 2 },
    { "a peer stalls and goes on", STALL_RETURN, 3, 1, 290, 17, 0, 2 },
    { "a peer is cut off", CUT, 3, 1, 190, 0, 0, 0 },
    { "a peer lies", LIE, 3, 1, 230, 17, 1, 0 },
    { "a peer is ten times slower than it was", SLOW, 3, 1, 260, 17, 0, 0 },
    { "a peer trickles", TRICKLE, 3, 1, 290, 17, 0, 2 },
    { "a peer lacks a piece", LACK, 3, 1, 215, 0, 0, 0 },
    { "a peer lacks everything", LACK_ALL, 3, 1, 300, 0, 0, 0 },
};

static void spoil(world *w, int fault)
{
    peer *peer = &w->peers[w->peer_count - 1];

    peer->silent_from = fault == STALL || fault == STALL_RETURN ? w->now + 40 * MS : 0;
    peer->silent_to = fault == STALL ? UINT64_MAX : fault == STALL_RETURN ? w->now + 240 * MS : 0;
    peer->cut_ns = fault == CUT ? w->now + 40 * MS : 0;
    peer->lies = fault == LIE ? 1 : 0;
    if (fault == SLOW)
        peer->rate /= 10;
    if (fault == TRICKLE)
        peer->rate = 20000;
    for (uint32_t i = 0; i < PIECES_MAX; i++) {
        if (fault == LACK_ALL || (fault == LACK && i == 90))
            peer->lacks[i / 8] |= (uint8_t)(0x80 >> i % 8);
    }
}

static void test_rows(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        static world w;
        dp_picker_stats stats;
        uint64_t begin;

        world_open(&w, 100, 0);
        for (uint32_t k = 0; k < rows[i].peers; k++)
            world_peer(&w, 40e6, 20);
        world_join(&w);
        if (rows[i].warm) {
            world_want(&w, 0, 48, DP_PICKER_DEMAND, 10000);
            world_run(&w, 10000);
            CHECK(w.left == 0, "%s", rows[i].name);
        }
        spoil(&w, rows[i].fault);
        begin = w.now;
        world_want(&w, 48, 48, DP_PICKER_DEMAND, 10000);
        world_run(&w, 10000);
        stats = dp_picker_stats_read(w.p);
        for (uint32_t k = 48; k < 96; k++)
            CHECK(w.ended[k] == 1 && w.status[k] == DP_OK, "%s: piece %u", rows[i].name, k);
        CHECK(w.now - begin <= rows[i].ms_max * MS, "%s: %llu ms", rows[i].name,
              (unsigned long long)((w.now - begin) / MS));
        CHECK(stats.wasted_bytes <= rows[i].wasted_max * PIECE, "%s: %llu bytes wasted",
              rows[i].name, (unsigned long long)stats.wasted_bytes);
        CHECK(stats.bans == rows[i].bans && stats.stalls <= rows[i].stalls_max, "%s", rows[i].name);
        world_close(&w);
    }
}

/* ---- single steps --------------------------------------------------------------------------- */

static dp_picker_act next_of(world *w, dp_picker_act_kind kind)
{
    dp_picker_act act = dp_picker_next(w->p, w->now);

    CHECK(act.kind == kind, "kind %d instead of %d", act.kind, kind);
    return act;
}

/* Runs end at a file's end, and where the next piece does not wait. */
static void test_runs(void **state)
{
    static world w;
    dp_picker_act act;

    world_open(&w, 10, 5);
    world_peer(&w, 1e6, 10);
    world_join(&w);
    world_want(&w, 2, 3, DP_PICKER_DEMAND, 1000);
    world_want(&w, 8, 4, DP_PICKER_DEMAND, 1000);
    act = next_of(&w, DP_PICKER_ASK);
    CHECK(act.ask->file == 0 && act.ask->offset == 2 * PIECE && act.ask->size == 3 * PIECE,
          "first");
    act = next_of(&w, DP_PICKER_ASK);
    CHECK(act.ask->file == 0 && act.ask->offset == 8 * PIECE && act.ask->size == 2 * PIECE - 1000,
          "to the end of the file");
    act = next_of(&w, DP_PICKER_NOTHING); /* two lines are in use */
    CHECK(act.wake_ns > w.now && act.wake_ns <= w.now + 100 * MS, "wake");
    world_close(&w);
}

static void test_cancel(void **state)
{
    static world w;
    dp_picker_act act;
    dp_picker_ask *ask;

    world_open(&w, 20, 0);
    world_peer(&w, 1e6, 10);
    world_join(&w);
    world_want(&w, 0, 2, DP_PICKER_FILL, 1000);
    world_want(&w, 10, 2, DP_PICKER_FILL, 1000);
    CHECK(dp_picker_cancel(w.p, &w.wants[10]) && w.wants[10].state == DP_PICKER_OUT, "not asked");
    ask = next_of(&w, DP_PICKER_ASK).ask;
    CHECK(ask->first_piece == 0 && ask->piece_count == 2, "run");
    CHECK(!dp_picker_cancel(w.p, &w.wants[0]), "asked");
    act = next_of(&w, DP_PICKER_FAIL);
    CHECK(act.want == &w.wants[0] && act.status == DP_E_CANCELED, "ends");
    next_of(&w, DP_PICKER_NOTHING); /* fill asks one at a time */
    /* Wanted again, the answer that is under way brings it. */
    w.wants[0] = (dp_picker_want){ .piece = 0, .deadline_ns = UINT64_MAX };
    CHECK(dp_picker_want_add(w.p, &w.wants[0]) && w.wants[0].state == DP_PICKER_ASKED, "again");
    dp_picker_cancel_all(w.p);
    for (int i = 0; i < 3; i++)
        CHECK(next_of(&w, DP_PICKER_FAIL).status == DP_E_CANCELED, "all");
    dp_picker_ended(w.p, ask, DP_PICKER_END_DROPPED, 0, w.now);
    next_of(&w, DP_PICKER_NOTHING);
    world_close(&w);
}

static void test_promote(void **state)
{
    static world w;

    world_open(&w, 40, 0);
    world_peer(&w, 1e6, 10);
    world_join(&w);
    world_want(&w, 0, 2, DP_PICKER_FILL, 1000);
    world_want(&w, 20, 2, DP_PICKER_PREFETCH, 1000);
    CHECK(next_of(&w, DP_PICKER_ASK).ask->first_piece == 20, "prefetch before fill");
    next_of(&w, DP_PICKER_NOTHING);
    dp_picker_promote(w.p, &w.wants[1], DP_PICKER_DEMAND);
    CHECK(next_of(&w, DP_PICKER_ASK).ask->first_piece == 1, "demand on the spare line");
    dp_picker_promote(w.p, &w.wants[1], DP_PICKER_FILL);
    CHECK(w.wants[1].class_ == DP_PICKER_DEMAND, "never down");
    world_close(&w);
}

static void test_ends(void **state)
{
    static world w;
    dp_picker_act act;
    peer *peer;

    world_open(&w, 45, 0);
    peer = world_peer(&w, 1e6, 10);
    memset(peer->have, 0, sizeof peer->have);
    peer->have[0] = 0x80;
    world_join(&w);
    world_want(&w, 0, 2, DP_PICKER_DEMAND, 1000);
    act = next_of(&w, DP_PICKER_FAIL);
    CHECK(act.want == &w.wants[1] && act.status == DP_E_NOTFOUND, "nobody has it");
    act = next_of(&w, DP_PICKER_ASK);
    w.now += 10 * MS;
    dp_picker_ended(w.p, act.ask, DP_PICKER_END_BUSY, 3000 * MS, w.now);
    next_of(&w, DP_PICKER_NOTHING);
    w.now += 989 * MS;
    next_of(&w, DP_PICKER_NOTHING); /* the server said 3 s */
    w.now += MS;
    CHECK(next_of(&w, DP_PICKER_FAIL).status == DP_E_TIMEOUT, "deadline");
    next_of(&w, DP_PICKER_NOTHING);

    /* What waits for a line ends when its only holder loses it. */
    w.now += 3000 * MS;
    memset(peer->have, 0xff, sizeof peer->have);
    CHECK(dp_picker_set_have(w.p, peer->id, peer->have), "memory");
    for (uint32_t i = 10; i < 40; i += 10)
        world_want(&w, i, 1, DP_PICKER_DEMAND, 1000);
    next_of(&w, DP_PICKER_ASK);
    next_of(&w, DP_PICKER_ASK);
    next_of(&w, DP_PICKER_NOTHING);
    clear(peer->have, 30);
    CHECK(dp_picker_set_have(w.p, peer->id, peer->have), "memory");
    act = next_of(&w, DP_PICKER_FAIL);
    CHECK(act.want == &w.wants[30] && act.status == DP_E_NOTFOUND, "lost");
    world_close(&w);
}

/* Rests double, but who has no other source waits two seconds at most. */
static void test_rests(void **state)
{
    static world w;
    static const uint64_t rests[] = { 500, 1000, 2000, 2000, 2000 };

    world_open(&w, 40, 0);
    world_peer(&w, 1e6, 10);
    world_join(&w);
    world_want(&w, 0, 1, DP_PICKER_DEMAND, 100000);
    for (size_t i = 0; i < DP_ARRAY_LEN(rests); i++) {
        dp_picker_ask *ask = next_of(&w, DP_PICKER_ASK).ask;
        dp_picker_act act;

        dp_picker_ended(w.p, ask, DP_PICKER_END_CUT, 0, w.now);
        act = next_of(&w, DP_PICKER_NOTHING);
        CHECK(act.wake_ns <= w.now + rests[i] * MS, "wake");
        w.now += rests[i] * MS - 1;
        next_of(&w, DP_PICKER_NOTHING);
        w.now++;
    }
    world_close(&w);
}

static void give(world *w, dp_picker_ask *ask, size_t size)
{
    dp_picker_want *want;
    uint32_t offset;

    dp_picker_answered(w->p, ask, 10 * MS, w->now);
    CHECK(dp_picker_arrived(w->p, ask, size, w->now, &want, &offset) == size && want, "taken");
    w->arrived += size;
}

/* A mixture that was wrong is asked anew of one endpoint, all of it again when that one fails. */
static void test_single(void **state)
{
    static world w;
    uint64_t digests[DP_PICKER_PARTS_MAX] = { 1, 2 }, right[DP_PICKER_PARTS_MAX] = { 1, 3 };
    dp_picker_endpoint list[2];
    dp_picker_want *want = &w.wants[0];
    dp_picker_ask *ask;
    uint32_t liar;

    world_open(&w, 40, 0);
    world_peer(&w, 1e6, 10);
    world_peer(&w, 1e6, 10);
    world_join(&w);
    world_want(&w, 0, 1, DP_PICKER_DEMAND, 100000);
    ask = next_of(&w, DP_PICKER_ASK).ask;
    give(&w, ask, 1000);
    dp_picker_ended(w.p, ask, DP_PICKER_END_CUT, 0, w.now);
    ask = next_of(&w, DP_PICKER_ASK).ask;
    CHECK(ask->offset == 1000 && ask->size == PIECE - 1000, "the rest");
    liar = ask->endpoint;
    give(&w, ask, PIECE - 1000);
    dp_picker_ended(w.p, ask, DP_PICKER_END_WHOLE, 0, w.now);
    CHECK(want->state == DP_PICKER_FULL && want->part_count == 2, "two parts");
    CHECK(dp_picker_wrong(w.p, want, digests, w.now) == 0, "nobody knows who");
    ask = next_of(&w, DP_PICKER_ASK).ask;
    give(&w, ask, 5000);
    dp_picker_ended(w.p, ask, DP_PICKER_END_CUT, 0, w.now);
    w.now += 600 * MS;
    ask = next_of(&w, DP_PICKER_ASK).ask;
    CHECK(ask->offset == 0 && ask->size == PIECE && want->filled == 0, "all of it");
    give(&w, ask, PIECE);
    dp_picker_ended(w.p, ask, DP_PICKER_END_WHOLE, 0, w.now);
    CHECK(want->state == DP_PICKER_FULL && want->part_count == 1, "one part");
    CHECK(dp_picker_right(w.p, want, right, w.now) == 1, "the liar");
    CHECK(dp_picker_endpoints(w.p, list, 2) == 2, "both");
    for (int i = 0; i < 2; i++)
        CHECK((list[i].banned_until_ns > 0) == (list[i].id == liar), "endpoint %u", list[i].id);
    world_close(&w);
}

/* A piece that the only endpoint turns out not to have; the others of the range arrive. */
static void test_gone(void **state)
{
    static world w;

    world_open(&w, 40, 0);
    world_peer(&w, 40e6, 10)->lacks[1] = 0x10;
    world_join(&w);
    world_want(&w, 0, 40, DP_PICKER_DEMAND, 10000);
    world_run(&w, 10000);
    for (uint32_t i = 0; i < 40; i++)
        CHECK(w.ended[i] == 1 && w.status[i] == (i == 11 ? DP_E_NOTFOUND : DP_OK), "piece %u", i);
    world_close(&w);
}

/* ---- chance ----------------------------------------------------------------------------------- */

/* What peers do is chance; wanted pieces come, cancel, and are promoted by chance. Whatever
 * happens: every want ends once, right bytes only, no ask breaks a rule (begin_flight), nobody
 * honest is banned. How many pieces came from several. */
static uint32_t random_world(uint64_t seed)
{
    static world w;
    dp_picker_endpoint list[PEERS_MAX];
    size_t count;
    uint32_t ok = 0, ended = 0;
    dp_rng rng;

    dp_rng_init(&rng, seed);
    world_open(&w, 40 + (uint32_t)dp_rng_below(&rng, 100), (uint32_t)dp_rng_below(&rng, 60));
    for (uint64_t i = 0, count = 1 + dp_rng_below(&rng, 20); i < count; i++) {
        peer *peer = world_peer(&w, 1e5 * (1 + (double)dp_rng_below(&rng, 1000)),
                                1 + dp_rng_below(&rng, 200));
        uint64_t fate = dp_rng_below(&rng, 8);

        for (uint32_t k = 0; k < w.layout.piece_count && fate % 2; k++) {
            if (dp_rng_below(&rng, 3) == 0)
                clear(peer->have, k);
        }
        peer->silent_from = fate >= 6 ? w.now + dp_rng_below(&rng, 2000) * MS : 0;
        peer->silent_to = peer->silent_from + dp_rng_below(&rng, 3000) * MS;
        peer->cut_ns = fate == 4 ? w.now + dp_rng_below(&rng, 2000) * MS : 0;
        peer->lies = dp_rng_below(&rng, 3) == 0 ? 0.3 : 0;
        if (seed % 2) { /* shaky: many pieces come from several */
            peer->period_ns = (400 + dp_rng_below(&rng, 1000)) * MS;
            peer->rate /= 50;
        }
        for (uint32_t k = 0; k < w.layout.piece_count && fate == 5; k++) {
            if (dp_rng_below(&rng, 10) == 0)
                peer->lacks[k / 8] |= (uint8_t)(0x80 >> k % 8);
        }
    }
    world_join(&w);
    for (int round = 0; round < 30; round++) {
        uint32_t first = (uint32_t)dp_rng_below(&rng, w.layout.piece_count);
        uint32_t count = 1 + (uint32_t)dp_rng_below(&rng, 30);

        for (uint32_t i = first; i < first + count && i < w.layout.piece_count; i++) {
            dp_picker_want *want = &w.wants[i];

            if (want->state == DP_PICKER_OUT && w.ended[i] == 0)
                world_want(&w, i, 1, (uint32_t)dp_rng_below(&rng, 3),
                           100 + dp_rng_below(&rng, 20000));
            else if (want->state != DP_PICKER_OUT && dp_rng_below(&rng, 4) == 0)
                dp_picker_promote(w.p, want, DP_PICKER_DEMAND);
            else if (want->state != DP_PICKER_OUT && want->state != DP_PICKER_FULL &&
                     dp_rng_below(&rng, 10) == 0 && dp_picker_cancel(w.p, want))
                world_end(&w, i, DP_E_CANCELED);
        }
        world_run(&w, dp_rng_below(&rng, 200));
    }
    world_run(&w, 30000);
    CHECK(w.left == 0, "seed %llu: %u wants left", (unsigned long long)seed, w.left);
    for (uint32_t i = 0; i < w.layout.piece_count; i++) {
        CHECK(w.ended[i] <= 1, "seed %llu: piece %u ended %u times", (unsigned long long)seed, i,
              w.ended[i]);
        ended += w.ended[i];
        ok += w.ended[i] && w.status[i] == DP_OK;
    }
    CHECK(ended > 0 && ok <= ended, "ended");
    count = dp_picker_endpoints(w.p, list, PEERS_MAX);
    for (size_t i = 0; i < count; i++)
        CHECK(list[i].banned_until_ns == 0 || peer_of(&w, list[i].id)->lies > 0,
              "seed %llu: an honest endpoint was banned", (unsigned long long)seed);
    ok = w.mixtures;
    world_close(&w);
    return ok;
}

static void test_random(void **state)
{
    uint32_t mixtures = 0;

    for (uint64_t seed = 1; seed <= 60; seed++)
        mixtures += random_world(seed);
    CHECK(mixtures > 100, "%u mixtures", mixtures);
}

/* ---- many -------------------------------------------------------------------------------------- */

static void test_limits(void **state)
{
    static world w;
    dp_picker_config config = { &w.layout, DP_PICKER_ENDPOINTS_MAX, ASKS_MAX, PER_PEER };
    dp_error err = { 0 };
    dp_picker *p;
    uint32_t id;

    world_open(&w, 200, 0);
    CHECK_OK(dp_picker_open(&p, &config, &err), err);
    for (uint32_t i = 0; i < DP_PICKER_ENDPOINTS_MAX; i++)
        CHECK_OK(dp_picker_add(p, NULL, &id, &err), err);
    CHECK(dp_picker_add(p, NULL, &id, &err) == DP_E_LIMIT, "%s", err.text);
    for (uint32_t i = 0; i < 200; i++) {
        w.wants[i] = (dp_picker_want){ .piece = i, .deadline_ns = UINT64_MAX };
        CHECK(dp_picker_want_add(p, &w.wants[i]), "piece %u", i);
    }
    for (uint32_t i = 0; i < ASKS_MAX; i++) {
        dp_picker_act act = dp_picker_next(p, w.now);

        /* sixteen who are alike get a sixteenth each */
        CHECK(act.kind == DP_PICKER_ASK && act.ask->piece_count >= 12 && act.ask->piece_count <= 13,
              "ask %u: %u pieces", i, act.ask ? act.ask->piece_count : 0);
    }
    CHECK(dp_picker_next(p, w.now).kind == DP_PICKER_NOTHING, "no more");
    dp_picker_close(p);
    config.endpoints_max++;
    CHECK(dp_picker_open(&p, &config, &err) == DP_E_LIMIT, "%s", err.text);
    world_close(&w);
}

static void test_no_memory(void **state)
{
    static world w;
    dp_picker_config config = { &w.layout, PEERS_MAX, ASKS_MAX, PER_PEER };
    uint8_t have[PIECES_MAX / 8] = { 0 };
    dp_mem_stats mem;

    world_open(&w, 100, 0);
    dp_picker_close(w.p);
    for (uint64_t n = 0;; n++) {
        dp_picker *p;
        uint32_t id;
        dp_status st;

        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_picker_open(&p, &config, NULL);
        if (!st)
            st = dp_picker_add(p, have, &id, NULL);
        dp_picker_close(p);
        dp_mem_stats_read(&mem);
        CHECK(mem.heap_blocks == 0, "%llu blocks left", (unsigned long long)mem.heap_blocks);
        if (dp_fault_disarm(DP_FAULT_MEM) == 0)
            break;
        CHECK(st == DP_E_NOMEM, "status %d", st);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),      cmocka_unit_test(test_runs),
        cmocka_unit_test(test_cancel),    cmocka_unit_test(test_promote),
        cmocka_unit_test(test_ends),      cmocka_unit_test(test_rests),
        cmocka_unit_test(test_single),    cmocka_unit_test(test_gone),
        cmocka_unit_test(test_random),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
