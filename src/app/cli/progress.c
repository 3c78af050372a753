#include "app/cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/str.h"

#define CELLS       20
#define REDRAW_NS   100000000u /* a tenth of a second: smooth enough, and free */
#define NS_A_SECOND 1.0e9

void dp_progress_bar_init(dp_progress_bar *bar, const char *label, const char *unit)
{
    *bar = (dp_progress_bar){ .label = label, .unit = unit, .is_shown = isatty(STDERR_FILENO) };
    bar->started_ns = dp_clock_now_ns(&dp_clock_real);
}

static void format_amount(char out[32], const char *unit, double amount)
{
    char text[16];

    if (unit)
        snprintf(out, 32, "%.0f %s", amount, unit);
    else
        snprintf(out, 32, "%s", dp_format_size(text, (uint64_t)amount));
}

void dp_progress_bar_format(char out[DP_PROGRESS_LINE_MAX], const dp_progress_bar *bar,
                            uint64_t done, uint64_t total, uint64_t elapsed_ns)
{
    double share = total ? DP_MIN((double)done / (double)total, 1.0) : 1.0;
    double rate = elapsed_ns ? (double)done / ((double)elapsed_ns / NS_A_SECOND) : 0;
    char cells[CELLS + 1], done_text[32], total_text[32], rate_text[32];
    size_t filled = (size_t)(share * CELLS);

    memset(cells, '.', CELLS);
    memset(cells, '#', filled);
    cells[CELLS] = 0;
    format_amount(done_text, bar->unit, (double)done);
    format_amount(total_text, bar->unit, (double)total);
    format_amount(rate_text, bar->unit, rate);
    snprintf(out, DP_PROGRESS_LINE_MAX, "%s [%s] %3.0f%%  %s of %s, %s/s", bar->label, cells,
             share * 100, done_text, total_text, rate_text);
}

void dp_progress_bar_update(dp_progress_bar *bar, uint64_t done, uint64_t total)
{
    char line[DP_PROGRESS_LINE_MAX];
    uint64_t now_ns;

    if (!bar->is_shown)
        return;
    now_ns = dp_clock_now_ns(&dp_clock_real);
    if (bar->is_drawn && done < total && now_ns - bar->drawn_ns < REDRAW_NS)
        return;
    dp_progress_bar_format(line, bar, done, total, now_ns - bar->started_ns);
    fprintf(stderr, "\r%s\033[K", line); /* K: clear what a longer line left */
    bar->is_drawn = true;
    bar->drawn_ns = now_ns;
}

void dp_progress_bar_deinit(dp_progress_bar *bar)
{
    if (bar->is_drawn)
        fputs("\r\033[K", stderr);
    bar->is_drawn = false;
}
