/* dtype.h - element types of weights and how their blocks lie in a file.
 *
 * The numbers are GGUF's own type ids, so a file's id is a dp_dtype once
 * dp_dtype_get has accepted it. Sources: the GGUF specification (ggml docs) and
 * the block layouts published with it; every size is asserted in dtype.c.
 */
#ifndef DP_FORMAT_DTYPE_H
#define DP_FORMAT_DTYPE_H

#include "base/base.h"

typedef enum dp_dtype {
    DP_F32 = 0,
    DP_F16 = 1,
    DP_Q4_0 = 2,
    DP_Q4_1 = 3,
    DP_Q5_0 = 6,
    DP_Q5_1 = 7,
    DP_Q8_0 = 8,
    DP_Q8_1 = 9,
    DP_Q2_K = 10,
    DP_Q3_K = 11,
    DP_Q4_K = 12,
    DP_Q5_K = 13,
    DP_Q6_K = 14,
    DP_Q8_K = 15,
    DP_IQ2_XXS = 16,
    DP_IQ2_XS = 17,
    DP_IQ3_XXS = 18,
    DP_IQ1_S = 19,
    DP_IQ4_NL = 20,
    DP_IQ3_S = 21,
    DP_IQ2_S = 22,
    DP_IQ4_XS = 23,
    DP_I8 = 24,
    DP_I16 = 25,
    DP_I32 = 26,
    DP_I64 = 27,
    DP_F64 = 28,
    DP_IQ1_M = 29,
    DP_BF16 = 30,
    DP_TQ1_0 = 34,
    DP_TQ2_0 = 35,
    DP_MXFP4 = 39,
    DP_NVFP4 = 40,
    DP_Q1_0 = 41,
    DP_DTYPE_END = 42
} dp_dtype;

typedef struct dp_dtype_info {
    const char *name;     /* "Q4_K"; NULL where the id is unused */
    uint16_t block_elems; /* elements per block along a row */
    uint16_t block_bytes;
} dp_dtype_info;

/* NULL for an id that no file may use. Any thread. */
const dp_dtype_info *dp_dtype_get(uint32_t id);

/* Bytes of a row of `elems` elements; false when elems is not whole blocks, or
 * on overflow. The type is known. */
bool dp_dtype_row_bytes(dp_dtype type, uint64_t elems, uint64_t *out_bytes);

/* The blocks, as they lie in files; all little-endian, unaligned. fp16 values
 * are raw bits. */
#define DP_QK   32  /* elements of a block of the 32-element types */
#define DP_QK_K 256 /* elements of a super-block of the K, IQ and TQ types */

/* clang-format off */
typedef struct { uint16_t d; uint8_t qs[16]; } dp_block_q4_0;
typedef struct { uint16_t d, m; uint8_t qs[16]; } dp_block_q4_1;
typedef struct { uint16_t d; uint8_t qh[4]; uint8_t qs[16]; } dp_block_q5_0;
typedef struct { uint16_t d, m; uint8_t qh[4]; uint8_t qs[16]; } dp_block_q5_1;
typedef struct { uint16_t d; int8_t qs[32]; } dp_block_q8_0;
typedef struct { uint8_t scales[16]; uint8_t qs[64]; uint16_t d, dmin; } dp_block_q2_k;
typedef struct { uint8_t hmask[32]; uint8_t qs[64]; uint8_t scales[12]; uint16_t d; } dp_block_q3_k;
typedef struct { uint16_t d, dmin; uint8_t scales[12]; uint8_t qs[128]; } dp_block_q4_k;
typedef struct { uint16_t d, dmin; uint8_t scales[12]; uint8_t qh[32]; uint8_t qs[128]; } dp_block_q5_k;
typedef struct { uint8_t ql[128]; uint8_t qh[64]; int8_t scales[16]; uint16_t d; } dp_block_q6_k;
typedef struct { uint8_t e; uint8_t qs[16]; } dp_block_mxfp4;
typedef struct { uint16_t d; uint8_t qs[64]; } dp_block_iq2_xxs;
typedef struct { uint16_t d; uint8_t qs[64]; uint8_t scales[8]; } dp_block_iq2_xs;
typedef struct { uint16_t d; uint8_t qs[32], signs[32], qh[8], scales[8]; } dp_block_iq2_s;
typedef struct { uint16_t d; uint8_t qs[64], signs[32]; } dp_block_iq3_xxs;
typedef struct { uint16_t d; uint8_t qs[64], qh[8], signs[32], scales[4]; } dp_block_iq3_s;
typedef struct { uint16_t d; uint8_t qs[32], qh[16]; } dp_block_iq1_s;
typedef struct { uint8_t qs[32], qh[16], scales[8]; } dp_block_iq1_m;
typedef struct { uint16_t d; uint8_t qs[16]; } dp_block_iq4_nl;
typedef struct { uint16_t d; uint8_t scales_h[2], scales_l[4], qs[128]; } dp_block_iq4_xs;
typedef struct { uint8_t qs[48], qh[4]; uint16_t d; } dp_block_tq1_0;
typedef struct { uint8_t qs[64]; uint16_t d; } dp_block_tq2_0;
/* clang-format on */

_Static_assert(sizeof(dp_block_q4_0) == 18, "read straight from files");
_Static_assert(sizeof(dp_block_q4_1) == 20, "read straight from files");
_Static_assert(sizeof(dp_block_q5_0) == 22, "read straight from files");
_Static_assert(sizeof(dp_block_q5_1) == 24, "read straight from files");
_Static_assert(sizeof(dp_block_q8_0) == 34, "read straight from files");
_Static_assert(sizeof(dp_block_q2_k) == 84, "read straight from files");
_Static_assert(sizeof(dp_block_q3_k) == 110, "read straight from files");
_Static_assert(sizeof(dp_block_q4_k) == 144, "read straight from files");
_Static_assert(sizeof(dp_block_q5_k) == 176, "read straight from files");
_Static_assert(sizeof(dp_block_q6_k) == 210, "read straight from files");
_Static_assert(sizeof(dp_block_mxfp4) == 17, "read straight from files");
_Static_assert(sizeof(dp_block_iq2_xxs) == 66, "read straight from files");
_Static_assert(sizeof(dp_block_iq2_xs) == 74, "read straight from files");
_Static_assert(sizeof(dp_block_iq2_s) == 82, "read straight from files");
_Static_assert(sizeof(dp_block_iq3_xxs) == 98, "read straight from files");
_Static_assert(sizeof(dp_block_iq3_s) == 110, "read straight from files");
_Static_assert(sizeof(dp_block_iq1_s) == 50, "read straight from files");
_Static_assert(sizeof(dp_block_iq1_m) == 56, "read straight from files");
_Static_assert(sizeof(dp_block_iq4_nl) == 18, "read straight from files");
_Static_assert(sizeof(dp_block_iq4_xs) == 136, "read straight from files");
_Static_assert(sizeof(dp_block_tq1_0) == 54, "read straight from files");
_Static_assert(sizeof(dp_block_tq2_0) == 66, "read straight from files");

#endif
