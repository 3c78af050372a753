#include "swarm/identity.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"
#include "doppler/swarm.h"
#include "swarm/local_files.h"
#include "swarm/percent.h"
#include "swarm/remembered.h"

#define SPLIT_TAIL      20 /* "-00001-of-00003.gguf" */
#define LOOKS_BYTES_MAX ((size_t)512 << 10)

static bool is_url(const char *model)
{
    return strncmp(model, "http://", 7) == 0 || strncmp(model, "https://", 8) == 0;
}

static bool is_magnet(const char *model)
{
    return strncmp(model, "magnet:", 7) == 0;
}

const char *dp_url_base_name(const char *url, size_t *size)
{
    size_t end = is_url(url) ? strcspn(url, "?#") : strlen(url);
    size_t start = end;

    while (start > 0 && url[start - 1] != '/')
        start--;
    *size = end - start;
    return url + start;
}

bool dp_identity_is_torrent(const char *model)
{
    size_t size;
    const char *name = dp_url_base_name(model, &size);

    return is_magnet(model) || (size > 8 && memcmp(name + size - 8, ".torrent", 8) == 0);
}

bool dp_swarm_is_name(const char *model)
{
    return is_url(model) || dp_identity_is_torrent(model);
}

void dp_identity_free(dp_identity *id)
{
    for (uint32_t i = 0; i < id->url_layout.file_count; i++) {
        if (id->urls)
            dp_free(id->urls[i]);
        if (id->names)
            dp_free(id->names[i]);
    }
    dp_free(id->urls);
    dp_free(id->names);
    dp_free(id->looks);
    dp_free(id->url_files);
    dp_free(id->files);
    dp_free(id->parts);
    dp_free(id->name);
    dp_free(id->origin);
    dp_metainfo_close(id->metainfo);
    *id = (dp_identity){ .key = "" };
}

static char *copy(const char *text)
{
    return dp_strndup(text, strlen(text));
}

/* Torrents. */

static dp_status use_metainfo(dp_identity *id, dp_error *err)
{
    dp_hash_hex(id->key, dp_metainfo_info_v2(id->metainfo));
    id->layout = dp_metainfo_layout(id->metainfo);
    id->name = copy(dp_metainfo_name(id->metainfo));
    return id->name ? DP_OK : dp_fail(err, DP_E_NOMEM, "no memory for a name");
}

/* Whether nobody could be asked: then what was learned before counts. */
static bool is_offline(dp_status st)
{
    return st == DP_E_IO || st == DP_E_TIMEOUT;
}

static dp_status fetch_torrent(dp_metainfo **out, const char *url, const dp_identity_config *config,
                               dp_error *err)
{
    uint8_t *bytes;
    size_t size;
    dp_status st = dp_url_get(&bytes, &size, url, DP_METAINFO_BYTES_MAX, config->http,
                              DP_IDENTITY_WAIT_MS, config->stop, config->user, err);

    if (st)
        return st;
    st = dp_metainfo_parse(out, url, bytes, size, err);
    dp_free(bytes);
    return st;
}

static dp_metainfo *recall_torrent(const char *model, const dp_identity_config *config)
{
    dp_metainfo *out = NULL;
    size_t size;
    char *bytes = dp_remembered_read(config->memory, model, &size);

    if (bytes)
        dp_metainfo_parse(&out, model, bytes, size, NULL);
    dp_free(bytes);
    return out;
}

/* Whether the .torrent is the one that the link names. */
static bool is_of_magnet(const dp_metainfo *metainfo, const char *link)
{
    dp_magnet magnet;
    uint8_t v1[20];

    if (dp_magnet_parse(&magnet, link, NULL))
        return false;
    if (magnet.has_v2)
        return dp_hash_equal(&magnet.v2, dp_metainfo_info_v2(metainfo));
    return magnet.has_v1 && dp_metainfo_info_v1(metainfo, v1) && memcmp(v1, magnet.v1, 20) == 0;
}

