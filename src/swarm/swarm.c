#include "swarm/swarm_impl.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "swarm/mount.h"

#define USER_AGENT "doppler"
/* Of one address: experts of small models are a request of a few pieces each, a millisecond
 * apart where the network is near. */
#define REQUESTS_S 4000

/* On the thread that caused it, no lock held. */
static void piece_gone(void *user, dp_store_file *file, uint32_t piece)
{
    dp_swarm *swarm = user;
    bool is_found = false;

    dp_mutex_lock(&swarm->lock);
    for (dp_link *link = swarm->mounts.next; link != &swarm->mounts && !is_found; link = link->next)
        is_found = dp_mount_note_gone(DP_LISTED(link, dp_mount, link), file, piece);
    dp_mutex_unlock(&swarm->lock);
}

/* The node's thread. */

static void tick_all(dp_swarm *swarm, bool is_canceled)
{
    dp_link *link = swarm->mounts.next;

    while (link != &swarm->mounts) {
        dp_mount *m = DP_LISTED(link, dp_mount, link);

        swarm->ticking = m;
        dp_mutex_unlock(&swarm->lock);
        dp_mount_tick(m, dp_clock_now_ns(swarm->clock), is_canceled);
        dp_mutex_lock(&swarm->lock);
        swarm->ticking = NULL;
        dp_cond_broadcast(&swarm->changed);
        link = m->link.next; /* who dismisses it waited for this */
    }
}

static void run(void *user)
{
    dp_swarm *swarm = user;
    uint64_t seen = 0;

    dp_mutex_lock(&swarm->lock);
    while (!swarm->is_over) {
        uint64_t cancels = atomic_load_explicit(&swarm->cancels, memory_order_relaxed);

        tick_all(swarm, cancels != seen);
        seen = cancels;
        if (swarm->is_over)
            break;
        if (dp_link_is_alone(&swarm->mounts))
            dp_cond_wait(&swarm->changed, &swarm->lock);
        else
            dp_cond_wait_for(&swarm->changed, &swarm->lock, DP_SWARM_TICK_MS * (uint64_t)1000000);
    }
    dp_mutex_unlock(&swarm->lock);
}

void dp_swarm_enlist(dp_swarm *swarm, dp_mount *mount)
{
    dp_mutex_lock(&swarm->lock);
    dp_link_insert(&swarm->mounts, &mount->link);
    dp_cond_broadcast(&swarm->changed);
    dp_mutex_unlock(&swarm->lock);
}

void dp_swarm_dismiss(dp_swarm *swarm, dp_mount *mount)
{
    dp_mutex_lock(&swarm->lock);
    while (swarm->ticking == mount)
        dp_cond_wait(&swarm->changed, &swarm->lock);
    dp_link_remove(&mount->link);
    dp_mutex_unlock(&swarm->lock);
}

void dp_swarm_cancel(dp_swarm *swarm)
{
    atomic_fetch_add_explicit(&swarm->cancels, 1, memory_order_relaxed); /* looked at in ticks */
}

/* Opening. */

static dp_status copy_text(const char **text, dp_error *err)
{
    if (!*text)
        return DP_OK;
    *text = dp_strndup(*text, strlen(*text));
    return *text ? DP_OK : dp_fail(err, DP_E_NOMEM, "no memory for an option");
}

/* The texts of a config, to copy and to free. */
#define TEXT_COUNT 7
static void texts_of(const char **out[TEXT_COUNT], dp_swarm_config *config)
{
    const char **texts[TEXT_COUNT] = { &config->cache_folder,    &config->listen,
                                       &config->http_listen,     &config->token,
                                       &config->tls_certificate, &config->tls_key,
                                       &config->tls_authority };

    memcpy(out, texts, sizeof texts);
}

