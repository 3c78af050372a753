/* Plans: who is asked for what waits, and who takes over the tail of a slow answer.
 *
 * A plan is made one ask at a time. What an endpoint was given counts as to come when the next
 * ask is planned, so the shares of a batch add up without being remembered. */
#include "base/assert.h"
#include "swarm/picker_inner.h"

#define CANDIDATES_MAX 32
#define HEADS_MAX      64   /* runs looked at in one plan: the line may be long */
#define SAMPLES        8    /* pieces of a run that tell how much of it an endpoint has */
#define LEVEL_BYTES    1e15 /* more than waits ever */
#define RATE_GUESS     12.5e6
#define LATENCY_GUESS  0.02
#define PRIOR_S        0.1 /* what was known before weighs as much as so long a span */
#define RANGE_MIN      ((uint32_t)256 << 10) /* smaller ranges cost more than they spread */
/* A new connection is made in one exchange, and its window doubles from 14 KB in every further one:
 * seven until a megabyte is there. */
#define COLD_LATENCIES 8
#define WAIT_S         0.05 /* a busy endpoint that would be so much earlier is waited for */
#define GAIN_S         0.06 /* a tail is taken over to be so much earlier */

typedef struct candidate {
    endpoint *e;
    double ready_s; /* from now: when its next byte would come */
    double bytes_s;
    double share; /* bytes, by the common end */
    double cover; /* 0 .. 1: of the run's samples */
    bool is_able; /* may be asked now */
} candidate;

typedef struct run {
    dp_picker_want *first;
    uint32_t count, class_;
} run;

/* ---- what is known --------------------------------------------------------------------------- */

static void make_guesses(dp_picker *p)
{
    double rate = 0, latency = 0;
    uint32_t rates = 0, latencies = 0;

    for (uint32_t i = 0; i < p->endpoint_end; i++) {
        const endpoint *e = &p->endpoints[i];

        rate += e->is_used ? e->bytes_s : 0;
        rates += e->is_used && e->bytes_s > 0;
        latency += e->is_used ? (double)e->latency_ns * 1e-9 : 0;
        latencies += e->is_used && e->latency_ns > 0;
    }
    /* A stranger gets half of what those who are known get, until it has shown more. */
    p->guess_bytes_s = rates ? rate / rates / 2 : RATE_GUESS;
    p->guess_latency_s = latencies ? latency / latencies : LATENCY_GUESS;
}

static double rate_of(const dp_picker *p, const endpoint *e)
{
    return DP_MAX(e->bytes_s > 0 ? e->bytes_s : p->guess_bytes_s, 1);
}

static double latency_of(const dp_picker *p, const endpoint *e)
{
    return e->latency_ns ? (double)e->latency_ns * 1e-9 : p->guess_latency_s;
}

/* What the span so far shows, weighed against what was known before it: a moment of silence
 * does not mean never. */
double dp_picker_ask_rate(const dp_picker *p, const dp_picker_ask *ask)
{
    const endpoint *e = &p->endpoints[ask->_slot];
    double before = ask->_bytes_s > 0 ? ask->_bytes_s : rate_of(p, e) / e->ask_count, span_s = 0;

    if (ask->_span_ns)
        span_s = (double)(p->now_ns - ask->_span_ns) * 1e-9;
    return DP_MAX(((double)(ask->_got - ask->_span_got) + before * PRIOR_S) / (span_s + PRIOR_S),
                  1);
}

static double ready_of(const dp_picker *p, const endpoint *e)
{
    bool is_grown = e->ask_count < e->grown_count;

    return latency_of(p, e) * (is_grown ? 1 : COLD_LATENCIES) + (double)e->to_come / rate_of(p, e);
}

/* is_urgent: nobody else has the piece, so its rests are short. */
static bool is_resting(const dp_picker *p, const endpoint *e, bool is_urgent)
{
    uint64_t until = e->backoff_ns;

    if (is_urgent)
        until = DP_MIN(until, e->failed_ns + DP_PICKER_PATIENCE_NS);
    return p->now_ns < DP_MAX(until, e->retry_ns);
}

