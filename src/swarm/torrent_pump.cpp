/* What libtorrent cannot know by itself: what the store has, what is wanted, who is banned,
 * and the pump, the thread that handles time. */
#include "swarm/torrent_impl.h"

#include <algorithm>

#include <libtorrent/error_code.hpp>
#include <libtorrent/extensions/smart_ban.hpp>
#include <libtorrent/extensions/ut_metadata.hpp>
#include <libtorrent/ip_filter.hpp>

namespace dp
{

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace
{

constexpr auto PUMP_TIME = milliseconds(100);
constexpr auto FEED_TIME = seconds(10); /* fed pieces that never pass are forgotten */
constexpr auto REWANT_TIME = seconds(5);
constexpr std::size_t FEED_MAX = 4; /* pieces, each twice in memory for a moment */
constexpr std::uint32_t DRIFT_MAX = 4096;

std::uint32_t active_max(const torrent_state *t)
{
    std::size_t piece = std::size_t(t->info->piece_length());

    return std::uint32_t(std::max<std::size_t>(2, DP_TORRENT_PARTIAL_BYTES / piece));
}

/* Gives pieces to libtorrent that came to the store by another way. */
void feed_some(const std::shared_ptr<torrent_state> &t)
{
    std::vector<std::uint32_t> pieces;
    {
        std::lock_guard<std::mutex> lock(t->owner->mutex);

        if (!t->is_ready || t->is_adding || t->is_removed)
            return;
        for (auto i = t->feeding.begin(); i != t->feeding.end();)
            i = clock::now() - i->second > FEED_TIME ? t->feeding.erase(i) : std::next(i);
        while (t->feeding.size() < FEED_MAX && !t->feed.empty()) {
            std::uint32_t piece = t->feed.front();

            t->feed.pop_front();
            if (t->engine_has.get(piece) || !t->store_has.get(piece))
                continue;
            t->feeding[piece] = clock::now();
            pieces.push_back(piece);
        }
    }
    for (std::uint32_t piece : pieces) {
        disk_post_work(t->owner->io, [t, piece] {
            lt::piece_index_t index{ int(piece) };
            std::size_t size = std::size_t(t->info->piece_size(index));
            auto bytes = std::make_shared<std::vector<char>>(size);
            bool is_read = false;

            if (content_begin(t.get())) {
                is_read = t->content.read(t->content.user, piece, bytes->data(), NULL) == DP_OK;
                content_end(t.get());
            }
            if (is_read) {
                tell_engine(t, [index, bytes](const lt::torrent_handle &handle) {
                    handle.add_piece(index, std::move(*bytes));
                });
                return;
            }
            std::lock_guard<std::mutex> lock(t->owner->mutex);
            t->feeding.erase(piece);
        });
    }
}

/* A torrent that is removed and added again, with what the store has. Pump. */
void reconcile(const std::shared_ptr<torrent_state> &t)
{
    session *owner = t->owner;
    std::unique_lock<std::mutex> lock(owner->mutex);
    lt::torrent_handle old = t->handle, fresh;
    std::vector<lt::tcp::endpoint> endpoints;
    piece_bits have(0);
    lt::error_code ec;

    if (t->is_removed)
        return;
    t->is_adding = true;
    t->is_ready = false;
    t->must_reconcile = false;
    t->reconciled = clock::now();
    t->epoch++;
    have = t->engine_has = have_bits(t.get());
    t->drifts.clear();
    t->changed.clear();
    t->feed.clear();
    t->feeding.clear();
    for (auto i = t->wants.begin(); i != t->wants.end();) {
        want &w = i->second;

        if (w.is_active) {
            t->active--;
            t->unwanted -= w.is_unwanted;
            w.is_active = w.has_blocks = false;
            t->queue.insert({ w.deadline, w.number, i->first });
        }
        if (w.is_unwanted && !w.is_active) {
            t->queue.erase({ w.deadline, w.number, i->first });
            i = t->wants.erase(i);
        } else {
            ++i;
        }
    }
    for (const auto &p : t->peers) {
        std::uint16_t port = p.second->listen_port;

        endpoints.emplace_back(p.second->remote.address(), port ? port : p.second->remote.port());
    }
    lock.unlock();

    quietly([&] {
        lt::add_torrent_params params = params_of(t, t->epoch, have);

        params.peers = endpoints;
        owner->engine->remove_torrent(old);
        fresh = owner->engine->add_torrent(std::move(params), ec);
    });
    lock.lock();
    t->is_adding = false;
    t->handle = fresh;
    owner->changed.notify_all();
}

bool is_due(const torrent_state *t, clock::time_point now)
{
    std::uint32_t limit = std::min(std::max(t->piece_count / 100, 1u), DRIFT_MAX);
    auto pause = seconds(t->owner->reconcile_s);

    if (t->is_removed || !t->is_ready || !t->info)
        return false;
    /* What is half here and stays so, its peers being gone, must not keep others out. */
    if ((t->must_reconcile || t->unwanted > active_max(t) / 2) &&
        now - t->reconciled >= std::min<clock::duration>(pause, REWANT_TIME))
        return true;
    return t->drifts.size() >= limit && (t->active == 0 || t->drifts.size() / 4 >= limit) &&
           now - t->reconciled >= pause;
}

/* Connects to known peers that are not there, ever more slowly. */
void reconnect(const std::shared_ptr<torrent_state> &t, clock::time_point now)
{
    std::vector<lt::tcp::endpoint> endpoints;
    {
        std::lock_guard<std::mutex> lock(t->owner->mutex);

        if (t->is_removed)
            return;
        for (known_peer &k : t->known) {
            bool is_here = std::any_of(t->peers.begin(), t->peers.end(), [&](const auto &p) {
                return p.second->remote == k.endpoint ||
                       (p.second->remote.address() == k.endpoint.address() &&
                        p.second->listen_port == k.endpoint.port());
            });

            if (is_here)
                k.tries = 0;
            if (is_here || now < k.next_try)
                continue;
            k.tries = std::min(k.tries + 1, 6u);
            k.next_try = now + seconds(t->wants.empty() ? 1u << k.tries : 1u);
            endpoints.push_back(k.endpoint);
        }
    }
    for (const lt::tcp::endpoint &endpoint : endpoints)
        tell_engine(
            t, [endpoint](const lt::torrent_handle &handle) { handle.connect_peer(endpoint); });
}

void tend(const std::shared_ptr<torrent_state> &t, clock::time_point now)
{
    bool has_news, must_reconcile;
    {
        std::lock_guard<std::mutex> lock(t->owner->mutex);

        has_news = !t->changed.empty();
        must_reconcile = is_due(t.get(), now);
    }
    if (must_reconcile)
        reconcile(t);
    else if (has_news)
        disk_post_network(t->owner->io, [t] { peers_tell(t); });
    if (!t->info)
        return;
    reconnect(t, now);
    feed_some(t);
    activate_wants(t);
}

void tend_bans(session *owner, clock::time_point now)
{
    lt::ip_filter filter;
    {
        std::lock_guard<std::mutex> lock(owner->mutex);

        for (auto i = owner->bans.begin(); i != owner->bans.end();) {
            bool is_over = i->second <= now;

            owner->bans_changed = owner->bans_changed || is_over;
            i = is_over ? owner->bans.erase(i) : std::next(i);
        }
        if (!owner->bans_changed)
            return;
        owner->bans_changed = false;
        for (const auto &ban : owner->bans)
            filter.add_rule(ban.first, ban.first, lt::ip_filter::blocked);
    }
    owner->engine->set_ip_filter(filter);
}

} // namespace

void drop_want(torrent_state *t, std::uint32_t piece)
{
    auto found = t->wants.find(piece);

    if (found == t->wants.end())
        return;
    if (found->second.is_active) {
        t->active--;
        t->unwanted -= found->second.is_unwanted;
    } else {
        t->queue.erase({ found->second.deadline, found->second.number, piece });
    }
    t->wants.erase(found);
}

void tell_engine(const std::shared_ptr<torrent_state> &t,
                 std::function<void(const lt::torrent_handle &)> call)
{
    disk_post_network(t->owner->io, [t, call = std::move(call)] {
        lt::torrent_handle handle;
        {
            std::lock_guard<std::mutex> lock(t->owner->mutex);

            if (t->is_removed || t->is_adding)
                return;
            handle = t->handle;
        }
        quietly([&] { call(handle); });
    });
}

void set_deadline(const std::shared_ptr<torrent_state> &t, std::uint32_t piece,
                  clock::time_point deadline)
{
    tell_engine(t, [piece, deadline](const lt::torrent_handle &handle) {
        auto left = std::chrono::duration_cast<milliseconds>(deadline - clock::now()).count();
        lt::piece_index_t index{ int(piece) };

        if (deadline == clock::time_point::max())
            handle.piece_priority(index, lt::default_priority);
        else
            handle.set_piece_deadline(index, int(std::max<std::int64_t>(0, left)));
    });
}

piece_bits have_bits(const torrent_state *t)
{
    return t->owner->shares ? t->store_has : piece_bits(t->piece_count);
}

lt::add_torrent_params params_of(const std::shared_ptr<torrent_state> &t, std::uint32_t epoch,
                                 const piece_bits &have)
{
    lt::add_torrent_params p;

    p.flags &= ~(lt::torrent_flags::auto_managed | lt::torrent_flags::paused);
    p.flags |= lt::torrent_flags::duplicate_is_error | lt::torrent_flags::disable_pex;
    p.save_path = std::to_string(t->id) + "." + std::to_string(epoch);
    p.max_connections = DP_TORRENT_PEERS_MAX;
    p.extensions.push_back(&lt::create_ut_metadata_plugin);
    p.extensions.push_back(&lt::create_smart_ban_plugin);
    p.extensions.push_back([t, epoch](const lt::torrent_handle &, lt::client_data_t) {
        return make_plugin(t, epoch);
    });
    if (t->info) {
        p.ti = std::make_shared<lt::torrent_info>(*t->info);
        p.have_pieces.resize(int(t->piece_count));
        for (std::uint32_t i = 0; i < t->piece_count; i++) {
            if (have.get(i))
                p.have_pieces.set_bit(lt::piece_index_t{ int(i) });
        }
        p.piece_priorities.assign(t->piece_count, lt::dont_download);
    }
    return p;
}

void pump(session *owner)
{
    for (;;) {
        std::vector<std::shared_ptr<torrent_state>> torrents;
        std::vector<lt::alert *> alerts;
        {
            std::unique_lock<std::mutex> lock(owner->mutex);

            if (!owner->is_stopping)
                owner->changed.wait_for(lock, PUMP_TIME);
            if (owner->is_stopping)
                return;
            for (const auto &t : owner->torrents)
                torrents.push_back(t.second);
        }
        quietly([&] {
            owner->engine->pop_alerts(&alerts); /* they are not kept waiting in memory */
            for (const std::shared_ptr<torrent_state> &t : torrents)
                tend(t, clock::now());
            tend_bans(owner, clock::now());
            disk_trim(owner->io);
        });
    }
}
bool content_begin(torrent_state *t)
{
    std::lock_guard<std::mutex> lock(t->owner->mutex);

    if (t->is_removed)
        return false;
    t->callbacks++;
    return true;
}

void content_end(torrent_state *t)
{
    std::lock_guard<std::mutex> lock(t->owner->mutex);

    if (--t->callbacks == 0)
        t->owner->changed.notify_all();
}

void note_engine_has(torrent_state *t, std::uint32_t piece)
{
    std::lock_guard<std::mutex> lock(t->owner->mutex);

    t->engine_has.set(piece, true);
    t->feeding.erase(piece);
}

/* The one place where drift begins and ends. */
void note_store_has(torrent_state *t, std::uint32_t piece, bool has)
{
    std::lock_guard<std::mutex> lock(t->owner->mutex);

    if (has)
        drop_want(t, piece);
    if (t->engine_has.get(piece)) {
        bool was_drift = t->drifts.count(piece) > 0;

        if (was_drift == has) {
            has ? (void)t->drifts.erase(piece) : (void)t->drifts.insert(piece);
            t->changed.push_back(piece);
        }
    } else if (has && !t->store_has.get(piece) && t->owner->shares && !t->delivering.count(piece)) {
        t->feed.push_back(piece); /* what libtorrent brought it has anyway */
    }
    t->store_has.set(piece, has);
}

void activate_wants(const std::shared_ptr<torrent_state> &t)
{
    std::vector<std::pair<std::uint32_t, clock::time_point>> begun;
    {
        std::lock_guard<std::mutex> lock(t->owner->mutex);
        std::uint32_t max, background_max;

        if (!t->is_ready || t->is_adding || t->is_removed || !t->info)
            return;
        max = active_max(t.get());
        background_max = std::max(1u, max - max / 4); /* the rest is for who has a deadline */
        for (auto i = t->queue.begin(); i != t->queue.end();) {
            auto [deadline, number, piece] = *i;
            bool is_background = deadline == clock::time_point::max();

            if (t->active >= (is_background ? background_max : max))
                break;
            if (t->delivering.count(piece) || t->engine_has.get(piece)) {
                /* It comes to what follows delivery, or libtorrent thinks that it has it. */
                t->must_reconcile = t->must_reconcile || !t->delivering.count(piece);
                ++i;
                continue;
            }
            i = t->queue.erase(i);
            t->wants[piece].is_active = true;
            t->active++;
            begun.emplace_back(piece, deadline);
        }
    }
    for (const auto &w : begun)
        set_deadline(t, w.first, w.second);
}

} // namespace dp
