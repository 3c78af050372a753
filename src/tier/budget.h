/* budget.h - bytes promised under one limit, before they are taken.
 *
 * Room     One account for weights, keys and values, buffers and tables. Each
 *          promise names what it is for, so that a refusal can say which number
 *          to change and a report where memory went.
 *
 * Threads  Any.
 */
#ifndef DP_TIER_BUDGET_H
#define DP_TIER_BUDGET_H

#include "base/sysmem.h"
#include "base/thread.h"

typedef enum dp_budget_use {
    DP_BUDGET_TABLES,
    DP_BUDGET_KV,
    DP_BUDGET_BUFFERS,
    DP_BUDGET_WEIGHTS,
    DP_BUDGET_USE_COUNT
} dp_budget_use;

typedef struct dp_budget {
    dp_mutex lock; /* guards all below; taken last */
    uint64_t limit_bytes;
    uint64_t promised_bytes[DP_BUDGET_USE_COUNT];
} dp_budget;

void dp_budget_init(dp_budget *budget, uint64_t limit_bytes);
void dp_budget_deinit(dp_budget *budget);
/* DP_E_BUDGET with a sentence naming the use, what it needs, what is left of
 * what: nothing promised then. */
dp_status dp_budget_promise(dp_budget *budget, dp_budget_use use, uint64_t bytes, dp_error *err);
void dp_budget_return(dp_budget *budget, dp_budget_use use, uint64_t bytes);
uint64_t dp_budget_left(dp_budget *budget);
const char *dp_budget_use_text(dp_budget_use use); /* "keys and values (--ctx)" */

/* How much memory a run may take when the person says "auto": the least of
 * available memory and cgroup room, less a reserve that *reserve_bytes states: a
 * tenth, at least 512 MiB or a quarter, whichever is less, and never under 48 MiB. */
uint64_t dp_budget_auto(uint64_t *reserve_bytes);
uint64_t dp_budget_auto_from(const dp_sysmem *memory, uint64_t *reserve_bytes); /* pure */

#endif
