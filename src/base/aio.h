/* aio.h - asynchronous positional reads: submit, be called back.
 *
 * Room     One queue over one of two engines: io_uring (aio_uring.c), or reading
 *          threads (aio_threads.c) where io_uring is missing or forbidden
 *          (containers). The queue hides short reads, EINTR and EAGAIN; a
 *          request completes with all its bytes or with one error.
 *
 * Order    Demand requests start before prefetch requests, however long those
 *          have waited; within a class first come, first served. At most `depth`
 *          reads are with the system at a time.
 *
 * Threads  Submit and cancel: any. `done` runs on the queue's own thread, holds
 *          no lock of the queue, and may submit.
 *          The queue's thread alone talks to the system: pinning pages and
 *          waiting for a full device never cost the submitter time, and a
 *          submitter may end while its reads go on.
 *
 * Faults   DP_FAULT_AIO_READ (fails with EIO), DP_FAULT_AIO_SHORT (delivers a
 *          part first); one visit for each answer of the system.
 */
#ifndef DP_BASE_AIO_H
#define DP_BASE_AIO_H

#include "base/file.h"

#define DP_AIO_DEPTH_MAX 1024 /* more than any disk's own queue */

typedef struct dp_aio dp_aio;

typedef enum dp_aio_class { DP_AIO_DEMAND, DP_AIO_PREFETCH, DP_AIO_CLASS_COUNT } dp_aio_class;

typedef enum dp_aio_engine { DP_AIO_AUTO, DP_AIO_URING, DP_AIO_THREADS } dp_aio_engine;

typedef struct dp_aio_read {
    /* the caller fills these and keeps the struct alive until done */
    const dp_file *file;
    /* Past the page cache: then offset, size, out are multiples of DP_FILE_SECTOR;
     * size may reach past the end of the file by less than a sector. A file
     * without a direct twin is read through the cache all the same. */
    bool is_direct;
    dp_aio_class class_;
    uint64_t offset;
    size_t size;
    size_t size_needed; /* bytes that must arrive: size, or less at the end of a file */
    void *out;
    void (*done)(struct dp_aio_read *read, int errnum); /* errnum 0: all needed bytes are there;
                                   ENODATA: the file ends early; ECANCELED */
    void *user;
    /* the queue's own */
    struct dp_aio_read *_next;
    struct dp_aio_read *_previous;
    size_t _got;
    uint32_t _state;
    int _errnum;       /* what to tell done */
    bool _is_buffered; /* direct, but the rest comes from the page cache */
} dp_aio_read;

/* depth 1..DP_AIO_DEPTH_MAX; DP_AIO_AUTO tries io_uring first, DP_AIO_URING fails with
 * DP_E_UNSUPPORTED where there is none. */
dp_status dp_aio_open(dp_aio **out, dp_aio_engine engine, uint32_t depth, dp_error *err);
/* Cancels what has not started, waits for the rest; every `done` has run. */
void dp_aio_close(dp_aio *aio);
const char *dp_aio_engine_name(const dp_aio *aio); /* "io_uring", "threads" */

/* Never fails and never blocks on the disk: errors reach `done`. */
void dp_aio_submit(dp_aio *aio, dp_aio_read *read);
/* A prefetch that has not been given to the system yet becomes demand. */
void dp_aio_promote(dp_aio *aio, dp_aio_read *read);
/* Cancels it if it has not been given to the system; `done` (ECANCELED) still
 * runs. False when it is too late. */
bool dp_aio_cancel(dp_aio *aio, dp_aio_read *read);

#endif
