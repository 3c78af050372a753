/* piece_walk.h - every piece of files that are here, read once, by as many threads as help.
 *
 * Threads  visit runs on several at a time; progress on the caller's.
 */
#ifndef DP_SWARM_PIECE_WALK_H
#define DP_SWARM_PIECE_WALK_H

#include "doppler/engine.h"
#include "swarm/layout.h"

#define DP_PIECE_WALK_THREADS_MAX 8 /* a drive gives no more than they hash */

typedef struct dp_piece_walk {
    const dp_layout *layout;
    const char *const *paths; /* [layout->file_count] */
    dp_status (*visit)(void *user, uint32_t piece, const uint8_t *bytes, dp_error *err);
    void *user;
    dp_progress progress; /* false cancels; NULL is fine */
    void *progress_user;
} dp_piece_walk;

/* The first failure ends it. DP_E_CORRUPT: a file has another size than the layout says. */
dp_status dp_piece_walk_run(const dp_piece_walk *walk, dp_error *err);

#endif
