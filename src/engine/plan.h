/* plan.h - how a budget is divided: tables, keys and values, buffers, weights.
 *
 * Room     Pure arithmetic over a model, the slot bytes of its pages and the
 *          options. The engine runs by it; inspect prints it. Nothing is taken.
 *
 * Division tables   what the description, the vocabulary and the page table cost
 *          kv       --ctx tokens of each of --sessions, as --kv-type
 *          buffers  a step of --batch tokens, and what sampling needs
 *          slots    the rest: pinned pages first, experts in what is left
 *
 * Least    the smallest budget that runs: one token at a time and one page.
 */
#ifndef DP_ENGINE_PLAN_H
#define DP_ENGINE_PLAN_H

#include "engine/options.h"
#include "engine/pins.h"
#include "model/step.h"

/* What open adapters take of a budget. */
typedef struct dp_plan_adapters {
    uint64_t tables_bytes, buffer_bytes;
    uint64_t page_bytes; /* room for the largest page beside one of the model */
} dp_plan_adapters;

typedef struct dp_plan {
    uint64_t budget_bytes, reserve_bytes; /* reserve: left to the system by "auto" */
    uint64_t tables_bytes, kv_bytes, buffer_bytes, slot_bytes;
    uint64_t least_bytes;
    uint64_t always_bytes; /* slot bytes of the always-used part ... */
    dp_pins pins;          /* ... of whose pages these stay */
    bool pins_always;      /* all of them */
    uint64_t page_bytes_max,
        other_bytes_max;       /* of all pages; of those outside the always-used part */
    dp_plan_adapters adapters; /* beside tables_bytes, buffer_bytes; dp_plan_make knows none */
    uint32_t context_tokens, session_max, threads;
    uint32_t draft_tokens; /* most guessed tokens of a session and step (draft.h) */
    dp_step_config step;
    dp_device_limits limits;
} dp_plan;

/* tables_bytes: live heap once model and page table stand; own_bytes: what the source takes for
 * itself (tier/source.h), counted among the tables. The tier has the
 * model's pages registered; its budget is not used. DP_E_BUDGET when even the
 * least does not fit: the plan is filled in all the same. */
dp_status dp_plan_make(dp_plan *out, const dp_model *model, const dp_tier *tier,
                       uint64_t tables_bytes, uint64_t own_bytes, const dp_options *options,
                       dp_error *err);

/* The element type of keys and values as --kv-type spells it. */
const char *dp_plan_kv_type_name(const dp_plan *plan);

/* Which pages stay when slots take slot_bytes instead. DP_E_NOMEM. */
dp_status dp_plan_pins(dp_pins *out, const dp_plan *plan, const dp_model *model,
                       const dp_tier *tier, uint64_t slot_bytes, dp_error *err);

/* True for the pages every token needs whole: not rows of an embedding that is
 * only looked up. */
bool dp_plan_is_core(const dp_model *model, dp_page_id page);
/* Core pages in the order of a step: the one after `page`, the first after
 * DP_PAGE_NONE; DP_PAGE_NONE behind the last. */
dp_page_id dp_plan_core_after(const dp_model *model, dp_page_id page);

#endif
