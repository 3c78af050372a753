/* watch.h - what is learned of a run's demands beside it: trace, shadow caches, heat.
 *
 * Room     Hears every demand for experts (the tier's observer) and every step, and
 *          passes them on: to the trace file, to the shadows that choose the policy
 *          (--policy auto), to the file that keeps heat for the next run. While all
 *          weights fit, only a trace listens.
 *
 * Order    open with the model's tables, so that its memory is counted among them;
 *          start once the budget is divided; step before each step; close before the tier.
 *
 * Never    a failure of a step: what cannot be kept or written is warned of once.
 *
 * Threads  The step thread.
 */
#ifndef DP_ENGINE_WATCH_H
#define DP_ENGINE_WATCH_H

#include "engine/options.h"
#include "model/model.h"
#include "tier/shadow.h"

#define DP_WATCH_SAVE_NS ((uint64_t)30 * 1000000000) /* what a killed run forgets */

typedef struct dp_watch dp_watch;

/* identity tells this model's heat from that of others. */
dp_status dp_watch_open(dp_watch **out, const dp_model *model, dp_tier *tier, uint64_t identity,
                        const dp_options *options, const dp_clock *clock, dp_error *err);
/* Fails only where the trace file cannot be made. */
dp_status dp_watch_start(dp_watch *watch, uint64_t model_bytes, dp_error *err);
void dp_watch_step(dp_watch *watch, uint32_t tokens, bool starts_text);
void dp_watch_close(dp_watch *watch); /* NULL is fine */

/* For reports. shadow: NULL, none follows the run. */
const dp_shadow *dp_watch_shadow(const dp_watch *watch);
const dp_policy *dp_watch_policy(const dp_watch *watch);
bool dp_watch_is_auto(const dp_watch *watch);
/* Share of demands that the kept heat says so many bytes of the most wanted experts get
 * (tier/heat.h); below 0: none is kept. Before start. */
double dp_watch_heat_share(dp_watch *watch, uint64_t capacity_bytes);
const char *dp_watch_heat(const dp_watch *watch);     /* "off", "new", "restored" */
uint64_t dp_watch_cache_bytes(const dp_watch *watch); /* that experts share */
bool dp_watch_is_contended(const dp_watch *watch);
uint64_t dp_watch_expert_bytes(const dp_watch *watch); /* of all experts */

#endif
