/* Ranges are cut into requests, and at most `depth` requests are with the queue of
 * base/aio.h at a time; ranges beyond that wait here, demand before prefetch, each in
 * order, prefetches in that of when they are due. So nothing is allocated for a read, however
 * long, and a demand overtakes every prefetch that has not been given to the system.
 *
 * A lane is one copy of the files with a queue of its own. All lanes take from the same
 * waiting ranges. */
#include "tier/source_file.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/thread.h"
#include "base/list.h"

/* Of `depth` requests one in so many may be prefetch: what is with the system cannot be
 * overtaken any more. */
#define PREFETCH_SHARE 2

/* The source's part of a read, in dp_source_read._source. */
typedef struct state {
    dp_link link;     /* in `waiting` while not all was sent */
    uint64_t sent;    /* bytes of the room given to requests */
    uint64_t end;     /* bytes of the room to read */
    uint64_t due;     /* of a prefetch */
    uint32_t pending; /* requests that have not ended */
    uint32_t class_;  /* dp_aio_class */
    int errnum;       /* the first */
    bool is_direct;
} state;

_Static_assert(sizeof(state) <= sizeof((dp_source_read){ 0 })._source, "fits the source's room");

typedef struct request {
    dp_aio_read aio;
    dp_source_read *read;
    struct file_source *source;
    uint32_t home;   /* the lane whose request it is ... */
    uint32_t lane;   /* ... and the one that reads it: another after a failure */
    uint32_t class_; /* when it was sent */
    struct request *next_free;
} request;

typedef struct file {
    dp_file file;
    char *path; /* owned; NULL: no file here */
} file;

typedef struct lane {
    file *files; /* [file_max], of further copies [part_count]; never moved: reads point into it */
    dp_aio *aio;
    request *requests;       /* [depth] */
    request *free_requests;  /* from here on under the lock */
    uint32_t prefetch_count; /* prefetch requests with the queue */
} lane;

typedef struct file_source {
    dp_source base;
    char name[64];
    dp_io_mode mode;
    uint64_t request_max;
    uint32_t file_first, file_max, depth;
    lane lanes[DP_COPIES_MAX];
    uint32_t lane_count;
    dp_source_part *parts; /* [part_count] the model's: files added later are none */
    uint32_t part_count;
    atomic_uint_fast64_t read_bytes;

    dp_mutex lock; /* guards what follows, every `state`, and the order of submits;
                      taken before the queue's */
    dp_link waiting[DP_AIO_CLASS_COUNT];
    uint64_t waiting_bytes[DP_AIO_CLASS_COUNT]; /* of them */
    dp_copy copies[DP_COPIES_MAX];              /* of each lane */
    bool is_closing;
} file_source;

static file_source *source_of(dp_source *s)
{
    return DP_LISTED(s, file_source, base);
}

static state *state_of(dp_source_read *read)
{
    return (state *)(void *)read->_source;
}

static dp_source_read *read_of(dp_link *link)
{
    return DP_LISTED(DP_LISTED(link, state, link), dp_source_read, _source);
}

static file *file_at(const file_source *fs, uint32_t index)
{
    uint32_t i = index - fs->file_first; /* wraps below it, and is past the end */

    DP_CHECK(i < fs->file_max && fs->lanes[0].files[i].path);
    return &fs->lanes[0].files[i];
}

/* The file in a lane; NULL: it has none, for it was added later. */
static file *file_in(const file_source *fs, uint32_t lane, uint32_t index)
{
    uint32_t i = index - fs->file_first;

    if (lane == 0)
        return file_at(fs, index);
    return i < fs->part_count ? &fs->lanes[lane].files[i] : NULL;
}

static bool is_direct(const file_source *fs, uint32_t file_index, uint64_t size)
{
    if (fs->mode == DP_IO_AUTO)
        return file_at(fs, file_index)->file.fd_direct >= 0 && size >= DP_SOURCE_DIRECT_MIN;
    return fs->mode == DP_IO_DIRECT;
}

