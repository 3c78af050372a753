/* summary.h - the numbers of a run: one line for people, JSON keys for scripts.
 *
 * The keys are stable (docs/cli.md lists them); new ones may come.
 */
#ifndef DP_APP_CLI_SUMMARY_H
#define DP_APP_CLI_SUMMARY_H

#include <jansson.h>
#include <stdbool.h>
#include "doppler/stats.h"

#define DP_SUMMARY_LINE_MAX 512

/* Without program name and newline; writes to out. */
void dp_summary_format(char out[DP_SUMMARY_LINE_MAX], const dp_stats *stats);

/* "doppler: line" to standard error. */
void dp_summary_print(const dp_stats *stats);

/* Adds the keys to an object. False when memory is short. */
bool dp_summary_add(json_t *object, const dp_stats *stats);

#endif
