/* heat.h - what a tier learned of its experts, as bytes, so that the next run begins with it.
 *
 * Room     Counters of every expert and what the forecast learned, with a checksum.
 *          Bytes are of this machine's order: a cache, not a document. Where they
 *          are kept is the caller's.
 *
 * Layout   magic and byte order, size, geometry, identity of the model (32 bytes); a
 *          record for each expert; the forecast's numbers; CRC-32.
 *
 * Threads  As the tier.
 */
#ifndef DP_TIER_HEAT_H
#define DP_TIER_HEAT_H

#include "base/buf.h"
#include "tier/tier.h"

#define DP_HEAT_BYTES_MAX ((size_t)256 << 20) /* 2^22 experts */

/* Appends. identity tells models apart; a tier without experts writes nothing. DP_E_NOMEM. */
dp_status dp_tier_heat_write(dp_tier *tier, uint64_t identity, dp_buf *out, dp_error *err);

/* Before the first step: the tier goes on from there. DP_E_CORRUPT, DP_E_UNSUPPORTED (another
 * model, machine or version): nothing has changed. */
dp_status dp_tier_heat_read(dp_tier *tier, uint64_t identity, const void *bytes, size_t size,
                            dp_error *err);

/* Share of the demands so far that the most wanted experts got, as many as fit into so many
 * bytes: what a cache that keeps them hits while texts stay alike. The most wanted of few
 * demands were so by chance (of 16 tokens, all that were wanted fit): each expert counts as if
 * it had been wanted eight times more. Below 0: nothing is known, or memory is short. */
double dp_tier_heat_share(dp_tier *tier, uint64_t capacity_bytes);

/* Starts loading the experts that are due first, into free room: dp_tier_warm. DP_E_NOMEM. */
dp_status dp_tier_heat_warm(dp_tier *tier, dp_error *err);

#endif
