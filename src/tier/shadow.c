#include "tier/shadow.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "tier/forecast.h"

#define AVERAGE_SHARE  0.3 /* of the newest burst in the average */
#define LEAD_BURSTS    2   /* in a row, before another policy is taken */
#define SKIPPED_PART   4   /* of a burst that only brings the caches up to date */
#define WORDS_MAX      ((size_t)1 << 19)
#define SAVED_NS_MAX   2000000ull /* of unused time: a step is never longer by more */
#define DEMANDS_A_LOOK 8          /* between two looks at the clock */
#define NO_LAYER       UINT32_MAX

typedef enum shadow_state { RECORDING, REPLAYING } shadow_state;

struct dp_shadow {
    const dp_clock *clock;
    dp_sim *sim;
    dp_sim_shape shape; /* of the layers followed */
    uint64_t *page_bytes;
    uint32_t *place; /* [layer_count] of a layer among those followed, NO_LAYER: not */
    uint32_t layer_count, mixture_count;
    double share; /* of the experts' bytes that is followed */
    uint64_t capacity_bytes;

    shadow_state state;
    dp_demands burst, window; /* the one in work; the last whole one */
    uint32_t burst_steps;
    bool begins_step;
    size_t at; /* replayed up to here */
    bool is_counting;

    uint64_t open_ns, spent_ns, forgone_ns;
    uint32_t current, leader, lead, bursts, changes;
    double hit_rate[DP_POLICY_COUNT];
};

/* Bytes of one followed layer: caches, counters, and weights of the forecast. */
static uint64_t layer_cost(uint32_t experts)
{
    return (uint64_t)experts * (DP_POLICY_COUNT * (48 + sizeof(void *)) + sizeof(dp_page_heat) +
                                sizeof(float) * (4 + DP_FORECAST_SKETCH + experts));
}

/* Every n-th layer that has experts, as many as memory for shadows allows. 0: none. */
static uint32_t choose_stride(const dp_shadow *s, const dp_sim_shape *shape)
{
    uint64_t allowed = dp_sim_total_bytes(shape) / DP_SHADOW_BYTES_PART;
    uint64_t count = DP_MIN(allowed / layer_cost(shape->expert_count),
                            DP_MAX(DP_SHADOW_PAGES_MAX / shape->expert_count, 1));

    if (count == 0 || s->mixture_count == 0)
        return 0;
    return (uint32_t)((s->mixture_count + count - 1) / count);
}

static void choose_layers(dp_shadow *s, const dp_sim_shape *shape, uint32_t stride)
{
    uint64_t followed = 0;
    uint32_t seen = 0;

    for (uint32_t l = 0; l < shape->layer_count; l++) {
        s->place[l] = NO_LAYER;
        /* from the middle of a stride: first and last layers are the odd ones */
        if (shape->page_bytes[l] && seen++ % stride == stride / 2) {
            s->place[l] = s->shape.layer_count;
            s->page_bytes[s->shape.layer_count++] = shape->page_bytes[l];
            followed += shape->page_bytes[l] * shape->expert_count;
        }
    }
    s->share = (double)followed / (double)dp_sim_total_bytes(shape);
}

static dp_status open_sim(dp_shadow *s, dp_error *err)
{
    dp_sim_cache caches[DP_POLICY_COUNT];

    for (uint32_t p = 0; p < DP_POLICY_COUNT; p++)
        caches[p] = (dp_sim_cache){ .policy = dp_policies[p] };
    return dp_sim_open(&s->sim, &s->shape, caches, DP_POLICY_COUNT, err);
}

dp_status dp_shadow_open(dp_shadow **out, const dp_sim_shape *shape, const dp_policy *first,
                         const dp_clock *clock, dp_error *err)
{
    dp_shadow *s = dp_alloc_zero(1, sizeof *s);
    uint32_t stride;
    dp_status st;

    *out = NULL;
    if (!s)
        return dp_fail(err, DP_E_NOMEM, "shadows: no memory");
    s->clock = clock;
    s->open_ns = dp_clock_now_ns(clock);
    s->layer_count = shape->layer_count;
    for (uint32_t l = 0; l < shape->layer_count; l++)
        s->mixture_count += shape->page_bytes[l] != 0;
    while (dp_policies[s->current] != first)
        s->current++;
    s->leader = s->current;
    dp_demands_init(&s->burst, WORDS_MAX);
    dp_demands_init(&s->window, WORDS_MAX);
    s->place = dp_alloc(shape->layer_count, sizeof *s->place);
    s->page_bytes = dp_alloc(shape->layer_count, sizeof *s->page_bytes);
    if (!s->place || !s->page_bytes) {
        st = dp_fail(err, DP_E_NOMEM, "shadows: no memory for %u layers", shape->layer_count);
        goto done;
    }
    st = DP_OK;
    stride = choose_stride(s, shape);
    if (stride == 0)
        goto done;
    s->shape = (dp_sim_shape){ 0, shape->expert_count, s->page_bytes };
    choose_layers(s, shape, stride);
    st = open_sim(s, err);
    if (st)
        goto done;

    *out = s;
    s = NULL;
done:
    dp_shadow_close(s);
    return st;
}