static void remember_torrent(const dp_metainfo *metainfo, const char *model,
                             const dp_identity_config *config)
{
    size_t size;
    const void *bytes = dp_metainfo_bytes(metainfo, &size);

    dp_remembered_write(config->memory, model, bytes, size);
}

static dp_status find_magnet(dp_identity *id, const char *model, const dp_identity_config *config,
                             dp_error *err)
{
    dp_status st;

    id->metainfo = recall_torrent(model, config);
    if (id->metainfo && is_of_magnet(id->metainfo, model))
        return DP_OK;
    dp_metainfo_close(id->metainfo);
    id->metainfo = NULL;
    if (!config->torrents)
        return dp_fail(err, DP_E_INVALID, "a magnet link needs a node that talks to peers");
    st = dp_torrent_fetch_metainfo(&id->metainfo, config->torrents, model, config->peers,
                                   config->peer_count, DP_IDENTITY_WAIT_MS, config->stop,
                                   config->user, err);
    if (!st)
        remember_torrent(id->metainfo, model, config);
    return st;
}

static dp_status find_torrent(dp_identity *id, const char *model, const dp_identity_config *config,
                              dp_error *err)
{
    dp_status st;

    id->is_local = !is_magnet(model) && !is_url(model);
    if (is_magnet(model)) {
        st = find_magnet(id, model, config, err);
    } else if (is_url(model)) {
        st = fetch_torrent(&id->metainfo, model, config, err);
        if (!st)
            remember_torrent(id->metainfo, model, config);
        if (is_offline(st) && (id->metainfo = recall_torrent(model, config)))
            st = DP_OK;
    } else {
        st = dp_local_metainfo(&id->metainfo, model, err);
    }
    return st ? st : use_metainfo(id, err);
}

dp_status dp_identity_of_torrent(dp_identity *out, const char *torrent_path, dp_error *err)
{
    dp_status st;

    *out = (dp_identity){ .is_local = true };
    st = dp_local_metainfo(&out->metainfo, torrent_path, err);
    if (!st)
        st = use_metainfo(out, err);
    if (st)
        dp_identity_free(out);
    return st;
}

/* URLs. */

/* Of "...-00002-of-00005.gguf" how many parts there are; 1 for all else. */
static uint32_t split_count(const char *name, size_t size)
{
    uint64_t count;

    if (size <= SPLIT_TAIL || name[size - 20] != '-' || memcmp(name + size - 14, "-of-", 4) != 0 ||
        memcmp(name + size - 5, ".gguf", 5) != 0 ||
        !dp_parse_u64((dp_str){ name + size - 10, 5 }, &count) || count == 0 ||
        count > DP_LAYOUT_FILES_MAX)
        return 1;
    return (uint32_t)count;
}

/* The URL of part `part` of `count`: the number is replaced where it stands. */
static char *part_url(const char *url, uint32_t part, uint32_t count)
{
    char *out = copy(url);
    char number[16];
    size_t size;

    if (out && count > 1) {
        const char *name = dp_url_base_name(out, &size);
        snprintf(number, sizeof number, "%05u", part + 1);
        memcpy(out + (name - out) + size - 19, number, 5);
    }
    return out;
}

/* A file's name as a person would write it: decoded, without what no file name has. */
static char *decoded_name(const char *url)
{
    size_t size, n = 0;
    const char *at = dp_url_base_name(url, &size), *end = at + size;
    char *out = dp_alloc_zero(DP_MIN(size, DP_METAINFO_NAME_MAX) + 1, 1);

    while (out && at < end && n < DP_METAINFO_NAME_MAX) {
        char c = *at;
        if (!dp_percent_next(&at, &c))
            at++;
        out[n++] = (unsigned char)c < 0x20 || c == '/' || c == 0x7f ? '_' : c;
    }
    return out;
}

