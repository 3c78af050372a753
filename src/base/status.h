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

#endif