static dp_source_fit file_fit(dp_source *s, uint32_t file_index, uint64_t offset, uint64_t size)
{
    dp_source_fit fit = { 0, size };

    if (is_direct(source_of(s), file_index, size)) {
        fit.lead = (uint32_t)(offset % DP_FILE_SECTOR);
        /* size near 2^64 is the caller's to refuse: no room is that large */
        fit.room = size > INT64_MAX ? size : dp_align_up(fit.lead + size, DP_FILE_SECTOR);
    }
    return fit;
}

static void request_done(dp_aio_read *aio, int errnum);

/* Caller holds fs->lock: takes a read out of those that wait. */
static void stop_waiting_locked(file_source *fs, state *state)
{
    if (dp_link_is_alone(&state->link))
        return;
    dp_link_remove(&state->link);
    fs->waiting_bytes[state->class_] -= state->end - state->sent;
}

/* Caller holds fs->lock. Behind those of its class that are due before it or with it: from
 * the end, for most come in order. */
static void wait_locked(file_source *fs, state *state)
{
    dp_link *waiting = &fs->waiting[state->class_];
    dp_link *next = waiting;

    while (next->previous != waiting &&
           DP_LISTED(next->previous, struct state, link)->due > state->due)
        next = next->previous;
    dp_link_insert(next, &state->link);
    fs->waiting_bytes[state->class_] += state->end - state->sent;
}

/* Caller holds fs->lock. The request goes to its lane, for the first time or again. */
static void submit_locked(file_source *fs, request *request)
{
    request->aio.file = &file_in(fs, request->lane, request->read->file_index)->file;
    dp_copy_sent(&fs->copies[request->lane], request->aio.size, dp_clock_now_ns(&dp_clock_real));
    dp_aio_submit(fs->lanes[request->lane].aio, &request->aio);
}

/* Caller holds fs->lock. */
static uint64_t next_size(const file_source *fs, const state *state)
{
    return DP_MIN(state->end - state->sent, fs->request_max);
}

/* Caller holds fs->lock; the read has bytes to send. */
static void send_next_locked(file_source *fs, request *request, dp_source_read *read)
{
    state *state = state_of(read);
    uint64_t lead = state->is_direct ? read->offset % DP_FILE_SECTOR : 0;
    uint64_t size = next_size(fs, state);

    request->read = read;
    request->lane = request->home;
    request->class_ = state->class_;
    request->aio = (dp_aio_read){
        .is_direct = state->is_direct,
        .class_ = (dp_aio_class)state->class_,
        .offset = read->offset - lead + state->sent,
        .size = size,
        .size_needed = DP_MIN(size, lead + read->size - state->sent), /* not the last slack */
        .out = (uint8_t *)read->room + state->sent,
        .done = request_done,
        .user = request,
    };
    if (state->sent + size == state->end)
        stop_waiting_locked(fs, state);
    else
        fs->waiting_bytes[state->class_] -= size;
    state->sent += size;
    state->pending++;
    fs->lanes[request->home].prefetch_count += state->class_ == DP_AIO_PREFETCH;
    submit_locked(fs, request);
}

/* Caller holds fs->lock. The first of a class that this lane has the file of; NULL: none. */
static dp_source_read *first_waiting_locked(file_source *fs, uint32_t lane, dp_aio_class class_)
{
    dp_link *waiting = &fs->waiting[class_];

    for (dp_link *link = waiting->next; link != waiting; link = link->next)
        if (file_in(fs, lane, read_of(link)->file_index))
            return read_of(link);
    return NULL;
}

/* Caller holds fs->lock. What the lane should send next: demand first, prefetch up to its
 * share; NULL: nothing, or better by another lane. */
