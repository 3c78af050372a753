#include "model/lookahead.h"

#include "base/clock.h"
#include "model/blocks.h"

/* ---- the gate ---- */

#define GAIN_PART         50 /* to win, a fiftieth faster */
#define WASTE_MAX(useful) ((useful) / 10 * 3)

void dp_lookahead_gate_init(dp_lookahead_gate *gate, dp_lookahead_mode mode, uint32_t used)
{
    *gate = (dp_lookahead_gate){
        .mode = mode,
        .used = used,
        .asked = used,
        .asked_max = used,
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
    gate->ns[0] = gate->ns[1] = 0;
    gate->useful_bytes = gate->wasted_bytes = 0;
}

static bool is_wasteful(const dp_lookahead_gate *gate)
{
    return gate->wasted_bytes > WASTE_MAX(gate->useful_bytes);
}

/* The likeliest experts are the surest guesses. */
static void ask_for_fewer(dp_lookahead_gate *gate)
{
    gate->asked_max = DP_MAX(gate->asked - 1, 1);
    gate->asked = DP_MAX(gate->asked / 2, 1);
}

static void end_trial(dp_lookahead_gate *gate)
{
    bool wastes = is_wasteful(gate);
    bool is_faster = gate->ns[1] + gate->ns[1] / GAIN_PART < gate->ns[0];

    if (wastes)
        ask_for_fewer(gate);
    else if (gate->wasted_bytes <= WASTE_MAX(gate->useful_bytes) / 2)
        gate->asked = DP_MIN(gate->asked + 1, gate->asked_max);
    begin_rest(gate, is_faster && !wastes);
}

static void step_of_trial(dp_lookahead_gate *gate, uint64_t ns)
{
    /* The first step of a part pays for what the other way left. */
    if (gate->step > 0)
        gate->ns[gate->is_on] += ns;
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
            ask_for_fewer(gate);
            begin_rest(gate, false);
        }
        gate->useful_bytes = gate->wasted_bytes = 0;
    }
    if (gate->step < gate->rest_steps)
        return;
    if (gate->step >= DP_GATE_REST_MAX)
        gate->asked_max = gate->used;
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

void dp_lookahead_begin_step(struct dp_step *step)
{
    dp_lookahead *a = &step->lookahead;

    a->is_running = step->model->hp.expert_count && step->count <= DP_LOOKAHEAD_TOKENS_MAX &&
                    a->gate.mode != DP_LOOKAHEAD_OFF;
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

/* The choice of the next layer's router, were it asked now. */
static void choose(struct dp_step *step, const dp_layer *next, const dp_lease *lease)
{
    const dp_hparams *hp = &step->model->hp;
    const dp_device_ops *ops = step->device->ops;
    dp_lookahead *a = &step->lookahead;
    dp_op_matmul scores = {
        .x = a->h,
        .x_stride = hp->embed_dim,
        .tokens = step->count,
        .part_count = 1,
        .part = { { dp_weight_mat(&next->router, lease), dp_weight_f32(&next->router_bias, lease),
                    a->router, hp->expert_count } },
    };
    dp_op_route route = dp_route_of(step->model, dp_weight_f32(&next->select_bias, lease));

    ops->rmsnorm(step->device, a->h, step->x, dp_weight_f32(&next->ffn_norm, lease), step->count,
                 hp->embed_dim, hp->norm_eps);
    ops->matmul(step->device, &scores);
    route.logits = a->router;
    route.tokens = step->count;
    route.ids = a->ids;
    route.weights = a->weights;
    ops->route(step->device, &route);
}

void dp_lookahead_guess(struct dp_step *step, uint32_t layer)
{
    const dp_model *m = step->model;
    dp_lookahead *a = &step->lookahead;
    const dp_layer *next = &m->layers[layer + 1];
    uint32_t used = m->hp.expert_used, count = 0;
    dp_lease lease;

    if (!a->is_running || !a->gate.is_on || layer + 1 >= m->hp.layer_count ||
        next->expert_first == DP_PAGE_NONE || !dp_tier_is_pinned(step->tier, next->page) ||
        dp_tier_acquire(step->tier, next->page, &lease, 0, NULL))
        return;
    choose(step, next, &lease);
    dp_tier_release(step->tier, &lease);
    /* The likeliest of every token first: hints are followed in order. */
    for (uint32_t r = 0; r < a->gate.asked; r++)
        for (uint32_t t = 0; t < step->count; t++)
            a->pages[count++] = next->expert_first + a->ids[t * used + r];
    dp_tier_prefetch(step->tier, a->pages, count);
}
