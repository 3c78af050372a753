/* Pieces under way. A fetch that ends may end reads; their `done` runs after the lock is
 * given back, on the thread that ended them or on a worker. */
#include "swarm/source_swarm_impl.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

#define BOUNCES_MIN 2

static void job_done(dp_pager_job *job, uint32_t endpoint, const dp_error *error);

static wait *wait_of(dp_link *of_fetch)
{
    return DP_LISTED(of_fetch, wait, of_fetch);
}

/* Pools and the table. */

static fetch **bucket_of(swarm_source *s, uint32_t piece)
{
    return &s->table[piece & (TABLE_SIZE - 1)];
}

static fetch *find_locked(swarm_source *s, uint32_t piece)
{
    fetch *f = *bucket_of(s, piece);

    while (f && f->job.piece != piece)
        f = f->next;
    return f;
}

static void leave_table_locked(swarm_source *s, fetch *f)
{
    fetch **at = bucket_of(s, f->job.piece);

    if (!f->is_in_table)
        return;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    f->is_in_table = false;
    if (f->is_wanted) /* before another fetch of the piece may want it */
        s->supply.unwant(s->supply.user, f->job.piece);
    f->is_wanted = false;
}

/* NULL: all are in use, or as many as prefetches may have. */
static uint8_t *take_bounce_locked(swarm_source *s, bool is_prefetch)
{
    if (is_prefetch && s->bounce_prefetches >= DP_MAX(s->bounce_max / PREFETCH_SHARE, 1))
        return NULL;
    if (s->bounce_free == 0 && s->bounce_made < s->bounce_max) {
        uint8_t *more = dp_map_acquire(s->layout->piece_size);
        if (more) {
            s->bounces[s->bounce_free++] = more;
            s->bounce_made++;
        }
    }
    return s->bounce_free ? s->bounces[--s->bounce_free] : NULL;
}

static void count_prefetch_locked(swarm_source *s, fetch *f, bool is_counted)
{
    if (f->is_counted == is_counted)
        return;
    f->is_counted = is_counted;
    s->busy_prefetches += is_counted ? 1 : (uint32_t)-1;
    if (f->bounce)
        s->bounce_prefetches += is_counted ? 1 : (uint32_t)-1;
}

/* Nothing writes into it and nobody waits for it. */
static void retire_locked(swarm_source *s, fetch *f)
{
    DP_ASSERT(dp_link_is_alone(&f->waits) && !f->is_with_worker);
    leave_table_locked(s, f);
    count_prefetch_locked(s, f, false);
    if (f->bounce)
        s->bounces[s->bounce_free++] = f->bounce;
    f->bounce = NULL;
    f->owner = NULL;
    dp_link_remove(&f->link);
    f->state = FETCH_FREE;
    s->busy--;
    if (f->pins == 0)
        dp_link_insert(&s->free_fetches, &f->link);
    dp_cond_broadcast(&s->quiet);
}

void dp_fetch_unpin_locked(swarm_source *s, fetch *f)
{
    if (--f->pins == 0 && f->state == FETCH_FREE)
        dp_link_insert(&s->free_fetches, &f->link);
}

static void end_wait_locked(swarm_source *s, wait *w)
{
    dp_link_remove(&w->of_fetch);
    dp_link_remove(&w->of_read);
    dp_link_insert(&s->free_waits, &w->of_fetch);
}

/* Beginning. */

static void queue_for_worker_locked(swarm_source *s, fetch *f)
{
    f->state = FETCH_KEPT;
    dp_link_insert(&s->kept[f->is_demand ? DP_PAGER_DEMAND : DP_PAGER_PREFETCH], &f->link);
    dp_cond_signal(&s->work);
}

static void prepare_job_locked(swarm_source *s, fetch *f)
{
    f->state = FETCH_ASKED;
    f->job.class_ = f->is_demand ? DP_PAGER_DEMAND : DP_PAGER_PREFETCH;
    f->job.deadline_ns = f->deadline_ns;
    f->job.done = job_done;
    f->job.user = f;
}

static void ask_locked(swarm_source *s, fetch *f)
{
    dp_pager_job *job = &f->job;

    prepare_job_locked(s, f);
    s->supply.submit(s->supply.user, &job, 1);
}

