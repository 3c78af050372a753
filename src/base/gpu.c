#include "base/gpu.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cgroup.h"
#include "base/str.h"

#define PATH_BYTES 512
#define CARDS_MAX  64 /* cards are numbered without large gaps */
#define TEXT_BYTES 8192

static const struct {
    uint32_t id;
    const char *name;
    bool is_display;
} vendors[] = {
    { 0x8086, "Intel", false },  { 0x1002, "AMD", false },      { 0x10de, "NVIDIA", false },
    { 0x106b, "Apple", false },  { 0x5143, "Qualcomm", false }, { 0x13b5, "Arm", false },
    { 0x1af4, "virtio", true },  { 0x1234, "QEMU", true },      { 0x1b36, "QXL", true },
    { 0x1013, "Cirrus", true },  { 0x15ad, "VMware", true },    { 0x80ee, "VirtualBox", true },
    { 0x1414, "Hyper-V", true }, { 0x1a03, "ASPEED", true },    { 0x102b, "Matrox", true },
};

const char *dp_gpu_vendor(uint32_t vendor_id)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(vendors); i++)
        if (vendors[i].id == vendor_id)
            return vendors[i].name;
    return "";
}

static bool is_display(uint32_t vendor_id)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(vendors); i++)
        if (vendors[i].id == vendor_id)
            return vendors[i].is_display;
    return false;
}

static DP_PRINTF(2, 3) void add_evidence(dp_gpus_info *g, const char *format, ...)
{
    va_list args;

    if (g->evidence_count == DP_EVIDENCE_MAX)
        return;
    va_start(args, format);
    vsnprintf(g->evidence[g->evidence_count++], DP_LINE_MAX, format, args);
    va_end(args);
}

static dp_gpu_info *add_gpu(dp_gpus_info *g, const char *source)
{
    dp_gpu_info *gpu;

    if (g->gpu_count == DP_GPUS_MAX)
        return NULL;
    gpu = &g->gpus[g->gpu_count++];
    snprintf(gpu->source, sizeof gpu->source, "%s", source);
    return gpu;
}

/* ---- /sys/class/drm ---- */

/* The text of a file of a card's device, without its newline; "" when there is none. */
static bool read_card(char *out, size_t size, const char *root, uint32_t card, const char *name)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof path, "/sys/class/drm/card%u/device/%s", card, name);
    out[0] = 0;
    if (!dp_cgroup_read_text(out, size, root, path))
        return false;
    out[strcspn(out, "\n")] = 0;
    return true;
}

static uint64_t card_u64(const char *root, uint32_t card, const char *name)
{
    char text[64];
    uint64_t value;

    return read_card(text, sizeof text, root, card, name) && dp_parse_u64(dp_str_from(text), &value)
               ? value
               : 0;
}

