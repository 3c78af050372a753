#include "swarm/mount.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "swarm/local_files.h"

#define BANS_NS    ((uint64_t)1000000000)
#define PATH_BYTES 8192

/* Opening. */

/* A mirror's name: the file's, or where that has folders its number and last part. */
static void mirror_name(char out[DP_STORE_NAME_MAX + 1], const char *path, uint32_t file)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    size_t size = strlen(base), most = slash ? DP_STORE_NAME_MAX - 8 : DP_STORE_NAME_MAX;

    base += size > most ? size - most : 0; /* the end tells parts apart */
    if (slash)
        snprintf(out, DP_STORE_NAME_MAX + 1, "%u-%s", file, base);
    else
        snprintf(out, DP_STORE_NAME_MAX + 1, "%s", base);
}

static dp_status open_file(dp_mount *m, uint32_t file, const char *whole_path, dp_error *err)
{
    const dp_layout_file *f = &m->id.layout->files[file];
    char name[DP_STORE_NAME_MAX + 1], tag[64];
    dp_store_file_config config = { .key = m->id.key,
                                    .name = name,
                                    .pieces = f->pieces,
                                    .hashes = f->hashes,
                                    .origin = m->id.origin,
                                    .whole_path = whole_path };
    dp_status st = DP_E_BUSY;

    mirror_name(name, f->path, file);
    config.tag = dp_identity_tag(&m->id, file, tag, dp_clock_wall_s());
    if (!m->is_uncached)
        st = dp_store_file_open(&m->files[file], m->swarm->store, &config, err);
    if (st == DP_E_BUSY && !whole_path) {
        if (!m->is_uncached)
            DP_LOG_WARN("swarm", "model=\"%s\" cache=\"in use by another process\"", m->id.name);
        m->is_uncached = true;
        st = dp_store_file_open(&m->files[file], m->swarm->nothing, &config, err);
    }
    return st;
}

static dp_status open_files(dp_mount *m, char *const *whole_paths, dp_error *err)
{
    uint32_t count = m->id.layout->file_count;
    dp_status st = DP_OK;

    m->files = dp_alloc_zero(count, sizeof(dp_store_file *));
    m->available = dp_alloc_zero((m->id.layout->piece_count + 7) / 8, 1);
    if (!m->files || !m->available)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for %u files", m->id.name, count);
    for (uint32_t i = 0; i < count && !st; i++)
        st = open_file(m, i, whole_paths ? whole_paths[i] : NULL, err);
    return st;
}

/* Pager and source: what a model is read through. */
static dp_status open_source(dp_mount *m, dp_error *err)
{
    dp_pager_config pager = m->swarm->http;
    dp_supply supply = dp_mount_supply(m);
    dp_source_swarm_config source = { .layout = m->id.layout,
                                      .files = m->id.files,
                                      .parts = m->id.parts,
                                      .part_count = m->id.part_count,
                                      .supply = &supply,
                                      .wait_ms = m->swarm->config.wait_ms,
                                      .clock = m->swarm->clock,
                                      .name = m->id.metainfo ? "swarm" : "url" };
    dp_status st;

    pager.layout = m->id.layout;
    st = dp_pager_open(&m->pager, &pager, err);
    if (!st)
        st = dp_mount_add_seeds(m, err);
    if (!st)
        st = dp_source_swarm_open(&m->source, &source, err);
    return st;
}

static dp_status open_torrent(dp_mount *m, dp_error *err)
{
    dp_swarm *swarm = m->swarm;
    dp_torrent_content content = dp_mount_content(m);
    dp_torrents *session;
    dp_torrent *torrent = NULL;
    dp_status st;

    if (!m->id.metainfo)
        return DP_OK;
    st = dp_swarm_torrents(swarm, &session, err);
    if (!st)
        st = dp_torrent_add(&torrent, session, m->id.metainfo, &content, err);
    if (st)
        return st;
    dp_mutex_lock(&m->lock);
    m->torrent = torrent;
    dp_mutex_unlock(&m->lock);
    for (size_t i = 0; i < swarm->config.peer_count && !st; i++)
        st = dp_torrent_connect(torrent, swarm->peers[i], err);
    if (st || !swarm->server || !swarm->config.shares)
        return st;
    st = dp_range_server_add(swarm->server, m->id.key, m->id.layout, m->files, err);
    m->is_served = st == DP_OK;
    return st;
}

/* The header, by which pieces have their class. */

static const char *part_name(void *user, uint32_t part)
{
    return ((dp_mount *)user)->id.parts[part].name;
}

static uint64_t part_size(void *user, uint32_t part)
{
    return ((dp_mount *)user)->id.parts[part].size;
}

static dp_status read_part(void *user, uint32_t part, uint64_t offset, void *out, size_t size,
                           dp_error *err)
{
    dp_mount *m = user;

    return dp_source_swarm_read(m->source, m->id.files[part], offset, size, out, err);
}

