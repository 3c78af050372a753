#include "base/aio.h"

#include <errno.h>

#include "base/aio_engine.h"
#include "base/assert.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/thread.h"

#define ANSWERS_A_WAIT 64

/* Of dp_aio_read._state. QUEUED: in the list of its class. STARTED: with the
 * system. ENDED: `done` runs soon, or has run. */
enum read_state { STATE_ENDED, STATE_QUEUED, STATE_STARTED };

struct list {
    dp_aio_read *first;
    dp_aio_read *last;
};

struct dp_aio {
    const dp_aio_ops *ops;
    void *engine;
    uint32_t depth;
    dp_thread thread;

    dp_mutex lock; /* guards what follows and the queue's fields of every read; leaf */
    struct list queued[DP_AIO_CLASS_COUNT];
    struct list canceled; /* ended before they started; their `done` has yet to run */
    uint32_t started_count;
    bool is_waiting; /* the queue's thread is in ops->wait, or about to be, and needs a wake */
    bool is_closing;
};

static void list_append(struct list *list, dp_aio_read *read)
{
    read->_next = NULL;
    read->_previous = list->last;
    if (list->last)
        list->last->_next = read;
    else
        list->first = read;
    list->last = read;
}

static void list_remove(struct list *list, dp_aio_read *read)
{
    if (read->_previous)
        read->_previous->_next = read->_next;
    else
        list->first = read->_next;
    if (read->_next)
        read->_next->_previous = read->_previous;
    else
        list->last = read->_previous;
    read->_next = NULL;
    read->_previous = NULL;
}

static dp_aio_read *list_take(struct list *list)
{
    dp_aio_read *read = list->first;

    if (read)
        list_remove(list, read);
    return read;
}

/* Gives the rest of a read to the system. The queue's thread. */
static void start_rest(dp_aio *aio, dp_aio_read *read)
{
    bool is_direct = read->is_direct && read->file->fd_direct >= 0 && !read->_is_buffered;
    dp_aio_piece piece = {
        .fd = is_direct ? read->file->fd_direct : read->file->fd,
        .is_direct = is_direct,
        .offset = read->offset + read->_got,
        /* Direct reads ask for whole sectors, past the end of the file if need be. */
        .size = (is_direct ? read->size : read->size_needed) - read->_got,
        .out = (uint8_t *)read->out + read->_got,
        .read = read,
    };

    piece.size = DP_MIN(piece.size, DP_AIO_PIECE_MAX);
    aio->ops->start(aio->engine, &piece);
}

/* Starts reads until so many are with the system, demand first. Caller holds aio->lock. */
static void refill_locked(dp_aio *aio, uint32_t count)
{
    while (aio->started_count < count) {
        dp_aio_read *read = list_take(&aio->queued[DP_AIO_DEMAND]);

        if (!read)
            read = list_take(&aio->queued[DP_AIO_PREFETCH]);
        if (!read)
            return;
        read->_state = STATE_STARTED;
        aio->started_count++;
        start_rest(aio, read);
    }
}

/* Takes the system's answer into the read: true when the read has ended, false
 * when the rest must be asked for. */
static bool settle(dp_aio_read *read, int64_t result)
{
    if (dp_fault_visit(DP_FAULT_AIO_READ))
        result = -EIO;
    if (result > 1 && dp_fault_visit(DP_FAULT_AIO_SHORT))
        result /= 2;

    if (result == -EINTR || result == -EAGAIN)
        return false;
    /* Some file systems open with O_DIRECT and then refuse to read so. */
    if (result == -EINVAL && read->is_direct && !read->_is_buffered) {
        read->_is_buffered = true;
        return false;
    }
    if (result < 0) {
        read->_errnum = (int)-result;
        return true;
    }
    read->_got += (size_t)result;
    if (read->_got >= read->size_needed)
        return true;
    if (result == 0) {
        read->_errnum = ENODATA;
        return true;
    }
    /* A direct read must begin at a sector; one that stopped within is finished
     * through the page cache. */
    if (read->_got % DP_FILE_SECTOR != 0)
        read->_is_buffered = true;
    return false;
}

/* Caller holds aio->lock. */
static void answer_locked(dp_aio *aio, const dp_aio_answer *answer, struct list *ended)
{
    dp_aio_read *read = answer->read;

    if (!settle(read, answer->result)) {
        start_rest(aio, read);
        return;
    }
    aio->started_count--;
    read->_state = STATE_ENDED;
    list_append(ended, read);
}

/* Moves the canceled behind the ended. Caller holds aio->lock. */
static void take_canceled_locked(dp_aio *aio, struct list *ended)
{
    dp_aio_read *read;

    while ((read = list_take(&aio->canceled)))
        list_append(ended, read);
}

/* Caller holds aio->lock; the read is in no list. */
static void cancel_locked(dp_aio *aio, dp_aio_read *read)
{
    read->_state = STATE_ENDED;
    read->_errnum = ECANCELED;
    list_append(&aio->canceled, read);
}

/* No lock: `done` may submit, and may free the read. */
static void run_done(struct list *ended)
{
    dp_aio_read *read;

    while ((read = list_take(ended)))
        read->done(read, read->_errnum);
}

