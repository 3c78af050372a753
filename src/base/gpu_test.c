#include "testing/check.h"

#include "base/fake_root.h"
#include "base/gpu.h"
#include "base/vulkan.h"

#define CARD0 "/sys/class/drm/card0/device"
#define CARD1 "/sys/class/drm/card1/device"
#define NODE  "/sys/devices/system/node"
#define NV    "/proc/driver/nvidia/gpus"

static const struct {
    const char *name;
    fake_file files[12];
    dp_gpu_info vulkan; /* of no vendor: none */
    dp_memory_model model;
    uint32_t count;
    dp_gpu_kind kind; /* of the first */
    uint64_t own_mib;
    const char *evidence; /* in one of the sentences */
} rows[] = {
    { "nothing at all", { { 0 } }, { { 0 } }, DP_MEMORY_HOST, 0, 0, 0, "no device that computes" },
    { "a virtual machine",
      { { CARD0 "/vendor", "0x1af4\n" },
        { CARD0 "/device", "0x1050\n" },
        { CARD0 "/uevent", "DRIVER=virtio-pci\nPCI_SLOT_NAME=0000:00:02.0\n" } },
      { { 0 } },
      DP_MEMORY_HOST,
      1,
      DP_GPU_DISPLAY,
      0,
      "card0 is virtio's" },
    { "Intel, integrated",
      { { CARD0 "/vendor", "0x8086\n" },
        { CARD0 "/device", "0x46a6\n" },
        { CARD0 "/uevent", "DRIVER=i915\nPCI_SLOT_NAME=0000:00:02.0\n" } },
      { { 0 } },
      DP_MEMORY_UNIFIED,
      1,
      DP_GPU_INTEGRATED,
      0,
      "part of the processor" },
    { "Intel, a card",
      { { CARD0 "/vendor", "0x8086\n" },
        { CARD0 "/uevent", "DRIVER=xe\nPCI_SLOT_NAME=0000:03:00.0\n" } },
      { { 0 } },
      DP_MEMORY_SEPARATE,
      1,
      DP_GPU_DISCRETE,
      0,
      "Intel's at 0000:03:00.0" },
    { "AMD, integrated",
      { { CARD1 "/vendor", "0x1002\n" },
        { CARD1 "/device", "0x15bf\n" },
        { CARD1 "/mem_info_vram_total", "536870912\n" },
        { CARD1 "/mem_info_gtt_total", "16000000000\n" },
        { CARD1 "/mem_info_vram_vendor", "unknown\n" } },
      { { 0 } },
      DP_MEMORY_UNIFIED,
      1,
      DP_GPU_INTEGRATED,
      512,
      "has no maker" },
    { "AMD, a card",
      { { CARD0 "/vendor", "0x1002\n" },
        { CARD0 "/mem_info_vram_total", "17163091968\n" },
        { CARD0 "/mem_info_vram_vendor", "samsung\n" } },
      { { 0 } },
      DP_MEMORY_SEPARATE,
      1,
      DP_GPU_DISCRETE,
      16368,
      "made by samsung" },
    { "AMD of a driver that tells nothing, and Vulkan",
      { { CARD0 "/vendor", "0x1002\n" } },
      { .name = "AMD Radeon 780M",
        .kind = DP_GPU_INTEGRATED,
        .own_bytes = DP_GIB,
        .vendor_id = 0x1002 },
      DP_MEMORY_UNIFIED,
      1,
      DP_GPU_INTEGRATED,
      1024,
      "Vulkan calls AMD Radeon 780M integrated" },
    { "AMD of a driver that tells nothing, no Vulkan",
      { { CARD0 "/vendor", "0x1002\n" } },
      { { 0 } },
      DP_MEMORY_UNKNOWN,
      1,
      DP_GPU_UNKNOWN,
      0,
      "" },
    { "NVIDIA, a card",
      { { NV "/0000:01:00.0/information", "Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   \t\t 40\n" },
        { CARD0 "/vendor", "0x10de\n" },
        { CARD0 "/device", "0x2684\n" } },
      { { 0 } },
      DP_MEMORY_SEPARATE,
      1,
      DP_GPU_DISCRETE,
      0,
      "NVIDIA GeForce RTX 4090 at" },
    { "NVIDIA, a card known to Vulkan alone",
      { { 0 } },
      { .name = "NVIDIA L4",
        .kind = DP_GPU_DISCRETE,
        .own_bytes = 24 * DP_GIB,
        .vendor_id = 0x10de },
      DP_MEMORY_SEPARATE,
      1,
      DP_GPU_DISCRETE,
      24576,
      "Vulkan calls NVIDIA L4 discrete" },
    { "Grace Hopper",
      { { NV "/0009:01:00.0/information", "Model: \t\t NVIDIA GH200 480GB\n" },
        { NODE "/node0/cpulist", "0-71\n" },
        { NODE "/node0/meminfo", "Node 0 MemTotal:       502136832 kB\n" },
        { NODE "/node1/cpulist", "\n" },
        { NODE "/node1/meminfo", "Node 1 MemTotal:       100663296 kB\n" },
        { NODE "/node2/cpulist", "\n" },
        { NODE "/node2/meminfo", "Node 2 MemTotal:       0 kB\n" } },
      { .name = "NVIDIA GH200 480GB", .kind = DP_GPU_DISCRETE, .vendor_id = 0x10de },
      DP_MEMORY_COHERENT,
      1,
      DP_GPU_COHERENT,
      98304,
      "addressed by the processor" },
    { "Grace Hopper whose memory is no node",
      { { NV "/0009:01:00.0/information", "Model: \t\t NVIDIA GH200 480GB\n" } },
      { { 0 } },
      DP_MEMORY_SEPARATE,
      1,
      DP_GPU_DISCRETE,
      0,
      "but none is there" },
    { "a memory expansion beside a card",
      { { NV "/0000:01:00.0/information", "Model: NVIDIA H100 PCIe\n" },
        { NODE "/node1/cpulist", "\n" },
        { NODE "/node1/meminfo", "Node 1 MemTotal:       100663296 kB\n" } },
      { { 0 } },
      DP_MEMORY_SEPARATE,
      1,
      DP_GPU_DISCRETE,
      0,
      "an expansion of memory" },
    { "DGX Spark",
      { { NV "/000f:01:00.0/information", "Model: NVIDIA GB10\n" } },
      { { 0 } },
      DP_MEMORY_UNIFIED,
      1,
      DP_GPU_INTEGRATED,
      0,
      "GB10" },
    { "Apple, Linux",
      { { "/proc/device-tree/compatible", "apple,j293" },
        { CARD0 "/uevent", "DRIVER=asahi\nOF_NAME=gpu\n" } },
      { { 0 } },
      DP_MEMORY_UNIFIED,
      1,
      DP_GPU_INTEGRATED,
      0,
      "\"apple,j293\"" },
    { "a chip whose graphics have no driver",
      { { "/proc/device-tree/compatible", "rockchip,rk3588" } },
      { { 0 } },
      DP_MEMORY_UNIFIED,
      0,
      0,
      0,
      "rockchip" },
    { "a device tree of a server",
      { { "/proc/device-tree/compatible", "linux,dummy-virt" } },
      { { 0 } },
      DP_MEMORY_HOST,
      0,
      0,
      0,
      "no device" },
    { "both kinds",
      { { CARD0 "/vendor", "0x8086\n" },
        { CARD0 "/uevent", "PCI_SLOT_NAME=0000:00:02.0\n" },
        { CARD1 "/vendor", "0x10de\n" } },
      { { 0 } },
      DP_MEMORY_SEPARATE,
      2,
      DP_GPU_INTEGRATED,
      0,
      "as well" },
    { "damaged files",
      { { CARD0 "/vendor", "zebra\n" },
        { CARD0 "/mem_info_vram_total", "-5\n" },
        { CARD1 "/uevent", "\n\nDRIVER" },
        { NV "/x/information", "" },
        { NODE "/node1/cpulist", "" },
        { NODE "/node1/meminfo", "MemTotal: 99999999999999999999 kB" } },
      { { 0 } },
      DP_MEMORY_SEPARATE,
      2,
      DP_GPU_UNKNOWN,
      0,
      "NVIDIA" },
};

