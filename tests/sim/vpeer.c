#include "vpeer.h"

#include <stdlib.h>
#include <string.h>
#include "base/assert.h"

#define DEADLINE_NS (60 * VNET_S) /* swarm.h: wait_ms */
#define RETRY_NS    VNET_S        /* Retry-After of a 503 */

enum refusal { REFUSAL_BUSY = VNET_TOO_MANY, REFUSAL_GONE, REFUSAL_CUT };

double vworld_now_s(const vworld *w)
{
    return (double)vnet_now_ns(w->net) / 1e9;
}

bool vworld_counts(const vworld *w)
{
    return vworld_now_s(w) >= w->config->warm_up_s;
}

/* Everything that happens is mixed into the result's digest: two runs of a seed can be told
 * apart by any difference. */
static void mix(vworld *w, uint64_t value)
{
    w->result.digest = (w->result.digest ^ value) * 0x9e3779b97f4a7c15ull;
    w->result.digest ^= w->result.digest >> 29;
}

static bool claims_all(vpeer_kind kind)
{
    return kind == VPEER_LIAR || kind == VPEER_STALLER || kind == VPEER_ORIGIN;
}

/* ---- connections: the least recently used idle one makes room ---- */

static uint32_t take_connection(vworld *w, vpeer *p, uint32_t server, bool *is_cold)
{
    uint32_t oldest = UINT32_MAX;

    for (uint32_t i = 0; i < w->config->warm_connections; i++) {
        vconnection *c = &p->connections[i];

        if (c->is_busy)
            continue;
        if (c->is_open && c->peer == server) {
            *is_cold = false;
            c->is_busy = true;
            return i;
        }
        if (oldest == UINT32_MAX || !c->is_open ||
            (p->connections[oldest].is_open && c->used_ns < p->connections[oldest].used_ns))
            oldest = i;
    }
    *is_cold = true;
    p->connections[oldest] = (vconnection){ .peer = server, .is_open = true, .is_busy = true };
    return oldest;
}

static void give_connection(vworld *w, vpeer *p, const vflow *flow, bool stays_open)
{
    vconnection *c = &p->connections[flow->connection];

    c->is_busy = false;
    c->is_open = stays_open;
    c->used_ns = vnet_now_ns(w->net);
}

/* ---- neighbours ---- */

static vneighbour *find_neighbour(vpeer *p, uint32_t other)
{
    for (uint32_t i = 0; i < p->neighbour_count; i++)
        if (p->neighbours[i].peer == other)
            return &p->neighbours[i];
    return NULL;
}

static bool remember_id(vpeer *p, uint32_t id, uint32_t other)
{
    if (id >= p->id_count) {
        uint32_t count = id + 256;
        uint32_t *peers = realloc(p->peer_of_id, count * sizeof *peers);
        uint32_t *pieces = realloc(p->liar_pieces, count * sizeof *pieces);
        bool *seen = realloc(p->is_ban_seen, count * sizeof *seen);

        p->peer_of_id = peers ? peers : p->peer_of_id;
        p->liar_pieces = pieces ? pieces : p->liar_pieces;
        p->is_ban_seen = seen ? seen : p->is_ban_seen;
        if (!peers || !pieces || !seen)
            return false;
        p->id_count = count;
    }
    p->peer_of_id[id] = other;
    p->liar_pieces[id] = 0;
    p->is_ban_seen[id] = false;
    return true;
}

static void set_window(const vworld *w, uint8_t *have, uint32_t window, bool has)
{
    memset(have + (size_t)window * w->window_pieces / 8, has ? 0xff : 0, w->window_pieces / 8);
}

/* The bits of one window. Told when there are some: the picker may have cleared them (404). */
static void tell_window(vworld *w, vpeer *p, vneighbour *n, uint32_t window)
{
    const vpeer *other = &w->peers[n->peer];
    uint32_t at = window * w->window_pieces / 8;
    bool has, had = n->have[at];

    if (claims_all(other->kind))
        return;
    has = vcache_seems_to_have(&other->cache, p->pages[window].expert, vworld_now_s(w));
    if (!has && !had)
        return;
    set_window(w, n->have, window, has);
    dp_picker_set_have(p->picker, n->id, n->have);
}

