/* Saved probes: whatever the bytes, an answer and nothing leaked; what is found can be used. */
#include "engine/drives.h"
#include "fuzz.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const dp_drive_probe key = { "m", "k", "d", "ext4", 2 };
    dp_drive_probe found;
    dp_error err;
    dp_status st = dp_drives_find(&found, &key, "input", (const char *)data, size, &err);

    if (!st && (found.best.depth == 0 || found.best.request_bytes == 0 ||
                found.latency_count > DP_PROBE_SIZES_MAX))
        abort();
    if (st && (found.best.depth || err.text[0] == 0))
        abort();
    return 0;
}
