/* libtorrent's disk, over dp_torrent_content. Nothing is written here: blocks that arrive wait in
 * memory until their piece is whole and hashed, then the content gets it. What is read for
 * peers is read a piece at a time, because the store checks whole pieces, and kept for the
 * other blocks of it.
 *
 * libtorrent never forgets a piece that it has, short of a torrent that is added again. So it
 * comes to have only what the content keeps and peers may ask for: the writes of a piece end
 * when the content has seen it, and those of one that was not kept as writes that were given up,
 * which leaves the piece as if it had never been asked for.
 *
 * The end   What libtorrent gives with a job (its handler, and by it a connection or a torrent)
 *           lives and dies on the network thread, whose allocators it uses: a job runs on a worker
 *           and is posted back to be destroyed. libtorrent stops its thread when no work is left
 *           and then destroys the session and this disk; so the disk is work for that thread until
 *           the last worker ended, which is when it was told to stop and every job is done. What
 *           is asked of it later than that is answered on the spot. A storage's number is not used
 *           again: who asks late with the number of one that left gets an error. */
#include <cstring>
#include <functional>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <libtorrent/disk_buffer_holder.hpp>
#include <libtorrent/error_code.hpp>
#include <libtorrent/hasher.hpp>

#include "swarm/torrent_impl.h"

namespace dp
{
namespace
{

constexpr int WORKERS = 3;
constexpr auto CACHE_TIME = std::chrono::seconds(2);

using read_handler = std::function<void(lt::disk_buffer_holder, const lt::storage_error &)>;

lt::storage_error disk_error(boost::system::errc::errc_t code, lt::operation_t operation)
{
    lt::storage_error error;

    error.ec = lt::error_code(code, boost::system::generic_category());
    error.operation = operation;
    return error;
}

/* Of a piece's memory: as long as libtorrent has it, of which so many bytes are the file's. */
struct piece_sizes {
    std::size_t whole;
    std::uint32_t file;
};

/* A piece read for peers; loading while there are no bytes. */
struct cached {
    std::shared_ptr<std::vector<char>> bytes;
    std::vector<std::pair<lt::peer_request, read_handler>> waiters;
    clock::time_point used;
};

} // namespace

class disk final : public lt::disk_interface, public lt::buffer_allocator_interface
{
  public:
    disk(session *owner, lt::io_context &network)
        : owner_(owner), network_(network), keeps_network_(network.get_executor())
    {
        try {
            for (; working_ < WORKERS; working_++)
                workers_.emplace_back([this] { work(); });
        } catch (...) {
            abort(true);
            throw;
        }
    }

    ~disk() override
    {
        abort(true);
    }

    void abort(bool wait) override
    {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            is_stopping_ = true;
        }
        wake_.notify_all();
        if (!wait)
            return;
        for (std::thread &worker : workers_)
            worker.join();
        workers_.clear();
    }

    lt::storage_holder new_torrent(const lt::storage_params &params,
                                   const std::shared_ptr<void> &) override
    {
        auto made = std::make_shared<storage>();
        std::uint32_t id = 0, epoch = 0;
        std::size_t slash = params.path.rfind('/'); /* libtorrent made it absolute */
        const char *name = params.path.c_str() + (slash == std::string::npos ? 0 : slash + 1);

        /* The path is ours: "TORRENT.EPOCH". */
        made->files = &params.files;
        made->number = ++storage_numbers_;
        if (std::sscanf(name, "%u.%u", &id, &epoch) == 2) {
            std::lock_guard<std::mutex> lock(owner_->mutex);
            auto found = owner_->torrents.find(id);

            if (found != owner_->torrents.end())
                made->torrent = found->second;
        }
        made->epoch = epoch;
        if (made->torrent)
            made->torrent->current = made;
        storages_[made->number] = made;
        return lt::storage_holder(lt::storage_index_t{ made->number }, *this);
    }

    void remove_torrent(lt::storage_index_t index) override
    {
        std::shared_ptr<storage> s = at(index);

        if (s && s->torrent && s->torrent->current == s)
            s->torrent->current.reset();
        storages_.erase(static_cast<std::uint32_t>(index));
    }

