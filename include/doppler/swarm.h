/* swarm.h - models from peers and URLs: mounted, shared, verified.
 *
 * A node is this process's place in a swarm: its cache on disk, its connections, what it
 * gives. A mount is one model that need not be here: its header comes first, then the part
 * that every token needs, then experts when they are wanted. Every byte is hashed before a
 * model sees it; from a plain URL, which publishes no hashes, the size and the ETag are
 * checked instead and dp_mount_info says so.
 *
 * Defaults No uploading, no DHT, no local discovery: sharing is an explicit act. Which
 *          experts are asked for says something about the text; docs/SWARM.md says what.
 *
 * Threads  Calls on one node and its mounts from one thread at a time; *_info, *_stats,
 *          *_peers and dp_swarm_cancel from any.
 */
#ifndef DOPPLER_SWARM_H
#define DOPPLER_SWARM_H

#include <stdbool.h>
#include <stddef.h>
#include "doppler/source.h"
#include "doppler/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_swarm dp_swarm;
typedef struct dp_mount dp_mount;

typedef struct dp_swarm_config {
    const char *cache_folder; /* NULL: nothing is kept on disk */
    uint64_t disk_bytes;      /* most that the cache may allocate; 0: nothing is kept */
    const char *listen;       /* "ADDRESS:PORT" for peers, port 0: any; NULL: outgoing only */
    const char *http_listen;  /* the same for range requests; NULL: none */
    const char *const *peers; /* [peer_count] "HOST:PORT" of BitTorrent ports to connect to */
    size_t peer_count;
    bool shares;             /* give what is here to peers */
    bool uses_dht, uses_lsd; /* ignored by private torrents */
    uint64_t upload_bytes_s; /* 0: no cap */
    const char *token;       /* that range requests, ours and others', carry; NULL: none */
    const char *tls_certificate, *tls_key; /* of the range server, PEM files; NULL: plain HTTP */
    const char *tls_authority;             /* PEM file to trust beside the system's; NULL: none */
    uint32_t wait_ms; /* a wanted page that nobody gave for so long is an error; 0: 60 s */
    bool is_lazy;     /* nothing is fetched before it is wanted: for who only looks at models */
} dp_swarm_config;

DP_API dp_status dp_swarm_open(dp_swarm **out, const dp_swarm_config *config, dp_error *err);
DP_API void dp_swarm_close(dp_swarm *swarm); /* after its mounts */
/* Makes what waits return DP_E_CANCELED soon; async-signal-safe. */
DP_API void dp_swarm_cancel(dp_swarm *swarm);

/* Whether a person's MODEL names something to mount: an http(s) URL, a magnet link, or a
 * path or URL that ends in ".torrent". */
DP_API bool dp_swarm_is_name(const char *model);

/* Finds the model: metadata from peers or the server, the sizes of its files, the GGUF
 * header. DP_E_NOTFOUND, DP_E_TIMEOUT, DP_E_IO, DP_E_UNSUPPORTED (a server without ranges, a
 * torrent without v2 hashes), DP_E_CORRUPT. Owned: dp_mount_close. */
DP_API dp_status dp_mount_open(dp_mount **out, dp_swarm *swarm, const char *model, dp_error *err);
DP_API void dp_mount_close(dp_mount *mount);        /* after what was opened from its source */
DP_API dp_source *dp_mount_source(dp_mount *mount); /* borrowed */

/* Everything, hashed, into the cache (disk_bytes has to allow it), and the path of file
 * `index`: for adapters and other small files. Borrowed from the mount. */
DP_API dp_status dp_mount_fetch(dp_mount *mount, uint32_t index, const char **path, dp_error *err);

typedef struct dp_mount_info {
    const char *name;    /* of the torrent, or the last part of the URL */
    const char *info_v2; /* hex; NULL: from a URL */
    const char *check;   /* "sha-256 of every piece", "size and ETag only", ...: static */
    uint32_t file_count, piece_size;
    uint64_t file_bytes, present_bytes; /* here on disk */
} dp_mount_info;
DP_API void dp_mount_info_read(const dp_mount *mount, dp_mount_info *out);

typedef struct dp_swarm_stats {
    uint64_t swarm_read_bytes; /* arrived and checked, for pages */
    uint64_t cache_read_bytes, cache_written_bytes, cache_used_bytes;
    uint64_t uploaded_bytes;
    uint64_t pieces_bad;  /* arrived and did not hash to what they should */
    uint64_t pieces_gone; /* evicted, or found bad on disk */
    uint64_t stalls, hedges, bans;
    double page_ms_p50, page_ms_p99; /* of pages that somebody waited for and that were not here */
    const char *cache_problem;       /* why nothing is kept any more; "" */
} dp_swarm_stats;
DP_API void dp_swarm_stats_read(const dp_swarm *swarm, dp_swarm_stats *out);

