#include "doppler/doctor.h"

#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "base/drive.h"
#include "base/gpu.h"
#include "base/osinfo.h"
#include "base/sysmem.h"
#include "base/topology.h"
#include "base/vulkan.h"
#include "device/device.h"
#include "tier/bandwidth.h"

#define BANDWIDTH_NS    ((uint64_t)200000000)
#define BANDWIDTH_LEAST (64 * DP_MIB) /* less would measure caches */

static void describe_cpu(dp_cpu_info *out, const dp_topology *topology)
{
    const dp_cpu *cpu = dp_cpu_get();
    const char *kernels = dp_device_cpu_kernels("auto");

    snprintf(out->name, sizeof out->name, "%s", cpu->name);
    snprintf(out->kernels, sizeof out->kernels, "%s", kernels ? kernels : "");
    if (cpu->lacks[0])
        snprintf(out->kernels_limit, sizeof out->kernels_limit,
                 "a better one needs %s, which is not there", cpu->lacks);
    out->package_count = topology->package_count;
    out->core_count = topology->core_count;
    out->thread_count = topology->thread_count;
    out->has_smt = topology->thread_count > topology->core_count && topology->core_count > 0;
    out->affinity_count = cpu->affinity_count;
    out->quota_count = cpu->quota_count;
    out->usable_count = cpu->thread_count;
    out->l1_bytes = topology->cache_bytes[0];
    out->l2_bytes = topology->cache_bytes[1];
    out->l3_bytes = topology->cache_bytes[2];
    out->l1_count = topology->cache_count[0];
    out->l2_count = topology->cache_count[1];
    out->l3_count = topology->cache_count[2];
}

static void describe_memory(dp_memory_info *out, const dp_topology *topology, const dp_osinfo *os)
{
    dp_sysmem memory;

    dp_sysmem_read(&memory, "");
    out->total_bytes = memory.total_bytes;
    out->available_bytes = memory.available_bytes;
    out->room_bytes = dp_sysmem_room(&memory);
    if (memory.cgroup_limit_bytes != UINT64_MAX) {
        out->cgroup_limit_bytes = memory.cgroup_limit_bytes;
        out->cgroup_used_bytes = memory.cgroup_used_bytes;
    }
    out->swap_bytes = os->swap_bytes;
    out->swap_free_bytes = os->swap_free_bytes;
    memcpy(out->overcommit, os->overcommit, sizeof out->overcommit);
    memcpy(out->huge_pages, os->huge_pages, sizeof out->huge_pages);
    out->has_pressure = os->has_pressure;
    out->node_count = topology->node_count;
    memcpy(out->nodes, topology->nodes, sizeof out->nodes);
}

void dp_doctor_machine(dp_machine_info *out)
{
    dp_gpu_info vulkan[DP_GPUS_MAX];
    uint32_t vulkan_count = dp_vulkan_list(vulkan, DP_GPUS_MAX);
    dp_topology topology;
    dp_osinfo os;

    memset(out, 0, sizeof *out);
    dp_topology_read(&topology, NULL);
    dp_osinfo_read(&os, "");
    memcpy(out->id, os.machine_id, sizeof out->id);
    memcpy(out->kernel, os.kernel, sizeof out->kernel);
    describe_cpu(&out->cpu, &topology);
    describe_memory(&out->memory, &topology, &os);
    dp_gpus_read(&out->gpus, "", vulkan, vulkan_count);
}

dp_status dp_doctor_bandwidth(dp_memory_info *out, uint32_t threads, dp_error *err)
{
    dp_bandwidth_config config = {
        .threads = threads ? threads : dp_cpu_get()->thread_count,
        .bytes = DP_BANDWIDTH_BYTES,
        .limit_ns = BANDWIDTH_NS,
        .clock = &dp_clock_real,
    };
    dp_sysmem memory;

    /* Where memory is short, what can be had without hurting. */
    dp_sysmem_read(&memory, "");
    config.bytes = DP_MIN(config.bytes, DP_MAX(dp_sysmem_room(&memory) / 4, BANDWIDTH_LEAST));
    out->bandwidth_threads = config.threads;
    return dp_bandwidth_measure(&out->bandwidth_bytes_s, &config, err);
}

dp_status dp_doctor_drive(dp_drive_info *out, const char *path, dp_error *err)
{
    return dp_drive_read(out, path, err);
}
