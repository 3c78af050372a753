/* Asks: what one covers, what arrives for it, how it ends. */
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "swarm/picker_inner.h"

#define WARM_NS      ((uint64_t)110000000000) /* servers keep an idle connection about as long */
#define SPAN_NS      ((uint64_t)100000000)    /* rates are measured over */
#define SAMPLE_MIN   ((uint64_t)64 << 10)     /* bytes that say something about a rate */
#define SAMPLE_S_MIN 5e-3

uint32_t dp_picker_at(const dp_picker *p, const dp_picker_ask *ask, uint32_t *offset)
{
    uint64_t at = ask->offset + ask->_got;
    uint32_t piece_size = p->config.layout->piece_size;

    *offset = (uint32_t)(at % piece_size);
    return p->config.layout->files[ask->file].first_piece + (uint32_t)(at / piece_size);
}

uint32_t dp_picker_live(const dp_picker *p, uint32_t piece, uint32_t filled)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < p->config.asks_max; i++) {
        const dp_picker_ask *ask = &p->asks[i];
        uint32_t at, offset;

        if (!ask->_is_used || ask->is_stalled || ask->_is_dropped || piece < ask->first_piece ||
            piece - ask->first_piece >= ask->piece_count || ask->_got == ask->size)
            continue;
        at = dp_picker_at(p, ask, &offset);
        count += at < piece || (at == piece && offset <= filled);
    }
    return count;
}

/* Backwards: what waits again is put before the rest. */
static void settle_range(dp_picker *p, uint32_t first, uint32_t end)
{
    for (uint32_t piece = end; piece-- > first;) {
        dp_picker_want *w = dp_picker_find(p, piece);

        if (w)
            dp_picker_settle(p, w);
    }
}

void dp_picker_settle_rest(dp_picker *p, const dp_picker_ask *ask)
{
    uint32_t offset, at = dp_picker_at(p, ask, &offset);

    settle_range(p, at, ask->first_piece + ask->piece_count);
}

dp_picker_ask *dp_picker_ask_begin(dp_picker *p, endpoint *e, dp_picker_want *first, uint32_t count,
                                   uint32_t class_, bool is_hedge)
{
    dp_layout_place place = dp_layout_find(p->config.layout, first->piece);
    dp_picker_ask *ask = p->asks;

    while (ask->_is_used)
        ask++;
    *ask = (dp_picker_ask){
        .endpoint = e->id,
        .file = place.file,
        .offset = place.offset + first->filled,
        .first_piece = first->piece,
        .piece_count = count,
        .class_ = class_,
        .is_hedge = is_hedge,
        ._is_used = true,
        ._is_warm = e->ask_count < e->line_count && p->now_ns - e->last_ns < WARM_NS,
        ._slot = (uint32_t)(e - p->endpoints),
        ._own_end = first->piece + count,
        ._last_ns = p->now_ns,
    };
    for (uint32_t i = 0; i < count; i++) {
        dp_picker_want *w = dp_picker_find(p, first->piece + i);

        ask->size += w->size - (i == 0 ? w->filled : 0);
        w->_was_asked = true;
    }
    dp_picker_settle_rest(p, ask);
    e->ask_count++;
    e->to_come += ask->size;
    p->ask_count++;
    p->low_count += class_ != DP_PICKER_DEMAND;
    p->stats.asks++;
    p->stats.hedges += is_hedge;
    return ask;
}

void dp_picker_note_latency(endpoint *e, uint64_t latency_ns)
{
    /* What made one answer slow need not make the next one slow: down fast, up slowly. */
    if (e->latency_ns == 0 || latency_ns == 0)
        e->latency_ns = DP_MAX(e->latency_ns, latency_ns);
    else if (latency_ns < e->latency_ns)
        e->latency_ns -= (e->latency_ns - latency_ns) / 2;
    else
        e->latency_ns += (latency_ns - e->latency_ns) / 8;
}

/* What came since the first answer began, over that time. Bytes that lay ready in the socket
 * take no time at all, so a short span says little and is taken for longer than it was. */
