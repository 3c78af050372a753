/* torrent_impl.h - what a session and its torrents are inside: torrent.cpp (the face),
 * torrent_pump.cpp (time and wants), torrent_disk.cpp (bytes) and torrent_peers.cpp
 * (connections) join here. C++ only.
 *
 * Threads  libtorrent's network thread calls peers and disk and must never wait; workers of
 *          the disk call the content; the pump handles time. One mutex, session->mutex, guards
 *          what is marked (m); what is marked (n) belongs to the network thread. Nothing is
 *          called with the mutex held, neither libtorrent nor content.
 *
 *          libtorrent's objects die on its thread alone. A torrent_handle makes such an object
 *          its own for the time of a call: so torrents are called there, by tell_engine.
 *
 * Epochs   Un-having is a torrent removed and added again. Each adding is an epoch; a plugin or
 *          a storage of an epoch that is over is left to die in peace.
 */
#ifndef DP_SWARM_TORRENT_IMPL_H
#define DP_SWARM_TORRENT_IMPL_H

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <libtorrent/add_torrent_params.hpp>
#include <libtorrent/disk_interface.hpp>
#include <libtorrent/extensions.hpp>
#include <libtorrent/io_context.hpp>
#include <libtorrent/session.hpp>
#include <libtorrent/torrent_handle.hpp>

#include "swarm/metainfo_impl.h"

extern "C" {
#include "swarm/torrent.h"
}

namespace dp
{

using clock = std::chrono::steady_clock;

struct session;
struct storage;
class peer;

/* Piece bits in BitTorrent's order. */
struct piece_bits {
    std::vector<std::uint8_t> bytes;

    explicit piece_bits(std::uint32_t count = 0) : bytes((count + 7) / 8)
    {
    }
    bool get(std::uint32_t i) const
    {
        return bytes[i / 8] >> (7 - i % 8) & 1;
    }
    void set(std::uint32_t i, bool is_set)
    {
        std::uint8_t bit = std::uint8_t(0x80 >> i % 8);

        bytes[i / 8] = std::uint8_t(is_set ? bytes[i / 8] | bit : bytes[i / 8] & ~bit);
    }
};

/* One connection, for dp_torrent_peers. */
struct peer_entry {
    std::uint64_t id = 0;
    lt::tcp::endpoint remote;
    std::uint16_t listen_port = 0, http_port = 0;
    bool http_is_tls = false;
    std::string client;
    std::uint64_t bytes = 0;
    double bytes_s = 0;
    std::uint32_t rtt_ms = 0, failures = 0;
    piece_bits bits;
};

/* A piece that libtorrent shall fetch. */
struct want {
    clock::time_point deadline; /* max: in the background */
    std::uint64_t number;       /* in the order of wanting */
    bool is_active;             /* libtorrent knows */
    bool has_blocks;            /* some came: it is finished even when nobody wants it any more */
    bool is_unwanted;
};

/* A peer's place to connect to again. */
struct known_peer {
    lt::tcp::endpoint endpoint;
    clock::time_point next_try;
    std::uint32_t tries;
};

struct torrent_state {
    session *const owner;
    const std::uint32_t id;
    const dp_torrent_content content; /* has NULL: metadata only */
    const std::shared_ptr<lt::torrent_info> info;
    const std::uint32_t piece_count;

    torrent_state(session *session_, std::uint32_t id_, const dp_torrent_content &content_,
                  std::shared_ptr<lt::torrent_info> info_, std::uint32_t piece_count_)
        : owner(session_), id(id_), content(content_), info(std::move(info_)),
          piece_count(piece_count_), store_has(piece_count_), engine_has(piece_count_)
    {
    }

    /* (m) */
    lt::torrent_handle handle;
    std::uint32_t epoch = 0;
    bool is_ready = false, is_removed = false;
    bool is_adding = false;             /* `handle` is not of this epoch yet */
    std::uint32_t callbacks = 0;        /* of content, under way */
    piece_bits store_has, engine_has;   /* who believes what */
    std::set<std::uint32_t> drifts;     /* pieces that the engine has and the store has not */
    std::vector<std::uint32_t> changed; /* of the drift, not yet told to peers */
    std::deque<std::uint32_t> feed;     /* store has, engine has not yet */
    std::map<std::uint32_t, clock::time_point> feeding; /* given to libtorrent, since when */
    std::set<std::uint32_t> delivering;                 /* being handed to the content */
    std::map<std::uint32_t, want> wants;
    std::set<std::tuple<clock::time_point, std::uint64_t, std::uint32_t>> queue; /* not active */
    std::uint32_t active = 0;   /* wants that are active */
    std::uint32_t unwanted = 0; /* active wants that nobody wants any more */
    std::uint64_t want_numbers = 0;
    bool must_reconcile = false; /* something wanted cannot be had otherwise */
    clock::time_point reconciled;
    std::vector<known_peer> known;
    std::map<std::uint64_t, std::shared_ptr<peer_entry>> peers;
    std::uint64_t generation = 1;

