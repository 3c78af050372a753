/* Fetching ahead of any wish: what every token needs, then the rest, once, and again a while after
 * others came or got more. Only where the node
 * shares or its cache may hold the whole model, and only while nobody else reads. */
#include <string.h>

#include "base/mem.h"
#include "swarm/mount.h"

#define QUIET_NS   ((uint64_t)1000000000)
#define AGAIN_NS   ((uint64_t)10000000000)
#define LOOKS_MAX  4096                /* pieces looked at in one tick */
#define FILL_PIECE ((uint32_t)4 << 20) /* larger pieces are filled one at a time */

static void fill_done(dp_source_read *read, const dp_error *error)
{
    mount_fill *fill = DP_LISTED(read, mount_fill, read);

    atomic_store_explicit(&fill->is_busy, false, memory_order_release); /* with the next look */
}

static bool may_fill(const dp_mount *m)
{
    uint64_t total = 0;

    if (!atomic_load_explicit(&m->is_described, memory_order_acquire) || m->is_uncached ||
        !m->swarm->config.disk_bytes || m->swarm->config.is_lazy)
        return false;
    for (uint32_t i = 0; i < m->id.layout->file_count; i++)
        total += m->id.layout->files[i].pieces.file_size;
    return m->swarm->config.shares || m->swarm->config.disk_bytes >= total + total / 64;
}

/* The next piece to fetch; false: none in the looks that are left. */
static bool next_piece(dp_mount *m, uint32_t *looks, dp_layout_place *out)
{
    uint32_t count = m->id.layout->piece_count;

    while (m->fill_next<2 * count && * looks> 0) {
        uint32_t piece = m->fill_next % count;
        bool is_for_all = dp_holders_class(m->holders, piece) != DP_PIECE_EXPERT;
        bool is_first_round = m->fill_next < count;

        m->fill_next++;
        --*looks;
        *out = dp_layout_find(m->id.layout, piece);
        if (is_for_all == is_first_round && !dp_store_has(m->files[out->file], out->piece))
            return true;
    }
    return false;
}

/* The part of the model that a layout's file is; false: it is none. */
static bool part_of_file(const dp_identity *id, uint32_t file, uint32_t *out)
{
    for (*out = 0; *out < id->part_count; ++*out)
        if (id->files[*out] == file)
            return true;
    return false;
}

static void begin(dp_mount *m, mount_fill *fill, dp_layout_place place)
{
    uint32_t part;

    if (!fill->room)
        fill->room = dp_alloc(m->id.layout->piece_size, 1);
    if (!fill->room || !part_of_file(&m->id, place.file, &part))
        return;
    fill->read = (dp_source_read){ .file_index = part,
                                   .offset = place.offset,
                                   .size = place.size,
                                   .room = fill->room,
                                   .is_prefetch = true,
                                   .done = fill_done };
    atomic_store_explicit(&fill->is_busy, true, memory_order_relaxed);
    m->fill_reads++;
    m->source->ops->submit(m->source, &fill->read);
}

void dp_mount_fill(dp_mount *m, uint64_t now_ns, bool is_changed)
{
    uint32_t slots = m->id.layout->piece_size > FILL_PIECE ? 1 : DP_MOUNT_FILL_MAX;
    uint32_t looks = LOOKS_MAX;
    dp_source_swarm_stats stats;

    m->has_more |= is_changed;
    if (m->fill_next >= 2 * m->id.layout->piece_count && m->has_more &&
        now_ns - m->fill_ns >= AGAIN_NS) {
        m->fill_next = 0;
        m->fill_ns = now_ns;
        m->has_more = false;
    }
    if (!m->source || !may_fill(m) || m->fill_next >= 2 * m->id.layout->piece_count)
        return;
    dp_source_swarm_stats_read(m->source, &stats);
    if (stats.reads - m->fill_reads != m->others_reads || !m->quiet_ns) {
        m->others_reads = stats.reads - m->fill_reads;
        m->quiet_ns = now_ns;
    }
    if (now_ns - m->quiet_ns < QUIET_NS)
        return;
    for (uint32_t i = 0; i < slots; i++) {
        dp_layout_place place;
        if (!atomic_load_explicit(&m->fills[i].is_busy, memory_order_acquire) &&
            next_piece(m, &looks, &place))
            begin(m, &m->fills[i], place);
    }
}
