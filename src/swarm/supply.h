/* supply.h - where the pieces of one model can come from: what a source stands on.
 *
 * Room     An interface owned by source_swarm.h, which turns reads of ranges into pieces. A
 *          mount implements it with a store, a pager and a torrent; tests script it.
 *
 * Threads  Any, several at a time. `read`, `keep` and `stop` run with no lock held; the others
 *          under the source's lock: they wait for nothing and never call back from inside.
 */
#ifndef DP_SWARM_SUPPLY_H
#define DP_SWARM_SUPPLY_H

#include "swarm/pager.h"

typedef struct dp_supply {
    void *user;

    /* What is kept here. */
    bool (*has)(void *user, uint32_t piece);
    /* Checked bytes. Any failure means: ask others for it. */
    dp_status (*read)(void *user, uint32_t piece, void *out, dp_error *err);
    /* It came and is what is known of it. DP_E_CORRUPT: it contradicts what was here before;
     * that is the read's error. Not being kept is none. */
    dp_status (*keep)(void *user, uint32_t piece, const void *bytes, dp_error *err);

    /* Who answers ranges; the contract is pager.h's. */
    void (*submit)(void *user, dp_pager_job *const *jobs, size_t count);
    void (*promote)(void *user, dp_pager_job *job);
    bool (*cancel)(void *user, dp_pager_job *job);

    /* Who is slower: asked when a job ended with DP_E_NOTFOUND. True: somebody may give it,
     * and dp_source_swarm_arrived will say so. Asked once until unwanted. */
    bool (*want)(void *user, uint32_t piece, uint32_t deadline_ms);
    void (*unwant)(void *user, uint32_t piece);
    /* Who was asked, for a sentence: "3 peers, none holds it". */
    void (*explain)(void *user, uint32_t piece, char *out, size_t size);

    /* Ends every job: their `done` has run when it returns, and none is taken any more: what is
     * submitted later ends with DP_E_CANCELED. */
    void (*stop)(void *user);
} dp_supply;

#endif
