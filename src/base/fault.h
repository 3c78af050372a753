/* fault.h - named points where tests make things fail.
 *
 * A point counts its visits. A test arms "fail visit n, and `run` more" and
 * sweeps n until the operation gets through. Unarmed, a visit costs one relaxed
 * load. Any thread; arming is for tests with no other test running.
 */
#ifndef DP_BASE_FAULT_H
#define DP_BASE_FAULT_H

#include <stdatomic.h>
#include "base/base.h"

typedef enum dp_fault {
    DP_FAULT_MEM,
    DP_FAULT_READ,
    DP_FAULT_WRITE,
    DP_FAULT_AIO_READ,
    DP_FAULT_AIO_SHORT,
    DP_FAULT_THREAD,
    DP_FAULT_PUNCH,
    DP_FAULT_SYNC,
    DP_FAULT_POWER, /* every change of a file or folder, of whatever kind (file_rw.h, folder.h) */
    DP_FAULT_COUNT
} dp_fault;

extern _Atomic int dp_fault_is_armed[DP_FAULT_COUNT];
bool dp_fault_visit_armed(dp_fault point);

/* True when the caller must fail now. */
static inline bool dp_fault_visit(dp_fault point)
{
    int is_armed = atomic_load_explicit(&dp_fault_is_armed[point], memory_order_relaxed);
    return __builtin_expect(is_armed, 0) && dp_fault_visit_armed(point);
}

/* Visits first .. first + run - 1 from now (0 is the next) fail. */
void dp_fault_arm(dp_fault point, uint64_t first, uint64_t run);
/* How visits of an armed point fail, where the point heeds it: with this errno (0: the point's
 * own), after `done` bytes were done all the same (a torn write): those of the first visit that
 * fails alone. Until it is disarmed. */
void dp_fault_set_kind(dp_fault point, int error, uint64_t done);
int dp_fault_error(dp_fault point, int otherwise);
uint64_t dp_fault_done(dp_fault point);
/* Ends it; returns how many visits failed. */
uint64_t dp_fault_disarm(dp_fault point);

#endif
