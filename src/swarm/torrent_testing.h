/* torrent_testing.h - a small model and nodes that hold parts of it in memory: sessions of one
 * process on 127.0.0.1. Every wait has an end. */
#ifndef DP_SWARM_TORRENT_TESTING_H
#define DP_SWARM_TORRENT_TESTING_H

#include "testing/check.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "swarm/torrent.h"

#define PIECE     32768
#define PIECES    40
#define FILES_MAX 2
#define WAIT_S    20

/* What is shared: one or two files, the first of which ends inside a block. */
typedef struct model {
    dp_metainfo *info;
    uint8_t *bytes[PIECES];
    uint32_t sizes[PIECES], count;
} model;

static DP_UNUSED void model_init(model *m, uint32_t file_count, bool is_hybrid)
{
    static const char *const names[FILES_MAX] = { "a.gguf", "b.gguf" };
    dp_layout_file files[FILES_MAX] = { 0 };
    dp_layout layout = { files, file_count, PIECE, PIECES };
    dp_hash hashes[PIECES];
    uint8_t sha1[PIECES][20];
    dp_metainfo_config config = {
        .name = file_count == 1 ? names[0] : "model",
        .names = names,
        .layout = &layout,
        .sha1 = is_hybrid ? (const uint8_t(*)[20])sha1 : NULL,
    };
    uint32_t per_file = PIECES / file_count;
    dp_error err;

    m->count = PIECES;
    for (uint32_t i = 0; i < PIECES; i++) {
        dp_layout_file *file = &files[i / per_file];
        uint8_t padded[PIECE] = { 0 };
        bool is_last = i % per_file == per_file - 1;

        file->pieces = (dp_pieces){ (uint64_t)(per_file - 1) * PIECE + 20000, PIECE };
        file->first_piece = i / per_file * per_file;
        file->hashes = &hashes[file->first_piece];
        m->sizes[i] = is_last ? 20000 : PIECE;
        m->bytes[i] = malloc(PIECE);
        for (uint32_t k = 0; k < PIECE; k++)
            m->bytes[i][k] = (uint8_t)(k * 7 + (k >> 8) * 13 + i * 31 + file_count);
        memcpy(padded, m->bytes[i], m->sizes[i]);
        SHA1(padded, i + 1 < PIECES ? PIECE : m->sizes[i], sha1[i]);
        CHECK_OK(dp_piece_hash(&hashes[i], file->pieces, i % per_file, m->bytes[i], &err), err);
    }
    CHECK_OK(dp_metainfo_make(&m->info, &config, &err), err);
}

static DP_UNUSED void model_deinit(model *m)
{
    dp_metainfo_close(m->info);
    for (uint32_t i = 0; i < PIECES; i++)
        free(m->bytes[i]);
}

typedef struct node {
    dp_torrents *session;
    dp_torrent *torrent;
    const model *model;
    dp_mutex lock;
    bool has[PIECES];
    uint32_t arrivals[PIECES], wrong;
    bool lies, refuses; /* gives other bytes; keeps nothing that arrives */
} node;

static DP_UNUSED bool content_has(void *user, uint32_t piece)
{
    node *n = user;
    bool has;

    dp_mutex_lock(&n->lock);
    has = n->has[piece];
    dp_mutex_unlock(&n->lock);
    return has;
}

static DP_UNUSED dp_status content_read(void *user, uint32_t piece, void *out, dp_error *err)
{
    node *n = user;

    if (!content_has(user, piece))
        return DP_E_NOTFOUND;
    memcpy(out, n->model->bytes[piece], n->model->sizes[piece]);
    if (n->lies)
        ((uint8_t *)out)[n->model->sizes[piece] / 2] ^= 1;
    return DP_OK;
}

static DP_UNUSED void content_arrived(void *user, uint32_t piece, const void *bytes)
{
    node *n = user;

    dp_mutex_lock(&n->lock);
    n->wrong += memcmp(bytes, n->model->bytes[piece], n->model->sizes[piece]) != 0;
    n->arrivals[piece]++;
    n->has[piece] = !n->refuses;
    dp_mutex_unlock(&n->lock);
}

static DP_UNUSED void node_init_at(node *n, const model *m, const char *listen, uint16_t http_port,
                                   uint32_t first, uint32_t end)
{
    dp_torrents_config config = {
        .listen = listen, .http_port = http_port, .shares = true, .reconcile_s = 1
    };
    dp_torrent_content content = { content_has, content_read, content_arrived, n };
    dp_error err;

    memset(n, 0, sizeof *n);
    n->model = m;
    dp_mutex_init(&n->lock);
    for (uint32_t i = first; i < end; i++)
        n->has[i] = true;
    CHECK_OK(dp_torrents_open(&n->session, &config, &err), err);
    CHECK_OK(dp_torrent_add(&n->torrent, n->session, m->info, &content, &err), err);
}

static DP_UNUSED void node_init(node *n, const model *m, uint16_t http_port, uint32_t first,
                                uint32_t end)
{
    node_init_at(n, m, "127.0.0.1:0", http_port, first, end);
}

static DP_UNUSED void node_deinit(node *n)
{
    dp_torrent_remove(n->torrent);
    dp_torrents_close(n->session);
    dp_mutex_deinit(&n->lock);
}

static const char *node_address(char out[64], const node *n, const char *host)
{
    CHECK(dp_torrents_port(n->session), "no port");
    snprintf(out, 64, "%s:%u", host, dp_torrents_port(n->session));
    return out;
}

static DP_UNUSED void connect_to(node *n, const node *other)
{
    char address[64];
    dp_error err;

    CHECK_OK(dp_torrent_connect(n->torrent, node_address(address, other, "127.0.0.1"), &err), err);
}

/* True once `holds` does, false after WAIT_S seconds. */
static DP_UNUSED bool wait_for(bool (*holds)(node *n, uint32_t a), node *n, uint32_t a)
{
    uint64_t end = dp_clock_now_ns(&dp_clock_real) + WAIT_S * 1000000000ull;

    while (!holds(n, a)) {
        if (dp_clock_now_ns(&dp_clock_real) > end)
            return false;
        usleep(2000);
    }
    return true;
}

static DP_UNUSED bool has_arrived(node *n, uint32_t piece)
{
    uint32_t count;

    dp_mutex_lock(&n->lock);
    count = n->arrivals[piece];
    dp_mutex_unlock(&n->lock);
    return count > 0;
}

static DP_UNUSED bool has_peers(node *n, uint32_t count)
{
    dp_torrent_peer peers[DP_TORRENT_PEERS_MAX];

    return dp_torrent_peers(n->torrent, peers, DP_TORRENT_PEERS_MAX) == count;
}

/* What the only peer says of a piece: -1 when there is no peer. */
static DP_UNUSED int peer_says(node *n, uint32_t piece)
{
    dp_torrent_peer peer;
    uint8_t bits[(PIECES + 7) / 8];

    if (dp_torrent_peers(n->torrent, &peer, 1) != 1 ||
        !dp_torrent_peer_bits(n->torrent, peer.id, bits))
        return -1;
    return bits[piece / 8] >> (7 - piece % 8) & 1;
}

static DP_UNUSED bool peer_has(node *n, uint32_t piece)
{
    return peer_says(n, piece) == 1;
}

static DP_UNUSED bool peer_lacks(node *n, uint32_t piece)
{
    return peer_says(n, piece) == 0;
}

#endif
