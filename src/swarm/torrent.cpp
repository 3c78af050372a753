/* The face: sessions, torrents in them, metadata of magnet links. */
#include "swarm/torrent_impl.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <tuple>

#include <netdb.h>
#include <signal.h>

#include <libtorrent/alert_types.hpp>
#include <libtorrent/create_torrent.hpp>
#include <libtorrent/error_code.hpp>
#include <libtorrent/ip_filter.hpp>
#include <libtorrent/magnet_uri.hpp>
#include <libtorrent/session_params.hpp>
#include <libtorrent/settings_pack.hpp>

namespace dp
{
namespace
{

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto PUMP_TIME = milliseconds(100);
constexpr auto LISTEN_TIME = seconds(5);

template <typename F> dp_status guarded(dp_error *err, F body)
{
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return dp_fail(err, DP_E_NOMEM, "torrent: no memory");
    } catch (const std::exception &e) {
        return dp_fail(err, DP_E_IO, "torrent: %s", e.what());
    }
}

/* "HOST:PORT", "[::1]:PORT". */
bool split_host(const char *text, std::string *host, std::uint16_t *port)
{
    std::string all(text);
    std::size_t colon = all.rfind(':');
    unsigned long number = 0;

    if (colon == std::string::npos || colon == 0 || colon + 1 == all.size() || all.size() > 300)
        return false;
    for (std::size_t i = colon + 1; i < all.size(); i++) {
        if (all[i] < '0' || all[i] > '9' || number > 65535)
            return false;
        number = number * 10 + (unsigned long)(all[i] - '0');
    }
    *host = all.substr(0, colon);
    if (host->size() > 2 && host->front() == '[' && host->back() == ']')
        *host = host->substr(1, host->size() - 2);
    *port = std::uint16_t(number);
    return number <= 65535;
}

dp_status resolve(lt::tcp::endpoint *out, const char *host_port, dp_error *err)
{
    struct addrinfo hints = {}, *found = nullptr;
    std::string host;
    std::uint16_t port;
    lt::error_code ec;

    if (!split_host(host_port, &host, &port) || !port)
        return dp_fail(err, DP_E_INVALID, "peer \"%.300s\": expected HOST:PORT", host_port);
    lt::address address = lt::make_address(host, ec);
    if (ec) {
        hints.ai_socktype = SOCK_STREAM;
        int problem = getaddrinfo(host.c_str(), nullptr, &hints, &found);
        if (problem)
            return dp_fail(err, DP_E_NOTFOUND, "peer %s: %s", host_port, gai_strerror(problem));
        if (found->ai_family == AF_INET6) {
            lt::address_v6::bytes_type bytes;
            std::memcpy(bytes.data(), &((sockaddr_in6 *)found->ai_addr)->sin6_addr, bytes.size());
            address = lt::address_v6(bytes);
        } else {
            address = lt::address_v4(ntohl(((sockaddr_in *)found->ai_addr)->sin_addr.s_addr));
        }
        freeaddrinfo(found);
    }
    *out = lt::tcp::endpoint(address, port);
    return DP_OK;
}

lt::settings_pack settings_of(const dp_torrents_config *c, const std::string &listen)
{
    using set = lt::settings_pack;
    lt::settings_pack s;
    int connections = int(c->connections_max ? c->connections_max : DP_TORRENT_PEERS_MAX);

    s.set_str(set::user_agent, "doppler");
    s.set_str(set::peer_fingerprint, "-Dp0100-");
    s.set_int(set::alert_mask, int(static_cast<std::uint32_t>(lt::alert_category::error |
                                                              lt::alert_category::status)));
    s.set_str(set::listen_interfaces, listen);
    s.set_int(set::max_retry_port_bind, 0);
    s.set_bool(set::listen_system_port_fallback, false);
    s.set_bool(set::enable_incoming_tcp, c->listen != NULL);
    s.set_bool(set::enable_incoming_utp, false); /* where latency matters, TCP */
    s.set_bool(set::enable_outgoing_utp, false);
    s.set_bool(set::enable_dht, c->uses_dht);
    s.set_bool(set::enable_lsd, c->uses_lsd);
    s.set_bool(set::enable_upnp, false);
    s.set_bool(set::enable_natpmp, false);
    s.set_int(set::out_enc_policy, set::pe_disabled);
    /* who is connected, and for how long */
    s.set_int(set::connections_limit, connections);
    s.set_bool(set::allow_multiple_connections_per_ip, true); /* bounded by the plugin */
    s.set_bool(set::close_redundant_connections, false);
    s.set_int(set::min_reconnect_time, 1);
    s.set_int(set::peer_turnover_interval, 86400);
    s.set_int(set::max_peerlist_size, 1000);
    s.set_int(set::max_paused_peerlist_size, 1000);
    /* what is asked for */
    s.set_int(set::request_timeout, 2);
    s.set_int(set::piece_timeout, 2);
    s.set_int(set::max_out_request_queue, 4000);
    s.set_bool(set::piece_extent_affinity, false);
    s.set_bool(set::prioritize_partial_pieces, false);
    s.set_int(set::initial_picker_threshold, 0);
    s.set_int(set::tick_interval, 100);
    s.set_int(set::max_metadata_size, int(DP_TORRENT_METADATA_BYTES_MAX));
    s.set_int(set::max_piece_count, int(DP_LAYOUT_PIECES_MAX));
    /* what is given */
    s.set_int(set::unchoke_slots_limit, c->shares ? -1 : 0);
    s.set_int(set::allowed_fast_set_size, 0);
    s.set_int(set::max_allowed_in_request_queue, int(DP_TORRENT_REQUESTS_MAX));
    s.set_int(set::send_buffer_watermark, int(DP_TORRENT_SEND_BYTES));
    s.set_int(set::send_buffer_low_watermark, int(DP_TORRENT_SEND_BYTES / 8));
    s.set_int(set::send_buffer_watermark_factor, 250);
    s.set_int(set::upload_rate_limit, int(std::min<std::uint64_t>(c->upload_bytes_s, INT32_MAX)));
    s.set_bool(set::rate_limit_ip_overhead, false);
    s.set_int(set::stop_tracker_timeout, 1);
    return s;
}

/* One class of peers: libtorrent would exempt local networks from caps. */
lt::ip_filter everybody()
{
    std::uint32_t global = 1u << static_cast<std::uint32_t>(lt::session::global_peer_class_id);
    lt::ip_filter filter;

    filter.add_rule(lt::make_address("0.0.0.0"), lt::make_address("255.255.255.255"), global);
    filter.add_rule(lt::make_address("::"),
                    lt::make_address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), global);
    return filter;
}

