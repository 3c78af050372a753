#include "engine/resize.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/sysmem.h"
#include "engine/engine.h"
#include "engine/governor.h"

/* Pinned before a step at most: what the step would wait for is read here instead. */
#define GROW_BYTES ((uint64_t)128 << 20)

void dp_resize_init(dp_resize *resize)
{
    dp_mutex_init(&resize->step_lock);
    dp_mutex_init(&resize->pins_lock);
    dp_mutex_init(&resize->stop_lock);
    dp_cond_init(&resize->stop);
}

void dp_resize_deinit(dp_resize *resize)
{
    dp_cond_deinit(&resize->stop);
    dp_mutex_deinit(&resize->stop_lock);
    dp_mutex_deinit(&resize->pins_lock);
    dp_mutex_deinit(&resize->step_lock);
}

static uint64_t fixed_bytes(const dp_plan *plan)
{
    return plan->tables_bytes + plan->kv_bytes + plan->buffer_bytes + plan->adapters.tables_bytes +
           plan->adapters.buffer_bytes;
}

/* Less cannot run: one page, and one of an adapter beside it. */
static uint64_t hard_floor_bytes(const dp_plan *plan)
{
    return fixed_bytes(plan) + plan->page_bytes_max + plan->adapters.page_bytes;
}

/* Room for the largest page and, beside it, the largest that is asked for out of order. */
static uint64_t floor_bytes(const dp_plan *plan)
{
    return hard_floor_bytes(plan) + plan->page_bytes_max;
}

/* ---- pins: the caller holds step_lock and pins_lock ---- */

/* Takes the pages of ranks [begin, end) of the choice as pinned, or no longer. */
static dp_status change_pins(dp_engine *e, uint32_t begin, uint32_t end, dp_error *err)
{
    bool pins = begin < end;
    dp_pins low = e->plan.pins, high = low;
    dp_page_id *pages = dp_alloc(low.count, sizeof *pages);
    dp_page_id page = DP_PAGE_NONE;
    uint32_t count = 0;
    dp_status st = DP_OK;

    if (!pages)
        return dp_fail(err, DP_E_NOMEM, "engine: a list of pages");
    low.kept = DP_MIN(begin, end);
    high.kept = DP_MAX(begin, end);
    for (uint32_t i = 0; i < low.count; i++) {
        page = dp_plan_core_after(e->model, page);
        if (dp_pins_has(&high, i) && !dp_pins_has(&low, i))
            pages[count++] = page;
    }
    if (pins)
        st = dp_tier_pin(e->tier, pages, count, NULL, NULL, err);
    else
        dp_tier_unpin(e->tier, pages, count);
    dp_free(pages);
    return st;
}

/* How many pins of `want` to have after this step: not more at a time than GROW_BYTES. */
static uint32_t grown(const dp_engine *e, const dp_pins *want)
{
    uint64_t each = e->plan.always_bytes / want->count + 1;

    return (uint32_t)DP_MIN(want->kept, e->plan.pins.kept + GROW_BYTES / each + 1);
}

/* Carries out what is wanted, of a rise a part. A failure leaves what stands. */
static dp_status apply_locked(dp_engine *e, uint64_t budget_bytes, dp_error *err)
{
    dp_plan *plan = &e->plan;
    uint64_t slot_bytes = budget_bytes - fixed_bytes(plan);
    uint32_t kept = plan->pins.kept;
    dp_pins want;
    dp_status st = dp_plan_pins(&want, plan, e->model, e->tier, slot_bytes, err);

    if (st)
        return st;
    e->resize.kept_wanted = want.kept;
    if (want.kept < kept || want.ahead != plan->pins.ahead)
        dp_step_set_ahead(e->step, want.ahead);
    if (want.kept < kept)
        st = change_pins(e, kept, want.kept, err);
    if (!st)
        st = dp_tier_set_budget(e->tier, slot_bytes, err);
    if (!st && want.kept > kept) {
        want.kept = grown(e, &want);
        st = change_pins(e, kept, want.kept, err);
    }
    if (st)
        return st;
    plan->pins = want;
    plan->budget_bytes = budget_bytes;
    plan->slot_bytes = slot_bytes;
    plan->pins_always = want.kept == want.count;
    e->resize.least_bytes = DP_MIN(e->resize.least_bytes, budget_bytes);
    atomic_store_explicit(&e->resize.taken_bytes, budget_bytes, memory_order_relaxed);
    return DP_OK;
}

