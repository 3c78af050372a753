/* Who gives pieces by ranges: the torrent's peers that say so, its web seeds, or a URL. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "swarm/mount.h"
#include "swarm/percent.h"

#define BANS_NS ((uint64_t)1000000000)

/* [file_count] URLs under construction. */
typedef struct urls {
    char **urls;
    uint32_t count;
} urls;

static void urls_free(urls *u)
{
    for (uint32_t i = 0; u->urls && i < u->count; i++)
        dp_free(u->urls[i]);
    dp_free(u->urls);
}

/* "BASE" and "FOLDER/PATH", the latter encoded; FOLDER NULL: PATH; PATH NULL: BASE alone. */
static char *make_url(const char *base, const char *folder, const char *path)
{
    dp_buf buf;
    dp_status st;

    dp_buf_init(&buf, DP_PAGER_URL_MAX - 1);
    st = dp_buf_text(&buf, base);
    if (!st && folder)
        st = dp_percent_append(&buf, folder);
    if (!st && folder)
        st = dp_buf_text(&buf, "/");
    if (!st && path)
        st = dp_percent_append(&buf, path);
    if (!st)
        return buf.bytes;
    dp_buf_deinit(&buf);
    return NULL;
}

/* The URLs of all files below `base`. DP_E_LIMIT: one is too long, or memory is short. */
static dp_status make_urls(urls *out, const dp_mount *m, const char *base, const char *folder,
                           bool is_base_all, dp_error *err)
{
    const dp_layout *layout = m->id.layout;

    *out = (urls){ dp_alloc_zero(layout->file_count, sizeof(char *)), layout->file_count };
    for (uint32_t i = 0; out->urls && i < layout->file_count; i++) {
        out->urls[i] = make_url(base, folder, is_base_all ? NULL : layout->files[i].path);
        if (!out->urls[i]) {
            urls_free(out);
            *out = (urls){ NULL, 0 };
        }
    }
    return out->urls ? DP_OK : dp_fail(err, DP_E_LIMIT, "%s: a URL that is too long", base);
}

/* "example.org:80" of "http://example.org:80/x". */
static void host_of(char out[96], const char *url)
{
    const char *at = strstr(url, "://");
    size_t size;

    at = at ? at + 3 : url;
    size = strcspn(at, "/?#");
    snprintf(out, 96, "%.*s", (int)DP_MIN(size, 95), at);
}

/* Web seeds in private networks are dialed only where a person named their host, so that no
 * .torrent makes us talk to what is beside us. */
static bool is_named_host(const dp_swarm *swarm, const char *host_port)
{
    size_t size = strcspn(host_port, ":");

    if (host_port[0] == '[')
        size = strcspn(host_port, "]") + 1;
    for (size_t i = 0; i < swarm->config.peer_count; i++)
        if (strncmp(swarm->peers[i], host_port, size) == 0 && swarm->peers[i][size] == ':')
            return true;
    return false;
}

static dp_status add_web_seed(dp_mount *m, const char *seed, dp_error *err)
{
    const dp_metainfo *metainfo = m->id.metainfo;
    bool is_folder = dp_metainfo_is_folder(metainfo);
    bool is_prefix = is_folder || (seed[0] && seed[strlen(seed) - 1] == '/');
    char host[96];
    dp_pager_endpoint endpoint = { .name = host };
    uint32_t id;
    urls u;
    dp_status st;

    st = make_urls(&u, m, seed, is_folder ? dp_metainfo_name(metainfo) : NULL, !is_prefix, err);
    if (st)
        return st;
    host_of(host, seed);
    endpoint.urls = (const char *const *)u.urls;
    endpoint.allows_private = is_named_host(m->swarm, host);
    st = dp_pager_add(m->pager, &endpoint, &id, err);
    urls_free(&u);
    return st;
}

static dp_status add_origin(dp_mount *m, dp_error *err)
{
    const dp_identity *id = &m->id;
    uint32_t count = id->layout->file_count, endpoint_id;
    const char **tags = dp_alloc_zero(count, sizeof *tags);
    char host[96];
    dp_pager_endpoint endpoint = {
        .name = host, .urls = (const char *const *)id->urls, .tags = tags, .allows_private = true
    };
    dp_status st;

    if (!tags)
        return dp_fail(err, DP_E_NOMEM, "no memory for a table of %u files", count);
    for (uint32_t i = 0; i < count; i++)
        tags[i] = id->looks[i].tag[0] ? id->looks[i].tag : NULL;
    host_of(host, id->urls[0]);
    st = dp_pager_add(m->pager, &endpoint, &endpoint_id, err);
    dp_free(tags);
    return st;
}

