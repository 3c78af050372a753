/* swarm_test.c - the demo model from peers and servers on 127.0.0.1, held to a run from its file.
 *
 * Givers are processes of their own: this program with other arguments, and nginx. */
#include "swarm_testing.h"

#include <stdlib.h>
#include <unistd.h>

#include "doppler/source.h"
#include "doppler/swarm.h"
#include "testing/check.h"

#define NODES     3
#define KILLS     100
#define SMALL_RAM "8MiB"

static float *expected; /* of a run from the file */

static dp_swarm *open_node(const char *cache, uint64_t disk_bytes, const char *const *peers,
                           size_t peer_count, bool shares)
{
    dp_swarm_config config = { .cache_folder = cache,
                               .disk_bytes = disk_bytes,
                               .listen = shares ? "127.0.0.1:0" : NULL,
                               .shares = shares,
                               .peers = peers,
                               .peer_count = peer_count,
                               .wait_ms = 20000 };
    dp_swarm *node;
    dp_error err;

    CHECK_OK(dp_swarm_open(&node, &config, &err), err);
    return node;
}

static dp_mount *open_mount(dp_swarm *node, const char *name)
{
    dp_mount *mount;
    dp_error err;

    CHECK_OK(dp_mount_open(&mount, node, name, &err), err);
    return mount;
}

static void check_run(dp_mount *mount, const char *ram)
{
    float *logits = play_mount(mount, ram);

    check_logits(logits, expected);
    free(logits);
}

/* Somebody connected to the node sees as many pieces as it has: what left was told. */
static void check_announced(const char *at, uint64_t present_bytes, uint64_t file_bytes)
{
    const char *peers[] = { at };
    path torrent;
    dp_swarm *node = open_node(NULL, 0, peers, 1, false);
    uint32_t present = (uint32_t)((present_bytes + PIECE - 1) / PIECE);
    dp_mount *mount = open_mount(node, in_folder(&torrent, "m.torrent"));
    dp_peer_info peer = { .pieces = 0 };

    for (int i = 0; i < WAIT_S * 100 && peer.pieces != present; i++) {
        if (dp_mount_peers(mount, &peer, 1) != 1)
            peer.pieces = 0;
        usleep(10000); /* a peer's message: there is no event to wait for */
    }
    CHECK(peer.pieces == present, "a peer says %u pieces, %u are there", peer.pieces, present);
    assert_true(present_bytes < file_bytes / 3);
    dp_mount_close(mount);
    dp_swarm_close(node);
}

static void parts_of_three_make_a_model(void **unused)
{
    child nodes[NODES];
    char at[NODES][64], http_at[64], own_at[64];
    const char *peers[NODES];
    path cache, torrent;
    dp_swarm_stats stats;
    dp_mount_info info;
    dp_swarm *node;
    dp_mount *mount;

    for (int i = 0; i < NODES; i++)
        start_node(&nodes[i], i, NODES);
    for (int i = 0; i < NODES; i++) {
        CHECK(child_line(&nodes[i]), "node %d ended", i);
        addresses(&nodes[i], at[i], http_at);
        peers[i] = at[i];
    }
    in_folder(&torrent, "m.torrent");

    /* A quarter of the model fits on disk, two thirds in memory. */
    node = open_node(in_folder(&cache, "quarter"), 11556288 / 4, peers, NODES, true);
    mount = open_mount(node, torrent.text);
    check_run(mount, SMALL_RAM);
    check_run(mount, SMALL_RAM);
    dp_swarm_stats_read(node, &stats);
    dp_mount_info_read(mount, &info);
    assert_int_equal(info.file_bytes, 11556288);
    assert_true(stats.pieces_gone > 100);
    assert_true(stats.swarm_read_bytes > info.file_bytes); /* some came more than once */
    assert_true(stats.cache_used_bytes <= 11556288 / 4);
    assert_int_equal(stats.pieces_bad, 0);
    assert_true(stats.page_ms_p50 > 0);
    dp_swarm_addresses(node, own_at, http_at);
    check_announced(own_at, info.present_bytes, info.file_bytes);
    dp_mount_close(mount);
    dp_swarm_close(node);

    /* All of it fits: the second run needs nobody. */
    for (int run = 0; run < 2; run++) {
        node = open_node(in_folder(&cache, "all"), 64 << 20, peers, run == 0 ? NODES : 0, false);
        mount = open_mount(node, torrent.text);
        check_run(mount, SMALL_RAM);
        dp_swarm_stats_read(node, &stats);
        if (run == 1)
            assert_int_equal(stats.swarm_read_bytes, 0);
        dp_mount_close(mount);
        dp_swarm_close(node);
        for (int i = 0; i < NODES && run == 0; i++)
            child_kill(&nodes[i]);
    }
}

static void a_web_server_is_enough(void **unused)
{
    child nginx;
    int port;
    char url[256];
    path cache;
    dp_swarm_stats stats;
    dp_swarm *node;
    dp_mount *mount;
    dp_error err;

    start_nginx(&nginx, &port);
    node = open_node(in_folder(&cache, "url"), 11556288 / 4, NULL, 0, false);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/m/demo-q4_0.gguf", port);
    mount = open_mount(node, url);
    check_run(mount, SMALL_RAM);
    dp_swarm_stats_read(node, &stats);
    assert_true(stats.swarm_read_bytes > 0);
    dp_mount_close(mount);

    snprintf(url, sizeof url, "http://127.0.0.1:%d/none/demo-q4_0.gguf", port);
    assert_int_equal(dp_mount_open(&mount, node, url, &err), DP_E_UNSUPPORTED);
    CHECK(strstr(err.text, "ranges"), "%s", err.text);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/m/other.gguf", port);
    assert_int_equal(dp_mount_open(&mount, node, url, &err), DP_E_NOTFOUND);
    dp_swarm_close(node);
    child_kill(&nginx);
}

static void killed_caches_open(void **unused)
{
    child giver, runner;
    char at[64], http_at[64];
    const char *args[] = { "--run", folder, model, at, NULL };
    path cache, torrent;
    dp_swarm *node;
    dp_mount *mount;
    const char *peers[] = { at };
    uint32_t x = 7;

    start_node(&giver, 0, 1);
    CHECK(child_line(&giver), "the giver ended");
    addresses(&giver, at, http_at);
    for (int i = 0; i < KILLS; i++) {
        x = x * 1664525u + 1013904223u;
        child_start(&runner, args);
        CHECK(child_line(&runner), "run %d did not open what run %d left", i, i - 1);
        usleep((x >> 8) % 50000); /* somewhere in its traffic */
        child_kill(&runner);
    }
    node = open_node(in_folder(&cache, "killed"), 3 << 20, peers, 1, false);
    mount = open_mount(node, in_folder(&torrent, "m.torrent"));
    check_run(mount, SMALL_RAM);
    dp_mount_close(mount);
    dp_swarm_close(node);
    child_kill(&giver);
}

static int open_all(void **unused)
{
    expected = play_path(model);
    return expected ? 0 : -1;
}

static int close_all(void **unused)
{
    free(expected);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(parts_of_three_make_a_model, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(a_web_server_is_enough, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(killed_caches_open, make_folder, drop_folder),
    };

    if (argc > 1 && strcmp(argv[1], "--node") == 0)
        node_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "--run") == 0)
        runner_main(argc, argv);
    if (argc < 2)
        return 2;
    snprintf(model, sizeof model, "%s/models/demo-q4_0.gguf", argv[1]);
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests(tests, open_all, close_all);
}
