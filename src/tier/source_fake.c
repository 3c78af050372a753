#include "tier/source_fake.h"

#include "base/assert.h"
#include "base/status.h"

#define SECTOR 4096

typedef struct state {
    dp_link link;
    bool is_canceled; /* too late: ends with DP_E_CANCELED */
} state;

static state *state_of(dp_source_read *read)
{
    return (state *)(void *)read->_source;
}

static dp_source_read *read_of(dp_link *link)
{
    return DP_LISTED(DP_LISTED(link, state, link), dp_source_read, _source);
}

static dp_source_fake *fake_of(dp_source *s)
{
    return DP_LISTED(s, dp_source_fake, base);
}

uint8_t dp_source_fake_byte(uint32_t file_index, uint64_t offset)
{
    return (uint8_t)((offset * 0x9e3779b97f4a7c15u + file_index) >> 56);
}

static dp_source_fit fake_fit(dp_source *s, uint32_t file_index, uint64_t offset, uint64_t size)
{
    dp_source_fit fit = { 0, size };

    if (fake_of(s)->is_direct) {
        fit.lead = (uint32_t)(offset % SECTOR);
        fit.room = dp_align_up(fit.lead + size, SECTOR);
    }
    return fit;
}

static void fake_submit(dp_source *s, dp_source_read *read)
{
    dp_source_fake *fake = fake_of(s);
    uint64_t align =
        fake_fit(s, read->file_index, read->offset, read->size).room % SECTOR ? 64 : SECTOR;

    DP_CHECK((uintptr_t)read->room % align == 0);
    dp_mutex_lock(&fake->lock);
    *state_of(read) = (state){ .is_canceled = false };
    dp_link_init(&state_of(read)->link);
    dp_link_insert(&fake->waiting, &state_of(read)->link);
    fake->waiting_count++;
    fake->submit_count++;
    fake->prefetch_count += read->is_prefetch;
    dp_cond_broadcast(&fake->changed);
    dp_mutex_unlock(&fake->lock);
}

static void fake_promote(dp_source *s, dp_source_read *read)
{
    dp_source_fake *fake = fake_of(s);

    dp_mutex_lock(&fake->lock);
    fake->promote_count++;
    dp_mutex_unlock(&fake->lock);
}

/* Caller holds fake->lock. */
static void take_locked(dp_source_fake *fake, dp_source_read *read)
{
    dp_link_remove(&state_of(read)->link);
    fake->waiting_count--;
}

static bool fake_cancel(dp_source *s, dp_source_read *read)
{
    dp_source_fake *fake = fake_of(s);
    state *state = state_of(read);
    bool is_late;

    dp_mutex_lock(&fake->lock);
    fake->cancel_count++;
    is_late = dp_link_is_alone(&state->link) || dp_rng_below(&fake->rng, 100) < fake->late_percent;
    if (is_late)
        state->is_canceled = dp_rng_below(&fake->rng, 2);
    else
        take_locked(fake, read);
    dp_mutex_unlock(&fake->lock);
    return !is_late;
}

static void fake_close(dp_source *s)
{
    dp_source_fake_deinit(fake_of(s));
}

static const dp_source_part *fake_parts(dp_source *s, uint32_t *count)
{
    static const dp_source_part endless = { "fake", INT64_MAX };
    const dp_source_fake *fake = fake_of(s);

    *count = fake->files ? fake->file_count : 1;
    return fake->files ? fake->files : &endless;
}

static const dp_source_ops fake_ops = { .fit = fake_fit,
                                        .submit = fake_submit,
                                        .promote = fake_promote,
                                        .cancel = fake_cancel,
                                        .close = fake_close,
                                        .parts = fake_parts };

void dp_source_fake_init(dp_source_fake *fake, uint64_t seed)
{
    *fake = (dp_source_fake){ .base = { &fake_ops, "fake" } };
    dp_mutex_init(&fake->lock);
    dp_cond_init(&fake->changed);
    dp_link_init(&fake->waiting);
    dp_rng_init(&fake->rng, seed);
}

void dp_source_fake_deinit(dp_source_fake *fake)
{
    DP_CHECK(fake->waiting_count == 0);
    dp_cond_deinit(&fake->changed);
    dp_mutex_deinit(&fake->lock);
}

/* No lock is held; the read waits no more. */
static void finish(dp_source_fake *fake, dp_source_read *read, dp_status st)
{
    dp_source_fit fit = fake_fit(&fake->base, read->file_index, read->offset, read->size);
    uint8_t *data = (uint8_t *)read->room + fit.lead;
    dp_error error;

    if (st) {
        dp_fail(&error, st, "file %u: read at byte %llu failed", read->file_index,
                (unsigned long long)read->offset);
        read->done(read, &error);
        return;
    }
    for (uint64_t i = 0; fake->bytes && i < read->size; i++) {
        DP_CHECK(read->offset + i < fake->files[read->file_index].size);
        data[i] = fake->bytes[read->file_index][read->offset + i];
    }
    for (uint64_t i = 0; !fake->bytes && i < read->size; i++)
        data[i] = dp_source_fake_byte(read->file_index, read->offset + i);
    read->done(read, NULL);
}

/* Caller holds fake->lock; index < waiting_count. *st becomes how the read ends. */
static dp_source_read *take_at_locked(dp_source_fake *fake, uint32_t index, dp_status *st)
{
    dp_link *link = fake->waiting.next;
    dp_source_read *read;

    while (index--)
        link = link->next;
    read = read_of(link);
    take_locked(fake, read);
    if (state_of(read)->is_canceled)
        *st = DP_E_CANCELED;
    return read;
}

bool dp_source_fake_end(dp_source_fake *fake, uint32_t index, dp_status st)
{
    dp_source_read *read = NULL;

    dp_mutex_lock(&fake->lock);
    if (index < fake->waiting_count)
        read = take_at_locked(fake, index, &st);
    dp_mutex_unlock(&fake->lock);
    if (read)
        finish(fake, read, st);
    return read != NULL;
}

bool dp_source_fake_end_any(dp_source_fake *fake, uint32_t fail_percent, bool is_waiting)
{
    dp_source_read *read = NULL;
    dp_status st = DP_OK;

    dp_mutex_lock(&fake->lock);
    while (is_waiting && fake->waiting_count == 0 && !fake->is_over)
        dp_cond_wait(&fake->changed, &fake->lock);
    if (fake->waiting_count) {
        if (dp_rng_below(&fake->rng, 100) < fail_percent)
            st = DP_E_IO;
        read = take_at_locked(fake, (uint32_t)dp_rng_below(&fake->rng, fake->waiting_count), &st);
    }
    dp_mutex_unlock(&fake->lock);
    if (read)
        finish(fake, read, st);
    return read != NULL;
}

void dp_source_fake_end_all(dp_source_fake *fake)
{
    while (dp_source_fake_end(fake, 0, DP_OK))
        ;
}

void dp_source_fake_stop(dp_source_fake *fake)
{
    dp_mutex_lock(&fake->lock);
    fake->is_over = true;
    dp_cond_broadcast(&fake->changed);
    dp_mutex_unlock(&fake->lock);
}