static void sample_rate(endpoint *e, uint64_t now_ns)
{
    double seconds = DP_MAX((double)(now_ns - e->busy_ns) * 1e-9, SAMPLE_S_MIN);
    double weight = DP_MIN(seconds * 5, 0.7), bytes_s = (double)e->busy_bytes / seconds;

    if (e->busy_bytes < SAMPLE_MIN && seconds < SPAN_NS * 1e-9)
        return;
    e->bytes_s = e->bytes_s > 0 ? e->bytes_s + weight * (bytes_s - e->bytes_s) : bytes_s;
}

/* From here on bytes are expected. */
static void begin_spans(endpoint *e, dp_picker_ask *ask, uint64_t now_ns)
{
    if (e->busy_ns == 0) {
        e->busy_ns = now_ns;
        e->busy_bytes = 0;
    }
    if (ask->_span_ns == 0) {
        ask->_span_ns = now_ns;
        ask->_span_got = ask->_got;
    }
}

void dp_picker_answered(dp_picker *p, dp_picker_ask *ask, uint64_t latency_ns, uint64_t now_ns)
{
    p->now_ns = now_ns;
    ask->_answered_ns = now_ns;
    ask->_last_ns = now_ns;
    begin_spans(&p->endpoints[ask->_slot], ask, now_ns);
    dp_picker_note_latency(&p->endpoints[ask->_slot], latency_ns);
}

static void note_arrival(endpoint *e, dp_picker_ask *ask, size_t size, uint64_t now_ns)
{
    begin_spans(e, ask, now_ns);
    e->refusals = 0;
    e->busy_bytes += size;
    if (now_ns - e->busy_ns > SPAN_NS) {
        sample_rate(e, now_ns);
        e->busy_ns = now_ns;
        e->busy_bytes = 0;
    }
    if (now_ns - ask->_span_ns > SPAN_NS) {
        ask->_bytes_s =
            (double)(ask->_got - ask->_span_got) / (double)(now_ns - ask->_span_ns) * 1e9;
        ask->_span_ns = now_ns;
        ask->_span_got = ask->_got;
    }
    ask->_last_ns = now_ns;
}

/* Whether the next bytes of the ask are the next ones of the want, as far as who gives them
 * matters. */
static bool may_take(dp_picker *p, dp_picker_want *want, const dp_picker_ask *ask)
{
    if (want->part_count == 0 || want->parts[want->part_count - 1].endpoint == ask->endpoint)
        return true;
    if (want->_is_single)
        return false;
    if (want->part_count == DP_PICKER_PARTS_MAX)
        dp_picker_start_anew(p, want);
    return want->part_count > 0;
}

static void take(dp_picker *p, dp_picker_want *want, const dp_picker_ask *ask, uint32_t size)
{
    if (want->part_count == 0 || want->parts[want->part_count - 1].endpoint != ask->endpoint)
        want->parts[want->part_count++].endpoint = ask->endpoint;
    dp_picker_count_bytes(p, want, size);
    want->filled += size;
    want->parts[want->part_count - 1].end = want->filled;
    want->_was_asked = true;
    p->stats.bytes += size;
    p->endpoints[ask->_slot].bytes += size;
    if (want->filled == want->size)
        dp_picker_set_state(p, want, DP_PICKER_FULL, false);
}

/* An ask that was taken for dead gives again: what it has yet to bring need not be asked of
 * others any more. */
static void revive(dp_picker *p, dp_picker_ask *ask)
{
    ask->is_stalled = false;
    ask->_span_ns = 0;
    ask->_bytes_s = 0;
    dp_picker_settle_rest(p, ask);
}

