/* device_cpu.h - the CPU backend's own state. Seen by cpu/ alone. */
#ifndef DP_DEVICE_CPU_DEVICE_CPU_H
#define DP_DEVICE_CPU_DEVICE_CPU_H

#include "base/pool.h"
#include "device/device.h"
#include "kernel/kernel.h"

#define DP_CPU_HEADS        8  /* that see a block of keys and values together */
#define DP_CPU_HEAD_COLUMNS 16 /* tokens of a head that are multiplied together */
#define DP_CPU_HEAD_SUMS    4  /* the same, of a transposed product */

typedef struct dp_device_cpu {
    dp_device base;
    const dp_kernels *kernels;
    dp_pool *pool;
    dp_device_limits limits;
    uint32_t threads;
    char name[64];
    uint8_t *packed; /* [tokens] packed columns of the running matmul */
    uint64_t packed_size;
    uint8_t *scratch;    /* [threads][thread_bytes] */
    size_t thread_bytes; /* sums of attention [DP_CPU_HEADS][head_stride], or what a product of
                             heads takes: one operation runs at a time */
    size_t head_stride;  /* value_dim, padded */
} dp_device_cpu;

static inline dp_device_cpu *dp_device_cpu_of(dp_device *d)
{
    return (dp_device_cpu *)d;
}

/* Items per run so that each thread gets a few runs, in multiples of `unit`. */
size_t dp_cpu_grain(const dp_device_cpu *cpu, size_t count, size_t unit);

/* One column for weights of this kind: x [k] -> out [dp_act_bytes]. */
void dp_cpu_pack(const dp_kernels *kernels, dp_act act, void *out, const float *x, size_t k);

void dp_cpu_matmul(dp_device *d, const dp_op_matmul *op);
void dp_cpu_matmul_heads(dp_device *d, const dp_op_matmul_heads *op);
void dp_cpu_embed(dp_device *d, float *out, const dp_mat *table, uint32_t row);
void dp_cpu_rmsnorm(dp_device *d, float *out, const float *x, const float *gain, uint32_t rows,
                    uint32_t n, float eps);
void dp_cpu_rope(dp_device *d, const dp_op_rope *op);
void dp_cpu_kv_store(dp_device *d, const dp_op_kv_store *op);
void dp_cpu_kv_load(dp_device *d, const dp_op_kv_load *op);
void dp_cpu_attention(dp_device *d, const dp_op_attention *op);
void dp_cpu_attend_block(dp_device *d, const dp_op_attend_block *op);
void dp_cpu_turn_heads(dp_device *d, const dp_op_turn_heads *op);
void dp_cpu_route(dp_device *d, const dp_op_route *op);
void dp_cpu_swiglu(dp_device *d, float *out, const float *gate, const float *up, size_t n);
void dp_cpu_swiglu_clamped(dp_device *d, float *out, const float *gate, const float *up, size_t n,
                           float alpha, float limit);
void dp_cpu_add(dp_device *d, float *out, const float *x, size_t n);
void dp_cpu_mix(dp_device *d, const dp_op_mix *op);

#endif
