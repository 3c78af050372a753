/* piece_check.h - reads what is given to others once, so that damage is known before it is asked for.
 *
 * Room     A thread that reads every piece of a share through the store, which hashes it, lets
 *          go of what is not right and tells (store.h, on_gone): peers hear of a don't-have
 *          instead of meeting a broken answer. It works a quarter of the time, so that those
 *          who ask have the drive, and ends when it has seen everything once.
 *
 * Threads  Open and close from one; close waits for the piece that is being read.
 */
#ifndef DP_SWARM_PIECE_CHECK_H
#define DP_SWARM_PIECE_CHECK_H

#include "store/store.h"
#include "swarm/layout.h"

#define DP_PIECE_CHECK_RESTS 3 /* times as long as it works */

typedef struct dp_piece_check dp_piece_check;

/* layout and files [layout->file_count] are borrowed until close. DP_E_NOMEM, DP_E_IO. */
dp_status dp_piece_check_open(dp_piece_check **out, const dp_layout *layout,
                              dp_store_file *const *files, const dp_clock *clock, dp_error *err);
void dp_piece_check_close(dp_piece_check *check);

#endif