bool vpeer_meet(vworld *w, vpeer *p, uint32_t other)
{
    vneighbour *n = &p->neighbours[p->neighbour_count];
    bool has_all = claims_all(w->peers[other].kind);
    dp_error err;

    if (p->neighbour_count > w->config->neighbours || other == p->index || find_neighbour(p, other))
        return false;
    *n = (vneighbour){ .peer = other };
    for (uint32_t i = 0; i < VPEER_WINDOWS; i++)
        if (p->pages[i].is_used && !has_all)
            set_window(
                w, n->have, i,
                vcache_seems_to_have(&w->peers[other].cache, p->pages[i].expert, vworld_now_s(w)));
    if (dp_picker_add(p->picker, has_all ? NULL : n->have, &n->id, &err) ||
        !remember_id(p, n->id, other))
        return false;
    p->neighbour_count++;
    return true;
}

void vpeer_forget(vworld *w, vpeer *p, uint32_t other)
{
    vneighbour *n = find_neighbour(p, other);

    if (!n)
        return;
    dp_picker_remove(p->picker, n->id);
    *n = p->neighbours[--p->neighbour_count];
}

bool vpeer_go_online(vworld *w, vpeer *p)
{
    dp_picker_config config = { .layout = &w->layout,
                                .endpoints_max = w->config->neighbours + 2,
                                .asks_max = VPEER_ASKS_MAX,
                                .asks_per_endpoint = 2 };
    dp_error err;

    p->is_online = true;
    p->wake_ns = UINT64_MAX;
    if (p->kind == VPEER_ORIGIN)
        return true;
    return dp_picker_open(&p->picker, &config, &err) == DP_OK;
}

void vpeer_go_offline(vworld *w, vpeer *p)
{
    for (uint32_t i = 0; i < w->flow_capacity; i++)
        if (w->flows[i].ask && w->flows[i].client == p->index) {
            vnet_stop(w->net, i);
            w->flows[i].ask = NULL;
        }
    dp_picker_close(p->picker);
    p->picker = NULL;
    p->is_online = false;
    p->neighbour_count = 0;
    memset(p->connections, 0, sizeof p->connections);
    for (uint32_t i = 0; i < VPEER_WINDOWS; i++) {
        p->pages[i].is_used = false;
        p->pages[i].asks = 0;
    }
}

/* ---- pages ---- */

static void end_page(vworld *w, vpeer *p, vpage *page)
{
    double ms = (double)(vnet_now_ns(w->net) - page->begin_ns) / 1e6;

    page->is_used = false;
    mix(w, (uint64_t)p->index << 32 | page->expert);
    mix(w, vnet_now_ns(w->net) ^ page->is_failed);
    for (uint32_t i = 0; i < w->window_pieces && !page->is_failed; i++)
        for (uint32_t s = 0; s < page->pieces[i].span_count; s++)
            if (w->peers[page->pieces[i].spans[s].peer].kind == VPEER_LIAR) {
                w->result.wrong_pages++;
                return;
            }
    if (!page->is_failed)
        vcache_put(&p->cache, page->expert, vworld_now_s(w));
    if (!vworld_counts(w))
        return;
    w->result.pages++;
    w->result.whole += !page->is_failed;
    w->result.not_found += page->is_failed && page->status == DP_E_NOTFOUND;
    w->result.timed_out += page->is_failed && page->status != DP_E_NOTFOUND;
    if (!page->is_failed && w->ms_count < w->ms_capacity) {
        w->floor_ms[w->ms_count] = page->floor_ms;
        w->ratio[w->ms_count] = ms / page->floor_ms;
        w->ms[w->ms_count++] = ms;
    }
}

static void end_piece(vworld *w, vpeer *p, dp_picker_want *want, dp_status status)
{
    vpage *page = &p->pages[want->piece / w->window_pieces];

    if (status && !page->is_failed) {
        page->is_failed = true;
        page->status = status;
        /* The others are of no use without it. */
        for (uint32_t i = 0; i < w->window_pieces; i++)
            if (page->pieces[i].want.state != DP_PICKER_OUT &&
                dp_picker_cancel(p->picker, &page->pieces[i].want))
                page->left--;
    }
    if (--page->left == 0)
        end_page(w, p, page);
}

/* Tells the picker who has the expert. What nobody could do better on a net without others:
 * the round trip to the nearest holder, and the bytes on the narrower of the own cable and
 * all the holders' together. */
