/* What libtorrent would accept and we would not is refused before libtorrent's own parser
 * sees more than tokens: it repairs names, follows links and has bounds of its own. */
#include <algorithm>
#include <cstring>
#include <new>

#include <libtorrent/bdecode.hpp>
#include <libtorrent/create_torrent.hpp>
#include <libtorrent/error_code.hpp>
#include <libtorrent/hex.hpp>

#include "swarm/metainfo_impl.h"

extern "C" {
#include "base/utf8.h"
}

namespace
{

/* A file as the file tree has it; strings lie in the bytes that are parsed. */
struct tree_file {
    std::string path;
    std::int64_t size;
};

struct tree_walk {
    const char *name; /* of the torrent, for sentences */
    dp_error *err;
    std::vector<tree_file> files;
};

/* Runs what may throw, inside the C face. */
template <typename F> dp_status guarded(const char *name, dp_status kind, dp_error *err, F body)
{
    try {
        return body();
    } catch (const std::bad_alloc &) {
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for its metadata", name);
    } catch (const std::exception &e) {
        return dp_fail(err, kind, "%s: %s", name, e.what());
    }
}

/* A name that is a file name on every system and in a URL. */
bool is_file_name(lt::string_view name)
{
    dp_str text = { name.data(), name.size() };

    if (name.empty() || name.size() > DP_METAINFO_NAME_MAX || name == "." || name == "..")
        return false;
    for (char c : name) {
        if ((unsigned char)c < 0x20 || c == 0x7f || c == '/' || c == '\\')
            return false;
    }
    return dp_utf8_is_valid(text);
}

/* Text from outside as it may stand in a sentence. */
std::string quoted(lt::string_view text)
{
    std::string out(text.substr(0, 64));

    for (char &c : out) {
        if ((unsigned char)c < 0x20 || (unsigned char)c >= 0x7f)
            c = '?';
    }
    return out;
}

dp_status walk_file(tree_walk *walk, const std::string &path, const lt::bdecode_node &file)
{
    std::int64_t size = file.dict_find_int_value("length", -1);
    lt::string_view attributes = file.dict_find_string_value("attr");

    if (attributes.find('l') != lt::string_view::npos)
        return dp_fail(walk->err, DP_E_UNSUPPORTED, "%s: %s is a symbolic link", walk->name,
                       quoted(path).c_str());
    if (size < 0 || size > lt::file_storage::max_file_size)
        return dp_fail(walk->err, DP_E_CORRUPT, "%s: %s has no size", walk->name,
                       quoted(path).c_str());
    if (walk->files.size() >= DP_LAYOUT_FILES_MAX)
        return dp_fail(walk->err, DP_E_LIMIT, "%s: more than %d files", walk->name,
                       DP_LAYOUT_FILES_MAX);
    walk->files.push_back({ path, size });
    return DP_OK;
}

/* Depth is bounded by bdecode. */
dp_status walk_tree(tree_walk *walk, const std::string &folder, const lt::bdecode_node &tree)
{
    dp_status st = DP_OK;

    for (int i = 0; i < tree.dict_size() && !st; i++) {
        auto entry = tree.dict_at(i);
        std::string path = folder + std::string(entry.first);
        const lt::bdecode_node &node = entry.second;

        if (!is_file_name(entry.first) || path.size() > DP_METAINFO_PATH_MAX)
            return dp_fail(walk->err, DP_E_UNSUPPORTED, "%s: \"%s\" cannot be a file's name",
                           walk->name, quoted(path).c_str());
        if (node.type() != lt::bdecode_node::dict_t)
            return dp_fail(walk->err, DP_E_CORRUPT, "%s: %s is neither a file nor a folder",
                           walk->name, quoted(path).c_str());
        /* A file is a folder with one entry that has no name. */
        if (node.dict_size() == 1 && node.dict_at(0).first.empty()) {
            if (node.dict_at(0).second.type() != lt::bdecode_node::dict_t)
                return dp_fail(walk->err, DP_E_CORRUPT, "%s: %s says nothing of itself", walk->name,
                               quoted(path).c_str());
            st = walk_file(walk, path, node.dict_at(0).second);
        } else {
            st = walk_tree(walk, path + "/", node);
        }
    }
    return st;
}

/* The list of a hybrid's v1 half, before libtorrent resolves links in it. */
dp_status check_v1_files(const char *name, const lt::bdecode_node &info, dp_error *err)
{
    lt::bdecode_node list = info.dict_find_list("files");

    if (list && list.list_size() > 2 * DP_LAYOUT_FILES_MAX)
        return dp_fail(err, DP_E_LIMIT, "%s: %d files and paddings, at most %d", name,
                       list.list_size(), 2 * DP_LAYOUT_FILES_MAX);
    for (int i = 0; list && i < list.list_size(); i++) {
        lt::bdecode_node file = list.list_at(i);

        if (file.type() != lt::bdecode_node::dict_t)
            return dp_fail(err, DP_E_CORRUPT, "%s: its list of files holds something else", name);
        if (file.dict_find_string_value("attr").find('l') != lt::string_view::npos)
            return dp_fail(err, DP_E_UNSUPPORTED, "%s: one of its files is a symbolic link", name);
    }
    return DP_OK;
}

/* What is checked on the tokens alone: out->name, paths, is_folder, and sizes in *files. */
dp_status check_info(dp_metainfo *out, std::vector<tree_file> *files, const char *name,
                     const lt::bdecode_node &root, dp_error *err)
{
    lt::bdecode_node info, tree;
    tree_walk walk = { name, err, {} };
    dp_status st;

    if (root.type() == lt::bdecode_node::dict_t)
        info = root.dict_find_dict("info");
    if (!info)
        return dp_fail(err, DP_E_CORRUPT, "%s: no torrent: it has no \"info\"", name);
    if (info.dict_find_int_value("meta version", 1) != 2)
        return dp_fail(err, DP_E_UNSUPPORTED,
                       "%s: the torrent has no v2 hashes, and SHA-1 does not verify", name);
    tree = info.dict_find_dict("file tree");
    if (!tree)
        return dp_fail(err, DP_E_CORRUPT, "%s: the torrent has no \"file tree\"", name);
    std::string given(info.dict_find_string_value("name.utf-8"));
    if (given.empty())
        given = std::string(info.dict_find_string_value("name"));
    if (!is_file_name(given))
        return dp_fail(err, DP_E_UNSUPPORTED, "%s: the torrent's name \"%s\" is no file's name",
                       name, quoted(given).c_str());
    st = walk_tree(&walk, "", tree);
    if (!st)
        st = check_v1_files(name, info, err);
    if (st)
        return st;

    out->name = given;
    out->is_folder =
        bool(info.dict_find_list("files")) || walk.files.size() != 1 || walk.files[0].path != given;
    for (const tree_file &file : walk.files)
        out->paths.push_back(file.path);
    *files = std::move(walk.files);

    std::vector<std::string> sorted = out->paths;
    std::sort(sorted.begin(), sorted.end());
    auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice != sorted.end())
        return dp_fail(err, DP_E_CORRUPT, "%s: two files are called %s", name,
                       quoted(*twice).c_str());
    return DP_OK;
}

