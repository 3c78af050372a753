/* source_join.h - two sources as one: files are told apart by their index.
 *
 * Room     A model from anywhere beside adapters from files. It keeps nothing of a read, which
 *          goes to its source as it is: the second source knows its files by the indexes
 *          that callers use (dp_source_file_config.file_first).
 */
#ifndef DP_TIER_SOURCE_JOIN_H
#define DP_TIER_SOURCE_JOIN_H

#include "tier/source.h"

/* Files below `split` are the first's, the others the second's; the parts are the first's.
 * Both are borrowed until close, which closes neither: close it first. DP_E_NOMEM. */
dp_status dp_source_join_open(dp_source **out, dp_source *first, dp_source *second, uint32_t split,
                              dp_error *err);

#endif
