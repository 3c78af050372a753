/* osinfo.h - settings of the system that matter to a program that lives by memory. */
#ifndef DP_BASE_OSINFO_H
#define DP_BASE_OSINFO_H

#include "base/base.h"

typedef struct dp_osinfo {
    char machine_id[64]; /* of this installation; "" when it has none */
    char kernel[64];     /* release */
    uint64_t swap_bytes, swap_free_bytes;
    char overcommit[16]; /* "heuristic", "always", "never" */
    char huge_pages[16]; /* of anonymous memory: "always", "madvise", "never" */
    bool has_pressure;   /* pressure stall information */
} dp_osinfo;

/* root: "" for the real /proc, /sys and /etc, or a folder that holds copies. What is not
 * told is 0 or "". Any thread. */
void dp_osinfo_read(dp_osinfo *out, const char *root);

#endif
