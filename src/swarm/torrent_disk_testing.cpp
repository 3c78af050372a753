#include "swarm/torrent_disk_testing.h"

#include <libtorrent/disk_buffer_holder.hpp>
#include <libtorrent/performance_counters.hpp>

#include "swarm/torrent_impl.h"

namespace
{

struct counts {
    const std::thread::id network = std::this_thread::get_id();
    std::atomic<std::uint32_t> answers{ 0 }, errors{ 0 }, alive{ 0 }, strays{ 0 };

    void answer(const lt::storage_error &error)
    {
        answers++;
        errors += bool(error);
    }
};

/* What a torrent or a connection is to a handler. */
struct held {
    counts *all;

    explicit held(counts *all_) : all(all_)
    {
        all->alive++;
    }
    held(const held &) = delete;
    ~held()
    {
        all->alive--;
        all->strays += std::this_thread::get_id() != all->network;
    }
};

lt::peer_request block_of(std::uint32_t piece)
{
    lt::peer_request r;

    r.piece = lt::piece_index_t{ int(piece) };
    r.start = 0;
    r.length = DP_PIECE_BLOCK;
    return r;
}

} // namespace

struct disk_case {
    counts all;
    dp::session owner;
    std::shared_ptr<dp::torrent_state> torrent;
    std::unique_ptr<lt::file_storage> files;
    lt::io_context network;
    std::unique_ptr<lt::disk_interface> disk;
    lt::storage_holder storage;
    lt::storage_index_t number{ 0 };
    std::vector<std::unique_ptr<std::vector<lt::sha256_hash>>> hashes; /* asked for */

    std::shared_ptr<held> hold()
    {
        return std::make_shared<held>(&all);
    }
};

static void add(disk_case *c)
{
    lt::aux::vector<lt::download_priority_t, lt::file_index_t> priorities;

    std::string path = "1.0"; /* params refers to it */
    lt::sha1_hash hash;

    c->files = std::make_unique<lt::file_storage>(c->torrent->info->files());
    lt::storage_params params(*c->files, nullptr, path, lt::storage_mode_sparse, priorities, hash);
    c->storage = c->disk->new_torrent(params, nullptr);
    c->number = c->storage;
}

disk_case *disk_case_open(const dp_metainfo *metainfo, const dp_torrent_content *content)
{
    auto c = std::make_unique<disk_case>();

    c->owner.shares = true;
    c->torrent = std::make_shared<dp::torrent_state>(&c->owner, 1, *content, metainfo->info,
                                                     metainfo->layout.piece_count);
    c->owner.torrents[1] = c->torrent;
    c->disk = dp::make_disk(&c->owner, c->network);
    add(c.get());
    return c.release();
}

void disk_case_close(disk_case *c)
{
    delete c;
}

void disk_case_write(disk_case *c, uint32_t piece, const void *bytes, uint32_t size)
{
    lt::peer_request r = block_of(piece);

    for (std::uint32_t at = 0; at < size; at += DP_PIECE_BLOCK) {
        r.start = int(at);
        r.length = int(std::min(size - at, DP_PIECE_BLOCK));
        c->disk->async_write(
            c->number, r, static_cast<const char *>(bytes) + at, nullptr,
            [c, h = c->hold()](const lt::storage_error &error) { c->all.answer(error); }, {});
    }
}

void disk_case_hash(disk_case *c, uint32_t piece)
{
    c->hashes.push_back(std::make_unique<std::vector<lt::sha256_hash>>(
        std::size_t(c->torrent->info->piece_length()) / DP_PIECE_BLOCK));
    c->disk->async_hash(
        c->number, lt::piece_index_t{ int(piece) }, *c->hashes.back(), {},
        [c, h = c->hold()](lt::piece_index_t, const lt::sha1_hash &,
                           const lt::storage_error &error) { c->all.answer(error); });
}

void disk_case_hash2(disk_case *c, uint32_t piece)
{
    c->disk->async_hash2(
        c->number, lt::piece_index_t{ int(piece) }, 0, {},
        [c, h = c->hold()](lt::piece_index_t, const lt::sha256_hash &,
                           const lt::storage_error &error) { c->all.answer(error); });
}

void disk_case_read(disk_case *c, uint32_t piece)
{
    c->disk->async_read(c->number, block_of(piece),
                        [c, h = c->hold()](lt::disk_buffer_holder, const lt::storage_error &error) {
                            c->all.answer(error);
                        },
                        {});
}

void disk_case_stop_torrent(disk_case *c)
{
    c->disk->async_stop_torrent(c->number,
                                [c, h = c->hold()] { c->all.answer(lt::storage_error()); });
}

void disk_case_remove(disk_case *c)
{
    c->storage.reset();
    c->files.reset();
}

bool disk_case_add_again(disk_case *c)
{
    lt::storage_index_t before = c->number;

    add(c);
    std::swap(before, c->number);
    return before != c->number;
}

void disk_case_abort(disk_case *c)
{
    c->disk->abort(false);
}

bool disk_case_network(disk_case *c, uint32_t ms)
{
    c->network.restart();
    c->network.run_for(std::chrono::milliseconds(ms));
    return c->network.stopped();
}

disk_counts disk_case_counts(const disk_case *c)
{
    return { c->all.answers, c->all.errors, c->all.alive, c->all.strays };
}