static dp_source_read *choose_locked(file_source *fs, uint32_t lane)
{
    uint32_t prefetch_max = DP_MAX(fs->depth / PREFETCH_SHARE, 1);
    dp_source_read *read = first_waiting_locked(fs, lane, DP_AIO_DEMAND);
    uint64_t waiting_bytes = fs->waiting_bytes[DP_AIO_DEMAND];

    if (!read && fs->lanes[lane].prefetch_count < prefetch_max) {
        read = first_waiting_locked(fs, lane, DP_AIO_PREFETCH);
        waiting_bytes = fs->waiting_bytes[DP_AIO_PREFETCH];
    }
    if (!read || fs->lane_count == 1 || read->file_index - fs->file_first >= fs->part_count)
        return read; /* nobody else has it */
    return dp_copies_take(fs->copies, fs->lane_count, lane, next_size(fs, state_of(read)),
                          waiting_bytes, dp_clock_now_ns(&dp_clock_real))
               ? read
               : NULL;
}

/* Caller holds fs->lock. Sends what may be sent, by all lanes in turns. */
static void pump_locked(file_source *fs)
{
    bool is_any = true;

    while (is_any) {
        is_any = false;
        for (uint32_t i = 0; i < fs->lane_count; i++) {
            lane *lane = &fs->lanes[i];
            request *request = lane->free_requests;
            dp_source_read *read =
                request && (i == 0 || !fs->copies[i].is_dead) ? choose_locked(fs, i) : NULL;
            if (!read)
                continue;
            lane->free_requests = request->next_free;
            send_next_locked(fs, request, read);
            is_any = true;
        }
    }
}

static void describe(dp_error *error, const file_source *fs, const dp_source_read *read, int errnum)
{
    const file *file = file_at(fs, read->file_index);
    unsigned long long size = read->size;
    unsigned long long offset = read->offset;

    if (errnum == ECANCELED)
        dp_fail(error, DP_E_CANCELED, "%s: read of %llu bytes at byte %llu was canceled",
                file->path, size, offset);
    else if (errnum == ENODATA)
        dp_fail(error, DP_E_IO,
                "%s: read of %llu bytes at byte %llu: the file ends early (was it truncated? it "
                "had %llu bytes when it was opened)",
                file->path, size, offset, (unsigned long long)file->file.size);
    else
        dp_fail_errno(error, DP_E_IO, errnum, "%s: read of %llu bytes at byte %llu", file->path,
                      size, offset);
}

/* The read has ended: nothing of it waits or is with the queue. No lock is held. */
static void finish(file_source *fs, dp_source_read *read)
{
    int errnum = state_of(read)->errnum;
    dp_error error;

    if (errnum == 0) {
        atomic_fetch_add_explicit(&fs->read_bytes, read->size, memory_order_relaxed);
        read->done(read, NULL);
        return;
    }
    describe(&error, fs, read, errnum);
    read->done(read, &error);
}

/* Caller holds fs->lock; the request failed in its lane. True: another lane reads it. */
static bool retry_locked(file_source *fs, request *request, int errnum)
{
    dp_copy *copy = &fs->copies[request->lane];
    uint32_t next = fs->lane_count;

    if (errnum == ECANCELED || fs->is_closing || state_of(request->read)->errnum)
        return false;
    for (uint32_t i = 0; i < fs->lane_count && next == fs->lane_count; i++)
        if (i != request->lane && !fs->copies[i].is_dead &&
            file_in(fs, i, request->read->file_index))
            next = i;
    if (next == fs->lane_count)
        return false;
    if (!copy->is_dead)
        DP_LOG_WARN("source", "%s: %s; it is not read any more, copies of it are",
                    file_in(fs, request->lane, request->read->file_index)->path,
                    errnum == ENODATA ? "the file ends early" : strerror(errnum));
    copy->is_dead = true;
    request->lane = next;
    submit_locked(fs, request);
    return true;
}

