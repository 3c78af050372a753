/* pager_inner.h - what the parts of the pager share. Seen by pager*.c only.
 *
 * Room     pager.c keeps endpoints and jobs and judges pieces on its hash threads;
 *          pager_http.c executes the picker's asks on the network thread;
 *          pager_response.c takes what comes.
 *
 * Ends     A job ends in one of three places: on a hash thread when its bytes are right, on the
 *          network thread when the picker gives it up, in close. Bytes are written into its
 *          memory by the network thread only, so that giving up and writing never overlap;
 *          a piece that is being hashed is not written by anybody.
 */
#ifndef DP_SWARM_PAGER_INNER_H
#define DP_SWARM_PAGER_INNER_H

#include "base/list.h"
#include "base/thread.h"
#include "swarm/http.h"
#include "swarm/picker.h"

#define DP_PAGER_HASH_THREADS_MAX 8
#define WARM_LINES                2 /* to an endpoint: one, and a spare */
#define WARM_SITES_MAX            (DP_PAGER_CONNECTIONS_MAX / WARM_LINES)
#define WARMING_MAX               4 /* at a time */

/* In job->_pager. */
typedef struct work {
    dp_picker_want want; /* first: a want is its work */
    dp_pager_job *job;
    dp_link link; /* of `full`, `twins` or a list of the ended */
    dp_status status;
} work;

typedef struct site {
    bool is_used, is_removed;
    uint32_t id;
    uint32_t transfer_count;
    uint32_t cold_count; /* connections to be made before anybody asks */
    bool is_peer, allows_private;
    bool wants_token; /* it refused ours, or that we sent none */
    char name[96];
    char **urls; /* [file_count] */
    char **tags; /* [file_count] of files without hashes: of the first response; NULL: not yet */
} site;

/* One request under way, or a kept handle. */
typedef struct transfer {
    dp_pager *pager;
    dp_http_rules rules; /* with the handle */
    site *site;          /* NULL: free */
    dp_picker_ask *ask;  /* NULL: it warms a connection */
    struct curl_slist *headers;
    uint64_t begin_ns;
    bool is_accepted;  /* the head answers the question */
    bool is_refused;   /* it does not; rules.problem says why */
    bool is_changed;   /* another version of a file without hashes */
    uint32_t unwanted; /* bytes of an error page */
} transfer;

struct dp_pager {
    dp_pager_config config; /* with strings of our own */
    char *token, *tls_authority, *user_agent;

    dp_mutex lock; /* guards what follows; never held while waiting, hashing or in `done` */
    dp_picker *picker;
    site sites[DP_PAGER_ENDPOINTS_MAX];
    dp_link full;  /* works to be hashed */
    dp_link twins; /* works whose piece another work wants */
    dp_cond has_full;
    bool is_closing, is_hashing_over;
    uint64_t requests, connects;
    char problem[256]; /* the last thing that went wrong with an endpoint */
    char changed[256]; /* which file is another one now; "" */

    CURLM *multi; /* of the network thread, but for curl_multi_wakeup */
    transfer transfers[DP_PAGER_CONNECTIONS_MAX + WARMING_MAX];
    uint32_t warm_sites; /* sites that were or are warmed, of those that are there */
    dp_thread network, hash_threads[DP_PAGER_HASH_THREADS_MAX];
    uint32_t hash_thread_count;
    bool has_network;
};

static inline uint64_t dp_pager_now(const dp_pager *pager)
{
    return dp_clock_now_ns(pager->config.clock);
}

/* ---- pager.c: caller holds the lock ---- */

site *dp_pager_site(dp_pager *pager, uint32_t id); /* NULL: not there any more */
void dp_pager_free_removed(dp_pager *pager, site *site);
void dp_pager_push_full(dp_pager *pager, work *work);
/* Pieces came or went: twins may be wanted now. */
void dp_pager_settle_twins(dp_pager *pager);
/* Twins past their deadline go to `ended`; *wake_ns is lowered to the earliest of the rest. */
void dp_pager_expire_twins(dp_pager *pager, dp_link *ended, uint64_t now_ns, uint64_t *wake_ns);
/* ---- pager.c: caller does not hold it ---- */

/* Calls `done` of all that are listed, with the sentence for their status. */
void dp_pager_end_works(dp_pager *pager, dp_link *ended);

/* ---- pager_response.c ---- */

/* libcurl's write callback; user is the transfer. */
size_t dp_pager_take_body(char *bytes, size_t one, size_t size, void *user);
/* The version that a range must be of, where bytes are not hashed; NULL: any, or not to be asked
 * for so. Caller holds the lock. */
const char *dp_pager_if_range(const transfer *t);

/* ---- pager_http.c ---- */

dp_status dp_pager_http_open(dp_pager *pager, dp_error *err);
void dp_pager_http_close(dp_pager *pager); /* the thread has ended */
void dp_pager_http_main(void *pager);      /* the network thread */

#endif
