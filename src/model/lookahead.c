#include "model/lookahead.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "model/blocks.h"

/* ---- the gate ---- */

/* To lose, a twentieth slower. A trial is short, and hints that come true rarely cost: a wrong
 * verdict against them does more harm than one for them. */
#define LOSS_PART         20
#define WASTE_MAX(useful) ((useful) / 10 * 3)

const float dp_gate_sure[DP_GATE_LEVELS] = { 0.6f, 0.75f, 0.9f, 0.97f };

void dp_lookahead_gate_init(dp_lookahead_gate *gate, dp_lookahead_mode mode)
{
    *gate = (dp_lookahead_gate){
        .mode = mode,
        .is_on = mode == DP_LOOKAHEAD_ON,
        .rest_steps = DP_GATE_REST_STEPS,
    };
}

static void begin_rest(dp_lookahead_gate *gate, bool wins)
{
    gate->rest_steps =
        wins == gate->wins ? DP_MIN(2 * gate->rest_steps, DP_GATE_REST_MAX) : DP_GATE_REST_STEPS;
    gate->wins = wins;
    gate->is_on = wins;
    gate->is_resting = true;
    gate->step = 0;
    gate->useful_bytes = gate->wasted_bytes = 0;
}

static void begin_trial(dp_lookahead_gate *gate)
{
    gate->is_resting = false;
    gate->is_on = false;
    gate->step = gate->part = 0;
    gate->ns_count[0] = gate->ns_count[1] = 0;
    gate->useful_bytes = gate->wasted_bytes = 0;
}

static bool is_wasteful(const dp_lookahead_gate *gate)
{
    return gate->wasted_bytes > WASTE_MAX(gate->useful_bytes);
}

static void ask_for_surer(dp_lookahead_gate *gate)
{
    gate->level = DP_MIN(gate->level + 1, DP_GATE_LEVELS - 1);
    gate->level_min = gate->level;
}

