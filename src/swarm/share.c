/* Publishing: hashes of files that are here, and the .torrent made of them. Threads: any. */
#include "doppler/swarm.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/file_out.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/thread.h"
#include "format/gguf.h"
#include "swarm/holders.h"
#include "swarm/local_files.h"
#include "swarm/piece_walk.h"

#define SHA1_SIZE        20
#define TORRENT_NAME_MAX DP_METAINFO_NAME_MAX

/* What is being published. */
typedef struct issue {
    const dp_torrent_config *config;
    const char **paths, **names; /* [path_count], sorted by name; borrowed from config */
    dp_layout_file *files;       /* [path_count] */
    dp_layout layout;
    dp_hash *hashes;            /* [piece_count] */
    uint8_t (*sha1)[SHA1_SIZE]; /* [piece_count]; NULL: v2 only */
    char name[TORRENT_NAME_MAX + 1];
} issue;

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(base_name(*(const char *const *)a), base_name(*(const char *const *)b));
}

/* One file is the torrent; several lie in a folder: "model-00001-of-00003.gguf" in "model". */
static dp_status choose_name(issue *s, dp_error *err)
{
    const char *name = s->names[0];
    size_t size = strlen(name);
    const char *tail = size > 20 ? name + size - 20 : name; /* "-00001-of-00003.gguf" */

    if (s->config->path_count > 1) {
        if (size > 20 && tail[0] == '-' && memcmp(tail + 6, "-of-", 4) == 0)
            size -= 20;
        else if (size > 5 && strcmp(name + size - 5, ".gguf") == 0)
            size -= 5;
    }
    if (size == 0 || size > TORRENT_NAME_MAX)
        return dp_fail(err, DP_E_INVALID, "%s: a name of 1 to %d bytes is needed", s->paths[0],
                       TORRENT_NAME_MAX);
    memcpy(s->name, name, size);
    return DP_OK;
}

static dp_status open_issue(issue *s, dp_error *err)
{
    size_t count = s->config->path_count;

    if (count == 0 || count > DP_LAYOUT_FILES_MAX)
        return dp_fail(err, DP_E_INVALID, "a torrent of %zu files: 1 to %d are possible", count,
                       DP_LAYOUT_FILES_MAX);
    s->paths = dp_alloc_zero(count, sizeof *s->paths);
    s->names = dp_alloc_zero(count, sizeof *s->names);
    s->files = dp_alloc_zero(count, sizeof *s->files);
    if (!s->paths || !s->names || !s->files)
        return dp_fail(err, DP_E_NOMEM, "no memory for a table of %zu files", count);
    memcpy(s->paths, s->config->paths, count * sizeof *s->paths);
    qsort(s->paths, count, sizeof *s->paths, by_name);
    for (size_t i = 0; i < count; i++) {
        s->names[i] = base_name(s->paths[i]);
        s->files[i].path = s->names[i];
        if (i > 0 && strcmp(s->names[i], s->names[i - 1]) == 0)
            return dp_fail(err, DP_E_INVALID, "%s and %s have one name", s->paths[i - 1],
                           s->paths[i]);
    }
    return choose_name(s, err);
}

static void close_issue(issue *s)
{
    dp_free(s->sha1);
    dp_free(s->hashes);
    dp_free(s->files);
    dp_free(s->names);
    dp_free(s->paths);
}

static dp_status measure(issue *s, uint64_t *total, dp_error *err)
{
    *total = 0;
    for (size_t i = 0; i < s->config->path_count; i++) {
        dp_file file;
        dp_status st = dp_file_open(&file, s->paths[i], false, err);

        if (st)
            return st;
        s->files[i].pieces.file_size = file.size;
        *total += file.size;
        dp_file_close(&file);
    }
    return DP_OK;
}

