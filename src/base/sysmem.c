#include "base/sysmem.h"

#include "base/cgroup.h"

#define TEXT_BYTES 8192 /* /proc/meminfo has about 1.5 KiB, /proc/self/status as much */

/* The value of a line "key   123 kB" in bytes, 0 when it is not there. */
static uint64_t kib_of(const char *text, const char *key)
{
    uint64_t kib;

    if (!dp_cgroup_find_u64(&kib, text, key) || kib > UINT64_MAX / DP_KIB)
        return 0;
    return kib * DP_KIB;
}

void dp_sysmem_read(dp_sysmem *out, const char *root)
{
    char text[TEXT_BYTES];
    dp_cgroup_memory group;

    dp_cgroup_read_memory(&group, root);
    *out = (dp_sysmem){ .cgroup_limit_bytes = group.limit_bytes,
                        .cgroup_used_bytes = group.used_bytes,
                        .stall_us = group.stall_us };
    if (dp_cgroup_read_text(text, sizeof text, root, "/proc/pressure/memory"))
        out->stall_us = DP_MAX(out->stall_us, dp_cgroup_stall_us(text));
    if (!dp_cgroup_read_text(text, sizeof text, root, "/proc/meminfo"))
        return;
    out->total_bytes = kib_of(text, "MemTotal:");
    out->available_bytes = kib_of(text, "MemAvailable:");
}

uint64_t dp_sysmem_room(const dp_sysmem *memory)
{
    uint64_t room = memory->available_bytes ? memory->available_bytes : memory->total_bytes / 2;
    uint64_t used = DP_MIN(memory->cgroup_used_bytes, memory->cgroup_limit_bytes);

    if (memory->cgroup_limit_bytes == UINT64_MAX)
        return room;
    return DP_MIN(room, memory->cgroup_limit_bytes - used);
}

static uint64_t status_bytes(const char *key)
{
    char text[TEXT_BYTES];

    if (!dp_cgroup_read_text(text, sizeof text, "", "/proc/self/status"))
        return 0;
    return kib_of(text, key);
}

uint64_t dp_sysmem_peak_bytes(void)
{
    return status_bytes("VmHWM:");
}

uint64_t dp_sysmem_resident_bytes(void)
{
    return status_bytes("VmRSS:");
}
