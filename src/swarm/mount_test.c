/* Mounts on 127.0.0.1: a model by URL, one by .torrent from peers that each have a part, and
 * what happens when they go. */
#include "doppler/swarm.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/rng.h"
#include "store/store.h"
#include "swarm/http_fake.h"
#include "swarm/local_files.h"
#include "swarm/mount.h"
#include "testing/check.h"
#include "testing/remove_folder.h"
#include "testing/gguf_writer.h"

#define PIECE   DP_PIECE_SIZE_MIN
#define EXPERTS 8
#define LAYERS  3
#define SLICE   (64 * 512 * 4) /* bytes of an expert: 8 pieces */

static char folder[64];

typedef struct path {
    char text[200];
} path;

static const char *in_folder(path *out, const char *name)
{
    snprintf(out->text, sizeof out->text, "%s/%s", folder, name);
    return out->text;
}

/* A mixture of LAYERS x EXPERTS and a matrix for all. */
static void make_model(const char *at)
{
    static const uint64_t stack[] = { 64, 512, EXPERTS }, always[] = { 64, 512 };
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    char names[LAYERS][40];
    dp_error err;

    dp_gguf_writer_str(w, "general.architecture", "none");
    dp_gguf_writer_tensor(w, "output.weight", DP_F32, 2, always, DP_FILL_NORMAL, 1);
    for (int i = 0; i < LAYERS; i++) {
        snprintf(names[i], sizeof names[i], "blk.%d.ffn_up_exps.weight", i);
        dp_gguf_writer_tensor(w, names[i], DP_F32, 3, stack, DP_FILL_NORMAL, 1);
    }
    CHECK_OK(dp_gguf_writer_save(w, at, 5, &err), err);
    dp_gguf_writer_close(w);
}