static void queue_main(void *user)
{
    dp_aio *aio = user;
    dp_aio_answer answers[ANSWERS_A_WAIT];
    size_t answer_count = 0;

    dp_thread_hurry(); /* a drive may rest until it is given more */
    for (;;) {
        struct list ended = { NULL, NULL };
        bool was_idle, is_over;

        dp_mutex_lock(&aio->lock);
        aio->is_waiting = false;
        for (size_t i = 0; i < answer_count; i++)
            answer_locked(aio, &answers[i], &ended);
        /* To a drive that rests one read goes by itself: it works while the others are
         * prepared, which takes some 10 us for each MiB. */
        was_idle = aio->started_count == 0;
        refill_locked(aio, was_idle ? 1 : aio->depth);
        was_idle = was_idle && aio->started_count > 0;
        take_canceled_locked(aio, &ended);
        is_over = aio->is_closing && aio->started_count == 0 && !ended.first;
        aio->is_waiting = !ended.first && !was_idle;
        dp_mutex_unlock(&aio->lock);
        if (is_over)
            return;

        /* The disk works while callbacks run. After them look at the lists again
         * before waiting: they may have submitted, without a wake. */
        answer_count = 0;
        if (ended.first || was_idle) {
            aio->ops->flush(aio->engine);
            run_done(&ended);
        } else {
            answer_count = aio->ops->wait(aio->engine, answers, ANSWERS_A_WAIT);
        }
    }
}

static dp_status open_engine(dp_aio *aio, dp_aio_engine engine, dp_error *err)
{
    dp_error why;
    dp_status st;

    aio->ops = engine == DP_AIO_THREADS ? &dp_aio_ops_threads : &dp_aio_ops_uring;
    st = aio->ops->open(&aio->engine, aio->depth, engine == DP_AIO_AUTO ? &why : err);
    if (engine != DP_AIO_AUTO || st == DP_OK)
        return st;
    DP_LOG_INFO("aio", "fallback engine=threads reason=\"%s\"", why.text);
    aio->ops = &dp_aio_ops_threads;
    return aio->ops->open(&aio->engine, aio->depth, err);
}

dp_status dp_aio_open(dp_aio **out, dp_aio_engine engine, uint32_t depth, dp_error *err)
{
    dp_status st = DP_OK;
    dp_aio *aio = NULL;

    *out = NULL;
    if (depth == 0 || depth > DP_AIO_DEPTH_MAX) {
        st = dp_fail(err, DP_E_LIMIT, "aio: depth %u, must be 1 to %u", depth, DP_AIO_DEPTH_MAX);
        goto done;
    }
    aio = dp_alloc_zero(1, sizeof *aio);
    if (!aio) {
        st = dp_fail(err, DP_E_NOMEM, "aio: no memory for a queue");
        goto done;
    }
    aio->depth = depth;
    dp_mutex_init(&aio->lock);
    st = open_engine(aio, engine, err);
    if (st)
        goto done;
    st = dp_thread_start(&aio->thread, "dp-aio", queue_main, aio, err);
    if (st)
        goto done;

    *out = aio;
    aio = NULL;
done:
    if (aio) {
        if (aio->engine)
            aio->ops->close(aio->engine);
        dp_mutex_deinit(&aio->lock);
        dp_free(aio);
    }
    return st;
}

/* Caller holds aio->lock. True: call wake_up after unlocking. One wake is enough
 * until the queue's thread has looked at the lists. */
static bool need_wake_locked(dp_aio *aio)
{
    bool need = aio->is_waiting;

    aio->is_waiting = false;
    return need;
}

void dp_aio_close(dp_aio *aio)
{
    dp_aio_read *read;

    if (!aio)
        return;
    dp_mutex_lock(&aio->lock);
    aio->is_closing = true;
    for (int class_ = 0; class_ < DP_AIO_CLASS_COUNT; class_++)
        while ((read = list_take(&aio->queued[class_])))
            cancel_locked(aio, read);
    dp_mutex_unlock(&aio->lock);
    aio->ops->wake(aio->engine);
    dp_thread_join(&aio->thread);
    aio->ops->close(aio->engine);
    dp_mutex_deinit(&aio->lock);
    dp_free(aio);
}

const char *dp_aio_engine_name(const dp_aio *aio)
{
    return aio->ops->name;
}

void dp_aio_submit(dp_aio *aio, dp_aio_read *read)
{
    bool need_wake;

    DP_ASSERT(read->size_needed <= read->size);
    DP_ASSERT(!read->is_direct ||
              (read->offset | read->size | (uintptr_t)read->out) % DP_FILE_SECTOR == 0);
    read->_got = 0;
    read->_errnum = 0;
    read->_is_buffered = false;
    dp_mutex_lock(&aio->lock);
    if (aio->is_closing) {
        cancel_locked(aio, read);
    } else {
        read->_state = STATE_QUEUED;
        list_append(&aio->queued[read->class_], read);
    }
    need_wake = need_wake_locked(aio);
    dp_mutex_unlock(&aio->lock);
    if (need_wake)
        aio->ops->wake(aio->engine);
}

void dp_aio_promote(dp_aio *aio, dp_aio_read *read)
{
    dp_mutex_lock(&aio->lock);
    if (read->_state == STATE_QUEUED && read->class_ == DP_AIO_PREFETCH) {
        list_remove(&aio->queued[DP_AIO_PREFETCH], read);
        read->class_ = DP_AIO_DEMAND;
        list_append(&aio->queued[DP_AIO_DEMAND], read);
    }
    dp_mutex_unlock(&aio->lock);
}

bool dp_aio_cancel(dp_aio *aio, dp_aio_read *read)
{
    bool is_canceled = false;
    bool need_wake = false;

    dp_mutex_lock(&aio->lock);
    if (read->_state == STATE_QUEUED) {
        list_remove(&aio->queued[read->class_], read);
        cancel_locked(aio, read);
        is_canceled = true;
        need_wake = need_wake_locked(aio);
    }
    dp_mutex_unlock(&aio->lock);
    if (need_wake)
        aio->ops->wake(aio->engine);
    return is_canceled;
}
