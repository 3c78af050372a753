/* status.h - raising errors. The types are public: doppler/status.h. */
#ifndef DP_BASE_STATUS_H
#define DP_BASE_STATUS_H

#include "base/base.h"
#include "doppler/status.h"

/* Fills *err (NULL is fine) with the status and the formatted sentence, cut at
 * DP_ERROR_TEXT_MAX, and returns status. Any thread. */
dp_status dp_fail(dp_error *err, dp_status status, const char *format, ...) DP_PRINTF(3, 4);

/* As dp_fail, with ": " and the system's text for errnum at the end. ENOMEM
 * becomes DP_E_NOMEM, ENOENT DP_E_NOTFOUND, everything else `status`. */
dp_status dp_fail_errno(dp_error *err, dp_status status, int errnum, const char *format, ...)
    DP_PRINTF(4, 5);

/* Both return something else than DP_OK. Saying so where the compiler sees it
 * spares every caller a false "may be used uninitialized" about the outputs of
 * a function that returned a failure. */
static inline dp_status dp_failure(dp_status status)
{
    return status ? status : DP_E_INVALID;
}

#define dp_fail(err, status, ...) dp_failure((dp_fail)(err, status, __VA_ARGS__))
#define dp_fail_errno(err, status, errnum, ...)                                                    \
    dp_failure((dp_fail_errno)(err, status, errnum, __VA_ARGS__))

#endif
