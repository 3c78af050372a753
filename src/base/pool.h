/* pool.h - workers for data-parallel loops with low wake-up cost.
 *
 * Room     A step runs hundreds of short loops, so a worker spins for a bounded
 *          time after each one before it sleeps on a futex. The caller works
 *          too: a pool of 1 has no thread of its own.
 *
 * Results  The pool says nothing about order: bodies must write disjoint
 *          outputs, so that results do not depend on the thread count.
 *
 * Threads  One caller at a time (the step thread).
 */
#ifndef DP_BASE_POOL_H
#define DP_BASE_POOL_H

#include "base/base.h"
#include "doppler/status.h"

#define DP_POOL_THREADS_MAX 256

typedef struct dp_pool dp_pool;

/* Items [begin, end) of the loop; worker in [0, thread_count). */
typedef void (*dp_pool_body)(void *user, size_t begin, size_t end, uint32_t worker);

/* thread_count >= 1 counts the caller. DP_E_LIMIT, DP_E_NOMEM. */
dp_status dp_pool_open(dp_pool **out, uint32_t thread_count, dp_error *err);
void dp_pool_close(dp_pool *pool); /* NULL is fine */
uint32_t dp_pool_thread_count(const dp_pool *pool);

/* Runs body over [0, count) in runs of `grain` items (the last may be shorter),
 * handed out as workers come free; returns when all are done. All that bodies
 * wrote is visible to the caller. */
void dp_pool_run(dp_pool *pool, size_t count, size_t grain, dp_pool_body body, void *user);

#endif