static bool is_able(const dp_picker *p, const endpoint *e, uint32_t class_, bool is_urgent)
{
    if (e->ask_count >= p->config.asks_per_endpoint || is_resting(p, e, is_urgent))
        return false;
    /* What nobody waits for is asked ahead only to hide the latency. */
    return class_ == DP_PICKER_DEMAND || e->ask_count == 0 ||
           (double)e->to_come < rate_of(p, e) * latency_of(p, e);
}

/* ---- runs ------------------------------------------------------------------------------------- */

/* Consecutive wants of one file that wait, from `first` on. */
static run run_from(dp_picker *p, dp_picker_want *first)
{
    run r = { first, 1, first->class_ };
    dp_layout_place place = dp_layout_find(p->config.layout, first->piece);
    const dp_layout_file *file = &p->config.layout->files[place.file];
    uint64_t max = first->class_ == DP_PICKER_DEMAND ? DP_PICKER_ASK_MAX : DP_PICKER_ASK_MAX_LOW;
    uint64_t rest = (uint64_t)dp_pieces_count(file->pieces) - place.piece;

    rest = DP_MIN(rest, DP_MAX(max / p->config.layout->piece_size, 1));
    while (r.count < rest && !first->_is_single) {
        const dp_picker_want *w = dp_picker_find(p, first->piece + r.count);

        if (!w || w->state != DP_PICKER_WAITING || w->class_ != first->class_ || w->filled ||
            w->_is_single)
            break;
        r.count++;
    }
    return r;
}

static double coverage(const endpoint *e, const run *r)
{
    uint32_t samples = DP_MIN(r->count, SAMPLES), has = 0;

    if (!e->have)
        return 1;
    for (uint32_t i = 0; i < samples; i++)
        has += dp_picker_has(e, r->first->piece + (uint32_t)((uint64_t)i * r->count / samples));
    return (double)has / samples;
}

/* ---- shares ------------------------------------------------------------------------------------- */

static void insert_candidate(candidate *list, uint32_t *count, const candidate *c)
{
    uint32_t at = *count;

    if (at == CANDIDATES_MAX) {
        if (c->ready_s >= list[at - 1].ready_s)
            return;
        at--;
    } else {
        (*count)++;
    }
    for (; at > 0 && list[at - 1].ready_s > c->ready_s; at--)
        list[at] = list[at - 1];
    list[at] = *c;
}

/* Those who have something of the run, soonest first; no more able ones than asks are free. */
static uint32_t find_candidates(const dp_picker *p, candidate *list, const run *r, bool is_urgent)
{
    uint32_t count = 0, kept = 0, able = 0;

    for (uint32_t i = 0; i < p->endpoint_end; i++) {
        endpoint *e = &p->endpoints[i];
        candidate c = { .e = e };

        if (!dp_picker_is_good(e, p->now_ns) || is_resting(p, e, is_urgent))
            continue;
        c.cover = coverage(e, r);
        if (c.cover <= 0)
            continue;
        c.ready_s = ready_of(p, e);
        c.bytes_s = rate_of(p, e);
        c.is_able = is_able(p, e, r->class_, is_urgent);
        insert_candidate(list, &count, &c);
    }
    for (uint32_t i = 0; i < count; i++) {
        able += list[i].is_able;
        if (!list[i].is_able || able <= p->config.asks_max - p->ask_count)
            list[kept++] = list[i];
    }
    return kept;
}

/* Water into basins: each is filled from when it is ready until the common end. */
static void share_out(candidate *list, uint32_t count, double bytes)
{
    double rates = 0, offsets = 0, end_s = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 && end_s <= list[i].ready_s)
            break;
        rates += list[i].bytes_s;
        offsets += list[i].bytes_s * list[i].ready_s;
        end_s = (bytes + offsets) / rates;
    }
    for (uint32_t i = 0; i < count; i++)
        list[i].share = DP_MAX(end_s - list[i].ready_s, 0) * list[i].bytes_s;
}