static bool has_evidence(const dp_gpus_info *g, const char *words)
{
    for (uint32_t i = 0; i < g->evidence_count; i++)
        if (strstr(g->evidence[i], words))
            return true;
    return words[0] == 0;
}

static void machines(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        char root[32];
        dp_gpus_info g;

        fake_root_make(root, rows[i].files);
        dp_gpus_read(&g, root, &rows[i].vulkan, rows[i].vulkan.vendor_id != 0);
        fake_root_remove(root);
        CHECK(g.model == rows[i].model, "%s: memory %s", rows[i].name,
              dp_memory_model_name(g.model));
        CHECK(g.gpu_count == rows[i].count, "%s: %u devices", rows[i].name, g.gpu_count);
        CHECK(g.gpus[0].kind == rows[i].kind, "%s: %s", rows[i].name,
              dp_gpu_kind_name(g.gpus[0].kind));
        CHECK(g.gpus[0].own_bytes / DP_MIB == rows[i].own_mib, "%s: %llu bytes", rows[i].name,
              (unsigned long long)g.gpus[0].own_bytes);
        CHECK(has_evidence(&g, rows[i].evidence), "%s: first evidence \"%s\"", rows[i].name,
              g.evidence[0]);
    }
}

static void more_cards_than_room(void **state)
{
    static char paths[2 * DP_GPUS_MAX][64];
    fake_file files[2 * DP_GPUS_MAX + 1] = { { 0 } };
    char root[32];
    dp_gpus_info g;

    for (int i = 0; i < 2 * DP_GPUS_MAX; i++) {
        snprintf(paths[i], sizeof paths[i], "/sys/class/drm/card%d/device/vendor", i);
        files[i] = (fake_file){ paths[i], "0x8086\n" };
    }
    fake_root_make(root, files);
    dp_gpus_read(&g, root, NULL, 0);
    fake_root_remove(root);
    CHECK(g.gpu_count == DP_GPUS_MAX && g.evidence_count == DP_EVIDENCE_MAX, "%u", g.gpu_count);
}

static void this_machine(void **state)
{
    dp_gpu_info vulkan[DP_GPUS_MAX];
    uint32_t count = dp_vulkan_list(vulkan, DP_GPUS_MAX);
    dp_gpus_info g;

    CHECK(count <= DP_GPUS_MAX, "%u", count);
    dp_gpus_read(&g, "", vulkan, count);
    CHECK(g.gpu_count >= count && g.evidence_count > 0, "a verdict without evidence");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines),
        cmocka_unit_test(more_cards_than_room),
        cmocka_unit_test(this_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
