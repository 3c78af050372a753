/* A node of one torrent, for tests with other people's clients. Usage:
 *
 *   torrent_tool make hybrid|v2 FILE OUT.torrent
 *   torrent_tool seed FILE X.torrent          says its port, ends with its standard input
 *   torrent_tool get X.torrent ADDRESS:PORT OUT
 */
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/thread.h"
#include "swarm/torrent.h"

#define FILE_MAX   ((size_t)64 << 20)
#define PIECE_SIZE (256u << 10)
#define GET_S      60

/* The file, and which of its pieces are here. */
typedef struct content {
    const dp_layout *layout;
    uint8_t *bytes;
    bool *has;
    dp_mutex lock;
    uint32_t missing;
} content;

static bool content_has(void *user, uint32_t piece)
{
    content *c = user;
    bool has;

    dp_mutex_lock(&c->lock);
    has = c->has[piece];
    dp_mutex_unlock(&c->lock);
    return has;
}

static dp_status content_read(void *user, uint32_t piece, void *out, dp_error *err)
{
    content *c = user;
    dp_layout_place place = dp_layout_find(c->layout, piece);

    if (!content_has(user, piece))
        return DP_E_NOTFOUND;
    memcpy(out, c->bytes + place.offset, place.size);
    return DP_OK;
}

static void content_arrived(void *user, uint32_t piece, const void *bytes)
{
    content *c = user;
    dp_layout_place place = dp_layout_find(c->layout, piece);

    memcpy(c->bytes + place.offset, bytes, place.size);
    dp_mutex_lock(&c->lock);
    c->missing -= !c->has[piece];
    c->has[piece] = true;
    dp_mutex_unlock(&c->lock);
}

static uint32_t content_missing(content *c)
{
    uint32_t missing;

    dp_mutex_lock(&c->lock);
    missing = c->missing;
    dp_mutex_unlock(&c->lock);
    return missing;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static dp_status write_all(const char *path, const void *bytes, size_t size, dp_error *err)
{
    FILE *file = fopen(path, "wb");
    dp_status st = file && fwrite(bytes, 1, size, file) == size ? DP_OK : DP_E_IO;

    if (file && fclose(file))
        st = DP_E_IO;
    if (st)
        snprintf(err->text, sizeof err->text, "%s: cannot be written", path);
    return st;
}

static dp_status make(bool is_hybrid, const char *path, const char *out, dp_error *err)
{
    const char *name = last_part(path);
    dp_layout_file file = { .path = name };
    dp_layout layout = { &file, 1, PIECE_SIZE, 0 };
    dp_metainfo_config config = { .name = name, .names = &name, .layout = &layout };
    dp_metainfo *m = NULL;
    dp_hash *hashes = NULL;
    uint8_t(*sha1)[20] = NULL;
    const void *torrent;
    char *bytes = NULL;
    size_t size;
    dp_status st = dp_file_read_all(&bytes, &size, path, FILE_MAX, err);

    if (st)
        return st;
    file.pieces = (dp_pieces){ size, PIECE_SIZE };
    layout.piece_count = dp_pieces_count(file.pieces);
    file.hashes = hashes = calloc(layout.piece_count, sizeof *hashes);
    sha1 = calloc(layout.piece_count, sizeof *sha1);
    for (uint32_t i = 0; hashes && sha1 && i < layout.piece_count && !st; i++) {
        const char *piece = bytes + (size_t)i * PIECE_SIZE;

        st = dp_piece_hash(&hashes[i], file.pieces, i, piece, err);
        SHA1((const uint8_t *)piece, dp_pieces_size(file.pieces, i), sha1[i]);
    }
    config.sha1 = is_hybrid ? (const uint8_t(*)[20])sha1 : NULL;
    if (!st)
        st = dp_metainfo_make(&m, &config, err);
    if (!st) {
        torrent = dp_metainfo_bytes(m, &size);
        st = write_all(out, torrent, size, err);
    }
    dp_metainfo_close(m);
    free(hashes);
    free(sha1);
    dp_free(bytes);
    return st;
}

/* Seeds `path`, or fetches to it from `peer`. */
static dp_status run(const char *path, const char *torrent_path, const char *peer, dp_error *err)
{
    dp_torrents_config config = { .listen = "127.0.0.1:0", .shares = true };
    content c = { 0 };
    dp_torrent_content face = { content_has, content_read, content_arrived, &c };
    dp_metainfo *m = NULL;
    dp_torrents *session = NULL;
    dp_torrent *torrent = NULL;
    uint64_t end = dp_clock_now_ns(&dp_clock_real) + (uint64_t)GET_S * 1000000000;
    char *bytes = NULL, *file = NULL;
    size_t size, file_size;
    dp_status st = dp_file_read_all(&bytes, &size, torrent_path, FILE_MAX, err);

    dp_mutex_init(&c.lock);
    if (!st)
        st = dp_metainfo_parse(&m, torrent_path, bytes, size, err);
    if (!st && !peer)
        st = dp_file_read_all(&file, &file_size, path, FILE_MAX, err);
    if (st)
        goto done;
    c.layout = dp_metainfo_layout(m);
    file_size = c.layout->files[0].pieces.file_size;
    c.bytes = peer ? calloc(file_size, 1) : (uint8_t *)file;
    c.has = calloc(c.layout->piece_count, sizeof *c.has);
    memset(c.has, !peer, c.layout->piece_count);
    c.missing = peer ? c.layout->piece_count : 0;
    st = dp_torrents_open(&session, &config, err);
    if (!st)
        st = dp_torrent_add(&torrent, session, m, &face, err);
    if (st)
        goto done;
    printf("%u\n", dp_torrents_port(session));
    fflush(stdout);
    if (!peer) {
        while (getchar() != EOF)
            ;
        goto done;
    }
    st = dp_torrent_connect(torrent, peer, err);
    for (uint32_t i = 0; i < c.layout->piece_count; i++)
        dp_torrent_want(torrent, i, i % 2 ? 0 : 1000); /* in the background, and soon */
    while (!st && content_missing(&c)) {
        if (dp_clock_now_ns(&dp_clock_real) > end) {
            snprintf(err->text, sizeof err->text, "%u pieces are missing after %d s",
                     content_missing(&c), GET_S);
            st = DP_E_TIMEOUT;
        }
        usleep(10000);
    }
    if (!st)
        st = write_all(path, c.bytes, file_size, err);
done:
    dp_torrent_remove(torrent);
    dp_torrents_close(session);
    dp_metainfo_close(m);
    dp_mutex_deinit(&c.lock);
    if (peer)
        free(c.bytes);
    free(c.has);
    dp_free(file);
    dp_free(bytes);
    return st;
}

int main(int argc, char **argv)
{
    dp_error err = { .text = "usage: torrent_tool make|seed|get ..." };
    dp_status st = DP_E_INVALID;

    if (argc == 5 && !strcmp(argv[1], "make"))
        st = make(!strcmp(argv[2], "hybrid"), argv[3], argv[4], &err);
    else if (argc == 4 && !strcmp(argv[1], "seed"))
        st = run(argv[2], argv[3], NULL, &err);
    else if (argc == 5 && !strcmp(argv[1], "get"))
        st = run(argv[4], argv[2], argv[3], &err);
    if (st)
        fprintf(stderr, "torrent_tool: %s\n", err.text);
    return st ? 1 : 0;
}
