#include "app/cli/stops.h"

#include <string.h>
#include "base/status.h"

dp_status dp_stops_read(const char *stops[DP_STOPS_MAX], size_t *count, const dp_args *args,
                        dp_error *err)
{
    const char *text;
    size_t at = 0;

    *count = 0;
    while ((text = dp_args_next(args, "stop", &at))) {
        if (*count == DP_STOPS_MAX)
            return dp_fail(err, DP_E_INVALID, "%s: more than %d stop texts", args->command->name,
                           DP_STOPS_MAX);
        if (!text[0] || strlen(text) > DP_STOP_BYTES_MAX)
            return dp_fail(err, DP_E_INVALID, "%s: --stop takes 1 to %d bytes, not %zu",
                           args->command->name, DP_STOP_BYTES_MAX, strlen(text));
        stops[(*count)++] = text;
    }
    return DP_OK;
}
