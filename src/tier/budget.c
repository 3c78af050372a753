#include "tier/budget.h"

#include "base/assert.h"
#include "base/status.h"
#include "base/str.h"
#include "base/sysmem.h"

/* What "auto" leaves alone: a tenth, but a desktop stays usable (512 MiB), and a small
 * container keeps a quarter, never less than code, libraries and the kernel's share
 * of the group take. */
#define RESERVE_DESKTOP ((uint64_t)512 << 20)
#define RESERVE_LEAST   ((uint64_t)48 << 20)

void dp_budget_init(dp_budget *budget, uint64_t limit_bytes)
{
    *budget = (dp_budget){ .limit_bytes = limit_bytes };
    dp_mutex_init(&budget->lock);
}

void dp_budget_deinit(dp_budget *budget)
{
    dp_mutex_deinit(&budget->lock);
}

/* Caller holds budget->lock. Promises never pass the limit, so the sum fits. */
static uint64_t left_locked(const dp_budget *budget)
{
    uint64_t left = budget->limit_bytes;

    for (int use = 0; use < DP_BUDGET_USE_COUNT; use++)
        left -= budget->promised_bytes[use];
    return left;
}

dp_status dp_budget_promise(dp_budget *budget, dp_budget_use use, uint64_t bytes, dp_error *err)
{
    uint64_t left;
    bool is_promised;

    dp_mutex_lock(&budget->lock);
    left = left_locked(budget);
    is_promised = bytes <= left;
    if (is_promised)
        budget->promised_bytes[use] += bytes;
    dp_mutex_unlock(&budget->lock);
    if (!is_promised) {
        char need[16];
        char rest[16];
        char limit[16];
        return dp_fail(err, DP_E_BUDGET, "%s need %s, but %s of %s is left: allow more (--ram)",
                       dp_budget_use_text(use), dp_format_size(need, bytes),
                       dp_format_size(rest, left), dp_format_size(limit, budget->limit_bytes));
    }
    return DP_OK;
}

void dp_budget_return(dp_budget *budget, dp_budget_use use, uint64_t bytes)
{
    dp_mutex_lock(&budget->lock);
    DP_CHECK(bytes <= budget->promised_bytes[use]);
    budget->promised_bytes[use] -= bytes;
    dp_mutex_unlock(&budget->lock);
}

uint64_t dp_budget_left(dp_budget *budget)
{
    uint64_t left;

    dp_mutex_lock(&budget->lock);
    left = left_locked(budget);
    dp_mutex_unlock(&budget->lock);
    return left;
}

const char *dp_budget_use_text(dp_budget_use use)
{
    static const char *const texts[DP_BUDGET_USE_COUNT] = {
        [DP_BUDGET_TABLES] = "tables",
        [DP_BUDGET_KV] = "keys and values (--ctx)",
        [DP_BUDGET_BUFFERS] = "buffers (--batch)",
        [DP_BUDGET_WEIGHTS] = "weights",
    };

    return (unsigned)use < DP_BUDGET_USE_COUNT ? texts[use] : "memory";
}

uint64_t dp_budget_auto_from(const dp_sysmem *memory, uint64_t *reserve_bytes)
{
    uint64_t room = dp_sysmem_room(memory);

    *reserve_bytes = DP_MAX(RESERVE_LEAST, DP_MIN(RESERVE_DESKTOP, room / 4));
    *reserve_bytes = DP_MAX(*reserve_bytes, room / 10);
    return room > *reserve_bytes ? room - *reserve_bytes : 0;
}

uint64_t dp_budget_auto(uint64_t *reserve_bytes)
{
    dp_sysmem memory;

    dp_sysmem_read(&memory, "");
    return dp_budget_auto_from(&memory, reserve_bytes);
}
