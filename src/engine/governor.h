/* governor.h - how much of its budget an engine may use while others need memory too.
 *
 * Room     A pure rule over samples of the system: what is free beside us, how long
 *          tasks waited for memory, what we hold. It lowers the target before the
 *          kernel has to take memory away, fast, and raises it again slowly once
 *          there has been room for a while. Who samples, and who carries it out,
 *          is resize.c.
 *
 * Reserve  is left to the system. Less than half of it free: the target falls until
 *          all of it is free again. More than half again as much for CALM_NS: the
 *          target rises by a quarter of the surplus at each sample.
 *
 * Stalls   Tasks may wait for memory that we cannot give: in a group of their own, or for
 *          pages of files. They count only while room is short of that "half again as
 *          much", and lower the target once a STALL_NS.
 */
#ifndef DP_ENGINE_GOVERNOR_H
#define DP_ENGINE_GOVERNOR_H

#include "base/base.h"

#define DP_GOVERNOR_PERIOD_NS ((uint64_t)100 * 1000000)
#define DP_GOVERNOR_CALM_NS   ((uint64_t)2 * 1000000000)
#define DP_GOVERNOR_STALL_NS  ((uint64_t)1 * 1000000000)

typedef struct dp_governor {
    uint64_t ceiling_bytes; /* the budget as given */
    uint64_t floor_bytes;   /* the least that runs */
    uint64_t reserve_bytes;
    uint64_t target_bytes;
    uint64_t last_ns, last_stall_us; /* of the last sample; 0: none yet */
    uint64_t tight_ns;               /* when it was last lowered */
} dp_governor;

typedef struct dp_governor_sample {
    uint64_t now_ns;
    uint64_t room_bytes; /* could be taken beside what is */
    uint64_t stall_us;   /* tasks have waited for memory so long, from any beginning */
    uint64_t held_bytes; /* of the budget, by us */
} dp_governor_sample;

void dp_governor_init(dp_governor *g, uint64_t ceiling_bytes, uint64_t floor_bytes,
                      uint64_t reserve_bytes);
/* The new target, floor <= target <= ceiling. */
uint64_t dp_governor_decide(dp_governor *g, const dp_governor_sample *sample);

#endif
