/* torrent.h - libtorrent behind a C face: identity, discovery, who holds what, bulk transfer.
 *
 * Room     One session per node. The bytes live in the store: libtorrent reads and writes
 *          through dp_torrent_content (a disk interface of our own), so the store is the
 *          truth and libtorrent's bitfield a view of it. Time-critical pages go by HTTP
 *          (pager.h); this side says who has them, and is the fallback.
 *
 *          Peers tell their HTTP port in the extension handshake ("dp" dictionary: "port",
 *          "tls"); the address is the connection's, never a message's. Pieces that leave are
 *          announced by lt_donthave (BEP 54), pieces that come back by HAVE; late requests
 *          are rejected. libtorrent itself is told by re-adding the torrent with edited have
 *          bits when the drift passes 1 % of the pieces, at most every five minutes.
 *
 * Threads  Calls from any; callbacks on threads of the session, with no lock held.
 *
 * Limits   Connections, metadata bytes, request queues and peers listed have named maxima
 *          here; DHT, local discovery and UPnP are off unless asked for.
 *
 * Source   BEP 3, 5, 6, 9, 10, 14, 19, 52, 54; libtorrent 2.0 reference.
 */
#ifndef DP_SWARM_TORRENT_H
#define DP_SWARM_TORRENT_H

#include "swarm/metainfo.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dp_torrents dp_torrents; /* a session */
typedef struct dp_torrent dp_torrent;   /* one model in it */

#define DP_TORRENT_PEERS_MAX          200                 /* connections of one torrent */
#define DP_TORRENT_PER_ADDRESS_MAX    16                  /* of them from one address */
#define DP_TORRENT_PARTIAL_BYTES      ((size_t)64 << 20)  /* of pieces asked for at a time */
#define DP_TORRENT_CACHE_BYTES        ((size_t)16 << 20)  /* of pieces read for peers */
#define DP_TORRENT_SEND_BYTES         ((size_t)512 << 10) /* of a connection, read ahead */
#define DP_TORRENT_METADATA_BYTES_MAX ((size_t)48 << 20)  /* 20 bytes for each of 2^21 pieces */
#define DP_TORRENT_KNOWN_MAX          200                 /* addresses to connect to again */
#define DP_TORRENT_BANS_MAX           1024                /* the oldest is forgotten */
#define DP_TORRENT_REQUESTS_MAX       4000u               /* not answered yet, of one connection */
/* Requests for what is not here, or too many; of one connection. 100 a second are forgiven. */
#define DP_TORRENT_REFUSALS_MAX   6000u
#define DP_TORRENT_TOLD_AT_ONCE   256   /* have and don't-have messages every 100 ms */
#define DP_TORRENT_DRIFT_TOLD_MAX 16384 /* don't-have messages to a new connection */

typedef struct dp_torrents_config {
    const char *listen; /* "ADDRESS:PORT", port 0: any; NULL: nobody is let in */
    uint16_t http_port; /* told to peers; 0: none */
    bool http_is_tls;
    bool shares; /* false: nothing is uploaded */
    bool uses_dht, uses_lsd;
    uint64_t upload_bytes_s;  /* 0: no cap */
    uint32_t connections_max; /* 0: DP_TORRENT_PEERS_MAX */
    uint32_t reconcile_s;     /* least time between re-addings; 0: 300 */
} dp_torrents_config;

/* DP_E_INVALID, DP_E_IO (it cannot listen), DP_E_NOMEM. */
dp_status dp_torrents_open(dp_torrents **out, const dp_torrents_config *config, dp_error *err);
void dp_torrents_close(dp_torrents *session);              /* after its torrents */
uint16_t dp_torrents_port(const dp_torrents *session);     /* listening; 0: none */
uint64_t dp_torrents_uploaded(const dp_torrents *session); /* bytes of pieces */

/* Whole pieces, by the layout's numbers. Any thread, several at a time; no call is under way
 * after dp_torrent_remove. */
typedef struct dp_torrent_content {
    bool (*has)(void *user, uint32_t piece);
    dp_status (*read)(void *user, uint32_t piece, void *out, dp_error *err); /* checked bytes */
    /* A piece that libtorrent fetched, hashed. The want of it is over. libtorrent has it from
     * here on, and peers are told, where `has` says so afterwards and the session shares. */
    void (*arrived)(void *user, uint32_t piece, const void *bytes);
    void *user;
} dp_torrent_content;

/* metainfo: borrowed for the call. DP_E_BUSY: this session has it already. */
dp_status dp_torrent_add(dp_torrent **out, dp_torrents *session, const dp_metainfo *metainfo,
                         const dp_torrent_content *content, dp_error *err);
void dp_torrent_remove(dp_torrent *torrent);

/* Metadata of a magnet link, from its trackers, `peers` ("HOST:PORT") and what the session may
 * use; `stop` (may be NULL) is polled. DP_E_TIMEOUT, DP_E_CANCELED, DP_E_CORRUPT,
 * DP_E_UNSUPPORTED (no v2 hashes). */
dp_status dp_torrent_fetch_metainfo(dp_metainfo **out, dp_torrents *session, const char *magnet,
                                    const char *const *peers, size_t peer_count,
                                    uint32_t timeout_ms, bool (*stop)(void *user), void *user,
                                    dp_error *err);

/* Connects, and again whenever the connection was lost. The name is looked up here: waits.
 * DP_E_INVALID, DP_E_NOTFOUND, DP_E_LIMIT. */
dp_status dp_torrent_connect(dp_torrent *torrent, const char *host_port, dp_error *err);

/* What the store did. Cheap; announcements go out in batches. */
void dp_torrent_have(dp_torrent *torrent, uint32_t piece);
void dp_torrent_gone(dp_torrent *torrent, uint32_t piece);

/* Fallback and background: libtorrent fetches the piece; content->arrived gets it.
 * deadline_ms 0: in the background. Any number may be wanted; so many are asked for at a time
 * as DP_TORRENT_PARTIAL_BYTES hold, those with deadlines first. Unwanted pieces of which a
 * part is here may still arrive. */
void dp_torrent_want(dp_torrent *torrent, uint32_t piece, uint32_t deadline_ms);
void dp_torrent_unwant(dp_torrent *torrent, uint32_t piece);

typedef struct dp_torrent_peer {
    uint64_t id;              /* of the connection; not used again */
    char address[64];         /* IP, as in a URL: [::1] in brackets */
    uint16_t port, http_port; /* http_port 0: plain BitTorrent */
    bool http_is_tls;
    char client[48]; /* printable */
    uint64_t bytes;  /* of pieces received from it here */
    double bytes_s;
    uint32_t rtt_ms, failures;
} dp_torrent_peer;

/* Changes whenever a peer comes, goes, or says have or don't-have. */
uint64_t dp_torrent_generation(const dp_torrent *torrent);
size_t dp_torrent_peers(const dp_torrent *torrent, dp_torrent_peer *out, size_t max);
/* The peer's pieces in BitTorrent's bit order, (piece_count + 7) / 8 bytes. False: it left. */
bool dp_torrent_peer_bits(const dp_torrent *torrent, uint64_t id, uint8_t *bits);
/* Disconnects it and takes no connection from its address for so long. */
void dp_torrent_ban(dp_torrent *torrent, uint64_t id, uint32_t seconds);

#ifdef __cplusplus
}
#endif
#endif