/* The hashes of one file, agreeing with its root. */
dp_status bind_hashes(dp_layout_file *file, const lt::torrent_info &info, lt::file_index_t index,
                      const char *name, dp_error *err)
{
    static const dp_hash none = {};
    lt::span<const char> layer = info.piece_layer(index);
    std::uint32_t count = dp_pieces_count(file->pieces);
    lt::sha256_hash root = info.files().root(index);
    dp_hash sum;
    dp_status st;

    file->hashes = &none;
    if (count == 0)
        return DP_OK;
    if (layer.size() != std::ptrdiff_t(count) * DP_HASH_SIZE)
        return dp_fail(err, DP_E_CORRUPT, "%s: %zu bytes of piece hashes of %s, expected %zu", name,
                       size_t(layer.size()), quoted(file->path).c_str(),
                       size_t(count) * DP_HASH_SIZE);
    file->hashes = reinterpret_cast<const dp_hash *>(layer.data());
    st = dp_file_root(&sum, file->pieces, file->hashes, err);
    if (!st && std::memcmp(sum.bytes, root.data(), DP_HASH_SIZE) != 0)
        st = dp_fail(err, DP_E_CORRUPT, "%s: the piece hashes of %s do not add up to its root",
                     name, quoted(file->path).c_str());
    return st;
}