/* Waits until libtorrent listens, or cannot. */
dp_status await_listening(session *owner, const char *listen, dp_error *err)
{
    clock::time_point end = clock::now() + LISTEN_TIME;

    while (clock::now() < end) {
        std::vector<lt::alert *> alerts;

        owner->engine->wait_for_alert(PUMP_TIME);
        owner->engine->pop_alerts(&alerts);
        for (lt::alert *alert : alerts) {
            auto failed = lt::alert_cast<lt::listen_failed_alert>(alert);
            auto listens = lt::alert_cast<lt::listen_succeeded_alert>(alert);

            if (failed && failed->socket_type == lt::socket_type_t::tcp)
                return dp_fail(err, DP_E_IO, "cannot listen on %s: %s", listen,
                               failed->error.message().c_str());
            if (listens && listens->socket_type == lt::socket_type_t::tcp)
                return DP_OK;
        }
    }
    return dp_fail(err, DP_E_IO, "cannot listen on %s: no answer from the system", listen);
}

dp_status open_session(session *owner, const dp_torrents_config *config, dp_error *err)
{
    std::string host, listen = "0.0.0.0:0";
    std::uint16_t port = 0;
    lt::session_params params;
    sigset_t all, before;
    lt::error_code ec;

    if (config->listen) {
        bool is_split = split_host(config->listen, &host, &port);

        lt::make_address(host, ec);
        if (!is_split || ec)
            return dp_fail(err, DP_E_INVALID, "listen \"%.300s\": expected ADDRESS:PORT",
                           config->listen);
        listen = config->listen;
    }
    owner->http_port = config->http_port;
    owner->http_is_tls = config->http_is_tls;
    owner->shares = config->shares;
    owner->reconcile_s = config->reconcile_s ? config->reconcile_s : 300;
    params.settings = settings_of(config, listen);
    params.extensions.clear(); /* no peer exchange; the others are each torrent's */
    params.disk_io_constructor = [owner](lt::io_context &network, const lt::settings_interface &,
                                         lt::counters &) { return make_disk(owner, network); };
    /* Signals are the program's: threads that start here inherit a mask with all of them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        owner->engine = std::make_unique<lt::session>(std::move(params));
    } catch (...) {
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    owner->engine->set_peer_class_filter(everybody());
    dp_status st = config->listen ? await_listening(owner, config->listen, err) : DP_OK;
    owner->listens = config->listen != NULL;
    try {
        if (!st)
            owner->pump = std::thread([owner] { pump(owner); });
    } catch (...) {
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return st;
}

void close_session(session *owner)
{
    {
        std::lock_guard<std::mutex> lock(owner->mutex);
        owner->is_stopping = true;
    }
    owner->changed.notify_all();
    if (owner->pump.joinable())
        owner->pump.join();
    owner->engine.reset(); /* waits for its threads, at most a second for trackers */
    owner->torrents.clear();
}