/* By the rule, or as the caller says. What is no model has the smallest pieces. */
static dp_status choose_piece_size(const issue *s, uint64_t total, uint32_t *out, dp_error *err)
{
    dp_gguf *gguf;
    uint64_t slice = 0;

    *out = s->config->piece_size;
    if (*out) {
        if (!dp_is_power_of_two(*out) || *out < DP_PIECE_SIZE_MIN || *out > DP_PIECE_SIZE_MAX)
            return dp_fail(err, DP_E_INVALID,
                           "a piece size of %u bytes: it has to be a power of two, %u to %u", *out,
                           DP_PIECE_SIZE_MIN, DP_PIECE_SIZE_MAX);
        return DP_OK;
    }
    if (dp_gguf_open(&gguf, s->paths[0], NULL) == DP_OK) {
        slice = dp_holders_slice(gguf);
        dp_gguf_close(gguf);
    }
    *out = dp_metainfo_piece_size(slice, total);
    return DP_OK;
}

/* SHA-1 of the piece and the zeros up to where the next file begins, as v1 has it. */
static dp_status hash_v1(const issue *s, uint32_t piece, const uint8_t *bytes, dp_error *err)
{
    static const uint8_t zeros[4096];
    dp_layout_place place = dp_layout_find(&s->layout, piece);
    bool is_last_file = place.file + 1 == s->layout.file_count;
    uint32_t pad = is_last_file ? 0 : s->layout.piece_size - place.size;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_good = context && EVP_DigestInit_ex(context, EVP_sha1(), NULL) &&
                   EVP_DigestUpdate(context, bytes, place.size);

    for (; is_good && pad; pad -= DP_MIN(pad, (uint32_t)sizeof zeros))
        is_good = EVP_DigestUpdate(context, zeros, DP_MIN(pad, (uint32_t)sizeof zeros));
    is_good = is_good && EVP_DigestFinal_ex(context, s->sha1[piece], NULL);
    EVP_MD_CTX_free(context);
    return is_good ? DP_OK : dp_fail(err, DP_E_NOMEM, "hash: libcrypto gives no SHA-1");
}

static dp_status hash_piece(void *user, uint32_t piece, const uint8_t *bytes, dp_error *err)
{
    issue *s = user;
    dp_layout_place place = dp_layout_find(&s->layout, piece);
    dp_status st =
        dp_piece_hash(&s->hashes[piece], s->files[place.file].pieces, place.piece, bytes, err);

    return st || !s->sha1 ? st : hash_v1(s, piece, bytes, err);
}

static dp_status hash_all(issue *s, dp_progress progress, void *user, dp_error *err)
{
    dp_piece_walk walk = { .layout = &s->layout,
                           .paths = s->paths,
                           .visit = hash_piece,
                           .user = s,
                           .progress = progress,
                           .progress_user = user };

    s->hashes = dp_alloc_zero(s->layout.piece_count, sizeof *s->hashes);
    if (!s->config->is_v2_only)
        s->sha1 = dp_alloc_zero(s->layout.piece_count, sizeof *s->sha1);
    if (!s->hashes || (!s->sha1 && !s->config->is_v2_only))
        return dp_fail(err, DP_E_NOMEM, "no memory for %u hashes", s->layout.piece_count);
    for (uint32_t i = 0; i < s->layout.file_count; i++)
        s->files[i].hashes = s->hashes + s->files[i].first_piece;
    return dp_piece_walk_run(&walk, err);
}

static dp_status write_metainfo(const char *path, const dp_metainfo *metainfo, dp_error *err)
{
    dp_file_out out = { .path = NULL };
    size_t size;
    const void *bytes = dp_metainfo_bytes(metainfo, &size);
    dp_status st = dp_file_out_open(&out, path, err);

    if (!st)
        st = dp_file_out_write(&out, bytes, size, err);
    if (!st)
        st = dp_file_out_commit(&out, err);
    dp_file_out_close(&out);
    return st;
}

