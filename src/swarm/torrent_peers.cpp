/* What is said to a peer and heard from it beside libtorrent's own conversation: the HTTP
 * port, the pieces it has, and pieces that left or came back here. */
#include <algorithm>
#include <cstring>

#include <libtorrent/bdecode.hpp>
#include <libtorrent/bitfield.hpp>
#include <libtorrent/entry.hpp>
#include <libtorrent/error_code.hpp>
#include <libtorrent/peer_connection_handle.hpp>
#include <libtorrent/peer_info.hpp>
#include <libtorrent/peer_request.hpp>

#include "swarm/torrent_impl.h"

namespace dp
{
namespace
{

enum message { MESSAGE_HAVE = 4, MESSAGE_REJECT = 16, MESSAGE_EXTENDED = 20 };

void put32(char *at, std::uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = char(value >> (24 - 8 * i));
}

std::string printable(const std::string &text)
{
    std::string out;

    for (char c : text)
        out += (unsigned char)c >= 0x20 && (unsigned char)c < 0x7f ? c : '?';
    return out;
}

std::uint16_t port_of(const lt::bdecode_node &dictionary, const char *key)
{
    std::int64_t port = dictionary.dict_find_int_value(key, 0);

    return std::uint16_t(port > 0 && port < 65536 ? port : 0);
}

} // namespace

/* All of it runs on the network thread. Callbacks that return false leave the message to
 * libtorrent as well. */
class peer final : public lt::peer_plugin
{
  public:
    peer(std::shared_ptr<torrent_state> torrent, std::uint32_t epoch,
         const lt::peer_connection_handle &connection, bool is_refused)
        : torrent_(std::move(torrent)), connection_(connection), epoch_(epoch),
          is_refused_(is_refused)
    {
    }

    lt::tcp::endpoint remote() const
    {
        return connection_.remote();
    }

    std::uint32_t epoch() const
    {
        return epoch_;
    }

    void add_handshake(lt::entry &handshake) override
    {
        const session *owner = torrent_->owner;

        if (owner->http_port) {
            lt::entry &ours = handshake["dp"];

            ours["port"] = owner->http_port;
            ours["tls"] = int(owner->http_is_tls);
        }
    }

    bool on_handshake(lt::span<const char> reserved) override
    {
        if (is_refused_) {
            connection_.disconnect(lt::errors::too_many_connections, lt::operation_t::bittorrent);
            return true;
        }
        has_fast_ = reserved.size() == 8 && (reserved[7] & 4);
        entry_ = std::make_shared<peer_entry>();
        entry_->id = ++torrent_->owner->peer_numbers;
        entry_->remote = connection_.remote();
        entry_->bits = piece_bits(torrent_->piece_count);
        std::lock_guard<std::mutex> lock(torrent_->owner->mutex);
        torrent_->peers[entry_->id] = entry_;
        torrent_->generation++;
        return true;
    }

    bool on_extension_handshake(const lt::bdecode_node &handshake) override
    {
        lt::bdecode_node ours, names;

        if (!entry_ || handshake.type() != lt::bdecode_node::dict_t)
            return true;
        ours = handshake.dict_find_dict("dp");
        names = handshake.dict_find_dict("m");
        {
            std::lock_guard<std::mutex> lock(torrent_->owner->mutex);

            entry_->listen_port = port_of(handshake, "p");
            entry_->http_port = ours ? port_of(ours, "port") : std::uint16_t(0);
            entry_->http_is_tls = ours && ours.dict_find_int_value("tls", 0) == 1;
            entry_->client =
                printable(std::string(handshake.dict_find_string_value("v").substr(0, 47)));
            torrent_->generation++;
        }
        if (names)
            dont_have_id_ = std::uint8_t(names.dict_find_int_value("lt_donthave", 0));
        tell_drift();
        return true;
    }

    bool on_have(lt::piece_index_t piece) override
    {
        return note(piece, true);
    }

    bool on_dont_have(lt::piece_index_t piece) override
    {
        return note(piece, false);
    }

