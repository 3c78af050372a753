/* stops.h - the stop strings of a command line. */
#ifndef DP_APP_CLI_STOPS_H
#define DP_APP_CLI_STOPS_H

#include "app/common/args.h"
#include "doppler/session.h"

/* All values of --stop, borrowed. DP_E_INVALID: too many, too long, or empty (it
 * would end every text before it began). */
dp_status dp_stops_read(const char *stops[DP_STOPS_MAX], size_t *count, const dp_args *args,
                        dp_error *err);

#endif
