#include "model/stream.h"

#define RING_SIZE (DP_AHEAD_MAX + 1)

void dp_stream_init(dp_stream *stream, const dp_model *model, dp_tier *tier, uint32_t depth)
{
    *stream = (dp_stream){ .model = model, .tier = tier, .depth = DP_MIN(depth, DP_AHEAD_MAX) };
}

static dp_stream_entry *entry_at(dp_stream *stream, uint32_t i)
{
    return &stream->ring[(stream->first + i) % RING_SIZE];
}

static void drop_first(dp_stream *stream)
{
    dp_tier_batch_end(&entry_at(stream, 0)->batch);
    stream->first = (stream->first + 1) % RING_SIZE;
    stream->held--;
}

void dp_stream_stop(dp_stream *stream)
{
    while (stream->held)
        drop_first(stream);
}

void dp_stream_begin(dp_stream *stream, bool wants_head)
{
    stream->wants_head = wants_head;
}

static dp_status want(dp_stream *stream, dp_stream_entry *entry, dp_page_id page, dp_error *err)
{
    entry->page = page;
    return dp_tier_want(stream->tier, &entry->page, 1, entry->scratch, &entry->batch, err);
}

static dp_status push(dp_stream *stream, dp_page_id page, dp_error *err)
{
    dp_status st = want(stream, entry_at(stream, stream->held), page, err);

    if (!st)
        stream->held++;
    return st;
}

dp_status dp_stream_want(dp_stream *stream, dp_page_id page, dp_tier_batch **out, dp_error *err)
{
    stream->is_direct = dp_tier_is_pinned(stream->tier, page);
    if (stream->is_direct) {
        *out = &stream->direct.batch;
        return want(stream, &stream->direct, page, err);
    }
    if (stream->held && entry_at(stream, 0)->page != page)
        dp_stream_stop(stream);
    *out = &entry_at(stream, 0)->batch;
    return stream->held ? DP_OK : push(stream, page, err);
}

/* The next page in the order of steps that is not pinned; round to the first layer
 * behind the last page, or behind the last layer where no head is wanted.
 * DP_PAGE_NONE: there is no other. */
static dp_page_id streamed_after(const dp_stream *stream, dp_page_id page)
{
    dp_page_id next = page;

    for (uint32_t i = 0; i < stream->model->pages.page_count; i++) {
        next = dp_model_page_after(stream->model, next);
        if (next == DP_PAGE_NONE || (next == stream->model->globals_page && !stream->wants_head))
            next = dp_model_first_page(stream->model);
        if (next != page && !dp_tier_is_pinned(stream->tier, next))
            return next;
    }
    return DP_PAGE_NONE;
}

/* Wants pages until `depth` are on their way or the round is complete. One that
 * cannot be had is told when it is needed. */
static void top_up(dp_stream *stream, dp_page_id in_use)
{
    dp_page_id last = stream->held ? entry_at(stream, stream->held - 1)->page : in_use;

    while (stream->held < stream->depth) {
        last = streamed_after(stream, last);
        if (last == DP_PAGE_NONE || last == in_use ||
            (stream->held && last == entry_at(stream, 0)->page) || push(stream, last, NULL))
            return;
    }
}

void dp_stream_taken(dp_stream *stream, dp_page_id page)
{
    if (stream->is_direct)
        dp_tier_batch_end(&stream->direct.batch);
    else
        drop_first(stream);
    top_up(stream, page);
}