/* A torrent in libtorrent, from now on in session->torrents. */
dp_status start(const std::shared_ptr<torrent_state> &t, lt::add_torrent_params params,
                const char *name, dp_error *err)
{
    session *owner = t->owner;
    lt::error_code ec;
    {
        std::lock_guard<std::mutex> lock(owner->mutex);
        owner->torrents[t->id] = t;
        t->is_adding = true;
    }
    lt::torrent_handle handle = owner->engine->add_torrent(std::move(params), ec);
    std::lock_guard<std::mutex> lock(owner->mutex);
    t->is_adding = false;
    if (ec) {
        owner->torrents.erase(t->id);
        return dp_fail(err, ec == lt::errors::duplicate_torrent ? DP_E_BUSY : DP_E_IO, "%s: %s",
                       name, ec.message().c_str());
    }
    t->handle = handle;
    return DP_OK;
}

void stop(const std::shared_ptr<torrent_state> &t)
{
    session *owner = t->owner;
    std::unique_lock<std::mutex> lock(owner->mutex);

    t->is_removed = true;
    while (t->is_adding || t->callbacks)
        owner->changed.wait(lock);
    lt::torrent_handle handle = t->handle;
    owner->torrents.erase(t->id);
    lock.unlock();
    quietly([&] { owner->engine->remove_torrent(handle); });
}

/* Our copy of what was published: no web seeds (they are the pager's), checked trackers. */
std::shared_ptr<lt::torrent_info> info_of(const dp_metainfo *m)
{
    auto info = std::make_shared<lt::torrent_info>(*m->info);

    info->set_web_seeds({});
    info->clear_trackers();
    for (std::size_t i = 0; i < m->trackers.size(); i++)
        info->add_tracker(m->trackers[i], int(i));
    return info;
}

dp_status add(std::shared_ptr<torrent_state> *out, session *owner, const dp_metainfo *m,
              const dp_torrent_content *content, dp_error *err)
{
    std::uint32_t id;
    {
        std::lock_guard<std::mutex> lock(owner->mutex);
        id = ++owner->torrent_numbers;
    }
    auto t =
        std::make_shared<torrent_state>(owner, id, *content, info_of(m), m->layout.piece_count);
    t->reconciled = clock::now();
    for (std::uint32_t i = 0; i < t->piece_count; i++)
        t->store_has.set(i, content->has(content->user, i));
    t->engine_has = have_bits(t.get());
    dp_status st = start(t, params_of(t, 0, t->engine_has), m->name.c_str(), err);
    if (!st)
        *out = t;
    return st;
}

/* The .torrent of metadata that came from peers: NULL while piece hashes are missing. */
std::vector<char> torrent_of(const lt::torrent_handle &handle,
                             const std::vector<std::string> &trackers)
{
    std::shared_ptr<lt::torrent_info> info = handle.torrent_file_with_hashes();

    if (!info || !info->is_valid())
        return {};
    for (lt::file_index_t f : info->files().file_range()) {
        std::int64_t size = info->files().file_size(f);
        std::int64_t pieces = (size + info->piece_length() - 1) / info->piece_length();

        if (!info->files().pad_file_at(f) && pieces > 1 &&
            info->piece_layer(f).size() != pieces * DP_HASH_SIZE)
            return {};
    }
    lt::create_torrent torrent(*info);
    for (std::size_t i = 0; i < trackers.size(); i++)
        torrent.add_tracker(trackers[i], int(i));
    torrent.set_creation_date(0);
    return torrent.generate_buf();
}