static int compare_ns(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Of the steps with it, or without: a step that another program held up says nothing. */
static uint64_t median(dp_lookahead_gate *gate, bool is_on)
{
    uint32_t count = gate->ns_count[is_on];

    qsort(gate->ns[is_on], count, sizeof gate->ns[is_on][0], compare_ns);
    return (gate->ns[is_on][(count - 1) / 2] + gate->ns[is_on][count / 2]) / 2;
}

static void end_trial(dp_lookahead_gate *gate)
{
    bool wastes = is_wasteful(gate);
    uint64_t on_ns = median(gate, true), off_ns = median(gate, false);
    bool is_slower = on_ns > off_ns + off_ns / LOSS_PART;

    if (wastes)
        ask_for_surer(gate);
    else if (gate->wasted_bytes <= WASTE_MAX(gate->useful_bytes) / 2)
        gate->level = gate->level > gate->level_min ? gate->level - 1 : gate->level_min;
    begin_rest(gate, !is_slower && !wastes);
}

static void step_of_trial(dp_lookahead_gate *gate, uint64_t ns)
{
    if (gate->step > 0)
        gate->ns[gate->is_on][gate->ns_count[gate->is_on]++] = ns;
    if (++gate->step < DP_GATE_TRIAL_STEPS)
        return;
    gate->step = 0;
    gate->is_on = !gate->is_on;
    if (++gate->part == DP_GATE_PARTS)
        end_trial(gate);
}

static void step_of_rest(dp_lookahead_gate *gate)
{
    gate->step++;
    if (gate->step % DP_GATE_LEDGER_STEPS == 0) {
        if (gate->is_on && is_wasteful(gate)) {
            ask_for_surer(gate);
            begin_rest(gate, false);
        }
        gate->useful_bytes = gate->wasted_bytes = 0;
    }
    if (gate->step < gate->rest_steps)
        return;
    if (gate->step >= DP_GATE_REST_MAX)
        gate->level_min = 0;
    begin_trial(gate);
}

void dp_lookahead_gate_step(dp_lookahead_gate *gate, uint64_t ns, uint64_t useful_bytes,
                            uint64_t wasted_bytes)
{
    if (gate->mode != DP_LOOKAHEAD_AUTO)
        return;
    gate->useful_bytes += useful_bytes;
    gate->wasted_bytes += wasted_bytes;
    if (gate->is_resting)
        step_of_rest(gate);
    else
        step_of_trial(gate, ns);
}

/* ---- the guess ---- */

static void read_ledger(struct dp_step *step, uint64_t *useful_bytes, uint64_t *wasted_bytes)
{
    dp_tier_stats stats;

    dp_tier_stats_read(step->tier, &stats);
    *useful_bytes = stats.prefetch_useful_bytes;
    *wasted_bytes = stats.prefetch_wasted_bytes;
}

void dp_lookahead_init(struct dp_step *step, dp_lookahead_mode mode)
{
    const dp_hparams *hp = &step->model->hp;
    dp_lookahead *a = &step->lookahead;

    dp_lookahead_gate_init(&a->gate, hp->expert_count ? mode : DP_LOOKAHEAD_OFF);
    if (a->gate.mode != DP_LOOKAHEAD_OFF)
        dp_recall_init(&a->recall, hp->layer_count, DP_LOOKAHEAD_LAYERS, hp->expert_used, a->cells);
}

static void forget(dp_lookahead_target *target)
{
    memset(target->tokens, 0, sizeof target->tokens);
    target->hint_count = 0;
}

void dp_lookahead_begin_step(struct dp_step *step)
{
    dp_lookahead *a = &step->lookahead;
    bool is_contended = false;

    a->begun++;
    for (uint32_t i = 0; i < DP_LOOKAHEAD_LAYERS; i++)
        forget(&a->targets[i]);
    if (a->gate.mode != DP_LOOKAHEAD_OFF && step->count <= DP_LOOKAHEAD_TOKENS_MAX)
        dp_tier_shared_bytes(step->tier, &is_contended);
    a->is_running = is_contended; /* else all is there, or comes but once */
    if (!a->is_running)
        return;
    a->begin_ns = dp_clock_now_ns(&dp_clock_real);
    read_ledger(step, &a->useful_bytes, &a->wasted_bytes);
}

void dp_lookahead_end_step(struct dp_step *step)
{
    dp_lookahead *a = &step->lookahead;
    uint64_t useful_bytes, wasted_bytes;

    if (!a->is_running)
        return;
    a->is_running = false;
    a->steps += a->gate.is_on;
    read_ledger(step, &useful_bytes, &wasted_bytes);
    dp_lookahead_gate_step(&a->gate, dp_clock_now_ns(&dp_clock_real) - a->begin_ns,
                           useful_bytes - a->useful_bytes, wasted_bytes - a->wasted_bytes);
}

/* The choice of a layer's router, were it asked now, into ids [count][used]. */
static void choose(struct dp_step *step, const dp_layer *layer, const dp_lease *lease,
                   uint32_t *ids)
{
    const dp_hparams *hp = &step->model->hp;
    const dp_device_ops *ops = step->device->ops;
    dp_lookahead *a = &step->lookahead;
    dp_op_matmul scores = {
        .x = a->h,
        .x_stride = hp->embed_dim,
        .tokens = step->count,
        .part_count = 1,
        .part = { { dp_weight_mat(&layer->router, lease), dp_weight_f32(&layer->router_bias, lease),
                    a->router, hp->expert_count } },
    };
    dp_op_route route = dp_route_of(step->model, dp_weight_f32(&layer->select_bias, lease));

    ops->rmsnorm(step->device, a->h, step->x, dp_weight_f32(&layer->ffn_norm, lease), step->count,
                 hp->embed_dim, hp->norm_eps);
    ops->matmul(step->device, &scores);
    route.logits = a->router;
    route.tokens = step->count;
    route.ids = ids;
    route.weights = a->weights;
    ops->route(step->device, &route);
}

static dp_lookahead_target *target_of(dp_lookahead *a, uint32_t layer)
{
    return &a->targets[layer % DP_LOOKAHEAD_LAYERS];
}

static uint32_t *ids_of(const dp_step *step, const dp_lookahead_target *target, uint32_t distance)
{
    return target->ids + (size_t)distance * DP_LOOKAHEAD_TOKENS_MAX * step->model->hp.expert_used;
}

static void add_hint(dp_lookahead_target *target, dp_page_id page)
{
    for (uint32_t i = 0; i < target->hint_count; i++)
        if (target->hints[i] == page)
            return;
    target->hints[target->hint_count++] = page;
}

/* Hints those of a guess that are sure enough, the likeliest of every token first: hints are
 * followed in order. */
static void hint(struct dp_step *step, uint32_t layer, uint32_t distance)
{
    const dp_model *m = step->model;
    dp_lookahead *a = &step->lookahead;
    dp_lookahead_target *target = target_of(a, layer);
    const uint32_t *ids = ids_of(step, target, distance);
    uint32_t used = m->hp.expert_used, count = 0;

    for (uint32_t r = 0; r < used; r++) {
        if (dp_recall_share(&a->recall, layer, distance, r) < dp_gate_sure[a->gate.level])
            continue;
        for (uint32_t t = 0; t < step->count; t++) {
            a->pages[count] = m->layers[layer].expert_first + ids[t * used + r];
            add_hint(target, a->pages[count++]);
        }
    }
    if (count)
        dp_tier_prefetch(step->tier, a->pages, count, a->begun * m->hp.layer_count + layer);
}

void dp_lookahead_guess(struct dp_step *step, uint32_t layer)
{
    const dp_model *m = step->model;
    dp_lookahead *a = &step->lookahead;

    if (!a->is_running || !a->gate.is_on)
        return;
    for (uint32_t d = 0; d < DP_LOOKAHEAD_LAYERS && layer + d < m->hp.layer_count; d++) {
        const dp_layer *next = &m->layers[layer + d];
        dp_lookahead_target *target = target_of(a, layer + d);
        dp_lease lease;

        if (next->expert_first == DP_PAGE_NONE || !dp_tier_is_pinned(step->tier, next->page) ||
            dp_tier_acquire(step->tier, next->page, &lease, 0, NULL))
            continue;
        choose(step, next, &lease, ids_of(step, target, d));
        dp_tier_release(step->tier, &lease);
        target->tokens[d] = step->count;
        hint(step, layer + d, d);
    }
}

static bool is_chosen(const dp_step *step, uint32_t token, uint32_t expert)
{
    uint32_t used = step->model->hp.expert_used;

    for (uint32_t r = 0; r < used; r++)
        if (step->expert_ids[token * used + r] == expert)
            return true;
    return false;
}

void dp_lookahead_learn(struct dp_step *step, uint32_t layer)
{
    const dp_model *m = step->model;
    dp_lookahead *a = &step->lookahead;
    dp_lookahead_target *target = target_of(a, layer);
    uint32_t used = m->hp.expert_used, count = 0;

    if (!a->is_running || !a->gate.is_on)
        return;
    for (uint32_t d = 0; d < DP_LOOKAHEAD_LAYERS; d++) {
        const uint32_t *ids = ids_of(step, target, d);
        for (uint32_t s = 0; s < target->tokens[d] * used; s++)
            dp_recall_note(&a->recall, layer, d, s % used, is_chosen(step, s / used, ids[s]));
    }
    for (uint32_t i = 0; i < target->hint_count; i++) {
        uint32_t e = target->hints[i] - m->layers[layer].expert_first;
        if (step->expert_begin[e] == step->expert_begin[e + 1])
            target->hints[count++] = target->hints[i];
    }
    dp_tier_give_up(step->tier, target->hints, count);
    forget(target);
}