static void hash_url(char key[DP_STORE_KEY_MAX + 1], const char *url)
{
    dp_hash hash = { .bytes = { 0 } };

    EVP_Digest(url, strlen(url), hash.bytes, NULL, EVP_sha256(), NULL);
    dp_hash_hex(key, &hash);
}

/* What the servers said, a line a part: "SIZE TAG". */
static void remember_looks(const dp_identity *id, const char *model,
                           const dp_identity_config *config)
{
    dp_status st = DP_OK;
    dp_buf buf;

    dp_buf_init(&buf, LOOKS_BYTES_MAX);
    for (uint32_t i = 0; i < id->url_layout.file_count && !st; i++)
        st = dp_buf_format(&buf, "%llu %s\n", (unsigned long long)id->looks[i].size,
                           id->looks[i].tag);
    if (!st)
        dp_remembered_write(config->memory, model, buf.bytes, buf.size);
    dp_buf_deinit(&buf);
}

/* False: nothing that fits is remembered. */
static bool recall_looks(dp_identity *id, const char *model, const dp_identity_config *config)
{
    size_t size;
    char *text = dp_remembered_read(config->memory, model, &size), *at = text;
    bool is_good = text != NULL;

    for (uint32_t i = 0; i < id->url_layout.file_count && is_good; i++) {
        dp_url_look *look = &id->looks[i];
        char *space = strchr(at, ' '), *end = space ? strchr(space, '\n') : NULL;

        is_good = end && (size_t)(end - space) <= sizeof look->tag &&
                  dp_parse_u64((dp_str){ at, (size_t)(space - at) }, &look->size);
        if (!is_good)
            break;
        memset(look->tag, 0, sizeof look->tag);
        memcpy(look->tag, space + 1, (size_t)(end - space - 1));
        at = end + 1;
    }
    dp_free(text);
    return is_good;
}

static dp_status look_at_parts(dp_identity *id, const char *model, const dp_identity_config *config,
                               dp_error *err)
{
    dp_status st = DP_OK;

    for (uint32_t i = 0; i < id->url_layout.file_count && !st; i++)
        st = dp_url_look_at(&id->looks[i], id->urls[i], config->http, DP_IDENTITY_WAIT_MS,
                            config->stop, config->user, err);
    if (!st)
        remember_looks(id, model, config);
    id->is_remembered = is_offline(st) && recall_looks(id, model, config);
    return id->is_remembered ? DP_OK : st;
}