/* The layout from libtorrent's file list, which has padding between our files. */
dp_status bind_layout(dp_metainfo *m, const std::vector<tree_file> &files, const char *name,
                      dp_error *err)
{
    const lt::file_storage &fs = m->info->files();
    std::uint32_t piece_size = std::uint32_t(fs.piece_length());
    std::uint64_t first = 0;
    size_t at = 0;
    dp_status st = DP_OK;

    for (lt::file_index_t i : fs.file_range()) {
        if (fs.pad_file_at(i))
            continue;
        if (at >= files.size() || fs.file_size(i) != files[at].size ||
            std::uint64_t(fs.file_offset(i)) != first * piece_size)
            return dp_fail(err, DP_E_CORRUPT, "%s: its two lists of files differ", name);

        dp_layout_file file = {};
        file.path = m->paths[at++].c_str();
        file.pieces = { std::uint64_t(fs.file_size(i)), piece_size };
        file.first_piece = std::uint32_t(first);
        st = bind_hashes(&file, *m->info, i, name, err);
        if (st)
            return st;
        m->files.push_back(file);
        first += dp_pieces_count(file.pieces);
    }
    if (at != files.size() || first != std::uint64_t(m->info->num_pieces()))
        return dp_fail(err, DP_E_CORRUPT, "%s: %d pieces, its files have %llu", name,
                       m->info->num_pieces(), (unsigned long long)first);
    m->layout = { m->files.data(), std::uint32_t(m->files.size()), piece_size,
                  std::uint32_t(first) };
    return DP_OK;
}

bool is_url_of(lt::string_view url, std::initializer_list<lt::string_view> schemes)
{
    if (url.size() > DP_METAINFO_URL_MAX)
        return false;
    for (char c : url) {
        if ((unsigned char)c <= 0x20 || (unsigned char)c >= 0x7f)
            return false;
    }
    return std::any_of(schemes.begin(), schemes.end(), [&](lt::string_view scheme) {
        return url.substr(0, scheme.size()) == scheme;
    });
}

void keep_url(std::vector<std::string> *urls, const std::string &url)
{
    if (urls->size() < DP_METAINFO_URLS_MAX &&
        std::find(urls->begin(), urls->end(), url) == urls->end())
        urls->push_back(url);
}

void bind_urls(dp_metainfo *m)
{
    for (const lt::announce_entry &tracker : m->info->trackers()) {
        if (is_url_of(tracker.url, { "http://", "https://", "udp://" }))
            keep_url(&m->trackers, tracker.url);
    }
    for (const lt::web_seed_entry &seed : m->info->web_seeds()) {
        std::string url = seed.url;

        if (m->is_folder && !url.empty() && url.back() != '/')
            url += '/';
        if (seed.type == lt::web_seed_entry::url_seed && is_url_of(url, { "http://", "https://" }))
            keep_url(&m->web_seeds, url);
    }
    for (const std::string &url : m->trackers)
        m->tracker_pointers.push_back(url.c_str());
    for (const std::string &url : m->web_seeds)
        m->web_seed_pointers.push_back(url.c_str());
}

