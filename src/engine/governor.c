#include "engine/governor.h"

#define STALL_PART 10 /* tasks that wait a tenth of the time are pressure */
#define STALL_FALL 20 /* then a twentieth of what we hold goes */

void dp_governor_init(dp_governor *g, uint64_t ceiling_bytes, uint64_t floor_bytes,
                      uint64_t reserve_bytes)
{
    *g = (dp_governor){
        .ceiling_bytes = DP_MAX(ceiling_bytes, floor_bytes),
        .floor_bytes = floor_bytes,
        .reserve_bytes = reserve_bytes,
        .target_bytes = DP_MAX(ceiling_bytes, floor_bytes),
    };
}

static uint64_t plenty_bytes(const dp_governor *g)
{
    return g->reserve_bytes + g->reserve_bytes / 2;
}

/* Whether tasks waited for memory for much of the time since the last sample, and what
 * we hold could help them. */
static bool is_stalled(const dp_governor *g, const dp_governor_sample *s)
{
    uint64_t passed_us = (s->now_ns - g->last_ns) / 1000;

    return g->last_ns && s->room_bytes < plenty_bytes(g) &&
           s->now_ns - g->tight_ns >= DP_GOVERNOR_STALL_NS && s->stall_us > g->last_stall_us &&
           s->stall_us - g->last_stall_us > passed_us / STALL_PART;
}

/* How much of what we hold should go. */
static uint64_t excess(const dp_governor *g, const dp_governor_sample *s)
{
    uint64_t bytes = 0;

    if (s->room_bytes < g->reserve_bytes / 2)
        bytes = g->reserve_bytes - s->room_bytes;
    if (is_stalled(g, s))
        bytes = DP_MAX(bytes, s->held_bytes / STALL_FALL);
    return bytes;
}

uint64_t dp_governor_decide(dp_governor *g, const dp_governor_sample *s)
{
    uint64_t bytes = excess(g, s), plenty = plenty_bytes(g);

    if (bytes) {
        /* A budget that is not used up has to fall below what is used. */
        uint64_t from = DP_MIN(g->target_bytes, s->held_bytes);

        g->target_bytes = from > bytes ? from - bytes : 0;
        g->tight_ns = s->now_ns;
    } else if (s->room_bytes > plenty && s->now_ns - g->tight_ns >= DP_GOVERNOR_CALM_NS) {
        g->target_bytes += (s->room_bytes - plenty) / 4;
    }
    g->target_bytes = DP_MIN(DP_MAX(g->target_bytes, g->floor_bytes), g->ceiling_bytes);
    g->last_ns = s->now_ns;
    g->last_stall_us = s->stall_us;
    return g->target_bytes;
}
