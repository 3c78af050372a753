#include "base/vulkan.h"

uint32_t dp_vulkan_list(dp_gpu_info *out, uint32_t max)
{
    return 0;
}