dp_status dp_torrent_write(const char *out_path, const dp_torrent_config *config,
                           dp_progress progress, void *user, dp_error *err)
{
    issue s = { .config = config };
    dp_metainfo *metainfo = NULL;
    dp_metainfo_config make;
    uint32_t piece_size;
    uint64_t total;
    dp_status st;

    st = open_issue(&s, err);
    if (!st)
        st = measure(&s, &total, err);
    if (!st)
        st = choose_piece_size(&s, total, &piece_size, err);
    if (!st)
        st = dp_layout_number(&s.layout, s.files, (uint32_t)config->path_count, piece_size, s.name,
                              err);
    if (!st)
        st = hash_all(&s, progress, user, err);
    if (st)
        goto done;
    make = (dp_metainfo_config){ .name = s.name,
                                 .names = s.names,
                                 .layout = &s.layout,
                                 .sha1 = (const uint8_t(*)[SHA1_SIZE])s.sha1,
                                 .trackers = config->trackers,
                                 .web_seeds = config->web_seeds,
                                 .tracker_count = config->tracker_count,
                                 .web_seed_count = config->web_seed_count,
                                 .is_private = config->is_private,
                                 .creator = "doppler" };
    st = dp_metainfo_make(&metainfo, &make, err);
    if (!st)
        st = write_metainfo(out_path, metainfo, err);
done:
    dp_metainfo_close(metainfo);
    close_issue(&s);
    return st;
}

/* Comparing. */

typedef struct comparison {
    const dp_layout *layout;
    dp_verify_result *result;
    uint32_t first_bad; /* piece; UINT32_MAX: none */
    dp_mutex lock;
} comparison;

static dp_status compare_piece(void *user, uint32_t piece, const uint8_t *bytes, dp_error *err)
{
    comparison *c = user;
    dp_layout_place place = dp_layout_find(c->layout, piece);
    const dp_layout_file *file = &c->layout->files[place.file];
    dp_hash hash;
    dp_status st = dp_piece_hash(&hash, file->pieces, place.piece, bytes, err);
    bool is_good = !st && dp_hash_equal(&hash, &file->hashes[place.piece]);

    if (st)
        return st;
    dp_mutex_lock(&c->lock);
    c->result->pieces++;
    c->result->bytes += place.size;
    c->result->bad_pieces += !is_good;
    c->result->bad_bytes += is_good ? 0 : place.size;
    if (!is_good)
        c->first_bad = DP_MIN(c->first_bad, piece);
    dp_mutex_unlock(&c->lock);
    return DP_OK;
}

dp_status dp_torrent_verify(const char *path, const char *torrent_path, dp_verify_result *out,
                            dp_progress progress, void *user, dp_error *err)
{
    comparison c = { .result = out, .first_bad = UINT32_MAX };
    dp_local_files files = { .count = 0 };
    dp_metainfo *metainfo = NULL;
    dp_piece_walk walk;
    dp_status st;

    *out = (dp_verify_result){ .bytes = 0 };
    dp_mutex_init(&c.lock);
    st = dp_local_metainfo(&metainfo, torrent_path, err);
    if (!st)
        st = dp_local_files_find(&files, path, metainfo, err);
    if (st)
        goto done;
    c.layout = dp_metainfo_layout(metainfo);
    walk = (dp_piece_walk){ .layout = c.layout,
                            .paths = (const char *const *)files.paths,
                            .visit = compare_piece,
                            .user = &c,
                            .progress = progress,
                            .progress_user = user };
    st = dp_piece_walk_run(&walk, err);
    if (!st && c.first_bad != UINT32_MAX) {
        dp_layout_place place = dp_layout_find(c.layout, c.first_bad);
        out->first_bad = place.offset;
        out->first_bad_file = place.file;
    }
done:
    dp_local_files_free(&files);
    dp_metainfo_close(metainfo);
    dp_mutex_deinit(&c.lock);
    return st;
}
