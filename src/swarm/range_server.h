/* range_server.h - gives pieces that are here to peers and browsers, by HTTP ranges.
 *
 * Room     GET, HEAD and OPTIONS of /KEY/PATH, KEY the model's hex info-hash, PATH as in the
 *          torrent (BEP 19), found by look-up and never as a path of this machine. 206 for one
 *          range whose pieces are all here, 404 for absent ones, 416, 503 + Retry-After
 *          over a cap; keep-alive for hours. CORS and private-network preflight, so that
 *          browsers can be clients. What goes out was hashed when it was read (store.h).
 *
 * Threads  libmicrohttpd's; calls from any.
 *
 * Limits   Connections, connections of one address, requests a second of one address, header
 *          bytes, bytes a second of all, and idle time (slow-loris) are bounded by limits.h.
 *          Memory is at most DP_RANGE_BUFFERS pieces whatever clients do.
 */
#ifndef DP_SWARM_RANGE_SERVER_H
#define DP_SWARM_RANGE_SERVER_H

#include "base/clock.h"
#include "store/store.h"
#include "swarm/layout.h"

typedef struct dp_range_server dp_range_server;

#define DP_RANGE_BUFFERS 32 /* responses read from the store at a time */

typedef struct dp_range_server_config {
    const char *listen;                    /* "ADDRESS:PORT", port 0: any */
    const char *tls_certificate, *tls_key; /* PEM files; NULL: plain HTTP */
    const char *token; /* "Authorization: Bearer TOKEN" or 401; NULL: everybody */
    uint32_t connections_max, connections_per_address; /* 0: 256, 32 */
    uint32_t requests_s_per_address;                   /* 0: 200 */
    uint64_t upload_bytes_s;                           /* of all; 0: no cap */
    uint32_t idle_s; /* 0: 7200 between requests; a request's header has 10 s */
    const dp_clock *clock;
} dp_range_server_config;

dp_status dp_range_server_open(dp_range_server **out, const dp_range_server_config *config,
                               dp_error *err);
void dp_range_server_close(dp_range_server *server);
uint16_t dp_range_server_port(const dp_range_server *server);
bool dp_range_server_is_tls(const dp_range_server *server);

/* From now on /key/... is answered from files[layout->file_count]; all borrowed until
 * dp_range_server_remove, which waits for the responses under way. */
dp_status dp_range_server_add(dp_range_server *server, const char *key, const dp_layout *layout,
                              dp_store_file *const *files, dp_error *err);
void dp_range_server_remove(dp_range_server *server, const char *key);

typedef struct dp_range_server_stats {
    uint64_t bytes, requests, refused, absent, connections;
} dp_range_server_stats;
void dp_range_server_stats_read(dp_range_server *server, dp_range_server_stats *out);

#endif
