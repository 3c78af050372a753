#include "base/arena.h"

#include "base/assert.h"
#include "base/mem.h"

#define ALIGNMENT 64 /* one cache line, and the widest vector register */

bool dp_arena_init(dp_arena *arena, size_t size)
{
    *arena = (dp_arena){ 0 };
    arena->bytes = dp_map_acquire(size);
    if (!arena->bytes)
        return false;
    arena->size = size;
    return true;
}

void dp_arena_deinit(dp_arena *arena)
{
    dp_map_release(arena->bytes, arena->size);
    *arena = (dp_arena){ 0 };
}

void *dp_arena_alloc(dp_arena *arena, size_t size)
{
    size_t begin = arena->used;

    /* used is always a multiple of ALIGNMENT, or size when that is not one. */
    if (size > arena->size - begin)
        return NULL;
    if (dp_align_up(size, ALIGNMENT) > arena->size - begin)
        arena->used = arena->size;
    else
        arena->used = begin + (size_t)dp_align_up(size, ALIGNMENT);
    arena->used_max = DP_MAX(arena->used_max, arena->used);
    return arena->bytes + begin;
}

size_t dp_arena_mark(const dp_arena *arena)
{
    return arena->used;
}

void dp_arena_reset(dp_arena *arena, size_t mark)
{
    DP_ASSERT(mark <= arena->used);
    arena->used = mark;
}