/* Consecutive pieces of one class are told at once. */
static void set_classes(dp_mount *m, const dp_holders *holders)
{
    for (uint32_t i = 0; i < m->id.layout->file_count; i++) {
        const dp_layout_file *file = &m->id.layout->files[i];
        uint32_t count = dp_pieces_count(file->pieces), first = 0;

        for (uint32_t k = 1; k <= count; k++) {
            dp_piece_class class_ = dp_holders_class(holders, file->first_piece + first);
            if (k < count && dp_holders_class(holders, file->first_piece + k) == class_)
                continue;
            dp_store_set_class(m->files[i], first, k - first, class_);
            first = k;
        }
    }
}

static dp_status read_header(dp_mount *m, dp_holders **out, dp_error *err)
{
    dp_gguf_input input = { .user = m,
                            .part_count = m->id.part_count,
                            .name = part_name,
                            .size = part_size,
                            .read = read_part };
    dp_gguf *gguf;
    dp_status st = dp_gguf_open_input(&gguf, &input, err);

    if (st)
        return st;
    st = dp_holders_open(out, gguf, m->id.layout, m->id.files, err);
    dp_gguf_close(gguf);
    return st;
}

static dp_mount *new_mount(dp_swarm *swarm)
{
    dp_mount *m = dp_alloc_zero(1, sizeof *m);

    if (!m)
        return NULL;
    m->swarm = swarm;
    dp_link_init(&m->link);
    dp_mutex_init(&m->lock);
    return m;
}

typedef struct stopper {
    dp_swarm *swarm;
    uint64_t cancels; /* when it began */
} stopper;

static bool is_canceled(void *user)
{
    stopper *s = user;

    return atomic_load_explicit(&s->swarm->cancels, memory_order_relaxed) != s->cancels;
}

static dp_status find_identity(dp_mount *m, const char *model, dp_error *err)
{
    dp_swarm *swarm = m->swarm;
    stopper stop = { swarm, atomic_load_explicit(&swarm->cancels, memory_order_relaxed) };
    dp_identity_config config = { .peers = (const char *const *)swarm->peers,
                                  .peer_count = swarm->config.peer_count,
                                  .http = &swarm->http,
                                  .memory =
                                      swarm->config.disk_bytes ? swarm->config.cache_folder : NULL,
                                  .stop = is_canceled,
                                  .user = &stop };
    dp_status st = DP_OK;

    if (dp_identity_is_torrent(model))
        st = dp_swarm_torrents(swarm, &config.torrents, err);
    return st ? st : dp_identity_find(&m->id, model, &config, err);
}

dp_status dp_mount_open(dp_mount **out, dp_swarm *swarm, const char *model, dp_error *err)
{
    dp_mount *m = new_mount(swarm);
    dp_holders *holders = NULL;
    dp_status st;

    *out = NULL;
    if (!m)
        return dp_fail(err, DP_E_NOMEM, "no memory for a mount");
    st = find_identity(m, model, err);
    if (!st)
        st = open_files(m, NULL, err);
    if (!st)
        st = open_source(m, err);
    if (!st)
        st = open_torrent(m, err);
    if (st)
        goto done;
    dp_swarm_enlist(swarm, m);
    st = read_header(m, &holders, err);
    if (st)
        goto done;
    set_classes(m, holders);
    m->holders = holders; /* from here on the node's thread may fill */
    atomic_store_explicit(&m->is_described, true, memory_order_release);

    *out = m; /* the caller owns it now */
    m = NULL;
done:
    dp_mount_close(m);
    return st;
}

dp_status dp_mount_open_share(dp_mount **out, dp_swarm *swarm, const char *path,
                              const char *torrent_path, dp_error *err)
{
    dp_mount *m = new_mount(swarm);
    dp_local_files local = { .count = 0 };
    dp_status st;

    *out = NULL;
    if (!m)
        return dp_fail(err, DP_E_NOMEM, "no memory for a share");
    st = dp_identity_of_torrent(&m->id, torrent_path, err);
    if (!st)
        st = dp_local_files_find(&local, path, m->id.metainfo, err);
    if (!st)
        st = open_files(m, local.paths, err);
    if (!st)
        st = open_torrent(m, err);
    dp_local_files_free(&local);
    if (st) {
        dp_mount_close(m);
        return st;
    }
    dp_swarm_enlist(swarm, m);
    /* From here on what is damaged is told to peers. */
    st = dp_piece_check_open(&m->check, m->id.layout, m->files, swarm->clock, err);
    if (st) {
        dp_mount_close(m);
        return st;
    }
    *out = m;
    return DP_OK;
}

