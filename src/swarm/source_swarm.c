/* Reads: cut into pieces, in order of their class, and ended once. Pieces are source_fetch.c's. */
#include "swarm/source_swarm_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

static dp_source_fit swarm_fit(dp_source *source, uint32_t file_index, uint64_t offset,
                               uint64_t size)
{
    return (dp_source_fit){ 0, size };
}

static const dp_source_part *swarm_parts(dp_source *source, uint32_t *count)
{
    *count = swarm_of(source)->part_count;
    return swarm_of(source)->parts;
}

void dp_read_settle_locked(swarm_source *s, dp_source_read *read)
{
    read_state *state = state_of(read);
    bool is_given_up = state->failed || state->is_canceled;

    if (state->is_ended || (state->next < state->end && !is_given_up))
        return;
    dp_link_remove(&state->link);
    state->is_ended = dp_link_is_alone(&state->waits);
    dp_link_insert(state->is_ended ? &s->ended : &s->running, &state->link);
    if (state->is_ended)
        dp_cond_signal(&s->work);
}

/* False: a pool is empty. */
static bool begin_all_locked(swarm_source *s, dp_source_read *read)
{
    read_state *state = state_of(read);

    while (state->next < state->end) {
        if (!dp_fetch_begin_locked(s, read, state->next))
            return false;
        state->next++;
    }
    dp_link_remove(&state->link);
    dp_link_insert(&s->running, &state->link);
    return true;
}

void dp_read_pump_locked(swarm_source *s)
{
    bool has_room = true;

    for (int class_ = 0; class_ < CLASSES && has_room; class_++)
        while (has_room && !dp_link_is_alone(&s->waiting[class_]))
            has_room = begin_all_locked(s, read_of(s->waiting[class_].next));
    dp_fetch_submit_locked(s);
}

/* Ending. */

static void count_time_locked(swarm_source *s, const read_state *state)
{
    uint64_t ns = dp_clock_now_ns(s->clock) - state->start_ns;

    if (state->class_ == DP_PAGER_DEMAND && state->is_remote)
        s->times_ms[s->time_count++ % TIMES_KEPT] = (float)((double)ns / 1e6);
}

/* What the read ended with; false: its bytes are there. */
static bool error_locked(swarm_source *s, dp_source_read *read, dp_error *error)
{
    read_state *state = state_of(read);

    if (state->failed) {
        *error = state->failed->error;
        dp_fetch_unpin_locked(s, state->failed);
        s->stats.failures++;
        dp_read_pump_locked(s); /* the unpinned fetch may be what somebody waits for */
    } else if (state->is_canceled) {
        dp_fail(error, DP_E_CANCELED, "%s: read of %llu bytes at byte %llu was canceled",
                s->layout->files[state->file].path, (unsigned long long)read->size,
                (unsigned long long)read->offset);
    } else {
        count_time_locked(s, state);
    }
    return state->failed || state->is_canceled;
}

void dp_read_finish_ended(swarm_source *s)
{
    dp_mutex_lock(&s->lock);
    while (!dp_link_is_alone(&s->ended)) {
        dp_source_read *read = read_of(s->ended.next);
        dp_error error;
        bool is_error;

        dp_link_remove(&state_of(read)->link);
        is_error = error_locked(s, read, &error);
        dp_mutex_unlock(&s->lock);
        read->done(read, is_error ? &error : NULL);
        dp_mutex_lock(&s->lock);
        s->live--;
        dp_cond_broadcast(&s->quiet);
    }
    dp_mutex_unlock(&s->lock);
}

/* The operations. */

static void submit_file(swarm_source *s, dp_source_read *read, uint32_t file)
{
    read_state *state = state_of(read);
    const dp_layout_file *f = &s->layout->files[file];
    uint64_t end;
    uint32_t first, count;

    DP_CHECK(read->size > 0 && dp_u64_add(read->offset, read->size, &end) &&
             end <= f->pieces.file_size);
    count = dp_pieces_of_range(f->pieces, read->offset, read->size, &first);
    *state = (read_state){
        .file = file,
        .next = f->first_piece + first,
        .end = f->first_piece + first + count,
        .start_ns = dp_clock_now_ns(s->clock),
        .class_ = read->is_prefetch ? DP_PAGER_PREFETCH : DP_PAGER_DEMAND,
    };
    dp_link_init(&state->link);
    dp_link_init(&state->waits);
    dp_mutex_lock(&s->lock);
    s->live++;
    s->stats.reads++;
    if (s->is_stopping) {
        state->is_canceled = true;
        dp_read_settle_locked(s, read);
    } else {
        dp_link_insert(&s->waiting[state->class_], &state->link);
        dp_read_pump_locked(s);
    }
    dp_mutex_unlock(&s->lock);
}