/* Who gets the first piece of the run. Large shares first: few and long ranges. Who has
 * little of the run goes before who has all of it and can be asked for the rest. */
static const candidate *choose(const candidate *list, uint32_t count, const run *r)
{
    const candidate *best = NULL, *soonest = NULL;
    double piece = r->first->size - r->first->filled, score = 0, best_s = 0, busy_s = LEVEL_BYTES;

    for (uint32_t i = 0; i < count; i++) {
        const candidate *c = &list[i];
        double end_s = c->ready_s + piece / c->bytes_s;

        if (!dp_picker_has(c->e, r->first->piece))
            continue;
        if (!c->is_able) {
            busy_s = DP_MIN(busy_s, end_s);
            continue;
        }
        if (!soonest || end_s < best_s) {
            soonest = c;
            best_s = end_s;
        }
        if (!best || c->share * (1.5 - c->cover / 2) > score) {
            best = c;
            score = c->share * (1.5 - c->cover / 2);
        }
    }
    if (best && best->share >= piece / 2)
        return best;
    return soonest && busy_s + WAIT_S < best_s ? NULL : soonest;
}

/* How many pieces of the run go to the chosen one. */
static uint32_t count_for(const dp_picker *p, const candidate *c, const run *r)
{
    uint32_t piece_size = p->config.layout->piece_size;
    double share = c->share / piece_size + 0.5;
    uint32_t least = DP_MAX(RANGE_MIN / piece_size, 1), n, has = 1;

    n = share < r->count ? DP_MAX((uint32_t)share, least) : r->count;
    if (n >= r->count || r->count - n <= n / 4 || r->count - n < least)
        n = r->count; /* a crumb left over would cost somebody a request */
    if (c->e->run_max)
        n = DP_MIN(n, c->e->run_max);
    while (has < n && dp_picker_has(c->e, r->first->piece + has))
        has++;
    return has;
}

static dp_picker_ask *plan_run(dp_picker *p, const run *r)
{
    candidate list[CANDIDATES_MAX];
    double bytes = (double)p->waiting[r->class_].bytes;
    const candidate *chosen;
    uint32_t count = find_candidates(p, list, r, false);

    if (count == 0 && r->class_ == DP_PICKER_DEMAND)
        count = find_candidates(p, list, r, true);
    if (count == 0)
        return NULL;
    share_out(list, count, bytes);
    chosen = choose(list, count, r);
    if (!chosen)
        return NULL;
    return dp_picker_ask_begin(p, chosen->e, r->first, count_for(p, chosen, r), r->class_, false);
}

static dp_picker_ask *plan_class(dp_picker *p, uint32_t class_)
{
    dp_picker_want *w = p->waiting[class_].first;

    for (int heads = 0; w && heads < HEADS_MAX; heads++) {
        run r = run_from(p, w);
        dp_picker_ask *ask = plan_run(p, &r);

        if (ask)
            return ask;
        /* Nobody can be asked for the first piece; perhaps for one of another run. */
        for (uint32_t next = w->piece; w && w->piece == next; next++)
            w = w->_next;
    }
    return NULL;
}

/* ---- tails ------------------------------------------------------------------------------------- */

/* Pieces at the end of what an ask has for itself, and when they are likely to be there. */
typedef struct tail {
    dp_picker_ask *ask;
    uint32_t end, count; /* pieces [end - count, end) are only this ask's */
    double end_s, bytes_s;
} tail;

static bool is_own(dp_picker *p, uint32_t piece)
{
    const dp_picker_want *w = dp_picker_find(p, piece);

    return w && w->state == DP_PICKER_ASKED && !w->_is_single &&
           dp_picker_live(p, piece, w->filled) == 1;
}

