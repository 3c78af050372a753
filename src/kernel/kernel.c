/* kernel.c - the tables, best first. */
#include <string.h>
#include "base/cpu.h"
#include "kernel/kernel_impl.h"
#include "kernel/quantize_impl.h"

#define MATMUL(set, type, id) [id] = dp_matmul_##set##_##type,

#define QUANTIZE(set, type, id) [id] = dp_quantize_##type##_##set,

#define PACK(set) .pack_q8_32 = dp_pack_q8_32_##set, .pack_q8_256 = dp_pack_q8_256_##set

#define ATTEND(set, type, id) [id] = dp_attend_##set##_##type,

#define FLOAT(set)                                                                                 \
    .rmsnorm = dp_rmsnorm_##set, .rope = dp_rope_##set, .exp = dp_exp_##set,                       \
    .softmax = dp_softmax_##set, .swiglu = dp_swiglu_##set,                                        \
    .swiglu_clamped = dp_swiglu_clamped_##set, .add = dp_add_##set,                                \
    .add_scaled = dp_add_scaled_##set, .f16_from_f32 = dp_f16_from_f32_##set,                      \
    .f32_from_f16 = dp_f32_from_f16_##set, .attend = { DP_ATTEND_TYPES(ATTEND, set) },             \
    .attend_finish = dp_attend_finish_##set

static bool always(void)
{
    return true;
}

const dp_kernels dp_kernels_ref = {
    .name = "ref",
    .usable = always,
    .matmul = { DP_MATMUL_FLOAT_TYPES(MATMUL, ref) DP_MATMUL_QUANT_TYPES(MATMUL, ref)
                    DP_MATMUL_IQ_TYPES(MATMUL, ref) },
    .quantize = { DP_QUANTIZE_TYPES(QUANTIZE, ref) },
    PACK(ref),
    FLOAT(ref),
};

#ifdef __x86_64__
static bool has_avx2(void)
{
    return dp_cpu_get()->has_avx2;
}

static bool has_avx512(void)
{
    return dp_cpu_get()->has_avx512;
}

static bool has_avx512_vnni(void)
{
    return dp_cpu_get()->has_avx512 && dp_cpu_get()->has_avx512_vnni;
}

static bool has_avx512_vbmi(void)
{
    return has_avx512_vnni() && dp_cpu_get()->has_avx512_vbmi;
}

static const dp_kernels table_avx2 = {
    .name = "x86.avx2",
    .usable = has_avx2,
    .matmul = { DP_MATMUL_FLOAT_TYPES(MATMUL, avx2) DP_MATMUL_QUANT_TYPES(MATMUL, avx2)
                    DP_MATMUL_IQ_TYPES(MATMUL, avx2) },
    .quantize = { DP_QUANTIZE_TYPES(QUANTIZE, avx2) },
    PACK(avx2),
    FLOAT(avx2),
};

static const dp_kernels table_avx512 = {
    .name = "x86.avx512",
    .usable = has_avx512,
    .matmul = { DP_MATMUL_FLOAT_TYPES(MATMUL, avx512) DP_MATMUL_QUANT_TYPES(MATMUL, avx512)
                    DP_MATMUL_IQ_TYPES(MATMUL, avx512) },
    .quantize = { DP_QUANTIZE_TYPES(QUANTIZE, avx2) },
    PACK(avx512),
    FLOAT(avx512),
};

static const dp_kernels table_avx512vnni = {
    .name = "x86.avx512vnni",
    .usable = has_avx512_vnni,
    .matmul = { DP_MATMUL_FLOAT_TYPES(MATMUL, avx512) DP_MATMUL_QUANT_TYPES(MATMUL, avx512vnni)
                    DP_MATMUL_IQ_TYPES(MATMUL, avx512vnni) },
    .quantize = { DP_QUANTIZE_TYPES(QUANTIZE, avx2) },
    PACK(avx512),
    FLOAT(avx512),
};

static const dp_kernels table_avx512vbmi = {
    .name = "x86.avx512vbmi",
    .usable = has_avx512_vbmi,
    .matmul = { DP_MATMUL_FLOAT_TYPES(MATMUL, avx512) DP_MATMUL_QUANT_TYPES(MATMUL, avx512vnni)
                    DP_MATMUL_IQ_TYPES(MATMUL, avx512vbmi) },
    .quantize = { DP_QUANTIZE_TYPES(QUANTIZE, avx2) },
    PACK(avx512),
    FLOAT(avx512),
};
#endif

const dp_kernels *const dp_kernels_all[] = {
#ifdef __x86_64__
    &table_avx512vbmi, &table_avx512vnni,
    &table_avx512,     &table_avx2,
#endif
    &dp_kernels_ref,   NULL,
};

const dp_kernels *dp_kernels_find(const char *name)
{
    bool any = !name || strcmp(name, "auto") == 0;

    for (size_t i = 0; dp_kernels_all[i]; i++)
        if (any || strcmp(name, dp_kernels_all[i]->name) == 0) {
            if (dp_kernels_all[i]->usable())
                return dp_kernels_all[i];
        }
    return NULL;
}
