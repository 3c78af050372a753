/* range_server.h - gives pieces that are here to peers and browsers, by HTTP ranges.
 *
 * Room     GET, HEAD and OPTIONS of /KEY/PATH, KEY the model's hex info-hash, PATH as in the
 *          torrent, the torrent's name in front or not (BEP 19), found by look-up and never
 *          as a path of this machine. A response holds one buffer of a piece and reads the
 *          store piece by piece as the client takes them, so what goes out was hashed when it
 *          was read (store.h). A piece that leaves, or is found damaged, in the middle of a
 *          response ends the connection; no wrong byte is sent. CORS and private-network preflight, so that
 *          browsers can be clients.
 *
 * Answers  200  the whole file; of HEAD its size, Accept-Ranges and ETag, the file's root
 *          204  OPTIONS
 *          206  one range, up to the first piece of it that is not here: Content-Range says
 *               where the answer ends (RFC 9110, 15.3.7), so no client has to guess which piece
 *               of several is missing; If-Range counts
 *          400  a target that is none; a request with a body
 *          401  without the token
 *          404  no such model or file; the first piece of the range is not here; of a request
 *               for the whole file any
 *          405  another method
 *          416  a range past the end, ill-formed, or several (range_request.h)
 *          503  with Retry-After: over the cap or a limit of the client's address, or no buffer
 *               is free. Asking another peer is better than a place in a queue.
 *
 *          Padding files of hybrid torrents are answered with as many zeros.
 *
 * Threads  libmicrohttpd's; calls from any, but not from a callback of the store.
 *
 * Limits   Connections, connections, responses and requests a second of one address, header
 *          bytes, bytes a second of all, and time (10 s for a header, 8.7 kB/s for a response)
 *          are bounded by guard.h and limits.h. Memory is at most DP_RANGE_BUFFERS times a
 *          piece and a block, and 16 KiB a connection, whatever clients do.
 */
#ifndef DP_SWARM_RANGE_SERVER_H
#define DP_SWARM_RANGE_SERVER_H

#include "base/clock.h"
#include "store/store.h"
#include "swarm/layout.h"

typedef struct dp_range_server dp_range_server;

#define DP_RANGE_BUFFERS         32                  /* responses read from the store at a time */
#define DP_RANGE_BLOCK           ((size_t)128 << 10) /* handed to the system at a time */
#define DP_RANGE_MODELS_MAX      64
#define DP_RANGE_CONNECTIONS_MAX 4096

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
 * dp_range_server_remove, which ends the responses under way and waits for them. DP_E_INVALID: a
 * key that is served already, or is none. DP_E_LIMIT, DP_E_NOMEM. */
dp_status dp_range_server_add(dp_range_server *server, const char *key, const dp_layout *layout,
                              dp_store_file *const *files, dp_error *err);
void dp_range_server_remove(dp_range_server *server, const char *key);

typedef struct dp_range_server_stats {
    uint64_t bytes;       /* of files, handed to the system */
    uint64_t requests;    /* of all kinds */
    uint64_t refused;     /* 503, and connections over a limit */
    uint64_t absent;      /* 404 for pieces that are not here */
    uint64_t connections; /* now */
    uint64_t responses;   /* of these, under way */
} dp_range_server_stats;
void dp_range_server_stats_read(dp_range_server *server, dp_range_server_stats *out);

#endif
