/* safetensors.h - the header of safetensors files: which tensors, of what type and shape, where.
 *
 * Room     Bytes in, description out, as gguf.h does for GGUF: nothing here reads a
 *          weight. A model of several files has an index beside them; putting the
 *          files together is the business of convert.
 *
 * Accepts  Every element type of the published format that fills whole bytes; the
 *          others are refused by name. Checked: the header's length before memory
 *          is taken for it, products of dimensions against the bytes a tensor
 *          claims, offsets against the file, tensors that overlap, names that
 *          come twice or hold control bytes.
 *
 * Threads  Immutable once parsed: any thread.
 *
 * Source   The format's description in github.com/huggingface/safetensors.
 */
#ifndef DP_FORMAT_SAFETENSORS_H
#define DP_FORMAT_SAFETENSORS_H

#include "base/str.h"
#include "doppler/status.h"

#define DP_SAFETENSORS_HEADER_MAX  ((uint64_t)100 << 20) /* the format's own limit */
#define DP_SAFETENSORS_TENSORS_MAX 1048576 /* DeepSeek-V3: 91,991 with their scales, in 163 files */
#define DP_SAFETENSORS_DIMS_MAX    8
#define DP_SAFETENSORS_NAME_MAX    256

typedef enum dp_st_type {
    DP_ST_BOOL,
    DP_ST_U8,
    DP_ST_I8,
    DP_ST_F8_E5M2,
    DP_ST_F8_E4M3,
    DP_ST_F8_E8M0,
    DP_ST_U16,
    DP_ST_I16,
    DP_ST_F16,
    DP_ST_BF16,
    DP_ST_U32,
    DP_ST_I32,
    DP_ST_F32,
    DP_ST_U64,
    DP_ST_I64,
    DP_ST_F64,
    DP_ST_TYPE_COUNT
} dp_st_type;

const char *dp_st_type_name(dp_st_type type); /* "BF16" */
uint32_t dp_st_type_size(dp_st_type type);    /* bytes of an element */

typedef struct dp_safetensor {
    dp_str name; /* NUL-terminated in fact */
    dp_st_type type;
    uint32_t dim_count;                     /* 0 for a single value */
    uint64_t dims[DP_SAFETENSORS_DIMS_MAX]; /* slowest first, as in the file */
    uint64_t offset;                        /* from the start of the file */
    uint64_t size;                          /* bytes: elements times dp_st_type_size */
} dp_safetensor;

typedef struct dp_safetensors dp_safetensors;

/* header[0..size): the JSON text of a file of file_size bytes, which begins with
 * its length in 8 bytes. It may go afterwards. `name` is for error sentences.
 * DP_E_CORRUPT, DP_E_LIMIT, DP_E_UNSUPPORTED, DP_E_NOMEM. */
dp_status dp_safetensors_parse(dp_safetensors **out, const char *name, const char *header,
                               size_t size, uint64_t file_size, dp_error *err);
/* Reads the header of the file at path. Also DP_E_IO, DP_E_NOTFOUND. Owned:
 * dp_safetensors_close. */
dp_status dp_safetensors_open(dp_safetensors **out, const char *path, dp_error *err);
void dp_safetensors_close(dp_safetensors *s); /* NULL is fine */

size_t dp_safetensors_count(const dp_safetensors *s);
const dp_safetensor *dp_safetensors_at(const dp_safetensors *s,
                                       size_t i); /* in the header's order */
const dp_safetensor *dp_safetensors_find(const dp_safetensors *s,
                                         const char *name); /* NULL: none */

#endif