/* dp_aio_read.done, on the queue's thread. */
static void request_done(dp_aio_read *aio, int errnum)
{
    request *request = aio->user;
    file_source *fs = request->source;
    dp_source_read *read = request->read;
    state *state = state_of(read);
    bool is_over = false;

    dp_mutex_lock(&fs->lock);
    dp_copy_ended(&fs->copies[request->lane], aio->size, !errnum, dp_clock_now_ns(&dp_clock_real));
    if (!errnum || !retry_locked(fs, request, errnum)) {
        lane *home = &fs->lanes[request->home];
        request->next_free = home->free_requests;
        home->free_requests = request;
        home->prefetch_count -= request->class_ == DP_AIO_PREFETCH;
        if (errnum && !state->errnum)
            state->errnum = errnum;
        if (state->errnum)
            stop_waiting_locked(fs, state); /* the rest is not worth reading */
        is_over = --state->pending == 0 && dp_link_is_alone(&state->link);
    }
    pump_locked(fs);
    dp_mutex_unlock(&fs->lock);
    if (is_over)
        finish(fs, read);
}

static void file_submit(dp_source *s, dp_source_read *read)
{
    file_source *fs = source_of(s);
    state *state = state_of(read);
    dp_source_fit fit = file_fit(s, read->file_index, read->offset, read->size);

    *state = (struct state){
        .end = fit.room,
        .class_ = read->is_prefetch ? DP_AIO_PREFETCH : DP_AIO_DEMAND,
        .due = read->is_prefetch ? read->due : 0,
        .is_direct = is_direct(fs, read->file_index, read->size),
    };
    dp_mutex_lock(&fs->lock);
    wait_locked(fs, state);
    pump_locked(fs);
    dp_mutex_unlock(&fs->lock);
}

static void file_promote(dp_source *s, dp_source_read *read)
{
    file_source *fs = source_of(s);
    state *state = state_of(read);

    dp_mutex_lock(&fs->lock);
    if (state->class_ == DP_AIO_PREFETCH) {
        bool is_waiting = !dp_link_is_alone(&state->link);
        stop_waiting_locked(fs, state);
        state->class_ = DP_AIO_DEMAND;
        state->due = 0;
        if (is_waiting) {
            wait_locked(fs, state);
            pump_locked(fs);
        }
    }
    dp_mutex_unlock(&fs->lock);
}

static bool file_cancel(dp_source *s, dp_source_read *read)
{
    file_source *fs = source_of(s);
    state *state = state_of(read);
    bool is_taken_back = false;

    dp_mutex_lock(&fs->lock);
    if (!dp_link_is_alone(&state->link)) {
        stop_waiting_locked(fs, state);
        is_taken_back = state->pending == 0;
        if (!state->errnum)
            state->errnum = ECANCELED;
    }
    dp_mutex_unlock(&fs->lock);
    return is_taken_back;
}

/* Ends reads of which nothing is with the queue; the others end there. */
static void cancel_waiting(file_source *fs)
{
    dp_link ended;

    dp_link_init(&ended);
    dp_mutex_lock(&fs->lock);
    fs->is_closing = true;
    for (int class_ = 0; class_ < DP_AIO_CLASS_COUNT; class_++) {
        while (!dp_link_is_alone(&fs->waiting[class_])) {
            state *state = state_of(read_of(fs->waiting[class_].next));
            state->errnum = state->errnum ? state->errnum : ECANCELED;
            stop_waiting_locked(fs, state);
            if (state->pending == 0)
                dp_link_insert(&ended, &state->link);
        }
    }
    dp_mutex_unlock(&fs->lock);
    while (!dp_link_is_alone(&ended)) {
        dp_source_read *read = read_of(ended.next);
        dp_link_remove(ended.next);
        finish(fs, read);
    }
}

static void close_file(file *file)
{
    if (file->path)
        dp_file_close(&file->file);
    dp_free(file->path);
    file->path = NULL;
}

