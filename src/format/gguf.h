/* gguf.h - the header of GGUF files: metadata and tensor descriptions.
 *
 * Room     Bytes in, description out. dp_gguf_parse reads one file's header from
 *          memory and does no I/O; dp_gguf_open reads a model from disk, all its
 *          split parts included, and owns the open files' paths but not their data.
 *
 * Accepts  Version 2 and 3, little-endian; every type id of dtype.h. Everything
 *          is checked: counts against named maxima and the bytes left, string
 *          lengths, products of dimensions, offset + size against the file,
 *          alignment (a power of two <= 64 KiB), duplicate keys and tensors,
 *          tensors that overlap. A bad file gives one sentence with the byte
 *          offset or the name at fault.
 *
 * Threads  A parsed description is immutable: any thread. Dropping the vocabulary
 *          and closing need that no other thread is using it.
 *
 * Source   ggml/docs/gguf.md, versions 2 and 3.
 */
#ifndef DP_FORMAT_GGUF_H
#define DP_FORMAT_GGUF_H

#include "base/str.h"
#include "doppler/status.h"
#include "format/tensor.h"

#define DP_GGUF_HEADER_MAX  ((size_t)512 << 20) /* 256k-token vocabularies with merges are ~20 MiB */
#define DP_GGUF_KEYS_MAX    65536
#define DP_GGUF_TENSORS_MAX 1048576 /* DeepSeek-V3 per-expert files: about 45,000 */
#define DP_GGUF_PARTS_MAX   1024
#define DP_GGUF_NAME_MAX    256

typedef enum dp_gguf_type {
    DP_GGUF_U8,
    DP_GGUF_I8,
    DP_GGUF_U16,
    DP_GGUF_I16,
    DP_GGUF_U32,
    DP_GGUF_I32,
    DP_GGUF_F32,
    DP_GGUF_BOOL,
    DP_GGUF_STRING,
    DP_GGUF_ARRAY,
    DP_GGUF_U64,
    DP_GGUF_I64,
    DP_GGUF_F64,
    DP_GGUF_TYPE_COUNT
} dp_gguf_type;

typedef struct dp_gguf dp_gguf;

typedef struct dp_gguf_value {
    dp_str key;        /* NUL-terminated in fact */
    dp_gguf_type type; /* of the value, or of an array's elements */
    bool is_array;
    uint64_t count;        /* elements; 1 for a scalar */
    const uint8_t *bytes;  /* first element, unaligned; strings: u64 length then bytes, each */
    const dp_str *strings; /* arrays of strings: [count] views, NULL otherwise */
} dp_gguf_value;

/* Parses the header at bytes[0..size) of a file of file_size bytes. When size <
 * file_size and the header goes on past `size`, returns DP_E_BUSY: call again
 * with more (at least *need bytes when need is not NULL). The description
 * copies what it keeps: bytes may go. `name` is for error sentences.
 * DP_E_CORRUPT, DP_E_LIMIT, DP_E_UNSUPPORTED, DP_E_NOMEM. */
dp_status dp_gguf_parse(dp_gguf **out, const char *name, const uint8_t *bytes, size_t size,
                        uint64_t file_size, size_t *need, dp_error *err);

/* Reads the model at `path`: a single file, or any part of a split model
 * ("-00002-of-00005.gguf"; the others are found beside it and must agree).
 * Metadata is the first part's. Owned: dp_gguf_close. */
dp_status dp_gguf_open(dp_gguf **out, const char *path, dp_error *err);
void dp_gguf_close(dp_gguf *gguf);

/* Bytes of a model's files from somewhere else than paths. Headers are read from the front
 * in few, growing reads: each may be a fetch. */
typedef struct dp_gguf_input {
    void *user;
    uint32_t part_count;
    const char *(*name)(void *user, uint32_t part); /* for sentences; stays until the call ends */
    uint64_t (*size)(void *user, uint32_t part);
    dp_status (*read)(void *user, uint32_t part, uint64_t offset, void *out, size_t size,
                      dp_error *err);
} dp_gguf_input;

/* As dp_gguf_open, from all parts of a model in any order: their numbers are split.no's, and
 * a name that ends in one has to agree. dp_tensor.file_index is the part's place in the
 * input; tensors come in the order of the numbers, so that no order of parts tells.
 * DP_E_NOTFOUND when the input is one part of several. */
dp_status dp_gguf_open_input(dp_gguf **out, const dp_gguf_input *input, dp_error *err);

uint32_t dp_gguf_version(const dp_gguf *gguf);
uint32_t dp_gguf_part_count(const dp_gguf *gguf);
const char *dp_gguf_part_path(const dp_gguf *gguf, uint32_t part);
uint64_t dp_gguf_part_size(const dp_gguf *gguf, uint32_t part); /* bytes of that file */
/* Which part of the split model it is, from 0: its own index when opened by path. */
uint32_t dp_gguf_part_number(const dp_gguf *gguf, uint32_t part);

size_t dp_gguf_tensor_count(const dp_gguf *gguf);
const dp_tensor *dp_gguf_tensor(const dp_gguf *gguf, size_t i);
const dp_tensor *dp_gguf_find_tensor(const dp_gguf *gguf, const char *name); /* NULL: none */

size_t dp_gguf_key_count(const dp_gguf *gguf);
const dp_gguf_value *dp_gguf_key(const dp_gguf *gguf, size_t i);
const dp_gguf_value *dp_gguf_find(const dp_gguf *gguf, const char *key); /* NULL: none */

/* Values coerced the way files in circulation need it: any integer type for
 * u64 and i64 (negative is refused for u64), any number for f64. DP_E_NOTFOUND
 * when the key is missing, DP_E_CORRUPT when it has another type; both name the
 * key. `i` selects an array's element (0 for a scalar). */
dp_status dp_gguf_get_u64(const dp_gguf *gguf, const char *key, uint64_t i, uint64_t *out,
                          dp_error *err);
dp_status dp_gguf_get_i64(const dp_gguf *gguf, const char *key, uint64_t i, int64_t *out,
                          dp_error *err);
dp_status dp_gguf_get_f64(const dp_gguf *gguf, const char *key, uint64_t i, double *out,
                          dp_error *err);
dp_status dp_gguf_get_bool(const dp_gguf *gguf, const char *key, bool *out, dp_error *err);
dp_status dp_gguf_get_str(const dp_gguf *gguf, const char *key, dp_str *out, dp_error *err);

/* Frees the token arrays ("tokenizer.ggml.tokens", ".merges", ".scores",
 * ".token_type"), once a tokenizer has been built: they are most of a header.
 * dp_gguf_find no longer finds them; dp_gguf_key lists them with no elements
 * and NULL for bytes. */
void dp_gguf_drop_vocab(dp_gguf *gguf);

#endif