static dp_status copy_config(dp_swarm *swarm, const dp_swarm_config *config, dp_error *err)
{
    const char **from[TEXT_COUNT], **to[TEXT_COUNT];
    dp_swarm_config given = *config;
    dp_status st = DP_OK;

    swarm->config = given;
    texts_of(from, &given);
    texts_of(to, &swarm->config);
    for (int i = 0; i < TEXT_COUNT; i++)
        *to[i] = NULL; /* what is not copied yet is not ours to free */
    swarm->config.peers = NULL;
    swarm->config.peer_count = 0;
    for (int i = 0; i < TEXT_COUNT && !st; i++) {
        *to[i] = *from[i];
        st = copy_text(to[i], err);
    }
    if (st)
        return st;
    if (config->peer_count > DP_SWARM_PEERS_MAX)
        return dp_fail(err, DP_E_LIMIT, "%zu peers are named, at most %d", config->peer_count,
                       DP_SWARM_PEERS_MAX);
    swarm->peers = dp_alloc_zero(DP_MAX(config->peer_count, 1), sizeof *swarm->peers);
    if (!swarm->peers)
        return dp_fail(err, DP_E_NOMEM, "no memory for a table of peers");
    for (size_t i = 0; i < config->peer_count; i++) {
        swarm->peers[i] = dp_strndup(config->peers[i], strlen(config->peers[i]));
        if (!swarm->peers[i])
            return dp_fail(err, DP_E_NOMEM, "no memory for a peer's name");
        swarm->config.peer_count++;
    }
    return DP_OK;
}

static dp_status open_stores(dp_swarm *swarm, dp_error *err)
{
    const dp_swarm_config *c = &swarm->config;
    bool keeps = c->cache_folder && c->disk_bytes;
    dp_store_config config = { .folder = keeps ? c->cache_folder : NULL,
                               .budget_bytes = keeps ? c->disk_bytes : 0,
                               .clock = swarm->clock,
                               .on_gone = piece_gone,
                               .user = swarm };
    dp_store_config nothing = { .clock = swarm->clock };
    dp_status st = dp_store_open(&swarm->store, &config, err);

    return st ? st : dp_store_open(&swarm->nothing, &nothing, err);
}

static dp_status open_server(dp_swarm *swarm, dp_error *err)
{
    const dp_swarm_config *c = &swarm->config;
    dp_range_server_config config = { .listen = c->http_listen,
                                      .tls_certificate = c->tls_certificate,
                                      .tls_key = c->tls_key,
                                      .token = c->token,
                                      .requests_s_per_address = REQUESTS_S,
                                      .upload_bytes_s = c->upload_bytes_s,
                                      .clock = swarm->clock };

    return c->http_listen && c->shares ? dp_range_server_open(&swarm->server, &config, err) : DP_OK;
}

dp_status dp_swarm_torrents(dp_swarm *swarm, dp_torrents **out, dp_error *err)
{
    const dp_swarm_config *c = &swarm->config;
    dp_torrents_config config = { .listen = c->listen,
                                  .shares = c->shares,
                                  .uses_dht = c->uses_dht,
                                  .uses_lsd = c->uses_lsd,
                                  .upload_bytes_s = c->upload_bytes_s };
    dp_status st = DP_OK;

    if (!swarm->torrents) {
        if (swarm->server) {
            config.http_port = dp_range_server_port(swarm->server);
            config.http_is_tls = dp_range_server_is_tls(swarm->server);
        }
        st = dp_torrents_open(&swarm->torrents, &config, err);
    }
    *out = swarm->torrents;
    return st;
}

dp_status dp_swarm_open(dp_swarm **out, const dp_swarm_config *config, dp_error *err)
{
    dp_swarm *swarm = dp_alloc_zero(1, sizeof *swarm);
    dp_torrents *torrents;
    dp_status st;

    *out = NULL;
    if (!swarm)
        return dp_fail(err, DP_E_NOMEM, "no memory for a node");
    swarm->clock = &dp_clock_real;
    dp_mutex_init(&swarm->lock);
    dp_cond_init(&swarm->changed);
    dp_link_init(&swarm->mounts);
    st = copy_config(swarm, config, err);
    if (st)
        goto done;
    swarm->http = (dp_pager_config){ .token = swarm->config.token,
                                     .tls_authority = swarm->config.tls_authority,
                                     .user_agent = USER_AGENT,
                                     .clock = swarm->clock };
    st = open_stores(swarm, err);
    if (!st)
        st = open_server(swarm, err);
    if (!st && swarm->config.listen)
        st = dp_swarm_torrents(swarm, &torrents, err);
    if (!st)
        st = dp_thread_start(&swarm->thread, "dp-swarm", run, swarm, err);
    if (st)
        goto done;
    swarm->has_thread = true;

    *out = swarm; /* the caller owns it now */
    swarm = NULL;
done:
    dp_swarm_close(swarm);
    return st;
}

