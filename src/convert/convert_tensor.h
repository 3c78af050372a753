/* convert_tensor.h - moves a tensor of the plan into the output, a piece at a time.
 *
 * Room     Reads runs of a source, turns them into units of one kind, picks the
 *          units in the order of the output and writes them as its type. Memory is
 *          a few buffers of a chunk; a slice that is stored transposed is one
 *          chunk, since any of its rows is spread over all of it.
 *
 * Values   Equal types are copied bit for bit, MXFP4 blocks only move their halves.
 *          Everything else goes through f32: F16, BF16 and F32 exactly into it, FP8
 *          times its scale with one rounding; out of it to the nearest, ties to even, and
 *          to Q8_0 as kernel/quantize.h says.
 *
 * Threads  One at a time.
 */
#ifndef DP_CONVERT_CONVERT_TENSOR_H
#define DP_CONVERT_CONVERT_TENSOR_H

#include "convert/convert_names.h"

#define DP_MOVE_CHUNK_UNITS ((uint64_t)1 << 20)  /* what a buffer holds where rows lie together */
#define DP_MOVE_UNITS_MAX   ((uint64_t)24 << 20) /* a transposed slice; gpt-oss has 16,588,800 */

enum { DP_MOVE_RAW, DP_MOVE_SCALES, DP_MOVE_UNITS, DP_MOVE_ROWS, DP_MOVE_PACKED, DP_MOVE_BUFFERS };

typedef struct dp_mover {
    dp_hf_dir *dir;
    const dp_hf_config *config;
    const dp_plan *plan;
    dp_gguf_out *out;
    const struct dp_kernels *kernels;  /* any table: all give the same bytes */
    uint8_t *buffers[DP_MOVE_BUFFERS]; /* grown when needed */
    size_t sizes[DP_MOVE_BUFFERS];
    dp_error *err;
} dp_mover;

void dp_mover_deinit(dp_mover *m); /* the buffers */

/* Writes the tensor, which is the current one of the output. DP_E_IO, DP_E_NOMEM,
 * DP_E_CORRUPT, DP_E_LIMIT: a value too large for the type, a slice too large to turn. */
dp_status dp_move_tensor(dp_mover *m, const dp_plan_tensor *t);

/* ---- formats ---- */

/* F8 E4M3: sign, 4 bits of exponent (bias 7), 3 of fraction; no infinity, and NaN only
 * where all of exponent and fraction are set. Exact. Source: Micikevicius et al.
 * 2022, arXiv:2209.05433, table 1. */
float dp_f32_from_e4m3(uint8_t bits);

/* out[0..16]: a block of GGUF. The published blocks keep neighbours in a byte, the
 * even value in its low half; GGUF keeps value i and i + 16 together. */
void dp_mxfp4_repack(uint8_t out[17], const uint8_t in[16], uint8_t scale);

#endif
