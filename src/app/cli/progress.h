/* progress.h - one line on a terminal that says how far a long work is.
 *
 * Drawn on standard error, and only when that is a terminal: a log or a pipe
 * never sees it. Drawn at most ten times a second; gone when the work ends.
 */
#ifndef DP_APP_CLI_PROGRESS_H
#define DP_APP_CLI_PROGRESS_H

#include "base/base.h"

typedef struct dp_progress_bar {
    const char *label; /* "loading"; borrowed */
    const char *unit;  /* "tok", or NULL: bytes */
    bool is_shown;
    bool is_drawn;
    uint64_t started_ns, drawn_ns;
} dp_progress_bar;

void dp_progress_bar_init(dp_progress_bar *bar, const char *label, const char *unit);
void dp_progress_bar_update(dp_progress_bar *bar, uint64_t done, uint64_t total);
void dp_progress_bar_deinit(dp_progress_bar *bar); /* wipes the line */

#define DP_PROGRESS_LINE_MAX 160

/* The line itself, without control characters: "loading [####....]  41%  3.28 GiB of
 * 8.00 GiB, 1.20 GiB/s". Writes to out. */
void dp_progress_bar_format(char out[DP_PROGRESS_LINE_MAX], const dp_progress_bar *bar,
                            uint64_t done, uint64_t total, uint64_t elapsed_ns);

#endif
