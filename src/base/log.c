#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/thread.h"

#define LINE_MAX_BYTES 1024 /* longer lines are cut */

_Atomic int dp_log_level_max = -1; /* below every level: no sink */

static dp_mutex log_lock = { .native = PTHREAD_MUTEX_INITIALIZER }; /* guards what follows */
static dp_log_sink log_sink;
static void *log_user;

void dp_log_set_sink(dp_log_sink sink, void *user, dp_log_level level)
{
    dp_mutex_lock(&log_lock);
    log_sink = sink;
    log_user = user;
    dp_log_level_max = sink ? (int)level : -1;
    dp_mutex_unlock(&log_lock);
}

void dp_log_write(dp_log_level level, const char *module, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    va_list args;
    int size;

    va_start(args, format);
    size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (size < 0)
        return;

    /* The sink may have gone between the compare in DP_LOG and here. */
    dp_mutex_lock(&log_lock);
    if (log_sink && (int)level <= dp_log_level_max)
        log_sink(log_user, level, module, text);
    dp_mutex_unlock(&log_lock);
}