dp_status parse(std::unique_ptr<dp_metainfo> *out, const char *name, const char *bytes, size_t size,
                dp_error *err)
{
    auto m = std::make_unique<dp_metainfo>();
    std::vector<tree_file> files;
    lt::bdecode_node root;
    lt::error_code ec;
    int at = 0;
    dp_status st;

    if (size > DP_METAINFO_BYTES_MAX)
        return dp_fail(err, DP_E_LIMIT, "%s: %zu bytes, at most %zu", name, size,
                       DP_METAINFO_BYTES_MAX);
    m->bytes.assign(bytes, bytes + size);
    root = lt::bdecode(m->bytes, ec, &at, DP_METAINFO_DEPTH_MAX + 8, DP_METAINFO_TOKENS);
    if (ec == lt::bdecode_errors::limit_exceeded || ec == lt::bdecode_errors::depth_exceeded)
        return dp_fail(err, DP_E_LIMIT, "%s: byte %d: %s", name, at, ec.message().c_str());
    if (ec)
        return dp_fail(err, DP_E_CORRUPT, "%s: no torrent: byte %d: %s", name, at,
                       ec.message().c_str());
    st = check_info(m.get(), &files, name, root, err);
    if (st)
        return st;
    m->info = std::make_shared<lt::torrent_info>(root, ec);
    if (ec == lt::errors::too_many_pieces_in_torrent)
        return dp_fail(err, DP_E_LIMIT, "%s: more than %u pieces", name, DP_LAYOUT_PIECES_MAX);
    if (ec)
        return dp_fail(err, DP_E_CORRUPT, "%s: %s", name, ec.message().c_str());
    if (m->info->piece_length() > int(DP_PIECE_SIZE_MAX))
        return dp_fail(err, DP_E_LIMIT, "%s: pieces of %d bytes, at most %u", name,
                       m->info->piece_length(), DP_PIECE_SIZE_MAX);
    std::memcpy(m->v2.bytes, m->info->info_hashes().v2.data(), DP_HASH_SIZE);
    st = bind_layout(m.get(), files, name, err);
    if (st)
        return st;
    bind_urls(m.get());
    *out = std::move(m);
    return DP_OK;
}

dp_status check_config(const dp_metainfo_config *c, dp_error *err)
{
    if (!is_file_name(c->name))
        return dp_fail(err, DP_E_INVALID, "torrent: \"%s\" is no file's name", c->name);
    if (c->layout->file_count < 1 || c->layout->file_count > DP_LAYOUT_FILES_MAX)
        return dp_fail(err, DP_E_INVALID, "%s: %u files, expected 1 .. %d", c->name,
                       c->layout->file_count, DP_LAYOUT_FILES_MAX);
    if (c->tracker_count > DP_METAINFO_URLS_MAX || c->web_seed_count > DP_METAINFO_URLS_MAX)
        return dp_fail(err, DP_E_LIMIT, "%s: at most %d trackers and %d web seeds", c->name,
                       DP_METAINFO_URLS_MAX, DP_METAINFO_URLS_MAX);
    for (std::uint32_t i = 0; i < c->layout->file_count; i++) {
        const dp_layout_file *file = &c->layout->files[i];

        if (!file->hashes || !file->pieces.file_size ||
            file->pieces.piece_size != c->layout->piece_size)
            return dp_fail(err, DP_E_INVALID, "%s: %s is empty or not hashed", c->name,
                           c->names[i]);
        if (i && std::strcmp(c->names[i - 1], c->names[i]) >= 0)
            return dp_fail(err, DP_E_INVALID, "%s: %s stands before %s: names are sorted", c->name,
                           c->names[i - 1], c->names[i]);
    }
    for (size_t i = 0; i < c->tracker_count; i++) {
        if (!is_url_of(c->trackers[i], { "http://", "https://", "udp://" }))
            return dp_fail(err, DP_E_INVALID, "%s: \"%s\" is no tracker's URL", c->name,
                           c->trackers[i]);
    }
    for (size_t i = 0; i < c->web_seed_count; i++) {
        if (!is_url_of(c->web_seeds[i], { "http://", "https://" }))
            return dp_fail(err, DP_E_INVALID, "%s: \"%s\" is no web seed's URL", c->name,
                           c->web_seeds[i]);
    }
    return DP_OK;
}