static void stop_thread(dp_swarm *swarm)
{
    dp_mutex_lock(&swarm->lock);
    swarm->is_over = true;
    dp_cond_broadcast(&swarm->changed);
    dp_mutex_unlock(&swarm->lock);
    if (swarm->has_thread)
        dp_thread_join(&swarm->thread);
}

void dp_swarm_close(dp_swarm *swarm)
{
    const char **texts[TEXT_COUNT];

    if (!swarm)
        return;
    stop_thread(swarm);
    while (!dp_link_is_alone(&swarm->mounts)) /* shares: mounts are closed before */
        dp_mount_close(DP_LISTED(swarm->mounts.next, dp_mount, link));
    dp_torrents_close(swarm->torrents);
    dp_range_server_close(swarm->server);
    dp_store_close(swarm->nothing);
    dp_store_close(swarm->store);
    texts_of(texts, &swarm->config);
    for (int i = 0; i < TEXT_COUNT; i++)
        dp_free((char *)*texts[i]);
    for (size_t i = 0; i < swarm->config.peer_count; i++)
        dp_free(swarm->peers[i]);
    dp_free(swarm->peers);
    dp_cond_deinit(&swarm->changed);
    dp_mutex_deinit(&swarm->lock);
    dp_free(swarm);
}

dp_status dp_swarm_share(dp_swarm *swarm, const char *path, const char *torrent_path, dp_error *err)
{
    dp_mount *share;

    if (!swarm->config.shares)
        return dp_fail(err, DP_E_INVALID, "%s: the node was not opened to share", path);
    return dp_mount_open_share(&share, swarm, path, torrent_path, err); /* the node's list has it */
}

/* What a node is asked. */

/* "ADDRESS" of "ADDRESS:PORT", with the port that it became. */
static void address_of(char out[64], const char *listen, uint16_t port)
{
    const char *colon = listen ? strrchr(listen, ':') : NULL;

    out[0] = 0;
    if (colon && port)
        snprintf(out, 64, "%.*s:%u", (int)DP_MIN(colon - listen, 56), listen, port);
}

void dp_swarm_addresses(const dp_swarm *swarm, char torrent[64], char http[64])
{
    address_of(torrent, swarm->config.listen,
               swarm->torrents ? dp_torrents_port(swarm->torrents) : 0);
    address_of(http, swarm->config.http_listen,
               swarm->server ? dp_range_server_port(swarm->server) : 0);
}

static void add_mount(dp_swarm_stats *out, const dp_mount *m)
{
    dp_source_swarm_stats source;
    dp_pager_stats pager;

    if (!m->source)
        return;
    dp_source_swarm_stats_read(m->source, &source);
    dp_pager_stats_read(m->pager, &pager);
    out->swarm_read_bytes += source.arrived_bytes;
    out->pieces_bad += pager.pieces_bad;
    out->stalls += pager.stalls;
    out->hedges += pager.hedges;
    out->bans += pager.bans;
    out->page_ms_p50 = DP_MAX(out->page_ms_p50, source.page_ms_p50);
    out->page_ms_p99 = DP_MAX(out->page_ms_p99, source.page_ms_p99);
    if (m->is_uncached)
        out->cache_problem = "another process has this model's part of the cache";
}

void dp_swarm_stats_read(const dp_swarm *constant, dp_swarm_stats *out)
{
    dp_swarm *swarm = (dp_swarm *)constant; /* its lock is taken */
    dp_range_server_stats server = { .bytes = 0 };
    dp_store_stats store;

    dp_store_stats_read(swarm->store, &store);
    if (swarm->server)
        dp_range_server_stats_read(swarm->server, &server);
    *out = (dp_swarm_stats){ .cache_read_bytes = store.read_bytes,
                             .cache_written_bytes = store.written_bytes,
                             .cache_used_bytes = store.used_bytes,
                             .uploaded_bytes =
                                 server.bytes +
                                 (swarm->torrents ? dp_torrents_uploaded(swarm->torrents) : 0),
                             .pieces_gone = store.pieces_evicted + store.pieces_bad,
                             .cache_problem = "" };
    dp_mutex_lock(&swarm->lock);
    for (dp_link *link = swarm->mounts.next; link != &swarm->mounts; link = link->next)
        add_mount(out, DP_LISTED(link, dp_mount, link));
    if (store.problem[0] && !swarm->problem[0])
        memcpy(swarm->problem, store.problem, sizeof swarm->problem);
    if (swarm->problem[0])
        out->cache_problem = swarm->problem;
    dp_mutex_unlock(&swarm->lock);
}
