/* metainfo.h - what a .torrent or a magnet link says; how a .torrent is made.
 *
 * Room     Parsing and making are libtorrent's, behind a C face; sizes, counts, names and
 *          the agreement of piece layers with roots are checked before anything is believed.
 *          Torrents without v2 hashes are refused: SHA-1 does not verify. Refused are also
 *          symbolic links and names that would not be file names everywhere.
 *
 * Limits   The maxima below and those of layout.h and piece_hash.h. A .torrent of n bytes
 *          costs about 3 n while it is read, and as much while it is kept.
 *
 * Threads  Immutable once made: any.
 *
 * Source   BEP 3, 9, 19, 27, 47, 52, 53.
 */
#ifndef DP_SWARM_METAINFO_H
#define DP_SWARM_METAINFO_H

#include <stddef.h>
#include "swarm/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DP_METAINFO_BYTES_MAX ((size_t)256 << 20) /* 2^21 pieces: 64 MiB of hashes, twice */
#define DP_METAINFO_URLS_MAX  64                  /* trackers, web seeds: of each */
#define DP_METAINFO_URL_MAX   2048                /* longer ones are passed over */
#define DP_METAINFO_NAME_MAX  200                 /* bytes between two '/' */
#define DP_METAINFO_PATH_MAX  1024
#define DP_METAINFO_DEPTH_MAX 16          /* folders in folders, lists in lists */
#define DP_METAINFO_TOKENS    (256 << 10) /* of bencoding: 1024 files, hybrid, take 30,000 */
#define DP_MAGNET_BYTES_MAX   ((size_t)16 << 10)

typedef struct dp_metainfo dp_metainfo;

/* bytes: a bencoded .torrent, not kept. `name` is for sentences. DP_E_CORRUPT, DP_E_LIMIT,
 * DP_E_UNSUPPORTED, DP_E_NOMEM. Owned: dp_metainfo_close. */
dp_status dp_metainfo_parse(dp_metainfo **out, const char *name, const void *bytes, size_t size,
                            dp_error *err);
void dp_metainfo_close(dp_metainfo *m);

const dp_layout *dp_metainfo_layout(const dp_metainfo *m);
const char *dp_metainfo_name(const dp_metainfo *m); /* a file name, checked */
/* False: one file, of which name is path. True: paths are inside a folder called name, so
 * that web seeds have NAME/PATH (BEP 19). */
bool dp_metainfo_is_folder(const dp_metainfo *m);
bool dp_metainfo_is_private(const dp_metainfo *m);
const dp_hash *dp_metainfo_info_v2(const dp_metainfo *m);
bool dp_metainfo_info_v1(const dp_metainfo *m, uint8_t out[20]); /* false: v2 only */
/* http, https and udp; the first DP_METAINFO_URLS_MAX in the order of their tiers. */
size_t dp_metainfo_trackers(const dp_metainfo *m, const char *const **out);
/* http and https; percent-encoded; of a folder they end in '/'. */
size_t dp_metainfo_web_seeds(const dp_metainfo *m, const char *const **out);
/* The bencoded .torrent, [*size], borrowed. */
const void *dp_metainfo_bytes(const dp_metainfo *m, size_t *size);

/* The piece size for a model whose smallest wanted range (an expert's slice) is `slice`
 * bytes: at most 1/16 of it, 256 KiB .. 2 MiB, and fewer than DP_LAYOUT_PIECES_MAX pieces. */
uint32_t dp_metainfo_piece_size(uint64_t slice, uint64_t total_bytes);

typedef struct dp_metainfo_config {
    const char *name; /* of the torrent: the file's, or the folder's of several */
    /* [layout->file_count] paths inside it, sorted by bytes (BEP 52 has no other order); of
     * one file that is in no folder: name again. */
    const char *const *names;
    const dp_layout *layout; /* with hashes; sizes are used, paths and numbers are made here */
    /* Of a hybrid: SHA-1 of every piece (padded with zeros at a file's end where another
     * follows), [piece_count][20]; NULL: v2 only. */
    const uint8_t (*sha1)[20];
    const char *const *trackers, *const *web_seeds;
    size_t tracker_count, web_seed_count;
    bool is_private;
    const char *creator; /* "doppler 0.1.0" */
} dp_metainfo_config;

/* The same config gives the same bytes. DP_E_INVALID, DP_E_LIMIT, DP_E_NOMEM. */
dp_status dp_metainfo_make(dp_metainfo **out, const dp_metainfo_config *config, dp_error *err);

/* "magnet:?xt=urn:btmh:1220...&xt=urn:btih:...": at least one hash. DP_E_INVALID. */
typedef struct dp_magnet {
    dp_hash v2;
    uint8_t v1[20];
    bool has_v1, has_v2;
} dp_magnet;
dp_status dp_magnet_parse(dp_magnet *out, const char *uri, dp_error *err);

#ifdef __cplusplus
}
#endif
#endif
