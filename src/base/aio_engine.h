/* aio_engine.h - what one way of reading offers to the queue. Seen by aio*.c only.
 *
 * Room     An engine reads pieces and reports what the system said, no more:
 *          order, depth, short reads, errors and callbacks are aio.c's.
 *
 * Threads  start, flush and wait: the queue's thread. wake: any thread. open and close:
 *          while no queue's thread runs.
 */
#ifndef DP_BASE_AIO_ENGINE_H
#define DP_BASE_AIO_ENGINE_H

#include "base/aio.h"

#define DP_AIO_PIECE_MAX ((size_t)1 << 30) /* one system call; Linux stops short of 2 GiB */

typedef struct dp_aio_piece {
    int fd;
    bool is_direct;
    uint64_t offset;
    size_t size; /* at most DP_AIO_PIECE_MAX */
    void *out;
    dp_aio_read *read; /* handed back */
} dp_aio_piece;

typedef struct dp_aio_answer {
    dp_aio_read *read;
    int64_t result; /* bytes, or -errno */
} dp_aio_answer;

typedef struct dp_aio_ops {
    const char *name;
    /* For at most `depth` pieces at a time. DP_E_UNSUPPORTED: not on this system. */
    dp_status (*open)(void **out, uint32_t depth, dp_error *err);
    void (*close)(void *engine); /* no piece is with the system any more */
    void (*start)(void *engine, const dp_aio_piece *piece);
    /* Started pieces are with the system when this or wait has begun. */
    void (*flush)(void *engine);
    /* Waits for an answer or a wake; takes at most answer_max, may return 0. */
    size_t (*wait)(void *engine, dp_aio_answer *answers, size_t answer_max);
    /* Makes the wait that runs, or else the next one, return. */
    void (*wake)(void *engine);
} dp_aio_ops;

extern const dp_aio_ops dp_aio_ops_uring;
extern const dp_aio_ops dp_aio_ops_threads;

#endif
