/* sysmem.h - how much memory there is for us, and how much we took. */
#ifndef DP_BASE_SYSMEM_H
#define DP_BASE_SYSMEM_H

#include "base/base.h"

typedef struct dp_sysmem {
    uint64_t total_bytes;
    uint64_t available_bytes;    /* MemAvailable */
    uint64_t cgroup_limit_bytes; /* of the group on the way up, v1 or v2, with the least room;
                                    UINT64_MAX: none */
    uint64_t cgroup_used_bytes;  /* in that group, without its page cache */
    uint64_t stall_us;           /* tasks have waited for memory so long since some time: its
                                    growth is pressure (system or cgroup, where more is known) */
} dp_sysmem;

/* Unknown numbers are UINT64_MAX (limits) or 0. root: "" for the real /proc and
 * /sys, or a folder that holds copies (tests). */
void dp_sysmem_read(dp_sysmem *out, const char *root);

/* What could be taken beside what is: the least of available memory and the cgroup's
 * room; half of the machine, a careful guess, where neither is told. */
uint64_t dp_sysmem_room(const dp_sysmem *memory);

uint64_t dp_sysmem_peak_bytes(void);     /* most resident memory of this process so far */
uint64_t dp_sysmem_resident_bytes(void); /* now */

#endif
