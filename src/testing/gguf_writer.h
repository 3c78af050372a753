/* gguf_writer.h - makes GGUF files of any shape, well formed or not, for tests and benchmarks.
 *
 * Room     format/gguf_out.h with weights made from a seed: keys and tensors are
 *          declared, then the header is rendered to memory, or the whole model
 *          streamed to a file. Tests change rendered bytes to make hostile files.
 *
 * Weights  Every tensor's bytes depend on (seed, name, type, shape) alone. Block
 *          scales are chosen so that values have the wanted rms: random nibbles
 *          are not a model, but activations stay finite through any depth.
 *
 * Threads  One at a time. Errors: DP_E_NOMEM, DP_E_IO, DP_E_INVALID.
 */
#ifndef DP_TESTING_GGUF_WRITER_H
#define DP_TESTING_GGUF_WRITER_H

#include "base/buf.h"
#include "format/gguf.h"

typedef struct dp_gguf_writer dp_gguf_writer;

dp_gguf_writer *dp_gguf_writer_open(uint32_t version, uint32_t alignment); /* NULL: no memory */
void dp_gguf_writer_close(dp_gguf_writer *w);

void dp_gguf_writer_u32(dp_gguf_writer *w, const char *key, uint32_t value);
void dp_gguf_writer_u64(dp_gguf_writer *w, const char *key, uint64_t value);
void dp_gguf_writer_f32(dp_gguf_writer *w, const char *key, float value);
void dp_gguf_writer_bool(dp_gguf_writer *w, const char *key, bool value);
void dp_gguf_writer_str(dp_gguf_writer *w, const char *key, const char *value);
void dp_gguf_writer_array(dp_gguf_writer *w, const char *key, dp_gguf_type type, uint64_t count,
                          const void *values);
void dp_gguf_writer_str_array(dp_gguf_writer *w, const char *key, uint64_t count,
                              const char *const *values);

/* Makes part `no` of `count` of a split model: its keys, and of the tensors added from
 * now on only its share of `tensor_count`, in order. Call before adding tensors. */
void dp_gguf_writer_split(dp_gguf_writer *w, uint16_t no, uint16_t count, uint32_t tensor_count);

/* Of each matrix (of a stack: the first and the last) only the blocks that begin in its
 * first `bytes` are filled, the rest is zeros, and holes in the file: models larger than the
 * disk. 0, as at first: all are filled. Vectors and given bytes are written whole. */
void dp_gguf_writer_sparse(dp_gguf_writer *w, uint64_t bytes);

typedef enum dp_fill { DP_FILL_NORMAL, DP_FILL_ONES, DP_FILL_ZERO } dp_fill;

/* Adds a tensor whose values will have rms `std` around 0 (ONES: 1 + noise of
 * std, for norms; of F32, F16, BF16 only). ne[0] must be whole blocks and no
 * dimension 0: DP_E_INVALID otherwise, as for types gguf_fill.h cannot fill. */
void dp_gguf_writer_tensor(dp_gguf_writer *w, const char *name, dp_dtype type, uint32_t dim_count,
                           const uint64_t *ne, dp_fill fill, float std);
/* Adds a tensor with given bytes (borrowed until the file is written). */
void dp_gguf_writer_tensor_bytes(dp_gguf_writer *w, const char *name, dp_dtype type,
                                 uint32_t dim_count, const uint64_t *ne, const void *bytes);

/* Appends the header (through the padding before the data) to buf. The first
 * error of the calls above is reported here. */
dp_status dp_gguf_writer_header(dp_gguf_writer *w, dp_buf *buf, dp_error *err);
/* Writes header and weights to path, streaming: memory stays below 16 MiB. Once. */
dp_status dp_gguf_writer_save(dp_gguf_writer *w, const char *path, uint64_t seed, dp_error *err);

#endif