/* Where in the read's room the piece belongs whole; NULL: it sticks out. */
static uint8_t *place_in_room(const dp_source_read *read, dp_layout_place place)
{
    if (place.offset < read->offset || place.offset + place.size > read->offset + read->size)
        return NULL;
    return (uint8_t *)read->room + (place.offset - read->offset);
}

static fetch *start_locked(swarm_source *s, dp_source_read *read, uint32_t piece)
{
    dp_layout_place place = dp_layout_find(s->layout, piece);
    uint8_t *out = place_in_room(read, place), *bounce = NULL;
    bool is_prefetch = state_of(read)->class_ == DP_PAGER_PREFETCH;
    fetch *f;

    if (dp_link_is_alone(&s->free_fetches) ||
        (is_prefetch && s->busy_prefetches >= DP_SOURCE_SWARM_FETCHES / PREFETCH_SHARE))
        return NULL;
    if (!out) {
        bounce = take_bounce_locked(s, is_prefetch);
        if (!bounce)
            return NULL;
    }
    f = DP_LISTED(s->free_fetches.next, fetch, link);
    dp_link_remove(&f->link);
    *f = (fetch){ .source = s,
                  .owner = out ? read : NULL,
                  .bounce = bounce,
                  .size = place.size,
                  .is_demand = !is_prefetch,
                  .is_in_table = true,
                  .deadline_ns = dp_clock_now_ns(s->clock) + s->wait_ns };
    dp_link_init(&f->link);
    dp_link_init(&f->waits);
    f->job.piece = piece;
    f->job.out = out ? out : bounce;
    s->busy++;
    count_prefetch_locked(s, f, is_prefetch);
    f->next = *bucket_of(s, piece);
    *bucket_of(s, piece) = f;
    if (s->supply.has(s->supply.user, piece)) {
        queue_for_worker_locked(s, f);
    } else {
        prepare_job_locked(s, f);
        s->batch[s->batch_count++] = &f->job;
    }
    return f;
}

bool dp_fetch_begin_locked(swarm_source *s, dp_source_read *read, uint32_t piece)
{
    fetch *f;
    wait *w;

    if (dp_link_is_alone(&s->free_waits))
        return false;
    f = find_locked(s, piece);
    if (!f)
        f = start_locked(s, read, piece);
    if (!f)
        return false;
    w = wait_of(s->free_waits.next);
    dp_link_remove(&w->of_fetch);
    w->read = read;
    w->fetch = f;
    dp_link_init(&w->of_read);
    dp_link_insert(&f->waits, &w->of_fetch);
    dp_link_insert(&state_of(read)->waits, &w->of_read);
    if (state_of(read)->class_ == DP_PAGER_DEMAND)
        dp_fetch_raise_locked(s, f);
    return true;
}

void dp_fetch_submit_locked(swarm_source *s)
{
    if (s->batch_count)
        s->supply.submit(s->supply.user, s->batch, s->batch_count);
    s->batch_count = 0;
}

void dp_fetch_raise_locked(swarm_source *s, fetch *f)
{
    if (f->is_demand)
        return;
    f->is_demand = true;
    f->deadline_ns = dp_clock_now_ns(s->clock) + s->wait_ns;
    count_prefetch_locked(s, f, false);
    if (f->state == FETCH_ASKED) {
        dp_fetch_submit_locked(
            s); /* a job of this very batch can only be promoted once it is out */
        s->supply.promote(s->supply.user, &f->job);
    } else if (f->state == FETCH_KEPT && !f->is_with_worker) {
        dp_link_remove(&f->link);
        queue_for_worker_locked(s, f);
    }
}

/* Ending. */

/* Every read that waits for it fails. Nothing writes into it any more. */
static void fail_locked(swarm_source *s, fetch *f)
{
    leave_table_locked(s, f);
    while (!dp_link_is_alone(&f->waits)) {
        wait *w = wait_of(f->waits.next);
        dp_source_read *read = w->read;
        read_state *state = state_of(read);

        end_wait_locked(s, w);
        if (!state->failed) {
            state->failed = f;
            f->pins++;
        }
        dp_fetch_abandon_locked(s, read);
        dp_read_settle_locked(s, read);
    }
    retire_locked(s, f);
}