    void async_read(lt::storage_index_t index, const lt::peer_request &r, read_handler handler,
                    lt::disk_job_flags_t) override
    {
        std::shared_ptr<storage> s = at(index);
        std::uint32_t piece = std::uint32_t(static_cast<int>(r.piece));
        std::shared_ptr<partial> p = s ? arriving(*s, r.piece) : nullptr;

        if (p) {
            give(r, p->bytes, handler);
            return;
        }
        if (!s || !s->torrent || !s->torrent->content.has) {
            refuse(handler, boost::system::errc::no_such_file_or_directory);
            return;
        }
        std::shared_ptr<std::vector<char>> bytes;
        bool must_load = false;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            cached &entry = cache_[{ s->number, piece }];

            entry.used = clock::now();
            bytes = entry.bytes;
            if (!bytes) {
                entry.waiters.emplace_back(r, std::move(handler));
                must_load = entry.waiters.size() == 1;
            }
        }
        if (bytes)
            give(r, *bytes, handler);
        if (must_load)
            push([this, s, piece, sizes = sizes_of(*s, r.piece)] { load(s, piece, sizes); });
    }

    bool async_write(lt::storage_index_t index, const lt::peer_request &r, const char *buffer,
                     std::shared_ptr<lt::disk_observer>,
                     std::function<void(const lt::storage_error &)> handler,
                     lt::disk_job_flags_t) override
    {
        lt::storage_error error;

        try {
            std::shared_ptr<storage> s = at(index);
            std::shared_ptr<partial> p = s ? partial_of(s, r.piece) : nullptr;

            /* Padding stays zero, whatever a peer says it is. */
            if (p && std::uint32_t(r.start) < p->size)
                std::memcpy(p->bytes.data() + r.start, buffer,
                            std::min(std::uint32_t(r.length), p->size - std::uint32_t(r.start)));
            if (p && is_ours(*s, *p)) {
                p->writes.push_back(std::move(handler));
                return false;
            }
            if (!p)
                error = given_up();
        } catch (const std::bad_alloc &) {
            error = disk_error(boost::system::errc::not_enough_memory, lt::operation_t::file_write);
        }
        boost::asio::post(network_, [handler = std::move(handler), error] { handler(error); });
        return false;
    }

    void async_hash(
        lt::storage_index_t index, lt::piece_index_t piece, lt::span<lt::sha256_hash> v2,
        lt::disk_job_flags_t flags,
        std::function<void(lt::piece_index_t, const lt::sha1_hash &, const lt::storage_error &)>
            handler) override
    {
        /* v2 points into what the handler owns: it may be moved but not copied. */
        auto kept = std::make_shared<decltype(handler)>(std::move(handler));
        bool needs_v1 = bool(flags & v1_hash);
        std::shared_ptr<storage> s = at(index);
        std::shared_ptr<partial> p = s ? arriving(*s, piece) : nullptr;
        auto answer = [=](const partial *p) {
            lt::sha1_hash v1;
            lt::storage_error error;

            if (p)
                hash(*p, v2, needs_v1 ? &v1 : nullptr);
            else
                error = disk_error(boost::system::errc::no_such_file_or_directory,
                                   lt::operation_t::file_read);
            boost::asio::post(network_, [=] { (*kept)(piece, v1, error); });
        };

        if (!p || !is_ours(*s, *p)) {
            with_piece(s, piece, answer);
            return;
        }
        push([this, s, piece, p, answer, kept] {
            std::uint32_t number = std::uint32_t(static_cast<int>(piece));

            if (is_right(*s, piece, *p) && !deliver(s, number, p)) {
                forget(s, number, p, [=] { (*kept)(piece, lt::sha1_hash(), given_up()); });
            } else {
                end_writes(p, lt::storage_error());
                answer(p.get());
            }
            settle(s->torrent, number);
        });
    }

    void async_hash2(
        lt::storage_index_t index, lt::piece_index_t piece, int offset, lt::disk_job_flags_t,
        std::function<void(lt::piece_index_t, const lt::sha256_hash &, const lt::storage_error &)>
            handler) override
    {
        with_piece(at(index), piece, [=](const partial *p) {
            lt::sha256_hash hash;
            lt::storage_error error;

            if (!p || std::uint32_t(offset) >= p->size)
                error = disk_error(boost::system::errc::no_such_file_or_directory,
                                   lt::operation_t::file_read);
            else
                hash = lt::hasher256(p->bytes.data() + offset,
                                     int(std::min(p->size - std::uint32_t(offset), DP_PIECE_BLOCK)))
                           .final();
            boost::asio::post(network_, [=] { handler(piece, hash, error); });
        });
    }

    /* Blocks that are fetched again overwrite; those that were right stay. */
    void async_clear_piece(lt::storage_index_t, lt::piece_index_t piece,
                           std::function<void(lt::piece_index_t)> handler) override
    {
        boost::asio::post(network_, [=] { handler(piece); });
    }

    void async_check_files(
        lt::storage_index_t, const lt::add_torrent_params *,
        lt::aux::vector<std::string, lt::file_index_t>,
        std::function<void(lt::status_t, const lt::storage_error &)> handler) override
    {
        boost::asio::post(network_, [=] { handler(lt::status_t::no_error, lt::storage_error()); });
    }

    /* Writes that wait hold connections, and these the torrent. */
    void async_stop_torrent(lt::storage_index_t index, std::function<void()> handler) override
    {
        std::shared_ptr<storage> s = at(index);

        if (s) {
            for (auto &p : s->partials)
                end_writes(p.second, given_up());
        }
        if (handler)
            boost::asio::post(network_, handler);
    }

    void async_release_files(lt::storage_index_t, std::function<void()> handler) override
    {
        if (handler)
            boost::asio::post(network_, handler);
    }

    /* What files are called and where they lie is the store's, not libtorrent's. */
    void async_move_storage(
        lt::storage_index_t, std::string path, lt::move_flags_t,
        std::function<void(lt::status_t, const std::string &, const lt::storage_error &)> handler)
        override
    {
        boost::asio::post(network_, [=] {
            handler(lt::status_t::fatal_disk_error, path,
                    disk_error(boost::system::errc::operation_not_supported,
                               lt::operation_t::file_rename));
        });
    }

    void async_rename_file(
        lt::storage_index_t, lt::file_index_t index, std::string name,
        std::function<void(const std::string &, lt::file_index_t, const lt::storage_error &)>
            handler) override
    {
        boost::asio::post(network_, [=] { handler(name, index, lt::storage_error()); });
    }

    void async_delete_files(lt::storage_index_t, lt::remove_flags_t,
                            std::function<void(const lt::storage_error &)> handler) override
    {
        boost::asio::post(network_, [=] { handler(lt::storage_error()); });
    }

    void async_set_file_priority(
        lt::storage_index_t, lt::aux::vector<lt::download_priority_t, lt::file_index_t> priorities,
        std::function<void(const lt::storage_error &,
                           lt::aux::vector<lt::download_priority_t, lt::file_index_t>)>
            handler) override
    {
        boost::asio::post(network_, [=] { handler(lt::storage_error(), priorities); });
    }

    void update_stats_counters(lt::counters &) const override
    {
    }
    void settings_updated() override
    {
    }
    void submit_jobs() override
    {
    }

    std::vector<lt::open_file_state> get_status(lt::storage_index_t) const override
    {
        return {};
    }

    void free_disk_buffer(char *buffer) override
    {
        delete[] buffer;
    }

    /* The rest is for the session. */

    void passed(const std::shared_ptr<torrent_state> &torrent, std::uint32_t epoch,
                std::uint32_t piece)
    {
        std::shared_ptr<storage> s = torrent->current;

        note_engine_has(torrent.get(), piece);
        if (s && s->epoch == epoch)
            s->partials.erase(piece);
    }

    void post_work(std::function<void()> job)
    {
        push(std::move(job));
    }

    void post_network(std::function<void()> job)
    {
        boost::asio::post(network_, std::move(job));
    }

    void trim()
    {
        std::lock_guard<std::mutex> lock(mutex_);
        trim_locked(DP_TORRENT_CACHE_BYTES, clock::now() - CACHE_TIME);
    }

  private:
    using key = std::pair<std::uint32_t, std::uint32_t>; /* storage's number, piece */

    /* NULL: it left. */
    std::shared_ptr<storage> at(lt::storage_index_t index)
    {
        auto found = storages_.find(static_cast<std::uint32_t>(index));

        return found == storages_.end() ? nullptr : found->second;
    }

    static std::shared_ptr<partial> arriving(const storage &s, lt::piece_index_t piece)
    {
        auto found = s.partials.find(std::uint32_t(static_cast<int>(piece)));

        return found == s.partials.end() ? nullptr : found->second;
    }

    void push(std::function<void()> job)
    {
        {
            std::lock_guard<std::mutex> lock(mutex_);

            if (!is_stopping_) {
                jobs_.push_back(std::move(job));
                wake_.notify_one();
                return;
            }
        }
        quietly([&] { job(); }); /* the network thread's last: no worker would take it */
    }

    void work()
    {
        std::unique_lock<std::mutex> lock(mutex_);

        for (;;) {
            while (jobs_.empty() && !is_stopping_)
                wake_.wait(lock);
            if (jobs_.empty())
                break;
            std::function<void()> job = std::move(jobs_.front());
            jobs_.pop_front();
            lock.unlock();
            quietly([&] { job(); }); /* short of memory, its peer waits until it asks again */
            quietly([&] { boost::asio::post(network_, [job = std::move(job)] {}); });
            lock.lock();
        }
        if (--working_ == 0)
            keeps_network_.reset();
    }

    void refuse(read_handler handler, boost::system::errc::errc_t code)
    {
        lt::storage_error error = disk_error(code, lt::operation_t::file_read);

        boost::asio::post(network_, [handler = std::move(handler), error] {
            handler(lt::disk_buffer_holder(), error);
        });
    }

    void give(const lt::peer_request &r, const std::vector<char> &bytes, read_handler handler)
    {
        char *buffer = nullptr;

        if (r.start >= 0 && r.length > 0 && std::size_t(r.start) + r.length <= bytes.size())
            buffer = new (std::nothrow) char[std::size_t(r.length)];
        if (!buffer) {
            refuse(std::move(handler), boost::system::errc::not_enough_memory);
            return;
        }
        std::memcpy(buffer, bytes.data() + r.start, std::size_t(r.length));
        boost::asio::post(network_, [this, handler = std::move(handler), buffer, size = r.length] {
            handler(lt::disk_buffer_holder(*this, buffer, size), lt::storage_error());
        });
    }

    static piece_sizes sizes_of(const storage &s, lt::piece_index_t piece)
    {
        return { std::size_t(s.files->piece_size(piece)),
                 std::uint32_t(s.files->piece_size2(piece)) };
    }

    static std::shared_ptr<partial> new_partial(piece_sizes sizes)
    {
        auto p = std::make_shared<partial>();

        p->bytes.resize(sizes.whole);
        p->size = sizes.file;
        p->is_fed = false;
        return p;
    }

    std::shared_ptr<partial> partial_of(const std::shared_ptr<storage> &s, lt::piece_index_t piece)
    {
        std::uint32_t number = std::uint32_t(static_cast<int>(piece));
        std::shared_ptr<partial> &p = s->partials[number];

        if (p)
            return p;
        try {
            p = new_partial(sizes_of(*s, piece));
        } catch (...) {
            s->partials.erase(number);
            throw;
        }
        if (s->torrent) {
            std::lock_guard<std::mutex> lock(owner_->mutex);
            auto wanted = s->torrent->wants.find(number);

            p->is_fed = s->torrent->feeding.count(number) > 0;
            if (wanted != s->torrent->wants.end())
                wanted->second.has_blocks = true;
        }
        return p;
    }

    /* From the content, with padding. Worker. */
    bool read(const storage &s, std::uint32_t piece, partial *p)
    {
        bool is_read = false;

        if (s.torrent && s.torrent->content.has && content_begin(s.torrent.get())) {
            is_read = s.torrent->content.read(s.torrent->content.user, piece, p->bytes.data(),
                                              NULL) == DP_OK;
            content_end(s.torrent.get());
        }
        return is_read;
    }

    /* Runs body on a worker with the piece, arriving or there; with NULL when it is neither. */
    void with_piece(const std::shared_ptr<storage> &s, lt::piece_index_t index,
                    std::function<void(const partial *)> body)
    {
        std::uint32_t piece = std::uint32_t(static_cast<int>(index));
        std::shared_ptr<partial> p = s ? arriving(*s, index) : nullptr;
        bool must_read = s && !p;

        try {
            if (must_read)
                p = new_partial(sizes_of(*s, index));
        } catch (const std::bad_alloc &) {
            must_read = false;
        }
        push([this, s, piece, p, must_read, body = std::move(body)] {
            body(must_read && !read(*s, piece, p.get()) ? nullptr : p.get());
        });
    }

    /* Worker. */
    void load(const std::shared_ptr<storage> &s, std::uint32_t piece, piece_sizes sizes)
    {
        std::vector<std::pair<lt::peer_request, read_handler>> waiters;
        std::shared_ptr<std::vector<char>> bytes;

        try {
            std::shared_ptr<partial> p = new_partial(sizes);

            if (read(*s, piece, p.get()))
                bytes = std::make_shared<std::vector<char>>(std::move(p->bytes));
        } catch (const std::bad_alloc &) {
        }
        {
            std::lock_guard<std::mutex> lock(mutex_);
            cached &entry = cache_[{ s->number, piece }];

            waiters = std::move(entry.waiters);
            entry.waiters.clear();
            entry.bytes = bytes;
            entry.used = clock::now();
            if (bytes)
                cache_bytes_ += bytes->size();
            else
                cache_.erase({ s->number, piece });
            trim_locked(DP_TORRENT_CACHE_BYTES, clock::time_point::min());
        }
        for (auto &waiter : waiters) {
            if (bytes)
                give(waiter.first, *bytes, std::move(waiter.second));
            else
                refuse(std::move(waiter.second), boost::system::errc::no_such_file_or_directory);
        }
    }

    /* Down to so many bytes, and nothing used before `since`. Few entries: searched. */
    void trim_locked(std::size_t bytes_max, clock::time_point since)
    {
        for (;;) {
            auto oldest = cache_.end();

            for (auto i = cache_.begin(); i != cache_.end(); ++i) {
                if (i->second.bytes &&
                    (oldest == cache_.end() || i->second.used < oldest->second.used))
                    oldest = i;
            }
            if (oldest == cache_.end() ||
                (cache_bytes_ <= bytes_max && oldest->second.used >= since))
                return;
            cache_bytes_ -= oldest->second.bytes->size();
            cache_.erase(oldest);
        }
    }

    static lt::storage_error given_up()
    {
        lt::storage_error error;

        error.ec = boost::asio::error::operation_aborted;
        error.operation = lt::operation_t::file_write;
        return error;
    }

    /* Whether the piece is on its way to the content, and not from it. */
    static bool is_ours(const storage &s, const partial &p)
    {
        return !p.is_fed && s.torrent && s.torrent->content.has;
    }

    static void hash(const partial &p, lt::span<lt::sha256_hash> v2, lt::sha1_hash *v1)
    {
        for (std::uint32_t i = 0, begin = 0; begin < p.size && i < v2.size(); i++) {
            std::uint32_t size = std::min(p.size - begin, DP_PIECE_BLOCK);

            v2[i] = lt::hasher256(p.bytes.data() + begin, int(size)).final();
            begin += size;
        }
        if (v1)
            *v1 = lt::hasher(p.bytes).final();
    }

    /* Worker. What is wrong is libtorrent's to find out, and whom to blame for it. */
    static bool is_right(const storage &s, lt::piece_index_t piece, const partial &p)
    {
        const lt::torrent_info &info = *s.torrent->info;
        lt::file_index_t file = info.files().file_index_at_piece(piece);
        int first = static_cast<int>(info.files().piece_index_at_file(file));
        lt::span<const char> hashes = info.piece_layer(file);
        dp_pieces pieces = { std::uint64_t(info.files().file_size(file)),
                             std::uint32_t(info.piece_length()) };
        std::size_t in_file = std::size_t(static_cast<int>(piece) - first);
        dp_hash found;

        return std::size_t(hashes.size()) >= (in_file + 1) * DP_HASH_SIZE &&
               !dp_piece_hash(&found, pieces, std::uint32_t(in_file), p.bytes.data(), NULL) &&
               !std::memcmp(&found, hashes.data() + in_file * DP_HASH_SIZE, DP_HASH_SIZE);
    }

    /* Ends the writes of a piece. Once the network thread is told that they ended, none comes. */
    void end_writes(const std::shared_ptr<partial> &p, const lt::storage_error &error)
    {
        boost::asio::post(network_, [p, error] {
            auto writes = std::move(p->writes);

            p->writes.clear();
            for (auto &write : writes)
                write(error);
        });
    }

    /* Worker. Gives the piece to the content; true: libtorrent shall have it as well. The want
     * ends before, so that the next one is a new one; that begins with settle. */
    bool deliver(const std::shared_ptr<storage> &s, std::uint32_t piece,
                 const std::shared_ptr<partial> &p)
    {
        const std::shared_ptr<torrent_state> &t = s->torrent;
        bool is_kept = false;
        {
            std::lock_guard<std::mutex> lock(owner_->mutex);

            t->delivering.insert(piece);
            drop_want(t.get(), piece);
        }
        if (content_begin(t.get())) {
            t->content.arrived(t->content.user, piece, p->bytes.data());
            is_kept = t->content.has(t->content.user, piece);
            content_end(t.get());
        }
        note_store_has(t.get(), piece, is_kept);
        return is_kept && owner_->shares;
    }

    /* Worker. The piece becomes one that libtorrent neither has nor wants; `hashed` tells it
     * that its hash was given up. */
    void forget(const std::shared_ptr<storage> &s, std::uint32_t piece,
                const std::shared_ptr<partial> &p, std::function<void()> hashed)
    {
        tell_engine(s->torrent, [piece](const lt::torrent_handle &handle) {
            handle.reset_piece_deadline(lt::piece_index_t{ int(piece) });
            handle.piece_priority(lt::piece_index_t{ int(piece) }, lt::dont_download);
        });
        boost::asio::post(network_, [s, piece, p, hashed = std::move(hashed)] {
            auto found = s->partials.find(piece);

            if (found != s->partials.end() && found->second == p)
                s->partials.erase(found);
            hashed();
        });
        end_writes(p, given_up());
    }

    /* Worker. */
    void settle(const std::shared_ptr<torrent_state> &t, std::uint32_t piece)
    {
        {
            std::lock_guard<std::mutex> lock(owner_->mutex);
            t->delivering.erase(piece);
        }
        activate_wants(t);
    }

    session *owner_;
    lt::io_context &network_;
    std::map<std::uint32_t, std::shared_ptr<storage>> storages_; /* network thread */
    std::uint32_t storage_numbers_ = 0;

    std::mutex mutex_; /* guards what follows; session->mutex is never taken under it */
    std::condition_variable wake_;
    std::deque<std::function<void()>> jobs_;
    std::map<key, cached> cache_;
    std::size_t cache_bytes_ = 0;
    bool is_stopping_ = false;
    int working_ = 0; /* workers that did not end */
    boost::asio::executor_work_guard<lt::io_context::executor_type> keeps_network_;
    std::vector<std::thread> workers_; /* last: they use all of it */
};

std::unique_ptr<lt::disk_interface> make_disk(session *owner, lt::io_context &network)
{
    auto made = std::make_unique<disk>(owner, network);

    owner->io = made.get();
    return made;
}

void disk_passed(disk *disk, const std::shared_ptr<torrent_state> &torrent, std::uint32_t epoch,
                 std::uint32_t piece)
{
    disk->passed(torrent, epoch, piece);
}

void disk_post_work(disk *disk, std::function<void()> work)
{
    disk->post_work(std::move(work));
}

void disk_post_network(disk *disk, std::function<void()> work)
{
    disk->post_network(std::move(work));
}

void disk_trim(disk *disk)
{
    disk->trim();
}

} // namespace dp
