/* status.h - what every call of doppler says when it does not succeed.
 *
 * dp_status is the kind, for code; dp_error.text is the where and what, for a
 * person: one sentence that names the thing, the expected and the found.
 * Pointers to dp_error may be NULL everywhere.
 */
#ifndef DOPPLER_STATUS_H
#define DOPPLER_STATUS_H

#include <stdint.h>

#if defined(__GNUC__)
#define DP_API __attribute__((visibility("default")))
#else
#define DP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dp_status {
    DP_OK = 0,
    DP_E_INVALID,     /* an argument, option or request makes no sense */
    DP_E_NOMEM,       /* the system refused memory */
    DP_E_LIMIT,       /* a named maximum would be passed */
    DP_E_BUDGET,      /* does not fit the memory it was given */
    DP_E_CORRUPT,     /* bytes from outside contradict themselves */
    DP_E_IO,          /* the system failed to read or write */
    DP_E_NOTFOUND,    /* a file, tensor or key that is not there */
    DP_E_UNSUPPORTED, /* well formed, but not something doppler can run */
    DP_E_BUSY,        /* try again later; ordinary */
    DP_E_CANCELED,    /* the caller asked to stop; ordinary */
    DP_E_TIMEOUT,     /* a deadline passed */
    DP_STATUS_COUNT
} dp_status;

#define DP_ERROR_TEXT_MAX 512 /* one sentence with two paths in it */

typedef struct dp_error {
    dp_status status;
    char text[DP_ERROR_TEXT_MAX]; /* NUL-terminated, no newline */
} dp_error;

/* Short English name of a status ("out of memory"). Never NULL. Any thread. */
DP_API const char *dp_status_text(dp_status status);

#ifdef __cplusplus
}
#endif
#endif
