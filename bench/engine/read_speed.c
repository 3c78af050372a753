#include "read_speed.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/thread.h"

typedef struct drive {
    const drive_config *config;
    dp_file file;
    dp_aio *aio;
    dp_aio_read *reads; /* [depth] */
    uint8_t *rooms;     /* [depth] of request_bytes */
    dp_rng rng;

    dp_mutex lock;
    dp_cond changed;
    uint64_t at, range_end; /* what the next request reads, and where its range ends */
    uint64_t asked_bytes;
    uint32_t running_count;
    int errnum; /* the first */
} drive;

/* Caller holds the lock. The next request of the read; false: all was asked for. */
static bool place_next(drive *d, dp_aio_read *read)
{
    const drive_config *c = d->config;

    if (d->errnum || d->asked_bytes >= c->total_bytes)
        return false;
    if (d->at >= d->range_end) {
        uint64_t sectors = (d->file.size - c->range_bytes) / DP_FILE_SECTOR + 1;
        d->at = dp_rng_u64(&d->rng) % sectors * DP_FILE_SECTOR;
        d->range_end = d->at + c->range_bytes;
    }
    read->offset = d->at;
    read->size = DP_MIN(c->request_bytes, d->range_end - d->at);
    read->size_needed = read->size;
    d->at += read->size;
    d->asked_bytes += read->size;
    return true;
}

/* dp_aio_read.done */
static void read_done(dp_aio_read *read, int errnum)
{
    drive *d = read->user;
    bool is_more;

    dp_mutex_lock(&d->lock);
    if (errnum && !d->errnum)
        d->errnum = errnum;
    is_more = place_next(d, read);
    d->running_count -= !is_more;
    dp_cond_broadcast(&d->changed);
    dp_mutex_unlock(&d->lock);
    if (is_more)
        dp_aio_submit(d->aio, read);
}

static void read_all(drive *d)
{
    const drive_config *c = d->config;

    for (uint32_t i = 0; i < c->depth; i++) {
        bool is_placed;

        d->reads[i] = (dp_aio_read){ .file = &d->file,
                                     .is_direct = true,
                                     .class_ = DP_AIO_DEMAND,
                                     .out = d->rooms + i * c->request_bytes,
                                     .done = read_done,
                                     .user = d };
        dp_mutex_lock(&d->lock);
        is_placed = place_next(d, &d->reads[i]);
        d->running_count += is_placed;
        dp_mutex_unlock(&d->lock);
        if (is_placed)
            dp_aio_submit(d->aio, &d->reads[i]);
    }
    dp_mutex_lock(&d->lock);
    while (d->running_count)
        dp_cond_wait(&d->changed, &d->lock);
    dp_mutex_unlock(&d->lock);
}

dp_status drive_speed(double *out, const char *path, const drive_config *config, dp_error *err)
{
    uint64_t room_bytes = config->depth * config->request_bytes;
    drive d = { .config = config };
    uint64_t begin_ns;
    dp_status st = dp_file_open(&d.file, path, true, err);

    *out = 0;
    if (st)
        return st;
    dp_mutex_init(&d.lock);
    dp_cond_init(&d.changed);
    dp_rng_init(&d.rng, config->seed);
    d.reads = dp_alloc_zero(config->depth, sizeof *d.reads);
    d.rooms = dp_map_acquire(room_bytes);
    if (!d.reads || !d.rooms || d.file.size < config->range_bytes) {
        st = dp_fail(err, DP_E_INVALID, "%s: no memory, or less than a range of %llu bytes", path,
                     (unsigned long long)config->range_bytes);
        goto done;
    }
    memset(d.rooms, 1, room_bytes);
    st = dp_aio_open(&d.aio, config->engine, config->depth, err);
    if (st)
        goto done;
    begin_ns = dp_clock_now_ns(&dp_clock_real);
    read_all(&d);
    *out = (double)d.asked_bytes / ((double)(dp_clock_now_ns(&dp_clock_real) - begin_ns) / 1e9);
    if (d.errnum)
        st = dp_fail_errno(err, DP_E_IO, d.errnum, "%s", path);
done:
    dp_aio_close(d.aio);
    dp_map_release(d.rooms, room_bytes);
    dp_free(d.reads);
    dp_file_close(&d.file);
    dp_cond_deinit(&d.changed);
    dp_mutex_deinit(&d.lock);
    return st;
}
