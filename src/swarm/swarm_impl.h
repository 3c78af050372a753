/* swarm_impl.h - what a node is inside: shared by its mounts.
 *
 * Threads  Constant once open, but for what its lock guards. The node's thread ticks one mount
 *          at a time with no lock held; who closes a mount waits for its tick.
 */
#ifndef DP_SWARM_SWARM_IMPL_H
#define DP_SWARM_SWARM_IMPL_H

#include <stdatomic.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/thread.h"
#include "doppler/swarm.h"
#include "store/store.h"
#include "swarm/pager.h"
#include "swarm/range_server.h"
#include "swarm/torrent.h"

#define DP_SWARM_TICK_MS   100
#define DP_SWARM_PEERS_MAX 64 /* that a person names */

struct dp_swarm {
    dp_swarm_config config; /* strings are copies */
    char **peers;           /* [config.peer_count] */
    const dp_clock *clock;
    dp_store *store, *nothing; /* nothing: for keys that another process has open */
    dp_range_server *server;   /* NULL: none */
    dp_torrents *torrents;     /* NULL: not needed so far; the caller's thread opens it */
    dp_pager_config http;      /* of requests; layout is the mount's */
    _Atomic uint64_t cancels;

    dp_mutex lock; /* taken before a mount's and a source's; guards what follows */
    dp_cond changed;
    dp_link mounts;
    dp_mount *ticking; /* NULL: none */
    bool is_over;
    char problem[192]; /* the store's, once it has one: it does not change any more */
    dp_thread thread;
    bool has_thread;
};

/* The session, opened now if it was not. The caller's thread. */
dp_status dp_swarm_torrents(dp_swarm *swarm, dp_torrents **out, dp_error *err);
/* From now on the mount is ticked, counted, and told what left the store. */
void dp_swarm_enlist(dp_swarm *swarm, dp_mount *mount);
/* No longer, nor is it under way; harmless when it was not. */
void dp_swarm_dismiss(dp_swarm *swarm, dp_mount *mount);

#endif
