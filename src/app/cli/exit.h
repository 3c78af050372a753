/* exit.h - what the program says when it ends: one sentence and one number.
 *
 * The numbers are a promise to scripts (docs/cli.md); dp_exit_code is the only
 * place that makes them from a status.
 */
#ifndef DP_APP_CLI_EXIT_H
#define DP_APP_CLI_EXIT_H

#include "app/common/args.h"

enum {
    DP_EXIT_OK = 0,
    DP_EXIT_FAILED = 1,
    DP_EXIT_USAGE = 2,
    DP_EXIT_NOTFOUND = 3,
    DP_EXIT_CORRUPT = 4,
    DP_EXIT_UNSUPPORTED = 5,
    DP_EXIT_MEMORY = 6,
    DP_EXIT_IO = 7,
    DP_EXIT_INTERRUPTED = 130, /* as a shell shows a program ended by SIGINT ... */
    DP_EXIT_READER_GONE = 141  /* ... and by SIGPIPE */
};

#define DP_EXIT_COUNT 10
extern const dp_args_exit dp_exit_table[DP_EXIT_COUNT]; /* code -> meaning, for help texts */

int dp_exit_code(dp_status status);

/* Prints "doppler: sentence" to standard error (nothing for DP_OK and
 * DP_E_CANCELED) and returns the code. */
int dp_exit_report(dp_status status, const dp_error *err);

#endif
