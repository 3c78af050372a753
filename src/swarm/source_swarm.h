/* source_swarm.h - ranges of a model from pieces that are here, or that others give.
 *
 * Room     A source (tier/source.h) over a supply (supply.h). A read is cut into the pieces it
 *          touches. Each piece is fetched once at a time, however many reads want it: from what
 *          is kept here, else from the pager, else from whoever is slower. A piece that lies
 *          wholly inside a read goes straight into its room; one that sticks out (the edges of
 *          an expert) goes through a bounce buffer and is copied to all who want a part.
 *
 * Order    Demand before prefetch everywhere; prefetches never take more than half of what is
 *          bounded. A demand that wants a piece of a prefetch promotes it.
 *
 * Ends     done once for each read: after every piece was checked and copied, or with the first
 *          error, when nothing writes into the room any more. A wanted piece that nobody gives
 *          is an error after wait_ms, counted from the demand; a prefetch that nobody can give
 *          fails at once.
 *
 * Invariants
 *   (1) A piece is in the table while new reads may join its fetch: from start until it ends,
 *       fails or is given up.
 *   (2) A fetch writes only into its bounce buffer or its owner's room, and the owner's read
 *       does not end while it does.
 *   (3) Nothing is allocated for a read: fetches, waits and bounce buffers come from pools; a
 *       read that finds them empty waits its turn.
 *
 * Threads  As source.h; the others from any thread.
 */
#ifndef DP_SWARM_SOURCE_SWARM_H
#define DP_SWARM_SOURCE_SWARM_H

#include "swarm/supply.h"
#include "tier/source.h"

#define DP_SOURCE_SWARM_FETCHES                                                                    \
    256 /* pieces under way: at 256 KiB 64 MiB, > 25 x 1 Gbit/s x 20 ms */
#define DP_SOURCE_SWARM_WAITS        1024                 /* (read, piece) pairs under way */
#define DP_SOURCE_SWARM_BOUNCE_BYTES ((uint64_t)16 << 20) /* at least two pieces, whatever size */
#define DP_SOURCE_SWARM_OWN_BYTES                                                                  \
    (DP_SOURCE_SWARM_BOUNCE_BYTES + ((uint64_t)16 << 20)) /* and connections, libtorrent */
#define DP_SOURCE_SWARM_WORKERS  4                        /* read and hash what is kept here */
#define DP_SOURCE_SWARM_WAIT_MS  60000
#define DP_SOURCE_SWARM_RETRY_MS 1000 /* what nobody had is asked for again */

typedef struct dp_source_swarm_config {
    const dp_layout *layout;     /* borrowed while open */
    const uint32_t *files;       /* [part_count] of the layout: the model's parts; copied */
    const dp_source_part *parts; /* [part_count] copied; names borrowed */
    uint32_t part_count;
    const dp_supply *supply; /* copied */
    uint32_t wait_ms;        /* 0: DP_SOURCE_SWARM_WAIT_MS */
    const dp_clock *clock;
    const char *name; /* for reports, borrowed */
} dp_source_swarm_config;

dp_status dp_source_swarm_open(dp_source **out, const dp_source_swarm_config *config,
                               dp_error *err);

/* Every 100 ms or so: gives up what waited too long, asks again. `is_changed`: somebody came
 * or has more than before. */
void dp_source_swarm_tick(dp_source *s, bool is_changed);
/* A piece that was wanted of the supply, checked; bytes are borrowed for the call. */
void dp_source_swarm_arrived(dp_source *s, uint32_t piece, const void *bytes);
/* Reads under way end with DP_E_CANCELED, as soon as nothing writes into their rooms. */
void dp_source_swarm_cancel_all(dp_source *s);
/* Reads and waits for it: headers and small files. file: of the layout. The source is not
 * closed meanwhile. */
dp_status dp_source_swarm_read(dp_source *s, uint32_t file, uint64_t offset, uint64_t size,
                               void *out, dp_error *err);

typedef struct dp_source_swarm_stats {
    uint64_t reads, failures;
    uint64_t kept_bytes, arrived_bytes; /* pieces that were here; that others gave */
    double page_ms_p50, page_ms_p99;    /* of demands that others gave a part of */
} dp_source_swarm_stats;
void dp_source_swarm_stats_read(dp_source *s, dp_source_swarm_stats *out);

#endif