static void open_window(vworld *w, vpeer *p, uint32_t window)
{
    vpage *page = &p->pages[window];
    uint64_t nearest = UINT64_MAX;
    double up = 0, down = w->hosts[p->index].down_bytes_s;

    for (uint32_t i = 0; i < p->neighbour_count; i++) {
        vneighbour *n = &p->neighbours[i];
        const vpeer *other = &w->peers[n->peer];
        uint64_t rtt = vnet_rtt_ns(w->net, p->index, n->peer);

        tell_window(w, p, n, window);
        if (other->kind > VPEER_SLOW && other->kind != VPEER_ORIGIN)
            continue;
        if (other->kind != VPEER_ORIGIN && !vcache_has(&other->cache, page->expert))
            continue;
        if (rtt < nearest)
            nearest = rtt;
        up += w->hosts[n->peer].up_bytes_s;
    }
    page->floor_ms = (double)nearest / 1e6 +
                     3.0 * w->run_pieces * w->config->piece_size * 1e3 / (up < down ? up : down);
}

void vpeer_want(vworld *w, vpeer *p, uint32_t expert)
{
    uint32_t window = 0;
    uint64_t now = vnet_now_ns(w->net);
    vpage *page;

    vcache_touch(&p->cache, expert, vworld_now_s(w));
    if (vworld_counts(w)) {
        w->result.wants++;
        w->result.local += vcache_has(&p->cache, expert);
    }
    if (vcache_has(&p->cache, expert))
        return;
    for (uint32_t i = 0; i < VPEER_WINDOWS; i++)
        if (p->pages[i].is_used && p->pages[i].expert == expert)
            return; /* on its way */
    /* A late answer to an earlier question must not be taken for one to this. */
    while (window < VPEER_WINDOWS && (p->pages[window].is_used || p->pages[window].asks))
        window++;
    if (window == VPEER_WINDOWS) {
        w->result.skipped += vworld_counts(w);
        return;
    }
    page = &p->pages[window];
    page->is_used = true;
    page->is_failed = false;
    page->expert = expert;
    page->begin_ns = now;
    page->left = 3 * w->run_pieces;
    open_window(w, p, window);
    for (uint32_t run = 0; run < 3; run++)
        for (uint32_t i = 0; i < w->run_pieces; i++) {
            uint32_t at = run * (w->run_pieces + 1) + i;
            vpiece *piece = &page->pieces[at];

            *piece = (vpiece){ .want = { .piece = window * w->window_pieces + at,
                                         .deadline_ns = now + DEADLINE_NS,
                                         .class_ = DP_PICKER_DEMAND } };
            dp_picker_want_add(p->picker, &piece->want);
        }
    vpeer_drain(w, p);
}

/* ---- bytes ---- */

static void write_span(vpiece *piece, uint32_t offset, uint32_t end, uint32_t peer)
{
    vspan *last;

    while (piece->span_count &&
           (piece->span_count > 1 ? piece->spans[piece->span_count - 2].end : 0) >= offset)
        piece->span_count--;
    last = piece->span_count ? &piece->spans[piece->span_count - 1] : NULL;
    if (last && last->end > offset)
        last->end = offset;
    if (last && last->peer == peer && last->end == offset) {
        last->end = end;
        return;
    }
    DP_CHECK(piece->span_count < VPEER_SPANS_MAX);
    piece->spans[piece->span_count++] = (vspan){ .end = end, .peer = peer };
}

/* The digest that bytes [begin, end) of a piece have: the right one, or one of a liar. */
static uint64_t digest_of(const vworld *w, const vpiece *piece, uint32_t begin, uint32_t end,
                          bool is_right)
{
    uint64_t digest = ((uint64_t)begin << 32 | end) * 0x9e3779b97f4a7c15ull + piece->want.piece;
    uint32_t from = 0;

    for (uint32_t i = 0; i < piece->span_count && !is_right; i++) {
        const vspan *span = &piece->spans[i];

        if (from < end && span->end > begin && w->peers[span->peer].kind == VPEER_LIAR)
            digest += 0x1000003ull * (span->peer + 1);
        from = span->end;
    }
    return digest;
}

static void digest_parts(const vworld *w, const vpiece *piece, const dp_picker_part *parts,
                         uint32_t count, bool is_right, uint64_t *out)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = digest_of(w, piece, i ? parts[i - 1].end : 0, parts[i].end, is_right);
}

