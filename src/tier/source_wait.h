/* source_wait.h - a read from a source that waits for its bytes.
 *
 * Room     For headers and other small things, before a tier runs. The tier itself never
 *          waits for one read: it has many under way.
 */
#ifndef DP_TIER_SOURCE_WAIT_H
#define DP_TIER_SOURCE_WAIT_H

#include <stdatomic.h>

#include "tier/source.h"

#define DP_SOURCE_WAIT_LOOK_NS ((uint64_t)50 * 1000000) /* how often *cancel is looked at */

/* Exactly `size` bytes at `offset` of a file. As many again are taken for the time of the
 * call. cancel: NULL or a flag that ends the waiting with DP_E_CANCELED, once the source has
 * let go of the read. DP_E_NOMEM, and what the source says. Any thread but the source's. */
dp_status dp_source_wait_read(dp_source *s, uint32_t file_index, uint64_t offset, void *out,
                              size_t size, const atomic_bool *cancel, dp_error *err);

#endif
