/* The store, the pager and the torrent as one supply of pieces; and the store as the content of
 * the torrent. */
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "swarm/mount.h"

static dp_store_file *file_of(const dp_mount *m, uint32_t piece, uint32_t *in_file)
{
    dp_layout_place place = dp_layout_find(m->id.layout, piece);

    *in_file = place.piece;
    return m->files[place.file];
}

static bool mount_has(void *user, uint32_t piece)
{
    uint32_t in_file;
    dp_store_file *file = file_of(user, piece, &in_file);

    return dp_store_has(file, in_file);
}

static dp_status mount_read(void *user, uint32_t piece, void *out, dp_error *err)
{
    uint32_t in_file;
    dp_store_file *file = file_of(user, piece, &in_file);

    dp_store_touch(file, in_file, 1);
    return dp_store_read(file, in_file, out, err);
}

/* Tells the torrent what the store has become. */
static void announce(dp_mount *m, uint32_t piece, bool is_here)
{
    dp_mutex_lock(&m->lock);
    if (m->torrent && is_here)
        dp_torrent_have(m->torrent, piece);
    else if (m->torrent)
        dp_torrent_gone(m->torrent, piece);
    dp_mutex_unlock(&m->lock);
}

static dp_status mount_keep(void *user, uint32_t piece, const void *bytes, dp_error *err)
{
    dp_mount *m = user;
    uint32_t in_file;
    dp_store_file *file = file_of(m, piece, &in_file);
    bool is_kept = false;
    dp_status st;

    dp_store_touch(file, in_file, 1); /* a piece that nobody wanted would not be kept */
    st = dp_store_write(file, in_file, bytes, &is_kept, err);
    if (is_kept)
        announce(m, piece, true);
    return st;
}

static void mount_submit(void *user, dp_pager_job *const *jobs, size_t count)
{
    dp_pager_submit(((dp_mount *)user)->pager, jobs, count);
}

static void mount_promote(void *user, dp_pager_job *job)
{
    dp_pager_promote(((dp_mount *)user)->pager, job);
}

static bool mount_cancel(void *user, dp_pager_job *job)
{
    return dp_pager_cancel(((dp_mount *)user)->pager, job);
}

static bool bit_of(const uint8_t *bits, uint32_t piece)
{
    return bits[piece / 8] & (0x80 >> piece % 8);
}

static bool mount_want(void *user, uint32_t piece, uint32_t deadline_ms)
{
    dp_mount *m = user;
    bool is_possible;

    dp_mutex_lock(&m->lock);
    is_possible = m->torrent && bit_of(m->available, piece);
    if (is_possible)
        dp_torrent_want(m->torrent, piece, deadline_ms);
    dp_mutex_unlock(&m->lock);
    return is_possible;
}

static void mount_unwant(void *user, uint32_t piece)
{
    dp_mount *m = user;

    dp_mutex_lock(&m->lock);
    if (m->torrent)
        dp_torrent_unwant(m->torrent, piece);
    dp_mutex_unlock(&m->lock);
}

/* Appends who would give more if it were told a token. */
static void explain_tokens(const dp_mount *m, char *out, size_t size)
{
    dp_pager_peer_stats stats[64];
    size_t count = m->pager ? dp_pager_peers(m->pager, stats, DP_ARRAY_LEN(stats)) : 0;
    size_t used = strlen(out);

    for (size_t i = 0; i < DP_MIN(count, DP_ARRAY_LEN(stats)); i++) {
        if (stats[i].wants_token) {
            snprintf(out + used, size - used, "; %s wants a token (--swarm-token)", stats[i].name);
            return;
        }
    }
}

static void mount_explain(void *user, uint32_t piece, char *out, size_t size)
{
    dp_mount *m = user;
    const dp_metainfo *metainfo = m->id.metainfo;
    const char *const *seeds;
    size_t seed_count = metainfo ? dp_metainfo_web_seeds(metainfo, &seeds) : 1;
    const char *what;

    dp_mutex_lock(&m->lock);
    what =
        m->torrent && bit_of(m->available, piece) ? "who holds it gives nothing" : "none holds it";
    if (!metainfo)
        snprintf(out, size, "the server gives nothing");
    else if (seed_count)
        snprintf(out, size, "%u peer%s and %zu web seed%s, who may hold it gives nothing",
                 m->peers_seen, &"s"[m->peers_seen == 1], seed_count, &"s"[seed_count == 1]);
    else
        snprintf(out, size, "%u peer%s, %s", m->peers_seen, &"s"[m->peers_seen == 1], what);
    dp_mutex_unlock(&m->lock);
    explain_tokens(m, out, size);
}

static void mount_stop(void *user)
{
    dp_mount *m = user;

    dp_pager_close(m->pager);
    m->pager = NULL;
}

dp_supply dp_mount_supply(dp_mount *m)
{
    return (dp_supply){
        .user = m,
        .has = mount_has,
        .read = mount_read,
        .keep = mount_keep,
        .submit = mount_submit,
        .promote = mount_promote,
        .cancel = mount_cancel,
        .want = mount_want,
        .unwant = mount_unwant,
        .explain = mount_explain,
        .stop = mount_stop,
    };
}

/* The torrent fetched a piece. What the store does not keep is gone again at once. */
static void content_arrived(void *user, uint32_t piece, const void *bytes)
{
    dp_mount *m = user;
    uint32_t in_file;
    dp_store_file *file = file_of(m, piece, &in_file);
    bool is_kept = false;

    dp_store_touch(file, in_file, 1);
    dp_store_write(file, in_file, bytes, &is_kept, NULL);
    announce(m, piece, is_kept);
    if (m->source)
        dp_source_swarm_arrived(m->source, piece, bytes);
}

dp_torrent_content dp_mount_content(dp_mount *m)
{
    return (dp_torrent_content){ mount_has, mount_read, content_arrived, m };
}

bool dp_mount_note_gone(dp_mount *m, const dp_store_file *file, uint32_t piece)
{
    for (uint32_t i = 0; i < m->id.layout->file_count; i++) {
        if (m->files[i] == file) {
            announce(m, m->id.layout->files[i].first_piece + piece, false);
            return true;
        }
    }
    return false;
}
