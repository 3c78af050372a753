/* convert_names.h - the plan: every tensor of the output, and where its values come from.
 *
 * Room     A table a family says which tensor of a layer comes from which, and how
 *          it lies there. Here the table meets a directory: shapes are checked,
 *          missing tensors named, and what nobody asked for refused, as the engine
 *          will refuse it. How values are moved is convert_tensor.h.
 *
 * Owns     The plan owns its lists; tensors of the directory are borrowed from it.
 *
 * Threads  One at a time.
 */
#ifndef DP_CONVERT_CONVERT_NAMES_H
#define DP_CONVERT_CONVERT_NAMES_H

#include "convert/convert_config.h"
#include "convert/convert_dir.h"

#define DP_PLAN_NAME_MAX 64

/* What a unit of a source is: all steps below count units. */
typedef enum dp_unit {
    DP_UNIT_VALUE, /* an element of F32, F16 or BF16 */
    DP_UNIT_FP8,   /* an element of F8_E4M3; the scale has one F32 a tile */
    DP_UNIT_MXFP4, /* a block: 16 bytes of the data, 1 of the scale, 32 values */
    DP_UNIT_READY  /* not from the directory: plan->values */
} dp_unit;

typedef struct dp_plan_source {
    const dp_hf_tensor *data, *scale; /* scale: NULL for DP_UNIT_VALUE */
} dp_plan_source;

/* Unit (slice, row, column) of the output is unit
 *   first + slice * slice_step + row' * row_step + column * column_step
 * of its source, where row' is row, or with head_rows != 0 the row of the same
 * head whose halves lie one behind the other: a head's rows 0 1 2 3 ... are taken
 * from 0, n/2, 1, n/2 + 1 ...: a rotation of halves becomes one of neighbours. */
typedef struct dp_plan_view {
    uint64_t first, slice_step, row_step, column_step;
    uint32_t head_rows;
} dp_plan_view;

typedef struct dp_plan_tensor {
    char name[DP_PLAN_NAME_MAX];
    dp_dtype type; /* as it will be written */
    uint32_t dim_count;
    uint64_t ne[DP_TENSOR_DIMS_MAX];
    dp_unit unit;
    uint64_t slices, rows, columns; /* in units */
    uint64_t source_columns;        /* of one row of a source, in units: for tiles */
    size_t source_first;            /* in plan->sources */
    bool has_source_each;           /* each slice has a source of its own */
    dp_plan_view view;
} dp_plan_tensor;

typedef struct dp_plan {
    dp_plan_tensor *tensors;
    size_t tensor_count, tensor_capacity;
    dp_plan_source *sources;
    size_t source_count, source_capacity;
    float *values; /* divisors of the rotation, or NULL */
} dp_plan;

/* wanted: the type of matrices, DP_DTYPE_END for that of the directory (FP8
 * becomes BF16), which rows that are no whole blocks of Q8_0 keep. Vectors, routers and biases are F32, MXFP4 stays what it is.
 * DP_E_NOTFOUND names what is missing, DP_E_CORRUPT a shape that is not the
 * configuration's, DP_E_UNSUPPORTED a type that is not converted or a tensor that
 * the family has no place for. Owned: dp_plan_close. */
dp_status dp_plan_open(dp_plan **out, dp_hf_dir *dir, const dp_hf_config *config, dp_dtype wanted,
                       dp_error *err);
void dp_plan_close(dp_plan *plan); /* NULL is fine */

#endif
