/* identity.h - what a person's name for a model leads to: its files, pieces and hashes.
 *
 * Room     From a .torrent (a path or a URL), a magnet link, or the URL of a GGUF file, all of
 *          whose parts are looked at. Nothing of the model's bytes is fetched here.
 *
 * Check    Of torrents every piece is hashed against the torrent. A URL gives a size and perhaps
 *          a version (ETag, Last-Modified): what is kept on disk is used again only where both
 *          are the same, and never without a version.
 *
 * Offline  What a magnet link or URL led to is remembered (remembered.h) and used where the
 *          network gives no answer; one that says no is believed. A magnet link's .torrent is
 *          what its hash says, so that it is used first.
 *
 * Threads  One at a time; immutable once made.
 */
#ifndef DP_SWARM_IDENTITY_H
#define DP_SWARM_IDENTITY_H

#include "store/store.h"
#include "swarm/metainfo.h"
#include "swarm/pager.h"
#include "swarm/torrent.h"
#include "tier/source.h"

#define DP_IDENTITY_WAIT_MS     60000 /* for metadata, and for a server's answer */
#define DP_IDENTITY_URL_PIECE   ((uint32_t)1 << 20)
#define DP_IDENTITY_URL_PIECE_S ((uint32_t)256 << 10) /* of less than a GiB */

typedef struct dp_identity {
    char key[DP_STORE_KEY_MAX + 1]; /* hex: the v2 info-hash, or the hash of the URL */
    char *origin;                   /* what the person wrote */
    char *name;
    const dp_layout *layout;
    dp_metainfo *metainfo; /* NULL: from a URL */
    bool is_local;         /* a .torrent at a path */

    /* From a URL: */
    dp_layout url_layout;
    dp_layout_file *url_files; /* [file_count] */
    dp_url_look *looks;        /* [file_count] */
    char **urls;               /* [file_count] as asked for */
    char **names;              /* [file_count] */
    bool has_version;
    bool is_remembered; /* no server was asked */

    /* Which of the files are the model. */
    uint32_t *files;       /* [part_count] */
    dp_source_part *parts; /* [part_count] */
    uint32_t part_count;
} dp_identity;

typedef struct dp_identity_config {
    dp_torrents *torrents; /* NULL: magnet links are refused */
    const char *const *peers;
    size_t peer_count;
    const dp_pager_config *http; /* layout is not used */
    const char *memory;          /* the folder of remembered.h; NULL: nothing is remembered */
    bool (*stop)(void *user);
    void *user;
} dp_identity_config;

/* Whether the name is a magnet link or ends in ".torrent". */
bool dp_identity_is_torrent(const char *model);

/* DP_E_NOTFOUND, DP_E_TIMEOUT, DP_E_CANCELED, DP_E_IO, DP_E_CORRUPT, DP_E_UNSUPPORTED. */
dp_status dp_identity_find(dp_identity *out, const char *model, const dp_identity_config *config,
                           dp_error *err);
/* Of files that are here: a .torrent's, with no look at which of them are a model. */
dp_status dp_identity_of_torrent(dp_identity *out, const char *torrent_path, dp_error *err);
void dp_identity_free(dp_identity *id); /* all zero is fine */

/* The version that a file kept on disk has to be of; NULL: hashes tell. `now` makes it
 * one that never comes again where the server told none. */
const char *dp_identity_tag(const dp_identity *id, uint32_t file, char out[64], int64_t now);
const char *dp_identity_check(const dp_identity *id); /* static: for dp_mount_info */

/* The last part of a URL's or file's path, without what follows '?' or '#': *size bytes. */
const char *dp_url_base_name(const char *url, size_t *size);

#endif
