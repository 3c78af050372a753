#include "engine/rates.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "device/device.h"

#define MATRIX_BYTES ((uint64_t)512 << 10) /* a thread, within second-level caches */
#define ROW_ELEMS    2048
#define PASSES_LEAST 3

/* The weights are zeros: no kernel's time depends on them. Bytes of weights in a second of
 * the fastest product. */
static dp_status measure_type(double *bytes_s, dp_device *device, dp_dtype type,
                              const dp_rates_config *config, dp_error *err)
{
    uint64_t begin_ns = dp_clock_now_ns(&dp_clock_real);
    uint64_t best_ns = UINT64_MAX, row_bytes = 0, size;
    uint32_t rows;
    uint8_t *weights;
    float *x, *y;
    dp_op_matmul op;
    dp_status st = DP_OK;

    if (!dp_dtype_row_bytes(type, ROW_ELEMS, &row_bytes))
        return dp_fail(err, DP_E_UNSUPPORTED, "rates: rows of type %d", (int)type);
    rows = (uint32_t)DP_MAX(MATRIX_BYTES * config->threads / row_bytes, 16);
    size = rows * row_bytes;
    weights = dp_map_acquire(size);
    x = device->ops->acquire(device, ROW_ELEMS * sizeof *x);
    y = device->ops->acquire(device, rows * sizeof *y);
    if (!weights || !x || !y) {
        st = dp_fail(err, DP_E_NOMEM, "rates: no memory for a matrix");
        goto done;
    }
    op = (dp_op_matmul){ .x = x, .x_stride = ROW_ELEMS, .tokens = 1, .part_count = 1 };
    op.part[0] = (dp_matmul_part){ .w = { weights, type, rows, ROW_ELEMS, row_bytes },
                                   .y = y,
                                   .y_stride = rows };
    for (uint32_t pass = 0;; pass++) {
        uint64_t from_ns = dp_clock_now_ns(&dp_clock_real), now_ns;

        if (pass >= PASSES_LEAST && from_ns - begin_ns >= config->type_ns)
            break;
        device->ops->matmul(device, &op);
        now_ns = dp_clock_now_ns(&dp_clock_real);
        best_ns = DP_MIN(best_ns, DP_MAX(now_ns - from_ns, 1));
    }
    *bytes_s = (double)size * 1e9 / (double)best_ns;
done:
    if (x)
        device->ops->release(device, x, ROW_ELEMS * sizeof *x);
    if (y)
        device->ops->release(device, y, rows * sizeof *y);
    dp_map_release(weights, size);
    return st;
}

dp_status dp_rates_compute(double *seconds, const dp_gguf *gguf, const double *used,
                           const dp_rates_config *config, dp_error *err)
{
    dp_device_limits limits = { .tokens = 1, .k_max = ROW_ELEMS, .value_dim = 64 };
    double bytes[DP_DTYPE_END] = { 0 };
    dp_device *device;
    dp_status st;

    *seconds = 0;
    st = dp_device_cpu_open(&device, config->kernels, config->threads, &limits, err);
    if (st)
        return st;
    for (size_t i = 0; i < dp_gguf_tensor_count(gguf); i++) {
        const dp_tensor *t = dp_gguf_tensor(gguf, i);

        if (t->dim_count > 1 && t->dtype < DP_DTYPE_END) /* norms and biases are next to nothing */
            bytes[t->dtype] += used[i] * (double)t->size;
    }
    for (int type = 0; type < DP_DTYPE_END && !st; type++) {
        double bytes_s;

        if (bytes[type] <= 0 || !device->ops->has_dtype(device, (dp_dtype)type))
            continue;
        st = measure_type(&bytes_s, device, (dp_dtype)type, config, err);
        if (!st)
            *seconds += bytes[type] / bytes_s;
    }
    device->ops->close(device);
    return st;
}
