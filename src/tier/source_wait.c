#include "tier/source_wait.h"

#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "base/thread.h"

typedef struct wait {
    dp_source_read read;
    dp_mutex lock; /* guards what follows */
    dp_cond changed;
    bool is_over;
    bool has_failed;
    dp_error error;
} wait;

/* dp_source_read.done. Signals under the lock: once that is free, `wait` may be gone. */
static void on_done(dp_source_read *read, const dp_error *error)
{
    wait *w = read->user;

    dp_mutex_lock(&w->lock);
    w->is_over = true;
    w->has_failed = error != NULL;
    if (error)
        w->error = *error;
    dp_cond_signal(&w->changed);
    dp_mutex_unlock(&w->lock);
}

/* False: the read was taken back, and is over without having ended. */
static bool wait_for_end(wait *w, dp_source *s, const atomic_bool *cancel)
{
    bool is_canceled = false, is_taken_back = false;

    dp_mutex_lock(&w->lock);
    while (!w->is_over && !is_taken_back) {
        if (cancel && !is_canceled && atomic_load_explicit(cancel, memory_order_relaxed)) {
            is_canceled = true;
            dp_mutex_unlock(&w->lock); /* taken after the source's in done */
            is_taken_back = s->ops->cancel(s, &w->read);
            dp_mutex_lock(&w->lock);
        } else if (cancel && !is_canceled) {
            dp_cond_wait_for(&w->changed, &w->lock, DP_SOURCE_WAIT_LOOK_NS);
        } else {
            dp_cond_wait(&w->changed, &w->lock);
        }
    }
    dp_mutex_unlock(&w->lock);
    return !is_taken_back;
}

dp_status dp_source_wait_read(dp_source *s, uint32_t file_index, uint64_t offset, void *out,
                              size_t size, const atomic_bool *cancel, dp_error *err)
{
    dp_source_fit fit = s->ops->fit(s, file_index, offset, size);
    wait w = { .read = { .file_index = file_index,
                         .offset = offset,
                         .size = size,
                         .done = on_done,
                         .user = &w } };
    dp_status st = DP_OK;

    if (size == 0)
        return DP_OK;
    w.read.room = dp_map_acquire(fit.room);
    if (!w.read.room)
        return dp_fail(err, DP_E_NOMEM, "no memory for reading %zu bytes", size);
    dp_mutex_init(&w.lock);
    dp_cond_init(&w.changed);
    s->ops->submit(s, &w.read);
    if (!wait_for_end(&w, s, cancel))
        st = dp_fail(err, DP_E_CANCELED, "a read of %zu bytes was canceled", size);
    else if (w.has_failed)
        st = dp_fail(err, w.error.status, "%s", w.error.text);
    else
        memcpy(out, (uint8_t *)w.read.room + fit.lead, size);
    dp_cond_deinit(&w.changed);
    dp_mutex_deinit(&w.lock);
    dp_map_release(w.read.room, fit.room);
    return st;
}
