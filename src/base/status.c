#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const status_texts[] = {
    [DP_OK] = "ok",
    [DP_E_INVALID] = "invalid argument",
    [DP_E_NOMEM] = "out of memory",
    [DP_E_LIMIT] = "limit passed",
    [DP_E_BUDGET] = "does not fit the memory budget",
    [DP_E_CORRUPT] = "corrupt data",
    [DP_E_IO] = "input or output failed",
    [DP_E_NOTFOUND] = "not found",
    [DP_E_UNSUPPORTED] = "not supported",
    [DP_E_BUSY] = "busy",
    [DP_E_CANCELED] = "canceled",
    [DP_E_TIMEOUT] = "timed out",
};
_Static_assert(DP_ARRAY_LEN(status_texts) == DP_STATUS_COUNT, "a status has no text");

const char *dp_status_text(dp_status status)
{
    if ((unsigned)status >= DP_STATUS_COUNT)
        return "unknown status";
    return status_texts[status];
}

/* Names from files reach error texts: a newline in one must not split a line of
 * a log, nor a control byte reach a terminal. */
static void mask_controls(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

dp_status(dp_fail)(dp_error *err, dp_status status, const char *format, ...)
{
    va_list args;

    if (!err)
        return status;
    err->status = status;
    va_start(args, format);
    if (vsnprintf(err->text, sizeof err->text, format, args) < 0)
        snprintf(err->text, sizeof err->text, "%s", dp_status_text(status));
    va_end(args);
    mask_controls(err->text);
    return status;
}

dp_status(dp_fail_errno)(dp_error *err, dp_status status, int errnum, const char *format, ...)
{
    char system_text[128];
    const char *reason;
    va_list args;
    int used;

    if (errnum == ENOMEM)
        status = DP_E_NOMEM;
    else if (errnum == ENOENT)
        status = DP_E_NOTFOUND;
    if (!err)
        return status;
    err->status = status;
    va_start(args, format);
    used = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (used < 0)
        used = 0;

    /* A sentence that fills the text is cut, and the reason with it. */
    reason = strerror_r(errnum, system_text, sizeof system_text);
    if ((size_t)used < sizeof err->text)
        snprintf(err->text + used, sizeof err->text - (size_t)used, ": %s", reason);
    mask_controls(err->text);
    return status;
}