/* The part of the file that a read wants of the piece. */
static uint64_t part_of(const dp_source_read *read, dp_layout_place place, uint64_t *from)
{
    *from = DP_MAX(place.offset, read->offset);
    return DP_MIN(place.offset + place.size, read->offset + read->size) - *from;
}

static void copy_part(const fetch *f, const dp_source_read *read, dp_layout_place place)
{
    uint64_t from, size = part_of(read, place, &from);

    memcpy((uint8_t *)read->room + (from - read->offset),
           (const uint8_t *)f->job.out + (from - place.offset), size);
}

/* The read has its part of the piece. */
static void served_locked(swarm_source *s, wait *w, dp_layout_place place, bool is_remote)
{
    dp_source_read *read = w->read;
    uint64_t from, size = part_of(read, place, &from);

    state_of(read)->is_remote |= is_remote;
    if (is_remote)
        s->counts.swarm_bytes += size;
    else
        s->counts.disk_bytes += size;
    end_wait_locked(s, w);
    dp_read_settle_locked(s, read);
}

/* A wait of somebody else than the owner, whose room is what is copied from; NULL: none. */
static wait *next_copy_locked(fetch *f)
{
    for (dp_link *link = f->waits.next; link != &f->waits; link = link->next)
        if (wait_of(link)->read != f->owner)
            return wait_of(link);
    return NULL;
}

/* The bytes are there and right; the state is GIVING. Reads may join until the last copy. */
static void give(swarm_source *s, fetch *f, bool is_remote)
{
    dp_layout_place place = dp_layout_find(s->layout, f->job.piece);
    wait *w;

    dp_mutex_lock(&s->lock);
    if (is_remote)
        s->stats.arrived_bytes += f->size;
    else
        s->stats.kept_bytes += f->size;
    while ((w = next_copy_locked(f))) {
        dp_mutex_unlock(&s->lock);
        copy_part(f, w->read, place); /* no read ends while one of its waits is listed */
        dp_mutex_lock(&s->lock);
        served_locked(s, w, place, is_remote);
    }
    leave_table_locked(s, f);
    if (!dp_link_is_alone(&f->waits))
        served_locked(s, wait_of(f->waits.next), place, is_remote);
    retire_locked(s, f);
    dp_read_pump_locked(s);
    dp_mutex_unlock(&s->lock);
}

/* A job brought it. */
static void arrive(swarm_source *s, fetch *f)
{
    dp_status st = s->supply.keep(s->supply.user, f->job.piece, f->job.out, &f->error);

    if (st != DP_E_CORRUPT) {
        give(s, f, true);
        return;
    }
    dp_mutex_lock(&s->lock);
    fail_locked(s, f);
    dp_read_pump_locked(s);
    dp_mutex_unlock(&s->lock);
}

/* Nobody with ranges has it: the slower ones are asked. A demand waits for whoever may come. */
static void park_locked(swarm_source *s, fetch *f)
{
    uint64_t now = dp_clock_now_ns(s->clock);
    uint64_t left_ms = f->deadline_ns > now ? (f->deadline_ns - now) / 1000000 : 0;
    bool is_possible = f->is_wanted;

    f->state = FETCH_PARKED;
    f->parked_ns = now;
    dp_link_insert(&s->parked, &f->link);
    if (!f->is_wanted)
        is_possible = s->supply.want(s->supply.user, f->job.piece, (uint32_t)DP_MAX(left_ms, 1));
    f->is_wanted = is_possible;
    if (!is_possible && !f->is_demand)
        fail_locked(s, f);
}

static void describe_timeout(swarm_source *s, fetch *f)
{
    dp_layout_place place = dp_layout_find(s->layout, f->job.piece);
    char who[256] = "";

    s->supply.explain(s->supply.user, f->job.piece, who, sizeof who);
    dp_fail(&f->error, DP_E_TIMEOUT, "piece %u of %s: nobody gave it within %.3g s (%s)",
            place.piece, s->layout->files[place.file].path, (double)s->wait_ns / 1e9, who);
}