struct fetch {
    session *owner;
    clock::time_point end;
    bool (*stop)(void *user);
    void *user;
    std::vector<lt::tcp::endpoint> peers;
    std::vector<std::string> trackers;
    const char *name;
};

/* Polls until ready() or one of the ends. */
template <typename F> dp_status await(const fetch *f, const char *what, dp_error *err, F ready)
{
    for (;;) {
        if (ready())
            return DP_OK;
        if (f->stop && f->stop(f->user))
            return dp_fail(err, DP_E_CANCELED, "%s: canceled", f->name);
        if (clock::now() >= f->end)
            return dp_fail(err, DP_E_TIMEOUT, "%s: nobody gave %s in time", f->name, what);
        std::unique_lock<std::mutex> lock(f->owner->mutex);
        f->owner->changed.wait_for(lock, milliseconds(20));
    }
}

/* One adding of the magnet link: to its metadata and, when v2 was spoken, to the hashes. */
dp_status fetch_with(std::vector<char> *bytes, std::shared_ptr<const lt::torrent_info> *info,
                     const fetch *f, lt::add_torrent_params link, dp_error *err)
{
    bool has_v2 = link.info_hashes.has_v2() || link.ti;
    std::uint32_t id;
    {
        std::lock_guard<std::mutex> lock(f->owner->mutex);
        id = ++f->owner->torrent_numbers;
    }
    auto t = std::make_shared<torrent_state>(f->owner, id, dp_torrent_content{}, nullptr, 0);
    lt::add_torrent_params params = params_of(t, 0, piece_bits(0));
    params.flags |= lt::torrent_flags::default_dont_download;
    params.info_hashes = link.info_hashes;
    params.ti = link.ti;
    params.trackers = f->trackers;
    params.peers = f->peers;
    dp_status st = start(t, std::move(params), f->name, err);
    if (st)
        return st;
    lt::torrent_handle handle = t->handle;
    quietly([&] {
        st = await(f, "the metadata", err, [&] { return bool(*info = handle.torrent_file()); });
        if (!st && (!(*info)->v2() || !has_v2))
            return; /* nothing to wait for, or to be had over this connection */
        if (!st)
            st = await(f, "the hashes of its pieces", err, [&] {
                *bytes = torrent_of(handle, f->trackers);
                return !bytes->empty();
            });
    });
    stop(t);
    return st;
}

dp_status fetch_metainfo(dp_metainfo **out, fetch *f, const char *magnet, dp_error *err)
{
    std::shared_ptr<const lt::torrent_info> info;
    lt::add_torrent_params link;
    std::vector<char> bytes;
    lt::error_code ec;
    dp_status st;

    lt::parse_magnet_uri(magnet, link, ec);
    if (ec)
        return dp_fail(err, DP_E_INVALID, "magnet link: %s", ec.message().c_str());
    for (const std::string &url : link.trackers) {
        if (f->trackers.size() < DP_METAINFO_URLS_MAX && url.size() <= DP_METAINFO_URL_MAX)
            f->trackers.push_back(url);
    }
    st = fetch_with(&bytes, &info, f, link, err);
    if (!st && info && !info->v2())
        return dp_fail(err, DP_E_UNSUPPORTED,
                       "%s: the torrent has no v2 hashes, and SHA-1 does not verify", f->name);
    /* A link with the v1 hash alone makes v1 connections, which carry no piece hashes. Now that
     * the v2 hash is known, the same again. */
    if (!st && bytes.empty()) {
        link.ti = std::make_shared<lt::torrent_info>(*info);
        link.info_hashes = info->info_hashes();
        st = fetch_with(&bytes, &info, f, link, err);
    }
    if (!st)
        st = dp_metainfo_parse(out, f->name, bytes.data(), bytes.size(), err);
    return st;
}

} // namespace

} // namespace dp