typedef struct dp_peer_info {
    char name[96];          /* ADDRESS:PORT, or the host of a URL */
    char kind[16];          /* "doppler", "bittorrent", "web seed" */
    uint64_t bytes;         /* received */
    double bytes_s, rtt_ms; /* measured; 0: not yet */
    uint32_t pieces;        /* that it has */
    uint32_t failures, bad_pieces;
    double banned_s; /* for so long yet */
} dp_peer_info;

#define DP_PEERS_MAX 4096
/* At most `max` of them; how many there are. */
DP_API size_t dp_mount_peers(const dp_mount *mount, dp_peer_info *out, size_t max);

/* How many peers hold all of an expert (this node among them), [layer][expert]; *layers and
 * *experts are 0 for a dense model. The caller frees *out with dp_swarm_free. */
DP_API dp_status dp_mount_holders(dp_mount *mount, uint32_t **out, uint32_t *layers,
                                  uint32_t *experts, dp_error *err);
DP_API void dp_swarm_free(void *memory);

/* Publishing: what .torrent there should be of files that are here. */
typedef struct dp_torrent_config {
    const char *const *paths; /* [path_count]: a model's parts, in order */
    size_t path_count;
    bool is_v2_only; /* false: hybrid, which clients without v2 can load as well */
    bool is_private;
    uint32_t piece_size; /* 0: by the rule of docs/SWARM.md */
    const char *const *trackers, *const *web_seeds;
    size_t tracker_count, web_seed_count;
} dp_torrent_config;

/* Hashes the files and writes the .torrent. false from progress cancels. */
DP_API dp_status dp_torrent_write(const char *out_path, const dp_torrent_config *config,
                                  dp_progress progress, void *user, dp_error *err);

/* What a .torrent says. */
typedef struct dp_torrent_file dp_torrent_file;

typedef struct dp_torrent_info {
    const char *name;              /* borrowed, as all texts here, until it is closed */
    const char *info_v2, *info_v1; /* hex; info_v1 NULL: v2 only */
    const char *magnet;            /* the link that finds it, with trackers and web seeds */
    bool is_private;
    uint32_t file_count, piece_size, piece_count;
    uint64_t file_bytes;
} dp_torrent_info;

/* DP_E_CORRUPT, DP_E_UNSUPPORTED (no v2 hashes), DP_E_NOTFOUND, DP_E_IO. Immutable: any
 * thread. Owned: dp_torrent_file_close. */
DP_API dp_status dp_torrent_file_open(dp_torrent_file **out, const char *path, dp_error *err);
DP_API void dp_torrent_file_close(dp_torrent_file *torrent);
DP_API void dp_torrent_file_info(const dp_torrent_file *torrent, dp_torrent_info *out);
/* The path of a file inside it, or NULL: past the end. */
DP_API const char *dp_torrent_file_name(const dp_torrent_file *torrent, uint32_t file);

typedef struct dp_verify_result {
    uint64_t bytes, bad_bytes;
    uint32_t pieces, bad_pieces;
    uint64_t first_bad; /* offset, in file first_bad_file */
    uint32_t first_bad_file;
} dp_verify_result;

/* Compares files with a .torrent; path: the model (any part), or the folder that holds it. */
DP_API dp_status dp_torrent_verify(const char *path, const char *torrent_path,
                                   dp_verify_result *out, dp_progress progress, void *user,
                                   dp_error *err);

/* Gives the files at path to others by the torrent until the node is closed. Pieces are
 * hashed before their first upload. The node was opened with `shares`. */
DP_API dp_status dp_swarm_share(dp_swarm *swarm, const char *path, const char *torrent_path,
                                dp_error *err);
/* Where the node listens: "ADDRESS:PORT", or "" . For messages and tests. */
DP_API void dp_swarm_addresses(const dp_swarm *swarm, char torrent[64], char http[64]);

/* A small tracker: tells the peers of a torrent of each other, by HTTP, for groups that have
 * no other. It holds addresses for two and a half intervals, and no file of any. */
typedef struct dp_tracker dp_tracker;

typedef struct dp_tracker_config {
    const char *listen;       /* "ADDRESS:PORT", port 0: any */
    const char *const *infos; /* [info_count] hex info-hashes, v1 or v2: no others are tracked */
    size_t info_count;        /* 0: every torrent is */
    uint32_t interval_s;      /* between a peer's announces; 0: 1800, at most 86400 */
} dp_tracker_config;

/* Its URL is "http://ADDRESS:PORT/announce". DP_E_INVALID, DP_E_IO, DP_E_LIMIT, DP_E_NOMEM. */
DP_API dp_status dp_tracker_open(dp_tracker **out, const dp_tracker_config *config, dp_error *err);
DP_API void dp_tracker_close(dp_tracker *tracker);
DP_API uint16_t dp_tracker_port(const dp_tracker *tracker);

typedef struct dp_tracker_stats {
    uint64_t announces, refused; /* refused: made no sense */
    uint32_t torrents, peers;    /* now */
} dp_tracker_stats;
DP_API void dp_tracker_stats_read(dp_tracker *tracker, dp_tracker_stats *out);

#ifdef __cplusplus
}
#endif
#endif