    /* (n) */
    std::vector<std::weak_ptr<peer>> connections;
    std::shared_ptr<storage> current;
};

/* A piece on its way: written block by block, hashed, handed over. */
struct partial {
    std::vector<char> bytes; /* with the padding that follows a file in a hybrid, zeros */
    std::uint32_t size;      /* of the file's bytes in it */
    bool is_fed;             /* comes from the store: nobody needs to be told */
    /* (n) libtorrent's, of blocks that are here: they end with the piece. */
    std::vector<std::function<void(const lt::storage_error &)>> writes;
};

/* libtorrent's view of one epoch of a torrent. (n) */
struct storage {
    std::shared_ptr<torrent_state> torrent; /* NULL: nobody's */
    std::uint32_t epoch = 0, number = 0;
    const lt::file_storage *files = nullptr; /* libtorrent's: for its calls, not for workers */
    std::map<std::uint32_t, std::shared_ptr<partial>> partials;
};

/* torrent_disk.cpp */
class disk;
std::unique_ptr<lt::disk_interface> make_disk(session *owner, lt::io_context &network);
/* libtorrent has the piece. Network thread. */
void disk_passed(disk *disk, const std::shared_ptr<torrent_state> &torrent, std::uint32_t epoch,
                 std::uint32_t piece);
/* Runs on a worker; on the network thread. */
void disk_post_work(disk *disk, std::function<void()> work);
void disk_post_network(disk *disk, std::function<void()> work);
/* Forgets pieces that nobody read lately. Any thread. */
void disk_trim(disk *disk);

/* torrent_peers.cpp */
std::shared_ptr<lt::torrent_plugin> make_plugin(std::shared_ptr<torrent_state> torrent,
                                                std::uint32_t epoch);
/* Tells every connection of up to DP_TORRENT_TOLD_AT_ONCE changes. Network thread. */
void peers_tell(const std::shared_ptr<torrent_state> &torrent);

struct session {
    std::uint16_t http_port = 0;
    bool http_is_tls = false, shares = false, listens = false;
    std::uint32_t reconcile_s = 0;
    std::unique_ptr<lt::session> engine;
    disk *io = nullptr; /* libtorrent's; lives as long as engine */
    std::thread pump;
    std::atomic<std::uint64_t> uploaded{ 0 };
    std::atomic<std::uint64_t> peer_numbers{ 0 };

    std::mutex mutex;
    std::condition_variable changed; /* callbacks over, stopping */
    /* (m) */
    bool is_stopping = false;
    std::uint32_t torrent_numbers = 0;
    std::map<std::uint32_t, std::shared_ptr<torrent_state>> torrents;
    std::map<lt::address, clock::time_point> bans;
    bool bans_changed = false;
};

/* torrent_pump.cpp */
void pump(session *owner);
lt::add_torrent_params params_of(const std::shared_ptr<torrent_state> &torrent, std::uint32_t epoch,
                                 const piece_bits &have);
/* What libtorrent is told that we have. Caller holds the mutex. */
piece_bits have_bits(const torrent_state *torrent);
/* Caller holds the mutex. */
void drop_want(torrent_state *torrent, std::uint32_t piece);
void set_deadline(const std::shared_ptr<torrent_state> &torrent, std::uint32_t piece,
                  clock::time_point deadline);
/* Calls libtorrent's torrent on the network thread, in the order of telling; not at all when it
 * is gone by then, or being added again, which begins with nothing asked for. */
void tell_engine(const std::shared_ptr<torrent_state> &torrent,
                 std::function<void(const lt::torrent_handle &)> call);
/* Brackets a call of the content: false when the torrent is removed and must not be called.
 * dp_torrent_remove waits for calls under way. */
bool content_begin(torrent_state *torrent);
void content_end(torrent_state *torrent);
/* libtorrent has it now, or the store has (not) it. */
void note_engine_has(torrent_state *torrent, std::uint32_t piece);
void note_store_has(torrent_state *torrent, std::uint32_t piece, bool has);
/* What libtorrent should work on, as far as memory allows. Any thread, no mutex held. */
void activate_wants(const std::shared_ptr<torrent_state> &torrent);

/* For calls that cannot fail: a torrent that libtorrent has given up is as good as gone. */
template <typename F> void quietly(F body)
{
    try {
        body();
    } catch (const std::exception &) {
    }
}

} // namespace dp

struct dp_torrents {
    dp::session session;
};

struct dp_torrent {
    std::shared_ptr<dp::torrent_state> state;
};

#endif