/* The caller holds step_lock. */
static void apply(dp_engine *e)
{
    uint64_t wanted = atomic_load_explicit(&e->resize.wanted_bytes, memory_order_relaxed);
    dp_error err;

    /* Adapters may have been opened since it was asked for. */
    wanted = DP_MAX(wanted, hard_floor_bytes(&e->plan));
    if (wanted == e->plan.budget_bytes && e->plan.pins.kept == e->resize.kept_wanted)
        return;
    dp_mutex_lock(&e->resize.pins_lock);
    if (apply_locked(e, wanted, &err))
        DP_LOG_WARN("engine", "budget_bytes=%llu not_taken=\"%s\"", (unsigned long long)wanted,
                    err.text);
    else
        DP_LOG_DEBUG("engine", "budget_bytes=%llu pinned=%u of=%u", (unsigned long long)wanted,
                     e->plan.pins.kept, e->plan.pins.count);
    dp_mutex_unlock(&e->resize.pins_lock);
}

static dp_status share_locked(dp_engine *e, const dp_plan_adapters *adapters, dp_error *err)
{
    uint64_t wanted = atomic_load_explicit(&e->resize.wanted_bytes, memory_order_relaxed);
    uint64_t ceiling = atomic_load_explicit(&e->resize.ceiling_bytes, memory_order_relaxed);
    dp_plan_adapters before = e->plan.adapters;
    uint64_t least;

    e->plan.adapters = *adapters;
    least = hard_floor_bytes(&e->plan);
    if (least <= ceiling)
        return apply_locked(e, DP_MAX(wanted, least), err);
    e->plan.adapters = before;
    return dp_fail(err, DP_E_BUDGET,
                   "no room for the adapter in %llu bytes: with its tables, buffers and largest "
                   "page beside the model's %llu are needed (--ram; a smaller --batch or --ctx "
                   "leaves more of it)",
                   (unsigned long long)ceiling, (unsigned long long)least);
}

dp_status dp_resize_adapters(dp_engine *e, const dp_plan_adapters *adapters, dp_error *err)
{
    dp_status st;

    dp_mutex_lock(&e->resize.pins_lock);
    st = share_locked(e, adapters, err);
    dp_mutex_unlock(&e->resize.pins_lock);
    return st;
}

/* ---- requests, on any thread ---- */

/* While a step runs: what needs no change of pins leaves, down to what the step's own
 * pages need beside them. */
static void shrink_now(dp_engine *e, uint64_t budget_bytes)
{
    const dp_plan *plan = &e->plan;
    uint64_t slot_bytes;

    dp_mutex_lock(&e->resize.pins_lock);
    slot_bytes = DP_MAX(budget_bytes, hard_floor_bytes(plan)) - fixed_bytes(plan);
    slot_bytes = DP_MAX(slot_bytes, plan->pins.kept_bytes + plan->pins.window_bytes);
    if (slot_bytes < plan->slot_bytes)
        dp_tier_set_budget(e->tier, slot_bytes, NULL);
    dp_mutex_unlock(&e->resize.pins_lock);
}

static void request(dp_engine *e, uint64_t budget_bytes)
{
    atomic_store_explicit(&e->resize.wanted_bytes, budget_bytes, memory_order_relaxed);
    if (!dp_mutex_try_lock(&e->resize.step_lock)) {
        shrink_now(e, budget_bytes);
        return;
    }
    apply(e);
    dp_mutex_unlock(&e->resize.step_lock);
}

dp_status dp_engine_set_budget(dp_engine *engine, uint64_t budget_bytes, dp_error *err)
{
    uint64_t least;

    dp_mutex_lock(&engine->resize.pins_lock);
    least = floor_bytes(&engine->plan);
    dp_mutex_unlock(&engine->resize.pins_lock);
    if (budget_bytes < least)
        return dp_fail(err, DP_E_BUDGET,
                       "a budget of %llu bytes is too small for this engine: tables, keys and "
                       "values, buffers and two pages take %llu",
                       (unsigned long long)budget_bytes, (unsigned long long)least);
    atomic_store_explicit(&engine->resize.ceiling_bytes, budget_bytes, memory_order_relaxed);
    request(engine, budget_bytes);
    return DP_OK;
}

