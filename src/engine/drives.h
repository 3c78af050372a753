/* drives.h - probes of drives that a program saved, and which of them hold here and now.
 *
 * Room     A JSON document {"version": 1, "drives": [probe, ...]}, read with base/json.h;
 *          programs write it. A probe holds while machine, kernel, device, file
 *          system and the way of probing are the same. Anything wrong with the
 *          document makes it one that is not there, and is said once.
 *
 * Threads  Any.
 */
#ifndef DP_ENGINE_DRIVES_H
#define DP_ENGINE_DRIVES_H

#include "base/base.h"
#include "doppler/doctor.h"

#define DP_DRIVES_VERSION   1
#define DP_DRIVES_MAX       256               /* drives one person's machines have */
#define DP_DRIVES_BYTES_MAX ((size_t)4 << 20) /* so many probes with all their rows */

/* What a probe of the drive would hold for: machine, kernel, device, fs, version. */
void dp_drives_key(dp_drive_probe *out, const dp_drive_info *drive);

/* The last probe in bytes [size] that holds for key's; DP_E_NOTFOUND: none. DP_E_CORRUPT,
 * DP_E_UNSUPPORTED (another version), DP_E_LIMIT, DP_E_NOMEM. name: for messages. */
dp_status dp_drives_find(dp_drive_probe *out, const dp_drive_probe *key, const char *name,
                         const char *bytes, size_t size, dp_error *err);

#endif
