/* The books of the picker: who has what, what is wanted, what was asked, what came. */
#include "swarm/picker_inner.h"

#include <string.h>

#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/status.h"

#define DRAIN_NS     250e6                  /* unwanted bytes that take longer are not waited for */
#define TAIL_LOOK_NS ((uint64_t)20000000)   /* how often tails are looked at */
#define TRICKLE_NS   ((uint64_t)1000000000) /* an answer that for so long ... */
#define TRICKLE_S    32768.0                /* ... gave fewer bytes/s counts as silent */

/* ---- open, close, endpoints ------------------------------------------------------------ */

dp_status dp_picker_open(dp_picker **out, const dp_picker_config *config, dp_error *err)
{
    dp_picker *p = NULL;
    dp_status st = DP_OK;

    *out = NULL;
    if (config->endpoints_max > DP_PICKER_ENDPOINTS_MAX || config->asks_max > DP_PICKER_ASKS_MAX)
        return dp_fail(err, DP_E_LIMIT, "picker: %u endpoints and %u asks, at most %u and %u",
                       config->endpoints_max, config->asks_max, DP_PICKER_ENDPOINTS_MAX,
                       DP_PICKER_ASKS_MAX);
    if (config->endpoints_max == 0 || config->asks_max == 0 || config->asks_per_endpoint == 0)
        return dp_fail(err, DP_E_INVALID, "picker: room for no endpoint or no ask");
    p = dp_alloc_zero(1, sizeof *p);
    if (p) {
        p->config = *config;
        p->endpoints = dp_alloc_zero(config->endpoints_max, sizeof *p->endpoints);
        p->asks = dp_alloc_zero(config->asks_max, sizeof *p->asks);
    }
    if (!p || !p->endpoints || !p->asks) {
        st = dp_fail(err, DP_E_NOMEM, "picker: %u endpoints", config->endpoints_max);
        goto done;
    }
    p->have_size = (config->layout->piece_count + 7) / 8;
    p->deadline_ns = UINT64_MAX;
    p->next_id = 1;

    *out = p;
    p = NULL;
done:
    dp_picker_close(p);
    return st;
}

void dp_picker_close(dp_picker *p)
{
    if (!p)
        return;
    for (uint32_t i = 0; i < p->endpoint_end; i++)
        dp_free(p->endpoints[i].have);
    dp_free(p->endpoints);
    dp_free(p->asks);
    dp_free(p);
}

static endpoint *find_endpoint(const dp_picker *p, uint32_t id)
{
    for (uint32_t i = 0; i < p->endpoint_end; i++) {
        if (p->endpoints[i].is_used && p->endpoints[i].id == id)
            return &p->endpoints[i];
    }
    return NULL;
}

bool dp_picker_has(const endpoint *e, uint32_t piece)
{
    return !e->have || (e->have[piece / 8] >> (7 - piece % 8) & 1);
}

bool dp_picker_is_good(const endpoint *e, uint64_t now_ns)
{
    return e->is_used && !e->is_removed && e->banned_ns <= now_ns;
}

dp_status dp_picker_add(dp_picker *p, const uint8_t *have, uint32_t *id, dp_error *err)
{
    uint32_t slot = 0;
    endpoint *e;

    *id = 0;
    while (slot < p->endpoint_end && p->endpoints[slot].is_used)
        slot++;
    if (slot == p->config.endpoints_max)
        return dp_fail(err, DP_E_LIMIT, "swarm: more than %u endpoints", slot);
    e = &p->endpoints[slot];
    *e = (endpoint){ .is_used = true, .id = p->next_id };
    p->endpoint_end = DP_MAX(p->endpoint_end, slot + 1);
    if (!dp_picker_set_have(p, e->id, have)) {
        e->is_used = false;
        return dp_fail(err, DP_E_NOMEM, "swarm: what an endpoint has, %u bytes", p->have_size);
    }
    *id = p->next_id++;
    return DP_OK;
}

bool dp_picker_set_have(dp_picker *p, uint32_t id, const uint8_t *have)
{
    endpoint *e = find_endpoint(p, id);

    if (!e)
        return true;
    if (!have) {
        dp_free(e->have);
        e->have = NULL;
    } else {
        if (!e->have)
            e->have = dp_alloc(p->have_size, 1);
        if (!e->have)
            return false;
        memcpy(e->have, have, p->have_size);
    }
    e->is_listed = have != NULL;
    dp_picker_forgive_cuts(e);
    p->has_news = p->is_unsure = true;
    return true;
}

