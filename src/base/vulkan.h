/* vulkan.h - the devices a Vulkan loader knows. Platform: vulkan_dl.c where its headers were
 * there when doppler was built, else vulkan_none.c.
 *
 * The loader is opened when asked, by its name, so that doppler runs without one. */
#ifndef DP_BASE_VULKAN_H
#define DP_BASE_VULKAN_H

#include "base/base.h"
#include "doppler/doctor.h"

/* At most max devices into out; how many. Drivers that compute on the processor are
 * left out. Heaps: device-local ones count as own_bytes, the others as shared_bytes.
 * One thread at a time. */
uint32_t dp_vulkan_list(dp_gpu_info *out, uint32_t max);

#endif
