/* How the disk ends: with jobs under way, with jobs that wait, with a torrent that left. */
#include "swarm/torrent_disk_testing.h"
#include "swarm/torrent_testing.h"

#define LONG_MS (WAIT_S * 1000)

/* Content whose calls wait at a gate. */
typedef struct gate {
    node content; /* without a session */
    dp_cond changed;
    uint32_t waiting;
    bool is_open;
} gate;

static void pass(gate *g)
{
    dp_mutex_lock(&g->content.lock);
    g->waiting++;
    dp_cond_broadcast(&g->changed);
    while (!g->is_open)
        dp_cond_wait(&g->changed, &g->content.lock);
    dp_mutex_unlock(&g->content.lock);
}

static bool gate_has(void *user, uint32_t piece)
{
    return content_has(&((gate *)user)->content, piece);
}

static dp_status gate_read(void *user, uint32_t piece, void *out, dp_error *err)
{
    pass(user);
    return content_read(&((gate *)user)->content, piece, out, err);
}

static void gate_arrived(void *user, uint32_t piece, const void *bytes)
{
    pass(user);
    content_arrived(&((gate *)user)->content, piece, bytes);
}

static void gate_init(gate *g, const model *m, uint32_t has, bool is_open)
{
    *g = (gate){ .content = { .model = m }, .is_open = is_open };
    for (uint32_t i = 0; i < has; i++)
        g->content.has[i] = true;
    dp_mutex_init(&g->content.lock);
    dp_cond_init(&g->changed);
}

static void gate_deinit(gate *g)
{
    dp_cond_deinit(&g->changed);
    dp_mutex_deinit(&g->content.lock);
}

/* Until so many calls wait. */
static void gate_await(gate *g, uint32_t count)
{
    dp_mutex_lock(&g->content.lock);
    while (g->waiting < count)
        CHECK(dp_cond_wait_for(&g->changed, &g->content.lock, WAIT_S * 1000000000ull),
              "%u calls of %u", g->waiting, count);
    dp_mutex_unlock(&g->content.lock);
}

static void gate_open(gate *g)
{
    dp_mutex_lock(&g->content.lock);
    g->is_open = true;
    dp_cond_broadcast(&g->changed);
    dp_mutex_unlock(&g->content.lock);
}

static void check_counts(const disk_case *c, uint32_t answers, uint32_t errors)
{
    disk_counts n = disk_case_counts(c);

    CHECK(n.answers == answers && n.errors == errors, "%u answers, %u errors, not %u and %u",
          n.answers, n.errors, answers, errors);
    CHECK(n.alive == 0 && n.strays == 0, "%u alive, %u died elsewhere", n.alive, n.strays);
}

/* A model, its content behind a gate, and a disk that keeps it: one a test. */
typedef struct stand {
    model model;
    gate gate;
    disk_case *disk;
} stand;

/* Of the content's pieces the first `has` are there from the beginning. */
static stand *stand_open(stand *s, uint32_t has, bool is_open)
{
    dp_torrent_content content = { gate_has, gate_read, gate_arrived, &s->gate };

    model_init(&s->model, 1, false);
    gate_init(&s->gate, &s->model, has, is_open);
    s->disk = disk_case_open(s->model.info, &content);
    return s;
}

/* The last of a test: the network thread has ended, and everything was answered. */
static void stand_close(stand *s, uint32_t answers, uint32_t errors)
{
    check_counts(s->disk, answers, errors);
    disk_case_close(s->disk);
    gate_deinit(&s->gate);
    model_deinit(&s->model);
}

/* libtorrent destroys the session as soon as its thread ends. */
static void the_network_thread_waits_for_jobs(void **state)
{
    stand s;
    disk_case *c = stand_open(&s, 0, false)->disk;

    disk_case_write(c, 3, s.model.bytes[3], PIECE);
    disk_case_hash(c, 3);
    gate_await(&s.gate, 1);
    disk_case_abort(c);
    CHECK(!disk_case_network(c, 20), "its thread ends before a job does");
    gate_open(&s.gate);
    CHECK(disk_case_network(c, LONG_MS), "its thread does not end");
    CHECK(s.gate.content.arrivals[3] == 1 && !s.gate.content.wrong, "it did not arrive");
    stand_close(&s, PIECE / DP_PIECE_BLOCK + 1, 0);
}

/* The worker is about to let go of the job while the network thread ends it. */
static void what_handlers_hold_dies_on_the_network_thread(void **state)
{
    stand s;
    disk_case *c = stand_open(&s, PIECES, true)->disk;

    for (uint32_t i = 0; i < 400; i++) {
        disk_case_hash(c, i % PIECES);
        disk_case_hash2(c, i % PIECES);
        disk_case_read(c, i % PIECES);
        while (disk_case_counts(c).answers < 3 * (i + 1))
            disk_case_network(c, 1);
    }
    disk_case_abort(c);
    CHECK(disk_case_network(c, LONG_MS), "its thread does not end");
    stand_close(&s, 3 * 400, 0);
}

/* Jobs that wait for a worker when their torrent goes, and its list of files with it. */
static void jobs_outlive_their_torrent(void **state)
{
    stand s;
    disk_case *c = stand_open(&s, PIECES, false)->disk;

    for (uint32_t i = 0; i < 10; i++) {
        disk_case_read(c, i);
        disk_case_hash(c, i);
        disk_case_hash2(c, i);
    }
    gate_await(&s.gate, 3); /* all workers */
    disk_case_stop_torrent(c);
    disk_case_remove(c);
    disk_case_abort(c);
    CHECK(!disk_case_network(c, 5), "its thread ends before jobs do");
    gate_open(&s.gate);
    CHECK(disk_case_network(c, LONG_MS), "its thread does not end");
    stand_close(&s, 31, 0);
}

static void ask_everything(disk_case *c, const model *m)
{
    disk_case_write(c, 1, m->bytes[1], DP_PIECE_BLOCK);
    disk_case_read(c, 2);
    disk_case_hash(c, 3);
    disk_case_hash2(c, 4);
    disk_case_stop_torrent(c);
}

/* libtorrent adds pieces to torrents that it removed a moment ago. */
static void who_asks_late_gets_an_error(void **state)
{
    stand s;
    disk_case *c = stand_open(&s, PIECES, true)->disk;

    disk_case_remove(c);
    ask_everything(c, &s.model);
    while (disk_case_counts(c).answers < 5)
        CHECK(!disk_case_network(c, 1), "it ended");
    CHECK(disk_case_add_again(c), "another torrent would be asked");
    ask_everything(c, &s.model);
    while (disk_case_counts(c).answers < 10)
        CHECK(!disk_case_network(c, 1), "it ended");
    disk_case_abort(c);
    CHECK(disk_case_network(c, LONG_MS), "its thread does not end");
    check_counts(c, 10, 8);
    ask_everything(c, &s.model); /* and after the workers ended */
    CHECK(disk_case_network(c, LONG_MS), "its thread does not end");
    stand_close(&s, 15, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_network_thread_waits_for_jobs),
        cmocka_unit_test(what_handlers_hold_dies_on_the_network_thread),
        cmocka_unit_test(jobs_outlive_their_torrent),
        cmocka_unit_test(who_asks_late_gets_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