static void swarm_submit(dp_source *source, dp_source_read *read)
{
    swarm_source *s = swarm_of(source);

    DP_CHECK(read->file_index < s->part_count);
    submit_file(s, read, s->files[read->file_index]);
}

static void swarm_promote(dp_source *source, dp_source_read *read)
{
    swarm_source *s = swarm_of(source);
    read_state *state = state_of(read);

    dp_mutex_lock(&s->lock);
    if (state->class_ == DP_PAGER_PREFETCH && !state->is_ended) {
        state->class_ = DP_PAGER_DEMAND;
        state->start_ns = dp_clock_now_ns(s->clock);
        if (state->next < state->end && !state->failed && !state->is_canceled) {
            dp_link_remove(&state->link);
            dp_link_insert(&s->waiting[DP_PAGER_DEMAND], &state->link);
        }
        for (dp_link *link = state->waits.next; link != &state->waits; link = link->next)
            dp_fetch_raise_locked(s, DP_LISTED(link, wait, of_read)->fetch);
        dp_read_pump_locked(s);
    }
    dp_mutex_unlock(&s->lock);
}

/* Caller settles it or takes it back. */
static void give_up_locked(swarm_source *s, dp_source_read *read)
{
    state_of(read)->is_canceled = true;
    dp_fetch_abandon_locked(s, read);
}

static bool swarm_cancel(dp_source *source, dp_source_read *read)
{
    swarm_source *s = swarm_of(source);
    read_state *state = state_of(read);
    bool is_taken_back = false;

    dp_mutex_lock(&s->lock);
    if (!state->is_ended) {
        give_up_locked(s, read);
        is_taken_back = dp_link_is_alone(&state->waits);
        if (is_taken_back) {
            dp_link_remove(&state->link);
            if (state->failed)
                dp_fetch_unpin_locked(s, state->failed);
            s->live--;
            dp_cond_broadcast(&s->quiet);
        } else {
            dp_read_settle_locked(s, read);
        }
        dp_read_pump_locked(s);
    }
    dp_mutex_unlock(&s->lock);
    return is_taken_back;
}

static void give_up_all_locked(swarm_source *s)
{
    dp_link *lists[] = { &s->waiting[DP_PAGER_DEMAND], &s->waiting[DP_PAGER_PREFETCH],
                         &s->running };

    for (size_t i = 0; i < DP_ARRAY_LEN(lists); i++) {
        dp_link *last = lists[i]->previous, *next;
        bool is_over = dp_link_is_alone(lists[i]);

        /* What cannot end yet is put behind the last. */
        for (dp_link *link = lists[i]->next; !is_over; link = next) {
            is_over = link == last;
            next = link->next;
            give_up_locked(s, read_of(link));
            /* Those of the first lists come by once more, in the last: harmless. */
            dp_read_settle_locked(s, read_of(link));
        }
    }
}

void dp_source_swarm_cancel_all(dp_source *source)
{
    swarm_source *s = swarm_of(source);

    dp_mutex_lock(&s->lock);
    give_up_all_locked(s);
    dp_mutex_unlock(&s->lock);
    dp_read_finish_ended(s);
}

/* Reading and waiting. */

typedef struct waiter {
    dp_mutex lock;
    dp_cond changed;
    bool is_done;
    dp_error *err;
    dp_status status;
} waiter;

static void wake(dp_source_read *read, const dp_error *error)
{
    waiter *w = read->user;

    dp_mutex_lock(&w->lock);
    w->status = error ? error->status : DP_OK;
    if (error && w->err)
        *w->err = *error;
    w->is_done = true;
    dp_cond_signal(&w->changed);
    dp_mutex_unlock(&w->lock);
}