void dp_resize_begin_step(dp_engine *engine)
{
    dp_mutex_lock(&engine->resize.step_lock);
    apply(engine);
}

void dp_resize_end_step(dp_engine *engine)
{
    dp_mutex_unlock(&engine->resize.step_lock);
}

/* ---- the governor's thread ---- */

static dp_governor_sample take_sample(dp_engine *e)
{
    dp_tier_stats tier;
    dp_sysmem memory;
    uint64_t fixed;

    dp_sysmem_read(&memory, "");
    dp_tier_stats_read(e->tier, &tier);
    dp_mutex_lock(&e->resize.pins_lock);
    fixed = fixed_bytes(&e->plan);
    dp_mutex_unlock(&e->resize.pins_lock);
    return (dp_governor_sample){
        .now_ns = dp_clock_now_ns(&dp_clock_real),
        .room_bytes = dp_sysmem_room(&memory),
        .stall_us = memory.stall_us,
        .held_bytes = fixed + tier.slot_bytes,
    };
}

static void govern(dp_engine *e, dp_governor *g)
{
    dp_governor_sample sample = take_sample(e);
    uint64_t target;

    g->ceiling_bytes = atomic_load_explicit(&e->resize.ceiling_bytes, memory_order_relaxed);
    target = dp_governor_decide(g, &sample);
    if (target != atomic_load_explicit(&e->resize.wanted_bytes, memory_order_relaxed))
        DP_LOG_INFO("engine", "governor budget_bytes=%llu room_bytes=%llu held_bytes=%llu",
                    (unsigned long long)target, (unsigned long long)sample.room_bytes,
                    (unsigned long long)sample.held_bytes);
    if (target != atomic_load_explicit(&e->resize.taken_bytes, memory_order_relaxed))
        request(e, target);
}

static void run_governor(void *user)
{
    dp_engine *e = user;
    dp_resize *r = &e->resize;
    uint64_t ceiling = e->plan.budget_bytes;
    dp_governor governor;
    dp_sysmem memory;
    uint64_t reserve;

    dp_sysmem_read(&memory, "");
    dp_budget_auto_from(&memory, &reserve);
    dp_governor_init(&governor, ceiling, floor_bytes(&e->plan),
                     e->plan.reserve_bytes ? e->plan.reserve_bytes : reserve);
    dp_mutex_lock(&r->stop_lock);
    while (!r->is_stopping) {
        dp_mutex_unlock(&r->stop_lock);
        govern(e, &governor);
        dp_mutex_lock(&r->stop_lock);
        if (!r->is_stopping)
            dp_cond_wait_for(&r->stop, &r->stop_lock, DP_GOVERNOR_PERIOD_NS);
    }
    dp_mutex_unlock(&r->stop_lock);
}

dp_status dp_resize_start(dp_engine *engine, bool is_governed, dp_error *err)
{
    dp_resize *r = &engine->resize;
    dp_status st = DP_OK;

    atomic_init(&r->wanted_bytes, engine->plan.budget_bytes);
    atomic_init(&r->taken_bytes, engine->plan.budget_bytes);
    atomic_init(&r->ceiling_bytes, engine->plan.budget_bytes);
    r->kept_wanted = engine->plan.pins.kept;
    r->least_bytes = engine->plan.budget_bytes;
    if (is_governed)
        st = dp_thread_start(&r->thread, "dp-governor", run_governor, engine, err);
    r->is_governed = is_governed && !st;
    return st;
}

void dp_resize_stop(dp_engine *engine)
{
    dp_resize *r = &engine->resize;

    if (!r->is_governed)
        return;
    dp_mutex_lock(&r->stop_lock);
    r->is_stopping = true;
    dp_cond_signal(&r->stop);
    dp_mutex_unlock(&r->stop_lock);
    dp_thread_join(&r->thread);
    r->is_governed = false;
}