static tail tail_of(dp_picker *p, dp_picker_ask *ask)
{
    const dp_layout *layout = p->config.layout;
    uint32_t offset, at = dp_picker_at(p, ask, &offset), file_first;
    tail t = { .ask = ask };
    uint64_t end;

    while (ask->_own_end > at) { /* what came another way is no part of it any more */
        const dp_picker_want *w = dp_picker_find(p, ask->_own_end - 1);

        if (w && w->state != DP_PICKER_FULL)
            break;
        ask->_own_end--;
    }
    t.end = ask->_own_end;
    while (t.end - t.count > at && is_own(p, t.end - t.count - 1))
        t.count++;
    file_first = layout->files[ask->file].first_piece;
    end = DP_MIN((uint64_t)(t.end - file_first) * layout->piece_size, ask->offset + ask->size);
    end -= DP_MIN(end, ask->offset + ask->_got);
    t.bytes_s = dp_picker_ask_rate(p, ask);
    t.end_s = (double)end / t.bytes_s;
    if (!ask->_answered_ns) /* what took long already is likely to take as long again */
        t.end_s += DP_MAX(latency_of(p, &p->endpoints[ask->_slot]),
                          (double)(p->now_ns - ask->_last_ns) * 1e-9);
    return t;
}

/* How many of the last pieces e should take, 0: it would not be worth it. */
static uint32_t help(dp_picker *p, const endpoint *e, const tail *t, double *end_s)
{
    double piece = p->config.layout->piece_size, bytes_s = rate_of(p, e), ready_s, n;
    uint32_t count, has = 0;

    if (e->id == t->ask->endpoint || !dp_picker_is_good(e, p->now_ns) ||
        !is_able(p, e, DP_PICKER_DEMAND, false))
        return 0;
    ready_s = ready_of(p, e);
    n = (t->end_s - ready_s) / (piece / bytes_s + piece / t->bytes_s);
    count = n < 1 ? 1 : n < t->count ? (uint32_t)n : t->count;
    while (has < count && dp_picker_has(e, t->end - 1 - has))
        has++;
    *end_s = DP_MAX(ready_s + has * piece / bytes_s, t->end_s - has * piece / t->bytes_s);
    return *end_s < t->end_s - GAIN_S ? has : 0;
}

static dp_picker_ask *plan_tail(dp_picker *p)
{
    tail worst = { 0 };
    endpoint *best = NULL;
    uint32_t best_count = 0, at, offset;
    double best_s = 0;
    dp_picker_want *first;

    for (uint32_t i = 0; i < p->config.asks_max; i++) {
        dp_picker_ask *ask = &p->asks[i];
        tail t;

        if (!ask->_is_used || ask->_is_dropped || ask->is_stalled ||
            ask->class_ != DP_PICKER_DEMAND)
            continue;
        t = tail_of(p, ask);
        if (t.count > 0 && t.end_s > DP_PICKER_TAIL_NS * 1e-9 && t.end_s > worst.end_s)
            worst = t;
    }
    for (uint32_t i = 0; i < p->endpoint_end && worst.ask; i++) {
        double end_s;
        uint32_t count = help(p, &p->endpoints[i], &worst, &end_s);

        if (count > 0 && (!best || end_s < best_s)) {
            best = &p->endpoints[i];
            best_count = count;
            best_s = end_s;
        }
    }
    if (!best)
        return NULL;
    worst.ask->_own_end = worst.end - best_count;
    at = dp_picker_at(p, worst.ask, &offset);
    DP_ASSERT(worst.ask->_own_end >= at);
    first = dp_picker_find(p, worst.ask->_own_end);
    return dp_picker_ask_begin(p, best, first, best_count, DP_PICKER_DEMAND, true);
}

dp_picker_ask *dp_picker_plan(dp_picker *p)
{
    dp_picker_ask *ask = NULL;

    if (p->ask_count == p->config.asks_max)
        return NULL;
    make_guesses(p);
    ask = plan_class(p, DP_PICKER_DEMAND);
    if (!ask)
        ask = plan_tail(p);
    for (uint32_t c = DP_PICKER_PREFETCH; c < DP_PICKER_CLASSES && !ask; c++) {
        if (p->low_count < DP_MAX(p->config.asks_max / 2, 1))
            ask = plan_class(p, c);
    }
    return ask;
}