void dp_shadow_close(dp_shadow *shadow)
{
    if (!shadow)
        return;
    dp_sim_close(shadow->sim);
    dp_demands_deinit(&shadow->burst);
    dp_demands_deinit(&shadow->window);
    dp_free(shadow->place);
    dp_free(shadow->page_bytes);
    dp_free(shadow);
}

void dp_shadow_set_capacity(dp_shadow *shadow, uint64_t capacity_bytes)
{
    shadow->capacity_bytes = (uint64_t)((double)capacity_bytes * shadow->share);
    for (uint32_t p = 0; p < DP_POLICY_COUNT; p++)
        dp_sim_set_capacity(shadow->sim, p, shadow->capacity_bytes);
}

void dp_shadow_demand(dp_shadow *shadow, uint32_t layer, const uint32_t *experts, uint32_t count)
{
    if (shadow->state != RECORDING || layer >= shadow->layer_count ||
        shadow->place[layer] == NO_LAYER)
        return;
    if (dp_demands_add(&shadow->burst, shadow->begins_step, shadow->place[layer], experts, count))
        shadow->begins_step = false;
    else
        shadow->burst_steps = DP_SHADOW_BURST_STEPS; /* full: it ends here */
}

/* The best average, and whether it leads for long enough to be followed. */
static void judge(dp_shadow *s)
{
    uint32_t best = s->current;
    double ahead;

    for (uint32_t p = 0; p < DP_POLICY_COUNT; p++) {
        const dp_sim_cache *c = dp_sim_result(s->sim, p);
        double rate = c->wants ? (double)c->hits / (double)c->wants : 0;
        s->hit_rate[p] += (s->bursts ? AVERAGE_SHARE : 1) * (rate - s->hit_rate[p]);
    }
    for (uint32_t p = 0; p < DP_POLICY_COUNT; p++)
        if (s->hit_rate[p] > s->hit_rate[best])
            best = p;
    s->bursts++;
    s->lead = best == s->leader ? s->lead + 1 : 1;
    s->leader = best;
    ahead = s->hit_rate[best] - s->hit_rate[s->current];
    if (best != s->current && (ahead >= DP_SHADOW_CLEAR_MARGIN ||
                               (ahead >= DP_SHADOW_MARGIN && s->lead >= LEAD_BURSTS))) {
        s->current = best;
        s->changes++;
    }
}

/* The burst becomes the window, and the window's memory the next burst's. */
static void end_burst(dp_shadow *s)
{
    dp_demands whole = s->burst;

    judge(s);
    s->burst = s->window;
    s->window = whole;
    dp_demands_reset(&s->burst);
    s->burst_steps = 0;
    s->state = RECORDING;
}

static void replay(dp_shadow *s, uint64_t begin_ns, uint64_t end_ns)
{
    uint64_t now = begin_ns;

    while (now < end_ns && s->state == REPLAYING) {
        for (uint32_t i = 0; i < DEMANDS_A_LOOK && s->state == REPLAYING; i++) {
            dp_demand demand;
            if (!s->is_counting && s->at >= s->burst.count / SKIPPED_PART) {
                dp_sim_forget(s->sim);
                s->is_counting = true;
            }
            if (dp_demands_next(&s->burst, &s->at, &demand))
                dp_sim_demand(s->sim, &demand);
            else
                end_burst(s);
        }
        now = dp_clock_now_ns(s->clock);
    }
    s->spent_ns += now - begin_ns;
}

const dp_policy *dp_shadow_step(dp_shadow *shadow)
{
    uint64_t now = dp_clock_now_ns(shadow->clock);
    uint64_t earned = (uint64_t)(DP_SHADOW_TIME_SHARE * (double)(now - shadow->open_ns));
    uint64_t used;

    shadow->begins_step = true;
    if (shadow->state == RECORDING && shadow->burst.count > 0 &&
        ++shadow->burst_steps >= DP_SHADOW_BURST_STEPS) {
        shadow->state = REPLAYING;
        shadow->at = 0;
        shadow->is_counting = false;
    }
    /* Time that was not used is kept for a while only, or a long pause would end in a
     * long step. */
    used = shadow->spent_ns + shadow->forgone_ns;
    if (earned > used + SAVED_NS_MAX) {
        shadow->forgone_ns += earned - SAVED_NS_MAX - used;
        used = earned - SAVED_NS_MAX;
    }
    if (shadow->state == REPLAYING && earned > used)
        replay(shadow, now, now + (earned - used));
    return dp_policies[shadow->current];
}

void dp_shadow_report_read(const dp_shadow *shadow, dp_shadow_report *out)
{
    uint64_t age = dp_clock_now_ns(shadow->clock) - shadow->open_ns;
    bool has_window = shadow->window.count > 0;

    *out = (dp_shadow_report){
        .bursts = shadow->bursts,
        .changes = shadow->changes,
        .layers = shadow->shape.layer_count,
        .layers_all = shadow->mixture_count,
        .time_share = age ? (double)shadow->spent_ns / (double)age : 0,
        .window = has_window ? &shadow->window : &shadow->burst,
        .window_shape = shadow->shape,
        .window_capacity_bytes = shadow->capacity_bytes,
    };
    for (uint32_t p = 0; p < DP_POLICY_COUNT; p++)
        out->hit_rate[p] = shadow->hit_rate[p];
}
