#include "device/cpu/device_cpu.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/status.h"

static uint64_t packed_bytes(const dp_device_limits *limits)
{
    size_t q8 = dp_act_bytes(DP_ACT_Q8_32, dp_align_up(limits->k_max, DP_QK_K));
    size_t f32 = dp_act_bytes(DP_ACT_F32, limits->k_max);

    return (uint64_t)DP_MAX(q8, f32) * limits->tokens;
}

static uint64_t head_bytes(const dp_device_limits *limits)
{
    return dp_align_up(limits->value_dim * sizeof(float), DP_CACHE_LINE);
}

static uint64_t columns_bytes(const dp_device_limits *limits)
{
    size_t q8 = dp_act_bytes(DP_ACT_Q8_32, dp_align_up(limits->head_k, DP_QK_K));
    size_t f32 = dp_act_bytes(DP_ACT_F32, limits->head_k);
    uint64_t columns = DP_MAX(q8, f32) * DP_CPU_HEAD_COLUMNS;

    /* A transposed product has a row of weights and sixteen lanes a token. */
    return DP_MAX(columns, f32 * (1 + 16 * DP_CPU_HEAD_SUMS));
}

static uint64_t thread_bytes(const dp_device_limits *limits)
{
    return DP_MAX(head_bytes(limits) * DP_CPU_HEADS, columns_bytes(limits));
}

uint64_t dp_device_cpu_scratch_bytes(const dp_device_limits *limits, uint32_t threads)
{
    return packed_bytes(limits) + thread_bytes(limits) * threads;
}

bool dp_device_cpu_has_dtype(dp_dtype type)
{
    return (unsigned)type < DP_DTYPE_END && dp_kernels_ref.matmul[type];
}

static bool cpu_has_dtype(const dp_device *d, dp_dtype type)
{
    (void)d;
    return dp_device_cpu_has_dtype(type);
}

static void *cpu_acquire(dp_device *d, size_t size)
{
    (void)d;
    return dp_map_acquire(size);
}

static void cpu_release(dp_device *d, void *memory, size_t size)
{
    (void)d;
    dp_map_release(memory, size);
}

static void cpu_close(dp_device *d)
{
    dp_device_cpu *cpu = dp_device_cpu_of(d);

    dp_pool_close(cpu->pool);
    dp_map_release(cpu->packed, cpu->packed_size);
    dp_map_release(cpu->scratch, thread_bytes(&cpu->limits) * cpu->threads);
    dp_free(cpu);
}

static const dp_device_ops cpu_ops = {
    .acquire = cpu_acquire,
    .release = cpu_release,
    .has_dtype = cpu_has_dtype,
    .embed = dp_cpu_embed,
    .rmsnorm = dp_cpu_rmsnorm,
    .matmul = dp_cpu_matmul,
    .matmul_heads = dp_cpu_matmul_heads,
    .rope = dp_cpu_rope,
    .kv_store = dp_cpu_kv_store,
    .kv_load = dp_cpu_kv_load,
    .attention = dp_cpu_attention,
    .attend_block = dp_cpu_attend_block,
    .turn_heads = dp_cpu_turn_heads,
    .route = dp_cpu_route,
    .swiglu = dp_cpu_swiglu,
    .swiglu_clamped = dp_cpu_swiglu_clamped,
    .add = dp_cpu_add,
    .mix = dp_cpu_mix,
    .close = cpu_close,
};

const char *dp_device_cpu_kernels(const char *name)
{
    const dp_kernels *kernels = dp_kernels_find(name);

    return kernels ? kernels->name : NULL;
}

dp_status dp_device_cpu_open(dp_device **out, const char *kernels, uint32_t threads,
                             const dp_device_limits *limits, dp_error *err)
{
    dp_status st = DP_OK;
    dp_device_cpu *cpu = NULL;

    *out = NULL;
    cpu = dp_alloc_zero(1, sizeof *cpu);
    if (!cpu)
        return dp_fail(err, DP_E_NOMEM, "cpu device: no memory");
    cpu->limits = *limits;
    cpu->threads = threads;
    cpu->kernels = dp_kernels_find(kernels);
    if (!cpu->kernels) {
        st = dp_fail(err, DP_E_UNSUPPORTED, "kernels \"%s\" are unknown or this CPU can't run them",
                     kernels);
        goto done;
    }
    st = dp_pool_open(&cpu->pool, threads, err);
    if (st)
        goto done;
    cpu->packed_size = packed_bytes(limits);
    cpu->head_stride = head_bytes(limits) / sizeof(float);
    cpu->packed = dp_map_acquire(cpu->packed_size);
    cpu->thread_bytes = thread_bytes(limits);
    cpu->scratch = dp_map_acquire(cpu->thread_bytes * threads);
    if (!cpu->packed || !cpu->scratch) {
        st = dp_fail(err, DP_E_NOMEM, "cpu device: %llu bytes of scratch memory",
                     (unsigned long long)dp_device_cpu_scratch_bytes(limits, threads));
        goto done;
    }
    snprintf(cpu->name, sizeof cpu->name, "cpu (%s, %u thread%s)", cpu->kernels->name, threads,
             threads == 1 ? "" : "s");
    cpu->base.ops = &cpu_ops;
    cpu->base.name = cpu->name;

    *out = &cpu->base;
    cpu = NULL;
done:
    if (cpu)
        cpu_close(&cpu->base);
    return st;
}

size_t dp_cpu_grain(const dp_device_cpu *cpu, size_t count, size_t unit)
{
    /* Four runs a thread: enough to even out a thread that was interrupted,
     * few enough that handing out runs costs nothing. */
    size_t runs = (size_t)dp_pool_thread_count(cpu->pool) * 4;
    size_t grain = (count + runs - 1) / runs;

    grain = (grain + unit - 1) / unit * unit;
    return grain ? grain : unit;
}