    bool on_bitfield(const lt::bitfield &bits) override
    {
        if (!entry_)
            return false;
        std::lock_guard<std::mutex> lock(torrent_->owner->mutex);
        piece_bits heard(torrent_->piece_count);
        for (std::uint32_t i = 0; i < torrent_->piece_count && int(i) < bits.size(); i++)
            heard.set(i, bits[int(i)]);
        entry_->bits = heard;
        torrent_->generation++;
        return false;
    }

    bool on_have_all() override
    {
        return note_all(true);
    }

    bool on_have_none() override
    {
        return note_all(false);
    }

    /* A piece that the engine believes in and the store has not is refused here. So is who asks
     * for nonsense or too much for long: every refusal is bytes that he may never read. */
    bool on_request(const lt::peer_request &r) override
    {
        std::uint32_t piece = std::uint32_t(static_cast<int>(r.piece));
        bool is_here, is_known;
        {
            std::lock_guard<std::mutex> lock(torrent_->owner->mutex);

            is_known = piece < torrent_->piece_count;
            is_here = is_known && torrent_->store_has.get(piece) && torrent_->owner->shares;
        }
        if (is_here && asked_ < DP_TORRENT_REQUESTS_MAX) {
            asked_++;
            return false;
        }
        if (++refusals_ > DP_TORRENT_REFUSALS_MAX) {
            connection_.disconnect(lt::errors::too_many_requests_when_choked,
                                   lt::operation_t::bittorrent);
            return true;
        }
        if (is_known && !is_here)
            say(piece, false);
        if (has_fast_) {
            char reject[17];

            put32(reject, 13);
            reject[4] = MESSAGE_REJECT;
            put32(reject + 5, piece);
            put32(reject + 9, std::uint32_t(r.start));
            put32(reject + 13, std::uint32_t(r.length));
            connection_.send_buffer(reject, sizeof reject);
        }
        return true;
    }

    void on_disconnect(const lt::error_code &) override
    {
        if (!entry_)
            return;
        std::lock_guard<std::mutex> lock(torrent_->owner->mutex);
        torrent_->peers.erase(entry_->id);
        torrent_->generation++;
    }

    void sent_piece(const lt::peer_request &) override
    {
        asked_ -= asked_ > 0;
    }

    void sent_payload(int bytes) override
    {
        torrent_->owner->uploaded += std::uint64_t(bytes);
    }

    void tick() override
    {
        lt::peer_info info;

        refusals_ -= std::min(refusals_, DP_TORRENT_REFUSALS_MAX / 60);
        if (!entry_)
            return;
        connection_.get_peer_info(info);
        std::lock_guard<std::mutex> lock(torrent_->owner->mutex);
        asked_ = std::uint32_t(std::max(0, info.upload_queue_length));
        entry_->bytes = std::uint64_t(info.total_download);
        entry_->bytes_s = info.payload_down_speed;
        entry_->rtt_ms = std::uint32_t(std::max(0, info.rtt));
        entry_->failures = std::uint32_t(info.num_hashfails + info.failcount);
        if (entry_->client.empty())
            entry_->client = printable(info.client).substr(0, 47);
    }

    /* HAVE, or lt_donthave where the peer knows it. */
    void say(std::uint32_t piece, bool has)
    {
        char text[10];

        if (!entry_ || connection_.is_disconnecting())
            return;
        if (has) {
            put32(text, 5);
            text[4] = MESSAGE_HAVE;
            put32(text + 5, piece);
            connection_.send_buffer(text, 9);
        } else if (dont_have_id_) {
            put32(text, 6);
            text[4] = MESSAGE_EXTENDED;
            text[5] = char(dont_have_id_);
            put32(text + 6, piece);
            connection_.send_buffer(text, 10);
        }
    }

  private:
    bool note(lt::piece_index_t piece, bool has)
    {
        std::uint32_t number = std::uint32_t(static_cast<int>(piece));

        if (entry_ && number < torrent_->piece_count) {
            std::lock_guard<std::mutex> lock(torrent_->owner->mutex);

            entry_->bits.set(number, has);
            torrent_->generation++;
        }
        return false;
    }