/* Whether the picker's parts name who wrote the bytes. */
static bool parts_agree(const vpeer *p, const vpiece *piece)
{
    const dp_picker_want *want = &piece->want;

    for (uint32_t part = 0; part < want->part_count; part++)
        for (uint32_t span = 0; span < piece->span_count; span++) {
            uint32_t part_begin = part ? want->parts[part - 1].end : 0;
            uint32_t span_begin = span ? piece->spans[span - 1].end : 0;
            bool is_apart =
                part_begin >= piece->spans[span].end || span_begin >= want->parts[part].end;

            if (!is_apart && p->peer_of_id[want->parts[part].endpoint] != piece->spans[span].peer)
                return false;
        }
    return want->part_count && want->parts[want->part_count - 1].end == want->size &&
           piece->span_count && piece->spans[piece->span_count - 1].end == want->size;
}

static void count_bans(vworld *w, vpeer *p)
{
    static dp_picker_endpoint list[DP_PICKER_ENDPOINTS_MAX];
    size_t count = dp_picker_endpoints(p->picker, list, DP_PICKER_ENDPOINTS_MAX);

    for (size_t i = 0; i < count; i++) {
        uint32_t id = list[i].id;

        if (list[i].banned_until_ns <= vnet_now_ns(w->net) || p->is_ban_seen[id])
            continue;
        p->is_ban_seen[id] = true;
        w->result.bans++;
        w->result.bans_of_honest += w->peers[p->peer_of_id[id]].kind != VPEER_LIAR;
    }
}

static void blame(vworld *w, vpeer *p, const vpiece *piece)
{
    for (uint32_t i = 0; i < piece->want.part_count; i++) {
        uint32_t id = piece->want.parts[i].endpoint;

        if (w->peers[p->peer_of_id[id]].kind != VPEER_LIAR)
            continue;
        if (++p->liar_pieces[id] > w->result.liar_pieces_max)
            w->result.liar_pieces_max = p->liar_pieces[id];
    }
}

static void judge(vworld *w, vpeer *p, dp_picker_want *want)
{
    vpage *page = &p->pages[want->piece / w->window_pieces];
    vpiece *piece = &page->pieces[want->piece % w->window_pieces];
    uint64_t digests[DP_PICKER_PARTS_MAX], now = vnet_now_ns(w->net);
    uint32_t size = want->size, bans;

    w->result.misattributed += !parts_agree(p, piece);
    if (digest_of(w, piece, 0, size, false) != digest_of(w, piece, 0, size, true)) {
        w->result.bad_pieces++;
        blame(w, p, piece);
        digest_parts(w, piece, want->parts, want->part_count, false, digests);
        bans = dp_picker_wrong(p->picker, want, digests, now);
        piece->span_count = 0;
    } else {
        digest_parts(w, piece, want->suspects, want->suspect_count, true, digests);
        bans = dp_picker_right(p->picker, want, digests, now);
        end_piece(w, p, want, DP_OK);
    }
    if (bans)
        count_bans(w, p);
}

static void take_bytes(vworld *w, vpeer *p, const vflow *flow, uint64_t bytes)
{
    w->bytes += vworld_counts(w) ? bytes : 0;
    if (w->peers[flow->server].kind == VPEER_ORIGIN && vworld_counts(w))
        w->origin_bytes += bytes;
    while (bytes > 0) {
        dp_picker_want *want = NULL;
        uint32_t offset = 0;
        size_t taken =
            dp_picker_arrived(p->picker, flow->ask, bytes, vnet_now_ns(w->net), &want, &offset);

        DP_CHECK(taken > 0 && taken <= bytes); /* no more comes than was asked */
        bytes -= taken;
        if (!want) {
            w->wasted_bytes += vworld_counts(w) ? taken : 0;
            continue;
        }
        vpage *page = &p->pages[want->piece / w->window_pieces];

        write_span(&page->pieces[want->piece % w->window_pieces], offset, offset + (uint32_t)taken,
                   flow->server);
        if (want->state == DP_PICKER_FULL)
            judge(w, p, want);
    }
}

/* ---- requests ---- */

static void begin_ask(vworld *w, vpeer *p, dp_picker_ask *ask)
{
    uint32_t server = p->peer_of_id[ask->endpoint], flow;
    bool is_cold;
    uint32_t connection = take_connection(w, p, server, &is_cold);
    uint32_t window = ask->first_piece / w->window_pieces;

    p->pages[window].asks++;
    flow = vnet_ask(w->net, p->index, server, ask->size, is_cold);
    if (flow >= w->flow_capacity) {
        uint32_t capacity = flow * 2 + 256;
        vflow *flows = realloc(w->flows, capacity * sizeof *flows);

        DP_CHECK(flows);
        memset(flows + w->flow_capacity, 0, (capacity - w->flow_capacity) * sizeof *flows);
        w->flows = flows;
        w->flow_capacity = capacity;
    }
    w->flows[flow] = (vflow){ .ask = ask,
                              .client = p->index,
                              .server = server,
                              .connection = connection,
                              .window = window,
                              .asked_ns = vnet_now_ns(w->net),
                              .is_cold = is_cold };
    ask->user = (void *)(uintptr_t)flow;
}