dp_status dp_source_swarm_read(dp_source *source, uint32_t file, uint64_t offset, uint64_t size,
                               void *out, dp_error *err)
{
    waiter w = { .err = err };
    dp_source_read read = { .offset = offset, .size = size, .room = out, .done = wake, .user = &w };

    dp_mutex_init(&w.lock);
    dp_cond_init(&w.changed);
    submit_file(swarm_of(source), &read, file);
    dp_mutex_lock(&w.lock);
    while (!w.is_done)
        dp_cond_wait(&w.changed, &w.lock);
    dp_mutex_unlock(&w.lock);
    dp_cond_deinit(&w.changed);
    dp_mutex_deinit(&w.lock);
    return w.status;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

void dp_source_swarm_stats_read(dp_source *source, dp_source_swarm_stats *out)
{
    swarm_source *s = swarm_of(source);
    float times[TIMES_KEPT];
    size_t count;

    dp_mutex_lock(&s->lock);
    *out = s->stats;
    count = (size_t)DP_MIN(s->time_count, TIMES_KEPT);
    memcpy(times, s->times_ms, count * sizeof *times);
    dp_mutex_unlock(&s->lock);
    if (count == 0)
        return;
    qsort(times, count, sizeof *times, by_value);
    out->page_ms_p50 = (double)times[count / 2];
    out->page_ms_p99 = (double)times[count * 99 / 100];
}

static void swarm_count(dp_source *source, dp_source_counts *out)
{
    swarm_source *s = swarm_of(source);

    dp_mutex_lock(&s->lock);
    *out = s->counts;
    dp_mutex_unlock(&s->lock);
}

/* Open and close. */

static void stop_threads(swarm_source *s)
{
    dp_mutex_lock(&s->lock);
    while (s->live || s->busy)
        dp_cond_wait(&s->quiet, &s->lock);
    s->is_over = true;
    dp_cond_broadcast(&s->work);
    dp_mutex_unlock(&s->lock);
    for (uint32_t i = 0; i < s->thread_count; i++)
        dp_thread_join(&s->threads[i]);
}

/* No reads are left. */
static void tear_down(swarm_source *s)
{
    stop_threads(s);
    dp_fetches_close(s);
    dp_free(s->files);
    dp_free(s->parts);
    dp_cond_deinit(&s->work);
    dp_cond_deinit(&s->quiet);
    dp_mutex_deinit(&s->lock);
    dp_free(s);
}

static void swarm_close(dp_source *source)
{
    swarm_source *s = source ? swarm_of(source) : NULL;

    if (!s)
        return;
    dp_mutex_lock(&s->lock);
    s->is_stopping = true;
    give_up_all_locked(s);
    dp_mutex_unlock(&s->lock);
    dp_read_finish_ended(s);
    s->supply.stop(s->supply.user);
    tear_down(s);
}

static const dp_source_ops swarm_ops = { swarm_fit,   swarm_submit, swarm_promote, swarm_cancel,
                                         swarm_close, swarm_parts,  swarm_count };

static void init_lists(swarm_source *s)
{
    dp_link *lists[] = {
        &s->waiting[0], &s->waiting[1], &s->kept[0],      &s->kept[1],    &s->running,
        &s->ended,      &s->parked,     &s->free_fetches, &s->free_waits,
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(lists); i++)
        dp_link_init(lists[i]);
}

static dp_status copy_parts(swarm_source *s, const dp_source_swarm_config *config, dp_error *err)
{
    s->part_count = config->part_count;
    s->files = dp_alloc_zero(s->part_count, sizeof *s->files);
    s->parts = dp_alloc_zero(s->part_count, sizeof *s->parts);
    if (!s->files || !s->parts)
        return dp_fail(err, DP_E_NOMEM, "no memory for a table of %u files", s->part_count);
    memcpy(s->files, config->files, s->part_count * sizeof *s->files);
    memcpy(s->parts, config->parts, s->part_count * sizeof *s->parts);
    return DP_OK;
}

dp_status dp_source_swarm_open(dp_source **out, const dp_source_swarm_config *config, dp_error *err)
{
    swarm_source *s = dp_alloc_zero(1, sizeof *s);
    uint32_t wait_ms = config->wait_ms ? config->wait_ms : DP_SOURCE_SWARM_WAIT_MS;
    dp_status st;

    *out = NULL;
    if (!s)
        return dp_fail(err, DP_E_NOMEM, "no memory for a source of pieces");
    s->base = (dp_source){ &swarm_ops, config->name, DP_SOURCE_SWARM_OWN_BYTES };
    s->layout = config->layout;
    s->supply = *config->supply;
    s->clock = config->clock;
    s->wait_ns = (uint64_t)wait_ms * 1000000;
    dp_mutex_init(&s->lock);
    dp_cond_init(&s->work);
    dp_cond_init(&s->quiet);
    init_lists(s);

    st = copy_parts(s, config, err);
    if (!st)
        st = dp_fetches_open(s, err);
    while (!st && s->thread_count < DP_SOURCE_SWARM_WORKERS) {
        st = dp_thread_start(&s->threads[s->thread_count], "dp-pieces", dp_fetch_work, s, err);
        s->thread_count += st == DP_OK;
    }
    if (st)
        tear_down(s);
    else
        *out = &s->base; /* the caller owns it now */
    return st;
}
