/* Bytes that go bad everywhere, and drives that stop: what a model reads is right or an error. */
#include "doppler/swarm.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/rng.h"
#include "swarm/http_fake.h"
#include "swarm/mount.h"
#include "testing/check.h"
#include "testing/remove_folder.h"
#include "testing/gguf_writer.h"

#define PIECE       DP_PIECE_SIZE_MIN
#define ROUNDS      125
#define ROT_A_ROUND 40 /* places in mirror and map */
#define LIES_EVERY  3  /* rounds with servers of which one lies: a byte of each block */
#define READS       40

static char folder[64], torrent[128], model[128], cache[128];
static uint8_t *bytes; /* the model */
static size_t size;
static http_fake_file file;
static http_fake *servers[2];
static const http_fake_rules good;

static int setup(void **unused)
{
    static const uint64_t stack[] = { 64, 512, 8 };
    const char *paths[] = { model };
    char urls[2][64];
    const char *seeds[] = { urls[0], urls[1] };
    dp_torrent_config config = { .paths = paths,
                                 .path_count = 1,
                                 .piece_size = PIECE,
                                 .web_seeds = seeds,
                                 .web_seed_count = 2 };
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    dp_error err;

    strcpy(folder, "mount_rot_test.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(model, sizeof model, "%s/m.gguf", folder);
    snprintf(torrent, sizeof torrent, "%s/m.torrent", folder);
    snprintf(cache, sizeof cache, "%s/cache", folder);
    dp_gguf_writer_str(w, "general.architecture", "none");
    dp_gguf_writer_tensor(w, "blk.0.ffn_up_exps.weight", DP_F32, 3, stack, DP_FILL_NORMAL, 1);
    CHECK_OK(dp_gguf_writer_save(w, model, 5, &err), err);
    dp_gguf_writer_close(w);
    CHECK_OK(dp_file_read_all((char **)&bytes, &size, model, 1 << 30, &err), err);
    file = (http_fake_file){ "/m", bytes, size };
    for (int i = 0; i < 2; i++) {
        servers[i] = http_fake_open(&file, 1, &good);
        snprintf(urls[i], sizeof urls[i], "http://127.0.0.1:%u/m", http_fake_port(servers[i]));
    }
    CHECK_OK(dp_torrent_write(torrent, &config, NULL, NULL, &err), err);
    return 0;
}

static int teardown(void **unused)
{
    http_fake_close(servers[0]);
    http_fake_close(servers[1]);
    remove_folder(folder);
    dp_free(bytes);
    return 0;
}

static void flip(const char *path, uint32_t count, dp_rng *rng)
{
    FILE *file = fopen(path, "r+b");

    if (!file)
        return; /* nothing was kept so far */
    fseek(file, 0, SEEK_END);
    for (long end = ftell(file); end > 0 && count; count--) {
        long at = (long)dp_rng_below(rng, (uint64_t)end);
        int byte;

        fseek(file, at, SEEK_SET);
        byte = fgetc(file);
        fseek(file, at, SEEK_SET);
        fputc(byte ^ (1 + (int)dp_rng_below(rng, 255)), file);
    }
    fclose(file);
}

static void flip_cache(const dp_mount *m, uint32_t mirror_count, uint32_t map_count, dp_rng *rng)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s/m.gguf", cache, m->id.key);
    flip(path, mirror_count, rng);
    snprintf(path, sizeof path, "%s/%s/m.gguf.pieces", cache, m->id.key);
    flip(path, map_count, rng);
}

/* Reads anywhere; all have to give the model's bytes, unless they may fail. */
static uint64_t read_some(dp_mount *m, uint32_t reads, dp_rng *rng)
{
    uint8_t *room = dp_alloc(1, 6 * PIECE);
    uint64_t failures = 0;

    for (uint32_t i = 0; i < reads; i++) {
        uint64_t offset = dp_rng_below(rng, size), n = 1 + dp_rng_below(rng, 6 * PIECE);
        dp_error err;

        n = DP_MIN(n, size - offset);
        memset(room, 0xee, n);
        if (dp_source_swarm_read(m->source, 0, offset, n, room, &err)) {
            failures++;
            continue;
        }
        CHECK(memcmp(room, bytes + offset, n) == 0, "wrong bytes at %llu",
              (unsigned long long)offset);
    }
    dp_free(room);
    return failures;
}

/* A node that dials the servers: their host is named. */
static dp_swarm *open_node(uint64_t disk_bytes)
{
    static const char *const peers[] = { "127.0.0.1:9" }; /* nobody is there */
    dp_swarm_config config = { .cache_folder = cache,
                               .disk_bytes = disk_bytes,
                               .peers = peers,
                               .peer_count = 1,
                               .wait_ms = 10000 };
    dp_swarm *node;
    dp_error err;

    CHECK_OK(dp_swarm_open(&node, &config, &err), err);
    return node;
}

static void rot_never_reaches_a_model(void **unused)
{
    static const http_fake_rules lies = { .lies = true };
    dp_swarm *node = open_node(64 << 20);
    uint64_t bad = 0, failures = 0;
    dp_swarm_stats stats;
    dp_rng rng;

    dp_rng_init(&rng, 11);
    for (int round = 0; round < ROUNDS; round++) {
        dp_mount *m;
        dp_error err;

        http_fake_set(servers[1], round % LIES_EVERY ? &good : &lies);
        CHECK_OK(dp_mount_open(&m, node, torrent, &err), err);
        flip_cache(m, ROT_A_ROUND, ROT_A_ROUND, &rng); /* under its feet */
        failures += read_some(m, READS, &rng);
        dp_swarm_stats_read(node, &stats);
        bad += stats.pieces_bad;
        flip_cache(m, 0, ROT_A_ROUND, &rng); /* while nobody looks: see the next opening */
        dp_mount_close(m);
    }
    assert_int_equal(failures, 0); /* one server always tells the truth */
    assert_true(bad > 0);
    assert_true(stats.pieces_gone > ROUNDS);
    dp_swarm_close(node);
}

static void a_drive_that_stops_is_gone_round(void **unused)
{
    static const dp_fault faults[] = { DP_FAULT_WRITE, DP_FAULT_POWER, DP_FAULT_READ };
    dp_rng rng;

    dp_rng_init(&rng, 12);
    for (size_t i = 0; i < DP_ARRAY_LEN(faults); i++) {
        dp_swarm_stats stats;
        dp_swarm *node;
        dp_mount *m;
        dp_error err;

        node = open_node(20 * PIECE);
        CHECK_OK(dp_mount_open(&m, node, torrent, &err), err);
        assert_int_equal(read_some(m, READS, &rng), 0);
        dp_fault_arm(faults[i], 3, UINT64_MAX / 2); /* full, or read-only, from now on */
        assert_int_equal(read_some(m, READS, &rng), 0);
        assert_true(dp_fault_disarm(faults[i]) > 0);
        dp_swarm_stats_read(node, &stats);
        CHECK(stats.cache_problem[0] || faults[i] == DP_FAULT_READ, "nothing was said");
        assert_int_equal(read_some(m, READS, &rng), 0);
        dp_mount_close(m);
        dp_swarm_close(node);
        remove_folder(cache);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rot_never_reaches_a_model, setup, teardown),
        cmocka_unit_test_setup_teardown(a_drive_that_stops_is_gone_round, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
