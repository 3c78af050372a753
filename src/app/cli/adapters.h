/* adapters.h - the adapters of a command line: --lora FILE or --lora FILE=SCALE. */
#ifndef DP_APP_CLI_ADAPTERS_H
#define DP_APP_CLI_ADAPTERS_H

#include "app/cli/mounts.h"
#include "base/str.h"
#include "doppler/adapter.h"

typedef struct dp_adapters {
    dp_str paths[DP_SESSION_ADAPTERS_MAX]; /* borrowed from the command line */
    dp_adapter_use uses[DP_SESSION_ADAPTERS_MAX];
    size_t count, open_count;
} dp_adapters;

/* All values of --lora, in order; reads no file. "a=0.5" is file a at half its scale;
 * a name that ends like that is written "a=0.5=1". DP_E_INVALID: too many, or no name. */
dp_status dp_adapters_read(dp_adapters *out, const dp_args *args, dp_error *err);
/* Opens them on the session's engine and sets them, those from elsewhere fetched first. The
 * errors of dp_mounts_fetch and dp_adapter_open. */
dp_status dp_adapters_open(dp_adapters *a, dp_mounts *mounts, dp_engine *engine,
                           dp_session *session, dp_error *err);
/* After the session was closed, before the engine is. Zeroed is fine. */
void dp_adapters_close(dp_adapters *a);

#endif
