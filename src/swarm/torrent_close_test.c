/* Sessions that close at every moment: while pieces are fed, hashed, given and fetched. Pieces are
 * large, so that there is always one being hashed. */
#include "testing/check.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "swarm/torrent.h"

#define PIECE   ((uint32_t)16 << 20)
#define PIECES  6u
#define ROUNDS  12 /* three milliseconds later each */
#define WAIT_MS 20000

/* All pieces have the same bytes. */
typedef struct end {
    dp_torrents *session;
    dp_torrent *torrent;
    const uint8_t *bytes;
    _Atomic bool has[PIECES];
    _Atomic uint32_t reads, wrong;
} end;

static bool end_has(void *user, uint32_t piece)
{
    return ((end *)user)->has[piece];
}

static dp_status end_read(void *user, uint32_t piece, void *out, dp_error *err)
{
    end *e = user;

    memcpy(out, e->bytes, PIECE);
    e->reads++;
    return DP_OK;
}

static void end_arrived(void *user, uint32_t piece, const void *bytes)
{
    end *e = user;

    e->wrong += memcmp(bytes, e->bytes, PIECE) != 0;
    e->has[piece] = piece % 2; /* the others are not kept */
}

static void open_end(end *e, const dp_metainfo *info, const uint8_t *bytes)
{
    dp_torrents_config config = { .listen = "127.0.0.1:0", .shares = true };
    dp_torrent_content content = { end_has, end_read, end_arrived, e };
    dp_error err;

    *e = (end){ .bytes = bytes };
    CHECK_OK(dp_torrents_open(&e->session, &config, &err), err);
    CHECK_OK(dp_torrent_add(&e->torrent, e->session, info, &content, &err), err);
}

static void close_end(end *e)
{
    dp_torrent_remove(e->torrent);
    dp_torrents_close(e->session);
    CHECK(!e->wrong, "%u wrong", e->wrong);
}

static dp_metainfo *make_info(const uint8_t *bytes)
{
    static const char *const names[] = { "a.gguf" };
    dp_hash hashes[PIECES];
    dp_layout_file file = { .pieces = { (uint64_t)PIECE * PIECES, PIECE }, .hashes = hashes };
    dp_layout layout = { &file, 1, PIECE, PIECES };
    dp_metainfo_config config = { .name = names[0], .names = names, .layout = &layout };
    dp_metainfo *info;
    dp_error err;

    for (uint32_t i = 0; i < PIECES; i++)
        CHECK_OK(dp_piece_hash(&hashes[i], file.pieces, i, bytes, &err), err);
    CHECK_OK(dp_metainfo_make(&info, &config, &err), err);
    return info;
}

static void a_session_closes_at_any_moment(void **state)
{
    uint8_t *bytes = calloc(PIECE, 1);
    dp_metainfo *info = make_info(bytes);

    for (int round = 0; round < ROUNDS; round++) {
        char address[64];
        end seed, leech;
        dp_error err;

        open_end(&seed, info, bytes);
        open_end(&leech, info, bytes);
        snprintf(address, sizeof address, "127.0.0.1:%u", dp_torrents_port(seed.session));
        CHECK_OK(dp_torrent_connect(leech.torrent, address, &err), err);
        for (uint32_t i = 0; i < PIECES; i++) {
            seed.has[i] = true; /* fed, a few at a time */
            dp_torrent_have(seed.torrent, i);
            dp_torrent_want(leech.torrent, i, 1000);
        }
        for (int i = 0; seed.reads < 2; i++) {
            CHECK(i < WAIT_MS, "it is not fed");
            usleep(1000);
        }
        usleep((useconds_t)round * 3000);
        close_end(round % 2 ? &leech : &seed);
        close_end(round % 2 ? &seed : &leech);
    }
    dp_metainfo_close(info);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_session_closes_at_any_moment) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
