/* resize.h - another budget while the engine runs, by request or by the governor.
 *
 * Room     Tables, keys and values and buffers stay; weights take what is left. Which
 *          pages stay pinned can change between steps only, so a request is carried
 *          out in two parts: what may be evicted leaves at once, on any thread; pins
 *          follow when no step runs, at the latest before the next one. Pages that
 *          may stay after a rise are pinned a few at a step, as the step would read
 *          them anyway.
 *
 * Locks    step_lock (a step, or a change of pins) before pins_lock (plan.pins and the
 *          tier's budget together) before the tier's.
 */
#ifndef DP_ENGINE_RESIZE_H
#define DP_ENGINE_RESIZE_H

#include <stdatomic.h>

#include "base/thread.h"
#include "doppler/engine.h"
#include "engine/plan.h"

typedef struct dp_resize {
    dp_mutex step_lock;
    dp_mutex pins_lock;
    _Atomic uint64_t wanted_bytes;  /* the whole budget ... */
    _Atomic uint64_t taken_bytes;   /* ... as carried out: plan.budget_bytes */
    _Atomic uint64_t ceiling_bytes; /* as given by the person */
    uint32_t kept_wanted;           /* pins that the budget allows; under pins_lock, as is: */
    uint64_t least_bytes;           /* the smallest budget since opening */

    bool is_governed;
    dp_thread thread;
    dp_mutex stop_lock;
    dp_cond stop;
    bool is_stopping; /* under stop_lock */
} dp_resize;

void dp_resize_init(dp_resize *resize);
void dp_resize_deinit(dp_resize *resize);

/* The engine's memory is taken and its pages are pinned. Starts the governor if the
 * options ask for it. DP_E_NOMEM. */
dp_status dp_resize_start(dp_engine *engine, bool is_governed, dp_error *err);
/* Nothing is resized any more; no step runs. */
void dp_resize_stop(dp_engine *engine);

/* Before and after each step, on the step thread; and around changes of the tier's pages. */
void dp_resize_begin_step(dp_engine *engine);
void dp_resize_end_step(dp_engine *engine);

/* Between begin and end: adapters take another share of the same budget. DP_E_BUDGET when
 * no page fits beside it: nothing has changed then. After other failures, of what pins take
 * to read, the next step tries again. */
dp_status dp_resize_adapters(dp_engine *engine, const dp_plan_adapters *adapters, dp_error *err);

#endif
