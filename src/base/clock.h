/* clock.h - time as a parameter: the real clock, or one that tests turn by hand. */
#ifndef DP_BASE_CLOCK_H
#define DP_BASE_CLOCK_H

#include "base/base.h"

typedef struct dp_clock {
    uint64_t (*now_ns)(const struct dp_clock *clock); /* monotonic */
    uint64_t virtual_ns;                              /* of a virtual clock; tests write it */
} dp_clock;

/* What a clock on the wall shows here and now, as seconds since 1970 would be in UTC. */
int64_t dp_clock_wall_s(void);
/* Seconds since 1970 in UTC. */
int64_t dp_clock_unix_s(void);

extern const dp_clock dp_clock_real;
void dp_clock_init_virtual(dp_clock *clock);

static inline uint64_t dp_clock_now_ns(const dp_clock *clock)
{
    return clock->now_ns(clock);
}

#endif