void dp_picker_free_removed(endpoint *e)
{
    if (e->is_removed && e->ask_count == 0) {
        dp_free(e->have);
        *e = (endpoint){ 0 };
    }
}

void dp_picker_remove(dp_picker *p, uint32_t id)
{
    endpoint *e = find_endpoint(p, id);

    if (!e)
        return;
    e->is_removed = true;
    dp_picker_free_removed(e);
    p->has_news = p->is_unsure = true;
}

void dp_picker_warmed(dp_picker *p, uint32_t id, uint64_t latency_ns, uint64_t now_ns)
{
    endpoint *e = find_endpoint(p, id);

    if (!e)
        return;
    dp_picker_note_latency(e, latency_ns);
    e->line_count = DP_MIN(e->line_count + 1, p->config.asks_per_endpoint);
    e->last_ns = now_ns;
}

bool dp_picker_ban_endpoint(dp_picker *p, endpoint *e, uint64_t now_ns)
{
    bool is_new = e->banned_ns <= now_ns;

    e->banned_ns = now_ns + DP_PICKER_BAN_NS;
    p->stats.bans += is_new;
    p->has_news = p->is_unsure = true;
    return is_new;
}

void dp_picker_ban(dp_picker *p, uint32_t id, uint64_t now_ns)
{
    endpoint *e = find_endpoint(p, id);

    p->now_ns = now_ns;
    if (e)
        dp_picker_ban_endpoint(p, e, now_ns);
}

size_t dp_picker_endpoints(const dp_picker *p, dp_picker_endpoint *out, size_t max)
{
    size_t count = 0;

    for (uint32_t i = 0; i < p->endpoint_end; i++) {
        const endpoint *e = &p->endpoints[i];

        if (!e->is_used || e->is_removed)
            continue;
        if (count < max)
            out[count] = (dp_picker_endpoint){
                .id = e->id,
                .bytes = e->bytes,
                .bytes_s = e->bytes_s,
                .latency_ns = e->latency_ns,
                .outstanding_bytes = e->to_come,
                .asks = e->ask_count,
                .pieces = e->pieces,
                .failures = e->failures,
                .stalls = e->stalls,
                .bad_pieces = e->bad_pieces,
                .backoff_until_ns = DP_MAX(e->backoff_ns, e->retry_ns),
                .banned_until_ns = e->banned_ns,
            };
        count++;
    }
    return count;
}

/* ---- wants --------------------------------------------------------------------------------- */

static dp_picker_want **bucket_of(dp_picker *p, uint32_t piece)
{
    return &p->buckets[dp_hash_u64(piece) % BUCKET_COUNT];
}

dp_picker_want *dp_picker_find(dp_picker *p, uint32_t piece)
{
    dp_picker_want *w = *bucket_of(p, piece);

    while (w && w->piece != piece)
        w = w->_same;
    return w;
}

static void bucket_remove(dp_picker *p, dp_picker_want *want)
{
    dp_picker_want **at = bucket_of(p, want->piece);

    while (*at != want)
        at = &(*at)->_same;
    *at = want->_same;
}

static want_list *list_of(dp_picker *p, const dp_picker_want *want)
{
    return want->state == DP_PICKER_WAITING ? &p->waiting[want->class_] : &p->asked;
}

static void list_insert(want_list *list, dp_picker_want *want, bool is_first)
{
    want->_next = is_first ? list->first : NULL;
    want->_previous = is_first ? NULL : list->last;
    *(want->_previous ? &want->_previous->_next : &list->first) = want;
    *(want->_next ? &want->_next->_previous : &list->last) = want;
    list->bytes += want->size - want->filled;
}

static void list_remove(want_list *list, dp_picker_want *want)
{
    *(want->_previous ? &want->_previous->_next : &list->first) = want->_next;
    *(want->_next ? &want->_next->_previous : &list->last) = want->_previous;
    want->_next = want->_previous = NULL;
    list->bytes -= want->size - want->filled;
}

void dp_picker_set_state(dp_picker *p, dp_picker_want *want, dp_picker_state state, bool is_first)
{
    if (want->state == DP_PICKER_WAITING || want->state == DP_PICKER_ASKED)
        list_remove(list_of(p, want), want);
    want->state = state;
    if (state == DP_PICKER_WAITING || state == DP_PICKER_ASKED)
        list_insert(list_of(p, want), want, is_first);
    p->has_news = true;
}

