/* drive.h - what is behind a path: file system, layers, drive.
 *
 * Room     /proc/self/mountinfo says what is mounted, /sys/dev/block what it lies on.
 *          Layers (encryption, volumes, RAID, partitions) are walked down to the
 *          drive, where the queue's settings are. Some file systems have device
 *          numbers of their own (btrfs, overlays): the mount's id finds them.
 *
 * Threads  Any.
 */
#ifndef DP_BASE_DRIVE_H
#define DP_BASE_DRIVE_H

#include "base/base.h"
#include "doppler/doctor.h"

/* What the system says of a path. */
typedef struct dp_drive_place {
    const char *path;      /* for folders that are mounted: the longest that begins it */
    uint64_t mount_id;     /* 0: not told */
    uint32_t major, minor; /* of the file system */
} dp_drive_place;

/* Mount, layers, drive. root: "" for the real /proc and /sys, or a folder that holds copies. */
void dp_drive_find(dp_drive_info *out, const char *root, const dp_drive_place *place);

/* Everything: the above, room, direct reads. DP_E_NOTFOUND, DP_E_IO. */
dp_status dp_drive_read(dp_drive_info *out, const char *path, dp_error *err);

#endif