    bool note_all(bool has)
    {
        if (entry_) {
            std::lock_guard<std::mutex> lock(torrent_->owner->mutex);

            for (std::uint32_t i = 0; i < torrent_->piece_count; i++)
                entry_->bits.set(i, has);
            torrent_->generation++;
        }
        return false;
    }

    /* libtorrent's bitfield went out before: take back what is not true any more. */
    void tell_drift()
    {
        std::vector<std::uint32_t> drift;
        {
            std::lock_guard<std::mutex> lock(torrent_->owner->mutex);

            for (std::uint32_t piece : torrent_->drifts) {
                drift.push_back(piece);
                if (drift.size() == DP_TORRENT_DRIFT_TOLD_MAX)
                    break;
            }
        }
        for (std::uint32_t piece : drift)
            say(piece, false);
    }

    const std::shared_ptr<torrent_state> torrent_;
    lt::peer_connection_handle connection_;
    const std::uint32_t epoch_;
    const bool is_refused_;
    std::shared_ptr<peer_entry> entry_; /* from the handshake on */
    std::uint8_t dont_have_id_ = 0;
    bool has_fast_ = false;
    std::uint32_t refusals_ = 0, asked_ = 0; /* requests refused; not answered yet */
};

namespace
{

class plugin final : public lt::torrent_plugin
{
  public:
    plugin(std::shared_ptr<torrent_state> torrent, std::uint32_t epoch)
        : torrent_(std::move(torrent)), epoch_(epoch)
    {
    }

    std::shared_ptr<lt::peer_plugin> new_connection(
        const lt::peer_connection_handle &connection) override
    {
        std::vector<std::weak_ptr<peer>> &list = torrent_->connections;
        lt::address address = connection.remote().address();
        std::uint32_t same = 0;

        if (connection.type() != lt::connection_type::bittorrent)
            return nullptr;
        list.erase(std::remove_if(list.begin(), list.end(),
                                  [](const std::weak_ptr<peer> &p) { return p.expired(); }),
                   list.end());
        for (const std::weak_ptr<peer> &other : list) {
            std::shared_ptr<peer> p = other.lock();

            same += p && p->remote().address() == address;
        }
        auto made = std::make_shared<peer>(torrent_, epoch_, connection,
                                           same >= DP_TORRENT_PER_ADDRESS_MAX);
        list.push_back(made);
        return made;
    }

    void on_piece_pass(lt::piece_index_t piece) override
    {
        disk_passed(torrent_->owner->io, torrent_, epoch_, std::uint32_t(static_cast<int>(piece)));
    }

    void on_files_checked() override
    {
        {
            std::lock_guard<std::mutex> lock(torrent_->owner->mutex);

            if (torrent_->epoch == epoch_)
                torrent_->is_ready = true;
        }
        activate_wants(torrent_);
    }

  private:
    const std::shared_ptr<torrent_state> torrent_;
    const std::uint32_t epoch_;
};

} // namespace

std::shared_ptr<lt::torrent_plugin> make_plugin(std::shared_ptr<torrent_state> torrent,
                                                std::uint32_t epoch)
{
    return std::make_shared<plugin>(std::move(torrent), epoch);
}

void peers_tell(const std::shared_ptr<torrent_state> &torrent)
{
    std::vector<std::pair<std::uint32_t, bool>> news;
    {
        std::lock_guard<std::mutex> lock(torrent->owner->mutex);
        std::vector<std::uint32_t> &changed = torrent->changed;
        std::size_t count = std::min<std::size_t>(changed.size(), DP_TORRENT_TOLD_AT_ONCE);

        for (std::size_t i = 0; i < count; i++)
            news.emplace_back(changed[i], torrent->store_has.get(changed[i]));
        changed.erase(changed.begin(), changed.begin() + std::ptrdiff_t(count));
    }
    for (const std::weak_ptr<peer> &connection : torrent->connections) {
        std::shared_ptr<peer> p = connection.lock();

        for (const auto &n : news) {
            if (p)
                p->say(n.first, n.second);
        }
    }
}

} // namespace dp