/* The lane is not asked for more; what it was asked for ends. */
static void close_lane(file_source *fs, uint32_t index)
{
    lane *lane = &fs->lanes[index];
    uint32_t file_count = index ? fs->part_count : fs->file_max;

    dp_mutex_lock(&fs->lock);
    fs->copies[index].is_dead = index > 0; /* what is still submitted ends with the first */
    dp_mutex_unlock(&fs->lock);
    dp_aio_close(lane->aio);
    for (uint32_t i = 0; lane->files && i < file_count; i++)
        close_file(&lane->files[i]);
    dp_free(lane->files);
    lane->files = NULL;
}

static void file_close(dp_source *s)
{
    file_source *fs;

    if (!s)
        return;
    fs = source_of(s);
    cancel_waiting(fs);
    for (uint32_t i = fs->lane_count; i-- > 0;)
        close_lane(fs, i);
    /* A request may have ended in another lane than its own. */
    for (uint32_t i = 0; i < fs->lane_count; i++)
        dp_free(fs->lanes[i].requests);
    dp_free(fs->parts);
    dp_mutex_deinit(&fs->lock);
    dp_free(fs);
}

static const dp_source_part *file_parts(dp_source *s, uint32_t *count)
{
    *count = source_of(s)->part_count;
    return source_of(s)->parts;
}

static void file_count(dp_source *s, dp_source_counts *out)
{
    *out = (dp_source_counts){ .disk_bytes = atomic_load_explicit(&source_of(s)->read_bytes,
                                                                  memory_order_relaxed) };
}

static const dp_source_ops file_ops = { file_fit,   file_submit, file_promote, file_cancel,
                                        file_close, file_parts,  file_count };

static dp_status open_file(file_source *fs, file *file, const char *path, dp_error *err)
{
    dp_status st = dp_file_open(&file->file, path, fs->mode != DP_IO_BUFFERED, err);

    if (st)
        return st;
    file->path = dp_strndup(path, strlen(path)); /* close now knows of it */
    if (!file->path) {
        dp_file_close(&file->file);
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for its name", path);
    }
    if (fs->mode == DP_IO_DIRECT && file->file.fd_direct < 0)
        st = dp_fail(err, DP_E_UNSUPPORTED,
                     "%s: its file system has no direct reads (--io auto or buffered)", path);
    if (st)
        close_file(file);
    return st;
}

/* A copy of the model is as long, file by file. */
static dp_status check_size(const file_source *fs, const file *file, uint32_t index, dp_error *err)
{
    const dp_source_part *part = &fs->parts[index];

    if (file->file.size == part->size)
        return DP_OK;
    return dp_fail(err, DP_E_INVALID, "%s has %llu bytes, %s has %llu: it is no copy of it",
                   file->path, (unsigned long long)file->file.size, part->name,
                   (unsigned long long)part->size);
}

static dp_status open_files(file_source *fs, uint32_t index, const char *const *paths,
                            dp_error *err)
{
    lane *lane = &fs->lanes[index];
    uint32_t room = index ? fs->part_count : fs->file_max;
    dp_status st = DP_OK;

    lane->files = dp_alloc_zero(room, sizeof(file));
    if (!lane->files)
        return dp_fail(err, DP_E_NOMEM, "no memory for a table of %u files", room);
    for (uint32_t i = 0; i < fs->part_count && !st; i++) {
        st = open_file(fs, &lane->files[i], paths[i], err);
        if (!st && index == 0)
            fs->parts[i] = (dp_source_part){ lane->files[i].path, lane->files[i].file.size };
        else if (!st)
            st = check_size(fs, &lane->files[i], i, err);
    }
    return st;
}

