#include "doppler/doctor.h"

#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "base/drive.h"
#include "base/gpu.h"
#include "base/mem.h"
#include "base/osinfo.h"
#include "base/rng.h"
#include "base/scratch.h"
#include "base/status.h"
#include "base/sysmem.h"
#include "base/str.h"
#include "base/topology.h"
#include "base/vulkan.h"
#include "device/device.h"
#include "engine/drives.h"
#include "tier/bandwidth.h"
#include "tier/probe.h"

#define BANDWIDTH_NS    ((uint64_t)200000000)
#define BANDWIDTH_LEAST (64 * DP_MIB)          /* less would measure caches */
#define PROBE_NS        ((uint64_t)6000000000) /* with a file to write below 10 s */
#define PROBE_QUICK_NS  ((uint64_t)1000000000)
#define SCRATCH_BYTES   DP_GIB
#define SCRATCH_QUICK   (256 * DP_MIB)
#define SCRATCH_CHUNK   ((size_t)8 << 20)
#define SCRATCH_SHARE   10 /* of the free room at most one part in so many is written */
#define SCRATCH_NS      ((uint64_t)3000000000) /* slow drives get a smaller file */

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

/* ---- probing ---- */

/* "models/a.gguf" -> "models", a folder stays. */
static void folder_of(char out[DP_PATH_MAX], const char *path)
{
    char *slash;

    snprintf(out, DP_PATH_MAX, "%s", path);
    slash = strrchr(out, '/');
    if (!slash)
        strcpy(out, ".");
    else if (slash == out)
        out[1] = 0;
    else
        *slash = 0;
}

/* Numbers that no drive or file system can make smaller, until size or time is reached. */
static dp_status write_scratch(dp_file *file, uint64_t size, uint64_t limit_ns, dp_error *err)
{
    uint64_t *chunk = dp_alloc(SCRATCH_CHUNK, 1);
    uint64_t begin_ns = dp_clock_now_ns(&dp_clock_real);
    dp_status st = DP_OK;
    dp_rng rng;

    if (!chunk)
        return dp_fail(err, DP_E_NOMEM, "probe: no memory to write a file");
    dp_rng_init(&rng, 1);
    for (size_t i = 0; i < SCRATCH_CHUNK / sizeof *chunk; i++)
        chunk[i] = dp_rng_u64(&rng);
    while (file->size < size && !st &&
           (file->size < DP_PROBE_WINDOW_LEAST ||
            dp_clock_now_ns(&dp_clock_real) - begin_ns < limit_ns)) {
        chunk[0]++; /* no two chunks are the same */
        st = dp_scratch_append(file, chunk, SCRATCH_CHUNK, err);
        if (!st && file->size % (64 * DP_MIB) == 0)
            st = dp_scratch_sync(file, err);
    }
    if (!st)
        st = dp_scratch_sync(file, err);
    dp_free(chunk);
    return st;
}

/* The file to read: the model's, or a temporary one. *skipped says why there is none. */
static dp_status open_probed(dp_file *out, char skipped[DP_LINE_MAX], const dp_drive_info *drive,
                             const dp_probe_options *options, dp_error *err)
{
    uint64_t size = options->scratch_bytes;
    char folder[DP_PATH_MAX];
    char have[16], need[16];
    dp_error why;
    dp_status st;

    st = dp_file_open(out, drive->path, true, &why);
    if (!st && out->size >= DP_PROBE_WINDOW_LEAST)
        return DP_OK;
    if (st == DP_E_INVALID) /* a folder, then */
        snprintf(folder, sizeof folder, "%s", drive->path);
    else if (!st)
        folder_of(folder, drive->path);
    else
        return dp_fail(err, st, "%s", why.text);
    dp_file_close(out);
    if (size == 0)
        size = DP_MAX(DP_MIN(options->is_quick ? SCRATCH_QUICK : SCRATCH_BYTES,
                             drive->free_bytes / SCRATCH_SHARE),
                      DP_PROBE_WINDOW_LEAST);
    size = dp_align_up(size, SCRATCH_CHUNK);
    if (size > drive->free_bytes / 2) {
        snprintf(skipped, DP_LINE_MAX,
                 "%s free is too little to write a file of %s and leave as much: give a model's "
                 "path",
                 dp_format_size(have, drive->free_bytes), dp_format_size(need, size));
        return DP_OK;
    }
    st = dp_scratch_open(out, folder, &why);
    if (st) {
        snprintf(skipped, DP_LINE_MAX, "%.150s: give a model's path", why.text);
        return DP_OK;
    }
    return write_scratch(out, size, options->is_quick ? SCRATCH_NS / 6 : SCRATCH_NS, err);
}

dp_status dp_doctor_probe(dp_drive_probe *out, const dp_drive_info *drive,
                          const dp_probe_options *options, dp_error *err)
{
    dp_probe_config config = {
        .path = drive->path,
        .limit_ns = options->is_quick ? PROBE_QUICK_NS : PROBE_NS,
        .is_quick = options->is_quick,
        .clock = &dp_clock_real,
    };
    char skipped[DP_LINE_MAX] = "";
    dp_file file = { -1, -1, 0 };
    dp_drive_probe measured;
    dp_sysmem memory;
    dp_status st = DP_OK;

    dp_drives_key(out, drive);
    if (drive->is_memory)
        snprintf(skipped, sizeof skipped, "its files are in memory");
    else
        st = open_probed(&file, skipped, drive, options, err);
    if (!st && !skipped[0]) {
        dp_sysmem_read(&memory, "");
        config.file = &file;
        config.flight_max = DP_MAX(dp_align_down(dp_sysmem_room(&memory) / 4, DP_MIB), DP_MIB);
        st = dp_probe_run(&measured, &config, err);
        if (!st) {
            memcpy(measured.machine, out->machine, sizeof out->machine);
            memcpy(measured.kernel, out->kernel, sizeof out->kernel);
            memcpy(measured.device, out->device, sizeof out->device);
            memcpy(measured.fs, out->fs, sizeof out->fs);
            *out = measured;
        }
    }
    memcpy(out->skipped, skipped, sizeof out->skipped);
    dp_file_close(&file);
    return st;
}