void dp_picker_count_bytes(dp_picker *p, const dp_picker_want *want, uint32_t size)
{
    list_of(p, want)->bytes -= size;
}

void dp_picker_start_anew(dp_picker *p, dp_picker_want *want)
{
    want_list *list = list_of(p, want);

    if (want->state == DP_PICKER_WAITING || want->state == DP_PICKER_ASKED)
        list->bytes += want->filled;
    p->stats.wasted_bytes += want->filled;
    p->stats.bytes -= want->filled;
    want->filled = want->part_count = 0;
}

/* Asks changed: whether a want waits depends on them alone. */
void dp_picker_settle(dp_picker *p, dp_picker_want *want)
{
    bool is_live;

    if (want->state != DP_PICKER_WAITING && want->state != DP_PICKER_ASKED)
        return;
    is_live = dp_picker_live(p, want->piece, want->filled) > 0;
    if (is_live && want->state == DP_PICKER_WAITING) {
        dp_picker_set_state(p, want, DP_PICKER_ASKED, false);
    } else if (!is_live && want->state == DP_PICKER_ASKED) {
        if (want->_is_single)
            dp_picker_start_anew(p, want);
        dp_picker_set_state(p, want, DP_PICKER_WAITING, true);
    }
}

bool dp_picker_want_add(dp_picker *p, dp_picker_want *want)
{
    dp_picker_want **bucket = bucket_of(p, want->piece);

    DP_ASSERT(want->class_ < DP_PICKER_CLASSES);
    if (dp_picker_find(p, want->piece))
        return false;
    want->size = dp_layout_find(p->config.layout, want->piece).size;
    want->filled = 0;
    want->_same = *bucket;
    *bucket = want;
    dp_picker_set_state(p, want, DP_PICKER_WAITING, false);
    dp_picker_settle(p, want); /* an answer whose want was canceled may bring it */
    p->deadline_ns = DP_MIN(p->deadline_ns, want->deadline_ns);
    return true;
}

void dp_picker_promote(dp_picker *p, dp_picker_want *want, uint32_t class_)
{
    if (class_ >= want->class_ || want->state == DP_PICKER_OUT)
        return;
    if (want->state == DP_PICKER_WAITING) {
        list_remove(list_of(p, want), want);
        want->class_ = class_;
        want->_is_checked = false;
        list_insert(list_of(p, want), want, false);
    }
    want->class_ = class_;
    for (uint32_t i = 0; i < p->config.asks_max; i++) {
        dp_picker_ask *ask = &p->asks[i];
        bool was_low = ask->class_ != DP_PICKER_DEMAND;

        if (!ask->_is_used || ask->class_ <= class_ || want->piece < ask->first_piece ||
            want->piece - ask->first_piece >= ask->piece_count)
            continue;
        ask->class_ = class_;
        p->low_count -= was_low && class_ == DP_PICKER_DEMAND;
    }
    p->has_news = true;
}

/* The want is done with; dp_picker_next tells. */
static void end_want(dp_picker *p, dp_picker_want *want, dp_status status)
{
    dp_picker_set_state(p, want, DP_PICKER_OUT, false);
    bucket_remove(p, want);
    p->stats.wasted_bytes += want->filled;
    p->stats.bytes -= want->filled;
    want->_status = status;
    list_insert(&p->ending, want, false);
}

bool dp_picker_cancel(dp_picker *p, dp_picker_want *want)
{
    if (want->state == DP_PICKER_OUT || want->state == DP_PICKER_FULL)
        return false;
    if (want->state == DP_PICKER_WAITING && !want->_was_asked) {
        dp_picker_set_state(p, want, DP_PICKER_OUT, false);
        bucket_remove(p, want);
        return true;
    }
    end_want(p, want, DP_E_CANCELED);
    return false;
}

void dp_picker_cancel_all(dp_picker *p)
{
    for (int c = 0; c < DP_PICKER_CLASSES; c++) {
        while (p->waiting[c].first)
            end_want(p, p->waiting[c].first, DP_E_CANCELED);
    }
    while (p->asked.first)
        end_want(p, p->asked.first, DP_E_CANCELED);
}

void dp_picker_take_out(dp_picker *p, dp_picker_want *want)
{
    DP_ASSERT(want->state == DP_PICKER_FULL);
    want->state = DP_PICKER_OUT;
    bucket_remove(p, want);
    p->has_news = true;
}

