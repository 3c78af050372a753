#include "base/fault.h"

#include <stdatomic.h>

#include "base/assert.h"

_Atomic int dp_fault_is_armed[DP_FAULT_COUNT];

static struct {
    _Atomic uint64_t visit_count; /* since arming */
    _Atomic uint64_t first;
    _Atomic uint64_t run;
    _Atomic uint64_t failed_count;
    _Atomic int error;
    _Atomic uint64_t done;
} points[DP_FAULT_COUNT];

bool dp_fault_visit_armed(dp_fault point)
{
    uint64_t visit = atomic_fetch_add(&points[point].visit_count, 1);
    uint64_t first = points[point].first;

    if (visit < first || visit - first >= points[point].run)
        return false;
    atomic_fetch_add(&points[point].failed_count, 1);
    return true;
}

void dp_fault_arm(dp_fault point, uint64_t first, uint64_t run)
{
    DP_CHECK((unsigned)point < DP_FAULT_COUNT);
    points[point].visit_count = 0;
    points[point].failed_count = 0;
    points[point].first = first;
    points[point].run = run;
    dp_fault_is_armed[point] = 1;
}

void dp_fault_set_kind(dp_fault point, int error, uint64_t done)
{
    DP_CHECK((unsigned)point < DP_FAULT_COUNT);
    points[point].error = error;
    points[point].done = done;
}

int dp_fault_error(dp_fault point, int otherwise)
{
    int error = points[point].error;

    return error ? error : otherwise;
}

uint64_t dp_fault_done(dp_fault point)
{
    return atomic_exchange(&points[point].done, 0);
}

uint64_t dp_fault_disarm(dp_fault point)
{
    DP_CHECK((unsigned)point < DP_FAULT_COUNT);
    dp_fault_is_armed[point] = 0;
    points[point].error = 0;
    points[point].done = 0;
    return points[point].failed_count;
}
