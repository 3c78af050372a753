#include "base/topology.h"

#include <hwloc.h>
#include <stdio.h>
#include <string.h>

static uint32_t count_of(hwloc_topology_t topology, hwloc_obj_type_t type)
{
    int count = hwloc_get_nbobjs_by_type(topology, type);

    return count > 0 ? (uint32_t)count : 0;
}

static void read_caches(dp_topology *out, hwloc_topology_t topology)
{
    static const hwloc_obj_type_t types[3] = { HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE,
                                               HWLOC_OBJ_L3CACHE };

    for (int level = 0; level < 3; level++) {
        hwloc_obj_t cache = hwloc_get_obj_by_type(topology, types[level], 0);

        out->cache_count[level] = count_of(topology, types[level]);
        out->cache_bytes[level] = cache ? cache->attr->cache.size : 0;
    }
}

/* hwloc names kinds of memory in "subtype" where the system tells them apart, and
 * marks what a device brought. */
static void read_nodes(dp_topology *out, hwloc_topology_t topology)
{
    uint32_t count = count_of(topology, HWLOC_OBJ_NUMANODE);

    for (uint32_t i = 0; i < count && out->node_count < DP_NODES_MAX; i++) {
        hwloc_obj_t node = hwloc_get_obj_by_type(topology, HWLOC_OBJ_NUMANODE, i);
        dp_memory_node *to = &out->nodes[out->node_count];
        int near;

        if (!node)
            continue;
        near = node->cpuset ? hwloc_bitmap_weight(node->cpuset) : 0;
        *to = (dp_memory_node){ .id = node->os_index,
                                .bytes = node->attr->numanode.local_memory,
                                .thread_count = near > 0 ? (uint32_t)near : 0 };
        snprintf(to->kind, sizeof to->kind, "%s", node->subtype ? node->subtype : "");
        out->node_count++;
    }
}

void dp_topology_read(dp_topology *out, const char *synthetic)
{
    hwloc_topology_t topology;

    memset(out, 0, sizeof *out);
    if (hwloc_topology_init(&topology) != 0)
        return;
    /* What this process may not use is part of the machine all the same. */
    hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
    if ((!synthetic || hwloc_topology_set_synthetic(topology, synthetic) == 0) &&
        hwloc_topology_load(topology) == 0) {
        out->package_count = count_of(topology, HWLOC_OBJ_PACKAGE);
        out->core_count = count_of(topology, HWLOC_OBJ_CORE);
        out->thread_count = count_of(topology, HWLOC_OBJ_PU);
        read_caches(out, topology);
        read_nodes(out, topology);
    }
    hwloc_topology_destroy(topology);
}