uint32_t dp_picker_right(dp_picker *p, dp_picker_want *want, const uint64_t *digests,
                         uint64_t now_ns)
{
    uint32_t ban_count = 0;
    endpoint *last = find_endpoint(p, want->parts[want->part_count - 1].endpoint);

    p->now_ns = now_ns;
    for (uint32_t i = 0; i < want->suspect_count; i++) {
        endpoint *e = find_endpoint(p, want->suspects[i].endpoint);

        if (!e || digests[i] == want->digests[i])
            continue;
        e->bad_pieces++;
        ban_count += dp_picker_ban_endpoint(p, e, now_ns);
    }
    if (last)
        last->pieces++;
    p->stats.pieces++;
    dp_picker_take_out(p, want);
    return ban_count;
}

uint32_t dp_picker_wrong(dp_picker *p, dp_picker_want *want, const uint64_t *digests,
                         uint64_t now_ns)
{
    uint32_t ban_count = 0;

    p->now_ns = now_ns;
    p->stats.pieces_bad++;
    if (want->part_count == 1) {
        endpoint *e = find_endpoint(p, want->parts[0].endpoint);

        if (e) {
            e->bad_pieces++;
            ban_count += dp_picker_ban_endpoint(p, e, now_ns);
        }
    } else {
        want->suspect_count = want->part_count;
        memcpy(want->suspects, want->parts, sizeof want->suspects);
        memcpy(want->digests, digests, want->part_count * sizeof *digests);
        want->_is_single = true;
    }
    dp_picker_start_anew(p, want);
    dp_picker_set_state(p, want, DP_PICKER_WAITING, true);
    dp_picker_settle(p, want);
    return ban_count;
}

/* ---- what is to be done --------------------------------------------------------------------- */

static uint64_t stall_limit(const dp_picker *p, const dp_picker_ask *ask)
{
    uint64_t latency = p->endpoints[ask->_slot].latency_ns;

    if (latency == 0)
        return DP_PICKER_STALL_NS_FIRST;
    /* A cold line costs up to three exchanges more: TCP, TLS, and a small window. */
    return DP_MAX(latency * (ask->_is_warm || ask->_answered_ns ? 3 : 6), DP_PICKER_STALL_NS_MIN);
}

/* Alive, but of no use to anybody who waits. */
static bool is_trickle(const dp_picker *p, const dp_picker_ask *ask)
{
    uint64_t since = p->now_ns - ask->_answered_ns;

    return ask->_answered_ns && since > TRICKLE_NS &&
           (double)ask->_got < TRICKLE_S * 1e-9 * (double)since;
}

static void find_stalls(dp_picker *p)
{
    for (uint32_t i = 0; i < p->config.asks_max; i++) {
        dp_picker_ask *ask = &p->asks[i];
        endpoint *e = &p->endpoints[ask->_slot];

        if (!ask->_is_used || ask->is_stalled || ask->_is_dropped || ask->_got == ask->size)
            continue;
        ask->_is_trickle = is_trickle(p, ask);
        if (!ask->_is_trickle && p->now_ns - ask->_last_ns < stall_limit(p, ask))
            continue;
        ask->is_stalled = true;
        e->stalls++;
        p->stats.stalls++;
        dp_picker_back_off(e, 0, p->now_ns);
        dp_picker_settle_rest(p, ask);
        p->has_news = true;
    }
}

static bool is_wanted(dp_picker *p, const dp_picker_ask *ask)
{
    uint32_t offset, at = dp_picker_at(p, ask, &offset);

    for (; at < ask->first_piece + ask->piece_count; at++) {
        const dp_picker_want *w = dp_picker_find(p, at);

        if (w && w->state != DP_PICKER_FULL)
            return true;
    }
    return false;
}

static bool is_to_drop(dp_picker *p, const dp_picker_ask *ask)
{
    const endpoint *e = &p->endpoints[ask->_slot];
    double rest = (double)(ask->size - ask->_got);

    if (!dp_picker_is_good(e, p->now_ns) || p->now_ns - ask->_last_ns > DP_PICKER_SILENT_NS)
        return true;
    if (ask->is_stalled && p->ask_count == p->config.asks_max && p->waiting[DP_PICKER_DEMAND].first)
        return true; /* its place is needed */
    return !is_wanted(p, ask) &&
           (ask->is_stalled || rest > dp_picker_ask_rate(p, ask) * DRAIN_NS * 1e-9);
}

