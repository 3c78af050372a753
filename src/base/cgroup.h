/* cgroup.h - what control groups allow this process. Linux only; others report none.
 *
 * Room     Containers limit memory and processor time by groups that form a
 *          tree; every group on the way up limits what is below it. Version 1
 *          has a tree a resource, version 2 one tree for all, and systems mix
 *          them: all that are there are read. A container often shows a path in
 *          /proc/self/cgroup that it cannot see; its own group is then the root
 *          of what is mounted, which the way up ends at.
 *
 * Threads  Any.
 */
#ifndef DP_BASE_CGROUP_H
#define DP_BASE_CGROUP_H

#include "base/base.h"

typedef struct dp_cgroup_memory {
    uint64_t limit_bytes; /* of the group on the way up with the least room; UINT64_MAX: none */
    uint64_t used_bytes;  /* in that group, without file pages that can go */
    uint64_t stall_us;    /* tasks waited for memory so far, of the group where most did
                             (version 2, pressure stall information) */
} dp_cgroup_memory;

/* root: "" for the real /proc and /sys, or a folder that holds copies. */
void dp_cgroup_read_memory(dp_cgroup_memory *out, const char *root);

/* Processors' worth of time, rounded up; UINT32_MAX: no quota. At least 1. */
uint32_t dp_cgroup_read_cpu_quota(const char *root);

/* Microseconds behind "some ... total=" of a memory.pressure text; 0: none. */
uint64_t dp_cgroup_stall_us(const char *text);

/* A small file of the system, such as those in /proc and /sys, for rooms beside
 * this one. Reads root + path, cut at size - 1, NUL behind it; false when it
 * cannot be read. */
bool dp_cgroup_read_text(char *out, size_t size, const char *root, const char *path);

/* The number behind `key` at the start of a line ("MemTotal:   12 kB" -> 12). */
bool dp_cgroup_find_u64(uint64_t *out, const char *text, const char *key);

#endif