std::vector<char> generate(const dp_metainfo_config *c)
{
    const dp_layout *layout = c->layout;
    bool is_folder = layout->file_count > 1 || std::strcmp(c->name, c->names[0]) != 0;
    lt::create_flags_t flags = lt::create_torrent::canonical_files_no_tail_padding;
    lt::file_storage fs;
    std::uint32_t at = 0;

    if (!c->sha1)
        flags |= lt::create_torrent::v2_only;
    for (std::uint32_t i = 0; i < layout->file_count; i++)
        fs.add_file(is_folder ? std::string(c->name) + "/" + c->names[i] : c->name,
                    std::int64_t(layout->files[i].pieces.file_size));
    lt::create_torrent torrent(fs, int(layout->piece_size), flags);
    for (lt::file_index_t i : torrent.file_range()) {
        if (fs.pad_file_at(i))
            continue;
        const dp_layout_file *file = &layout->files[at++];
        for (std::uint32_t p = 0; p < dp_pieces_count(file->pieces); p++)
            torrent.set_hash2(i, lt::piece_index_t::diff_type(int(p)),
                              lt::sha256_hash(reinterpret_cast<const char *>(&file->hashes[p])));
    }
    for (int p = 0; c->sha1 && p < torrent.num_pieces(); p++)
        torrent.set_hash(lt::piece_index_t(p),
                         lt::sha1_hash(reinterpret_cast<const char *>(c->sha1[p])));
    for (size_t i = 0; i < c->tracker_count; i++)
        torrent.add_tracker(c->trackers[i], int(i));
    for (size_t i = 0; i < c->web_seed_count; i++)
        torrent.add_url_seed(c->web_seeds[i]);
    torrent.set_priv(c->is_private);
    torrent.set_creation_date(0); /* the same files give the same bytes */
    if (c->creator)
        torrent.set_creator(c->creator);
    return torrent.generate_buf();
}

/* 32 characters of RFC 4648's base 32 are 20 bytes. */
bool parse_base32(lt::string_view text, std::uint8_t out[20])
{
    std::uint64_t bits = 0;
    int count = 0;

    for (char c : text) {
        int lower = c | 0x20, digit;

        if (lower >= 'a' && lower <= 'z')
            digit = lower - 'a';
        else if (c >= '2' && c <= '7')
            digit = c - '2' + 26;
        else
            return false;
        bits = bits << 5 | std::uint64_t(digit);
        count += 5;
        if (count >= 8) {
            count -= 8;
            *out++ = std::uint8_t(bits >> count);
        }
    }
    return true;
}

bool parse_hex(lt::string_view text, std::uint8_t *out)
{
    for (size_t i = 0; i < text.size(); i++) {
        int lower = text[i] | 0x20, digit;

        if (text[i] >= '0' && text[i] <= '9')
            digit = text[i] - '0';
        else if (lower >= 'a' && lower <= 'f')
            digit = lower - 'a' + 10;
        else
            return false;
        out[i / 2] = std::uint8_t(i % 2 ? out[i / 2] | digit : digit << 4);
    }
    return true;
}

/* One "urn:bt..."; false when it is one of BitTorrent's and no hash. */
bool parse_topic(dp_magnet *out, std::string urn)
{
    static const char v1[] = "urn:btih:", v2[] = "urn:btmh:1220";

    for (size_t at = urn.find('%'); at != std::string::npos; at = urn.find('%', at + 1)) {
        std::uint8_t byte = 0;

        if (at + 3 > urn.size() || !parse_hex(lt::string_view(urn).substr(at + 1, 2), &byte))
            return false;
        urn.replace(at, 3, 1, char(byte));
    }
    if (urn.compare(0, 9, v1) == 0) {
        lt::string_view hash = lt::string_view(urn).substr(9);

        out->has_v1 = hash.size() == 40   ? parse_hex(hash, out->v1)
                      : hash.size() == 32 ? parse_base32(hash, out->v1)
                                          : false;
        return out->has_v1;
    }
    if (urn.compare(0, 9, v2, 9) == 0) {
        lt::string_view hash = lt::string_view(urn).substr(std::min(urn.size(), sizeof v2 - 1));

        out->has_v2 = urn.compare(0, sizeof v2 - 1, v2) == 0 && hash.size() == 64 &&
                      parse_hex(hash, out->v2.bytes);
        return out->has_v2;
    }
    return true; /* somebody else's */
}