static dp_picker_ask *next_drop(dp_picker *p)
{
    for (uint32_t i = 0; i < p->config.asks_max; i++) {
        dp_picker_ask *ask = &p->asks[i];

        if (!ask->_is_used || ask->_is_dropped || !is_to_drop(p, ask))
            continue;
        ask->_is_dropped = true;
        p->stats.drops++;
        dp_picker_settle_rest(p, ask);
        return ask;
    }
    return NULL;
}

static bool has_holder(const dp_picker *p, uint32_t piece)
{
    for (uint32_t i = 0; i < p->endpoint_end; i++) {
        if (dp_picker_is_good(&p->endpoints[i], p->now_ns) &&
            dp_picker_has(&p->endpoints[i], piece))
            return true;
    }
    return false;
}

/* Wants that nobody has end at once. New ones are at the end of their lists; when somebody
 * lost something, all are looked at. */
static void find_orphans(dp_picker *p)
{
    for (int c = 0; c < DP_PICKER_CLASSES; c++) {
        dp_picker_want *w = p->waiting[c].last, *previous;

        for (; w && (p->is_unsure || !w->_is_checked); w = previous) {
            previous = w->_previous;
            w->_is_checked = true;
            if (!has_holder(p, w->piece))
                end_want(p, w, DP_E_NOTFOUND);
        }
    }
    p->is_unsure = false;
}

static void expire(dp_picker *p, want_list *list)
{
    dp_picker_want *w = list->first, *next;

    for (; w; w = next) {
        next = w->_next;
        if (w->deadline_ns <= p->now_ns)
            end_want(p, w, DP_E_TIMEOUT);
        else
            p->deadline_ns = DP_MIN(p->deadline_ns, w->deadline_ns);
    }
}

static void find_expired(dp_picker *p)
{
    if (p->now_ns < p->deadline_ns)
        return;
    p->deadline_ns = UINT64_MAX;
    for (int c = 0; c < DP_PICKER_CLASSES; c++)
        expire(p, &p->waiting[c]);
    expire(p, &p->asked);
}

/* When time alone changes something. */
static uint64_t next_wake(const dp_picker *p)
{
    uint64_t wake = p->deadline_ns;
    bool has_waiting = false;

    for (uint32_t i = 0; i < p->config.asks_max; i++) {
        const dp_picker_ask *ask = &p->asks[i];
        bool is_over = ask->is_stalled || ask->_got == ask->size; /* it may only be dropped */

        if (!ask->_is_used || ask->_is_dropped)
            continue;
        wake =
            DP_MIN(wake, ask->_last_ns + (is_over ? DP_PICKER_SILENT_NS + 1 : stall_limit(p, ask)));
        if (ask->class_ == DP_PICKER_DEMAND)
            wake = DP_MIN(wake, p->now_ns + TAIL_LOOK_NS);
    }
    for (int c = 0; c < DP_PICKER_CLASSES; c++)
        has_waiting |= p->waiting[c].first != NULL;
    for (uint32_t i = 0; i < p->endpoint_end && has_waiting; i++) {
        const endpoint *e = &p->endpoints[i];
        uint64_t until[] = { e->backoff_ns, e->retry_ns, e->failed_ns + DP_PICKER_PATIENCE_NS };

        for (size_t k = 0; k < DP_ARRAY_LEN(until) && e->is_used; k++) {
            if (until[k] > p->now_ns)
                wake = DP_MIN(wake, until[k]);
        }
    }
    return wake;
}

dp_picker_act dp_picker_next(dp_picker *p, uint64_t now_ns)
{
    dp_picker_act act = { .kind = DP_PICKER_NOTHING, .wake_ns = UINT64_MAX };

    p->now_ns = now_ns;
    find_expired(p);
    find_stalls(p);
    act.ask = next_drop(p);
    if (act.ask) {
        act.kind = DP_PICKER_DROP;
        return act;
    }
    find_orphans(p);
    if (p->ending.first) {
        act.kind = DP_PICKER_FAIL;
        act.want = p->ending.first;
        act.status = act.want->_status;
        list_remove(&p->ending, act.want);
        return act;
    }
    if (p->has_news || now_ns >= p->plan_ns) {
        act.ask = dp_picker_plan(p);
        if (act.ask) {
            act.kind = DP_PICKER_ASK;
            return act;
        }
        p->has_news = false;
        p->plan_ns = next_wake(p);
    }
    act.wake_ns = next_wake(p);
    return act;
}

dp_picker_stats dp_picker_stats_read(const dp_picker *p)
{
    return p->stats;
}
