/* metainfo.h - what a .torrent or a magnet link says; how a .torrent is made.
 *
 * Room     Parsing and making are libtorrent's, behind a C face; sizes, counts, names and
 *          the agreement of piece layers with roots are checked before anything is believed.
 *          Torrents without v2 hashes are refused: SHA-1 does not verify.
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

typedef struct dp_metainfo dp_metainfo;

/* bytes: a bencoded .torrent, not kept. `name` is for sentences. DP_E_CORRUPT, DP_E_LIMIT,
 * DP_E_UNSUPPORTED, DP_E_NOMEM. Owned: dp_metainfo_close. */
dp_status dp_metainfo_parse(dp_metainfo **out, const char *name, const void *bytes, size_t size,
                            dp_error *err);
void dp_metainfo_close(dp_metainfo *m);

const dp_layout *dp_metainfo_layout(const dp_metainfo *m);
const char *dp_metainfo_name(const dp_metainfo *m); /* a file name, checked */
bool dp_metainfo_is_private(const dp_metainfo *m);
const dp_hash *dp_metainfo_info_v2(const dp_metainfo *m);
bool dp_metainfo_info_v1(const dp_metainfo *m, uint8_t out[20]); /* false: v2 only */
size_t dp_metainfo_trackers(const dp_metainfo *m, const char *const **out);
size_t dp_metainfo_web_seeds(const dp_metainfo *m, const char *const **out);
/* The bencoded .torrent, [*size], borrowed. */
const void *dp_metainfo_bytes(const dp_metainfo *m, size_t *size);

/* The piece size for a model whose smallest wanted range (an expert's slice) is `slice`
 * bytes: at most 1/16 of it, 256 KiB .. 2 MiB, and fewer than DP_LAYOUT_PIECES_MAX pieces. */
uint32_t dp_metainfo_piece_size(uint64_t slice, uint64_t total_bytes);

typedef struct dp_metainfo_config {
    const char *name;         /* of the torrent: the file's, or the folder's of several */
    const char *const *names; /* [layout->file_count] inside it, in order */
    const dp_layout *layout;  /* with hashes; sizes are used, paths and numbers are made here */
    /* Of a hybrid: SHA-1 of every piece (padded with zeros at a file's end where another
     * follows), [piece_count][20]; NULL: v2 only. */
    const uint8_t (*sha1)[20];
    const char *const *trackers, *const *web_seeds;
    size_t tracker_count, web_seed_count;
    bool is_private;
    const char *creator; /* "doppler 0.1.0" */
} dp_metainfo_config;

dp_status dp_metainfo_make(dp_metainfo **out, const dp_metainfo_config *config, dp_error *err);

/* "magnet:?xt=urn:btmh:1220...&xt=urn:btih:...": at least one hash. */
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