dp_status parse_magnet(dp_magnet *out, lt::string_view uri, dp_error *err)
{
    static const char prefix[] = "magnet:?";

    if (uri.substr(0, sizeof prefix - 1) != prefix || uri.size() > DP_MAGNET_BYTES_MAX)
        return dp_fail(err, DP_E_INVALID, "\"%s\" is no magnet link", quoted(uri).c_str());
    uri = uri.substr(sizeof prefix - 1);
    while (!uri.empty()) {
        size_t end = std::min(uri.find('&'), uri.size()), equals = uri.find('=');

        /* "xt=" and, of several, "xt.1=" */
        if (equals < end && (uri.substr(0, 3) == "xt=" || uri.substr(0, 3) == "xt.") &&
            !parse_topic(out, std::string(uri.substr(equals + 1, end - equals - 1))))
            return dp_fail(err, DP_E_INVALID, "magnet link: \"%s\" is no info-hash",
                           quoted(uri.substr(0, end)).c_str());
        uri = uri.substr(std::min(end + 1, uri.size()));
    }
    if (!out->has_v1 && !out->has_v2)
        return dp_fail(err, DP_E_INVALID, "magnet link: it has no info-hash");
    return DP_OK;
}

} // namespace

extern "C" {

dp_status dp_metainfo_parse(dp_metainfo **out, const char *name, const void *bytes, size_t size,
                            dp_error *err)
{
    *out = NULL;
    return guarded(name, DP_E_CORRUPT, err, [&] {
        std::unique_ptr<dp_metainfo> m;
        dp_status st = parse(&m, name, static_cast<const char *>(bytes), size, err);

        *out = m.release();
        return st;
    });
}

void dp_metainfo_close(dp_metainfo *m)
{
    delete m;
}

const dp_layout *dp_metainfo_layout(const dp_metainfo *m)
{
    return &m->layout;
}

const char *dp_metainfo_name(const dp_metainfo *m)
{
    return m->name.c_str();
}

bool dp_metainfo_is_folder(const dp_metainfo *m)
{
    return m->is_folder;
}

bool dp_metainfo_is_private(const dp_metainfo *m)
{
    return m->info->priv();
}

const dp_hash *dp_metainfo_info_v2(const dp_metainfo *m)
{
    return &m->v2;
}

bool dp_metainfo_info_v1(const dp_metainfo *m, uint8_t out[20])
{
    const lt::info_hash_t &hashes = m->info->info_hashes();

    if (hashes.has_v1())
        std::memcpy(out, hashes.v1.data(), 20);
    return hashes.has_v1();
}

size_t dp_metainfo_trackers(const dp_metainfo *m, const char *const **out)
{
    *out = m->tracker_pointers.data();
    return m->tracker_pointers.size();
}

size_t dp_metainfo_web_seeds(const dp_metainfo *m, const char *const **out)
{
    *out = m->web_seed_pointers.data();
    return m->web_seed_pointers.size();
}

const void *dp_metainfo_bytes(const dp_metainfo *m, size_t *size)
{
    *size = m->bytes.size();
    return m->bytes.data();
}

uint32_t dp_metainfo_piece_size(uint64_t slice, uint64_t total_bytes)
{
    uint32_t size = 256 << 10;

    while (size < 2 << 20 && size * 2 <= slice / 16)
        size *= 2;
    while (size < DP_PIECE_SIZE_MAX && total_bytes / size >= DP_LAYOUT_PIECES_MAX)
        size *= 2;
    return size;
}

dp_status dp_metainfo_make(dp_metainfo **out, const dp_metainfo_config *config, dp_error *err)
{
    dp_status st = check_config(config, err);

    *out = NULL;
    if (st)
        return st;
    return guarded(config->name, DP_E_INVALID, err, [&] {
        std::vector<char> bytes = generate(config);

        return dp_metainfo_parse(out, config->name, bytes.data(), bytes.size(), err);
    });
}

dp_status dp_magnet_parse(dp_magnet *out, const char *uri, dp_error *err)
{
    *out = dp_magnet();
    return guarded("magnet link", DP_E_INVALID, err, [&] { return parse_magnet(out, uri, err); });
}
}
