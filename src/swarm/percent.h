/* percent.h - bytes written as %HH in the targets of requests. Any thread. RFC 3986, 2.1. */
#ifndef DP_SWARM_PERCENT_H
#define DP_SWARM_PERCENT_H

#include "base/base.h"

/* The byte at *at (not its end), decoded, and *at behind it. False: '%' without two hex
 * digits. '+' stands for itself. */
bool dp_percent_next(const char **at, char *out);

#endif
