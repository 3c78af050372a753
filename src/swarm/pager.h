/* pager.h - pieces by HTTP range requests over warm connections, into the caller's memory.
 *
 * Room     The time-critical path of the swarm. Peers and web seeds are endpoints that have
 *          some pieces; callers submit jobs of one piece each. The picker (picker.h) says which
 *          contiguous run of pieces to ask of whom; this room executes it with libcurl multi
 *          on a thread of its own, hashes each piece when its last byte came (on threads of
 *          its own), and calls `done`. Demand before prefetch before fill.
 *
 * Faults   An endpoint that gives nothing for its stall limit (picker.h) loses the rest of its
 *          range to others; its live response is never aborted to steal from it: what arrives
 *          late is used if it is first. A piece that hashes wrong is asked of somebody else, the
 *          liar is banned. 404 clears the have bit, 503 and refusals back off. A job
 *          that no endpoint has ends with DP_E_NOTFOUND at once, so that the caller can
 *          fall back (401 of a peer: it has nothing for us for a while); at its deadline with DP_E_TIMEOUT.
 *
 * Unhashed Files without known hashes (URLs): every response must be a 206 whose
 *          Content-Range names the asked range and the known size, with the ETag or
 *          Last-Modified of the first response (If-Range); else DP_E_CORRUPT "changed on
 *          the server".
 *
 * Twice    A piece may be submitted again while it is wanted; the second job waits for the end
 *          of the first and is fetched then.
 *
 * Threads  Calls from any, waiting for nothing; `done` on a thread of the pager (in close, on
 *          the caller's) with no lock held, it may submit. Close runs every done.
 *
 * Limits   DP_PAGER_* below; nothing is allocated for a job.
 */
#ifndef DP_SWARM_PAGER_H
#define DP_SWARM_PAGER_H

#include "base/clock.h"
#include "swarm/layout.h"

typedef struct dp_pager dp_pager;

#define DP_PAGER_ENDPOINTS_MAX   256
#define DP_PAGER_CONNECTIONS_MAX 16         /* live at a time, spare ones included */
#define DP_PAGER_HEADER_MAX      (16 << 10) /* bytes of a response's header */
#define DP_PAGER_URL_MAX         4096

typedef enum dp_pager_class { DP_PAGER_DEMAND, DP_PAGER_PREFETCH, DP_PAGER_FILL } dp_pager_class;

typedef struct dp_pager_config {
    const dp_layout *layout;   /* borrowed while open */
    uint32_t hash_threads;     /* 0: 2 */
    const char *token;         /* sent as "Authorization: Bearer ..." to endpoints that are peers */
    const char *tls_authority; /* PEM file trusted beside the system's; NULL: none */
    const char *user_agent;
    const dp_clock *clock;
} dp_pager_config;

dp_status dp_pager_open(dp_pager **out, const dp_pager_config *config, dp_error *err);
void dp_pager_close(dp_pager *pager);

typedef struct dp_pager_endpoint {
    const char *const *urls; /* [layout->file_count], percent-encoded, copied */
    const char *name;        /* for reports and sentences: "192.0.2.7:8080", "example.org" */
    bool is_peer;            /* gets the token; a web seed has everything and gets none */
    const uint8_t *have;     /* piece bits, BitTorrent's order, copied; NULL: all */
    /* [layout->file_count], copied: the versions (dp_url_look) that files without hashes must be
     * of; NULL, all or one: that of the first response. */
    const char *const *tags;
    bool allows_private; /* it may be at a private address, and then redirects may lead to one */
} dp_pager_endpoint;

/* *id: not used again. DP_E_LIMIT, DP_E_NOMEM, DP_E_INVALID. */
dp_status dp_pager_add(dp_pager *pager, const dp_pager_endpoint *endpoint, uint32_t *id,
                       dp_error *err);
void dp_pager_set_have(dp_pager *pager, uint32_t id, const uint8_t *have);
void dp_pager_remove(dp_pager *pager, uint32_t id); /* its ranges go to others */

typedef struct dp_pager_job {
    /* the caller fills these and keeps the struct and `out` alive until done */
    uint32_t piece;
    void *out; /* [size of the piece] */
    dp_pager_class class_;
    uint64_t deadline_ns; /* by the pager's clock */
    /* error NULL: all bytes are there and hash right. `endpoint`: who gave the last of it. */
    void (*done)(struct dp_pager_job *job, uint32_t endpoint, const dp_error *error);
    void *user;
    void *_pager[32]; /* the pager's own */
} dp_pager_job;

void dp_pager_submit(dp_pager *pager, dp_pager_job *const *jobs, size_t count);
void dp_pager_promote(dp_pager *pager, dp_pager_job *job); /* to demand */
/* True: taken back, nothing was asked for it, done never runs. False: done runs, with
 * DP_E_CANCELED or as if nothing had been said. */
bool dp_pager_cancel(dp_pager *pager, dp_pager_job *job);

typedef struct dp_pager_peer_stats {
    uint32_t id;
    char name[96];
    bool is_peer;
    uint64_t bytes;
    double bytes_s, rtt_ms;
    uint32_t pieces, failures, stalls, bad_pieces;
    double banned_s, backoff_s; /* yet to come */
    bool wants_token;           /* it answered 401 last */
} dp_pager_peer_stats;

size_t dp_pager_peers(dp_pager *pager, dp_pager_peer_stats *out, size_t max);

typedef struct dp_pager_stats {
    uint64_t bytes, wasted_bytes; /* came twice, or hashed wrong */
    uint64_t pieces, pieces_bad, stalls, hedges, bans, requests, connects;
} dp_pager_stats;

void dp_pager_stats_read(dp_pager *pager, dp_pager_stats *out);

/* The first look at a URL: its size, whether it serves ranges, what tells its version.
 * Waits; `stop` (may be NULL) is polled. Redirects are followed, *url the last. DP_E_NOTFOUND,
 * DP_E_UNSUPPORTED (no ranges), DP_E_IO, DP_E_TIMEOUT, DP_E_CANCELED. */
typedef struct dp_url_look {
    char url[DP_PAGER_URL_MAX];
    uint64_t size;
    char tag[256];  /* ETag, else Last-Modified, else "" */
    bool is_strong; /* a strong ETag */
} dp_url_look;
dp_status dp_url_look_at(dp_url_look *out, const char *url, const dp_pager_config *config,
                         uint32_t timeout_ms, bool (*stop)(void *user), void *user, dp_error *err);
/* A whole small thing (a .torrent by URL). The caller frees *out with dp_free. DP_E_LIMIT. */
dp_status dp_url_get(uint8_t **out, size_t *size, const char *url, size_t size_max,
                     const dp_pager_config *config, uint32_t timeout_ms, bool (*stop)(void *user),
                     void *user, dp_error *err);

#endif
