/* arena.h - bump allocation for what lives as long as one step.
 *
 * One block, allocated at open and never grown: a step of inference allocates
 * nothing. Running out is the caller's planning error and reported as NULL.
 *
 * Threads  One at a time.
 */
#ifndef DP_BASE_ARENA_H
#define DP_BASE_ARENA_H

#include "base/base.h"

typedef struct dp_arena {
    uint8_t *bytes;
    size_t size;
    size_t used;
    size_t used_max; /* high-water mark, for reports */
} dp_arena;

/* Reserves `size` bytes by dp_map_acquire. False when memory is short. */
bool dp_arena_init(dp_arena *arena, size_t size);
void dp_arena_deinit(dp_arena *arena); /* zeroed arenas are fine */

/* `size` bytes aligned to 64, contents undefined, NULL when it does not fit. */
void *dp_arena_alloc(dp_arena *arena, size_t size);

size_t dp_arena_mark(const dp_arena *arena);
void dp_arena_reset(dp_arena *arena, size_t mark); /* frees all since the mark; 0: everything */

#endif
