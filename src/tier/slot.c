#include "tier/slot.h"

#include "base/assert.h"
#include "base/mem.h"

void dp_slots_init(dp_slots *slots, uint64_t budget_bytes)
{
    *slots = (dp_slots){ .budget_bytes = budget_bytes };
}

void dp_slots_deinit(dp_slots *slots)
{
    dp_slots_trim(slots, 0);
    DP_ASSERT(dp_slots_bytes(slots) == 0);
}

/* Takes the kept slot at *place out of the list and the count. */
static dp_slot *unkeep(dp_slots *slots, dp_slot **place)
{
    dp_slot *slot = *place;

    *place = slot->_next;
    slots->kept_count--;
    slots->kept_bytes -= slot->capacity;
    return slot;
}

static void unmap(dp_slot *slot)
{
    dp_map_release(slot->bytes, slot->capacity);
    dp_free(slot);
}

/* The smallest kept slot of size..size + slack; NULL when there is none. */
static dp_slot *take_kept(dp_slots *slots, uint64_t size, uint64_t slack)
{
    dp_slot **best = NULL;

    for (dp_slot **place = &slots->_kept; *place; place = &(*place)->_next) {
        uint64_t capacity = (*place)->capacity;
        if (capacity >= size && capacity - size <= slack && (!best || capacity < (*best)->capacity))
            best = place;
    }
    return best ? unkeep(slots, best) : NULL;
}

static dp_slot *map(uint64_t capacity)
{
    dp_slot *slot = dp_alloc_zero(1, sizeof *slot);

    if (!slot)
        return NULL;
    slot->capacity = capacity;
    slot->bytes = dp_map_acquire(capacity);
    if (!slot->bytes) {
        dp_free(slot);
        return NULL;
    }
    return slot;
}

/* The kept slot nearest to `capacity`, made as large: only what it lacks is new to the
 * system. Others are unmapped as needed. NULL: none is kept, or the system has no memory. */
static dp_slot *remake_kept(dp_slots *slots, uint64_t capacity)
{
    dp_slot **best = NULL;
    uint64_t best_gap = UINT64_MAX;
    dp_slot *slot;
    uint8_t *bytes;

    for (dp_slot **place = &slots->_kept; *place; place = &(*place)->_next) {
        uint64_t has = (*place)->capacity;
        uint64_t gap = has > capacity ? has - capacity : capacity - has;
        if (gap < best_gap) {
            best = place;
            best_gap = gap;
        }
    }
    if (!best)
        return NULL;
    slot = unkeep(slots, best);
    dp_slots_trim(slots, slots->budget_bytes - capacity);
    bytes = dp_map_resize(slot->bytes, slot->capacity, capacity);
    if (!bytes) {
        unmap(slot);
        return NULL;
    }
    slot->bytes = bytes;
    slot->capacity = capacity;
    return slot;
}

dp_status dp_slots_acquire(dp_slots *slots, uint64_t size, uint64_t slack, dp_slot **out)
{
    uint64_t capacity = dp_align_up(size, DP_SLOT_ALIGN);
    dp_slot *slot;

    *out = NULL;
    dp_slots_trim(slots, slots->budget_bytes); /* it may have shrunk */
    slot = take_kept(slots, capacity, slack);
    if (!slot) {
        if (capacity > slots->budget_bytes || slots->used_bytes > slots->budget_bytes - capacity)
            return DP_E_BUSY;
        slot = dp_slots_bytes(slots) <= slots->budget_bytes - capacity
                   ? map(capacity)
                   : remake_kept(slots, capacity);
    }
    if (!slot)
        return DP_E_NOMEM;
    slots->used_bytes += slot->capacity;
    slots->bytes_max = DP_MAX(slots->bytes_max, dp_slots_bytes(slots));
    *out = slot;
    return DP_OK;
}

void dp_slots_release(dp_slots *slots, dp_slot *slot)
{
    if (!slot)
        return;
    slots->used_bytes -= slot->capacity;
    if (slots->kept_count == DP_SLOT_KEPT_MAX) {
        unmap(slot);
        return;
    }
    slot->_next = slots->_kept;
    slots->_kept = slot;
    slots->kept_count++;
    slots->kept_bytes += slot->capacity;
}

void dp_slots_trim(dp_slots *slots, uint64_t bytes)
{
    while (slots->_kept && dp_slots_bytes(slots) > bytes)
        unmap(unkeep(slots, &slots->_kept));
}
