/* buf.h - growable bytes with a named maximum; always NUL-terminated behind the end.
 *
 * Threads  One at a time. */
#ifndef DP_BASE_BUF_H
#define DP_BASE_BUF_H

#include "base/base.h"
#include "doppler/status.h"

typedef struct dp_buf {
    char *bytes; /* NULL while nothing was added */
    size_t size;
    size_t capacity;
    size_t size_max; /* appending past it is DP_E_LIMIT */
} dp_buf;

void dp_buf_init(dp_buf *buf, size_t size_max);
void dp_buf_deinit(dp_buf *buf);
void dp_buf_reset(dp_buf *buf); /* empty again, memory kept */

/* Room for `more` further bytes. DP_E_LIMIT, DP_E_NOMEM: unchanged. */
dp_status dp_buf_reserve(dp_buf *buf, size_t more);
dp_status dp_buf_append(dp_buf *buf, const void *bytes, size_t size);
dp_status dp_buf_text(dp_buf *buf, const char *text); /* NUL-terminated */
dp_status dp_buf_format(dp_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