extern "C" {

dp_status dp_torrents_open(dp_torrents **out, const dp_torrents_config *config, dp_error *err)
{
    *out = NULL;
    return dp::guarded(err, [&] {
        auto made = std::make_unique<dp_torrents>();
        dp_status st;

        try {
            st = dp::open_session(&made->session, config, err);
        } catch (...) {
            dp::close_session(&made->session);
            throw;
        }
        if (st)
            dp::close_session(&made->session);
        else
            *out = made.release();
        return st;
    });
}

void dp_torrents_close(dp_torrents *session)
{
    if (!session)
        return;
    dp::quietly([&] { dp::close_session(&session->session); });
    delete session;
}

uint16_t dp_torrents_port(const dp_torrents *session)
{
    std::uint16_t port = 0;

    if (session->session.listens)
        dp::quietly([&] { port = session->session.engine->listen_port(); });
    return port;
}

uint64_t dp_torrents_uploaded(const dp_torrents *session)
{
    return session->session.uploaded.load();
}

dp_status dp_torrent_add(dp_torrent **out, dp_torrents *session, const dp_metainfo *metainfo,
                         const dp_torrent_content *content, dp_error *err)
{
    *out = NULL;
    return dp::guarded(err, [&] {
        auto made = std::make_unique<dp_torrent>();
        dp_status st = dp::add(&made->state, &session->session, metainfo, content, err);

        if (!st)
            *out = made.release();
        return st;
    });
}

void dp_torrent_remove(dp_torrent *torrent)
{
    if (!torrent)
        return;
    dp::stop(torrent->state);
    delete torrent;
}

dp_status dp_torrent_fetch_metainfo(dp_metainfo **out, dp_torrents *session, const char *magnet,
                                    const char *const *peers, size_t peer_count,
                                    uint32_t timeout_ms, bool (*stop)(void *user), void *user,
                                    dp_error *err)
{
    *out = NULL;
    return dp::guarded(err, [&] {
        dp_magnet hashes;
        dp_status st = dp_magnet_parse(&hashes, magnet, err);
        dp::fetch f = { &session->session,
                        dp::clock::now() + std::chrono::milliseconds(timeout_ms),
                        stop,
                        user,
                        {},
                        {},
                        "magnet link" };

        for (size_t i = 0; i < peer_count && !st; i++) {
            lt::tcp::endpoint endpoint;

            st = dp::resolve(&endpoint, peers[i], err);
            f.peers.push_back(endpoint);
        }
        return st ? st : dp::fetch_metainfo(out, &f, magnet, err);
    });
}

dp_status dp_torrent_connect(dp_torrent *torrent, const char *host_port, dp_error *err)
{
    return dp::guarded(err, [&] {
        dp::torrent_state *t = torrent->state.get();
        lt::tcp::endpoint endpoint;
        dp_status st = dp::resolve(&endpoint, host_port, err);

        if (st)
            return st;
        std::lock_guard<std::mutex> lock(t->owner->mutex);
        for (const dp::known_peer &known : t->known) {
            if (known.endpoint == endpoint)
                return DP_OK;
        }
        if (t->known.size() >= DP_TORRENT_KNOWN_MAX)
            return dp_fail(err, DP_E_LIMIT, "peer %s: at most %d are named", host_port,
                           DP_TORRENT_KNOWN_MAX);
        t->known.push_back({ endpoint, dp::clock::now(), 0 });
        t->owner->changed.notify_all();
        return DP_OK;
    });
}

void dp_torrent_have(dp_torrent *torrent, uint32_t piece)
{
    dp::quietly([&] { dp::note_store_has(torrent->state.get(), piece, true); });
}

void dp_torrent_gone(dp_torrent *torrent, uint32_t piece)
{
    dp::quietly([&] { dp::note_store_has(torrent->state.get(), piece, false); });
}

void dp_torrent_want(dp_torrent *torrent, uint32_t piece, uint32_t deadline_ms)
{
    dp::quietly([&] {
        const std::shared_ptr<dp::torrent_state> &t = torrent->state;
        dp::clock::time_point deadline = dp::clock::time_point::max();
        bool is_sooner = false;

        if (deadline_ms)
            deadline = dp::clock::now() + std::chrono::milliseconds(deadline_ms);
        {
            std::lock_guard<std::mutex> lock(t->owner->mutex);
            auto found = t->wants.find(piece);

            if (t->store_has.get(piece))
                return;
            if (found == t->wants.end()) {
                dp::want fresh = { deadline, ++t->want_numbers, false, false, false };

                t->wants[piece] = fresh;
                t->queue.insert({ deadline, fresh.number, piece });
            } else {
                dp::want &w = found->second;

                t->unwanted -= w.is_active && w.is_unwanted;
                w.is_unwanted = false;
                is_sooner = w.is_active && deadline < w.deadline;
                if (!w.is_active && deadline < w.deadline) {
                    t->queue.erase({ w.deadline, w.number, piece });
                    t->queue.insert({ deadline, w.number, piece });
                }
                w.deadline = std::min(w.deadline, deadline);
            }
        }
        if (is_sooner)
            dp::set_deadline(t, piece, deadline);
        dp::activate_wants(t);
    });
}

void dp_torrent_unwant(dp_torrent *torrent, uint32_t piece)
{
    dp::quietly([&] {
        const std::shared_ptr<dp::torrent_state> &t = torrent->state;
        bool was_active = false;
        {
            std::lock_guard<std::mutex> lock(t->owner->mutex);
            auto found = t->wants.find(piece);

            if (found == t->wants.end())
                return;
            was_active = found->second.is_active;
            if (was_active && found->second.has_blocks) {
                t->unwanted += !found->second.is_unwanted;
                found->second.is_unwanted = true;
                return;
            }
            dp::drop_want(t.get(), piece);
        }
        if (was_active) {
            dp::tell_engine(t, [piece](const lt::torrent_handle &handle) {
                handle.reset_piece_deadline(lt::piece_index_t{ int(piece) });
                handle.piece_priority(lt::piece_index_t{ int(piece) }, lt::dont_download);
            });
        }
    });
}

uint64_t dp_torrent_generation(const dp_torrent *torrent)
{
    std::lock_guard<std::mutex> lock(torrent->state->owner->mutex);

    return torrent->state->generation;
}

size_t dp_torrent_peers(const dp_torrent *torrent, dp_torrent_peer *out, size_t max)
{
    const dp::torrent_state *t = torrent->state.get();
    std::lock_guard<std::mutex> lock(t->owner->mutex);
    size_t count = 0;

    for (const auto &p : t->peers) {
        const dp::peer_entry &e = *p.second;
        dp_torrent_peer *peer = &out[count];
        std::string address;

        if (count == max)
            break;
        *peer = {};
        address = e.remote.address().to_string();
        peer->id = e.id;
        std::snprintf(peer->address, sizeof peer->address,
                      e.remote.address().is_v6() ? "[%s]" : "%s", address.c_str());
        peer->port = e.listen_port ? e.listen_port : e.remote.port();
        peer->http_port = e.http_port;
        peer->http_is_tls = e.http_is_tls;
        std::snprintf(peer->client, sizeof peer->client, "%s", e.client.c_str());
        peer->bytes = e.bytes;
        peer->bytes_s = e.bytes_s;
        peer->rtt_ms = e.rtt_ms;
        peer->failures = e.failures;
        count++;
    }
    return count;
}

bool dp_torrent_peer_bits(const dp_torrent *torrent, uint64_t id, uint8_t *bits)
{
    const dp::torrent_state *t = torrent->state.get();
    std::lock_guard<std::mutex> lock(t->owner->mutex);
    auto found = t->peers.find(id);

    if (found == t->peers.end())
        return false;
    std::copy(found->second->bits.bytes.begin(), found->second->bits.bytes.end(), bits);
    return true;
}

void dp_torrent_ban(dp_torrent *torrent, uint64_t id, uint32_t seconds)
{
    dp::quietly([&] {
        dp::session *owner = torrent->state->owner;
        std::lock_guard<std::mutex> lock(owner->mutex);
        auto found = torrent->state->peers.find(id);

        if (found == torrent->state->peers.end())
            return;
        if (owner->bans.size() >= DP_TORRENT_BANS_MAX) {
            owner->bans.erase(
                std::min_element(owner->bans.begin(), owner->bans.end(),
                                 [](const auto &a, const auto &b) { return a.second < b.second; }));
        }
        owner->bans[found->second->remote.address()] =
            dp::clock::now() + std::chrono::seconds(seconds);
        owner->bans_changed = true;
        owner->changed.notify_all();
    });
}
}