size_t dp_picker_arrived(dp_picker *p, dp_picker_ask *ask, size_t size, uint64_t now_ns,
                         dp_picker_want **want, uint32_t *offset)
{
    dp_picker_want *w;
    uint64_t piece_end;
    uint32_t piece;
    size_t n = size;

    p->now_ns = now_ns;
    *want = NULL;
    piece = dp_picker_at(p, ask, offset);
    piece_end = DP_MIN((uint64_t)p->config.layout->piece_size - *offset, ask->size - ask->_got);
    n = (size_t)DP_MIN(n, piece_end);
    if (n == 0)
        return 0;
    note_arrival(&p->endpoints[ask->_slot], ask, n, now_ns);
    if (ask->is_stalled && !ask->_is_trickle && !ask->_is_dropped)
        revive(p, ask);

    w = dp_picker_find(p, piece);
    if (w && (w->state == DP_PICKER_WAITING || w->state == DP_PICKER_ASKED) &&
        *offset + n > w->filled && *offset <= w->filled) {
        if (*offset < w->filled)
            n = w->filled - *offset; /* these are there; the next call takes the rest */
        else if (may_take(p, w, ask))
            *want = w;
    }
    ask->_got += n;
    p->endpoints[ask->_slot].to_come -= n;
    if (*want)
        take(p, w, ask, (uint32_t)n);
    else
        p->stats.wasted_bytes += n;
    if (w && (n == piece_end || w->part_count == 0))
        dp_picker_settle(p, w);
    return n;
}

/* ---- refusals: about pieces ---- */

static void lose(dp_picker *p, endpoint *e, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++)
        e->have[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
    p->is_unsure = p->has_news = true;
}

/* False: no memory for what it lacks. */
static bool make_list(const dp_picker *p, endpoint *e)
{
    if (!e->have) {
        e->have = dp_alloc(p->have_size, 1);
        if (e->have)
            memset(e->have, 0xff, p->have_size);
    }
    return e->have != NULL;
}

/* What it does not have it is not asked for again. */
static void note_gone(dp_picker *p, endpoint *e, const dp_picker_ask *ask, dp_picker_end end)
{
    const dp_layout_file *file = &p->config.layout->files[ask->file];
    uint32_t file_end = file->first_piece + dp_pieces_count(file->pieces);

    if (!make_list(p, e)) {
        dp_picker_ban_endpoint(p, e, p->now_ns);
        return;
    }
    if (end == DP_PICKER_END_PAST)
        lose(p, e, ask->first_piece, file_end - ask->first_piece);
    else if (!e->is_listed)
        lose(p, e, file->first_piece, file_end - file->first_piece);
    else
        lose(p, e, ask->first_piece, 1);
    if (e->is_listed) /* what is asked for in vain waits for its answer */
        e->run_max = DP_MAX(ask->piece_count / 2, 1);
}

bool dp_picker_shortened(dp_picker *p, dp_picker_ask *ask, uint64_t size)
{
    const dp_layout_file *file = &p->config.layout->files[ask->file];
    uint32_t piece_size = p->config.layout->piece_size, end = ask->first_piece + ask->piece_count;
    endpoint *e = &p->endpoints[ask->_slot];
    uint32_t short_end;

    DP_ASSERT(ask->_got == 0);
    if (size == 0 || size >= ask->size || (ask->offset + size) % piece_size)
        return false;
    short_end = file->first_piece + (uint32_t)((ask->offset + size) / piece_size);
    e->to_come -= ask->size - size;
    ask->size = size;
    ask->piece_count = short_end - ask->first_piece;
    ask->_own_end = DP_MIN(ask->_own_end, short_end);
    if (e->is_listed)
        lose(p, e, short_end, 1);
    settle_range(p, short_end, end);
    p->has_news = true;
    return true;
}

/* Whether it says now that it has not what the answer did not bring. */
static bool is_lost(const endpoint *e, cut at)
{
    for (uint32_t i = at.first; i < at.end && e->is_listed; i++) {
        if (!dp_picker_has(e, i))
            return true;
    }
    return false;
}

