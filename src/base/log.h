/* log.h - one event a line, `key=value`, units in the key; no prompt text, no keys.
 *
 * Libraries log to one sink; without a sink nothing is printed. Any thread. */
#ifndef DP_BASE_LOG_H
#define DP_BASE_LOG_H

#include "base/base.h"

typedef enum dp_log_level {
    DP_LOG_LEVEL_ERROR,
    DP_LOG_LEVEL_WARN,
    DP_LOG_LEVEL_INFO,
    DP_LOG_LEVEL_DEBUG
} dp_log_level;

typedef void (*dp_log_sink)(void *user, dp_log_level level, const char *module, const char *text);

/* Lines up to `level` go to sink (NULL: nowhere). Called under a lock. */
void dp_log_set_sink(dp_log_sink sink, void *user, dp_log_level level);
void dp_log_write(dp_log_level level, const char *module, const char *format, ...) DP_PRINTF(3, 4);
extern _Atomic int dp_log_level_max; /* so that a disabled line costs one compare */

#define DP_LOG(level, module, ...)                                                                 \
    ((int)(level) <= dp_log_level_max ? dp_log_write(level, module, __VA_ARGS__) : (void)0)
#define DP_LOG_WARN(module, ...)  DP_LOG(DP_LOG_LEVEL_WARN, module, __VA_ARGS__)
#define DP_LOG_INFO(module, ...)  DP_LOG(DP_LOG_LEVEL_INFO, module, __VA_ARGS__)
#define DP_LOG_DEBUG(module, ...) DP_LOG(DP_LOG_LEVEL_DEBUG, module, __VA_ARGS__)

#endif