/* The value behind `key` ("DRIVER=") in a card's uevent. */
static void uevent_value(char *out, size_t size, const char *root, uint32_t card, const char *key)
{
    char path[PATH_BYTES], text[2048];
    size_t length = strlen(key);

    out[0] = 0;
    snprintf(path, sizeof path, "/sys/class/drm/card%u/device/uevent", card);
    if (!dp_cgroup_read_text(text, sizeof text, root, path))
        return;
    for (const char *line = text; line && *line;) {
        if (strncmp(line, key, length) == 0) {
            snprintf(out, size, "%.*s", (int)strcspn(line + length, "\n"), line + length);
            return;
        }
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
}

/* Intel's integrated ones sit on bus 0; what AMD integrates has no maker of memory. */
static void judge_card(dp_gpus_info *g, dp_gpu_info *gpu, const char *root, uint32_t card,
                       bool has_vendor)
{
    char slot[32], maker[32];

    uevent_value(slot, sizeof slot, root, card, "PCI_SLOT_NAME=");
    if (is_display(gpu->vendor_id)) {
        gpu->kind = DP_GPU_DISPLAY;
        add_evidence(g, "card%u is %s's: a display, not a device that computes", card, gpu->vendor);
    } else if (gpu->vendor_id == 0x8086) {
        bool is_inside = strncmp(slot, "0000:00:", 8) == 0;

        gpu->kind = is_inside ? DP_GPU_INTEGRATED : DP_GPU_DISCRETE;
        add_evidence(g, "card%u is Intel's at %s: bus 0 %s", card, slot[0] ? slot : "no slot",
                     is_inside ? "means part of the processor" : "would be part of the processor");
    } else if (gpu->vendor_id == 0x1002 && gpu->own_bytes) {
        bool is_known = read_card(maker, sizeof maker, root, card, "mem_info_vram_vendor") &&
                        maker[0] && strcmp(maker, "unknown") != 0;

        gpu->kind = is_known ? DP_GPU_DISCRETE : DP_GPU_INTEGRATED;
        add_evidence(g,
                     is_known ? "card%u is AMD's with memory of its own, made by %s"
                              : "card%u is AMD's and its memory has no maker%s: set aside from the "
                                "system's",
                     card, is_known ? maker : "");
    } else if (gpu->vendor_id == 0x10de) {
        gpu->kind = DP_GPU_DISCRETE;
    } else if (!has_vendor) {
        gpu->kind = DP_GPU_INTEGRATED;
        add_evidence(g, "card%u (driver %s) has no PCI vendor: part of the chip", card, gpu->name);
    }
}

static void read_card_device(dp_gpus_info *g, const char *root, uint32_t card)
{
    char vendor[32], device[32], driver[32];
    dp_gpu_info *gpu;
    bool has_vendor = read_card(vendor, sizeof vendor, root, card, "vendor");

    uevent_value(driver, sizeof driver, root, card, "DRIVER=");
    if (!has_vendor && !driver[0])
        return;
    gpu = add_gpu(g, "drm");
    if (!gpu)
        return;
    read_card(device, sizeof device, root, card, "device");
    gpu->vendor_id = (uint32_t)strtoul(vendor, NULL, 16);
    snprintf(gpu->vendor, sizeof gpu->vendor, "%s", dp_gpu_vendor(gpu->vendor_id));
    if (has_vendor)
        snprintf(gpu->name, sizeof gpu->name, "%s %s", gpu->vendor[0] ? gpu->vendor : vendor,
                 device);
    else
        snprintf(gpu->name, sizeof gpu->name, "%s", driver);
    snprintf(gpu->device, sizeof gpu->device, "card%u", card);
    gpu->own_bytes = card_u64(root, card, "mem_info_vram_total");
    gpu->shared_bytes = card_u64(root, card, "mem_info_gtt_total");
    judge_card(g, gpu, root, card, has_vendor);
}

/* ---- /proc/driver/nvidia ---- */

/* Grace's cousins: one address space over two memories (GH, GB2), or one memory (GB10). */
static dp_gpu_kind nvidia_kind(const char *model)
{
    if (strstr(model, "GB10"))
        return DP_GPU_INTEGRATED;
    if (strstr(model, "GH200") || strstr(model, "GB200") || strstr(model, "GB300"))
        return DP_GPU_COHERENT;
    return DP_GPU_DISCRETE;
}

static void read_nvidia_device(dp_gpus_info *g, const char *root, const char *slot)
{
    char path[PATH_BYTES], text[2048];
    const char *model;
    dp_gpu_info *gpu = NULL;

    snprintf(path, sizeof path, "/proc/driver/nvidia/gpus/%.64s/information", slot);
    if (!dp_cgroup_read_text(text, sizeof text, root, path))
        return;
    model = strstr(text, "Model:");
    model = model ? model + strlen("Model:") : "NVIDIA";
    model += strspn(model, " \t");
    /* The same device may be a card as well: the first without a slot is it. */
    for (uint32_t i = 0; i < g->gpu_count && !gpu; i++)
        if (g->gpus[i].vendor_id == 0x10de && strcmp(g->gpus[i].source, "drm") == 0)
            gpu = &g->gpus[i];
    if (!gpu)
        gpu = add_gpu(g, "nvidia");
    if (!gpu)
        return;
    snprintf(gpu->source, sizeof gpu->source, "nvidia");
    snprintf(gpu->device, sizeof gpu->device, "%.48s", slot);
    snprintf(gpu->vendor, sizeof gpu->vendor, "NVIDIA");
    gpu->vendor_id = 0x10de;
    snprintf(gpu->name, sizeof gpu->name, "%.*s", (int)DP_MIN(strcspn(model, "\n"), (size_t)60),
             model);
    gpu->kind = nvidia_kind(gpu->name);
    add_evidence(g, "NVIDIA's driver lists %s at %s", gpu->name, gpu->device);
}

static void read_nvidia(dp_gpus_info *g, const char *root)
{
    char path[PATH_BYTES];
    struct dirent *entry;
    DIR *folder;

    snprintf(path, sizeof path, "%s/proc/driver/nvidia/gpus", root);
    folder = opendir(path);
    if (!folder)
        return;
    while ((entry = readdir(folder)))
        if (entry->d_name[0] != '.')
            read_nvidia_device(g, root, entry->d_name);
    closedir(folder);
}

/* ---- memory nodes, device tree ---- */

/* Memory of nodes without processors, *nodes of them. */
static uint64_t far_memory(const char *root, uint32_t *nodes)
{
    uint64_t sum = 0;

    *nodes = 0;
    for (uint32_t i = 0; i < DP_NODES_MAX; i++) {
        char path[PATH_BYTES], text[TEXT_BYTES];
        const char *total;
        uint64_t kib = 0;

        snprintf(path, sizeof path, "/sys/devices/system/node/node%u/cpulist", i);
        if (!dp_cgroup_read_text(text, sizeof text, root, path) || text[strspn(text, " \n")])
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/node/node%u/meminfo", i);
        if (!dp_cgroup_read_text(text, sizeof text, root, path))
            continue;
        total = strstr(text, "MemTotal:"); /* "Node 1 MemTotal:  100 kB" */
        if (!total || !dp_cgroup_find_u64(&kib, total, "MemTotal:") || kib == 0 ||
            kib > UINT64_MAX / DP_KIB / DP_NODES_MAX)
            continue;
        sum += kib * DP_KIB;
        *nodes += 1;
    }
    return sum;
}

/* True where a chip's maker puts processor and graphics before one memory. The text is
 * a list of names, each ended by a NUL. */
static bool is_one_chip(dp_gpus_info *g, const char *root)
{
    static const char *const makers[] = { "apple,",    "nvidia,tegra", "qcom,",
                                          "rockchip,", "brcm,",        "mediatek," };
    char text[1024] = { 0 };

    if (!dp_cgroup_read_text(text, sizeof text, root, "/proc/device-tree/compatible"))
        return false;
    for (const char *name = text; name < text + sizeof text - 1 && *name; name += strlen(name) + 1)
        for (size_t i = 0; i < DP_ARRAY_LEN(makers); i++)
            if (strncmp(name, makers[i], strlen(makers[i])) == 0) {
                add_evidence(g, "the device tree says \"%.64s\": a chip with one memory", name);
                return true;
            }
    return false;
}

/* Nodes without processors belong to a device only where a device is coherent: others
 * are expansions (CXL, NVDIMM). */
static void judge_nodes(dp_gpus_info *g, const char *root)
{
    bool is_coherent = false;
    uint32_t nodes;
    uint64_t bytes = far_memory(root, &nodes);

    for (uint32_t i = 0; i < g->gpu_count; i++)
        is_coherent = is_coherent || g->gpus[i].kind == DP_GPU_COHERENT;
    if (nodes)
        add_evidence(g, "%u memory nodes without processors, %llu MiB: %s", nodes,
                     (unsigned long long)(bytes / DP_MIB),
                     is_coherent ? "the devices' own, addressed by the processor"
                                 : "an expansion of memory, of no device found here");
    for (uint32_t i = 0; i < g->gpu_count; i++) {
        if (g->gpus[i].kind != DP_GPU_COHERENT)
            continue;
        if (nodes)
            g->gpus[i].own_bytes = bytes / nodes;
        else
            add_evidence(g, "%s could show its memory as a node, but none is there",
                         g->gpus[i].name);
        if (!nodes)
            g->gpus[i].kind = DP_GPU_DISCRETE;
    }
}

/* ---- Vulkan, verdict ---- */

/* The first of this vendor that was not met yet; DP_GPUS_MAX: none. */
static uint32_t find_unmet(const dp_gpus_info *g, uint32_t vendor_id, const bool *is_met)
{
    uint32_t count = DP_MIN(g->gpu_count, (uint32_t)DP_GPUS_MAX);

    for (uint32_t i = 0; i < count; i++)
        if (g->gpus[i].vendor_id == vendor_id && !is_met[i])
            return i;
    return DP_GPUS_MAX;
}

static void merge_vulkan(dp_gpus_info *g, const dp_gpu_info *vulkan, uint32_t count)
{
    bool is_met[DP_GPUS_MAX] = { false };

    for (uint32_t v = 0; v < count; v++) {
        uint32_t met = find_unmet(g, vulkan[v].vendor_id, is_met);
        dp_gpu_info *gpu = met < DP_GPUS_MAX ? &g->gpus[met] : add_gpu(g, "vulkan");

        if (!gpu)
            return;
        is_met[gpu - g->gpus] = true;
        if (met == DP_GPUS_MAX) {
            *gpu = vulkan[v];
        } else {
            memcpy(gpu->name, vulkan[v].name, sizeof gpu->name);
            gpu->own_bytes = DP_MAX(gpu->own_bytes, vulkan[v].own_bytes);
            gpu->shared_bytes = DP_MAX(gpu->shared_bytes, vulkan[v].shared_bytes);
            /* Coherent devices call themselves discrete, as their memory is. */
            if (vulkan[v].kind != DP_GPU_UNKNOWN && gpu->kind != DP_GPU_COHERENT)
                gpu->kind = vulkan[v].kind;
        }
        add_evidence(g, "Vulkan calls %s %s, %llu MiB device-local and %llu MiB beside",
                     vulkan[v].name, dp_gpu_kind_name(vulkan[v].kind),
                     (unsigned long long)(vulkan[v].own_bytes / DP_MIB),
                     (unsigned long long)(vulkan[v].shared_bytes / DP_MIB));
    }
}

static void judge(dp_gpus_info *g, bool one_chip)
{
    bool has[DP_GPU_DISPLAY + 1] = { false };

    for (uint32_t i = 0; i < g->gpu_count; i++)
        has[g->gpus[i].kind] = true;
    if (has[DP_GPU_COHERENT])
        g->model = DP_MEMORY_COHERENT;
    else if (has[DP_GPU_DISCRETE])
        g->model = DP_MEMORY_SEPARATE;
    else if (has[DP_GPU_INTEGRATED] || one_chip)
        g->model = DP_MEMORY_UNIFIED;
    else if (has[DP_GPU_UNKNOWN])
        g->model = DP_MEMORY_UNKNOWN;
    else
        g->model = DP_MEMORY_HOST;
    if (g->model == DP_MEMORY_HOST)
        add_evidence(g, "no device that computes in /sys/class/drm, /proc/driver/nvidia, the "
                        "device tree or Vulkan");
    if (has[DP_GPU_DISCRETE] && has[DP_GPU_INTEGRATED])
        add_evidence(g, "an integrated device is there as well; the verdict is for the others");
}

void dp_gpus_read(dp_gpus_info *out, const char *root, const dp_gpu_info *vulkan,
                  uint32_t vulkan_count)
{
    bool one_chip;

    memset(out, 0, sizeof *out);
    for (uint32_t card = 0; card < CARDS_MAX; card++)
        read_card_device(out, root, card);
    read_nvidia(out, root);
    one_chip = is_one_chip(out, root);
    judge_nodes(out, root);
    out->has_vulkan = vulkan_count > 0;
    merge_vulkan(out, vulkan, vulkan_count);
    judge(out, one_chip);
}

const char *dp_memory_model_name(dp_memory_model model)
{
    static const char *const names[] = { "unknown", "host", "separate", "unified", "coherent" };

    return (size_t)model < DP_ARRAY_LEN(names) ? names[model] : names[0];
}

const char *dp_gpu_kind_name(dp_gpu_kind kind)
{
    static const char *const names[] = { "unknown", "discrete", "integrated", "coherent",
                                         "display" };

    return (size_t)kind < DP_ARRAY_LEN(names) ? names[kind] : names[0];
}