void dp_picker_forgive_cuts(endpoint *e)
{
    uint32_t kept = 0;

    if (e->cut_count == 0)
        return;
    for (uint32_t i = 0; i < e->cut_count; i++) {
        if (!is_lost(e, e->cuts[i])) {
            e->cuts[kept++] = e->cuts[i];
            continue;
        }
        e->failures--;
        e->fail_level -= e->fail_level > 0;
    }
    e->cut_count = kept;
    if (kept == 0)
        e->backoff_ns = 0;
}

/* ---- failures: about the endpoint ---- */

void dp_picker_back_off(endpoint *e, uint64_t retry_ns, uint64_t now_ns)
{
    uint64_t ns = DP_PICKER_BACKOFF_NS << DP_MIN(e->fail_level, 10);

    e->cut_count = 0;
    e->fail_level++;
    e->failed_ns = now_ns;
    e->backoff_ns = now_ns + DP_MIN(ns, DP_PICKER_BACKOFF_NS_MAX);
    e->retry_ns = retry_ns ? now_ns + DP_MIN(retry_ns, DP_PICKER_BACKOFF_NS_MAX) : 0;
}

static void note_failure(dp_picker *p, endpoint *e, uint64_t retry_ns)
{
    e->failures++;
    dp_picker_back_off(e, retry_ns, p->now_ns);
}

/* A cut is a refusal where the endpoint said, or will say, that it lost what it did not bring. */
static void note_cut(dp_picker *p, endpoint *e, const dp_picker_ask *ask)
{
    uint32_t offset, count = e->cut_count;
    cut at = { dp_picker_at(p, ask, &offset), ask->first_piece + ask->piece_count };
    bool may_forgive;

    if (is_lost(e, at))
        return;
    /* Only where nothing but cuts made it rest may all be forgiven. */
    may_forgive = count < CUTS_MAX && (count > 0 || e->backoff_ns <= p->now_ns);
    note_failure(p, e, 0);
    if (may_forgive) {
        e->cuts[count] = at;
        e->cut_count = count + 1;
    }
}

/* What an answer that was not whole says. */
static void note_end(dp_picker *p, endpoint *e, const dp_picker_ask *ask, dp_picker_end end,
                     uint64_t retry_ns)
{
    switch (end) {
    case DP_PICKER_END_GONE:
    case DP_PICKER_END_PAST:
        note_gone(p, e, ask, end);
        if (++e->refusals > DP_PICKER_REFUSALS_MAX)
            note_failure(p, e, 0);
        break;
    case DP_PICKER_END_CUT:
        note_cut(p, e, ask);
        break;
    case DP_PICKER_END_DROPPED:
        break;
    default:
        note_failure(p, e, end == DP_PICKER_END_BUSY ? retry_ns : 0);
    }
}

void dp_picker_ended(dp_picker *p, dp_picker_ask *ask, dp_picker_end end, uint64_t retry_ns,
                     uint64_t now_ns)
{
    endpoint *e = &p->endpoints[ask->_slot];
    bool is_whole = end == DP_PICKER_END_WHOLE && ask->_got == ask->size;

    p->now_ns = now_ns;
    ask->_is_used = false;
    dp_picker_settle_rest(p, ask);
    e->to_come -= ask->size - ask->_got;
    e->ask_count--;
    p->ask_count--;
    p->low_count -= ask->class_ != DP_PICKER_DEMAND;
    p->has_news = true;
    if (e->ask_count == 0 && e->busy_ns) {
        sample_rate(e, now_ns);
        e->busy_ns = 0;
    }
    if (is_whole) {
        e->fail_level -= e->fail_level > 0;
        e->backoff_ns = e->retry_ns = 0;
        e->cut_count = 0;
        e->run_max *= 2;
        e->last_ns = now_ns;
        e->line_count = DP_MAX(e->line_count, e->ask_count + 1);
        e->grown_count = DP_MAX(e->grown_count, e->ask_count + 1);
    } else {
        note_end(p, e, ask, end, retry_ns);
    }
    if (!is_whole)
        e->line_count = e->grown_count = e->ask_count; /* such an end closes connections */
    dp_picker_free_removed(e);
}
