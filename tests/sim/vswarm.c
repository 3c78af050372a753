#include "vswarm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "vpeer.h"

#define GIGABIT        125e6 /* bytes a second */
#define SPREAD_MS      100.0 /* peers lie in a square of so many milliseconds */
#define REFILL_NS      (10 * VNET_S)
#define FORGET_NS      (30 * VNET_S) /* a peer that fell silent is taken for gone */
#define MEET_TRIES     4             /* of a free place for a neighbour, each time */
#define PEER_ANSWERS   32            /* range_server.h: DP_RANGE_BUFFERS */
#define ORIGIN_ANSWERS VNET_FLOWS_HOST
#define PAGES_MAX      ((size_t)8 << 20)

static double exponential_s(vworld *w, double mean_s)
{
    return -mean_s * log(1.0 - dp_rng_unit(&w->rng));
}

static uint64_t in_s(const vworld *w, double s)
{
    return vnet_now_ns(w->net) + (uint64_t)(s * 1e9);
}

static void shuffle(vworld *w, uint32_t *list, uint32_t count)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = (uint32_t)dp_rng_below(&w->rng, i), both = list[i - 1];

        list[i - 1] = list[j];
        list[j] = both;
    }
}

static uint32_t *numbers(uint32_t count)
{
    uint32_t *list = malloc(count * sizeof *list);

    for (uint32_t i = 0; list && i < count; i++)
        list[i] = i;
    return list;
}

/* ---- the world as it begins ---- */

/* Half of the peers have a gigabit, the others 300 and 100 Mbit/s up. */
static void place_host(vworld *w, uint32_t index)
{
    vnet_host *host = &w->hosts[index];
    double draw = dp_rng_unit(&w->rng);

    host->x_ms = dp_rng_unit(&w->rng) * SPREAD_MS;
    host->y_ms = dp_rng_unit(&w->rng) * SPREAD_MS;
    host->down_bytes_s = GIGABIT;
    host->answers_max = PEER_ANSWERS;
    host->up_bytes_s = draw < 0.5 ? GIGABIT : draw < 0.8 ? GIGABIT * 0.3 : GIGABIT * 0.1;
    if (w->peers[index].kind == VPEER_SLOW)
        host->up_bytes_s /= 20;
    if (w->peers[index].kind == VPEER_ORIGIN) {
        host->up_bytes_s = w->config->origin_bytes_s;
        host->answers_max = ORIGIN_ANSWERS;
        host->x_ms = host->y_ms = SPREAD_MS / 2;
    }
}

/* Exactly the configured shares, on peers drawn at random. */
static bool choose_kinds(vworld *w)
{
    const vswarm_config *c = w->config;
    const double shares[] = { [VPEER_SLOW] = c->slow,
                              [VPEER_FREELOADER] = c->freeloaders,
                              [VPEER_LIAR] = c->liars,
                              [VPEER_STALLER] = c->stallers };
    uint32_t *order = numbers(c->peers), at = 0;

    if (!order)
        return false;
    shuffle(w, order, c->peers);
    for (uint32_t kind = VPEER_SLOW; kind <= VPEER_STALLER; kind++)
        for (uint32_t n = (uint32_t)lround(shares[kind] * c->peers); n > 0 && at < c->peers; n--)
            w->peers[order[at++]].kind = (vpeer_kind)kind;
    free(order);
    if (w->peer_count > c->peers)
        w->peers[c->peers].kind = VPEER_ORIGIN;
    return true;
}

/* Copies of every expert, on as many different peers of those that serve, all equally full. */
static bool seed_copies(vworld *w, char why[200])
{
    uint32_t *experts = numbers(w->expert_count), *holders = numbers(w->config->peers), count = 0;
    uint64_t at = 0;
    bool is_ok = experts && holders;

    for (uint32_t i = 0; is_ok && i < w->config->peers; i++)
        if (w->peers[i].kind == VPEER_GOOD || w->peers[i].kind == VPEER_SLOW)
            holders[count++] = i;
    if (is_ok && (w->config->copies > count || (uint64_t)w->config->copies * w->expert_count >
                                                   (uint64_t)count * w->config->cache)) {
        snprintf(why, 200,
                 "%u peers that serve have no room for %u copies of %u experts in %u each", count,
                 w->config->copies, w->expert_count, w->config->cache);
        is_ok = false;
    }
    if (is_ok) {
        shuffle(w, experts, w->expert_count);
        shuffle(w, holders, count);
        for (uint32_t e = 0; e < w->expert_count; e++)
            for (uint32_t c = 0; c < w->config->copies; c++)
                vcache_put(&w->peers[holders[at++ % count]].cache, experts[e], 0);
    }
    free(experts);
    free(holders);
    return is_ok;
}

