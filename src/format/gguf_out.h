/* gguf_out.h - writes GGUF files, larger than memory.
 *
 * Room     Keys and tensors are declared first, in memory; then the header is
 *          written and the tensors' bytes follow in the order they were
 *          declared, in pieces of any size. The file appears under its name
 *          when it is whole (base/file_out.h).
 *
 * States   DECLARING --begin--> WRITING --finish--> done
 *          close gives up in any state and leaves nothing behind.
 *
 * Invariants
 *   (1) What is written can be read: begin parses the header it is about to
 *       write (gguf.h), so a name or key it would refuse, twice the same one
 *       or one too many, is refused here, with the same sentence.
 *   (2) Between two tensors, and behind the last, lie zeros up to the alignment.
 *
 * Errors   The calls that declare keep the first error; begin and header report
 *          it. DP_E_NOMEM, DP_E_LIMIT, DP_E_INVALID; writing: those of file_out.h.
 *
 * Threads  One at a time.
 */
#ifndef DP_FORMAT_GGUF_OUT_H
#define DP_FORMAT_GGUF_OUT_H

#include "base/buf.h"
#include "format/gguf.h"

#define DP_GGUF_OUT_VERSION   3
#define DP_GGUF_OUT_ALIGNMENT 32 /* what the format assumes when nothing is said */

typedef struct dp_gguf_out dp_gguf_out;

/* NULL: no memory. version 2 or 3; alignment: a power of two, said in
 * "general.alignment" unless it is the format's own. */
dp_gguf_out *dp_gguf_out_open(uint32_t version, uint32_t alignment);
void dp_gguf_out_close(dp_gguf_out *out); /* NULL is fine */

/* ---- keys ---- */

void dp_gguf_out_u32(dp_gguf_out *out, const char *key, uint32_t value);
void dp_gguf_out_u64(dp_gguf_out *out, const char *key, uint64_t value);
void dp_gguf_out_f32(dp_gguf_out *out, const char *key, float value);
void dp_gguf_out_bool(dp_gguf_out *out, const char *key, bool value);
void dp_gguf_out_str(dp_gguf_out *out, const char *key, const char *value);
void dp_gguf_out_text(dp_gguf_out *out, const char *key, dp_str value); /* any bytes */

/* A scalar of any type but strings: its bytes as they lie in a file, little-endian. */
void dp_gguf_out_scalar(dp_gguf_out *out, const char *key, dp_gguf_type type, const void *value);
/* An array of such: `values` are `count` of them. */
void dp_gguf_out_array(dp_gguf_out *out, const char *key, dp_gguf_type type, uint64_t count,
                       const void *values);
void dp_gguf_out_str_array(dp_gguf_out *out, const char *key, uint64_t count,
                           const char *const *values);
/* An array of strings, one at a time: `count` calls of element must follow. */
void dp_gguf_out_text_array(dp_gguf_out *out, const char *key, uint64_t count);
void dp_gguf_out_text_element(dp_gguf_out *out, dp_str value);

/* A key of another file, as it is there. Its vocabulary was not dropped. */
void dp_gguf_out_copy(dp_gguf_out *out, const dp_gguf_value *value);

/* ---- tensors ---- */

/* The next tensor. ne[0] must be whole blocks and no dimension 0 (DP_E_INVALID);
 * dim_count 1..4; the type is known. */
void dp_gguf_out_tensor(dp_gguf_out *out, const char *name, dp_dtype type, uint32_t dim_count,
                        const uint64_t *ne);

size_t dp_gguf_out_tensor_count(const dp_gguf_out *out);
uint64_t dp_gguf_out_tensor_size(const dp_gguf_out *out, size_t i); /* bytes, without padding */
/* Of the whole file, as declared so far: header, tensors, padding. */
uint64_t dp_gguf_out_file_size(const dp_gguf_out *out);

/* ---- writing ---- */

/* Appends the header (through the padding before the data) to buf, unchecked. */
dp_status dp_gguf_out_header(dp_gguf_out *out, dp_buf *buf, dp_error *err);

/* Creates the file and writes the header. Nothing can be declared any more. */
dp_status dp_gguf_out_begin(dp_gguf_out *out, const char *path, dp_error *err);
/* The next bytes of the current tensor: at most those it still lacks. When it has
 * all, the next tensor is the current one. */
dp_status dp_gguf_out_write(dp_gguf_out *out, const void *bytes, size_t size, dp_error *err);
/* As if as many zeros were written; the file may have a hole there. */
dp_status dp_gguf_out_skip(dp_gguf_out *out, uint64_t size, dp_error *err);
/* The tensor that takes the next bytes, and how many it lacks; false when all have theirs. */
bool dp_gguf_out_current(const dp_gguf_out *out, size_t *i, uint64_t *lacking);
/* Makes the file durable and gives it its name. DP_E_INVALID while a tensor lacks bytes. */
dp_status dp_gguf_out_finish(dp_gguf_out *out, dp_error *err);

#endif
