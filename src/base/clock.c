#include "base/clock.h"

#include <time.h>

static uint64_t real_now_ns(const dp_clock *clock)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int64_t dp_clock_wall_s(void)
{
    time_t now = time(NULL);
    struct tm local;

    if (now < 0 || !localtime_r(&now, &local))
        return 0;
    return (int64_t)now + local.tm_gmtoff;
}

int64_t dp_clock_unix_s(void)
{
    return (int64_t)time(NULL);
}

static uint64_t virtual_now_ns(const dp_clock *clock)
{
    return clock->virtual_ns;
}

const dp_clock dp_clock_real = { real_now_ns, 0 };

void dp_clock_init_virtual(dp_clock *clock)
{
    *clock = (dp_clock){ virtual_now_ns, 0 };
}