/* Zipf's law over the ranks of a layer; which expert has which rank differs by layer. */
static bool choose_popularity(vworld *w)
{
    const vswarm_config *c = w->config;
    double sum = 0;

    w->popularity = malloc(c->experts * sizeof *w->popularity);
    w->experts = numbers(w->expert_count);
    if (!w->popularity || !w->experts)
        return false;
    for (uint32_t i = 0; i < c->experts; i++)
        w->popularity[i] = sum += pow(i + 1, -c->skew);
    for (uint32_t i = 0; i < c->experts; i++)
        w->popularity[i] /= sum;
    for (uint32_t layer = 0; layer < c->layers; layer++)
        shuffle(w, w->experts + (size_t)layer * c->experts, c->experts);
    return true;
}

static uint32_t draw_expert(vworld *w)
{
    uint32_t layer = (uint32_t)dp_rng_below(&w->rng, w->config->layers);
    double at = dp_rng_unit(&w->rng);
    uint32_t low = 0, high = w->config->experts - 1;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (w->popularity[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return w->experts[(size_t)layer * w->config->experts + low];
}

/* What peers wanted before, and so have if it was worth keeping. */
static void remember_history(vworld *w)
{
    for (uint32_t i = 0; i < w->config->peers; i++)
        for (uint32_t n = w->config->history; n > 0; n--) {
            uint32_t expert = draw_expert(w);
            double now_s = -(double)n * w->config->wants_s;

            vcache_touch(&w->peers[i].cache, expert, now_s);
            vcache_put(&w->peers[i].cache, expert, now_s);
        }
}

static bool shape_pieces(vworld *w, char why[200])
{
    const vswarm_config *c = w->config;

    w->run_pieces = (uint32_t)((double)c->expert_bytes / 3 / c->piece_size + 0.5);
    w->window_pieces = (3 * (w->run_pieces + 1) + 7) / 8 * 8;
    if (!w->run_pieces || w->window_pieces > VPEER_PIECES_MAX) {
        snprintf(why, 200, "an expert of %llu bytes is not 3 to %d pieces of %u",
                 (unsigned long long)c->expert_bytes, VPEER_PIECES_MAX - 8, c->piece_size);
        return false;
    }
    w->file = (dp_layout_file){
        .path = "model.gguf",
        .pieces = { .file_size = (uint64_t)VPEER_WINDOWS * w->window_pieces * c->piece_size,
                    .piece_size = c->piece_size },
    };
    w->layout = (dp_layout){ .files = &w->file,
                             .file_count = 1,
                             .piece_size = c->piece_size,
                             .piece_count = VPEER_WINDOWS * w->window_pieces };
    return true;
}

static bool open_peer(vworld *w, vpeer *p)
{
    if (!vcache_init(&p->cache, w->expert_count, p->kind == VPEER_ORIGIN ? 0 : w->config->cache))
        return false;
    p->neighbours = calloc(w->config->neighbours + 2, sizeof *p->neighbours);
    for (uint32_t i = 0; i < VPEER_WINDOWS; i++) {
        p->pages[i].pieces = calloc(w->window_pieces, sizeof *p->pages[i].pieces);
        if (!p->pages[i].pieces)
            return false;
    }
    if (!p->neighbours)
        return false;
    /* As many are away at the start as at any other time. */
    if (p->kind != VPEER_ORIGIN && w->config->session_s > 0 &&
        dp_rng_unit(&w->rng) * (w->config->session_s + w->config->away_s) < w->config->away_s)
        return true;
    return vpeer_go_online(w, p);
}

/* Others at random, as a tracker would name them. */
static void meet_some(vworld *w, vpeer *p)
{
    uint32_t origin = w->config->peers;

    if (origin < w->peer_count)
        vpeer_meet(w, p, origin);
    for (uint32_t i = p->neighbour_count; i < w->config->neighbours; i++)
        for (int try = 0; try < MEET_TRIES; try++) {
            uint32_t other = (uint32_t)dp_rng_below(&w->rng, w->config->peers);

            if (w->peers[other].is_online && vpeer_meet(w, p, other))
                break;
        }
}

static bool open_world(vworld *w, char why[200])
{
    const vswarm_config *c = w->config;

    dp_rng_init(&w->rng, c->seed);
    w->expert_count = c->layers * c->experts;
    w->peer_count = c->peers + (c->origin_bytes_s > 0);
    w->peers = calloc(w->peer_count, sizeof *w->peers);
    w->hosts = calloc(w->peer_count, sizeof *w->hosts);
    w->ms_capacity = (size_t)(c->run_s / c->wants_s * c->peers * 2) + 1024;
    if (w->ms_capacity > PAGES_MAX)
        w->ms_capacity = PAGES_MAX;
    w->ms = malloc(w->ms_capacity * sizeof *w->ms);
    w->floor_ms = malloc(w->ms_capacity * sizeof *w->floor_ms);
    w->ratio = malloc(w->ms_capacity * sizeof *w->ratio);
    snprintf(why, 200, "no memory for %u peers", c->peers);
    if (!w->peers || !w->hosts || !w->ms || !w->floor_ms || !w->ratio || !choose_kinds(w) ||
        !choose_popularity(w) || !shape_pieces(w, why))
        return false;
    for (uint32_t i = 0; i < w->peer_count; i++) {
        w->peers[i].index = i;
        place_host(w, i);
        if (!open_peer(w, &w->peers[i]))
            return false;
    }
    w->net = vnet_open(w->hosts, w->peer_count);
    if (!w->net || !seed_copies(w, why))
        return false;
    remember_history(w);
    for (uint32_t i = 0; i < c->peers; i++) {
        if (w->peers[i].is_online)
            meet_some(w, &w->peers[i]);
        vnet_timer(w->net, in_s(w, exponential_s(w, c->wants_s)), VTIMER_WANT, i);
        vnet_timer(w->net, REFILL_NS + i * VNET_MS, VTIMER_REFILL, i);
        if (c->session_s > 0)
            vnet_timer(w->net,
                       in_s(w, exponential_s(w, w->peers[i].is_online ? c->session_s : c->away_s)),
                       VTIMER_CHURN, i);
    }
    return true;
}

static void close_world(vworld *w)
{
    for (uint32_t i = 0; w->peers && i < w->peer_count; i++) {
        vpeer *p = &w->peers[i];

        dp_picker_close(p->picker);
        vcache_deinit(&p->cache);
        free(p->neighbours);
        free(p->peer_of_id);
        free(p->is_ban_seen);
        free(p->liar_pieces);
        for (uint32_t window = 0; window < VPEER_WINDOWS; window++)
            free(p->pages[window].pieces);
    }
    vnet_close(w->net);
    free(w->peers);
    free(w->hosts);
    free(w->flows);
    free(w->popularity);
    free(w->experts);
    free(w->ms);
    free(w->floor_ms);
    free(w->ratio);
}

/* ---- what happens ---- */

static void forget_everywhere(vworld *w, uint32_t gone)
{
    for (uint32_t i = 0; i < w->config->peers; i++)
        if (w->peers[i].picker) {
            vpeer_forget(w, &w->peers[i], gone);
            vpeer_drain(w, &w->peers[i]);
        }
}

/* Half say goodbye: their connections close. The others fall silent. */
static void leave(vworld *w, vpeer *p)
{
    p->left_silently = dp_rng_below(&w->rng, 2);
    vpeer_go_offline(w, p);
    for (uint32_t i = 0; i < w->flow_capacity; i++) {
        if (!w->flows[i].ask || w->flows[i].server != p->index)
            continue;
        if (p->left_silently)
            vnet_freeze(w->net, i);
        else
            vpeer_cut(w, i);
    }
    if (p->left_silently)
        vnet_timer(w->net, vnet_now_ns(w->net) + FORGET_NS, VTIMER_FORGET, p->index);
    else
        forget_everywhere(w, p->index);
}

static bool churn(vworld *w, vpeer *p)
{
    bool is_ok = true;

    if (p->is_online) {
        leave(w, p);
    } else {
        is_ok = vpeer_go_online(w, p);
        if (is_ok)
            meet_some(w, p);
    }
    vnet_timer(w->net,
               in_s(w, exponential_s(w, p->is_online ? w->config->session_s : w->config->away_s)),
               VTIMER_CHURN, p->index);
    return is_ok;
}

static bool on_timer(vworld *w, const vnet_event *e)
{
    vpeer *p = &w->peers[e->value];

    switch ((enum vtimer)e->code) {
    case VTIMER_WANT:
        if (p->is_online)
            vpeer_want(w, p, draw_expert(w));
        vnet_timer(w->net, in_s(w, exponential_s(w, w->config->wants_s)), VTIMER_WANT, p->index);
        break;
    case VTIMER_WAKE:
        if (!p->picker || vnet_now_ns(w->net) != p->wake_ns)
            break;
        p->wake_ns = UINT64_MAX;
        vpeer_drain(w, p);
        break;
    case VTIMER_CHURN:
        return churn(w, p);
    case VTIMER_REFILL:
        if (p->is_online)
            meet_some(w, p);
        vnet_timer(w->net, vnet_now_ns(w->net) + REFILL_NS, VTIMER_REFILL, p->index);
        break;
    case VTIMER_FORGET:
        if (!p->is_online)
            forget_everywhere(w, p->index);
        break;
    }
    return true;
}

/* ---- what came of it ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double quantile(const double *sorted, size_t count, double q)
{
    size_t at = (size_t)ceil(q * (double)count);

    return count ? sorted[at ? at - 1 : 0] : 0;
}

static void summarize(vworld *w)
{
    vswarm_result *r = &w->result;
    uint64_t copies = 0;

    qsort(w->ms, w->ms_count, sizeof *w->ms, compare);
    qsort(w->floor_ms, w->ms_count, sizeof *w->floor_ms, compare);
    qsort(w->ratio, w->ms_count, sizeof *w->ratio, compare);
    r->ratio_p50 = quantile(w->ratio, w->ms_count, 0.5);
    r->ratio_p99 = quantile(w->ratio, w->ms_count, 0.99);
    r->ms_p50 = quantile(w->ms, w->ms_count, 0.5);
    r->ms_p90 = quantile(w->ms, w->ms_count, 0.9);
    r->ms_p99 = quantile(w->ms, w->ms_count, 0.99);
    r->ms_max = quantile(w->ms, w->ms_count, 1);
    r->floor_ms = quantile(w->floor_ms, w->ms_count, 0.5);
    r->availability = r->pages ? (double)r->whole / (double)r->pages : 1;
    r->origin_share = w->bytes ? (double)w->origin_bytes / (double)w->bytes : 0;
    r->wasted_share = w->bytes ? (double)w->wasted_bytes / (double)w->bytes : 0;
    for (uint32_t i = 0; i < w->config->peers; i++)
        if (w->peers[i].picker) {
            dp_picker_stats stats = dp_picker_stats_read(w->peers[i].picker);

            r->stalls += stats.stalls;
            r->hedges += stats.hedges;
        }
    for (uint32_t e = 0; e < w->expert_count; e++) {
        uint32_t held = 0;

        for (uint32_t i = 0; i < w->config->peers; i++) {
            const vpeer *p = &w->peers[i];

            if (p->kind == VPEER_GOOD || p->kind == VPEER_SLOW)
                held += vcache_has(&p->cache, e);
        }
        copies += held;
        r->extinct += !held;
    }
    r->copies_mean = (double)copies / w->expert_count;
}

bool vswarm_run(const vswarm_config *config, vswarm_result *out, char why[200])
{
    vworld w = { .config = config };
    uint64_t end = (uint64_t)((config->warm_up_s + config->run_s) * 1e9);
    bool is_ok =
        config->warm_connections >= VPEER_ASKS_MAX && config->warm_connections <= VPEER_WARM_MAX;
    vnet_event event;

    *out = (vswarm_result){ 0 };
    if (!is_ok)
        snprintf(why, 200, "%u warm connections: %d to %d", config->warm_connections,
                 VPEER_ASKS_MAX, VPEER_WARM_MAX);
    is_ok = is_ok && open_world(&w, why);
    while (is_ok && vnet_next(w.net, end, &event)) {
        w.result.events++;
        if (event.kind == VNET_TIMER)
            is_ok = on_timer(&w, &event);
        else
            vpeer_on_flow(&w, &event);
    }
    if (is_ok) {
        summarize(&w);
        *out = w.result;
    }
    close_world(&w);
    return is_ok;
}
