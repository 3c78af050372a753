#include "base/vulkan.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <vulkan/vulkan_core.h>

#include "base/gpu.h"

typedef struct loader {
    PFN_vkEnumeratePhysicalDevices list;
    PFN_vkGetPhysicalDeviceProperties properties;
    PFN_vkGetPhysicalDeviceMemoryProperties memory;
    PFN_vkDestroyInstance destroy;
    VkInstance instance;
} loader;

/* Functions come as one type and are called as another: a union says so. */
typedef union any_function {
    PFN_vkVoidFunction any;
    void *object;
    PFN_vkGetInstanceProcAddr find;
    PFN_vkCreateInstance create;
    PFN_vkEnumeratePhysicalDevices list;
    PFN_vkGetPhysicalDeviceProperties properties;
    PFN_vkGetPhysicalDeviceMemoryProperties memory;
    PFN_vkDestroyInstance destroy;
} any_function;

static bool open_instance(loader *l, void *library)
{
    const VkInstanceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO };
    any_function find = { .object = dlsym(library, "vkGetInstanceProcAddr") };
    any_function f;

    if (!find.object)
        return false;
    f.any = find.find(NULL, "vkCreateInstance");
    if (!f.any || f.create(&info, NULL, &l->instance) != VK_SUCCESS)
        return false;
    f.any = find.find(l->instance, "vkDestroyInstance");
    l->destroy = f.destroy;
    f.any = find.find(l->instance, "vkEnumeratePhysicalDevices");
    l->list = f.list;
    f.any = find.find(l->instance, "vkGetPhysicalDeviceProperties");
    l->properties = f.properties;
    f.any = find.find(l->instance, "vkGetPhysicalDeviceMemoryProperties");
    l->memory = f.memory;
    return l->destroy && l->list && l->properties && l->memory;
}

static dp_gpu_kind kind_of(VkPhysicalDeviceType type)
{
    if (type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU)
        return DP_GPU_INTEGRATED;
    if (type == VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU)
        return DP_GPU_DISCRETE;
    return DP_GPU_UNKNOWN; /* virtual ones may be either */
}

static void describe(dp_gpu_info *out, const loader *l, VkPhysicalDevice device,
                     const VkPhysicalDeviceProperties *properties)
{
    VkPhysicalDeviceMemoryProperties memory;

    memset(out, 0, sizeof *out);
    l->memory(device, &memory);
    snprintf(out->name, sizeof out->name, "%.*s", (int)sizeof out->name - 1,
             properties->deviceName);
    snprintf(out->vendor, sizeof out->vendor, "%s", dp_gpu_vendor(properties->vendorID));
    snprintf(out->source, sizeof out->source, "vulkan");
    out->kind = kind_of(properties->deviceType);
    out->vendor_id = properties->vendorID;
    for (uint32_t i = 0; i < memory.memoryHeapCount; i++) {
        bool is_own = memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT;

        if (is_own)
            out->own_bytes += memory.memoryHeaps[i].size;
        else
            out->shared_bytes += memory.memoryHeaps[i].size;
    }
}

uint32_t dp_vulkan_list(dp_gpu_info *out, uint32_t max)
{
    void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    VkPhysicalDevice devices[DP_GPUS_MAX];
    uint32_t found = DP_GPUS_MAX;
    uint32_t count = 0;
    VkResult result;
    loader l = { 0 };

    if (!library)
        return 0;
    if (!open_instance(&l, library))
        goto done;
    result = l.list(l.instance, &found, devices);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE)
        goto done;
    for (uint32_t i = 0; i < found && count < max; i++) {
        VkPhysicalDeviceProperties properties;

        l.properties(devices[i], &properties);
        if (properties.deviceType != VK_PHYSICAL_DEVICE_TYPE_CPU)
            describe(&out[count++], &l, devices[i], &properties);
    }
done:
    if (l.instance && l.destroy)
        l.destroy(l.instance, NULL);
    dlclose(library);
    return count;
}