static dp_status name_parts(dp_identity *id, const char *model, uint32_t count, dp_error *err)
{
    id->url_files = dp_alloc_zero(count, sizeof *id->url_files);
    id->looks = dp_alloc_zero(count, sizeof *id->looks);
    id->urls = dp_alloc_zero(count, sizeof *id->urls);
    id->names = dp_alloc_zero(count, sizeof *id->names);
    if (!id->url_files || !id->looks || !id->urls || !id->names)
        return dp_fail(err, DP_E_NOMEM, "no memory for a table of %u files", count);
    id->url_layout.file_count = count;
    for (uint32_t i = 0; i < count; i++) {
        const char *name;

        id->urls[i] = part_url(model, i, count);
        id->names[i] = id->urls[i] ? decoded_name(id->urls[i]) : NULL;
        name = id->names[i];
        if (!name)
            return dp_fail(err, DP_E_NOMEM, "no memory for a URL");
        if (!name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            return dp_fail(err, DP_E_INVALID, "%s: the URL of a file ends in its name", model);
        id->url_files[i].path = name;
    }
    return DP_OK;
}

static dp_status find_url(dp_identity *id, const char *model, const dp_identity_config *config,
                          dp_error *err)
{
    size_t size;
    const char *name = dp_url_base_name(model, &size);
    uint32_t count = split_count(name, size);
    uint64_t total = 0;
    dp_status st = name_parts(id, model, count, err);

    if (!st)
        st = look_at_parts(id, model, config, err);
    if (st)
        return st;
    id->has_version = true;
    for (uint32_t i = 0; i < count; i++) {
        id->url_files[i].pieces.file_size = id->looks[i].size;
        id->has_version = id->has_version && id->looks[i].tag[0];
        if (!dp_u64_add(total, id->looks[i].size, &total))
            return dp_fail(err, DP_E_CORRUPT, "%s: sizes that make no sense", model);
    }
    st = dp_layout_number(&id->url_layout, id->url_files, count,
                          total < DP_GIB ? DP_IDENTITY_URL_PIECE_S : DP_IDENTITY_URL_PIECE, model,
                          err);
    if (st)
        return st;
    id->layout = &id->url_layout;
    hash_url(id->key, id->urls[0]);
    id->name = copy(id->names[0]);
    return id->name ? DP_OK : dp_fail(err, DP_E_NOMEM, "no memory for a name");
}

/* Which files are the model. */

static bool is_gguf(const char *path)
{
    size_t size = strlen(path);

    return size > 5 && strcmp(path + size - 5, ".gguf") == 0;
}

/* Whether both are parts of one split model, whose names differ in the number only. */
static bool is_same_split(const char *a, const char *b)
{
    size_t size = strlen(a);

    return size == strlen(b) && split_count(a, size) > 1 && memcmp(a, b, size - 19) == 0 &&
           strcmp(a + size - 14, b + size - 14) == 0;
}

static dp_status find_parts(dp_identity *id, dp_error *err)
{
    const dp_layout *layout = id->layout;
    const char *first = NULL;

    id->files = dp_alloc_zero(layout->file_count, sizeof *id->files);
    id->parts = dp_alloc_zero(layout->file_count, sizeof *id->parts);
    if (!id->files || !id->parts)
        return dp_fail(err, DP_E_NOMEM, "no memory for a table of %u files", layout->file_count);
    for (uint32_t i = 0; i < layout->file_count; i++) {
        const dp_layout_file *file = &layout->files[i];

        if (!is_gguf(file->path) && id->metainfo)
            continue;
        if (first && !is_same_split(first, file->path))
            return dp_fail(err, DP_E_UNSUPPORTED, "%s holds more than one model: %s, %s", id->name,
                           first, file->path);
        first = file->path;
        id->files[id->part_count] = i;
        id->parts[id->part_count] = (dp_source_part){ file->path, file->pieces.file_size };
        id->part_count++;
    }
    if (!first)
        return dp_fail(err, DP_E_UNSUPPORTED, "%s holds no GGUF file", id->name);
    return DP_OK;
}

dp_status dp_identity_find(dp_identity *out, const char *model, const dp_identity_config *config,
                           dp_error *err)
{
    dp_status st;

    *out = (dp_identity){ .key = "" };
    out->origin = copy(model);
    if (!out->origin)
        st = dp_fail(err, DP_E_NOMEM, "no memory for a name");
    else if (dp_identity_is_torrent(model))
        st = find_torrent(out, model, config, err);
    else if (is_url(model))
        st = find_url(out, model, config, err);
    else
        st = dp_fail(err, DP_E_INVALID,
                     "%s: to be mounted a model is named by an http(s) URL, a magnet link or a "
                     ".torrent",
                     model);
    if (!st)
        st = find_parts(out, err);
    if (st)
        dp_identity_free(out);
    return st;
}

const char *dp_identity_tag(const dp_identity *id, uint32_t file, char out[64], int64_t now)
{
    if (id->metainfo)
        return NULL;
    if (id->looks[file].tag[0])
        return id->looks[file].tag;
    snprintf(out, 64, "no version, seen at %lld", (long long)now);
    return out;
}

const char *dp_identity_check(const dp_identity *id)
{
    if (id->metainfo)
        return "sha-256 of every piece";
    if (id->is_remembered)
        return "size and ETag of the last time: the server does not answer";
    return id->has_version ? "size and ETag only" : "size only: the server tells no version";
}
