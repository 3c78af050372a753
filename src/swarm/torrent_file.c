/* A .torrent as programs see it: what metainfo.h says, as text. */
#include "doppler/swarm.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"
#include "swarm/metainfo.h"

#define MAGNET_BYTES_MAX ((size_t)1 << 20) /* 128 URLs of 2 KiB, each byte as three */

struct dp_torrent_file {
    dp_metainfo *metainfo;
    char v2[2 * sizeof(dp_hash) + 1], v1[2 * 20 + 1];
    dp_buf magnet; /* NUL-terminated */
    bool has_v1;
};

static void write_hex(char out[2 * 20 + 1], const uint8_t bytes[20])
{
    for (size_t i = 0; i < 20; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* "&dn=a%20name": bytes that mean something in a link are written as numbers. */
static dp_status put_pair(dp_buf *out, const char *key, const char *value)
{
    dp_status st = dp_buf_format(out, "&%s=", key);

    for (; *value && !st; value++) {
        bool is_plain = isalnum((unsigned char)*value) || strchr("-._~", *value);
        st = is_plain ? dp_buf_append(out, value, 1)
                      : dp_buf_format(out, "%%%02X", (unsigned)(unsigned char)*value);
    }
    return st;
}

static dp_status make_magnet(dp_torrent_file *t)
{
    const char *const *urls;
    size_t count = dp_metainfo_trackers(t->metainfo, &urls);
    /* 1220: the multihash of SHA-256 in 32 bytes. */
    dp_status st = dp_buf_format(&t->magnet, "magnet:?xt=urn:btmh:1220%s", t->v2);

    if (!st && t->has_v1)
        st = dp_buf_format(&t->magnet, "&xt=urn:btih:%s", t->v1);
    if (!st)
        st = put_pair(&t->magnet, "dn", dp_metainfo_name(t->metainfo));
    for (size_t i = 0; i < count && !st; i++)
        st = put_pair(&t->magnet, "tr", urls[i]);
    count = dp_metainfo_web_seeds(t->metainfo, &urls);
    for (size_t i = 0; i < count && !st; i++)
        st = put_pair(&t->magnet, "ws", urls[i]);
    return st;
}

dp_status dp_torrent_file_open(dp_torrent_file **out, const char *path, dp_error *err)
{
    dp_torrent_file *t = dp_alloc_zero(1, sizeof *t);
    char *bytes = NULL;
    uint8_t v1[20];
    size_t size;
    dp_status st;

    *out = NULL;
    if (!t)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory", path);
    dp_buf_init(&t->magnet, MAGNET_BYTES_MAX);
    st = dp_file_read_all(&bytes, &size, path, DP_METAINFO_BYTES_MAX, err);
    if (!st)
        st = dp_metainfo_parse(&t->metainfo, path, bytes, size, err);
    if (st)
        goto done;
    dp_hash_hex(t->v2, dp_metainfo_info_v2(t->metainfo));
    t->has_v1 = dp_metainfo_info_v1(t->metainfo, v1);
    if (t->has_v1)
        write_hex(t->v1, v1);
    st = make_magnet(t);
    if (st) {
        st = dp_fail(err, st, "%s: no room for its magnet link", path);
        goto done;
    }

    *out = t;
    t = NULL;
done:
    dp_free(bytes);
    dp_torrent_file_close(t);
    return st;
}

void dp_torrent_file_close(dp_torrent_file *torrent)
{
    if (!torrent)
        return;
    dp_metainfo_close(torrent->metainfo);
    dp_buf_deinit(&torrent->magnet);
    dp_free(torrent);
}

void dp_torrent_file_info(const dp_torrent_file *torrent, dp_torrent_info *out)
{
    const dp_layout *layout = dp_metainfo_layout(torrent->metainfo);

    *out = (dp_torrent_info){
        .name = dp_metainfo_name(torrent->metainfo),
        .info_v2 = torrent->v2,
        .info_v1 = torrent->has_v1 ? torrent->v1 : NULL,
        .magnet = torrent->magnet.bytes,
        .is_private = dp_metainfo_is_private(torrent->metainfo),
        .file_count = layout->file_count,
        .piece_size = layout->piece_size,
        .piece_count = layout->piece_count,
    };
    for (uint32_t i = 0; i < layout->file_count; i++)
        out->file_bytes += layout->files[i].pieces.file_size;
}

const char *dp_torrent_file_name(const dp_torrent_file *torrent, uint32_t file)
{
    const dp_layout *layout = dp_metainfo_layout(torrent->metainfo);

    return file < layout->file_count ? layout->files[file].path : NULL;
}
