/* gpu.h - devices that compute, and whether they share the processor's memory.
 *
 * Room     Looks in four places, none of which has to be there: /sys/class/drm (any
 *          driver of the kernel), /proc/driver/nvidia, the device tree (systems on
 *          a chip), and memory nodes without processors (memory of a device that
 *          the processor addresses). What a Vulkan loader said is merged in. The
 *          verdict says what it rests on: a person can disagree with it.
 *
 * Threads  Any.
 */
#ifndef DP_BASE_GPU_H
#define DP_BASE_GPU_H

#include "base/base.h"
#include "doppler/doctor.h"

/* vulkan [vulkan_count]: what dp_vulkan_list gave, NULL: was not asked. root: "" for the
 * real /proc and /sys, or a folder that holds copies. */
void dp_gpus_read(dp_gpus_info *out, const char *root, const dp_gpu_info *vulkan,
                  uint32_t vulkan_count);

/* "NVIDIA" of 0x10de; "" for others. */
const char *dp_gpu_vendor(uint32_t vendor_id);

#endif