dp_status dp_mount_add_seeds(dp_mount *m, dp_error *err)
{
    const char *const *seeds;
    size_t count;

    if (!m->id.metainfo)
        return add_origin(m, err);
    count = dp_metainfo_web_seeds(m->id.metainfo, &seeds);
    for (size_t i = 0; i < count; i++) {
        dp_error error;
        if (add_web_seed(m, seeds[i], &error)) /* one that makes no sense is no reason to stop */
            DP_LOG_WARN("swarm", "web_seed=%s problem=\"%s\"", seeds[i], error.text);
    }
    return DP_OK;
}

/* Peers. */

static mount_peer *find_peer(dp_mount *m, uint64_t id)
{
    for (uint32_t i = 0; i < m->peer_count; i++)
        if (m->peers[i].id == id)
            return &m->peers[i];
    return NULL;
}

static void add_peer(dp_mount *m, const dp_torrent_peer *peer, const uint8_t *bits)
{
    char base[192], name[96];
    dp_pager_endpoint endpoint = {
        .name = name, .is_peer = true, .have = bits, .allows_private = true
    };
    mount_peer *slot = &m->peers[m->peer_count];
    urls u;

    snprintf(name, sizeof name, "%s:%u", peer->address, peer->http_port);
    snprintf(base, sizeof base, "http%s://%s/%s/", peer->http_is_tls ? "s" : "", name, m->id.key);
    if (m->peer_count == DP_TORRENT_PEERS_MAX || make_urls(&u, m, base, NULL, false, NULL))
        return;
    endpoint.urls = (const char *const *)u.urls;
    if (dp_pager_add(m->pager, &endpoint, &slot->endpoint, NULL) == DP_OK) {
        slot->id = peer->id;
        slot->is_seen = true;
        m->peer_count++;
    }
    urls_free(&u);
}

static void look_at_peer(dp_mount *m, const dp_torrent_peer *peer, uint8_t *bits, uint8_t *all)
{
    uint32_t size = (m->id.layout->piece_count + 7) / 8;
    mount_peer *known;

    if (!dp_torrent_peer_bits(m->torrent, peer->id, bits))
        return;
    for (uint32_t i = 0; i < size; i++)
        all[i] |= bits[i];
    if (!peer->http_port || !m->pager)
        return;
    known = find_peer(m, peer->id);
    if (known) {
        known->is_seen = true;
        dp_pager_set_have(m->pager, known->endpoint, bits);
    } else {
        add_peer(m, peer, bits);
    }
}

static void forget_unseen(dp_mount *m)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < m->peer_count; i++) {
        if (m->peers[i].is_seen)
            m->peers[kept++] = m->peers[i];
        else
            dp_pager_remove(m->pager, m->peers[i].endpoint);
    }
    m->peer_count = kept;
}

bool dp_mount_update_peers(dp_mount *m)
{
    uint64_t generation = m->torrent ? dp_torrent_generation(m->torrent) : m->generation;
    uint32_t size = (m->id.layout->piece_count + 7) / 8;
    dp_torrent_peer *peers = NULL;
    uint8_t *bits = NULL, *all = NULL, *old;
    size_t count;

    if (generation == m->generation)
        return false;
    peers = dp_alloc(DP_TORRENT_PEERS_MAX, sizeof *peers);
    bits = dp_alloc(size, 1);
    all = dp_alloc_zero(size, 1);
    if (!peers || !bits || !all) { /* another time */
        dp_free(peers);
        dp_free(bits);
        dp_free(all);
        return false;
    }
    for (uint32_t i = 0; i < m->peer_count; i++)
        m->peers[i].is_seen = false;
    count = dp_torrent_peers(m->torrent, peers, DP_TORRENT_PEERS_MAX);
    count = DP_MIN(count, DP_TORRENT_PEERS_MAX);
    for (size_t i = 0; i < count; i++)
        look_at_peer(m, &peers[i], bits, all);
    forget_unseen(m);
    m->generation = generation;

    dp_mutex_lock(&m->lock);
    old = m->available;
    m->available = all;
    m->peers_seen = (uint32_t)count;
    dp_mutex_unlock(&m->lock);
    dp_free(old);
    dp_free(bits);
    dp_free(peers);
    return true;
}

void dp_mount_ban_liars(dp_mount *m)
{
    dp_pager_peer_stats stats[64];
    size_t count = m->pager && m->peer_count ? dp_pager_peers(m->pager, stats, 64) : 0;

    for (size_t i = 0; i < DP_MIN(count, 64); i++)
        for (uint32_t k = 0; k < m->peer_count && stats[i].bad_pieces && stats[i].banned_s > 0; k++)
            if (m->peers[k].endpoint == stats[i].id)
                dp_torrent_ban(m->torrent, m->peers[k].id, DP_MOUNT_BAN_S);
}

/* For people. */

