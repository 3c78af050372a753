/* tensor.h - what is known of a tensor before a byte of it is read. */
#ifndef DP_FORMAT_TENSOR_H
#define DP_FORMAT_TENSOR_H

#include "base/str.h"
#include "format/dtype.h"

#define DP_TENSOR_DIMS_MAX 4

typedef struct dp_tensor {
    dp_str name; /* NUL-terminated in fact; lives as long as its file's description */
    dp_dtype dtype;
    uint32_t dim_count;              /* 1..4 */
    uint64_t ne[DP_TENSOR_DIMS_MAX]; /* fastest first: {in, out, experts}; unused are 1 */
    uint32_t file_index;             /* which part of a split model */
    uint64_t offset;                 /* from the start of that file */
    uint64_t size;                   /* bytes */
} dp_tensor;

#endif