static void end_ask(vworld *w, uint32_t flow, dp_picker_end end, bool stays_open)
{
    vflow *f = &w->flows[flow];
    vpeer *p = &w->peers[f->client];
    dp_picker_ask *ask = f->ask;

    f->ask = NULL;
    p->pages[f->window].asks--;
    give_connection(w, p, f, stays_open);
    dp_picker_ended(p->picker, ask, end, end == DP_PICKER_END_BUSY ? RETRY_NS : 0,
                    vnet_now_ns(w->net));
}

void vpeer_drain(vworld *w, vpeer *p)
{
    dp_picker_act act;
    uint32_t flow;

    while ((act = dp_picker_next(p->picker, vnet_now_ns(w->net))).kind != DP_PICKER_NOTHING)
        switch (act.kind) {
        case DP_PICKER_ASK:
            begin_ask(w, p, act.ask);
            break;
        case DP_PICKER_DROP:
            flow = (uint32_t)(uintptr_t)act.ask->user;
            vnet_stop(w->net, flow);
            end_ask(w, flow, DP_PICKER_END_DROPPED, false);
            break;
        case DP_PICKER_FAIL:
            end_piece(w, p, act.want, act.status);
            break;
        case DP_PICKER_NOTHING:
            break;
        }
    if (act.wake_ns < p->wake_ns) {
        p->wake_ns = act.wake_ns;
        vnet_timer(w->net, act.wake_ns, VTIMER_WAKE, p->index);
    }
}

/* What the server does with a request that reached it. */
static void serve(vworld *w, const vnet_event *e)
{
    const vpeer *server = &w->peers[e->server], *client = &w->peers[e->client];
    const dp_picker_ask *ask = w->flows[e->flow].ask;
    uint32_t expert = client->pages[ask->first_piece / w->window_pieces].expert;

    if (!server->is_online && server->left_silently)
        return;
    if (!server->is_online)
        vnet_refuse(w->net, e->flow, REFUSAL_CUT);
    else if (server->kind == VPEER_STALLER)
        return;
    else if (server->kind == VPEER_FREELOADER)
        vnet_refuse(w->net, e->flow, REFUSAL_BUSY);
    else if (!claims_all(server->kind) && !vcache_has(&server->cache, expert))
        vnet_refuse(w->net, e->flow, REFUSAL_GONE);
    else if (!vnet_answer(w->net, e->flow))
        vnet_refuse(w->net, e->flow, REFUSAL_BUSY);
}

void vpeer_cut(vworld *w, uint32_t flow)
{
    vnet_stop(w->net, flow);
    end_ask(w, flow, DP_PICKER_END_CUT, false);
}

void vpeer_on_flow(vworld *w, const vnet_event *e)
{
    static const dp_picker_end ends[] = { [REFUSAL_GONE] = DP_PICKER_END_GONE,
                                          [REFUSAL_BUSY] = DP_PICKER_END_BUSY,
                                          [REFUSAL_CUT] = DP_PICKER_END_CUT };
    vflow *flow = &w->flows[e->flow];
    vpeer *p = &w->peers[e->client];
    uint64_t now = vnet_now_ns(w->net), latency;

    switch (e->kind) {
    case VNET_REQUEST:
        serve(w, e);
        return;
    case VNET_HEAD:
        latency = now - flow->asked_ns;
        if (flow->is_cold)
            latency -= vnet_rtt_ns(w->net, e->client, e->server);
        dp_picker_answered(p->picker, flow->ask, latency, now);
        break;
    case VNET_DATA:
        take_bytes(w, p, flow, e->bytes);
        if (e->is_end)
            end_ask(w, e->flow, DP_PICKER_END_WHOLE, true);
        break;
    case VNET_REFUSED:
        end_ask(w, e->flow, ends[e->code], e->code != REFUSAL_CUT);
        break;
    case VNET_TIMER:
        return;
    }
    vpeer_drain(w, p);
}
