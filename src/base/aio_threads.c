#include "base/aio_engine.h"

#include <errno.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/status.h"
#include "base/thread.h"

#define THREADS_MAX 16 /* enough to keep a disk busy; deeper queues wait in the line below */

/* Two bounded rings under one lock: pieces to read, answers to collect. Neither
 * can overflow, as at most `depth` pieces are between start and wait. */
struct readers {
    dp_thread threads[THREADS_MAX];
    uint32_t thread_count;
    uint32_t depth;

    dp_mutex lock; /* guards what follows; never held while reading */
    dp_cond has_piece;
    dp_cond has_answer;   /* or was woken */
    dp_aio_piece *pieces; /* [depth] */
    uint32_t piece_first;
    uint32_t piece_count;
    dp_aio_answer *answers; /* [depth] */
    uint32_t answer_first;
    uint32_t answer_count;
    bool is_woken;
    bool is_closing;
};

static void reader_main(void *user)
{
    struct readers *readers = user;

    dp_mutex_lock(&readers->lock);
    for (;;) {
        dp_aio_piece piece;
        ssize_t got;

        while (readers->piece_count == 0 && !readers->is_closing)
            dp_cond_wait(&readers->has_piece, &readers->lock);
        if (readers->piece_count == 0)
            break;
        piece = readers->pieces[readers->piece_first];
        readers->piece_first = (readers->piece_first + 1) % readers->depth;
        readers->piece_count--;
        dp_mutex_unlock(&readers->lock);

        got = pread(piece.fd, piece.out, piece.size, (off_t)piece.offset);
        if (got < 0)
            got = -errno;

        dp_mutex_lock(&readers->lock);
        readers->answers[(readers->answer_first + readers->answer_count) % readers->depth] =
            (dp_aio_answer){ piece.read, got };
        readers->answer_count++;
        dp_cond_signal(&readers->has_answer);
    }
    dp_mutex_unlock(&readers->lock);
}

static void readers_close(void *engine)
{
    struct readers *readers = engine;

    dp_mutex_lock(&readers->lock);
    readers->is_closing = true;
    dp_cond_broadcast(&readers->has_piece);
    dp_mutex_unlock(&readers->lock);
    for (uint32_t i = 0; i < readers->thread_count; i++)
        dp_thread_join(&readers->threads[i]);
    dp_cond_deinit(&readers->has_piece);
    dp_cond_deinit(&readers->has_answer);
    dp_mutex_deinit(&readers->lock);
    dp_free(readers->pieces);
    dp_free(readers->answers);
    dp_free(readers);
}

static dp_status readers_open(void **out, uint32_t depth, dp_error *err)
{
    struct readers *readers = dp_alloc_zero(1, sizeof *readers);
    dp_status st = DP_OK;

    *out = NULL;
    if (!readers)
        return dp_fail(err, DP_E_NOMEM, "aio: no memory for reading threads");
    readers->depth = depth;
    dp_mutex_init(&readers->lock);
    dp_cond_init(&readers->has_piece);
    dp_cond_init(&readers->has_answer);
    readers->pieces = dp_alloc_zero(depth, sizeof *readers->pieces);
    readers->answers = dp_alloc_zero(depth, sizeof *readers->answers);
    if (!readers->pieces || !readers->answers) {
        st = dp_fail(err, DP_E_NOMEM, "aio: no memory for %u reads at a time", depth);
        goto done;
    }
    while (readers->thread_count < DP_MIN(depth, THREADS_MAX)) {
        st = dp_thread_start(&readers->threads[readers->thread_count], "dp-read", reader_main,
                             readers, err);
        if (st)
            goto done;
        readers->thread_count++;
    }

    *out = readers;
    readers = NULL;
done:
    if (readers)
        readers_close(readers);
    return st;
}

static void readers_start(void *engine, const dp_aio_piece *piece)
{
    struct readers *readers = engine;

    dp_mutex_lock(&readers->lock);
    readers->pieces[(readers->piece_first + readers->piece_count) % readers->depth] = *piece;
    readers->piece_count++;
    dp_cond_signal(&readers->has_piece);
    dp_mutex_unlock(&readers->lock);
}

static void readers_flush(void *engine)
{
    /* start has handed the piece to a thread already */
}

static size_t readers_wait(void *engine, dp_aio_answer *answers, size_t answer_max)
{
    struct readers *readers = engine;
    size_t count = 0;

    dp_mutex_lock(&readers->lock);
    while (readers->answer_count == 0 && !readers->is_woken)
        dp_cond_wait(&readers->has_answer, &readers->lock);
    readers->is_woken = false;
    while (count < answer_max && readers->answer_count > 0) {
        answers[count++] = readers->answers[readers->answer_first];
        readers->answer_first = (readers->answer_first + 1) % readers->depth;
        readers->answer_count--;
    }
    dp_mutex_unlock(&readers->lock);
    return count;
}

static void readers_wake(void *engine)
{
    struct readers *readers = engine;

    dp_mutex_lock(&readers->lock);
    readers->is_woken = true;
    dp_cond_signal(&readers->has_answer);
    dp_mutex_unlock(&readers->lock);
}

const dp_aio_ops dp_aio_ops_threads = {
    .name = "threads",
    .open = readers_open,
    .close = readers_close,
    .start = readers_start,
    .flush = readers_flush,
    .wait = readers_wait,
    .wake = readers_wake,
};