static void describe_endpoint(dp_peer_info *out, const dp_pager_peer_stats *from)
{
    *out = (dp_peer_info){ .bytes = from->bytes,
                           .bytes_s = from->bytes_s,
                           .rtt_ms = from->rtt_ms,
                           .pieces = from->pieces,
                           .failures = from->failures + from->stalls,
                           .bad_pieces = from->bad_pieces,
                           .banned_s = from->banned_s };
    snprintf(out->name, sizeof out->name, "%s", from->name);
    snprintf(out->kind, sizeof out->kind, "%s", from->is_peer ? "doppler" : "web seed");
}

static void describe_peer(dp_peer_info *out, const dp_torrent_peer *from, const uint8_t *bits,
                          uint32_t piece_count)
{
    *out = (dp_peer_info){ .bytes = from->bytes,
                           .bytes_s = from->bytes_s,
                           .rtt_ms = from->rtt_ms,
                           .failures = from->failures };
    snprintf(out->name, sizeof out->name, "%s:%u", from->address, from->port);
    snprintf(out->kind, sizeof out->kind, "bittorrent");
    for (uint32_t i = 0; i < (piece_count + 7) / 8; i++)
        out->pieces += (uint32_t)__builtin_popcount(bits[i]);
}

size_t dp_mount_peers(const dp_mount *m, dp_peer_info *out, size_t max)
{
    uint32_t piece_count = m->id.layout->piece_count;
    dp_pager_peer_stats *stats = dp_alloc(DP_PAGER_ENDPOINTS_MAX, sizeof *stats);
    dp_torrent_peer *peers = dp_alloc(DP_TORRENT_PEERS_MAX, sizeof *peers);
    uint8_t *bits = dp_alloc((piece_count + 7) / 8, 1);
    size_t count = 0, total = 0;

    if (stats && peers && bits) {
        count = m->pager ? dp_pager_peers(m->pager, stats, DP_PAGER_ENDPOINTS_MAX) : 0;
        for (size_t i = 0; i < DP_MIN(count, DP_PAGER_ENDPOINTS_MAX); i++, total++)
            if (total < max)
                describe_endpoint(&out[total], &stats[i]);
        count = m->torrent ? dp_torrent_peers(m->torrent, peers, DP_TORRENT_PEERS_MAX) : 0;
        for (size_t i = 0; i < DP_MIN(count, DP_TORRENT_PEERS_MAX); i++) {
            if ((peers[i].http_port && m->pager) ||
                !dp_torrent_peer_bits(m->torrent, peers[i].id, bits))
                continue; /* it is among the endpoints; or left */
            if (total < max)
                describe_peer(&out[total], &peers[i], bits, piece_count);
            total++;
        }
    }
    dp_free(bits);
    dp_free(peers);
    dp_free(stats);
    return total;
}

dp_status dp_mount_holders(dp_mount *m, uint32_t **out, uint32_t *layers, uint32_t *experts,
                           dp_error *err)
{
    uint32_t piece_count = m->id.layout->piece_count;
    size_t size =
        m->holders ? (size_t)dp_holders_layers(m->holders) * dp_holders_experts(m->holders) : 0;
    dp_torrent_peer *peers = dp_alloc(DP_TORRENT_PEERS_MAX, sizeof *peers);
    uint8_t *bits = dp_alloc_zero((piece_count + 7) / 8, 1);
    size_t count = 0;

    *layers = *experts = 0;
    *out = dp_alloc_zero(DP_MAX(size, 1), sizeof **out);
    if (!*out || !bits || !peers) {
        dp_free(*out);
        *out = NULL;
        dp_free(bits);
        dp_free(peers);
        return dp_fail(err, DP_E_NOMEM, "no memory for a table of %zu experts", size);
    }
    if (size) {
        *layers = dp_holders_layers(m->holders);
        *experts = dp_holders_experts(m->holders);
        for (uint32_t i = 0; i < piece_count; i++) {
            dp_layout_place place = dp_layout_find(m->id.layout, i);
            if (dp_store_has(m->files[place.file], place.piece))
                bits[i / 8] |= (uint8_t)(0x80 >> i % 8);
        }
        dp_holders_add(m->holders, bits, *out);
        count = m->torrent ? dp_torrent_peers(m->torrent, peers, DP_TORRENT_PEERS_MAX) : 0;
    }
    for (size_t i = 0; i < DP_MIN(count, DP_TORRENT_PEERS_MAX); i++)
        if (dp_torrent_peer_bits(m->torrent, peers[i].id, bits))
            dp_holders_add(m->holders, bits, *out);
    dp_free(bits);
    dp_free(peers);
    return DP_OK;
}

void dp_swarm_free(void *memory)
{
    dp_free(memory);
}
