/* stream.h - pages of a dense model that cannot stay, read ahead of their use.
 *
 * Room     Every step reads the same pages in the same order, so what comes next is
 *          known, over the end of a step as well: the first layers load while the
 *          head computes and the next token is chosen. `depth` pages are wanted
 *          ahead of the one in use; the tier's plan keeps room for one more.
 *
 * Ring     Wanted pages, in order: entries [first, first + held) of a cycle. A page
 *          asked for is the first of them, or pinned; anything else (a step that
 *          ended early, a head that is needed after all) starts the ring anew.
 *
 * Threads  The step thread.
 */
#ifndef DP_MODEL_STREAM_H
#define DP_MODEL_STREAM_H

#include "model/model.h"
#include "model/step.h"

typedef struct dp_stream_entry {
    dp_page_id page;
    dp_tier_batch batch;
    uint8_t scratch[1];
} dp_stream_entry;

typedef struct dp_stream {
    const dp_model *model;
    dp_tier *tier;
    uint32_t depth;
    bool wants_head; /* of the running step, presumed of the next one */
    uint32_t first, held;
    dp_stream_entry ring[DP_AHEAD_MAX + 1];
    bool is_direct; /* the page in between want and taken is pinned: not of the ring */
    dp_stream_entry direct;
} dp_stream;

/* depth 0: nothing is read ahead. Model and tier are borrowed. */
void dp_stream_init(dp_stream *stream, const dp_model *model, dp_tier *tier, uint32_t depth);
/* Gives up what was wanted ahead; the ring starts anew with the next page. */
void dp_stream_stop(dp_stream *stream);
/* A step begins; wants_head: it ends with logits. */
void dp_stream_begin(dp_stream *stream, bool wants_head);

/* The batch, of this page alone, to take the lease from; borrowed until _taken, which
 * follows whether the lease was had or not and wants the pages after this one.
 * Errors as of dp_tier_want. */
dp_status dp_stream_want(dp_stream *stream, dp_page_id page, dp_tier_batch **out, dp_error *err);
void dp_stream_taken(dp_stream *stream, dp_page_id page);

#endif
