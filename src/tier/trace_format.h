/* trace_format.h - numbers of the trace format, shared by trace_encode.c and trace_parse.c.
 * Described in docs/formats/trace.md. */
#ifndef DP_TIER_TRACE_FORMAT_H
#define DP_TIER_TRACE_FORMAT_H

#include "base/base.h"

#define TRACE_MAGIC       "DPTRACE1"
#define TRACE_MAGIC_BYTES 8
#define TRACE_FIXED_BYTES 48 /* of the header before page_bytes[] */
#define TRACE_CRC_BYTES   4
#define TRACE_FLAG_HITS   1u

#define BLOCK_MAGIC      0x50455453u /* "STEP" */
#define BLOCK_HEAD_BYTES 16

#define STEP_ONE_TOKEN   1u /* else the count follows as u16 */
#define STEP_STARTS_TEXT 2u
#define STEP_UNIFORM     4u /* every layer that has experts, in order, wants expert_used */
#define STEP_FLAGS       7u

static inline uint32_t id_bytes(uint32_t expert_count)
{
    return expert_count <= 256 ? 1 : 2;
}

static inline uint32_t bit_bytes(bool has_hits, uint32_t count)
{
    return has_hits ? (count + 7) / 8 : 0;
}

#endif