void dp_mount_close(dp_mount *m)
{
    dp_torrent *torrent;

    if (!m)
        return;
    dp_swarm_dismiss(m->swarm, m);
    dp_piece_check_close(m->check);
    if (m->is_served)
        dp_range_server_remove(m->swarm->server, m->id.key);
    dp_mutex_lock(&m->lock);
    torrent = m->torrent;
    m->torrent = NULL;
    dp_mutex_unlock(&m->lock);
    if (torrent)
        dp_torrent_remove(torrent);
    if (m->source)
        m->source->ops->close(m->source); /* and the pager */
    dp_pager_close(m->pager);
    for (uint32_t i = 0; m->files && i < m->id.layout->file_count; i++)
        dp_store_file_close(m->files[i]);
    for (uint32_t i = 0; i < DP_MOUNT_FILL_MAX; i++)
        dp_free(m->fills[i].room);
    dp_holders_close(m->holders);
    dp_free(m->files);
    dp_free(m->available);
    dp_free(m->fetched_path);
    dp_identity_free(&m->id);
    dp_mutex_deinit(&m->lock);
    dp_free(m);
}

void dp_mount_tick(dp_mount *m, uint64_t now_ns, bool is_canceled)
{
    bool is_changed = dp_mount_update_peers(m);

    if (now_ns - m->bans_ns >= BANS_NS) {
        dp_mount_ban_liars(m);
        m->bans_ns = now_ns;
    }
    if (!m->source)
        return;
    if (is_canceled)
        dp_source_swarm_cancel_all(m->source);
    dp_source_swarm_tick(m->source, is_changed);
    dp_mount_fill(m, now_ns, is_changed);
}

/* What a mount is asked. */

dp_source *dp_mount_source(dp_mount *m)
{
    return m->source;
}

static dp_status fetch_pieces(dp_mount *m, uint32_t index, uint8_t *room, dp_error *err)
{
    dp_pieces pieces = m->id.layout->files[index].pieces;
    uint32_t count = dp_pieces_count(pieces);
    dp_status st = DP_OK;

    dp_store_set_class(m->files[index], 0, count, DP_PIECE_HEADER); /* they may not leave */
    for (uint32_t i = 0; i < count && !st; i++) {
        if (dp_store_has(m->files[index], i))
            continue;
        st = dp_source_swarm_read(m->source, index, (uint64_t)i * pieces.piece_size,
                                  dp_pieces_size(pieces, i), room, err);
        if (!st && !dp_store_has(m->files[index], i))
            st = dp_fail(err, DP_E_BUDGET, "%s: the cache does not keep all %llu bytes of it",
                         m->id.layout->files[index].path, (unsigned long long)pieces.file_size);
    }
    return st;
}

dp_status dp_mount_fetch(dp_mount *m, uint32_t index, const char **path, dp_error *err)
{
    uint8_t *room = NULL;
    dp_buf buf;
    dp_status st;

    *path = NULL;
    if (index >= m->id.layout->file_count)
        return dp_fail(err, DP_E_INVALID, "%s has %u files", m->id.name, m->id.layout->file_count);
    if (!m->swarm->config.cache_folder || m->is_uncached)
        return dp_fail(err, DP_E_BUDGET, "%s: there is no cache to keep it in",
                       m->id.layout->files[index].path);
    room = dp_alloc(m->id.layout->piece_size, 1);
    if (!room)
        return dp_fail(err, DP_E_NOMEM, "no memory for a piece");
    st = fetch_pieces(m, index, room, err);
    dp_free(room);
    if (st)
        return st;
    dp_buf_init(&buf, PATH_BYTES);
    st = dp_buf_format(&buf, "%s/%s/%s", m->swarm->config.cache_folder, m->id.key,
                       dp_store_file_name(m->files[index]));
    if (st) {
        dp_buf_deinit(&buf);
        return dp_fail(err, st, "%s: no memory for its path", m->id.layout->files[index].path);
    }
    dp_free(m->fetched_path);
    m->fetched_path = buf.bytes;
    *path = m->fetched_path;
    return DP_OK;
}

static uint64_t present_bytes(const dp_mount *m)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < m->id.layout->piece_count; i++) {
        dp_layout_place place = dp_layout_find(m->id.layout, i);
        if (dp_store_has(m->files[place.file], place.piece))
            bytes += place.size;
    }
    return bytes;
}

void dp_mount_info_read(const dp_mount *m, dp_mount_info *out)
{
    *out = (dp_mount_info){ .name = m->id.name,
                            .info_v2 = m->id.metainfo ? m->id.key : NULL,
                            .check = dp_identity_check(&m->id),
                            .file_count = m->id.layout->file_count,
                            .piece_size = m->id.layout->piece_size,
                            .present_bytes = present_bytes(m) };
    for (uint32_t i = 0; i < out->file_count; i++)
        out->file_bytes += m->id.layout->files[i].pieces.file_size;
}
