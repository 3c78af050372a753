/* Ranges are cut into requests, and at most `depth` requests are with the queue of
 * base/aio.h at a time; ranges beyond that wait here, demand before prefetch, each in
 * order, prefetches in that of when they are due. So nothing is allocated for a read, however long, and a demand overtakes
 * every prefetch that has not been given to the system. */
#include "tier/source_file.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
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
    uint32_t class_; /* when it was sent */
    struct request *next_free;
} request;

typedef struct file {
    dp_file file;
    char *path; /* owned; NULL: no file here */
} file;

typedef struct file_source {
    dp_source base;
    char name[64];
    dp_io_mode mode;
    uint64_t request_max;
    uint32_t file_first, file_max, depth;
    file *files;           /* [file_max] never moved: reads point into it */
    dp_source_part *parts; /* [part_count] the model's: files added later are none */
    uint32_t part_count;
    atomic_uint_fast64_t read_bytes;
    request *requests; /* [depth] */
    dp_aio *aio;

    dp_mutex lock; /* guards what follows, every `state`, and the order of submits;
                      taken before the queue's */
    dp_link waiting[DP_AIO_CLASS_COUNT];
    request *free_requests;
    uint32_t prefetch_count; /* prefetch requests with the queue */
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

    DP_CHECK(i < fs->file_max && fs->files[i].path);
    return &fs->files[i];
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

/* Caller holds fs->lock; the read has bytes to send. */
static void send_next_locked(file_source *fs, request *request, dp_source_read *read)
{
    state *state = state_of(read);
    uint64_t lead = state->is_direct ? read->offset % DP_FILE_SECTOR : 0;
    uint64_t size = DP_MIN(state->end - state->sent, fs->request_max);

    request->read = read;
    request->class_ = state->class_;
    request->aio = (dp_aio_read){
        .file = &file_at(fs, read->file_index)->file,
        .is_direct = state->is_direct,
        .class_ = (dp_aio_class)state->class_,
        .offset = read->offset - lead + state->sent,
        .size = size,
        .size_needed = DP_MIN(size, lead + read->size - state->sent), /* not the last slack */
        .out = (uint8_t *)read->room + state->sent,
        .done = request_done,
        .user = request,
    };
    state->sent += size;
    state->pending++;
    if (state->sent == state->end)
        dp_link_remove(&state->link);
    fs->prefetch_count += state->class_ == DP_AIO_PREFETCH;
    dp_aio_submit(fs->aio, &request->aio);
}

/* Caller holds fs->lock. Sends what may be sent: demand first, prefetch up to its share. */
static void pump_locked(file_source *fs)
{
    uint32_t prefetch_max = DP_MAX(fs->depth / PREFETCH_SHARE, 1);

    while (fs->free_requests) {
        request *request = fs->free_requests;
        dp_link *waiting = &fs->waiting[DP_AIO_DEMAND];
        if (dp_link_is_alone(waiting)) {
            waiting = &fs->waiting[DP_AIO_PREFETCH];
            if (dp_link_is_alone(waiting) || fs->prefetch_count >= prefetch_max)
                return;
        }
        fs->free_requests = request->next_free;
        send_next_locked(fs, request, read_of(waiting->next));
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

/* dp_aio_read.done, on the queue's thread. */
static void request_done(dp_aio_read *aio, int errnum)
{
    request *request = aio->user;
    file_source *fs = request->source;
    dp_source_read *read = request->read;
    state *state = state_of(read);
    bool is_over;

    dp_mutex_lock(&fs->lock);
    request->next_free = fs->free_requests;
    fs->free_requests = request;
    fs->prefetch_count -= request->class_ == DP_AIO_PREFETCH;
    if (errnum && !state->errnum)
        state->errnum = errnum;
    if (state->errnum)
        dp_link_remove(&state->link); /* the rest is not worth reading */
    is_over = --state->pending == 0 && dp_link_is_alone(&state->link);
    pump_locked(fs);
    dp_mutex_unlock(&fs->lock);
    if (is_over)
        finish(fs, read);
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
        state->class_ = DP_AIO_DEMAND;
        state->due = 0;
        if (!dp_link_is_alone(&state->link)) {
            dp_link_remove(&state->link);
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
        dp_link_remove(&state->link);
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
    for (int class_ = 0; class_ < DP_AIO_CLASS_COUNT; class_++) {
        while (!dp_link_is_alone(&fs->waiting[class_])) {
            state *state = state_of(read_of(fs->waiting[class_].next));
            state->errnum = state->errnum ? state->errnum : ECANCELED;
            dp_link_remove(&state->link);
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

static void file_close(dp_source *s)
{
    file_source *fs;

    if (!s)
        return;
    fs = source_of(s);
    cancel_waiting(fs);
    dp_aio_close(fs->aio);
    for (uint32_t i = 0; fs->files && i < fs->file_max; i++)
        close_file(&fs->files[i]);
    dp_free(fs->files);
    dp_free(fs->parts);
    dp_free(fs->requests);
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

static dp_status open_files(file_source *fs, const dp_source_file_config *config, dp_error *err)
{
    dp_status st = DP_OK;

    fs->files = dp_alloc_zero(fs->file_max, sizeof(file));
    fs->parts = dp_alloc(config->file_count, sizeof *fs->parts);
    if (!fs->files || !fs->parts)
        return dp_fail(err, DP_E_NOMEM, "no memory for a table of %u files", fs->file_max);
    for (uint32_t i = 0; i < config->file_count && !st; i++) {
        st = open_file(fs, &fs->files[i], config->paths[i], err);
        fs->parts[i] = (dp_source_part){ fs->files[i].path, fs->files[i].file.size };
    }
    return st;
}

dp_status dp_source_file_add(dp_source *s, const char *path, uint32_t *index, dp_error *err)
{
    file_source *fs = source_of(s);

    DP_CHECK(s->ops == &file_ops);
    for (uint32_t i = 0; i < fs->file_max; i++)
        if (!fs->files[i].path) {
            *index = fs->file_first + i;
            return open_file(fs, &fs->files[i], path, err);
        }
    return dp_fail(err, DP_E_LIMIT, "%s: more than %d files were added to a model", path,
                   DP_SOURCE_FILES_MORE);
}

void dp_source_file_remove(dp_source *s, uint32_t index)
{
    DP_CHECK(s->ops == &file_ops);
    close_file(file_at(source_of(s), index));
}

static dp_status open_requests(file_source *fs, dp_error *err)
{
    fs->requests = dp_alloc_zero(fs->depth, sizeof(request));
    if (!fs->requests)
        return dp_fail(err, DP_E_NOMEM, "no memory for a table of %u requests", fs->depth);
    for (uint32_t i = 0; i < fs->depth; i++) {
        fs->requests[i].source = fs;
        fs->requests[i].next_free = fs->free_requests;
        fs->free_requests = &fs->requests[i];
    }
    return DP_OK;
}

dp_status dp_source_file_open(dp_source **out, const dp_source_file_config *config, dp_error *err)
{
    static const char *const modes[] = { "auto", "direct", "buffered" };
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

    /* The queue first: it checks the depth before anything is sized by it. */
    st = dp_aio_open(&fs->aio, config->engine, config->depth, err);
    if (st)
        goto done;
    st = open_files(fs, config, err);
    if (st)
        goto done;
    st = open_requests(fs, err);
    if (st)
        goto done;
    snprintf(fs->name, sizeof fs->name, "file (%s, %s)", dp_aio_engine_name(fs->aio),
             modes[fs->mode]);

    *out = &fs->base; /* the caller owns it now */
    fs = NULL;
done:
    if (fs)
        file_close(&fs->base);
    return st;
}