/* A job, or the look at what is kept here, did not get it. */
static void miss_locked(swarm_source *s, fetch *f, const dp_error *error)
{
    bool is_early = f->is_demand && dp_clock_now_ns(s->clock) < f->deadline_ns;

    f->error = *error;
    if (dp_link_is_alone(&f->waits))
        retire_locked(s, f);
    else if (!f->is_in_table || s->is_stopping)
        fail_locked(s, f); /* given up: (2) is all that it was kept for */
    else if (error->status == DP_E_NOTFOUND)
        park_locked(s, f);
    else if (error->status == DP_E_TIMEOUT && is_early)
        ask_locked(s, f); /* its deadline was that of a prefetch */
    else {
        if (error->status == DP_E_TIMEOUT)
            describe_timeout(s, f);
        fail_locked(s, f);
    }
}

static void job_done(dp_pager_job *job, uint32_t endpoint, const dp_error *error)
{
    fetch *f = job->user;
    swarm_source *s = f->source;

    dp_mutex_lock(&s->lock);
    if (error) {
        miss_locked(s, f, error);
        dp_read_pump_locked(s);
    } else {
        f->state = FETCH_GIVING;
    }
    dp_mutex_unlock(&s->lock);
    if (!error)
        arrive(s, f);
    dp_read_finish_ended(s);
}

void dp_source_swarm_arrived(dp_source *source, uint32_t piece, const void *bytes)
{
    swarm_source *s = swarm_of(source);
    fetch *f;
    bool is_ours;

    dp_mutex_lock(&s->lock);
    f = find_locked(s, piece);
    is_ours = f && (f->state == FETCH_PARKED ||
                    (f->state == FETCH_ASKED && s->supply.cancel(s->supply.user, &f->job)));
    if (is_ours) {
        dp_link_remove(&f->link);
        f->state = FETCH_GIVING;
    }
    /* These bytes are lost, and their want is over: should it park, it is wanted anew. */
    if (f && !is_ours && f->is_wanted) {
        s->supply.unwant(s->supply.user, piece);
        f->is_wanted = false;
    }
    dp_mutex_unlock(&s->lock);
    if (!is_ours)
        return;
    memcpy(f->job.out, bytes, f->size);
    give(s, f, true);
    dp_read_finish_ended(s);
}

/* Giving up. */

/* True: nothing writes for the fetch, and nothing will. False: its job or worker ends it. */
static bool stop_locked(swarm_source *s, fetch *f)
{
    if (f->state == FETCH_ASKED)
        return s->supply.cancel(s->supply.user, &f->job);
    return f->state == FETCH_PARKED || (f->state == FETCH_KEPT && !f->is_with_worker);
}

/* The read is done with one piece. Its wait stays where something may still write into its
 * room (2), or where others copy from it. */
static void abandon_wait_locked(swarm_source *s, wait *w)
{
    fetch *f = w->fetch;
    bool is_owner = f->owner == w->read;
    bool is_last = f->waits.next == f->waits.previous;

    if (f->state == FETCH_GIVING || (is_owner && !is_last))
        return;
    if (!is_last) {
        end_wait_locked(s, w);
    } else if (stop_locked(s, f)) {
        end_wait_locked(s, w);
        retire_locked(s, f);
    } else {
        leave_table_locked(s, f); /* nobody shall join what may be canceled */
        if (!is_owner)
            end_wait_locked(s, w);
    }
}

void dp_fetch_abandon_locked(swarm_source *s, dp_source_read *read)
{
    dp_link *waits = &state_of(read)->waits, *next;

    for (dp_link *link = waits->next; link != waits; link = next) {
        next = link->next;
        abandon_wait_locked(s, DP_LISTED(link, wait, of_read));
    }
}

/* Workers: what is kept here. */

static fetch *next_kept_locked(swarm_source *s)
{
    for (int class_ = 0; class_ < CLASSES; class_++) {
        if (!dp_link_is_alone(&s->kept[class_])) {
            fetch *f = DP_LISTED(s->kept[class_].next, fetch, link);
            dp_link_remove(&f->link);
            f->is_with_worker = true;
            return f;
        }
    }
    return NULL;
}

static void read_kept(swarm_source *s, fetch *f)
{
    dp_error error;
    dp_status st = s->supply.read(s->supply.user, f->job.piece, f->job.out, &error);

    dp_mutex_lock(&s->lock);
    f->is_with_worker = false;
    if (st == DP_OK)
        f->state = FETCH_GIVING;
    else if (!dp_link_is_alone(&f->waits) && f->is_in_table && !s->is_stopping)
        ask_locked(s, f);
    else
        miss_locked(s, f, &error);
    dp_read_pump_locked(s);
    dp_mutex_unlock(&s->lock);
    if (st == DP_OK)
        give(s, f, false);
}