static int setup(void **unused)
{
    path model, torrent;
    const char *paths[] = { model.text };
    dp_torrent_config config = { .paths = paths, .path_count = 1, .piece_size = PIECE };
    dp_error err;

    strcpy(folder, "mount_test.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    make_model(in_folder(&model, "m.gguf"));
    CHECK_OK(dp_torrent_write(in_folder(&torrent, "m.torrent"), &config, NULL, NULL, &err), err);
    return 0;
}

static int teardown(void **unused)
{
    remove_folder(folder);
    return 0;
}

/* The whole model read in ranges of no particular size, and compared with the file. */
static void check_all(dp_mount *mount, uint64_t seed)
{
    dp_source *s = dp_mount_source(mount);
    uint32_t count;
    const dp_source_part *part = s->ops->parts(s, &count);
    path model;
    char *expected;
    size_t size;
    uint8_t *bytes;
    dp_rng rng;
    dp_error err;

    dp_rng_init(&rng, seed);
    CHECK_OK(dp_file_read_all(&expected, &size, in_folder(&model, "m.gguf"), 1 << 30, &err), err);
    assert_int_equal(count, 1);
    assert_int_equal(part->size, size);
    bytes = dp_alloc_zero(size, 1);
    for (uint64_t at = 0; at < size;) {
        uint64_t n = 1 + dp_rng_below(&rng, 10 * PIECE);
        n = DP_MIN(n, size - at);
        CHECK_OK(dp_source_swarm_read(s, 0, at, n, bytes + at, &err), err);
        at += n;
    }
    assert_memory_equal(bytes, expected, size);
    dp_free(bytes);
    dp_free(expected);
}

/* A node that takes from one peer, and keeps so much in a folder; cache NULL: nothing. */
static dp_swarm_config taker(const char *cache, uint64_t disk_bytes, const char *const *peer)
{
    return (dp_swarm_config){
        .cache_folder = cache, .disk_bytes = disk_bytes, .peers = peer, .peer_count = 1
    };
}

/* A node that gives the model. */
static dp_swarm *open_giver(char torrent_at[64], char http_at[64])
{
    dp_swarm_config config = { .listen = "127.0.0.1:0",
                               .http_listen = "127.0.0.1:0",
                               .shares = true };
    dp_swarm *node;
    path model, torrent;
    dp_error err;

    CHECK_OK(dp_swarm_open(&node, &config, &err), err);
    CHECK_OK(
        dp_swarm_share(node, in_folder(&model, "m.gguf"), in_folder(&torrent, "m.torrent"), &err),
        err);
    dp_swarm_addresses(node, torrent_at, http_at);
    return node;
}

static void info_key(char key[65])
{
    path torrent;
    dp_metainfo *m;
    dp_error err;

    CHECK_OK(dp_local_metainfo(&m, in_folder(&torrent, "m.torrent"), &err), err);
    dp_hash_hex(key, dp_metainfo_info_v2(m));
    dp_metainfo_close(m);
}

static void a_url_is_mounted(void **unused)
{
    char torrent_at[64], http_at[64], key[65], url[256];
    path cache;
    dp_swarm *giver = open_giver(torrent_at, http_at), *node;
    dp_swarm_config config = { .cache_folder = in_folder(&cache, "cache"), .disk_bytes = 64 << 20 };
    dp_swarm_stats stats;
    dp_mount_info info;
    dp_mount *mount;
    dp_error err;

    info_key(key);
    snprintf(url, sizeof url, "http://%s/%s/m.gguf", http_at, key);
    assert_true(dp_swarm_is_name(url));
    for (int run = 0; run < 2; run++) {
        CHECK_OK(dp_swarm_open(&node, &config, &err), err);
        CHECK_OK(dp_mount_open(&mount, node, url, &err), err);
        dp_mount_info_read(mount, &info);
        assert_string_equal(info.name, "m.gguf");
        assert_null(info.info_v2);
        assert_string_equal(info.check, "size and ETag only");
        check_all(mount, 1);
        dp_swarm_stats_read(node, &stats);
        if (run == 0)
            assert_true(stats.swarm_read_bytes >= info.file_bytes);
        else
            assert_int_equal(stats.swarm_read_bytes, 0); /* all of it was kept */
        assert_string_equal(stats.cache_problem, "");
        dp_mount_close(mount);
        dp_swarm_close(node);
    }

    /* What is not there is an error at once. */
    CHECK_OK(dp_swarm_open(&node, &config, &err), err);
    snprintf(url, sizeof url, "http://%s/%s/n.gguf", http_at, key);
    assert_int_equal(dp_mount_open(&mount, node, url, &err), DP_E_NOTFOUND);
    assert_null(mount);

    /* With nobody there all that was kept is good; what never was there is not. */
    dp_swarm_close(giver);
    assert_int_equal(dp_mount_open(&mount, node, url, &err), DP_E_IO);
    snprintf(url, sizeof url, "http://%s/%s/m.gguf", http_at, key);
    CHECK_OK(dp_mount_open(&mount, node, url, &err), err);
    dp_mount_info_read(mount, &info);
    assert_string_equal(info.check, "size and ETag of the last time: the server does not answer");
    check_all(mount, 1);
    dp_mount_close(mount);
    dp_swarm_close(node);
}

static void a_small_cache_keeps_what_all_need(void **unused)
{
    char torrent_at[64], http_at[64];
    path cache, torrent;
    dp_swarm *giver = open_giver(torrent_at, http_at), *node;
    const char *peers[] = { torrent_at };
    dp_swarm_config config = taker(in_folder(&cache, "small"), 5 * SLICE, peers);
    dp_swarm_stats stats;
    dp_mount *mount;
    dp_error err;

    CHECK_OK(dp_swarm_open(&node, &config, &err), err);
    CHECK_OK(dp_mount_open(&mount, node, in_folder(&torrent, "m.torrent"), &err), err);
    check_all(mount, 2);
    check_all(mount, 3);
    dp_swarm_stats_read(node, &stats);
    assert_true(stats.pieces_gone > 0);
    assert_true(stats.cache_used_bytes <= config.disk_bytes);
    for (uint32_t i = 0; i < SLICE / PIECE; i++)
        CHECK(dp_store_has(mount->files[0], i), "piece %u, that everybody needs, left", i);
    dp_mount_close(mount);
    dp_swarm_close(node);
    dp_swarm_close(giver);
}

static void a_torrent_is_mounted_from_a_peer(void **unused)
{
    char torrent_at[64], http_at[64];
    path cache, torrent;
    dp_swarm *giver = open_giver(torrent_at, http_at), *node;
    const char *peers[] = { torrent_at };
    dp_swarm_config config = taker(in_folder(&cache, "cache"), 64 << 20, peers);
    dp_peer_info peer;
    dp_mount_info info;
    dp_mount *mount;
    uint32_t *holders, layers, experts;
    dp_error err;

    in_folder(&torrent, "m.torrent");
    CHECK_OK(dp_swarm_open(&node, &config, &err), err);
    CHECK_OK(dp_mount_open(&mount, node, torrent.text, &err), err);
    dp_mount_info_read(mount, &info);
    assert_string_equal(info.check, "sha-256 of every piece");
    assert_int_equal(dp_mount_peers(mount, &peer, 1), 1);
    assert_string_equal(peer.kind, "doppler");
    assert_string_equal(peer.name, http_at);
    CHECK_OK(dp_mount_holders(mount, &holders, &layers, &experts, &err), err);
    assert_int_equal(layers, LAYERS);
    assert_int_equal(experts, EXPERTS);
    assert_int_equal(holders[5], 1);
    dp_swarm_free(holders);
    check_all(mount, 4);
    dp_mount_close(mount);
    dp_swarm_close(node);
    dp_swarm_close(giver);

    /* Once more, with nobody there. */
    config.peer_count = 0;
    CHECK_OK(dp_swarm_open(&node, &config, &err), err);
    CHECK_OK(dp_mount_open(&mount, node, torrent.text, &err), err);
    check_all(mount, 5);
    dp_mount_close(mount);
    dp_swarm_close(node);
}

/* A link is enough, and the second time without anybody. */
static void a_magnet_link_is_mounted(void **unused)
{
    char torrent_at[64], http_at[64], key[65], link[128];
    path cache;
    dp_swarm *giver = open_giver(torrent_at, http_at), *node;
    const char *peers[] = { torrent_at };
    dp_swarm_config config = taker(in_folder(&cache, "cache"), 64 << 20, peers);
    dp_mount *mount;
    dp_error err;

    info_key(key);
    snprintf(link, sizeof link, "magnet:?xt=urn:btmh:1220%s", key);
    for (int run = 0; run < 2; run++) {
        CHECK_OK(dp_swarm_open(&node, &config, &err), err);
        CHECK_OK(dp_mount_open(&mount, node, link, &err), err);
        check_all(mount, 6);
        dp_mount_close(mount);
        dp_swarm_close(node);
        if (run == 0)
            dp_swarm_close(giver);
    }
}

/* Who refuses ranges without a token gives pieces by BitTorrent all the same; and nothing need be
 * kept for them to come again. */
static void a_token_is_missing(void **unused)
{
    char torrent_at[64], http_at[64];
    path torrent, model;
    dp_swarm_config giving = {
        .listen = "127.0.0.1:0", .http_listen = "127.0.0.1:0", .shares = true, .token = "secret"
    };
    const char *peers[] = { torrent_at };
    dp_swarm_config config = taker(NULL, 0, peers);
    dp_swarm *giver, *node;
    dp_swarm_stats stats;
    dp_mount *mount;
    dp_error err;

    in_folder(&torrent, "m.torrent");
    CHECK_OK(dp_swarm_open(&giver, &giving, &err), err);
    CHECK_OK(dp_swarm_share(giver, in_folder(&model, "m.gguf"), torrent.text, &err), err);
    dp_swarm_addresses(giver, torrent_at, http_at);
    CHECK_OK(dp_swarm_open(&node, &config, &err), err);
    CHECK_OK(dp_mount_open(&mount, node, torrent.text, &err), err);
    check_all(mount, 7);
    check_all(mount, 8);
    dp_swarm_stats_read(node, &stats);
    CHECK(stats.page_ms_p50 < 300, "a page takes %.0f ms", stats.page_ms_p50);
    dp_mount_close(mount);
    dp_swarm_close(node);
    dp_swarm_close(giver);
}

static bool promises(void *user, uint32_t piece)
{
    return true;
}

static dp_status breaks_it(void *user, uint32_t piece, void *out, dp_error *err)
{
    return DP_E_NOTFOUND;
}

static void keeps_nothing(void *user, uint32_t piece, const void *bytes)
{
}

/* One that gives nothing by BitTorrent either: the error says what would help. */
static void the_missing_token_is_named(void **unused)
{
    http_fake_rules closed = { .need = "Authorization: Bearer secret\r\n" };
    char key[65], at[80];
    http_fake_file file = { at, (const uint8_t *)"", 1 };
    http_fake *fake = http_fake_open(&file, 1, &closed);
    dp_torrents_config giving = { .listen = "127.0.0.1:0",
                                  .http_port = http_fake_port(fake),
                                  .shares = true };
    dp_torrent_content content = { promises, breaks_it, keeps_nothing, NULL };
    char torrent_at[64], says[128];
    const char *peers[] = { torrent_at };
    dp_swarm_config config = { .peers = peers, .peer_count = 1, .wait_ms = 3000 };
    path torrent;
    dp_metainfo *metainfo;
    dp_torrents *session;
    dp_torrent *giver;
    dp_swarm *node;
    dp_mount *mount;
    dp_error err;

    info_key(key);
    snprintf(at, sizeof at, "/%s/m.gguf", key); /* nobody has asked for it yet */
    CHECK_OK(dp_local_metainfo(&metainfo, in_folder(&torrent, "m.torrent"), &err), err);
    CHECK_OK(dp_torrents_open(&session, &giving, &err), err);
    CHECK_OK(dp_torrent_add(&giver, session, metainfo, &content, &err), err);
    dp_metainfo_close(metainfo);
    snprintf(torrent_at, sizeof torrent_at, "127.0.0.1:%u", dp_torrents_port(session));
    CHECK_OK(dp_swarm_open(&node, &config, &err), err);
    assert_int_equal(dp_mount_open(&mount, node, torrent.text, &err), DP_E_TIMEOUT);
    snprintf(says, sizeof says, "; 127.0.0.1:%u wants a token (--swarm-token))",
             http_fake_port(fake));
    CHECK(strstr(err.text, says), "%s", err.text);
    dp_swarm_close(node);
    dp_torrent_remove(giver);
    dp_torrents_close(session);
    http_fake_close(fake);
}

/* The node's thread is told to leave the mount alone, so that time is ours. */
static void only_who_is_not_lazy_fetches_ahead(void **unused)
{
    char torrent_at[64], http_at[64], key[65], url[256];
    path cache;
    dp_swarm *giver = open_giver(torrent_at, http_at);

    info_key(key);
    snprintf(url, sizeof url, "http://%s/%s/m.gguf", http_at, key);
    for (int is_lazy = 0; is_lazy < 2; is_lazy++) {
        dp_swarm_config config = { .cache_folder = in_folder(&cache, is_lazy ? "lazy" : "eager"),
                                   .disk_bytes = 64 << 20,
                                   .is_lazy = is_lazy };
        uint64_t now = dp_clock_now_ns(&dp_clock_real);
        dp_swarm *node;
        dp_mount *mount;
        dp_error err;

        CHECK_OK(dp_swarm_open(&node, &config, &err), err);
        CHECK_OK(dp_mount_open(&mount, node, url, &err), err);
        dp_swarm_dismiss(node, mount);
        for (uint64_t s = 1; s <= 10; s++)
            dp_mount_tick(mount, now + s * 1000000000, false);
        assert_int_equal(mount->fill_reads > 0, !is_lazy);
        dp_mount_close(mount);
        dp_swarm_close(node);
    }
    dp_swarm_close(giver);
}

static void nobody_is_an_error_in_time(void **unused)
{
    path torrent;
    dp_swarm_config config = { .wait_ms = 300 };
    dp_swarm *node;
    dp_mount *mount;
    dp_error err;

    CHECK_OK(dp_swarm_open(&node, &config, &err), err);
    assert_int_equal(dp_mount_open(&mount, node, in_folder(&torrent, "m.torrent"), &err),
                     DP_E_TIMEOUT);
    CHECK(strstr(err.text, " of m.gguf: nobody gave it within 0.3 s (0 peers, none holds it)"),
          "%s", err.text);
    assert_null(mount);
    assert_int_equal(dp_mount_open(&mount, node, "m.gguf", &err), DP_E_INVALID);
    dp_swarm_close(node);
}

static void names_are_told_from_paths(void **unused)
{
    static const struct {
        const char *model;
        bool is_name;
    } cases[] = {
        { "model.gguf", false },
        { "/a/model-00001-of-00002.gguf", false },
        { "http://x/m.gguf", true },
        { "https://x/m.gguf?download=true", true },
        { "magnet:?xt=urn:btmh:1220", true },
        { "folder/m.torrent", true },
        { "https://x/m.torrent?a#b", true },
        { ".torrent", false },
        { "ftp://x/m.gguf", false },
        { "", false },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++)
        CHECK(dp_swarm_is_name(cases[i].model) == cases[i].is_name, "%s", cases[i].model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_told_from_paths),
        cmocka_unit_test_setup_teardown(a_url_is_mounted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_small_cache_keeps_what_all_need, setup, teardown),
        cmocka_unit_test_setup_teardown(a_torrent_is_mounted_from_a_peer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_magnet_link_is_mounted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_token_is_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(the_missing_token_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(only_who_is_not_lazy_fetches_ahead, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_is_an_error_in_time, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
