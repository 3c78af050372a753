/* percent.h - bytes written as %HH in the targets of requests. Any thread. RFC 3986, 2.1. */
#ifndef DP_SWARM_PERCENT_H
#define DP_SWARM_PERCENT_H

#include "base/buf.h"

/* The byte at *at (not its end), decoded, and *at behind it. False: '%' without two hex
 * digits. '+' stands for itself. */
bool dp_percent_next(const char **at, char *out);
/* Appends the path with all but letters, digits and -._~/ written as %HH. DP_E_LIMIT,
 * DP_E_NOMEM. */
dp_status dp_percent_append(dp_buf *out, const char *path);

#endif
