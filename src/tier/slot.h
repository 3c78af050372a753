/* slot.h - host memory that holds one page at a time, counted to the byte.
 *
 * Room     A slot is a mapped region. Mapping one costs page faults and zeroing,
 *          so a freed slot is kept and handed to the next page of about its
 *          size. Kept slots count as taken; a page of another size that needs
 *          their bytes gets the nearest one resized: only what that lacks is
 *          mapped anew.
 *
 * Invariant  used_bytes + kept_bytes <= budget_bytes after every acquire. Only a
 *          smaller budget can be passed, until enough slots are released.
 *
 * Threads  One at a time (the tier's lock).
 */
#ifndef DP_TIER_SLOT_H
#define DP_TIER_SLOT_H

#include "base/base.h"
#include "doppler/status.h"

#define DP_SLOT_ALIGN    ((uint64_t)4096) /* of addresses and capacities: a sector, a memory page */
#define DP_SLOT_KEPT_MAX 64 /* pages leave about one at a time; a search must stay short */

typedef struct dp_slot {
    uint8_t *bytes; /* [capacity], aligned to DP_SLOT_ALIGN */
    uint64_t capacity;
    struct dp_slot *_next; /* of the kept */
} dp_slot;

typedef struct dp_slots {
    uint64_t budget_bytes;
    uint64_t used_bytes;
    uint64_t kept_bytes;
    uint64_t bytes_max; /* high-water mark of used + kept */
    uint32_t kept_count;
    dp_slot *_kept; /* last freed first */
} dp_slots;

void dp_slots_init(dp_slots *slots, uint64_t budget_bytes);
void dp_slots_deinit(dp_slots *slots); /* every slot was released */

/* A slot of at least `size` bytes, size > 0: a kept one of up to size + slack, else a
 * one of exactly size (rounded up to DP_SLOT_ALIGN): new while there is room beside the
 * kept ones, else a kept one resized, and others unmapped as needed. Contents undefined. DP_E_BUSY, without a sentence: no room now.
 * DP_E_NOMEM: the system has none. */
dp_status dp_slots_acquire(dp_slots *slots, uint64_t size, uint64_t slack, dp_slot **out);
void dp_slots_release(dp_slots *slots, dp_slot *slot); /* NULL is fine */

/* Unmaps kept slots until used + kept <= bytes, or none is left. */
void dp_slots_trim(dp_slots *slots, uint64_t bytes);

static inline uint64_t dp_slots_bytes(const dp_slots *slots)
{
    return slots->used_bytes + slots->kept_bytes;
}

#endif