void dp_fetch_work(void *source)
{
    swarm_source *s = source;
    fetch *f;

    dp_mutex_lock(&s->lock);
    while (!s->is_over) {
        f = next_kept_locked(s);
        if (!f && dp_link_is_alone(&s->ended)) {
            dp_cond_wait(&s->work, &s->lock);
            continue;
        }
        dp_mutex_unlock(&s->lock);
        if (f)
            read_kept(s, f);
        dp_read_finish_ended(s);
        dp_mutex_lock(&s->lock);
    }
    dp_mutex_unlock(&s->lock);
}

/* Time. */

/* True: it is asked for again, or is over. */
static bool wake_parked_locked(swarm_source *s, fetch *f, uint64_t now, bool is_changed)
{
    if (s->supply.has(s->supply.user, f->job.piece)) {
        dp_link_remove(&f->link);
        queue_for_worker_locked(s, f);
    } else if (now >= f->deadline_ns) {
        describe_timeout(s, f);
        fail_locked(s, f);
    } else if (is_changed || now - f->parked_ns >= DP_SOURCE_SWARM_RETRY_MS * (uint64_t)1000000) {
        dp_link_remove(&f->link);
        ask_locked(s, f);
    } else {
        return false;
    }
    return true;
}

void dp_source_swarm_tick(dp_source *source, bool is_changed)
{
    swarm_source *s = swarm_of(source);
    dp_link *link;
    uint64_t now;

    dp_mutex_lock(&s->lock);
    now = dp_clock_now_ns(s->clock);
    link = s->parked.next;
    while (link != &s->parked) {
        /* A failing read may give up any other fetch: begin again behind it. */
        bool is_moved = wake_parked_locked(s, DP_LISTED(link, fetch, link), now, is_changed);
        link = is_moved ? s->parked.next : link->next;
    }
    dp_read_pump_locked(s);
    dp_mutex_unlock(&s->lock);
    dp_read_finish_ended(s);
}

/* Open and close. */

dp_status dp_fetches_open(swarm_source *s, dp_error *err)
{
    uint64_t bounces = DP_SOURCE_SWARM_BOUNCE_BYTES / s->layout->piece_size;

    s->bounce_max = (uint32_t)DP_MAX(bounces, BOUNCES_MIN);
    s->bounce_max = DP_MIN(s->bounce_max, DP_SOURCE_SWARM_FETCHES);
    s->fetches = dp_alloc_zero(DP_SOURCE_SWARM_FETCHES, sizeof *s->fetches);
    s->waits = dp_alloc_zero(DP_SOURCE_SWARM_WAITS, sizeof *s->waits);
    s->batch = dp_alloc_zero(DP_SOURCE_SWARM_FETCHES, sizeof *s->batch);
    s->bounces = dp_alloc_zero(s->bounce_max, sizeof *s->bounces);
    for (; s->bounces && s->bounce_made < BOUNCES_MIN; s->bounce_made++) {
        s->bounces[s->bounce_made] = dp_map_acquire(s->layout->piece_size);
        if (!s->bounces[s->bounce_made])
            break;
    }
    s->bounce_free = s->bounce_made;
    if (!s->fetches || !s->waits || !s->batch || s->bounce_made < BOUNCES_MIN)
        return dp_fail(err, DP_E_NOMEM, "no memory for pieces under way (%u bytes each)",
                       s->layout->piece_size);
    for (uint32_t i = 0; i < DP_SOURCE_SWARM_FETCHES; i++)
        dp_link_insert(&s->free_fetches, &s->fetches[i].link);
    for (uint32_t i = 0; i < DP_SOURCE_SWARM_WAITS; i++)
        dp_link_insert(&s->free_waits, &s->waits[i].of_fetch);
    return DP_OK;
}

void dp_fetches_close(swarm_source *s)
{
    DP_CHECK(s->busy == 0);
    for (uint32_t i = 0; i < s->bounce_made; i++)
        dp_map_release(s->bounces[i], s->layout->piece_size);
    dp_free(s->bounces);
    dp_free(s->batch);
    dp_free(s->waits);
    dp_free(s->fetches);
}
