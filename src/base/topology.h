/* topology.h - cores, caches and memory nodes of this machine. Through hwloc, which only
 * this room opens.
 *
 * Threads  Any.
 */
#ifndef DP_BASE_TOPOLOGY_H
#define DP_BASE_TOPOLOGY_H

#include "base/base.h"
#include "doppler/doctor.h"

typedef struct dp_topology {
    uint32_t package_count, core_count, thread_count;
    uint64_t cache_bytes[3]; /* of one data cache of level 1, 2, 3 ... */
    uint32_t cache_count[3]; /* ... and how many there are */
    uint32_t node_count;
    dp_memory_node nodes[DP_NODES_MAX];
} dp_topology;

/* synthetic: NULL for this machine, or hwloc's words for another one ("pack:2
 * core:4 pu:2"), for tests. All zero when hwloc cannot tell. */
void dp_topology_read(dp_topology *out, const char *synthetic);

#endif
