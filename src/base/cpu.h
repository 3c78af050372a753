/* cpu.h - what this processor can do. Read once; any thread. */
#ifndef DP_BASE_CPU_H
#define DP_BASE_CPU_H

#include "base/base.h"

typedef struct dp_cpu {
    char name[64];         /* brand string, "" when unknown */
    uint32_t thread_count; /* usable by this process: affinity and cgroup quota (v1, v2) */
    uint32_t affinity_count, quota_count; /* ... each; quota 0: none */
    bool has_avx2;                        /* with FMA and F16C, and saved by the system */
    bool has_avx512;                      /* F, BW, DQ, VL */
    bool has_avx512_vnni;
    bool has_avx512_vbmi;
    const char *lacks; /* what the next better table would need, "" with all */
} dp_cpu;

const dp_cpu *dp_cpu_get(void);

#endif
