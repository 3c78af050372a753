#include "base/cpu.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "base/cgroup.h"

static dp_cpu cpu;
static pthread_once_t cpu_once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
#include <cpuid.h>

#define BIT(n) (1u << (n))

/* Which registers the system saves when it switches threads (XCR0). Without, an
 * instruction that the processor has still faults, or its registers get lost. */
static uint32_t saved_registers(void)
{
    uint32_t low;
    uint32_t high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* Source: Intel 64 and IA-32 manual, volume 1, chapters 14 and 15 (detection). */
static void read_features(void)
{
    const uint32_t ymm = BIT(1) | BIT(2);                /* SSE and AVX state */
    const uint32_t zmm = ymm | BIT(5) | BIT(6) | BIT(7); /* and masks, both halves of ZMM */
    const uint32_t leaf1 = BIT(12) | BIT(27) | BIT(28) | BIT(29); /* FMA OSXSAVE AVX F16C */
    const uint32_t leaf7 = BIT(16) | BIT(17) | BIT(30) | BIT(31); /* AVX512 F DQ BW VL */
    uint32_t a, b, c, d;
    uint32_t saved;

    cpu.lacks = "AVX, FMA or F16C";
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & leaf1) != leaf1)
        return;
    saved = saved_registers();
    cpu.lacks = "AVX2";
    if ((saved & ymm) != ymm || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return;
    cpu.has_avx2 = (b & BIT(5)) != 0;
    cpu.has_avx512 = cpu.has_avx2 && (saved & zmm) == zmm && (b & leaf7) == leaf7;
    cpu.has_avx512_vnni = cpu.has_avx512 && (c & BIT(11)) != 0;
    cpu.has_avx512_vbmi = cpu.has_avx512 && (c & BIT(1)) != 0;
    if (cpu.has_avx512)
        cpu.lacks = !cpu.has_avx512_vnni   ? "AVX-512 VNNI"
                    : !cpu.has_avx512_vbmi ? "AVX-512 VBMI"
                                           : "";
    else if (cpu.has_avx2)
        cpu.lacks = (b & leaf7) == leaf7 ? "a system that saves AVX-512 registers"
                                         : "AVX-512 F, DQ, BW or VL";
}

/* The brand string: three leaves of 16 bytes, padded with blanks on either side. */
static void read_name(void)
{
    uint32_t words[12];
    char text[sizeof words + 1] = { 0 };
    size_t begin;
    size_t size;

    for (uint32_t i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                         &words[4 * i + 3]))
            return;
    memcpy(text, words, sizeof words);
    begin = strspn(text, " ");
    size = strlen(text + begin);
    while (size > 0 && text[begin + size - 1] == ' ')
        size--;
    _Static_assert(sizeof text <= sizeof cpu.name, "a brand string fits");
    memcpy(cpu.name, text + begin, size);
}
#else
static void read_features(void)
{
    cpu.lacks = "x86-64";
}

static void read_name(void)
{
}
#endif

/* Threads that can run at once. cpu_set_t holds 1024 processors; on a larger
 * machine the call fails and one thread is what is certain. */
static uint32_t affinity_count(void)
{
    cpu_set_t set;
    int count;

    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    count = CPU_COUNT(&set);
    return count > 0 ? (uint32_t)count : 1;
}

static void read_cpu(void)
{
    uint32_t quota = dp_cgroup_read_cpu_quota("");
    uint32_t allowed = affinity_count();

    cpu.thread_count = DP_MIN(allowed, quota);
    cpu.affinity_count = allowed;
    cpu.quota_count = quota == UINT32_MAX ? 0 : quota;
    read_features();
    read_name();
}

const dp_cpu *dp_cpu_get(void)
{
    pthread_once(&cpu_once, read_cpu);
    return &cpu;
}