dp_status dp_source_file_add(dp_source *s, const char *path, uint32_t *index, dp_error *err)
{
    file_source *fs = source_of(s);

    DP_CHECK(s->ops == &file_ops);
    for (uint32_t i = 0; i < fs->file_max; i++)
        if (!fs->lanes[0].files[i].path) {
            *index = fs->file_first + i;
            return open_file(fs, &fs->lanes[0].files[i], path, err);
        }
    return dp_fail(err, DP_E_LIMIT, "%s: more than %d files were added to a model", path,
                   DP_SOURCE_FILES_MORE);
}

void dp_source_file_remove(dp_source *s, uint32_t index)
{
    DP_CHECK(s->ops == &file_ops);
    close_file(file_at(source_of(s), index));
}

static dp_status open_requests(file_source *fs, uint32_t index, dp_error *err)
{
    lane *lane = &fs->lanes[index];

    lane->requests = dp_alloc_zero(fs->depth, sizeof(request));
    if (!lane->requests)
        return dp_fail(err, DP_E_NOMEM, "no memory for a table of %u requests", fs->depth);
    for (uint32_t i = 0; i < fs->depth; i++) {
        lane->requests[i].source = fs;
        lane->requests[i].home = index;
        lane->requests[i].next_free = lane->free_requests;
        lane->free_requests = &lane->requests[i];
    }
    return DP_OK;
}

static dp_status open_lane(file_source *fs, const char *const *paths, dp_aio_engine engine,
                           dp_error *err)
{
    uint32_t index = fs->lane_count++; /* close now knows of it */
    dp_status st;

    /* The queue first: it checks the depth before anything is sized by it. */
    st = dp_aio_open(&fs->lanes[index].aio, engine, fs->depth, err);
    if (!st)
        st = open_files(fs, index, paths, err);
    return st ? st : open_requests(fs, index, err);
}

/* "file (io_uring, auto)", "file (io_uring, auto, 2 copies)". */
static void name_source(file_source *fs)
{
    static const char *const modes[] = { "auto", "direct", "buffered" };
    char copies[24] = "";

    if (fs->lane_count > 1)
        snprintf(copies, sizeof copies, ", %u copies", fs->lane_count);
    snprintf(fs->name, sizeof fs->name, "file (%s, %s%s)", dp_aio_engine_name(fs->lanes[0].aio),
             modes[fs->mode], copies);
}

dp_status dp_source_file_open(dp_source **out, const dp_source_file_config *config, dp_error *err)
{
    file_source *fs;
    dp_status st;

    *out = NULL;
    fs = dp_alloc_zero(1, sizeof *fs);
    if (!fs)
        return dp_fail(err, DP_E_NOMEM, "no memory for a reader of files");
    fs->base.ops = &file_ops;
    fs->base.name = fs->name;
    fs->mode = config->mode;
    fs->part_count = config->file_count;
    fs->file_first = config->file_first;
    fs->file_max = config->file_count + DP_SOURCE_FILES_MORE;
    fs->depth = config->depth;
    fs->request_max = DP_MAX(dp_align_down(config->request_max, DP_FILE_SECTOR), DP_FILE_SECTOR);
    dp_mutex_init(&fs->lock);
    for (int class_ = 0; class_ < DP_AIO_CLASS_COUNT; class_++)
        dp_link_init(&fs->waiting[class_]);

    DP_CHECK(config->mirror_count < DP_COPIES_MAX);
    fs->parts = dp_alloc_zero(fs->part_count, sizeof *fs->parts);
    st = fs->parts ? open_lane(fs, config->paths, config->engine, err)
                   : dp_fail(err, DP_E_NOMEM, "no memory for a table of %u files", fs->part_count);
    for (uint32_t i = 0; i < config->mirror_count && !st; i++)
        st = open_lane(fs, config->mirrors + (size_t)i * fs->part_count, config->engine, err);
    if (st)
        goto done;
    name_source(fs);

    *out = &fs->base; /* the caller owns it now */
    fs = NULL;
done:
    if (fs)
        file_close(&fs->base);
    return st;
}
