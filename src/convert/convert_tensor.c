#include "convert/convert_tensor.h"

#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/status.h"
#include "kernel/quantize.h"

#define BLOCK_IN  16 /* bytes of an MXFP4 block without its scale */
#define BLOCK_OUT 17

/* ---- formats ---- */

float dp_f32_from_e4m3(uint8_t bits)
{
    int exponent = bits >> 3 & 15, fraction = bits & 7;
    float magnitude;

    if (exponent == 15 && fraction == 7)
        return bits & 0x80 ? -NAN : NAN;
    magnitude =
        exponent ? ldexpf((float)(8 + fraction), exponent - 10) : ldexpf((float)fraction, -9);
    return bits & 0x80 ? -magnitude : magnitude;
}

void dp_mxfp4_repack(uint8_t out[17], const uint8_t in[16], uint8_t scale)
{
    out[0] = scale;
    for (int i = 0; i < 8; i++) { /* values 2i, 2i + 1 with 2i + 16, 2i + 17 */
        out[1 + 2 * i] = (uint8_t)((in[i] & 15) | (in[i + 8] & 15) << 4);
        out[2 + 2 * i] = (uint8_t)(in[i] >> 4 | (in[i + 8] & 0xf0));
    }
}

static void f32_from_values(float *out, const uint8_t *in, dp_st_type type, size_t count)
{
    uint16_t half;

    if (type == DP_ST_F32)
        memcpy(out, in, count * sizeof *out);
    for (size_t i = 0; i < count && type == DP_ST_BF16; i++) {
        memcpy(&half, in + 2 * i, 2);
        out[i] = dp_f32_from_bf16(half);
    }
    for (size_t i = 0; i < count && type == DP_ST_F16; i++) {
        memcpy(&half, in + 2 * i, 2);
        out[i] = dp_f32_from_f16(half);
    }
}

/* ---- buffers ---- */

static dp_status take_buffer(dp_mover *m, int which, uint64_t size, uint8_t **out)
{
    if (m->sizes[which] < size) {
        dp_free(m->buffers[which]);
        m->sizes[which] = 0;
        m->buffers[which] = dp_alloc((size_t)size, 1);
        if (!m->buffers[which])
            return dp_fail(m->err, DP_E_NOMEM, "convert: no memory for a buffer of %llu bytes",
                           (unsigned long long)size);
        m->sizes[which] = (size_t)size;
    }
    *out = m->buffers[which];
    return DP_OK;
}

void dp_mover_deinit(dp_mover *m)
{
    for (int i = 0; i < DP_MOVE_BUFFERS; i++) {
        dp_free(m->buffers[i]);
        m->buffers[i] = NULL;
        m->sizes[i] = 0;
    }
}

/* ---- reading units ---- */

/* A run of units in memory: raw where they are copied, f32 otherwise. */
struct units {
    uint8_t *bytes;
    size_t size; /* of a unit */
    bool is_f32; /* to be written as another type */
};

static bool is_same_type(dp_st_type from, dp_dtype to)
{
    return (from == DP_ST_F32 && to == DP_F32) || (from == DP_ST_F16 && to == DP_F16) ||
           (from == DP_ST_BF16 && to == DP_BF16);
}

static dp_status read_values(dp_mover *m, const dp_plan_tensor *t, const dp_plan_source *source,
                             uint64_t begin, uint64_t count, struct units *out)
{
    dp_st_type type = source->data->info->type;
    uint64_t size = dp_st_type_size(type);
    uint8_t *raw;
    dp_status st = take_buffer(m, DP_MOVE_RAW, count * size, &raw);

    if (!st)
        st =
            dp_hf_dir_read(m->dir, source->data, begin * size, raw, (size_t)(count * size), m->err);
    *out = (struct units){ raw, (size_t)size, false };
    if (st || is_same_type(type, t->type))
        return st;
    st = take_buffer(m, DP_MOVE_UNITS, count * sizeof(float), &out->bytes);
    if (st)
        return st;
    f32_from_values((float *)(void *)out->bytes, raw, type, (size_t)count);
    out->size = sizeof(float);
    out->is_f32 = true;
    return DP_OK;
}

/* All scales of a source, as f32. */
static dp_status read_scales(dp_mover *m, const dp_hf_tensor *scale, float **out)
{
    uint64_t size = dp_st_type_size(scale->info->type), count = scale->info->size / size;
    uint8_t *bytes;
    dp_status st = take_buffer(m, DP_MOVE_SCALES, count * (sizeof(float) + size), &bytes);

    if (st)
        return st;
    *out = (float *)(void *)bytes;
    bytes += count * sizeof(float);
    st = dp_hf_dir_read(m->dir, scale, 0, bytes, (size_t)scale->info->size, m->err);
    if (!st)
        f32_from_values(*out, bytes, scale->info->type, (size_t)count);
    return st;
}

static dp_status read_fp8(dp_mover *m, const dp_plan_tensor *t, const dp_plan_source *source,
                          uint64_t begin, uint64_t count, struct units *out)
{
    uint64_t tile_rows = m->config->tile_rows, tile_cols = m->config->tile_cols;
    uint64_t columns = t->source_columns, tiles = (columns + tile_cols - 1) / tile_cols;
    float values[256], *scales, *to;
    uint8_t *raw;
    dp_status st = take_buffer(m, DP_MOVE_RAW, count, &raw);

    if (!st)
        st = take_buffer(m, DP_MOVE_UNITS, count * sizeof(float), &out->bytes);
    if (!st)
        st = read_scales(m, source->scale, &scales);
    if (!st)
        st = dp_hf_dir_read(m->dir, source->data, begin, raw, (size_t)count, m->err);
    if (st)
        return st;
    for (int i = 0; i < 256; i++)
        values[i] = dp_f32_from_e4m3((uint8_t)i);
    to = (float *)(void *)out->bytes;
    for (uint64_t i = 0; i < count;) { /* to the end of the tile in this row */
        uint64_t row = (begin + i) / columns, column = (begin + i) % columns;
        uint64_t run = DP_MIN((column / tile_cols + 1) * tile_cols, columns) - column;
        float scale = scales[row / tile_rows * tiles + column / tile_cols];

        run = DP_MIN(run, count - i);
        for (uint64_t j = i; j < i + run; j++)
            to[j] = values[raw[j]] * scale;
        i += run;
    }
    out->size = sizeof(float);
    out->is_f32 = true;
    return DP_OK;
}

static dp_status read_blocks(dp_mover *m, const dp_plan_source *source, uint64_t begin,
                             uint64_t count, struct units *out)
{
    uint8_t *raw, *scales;
    dp_status st = take_buffer(m, DP_MOVE_RAW, count * BLOCK_IN, &raw);

    if (!st)
        st = take_buffer(m, DP_MOVE_SCALES, count, &scales);
    if (!st)
        st = take_buffer(m, DP_MOVE_UNITS, count * BLOCK_OUT, &out->bytes);
    if (!st)
        st = dp_hf_dir_read(m->dir, source->data, begin * BLOCK_IN, raw, (size_t)count * BLOCK_IN,
                            m->err);
    if (!st)
        st = dp_hf_dir_read(m->dir, source->scale, begin, scales, (size_t)count, m->err);
    for (uint64_t i = 0; i < count && !st; i++)
        dp_mxfp4_repack(out->bytes + i * BLOCK_OUT, raw + i * BLOCK_IN, scales[i]);
    out->size = BLOCK_OUT;
    out->is_f32 = false;
    return st;
}

/* ---- picking ---- */

static uint64_t source_row(const dp_plan_view *view, uint64_t row)
{
    uint64_t head = view->head_rows, in_head;

    if (head == 0)
        return row;
    in_head = row % head;
    return row - in_head + in_head / 2 + (in_head % 2) * (head / 2);
}

/* Rows [begin, end) of a slice in the order of the output. units begins with the
 * unit `units_begin` of the slice's source. */
static dp_status pick_rows(dp_mover *m, const dp_plan_tensor *t, uint64_t first, uint64_t begin,
                           uint64_t end, uint64_t units_begin, struct units *units)
{
    const dp_plan_view *view = &t->view;
    size_t size = units->size, row_size = (size_t)t->columns * size;
    uint8_t *to;
    dp_status st;

    if (view->column_step == 1 && view->row_step == t->columns && view->head_rows == 0)
        return DP_OK; /* they lie as they will */
    st = take_buffer(m, DP_MOVE_ROWS, (end - begin) * row_size, &to);
    for (uint64_t row = begin; row < end && !st; row++, to += row_size) {
        uint64_t at = first + source_row(view, row) * view->row_step - units_begin;
        const uint8_t *from = units->bytes + at * size;
        size_t step = (size_t)view->column_step * size;

        if (view->column_step == 1)
            memcpy(to, from, row_size);
        else if (size == 2)
            for (uint64_t c = 0; c < t->columns; c++)
                memcpy(to + 2 * c, from + c * step, 2);
        else
            for (uint64_t c = 0; c < t->columns; c++)
                memcpy(to + size * c, from + c * step, size);
    }
    units->bytes = m->buffers[DP_MOVE_ROWS];
    return st;
}

/* ---- writing ---- */

static dp_status pack_f16(dp_mover *m, const dp_plan_tensor *t, uint16_t *out, const float *x,
                          uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        out[i] = dp_f16_from_f32(x[i]);
        if ((out[i] & 0x7fff) == 0x7c00 && !isinf(x[i]))
            return dp_fail(m->err, DP_E_LIMIT, "tensor '%s': %g is too large for F16; choose BF16",
                           t->name, (double)x[i]);
    }
    return DP_OK;
}

static dp_status pack_q8_0(dp_mover *m, const dp_plan_tensor *t, uint8_t *out, const float *x,
                           uint64_t rows, uint64_t row_bytes)
{
    size_t columns = (size_t)t->columns, bad;

    for (uint64_t row = 0; row < rows; row++, x += columns, out += row_bytes) {
        bad = dp_quantize_check(x, columns, dp_quantize_max(DP_Q8_0));
        if (bad < columns)
            return dp_fail(m->err, DP_E_LIMIT, "tensor '%s': %g is no value for Q8_0", t->name,
                           (double)x[bad]);
        dp_quantize_row(m->kernels, DP_Q8_0, out, x, columns);
    }
    return DP_OK;
}

static dp_status write_rows(dp_mover *m, const dp_plan_tensor *t, uint64_t rows,
                            const struct units *units)
{
    uint64_t count = rows * t->columns;
    const float *x = (const float *)(const void *)units->bytes;
    uint64_t row_bytes = 0;
    uint8_t *packed;
    dp_status st;

    if (!units->is_f32 || t->type == DP_F32)
        return dp_gguf_out_write(m->out, units->bytes, (size_t)count * units->size, m->err);
    dp_dtype_row_bytes(t->type, t->columns, &row_bytes);
    st = take_buffer(m, DP_MOVE_PACKED, rows * row_bytes, &packed);
    if (st)
        return st;
    if (t->type == DP_Q8_0)
        st = pack_q8_0(m, t, packed, x, rows, row_bytes);
    if (t->type == DP_F16)
        st = pack_f16(m, t, (uint16_t *)(void *)packed, x, count);
    for (uint64_t i = 0; i < count && t->type == DP_BF16; i++)
        ((uint16_t *)(void *)packed)[i] = dp_bf16_from_f32(x[i]);
    return st ? st : dp_gguf_out_write(m->out, packed, (size_t)(rows * row_bytes), m->err);
}

/* ---- a tensor ---- */

/* From the first unit of a row to behind its last. */
static uint64_t row_span(const dp_plan_tensor *t)
{
    return (t->columns - 1) * t->view.column_step + 1;
}

/* As many rows as make a chunk: whole heads where rows change places within one,
 * and the whole slice where rows are woven into each other. */
static uint64_t chunk_rows(const dp_plan_tensor *t)
{
    uint64_t rows = DP_MOVE_CHUNK_UNITS / DP_MAX(t->view.row_step, 1), head = t->view.head_rows;

    if (t->view.row_step < row_span(t))
        return t->rows;
    if (head)
        rows -= rows % head;
    return DP_MIN(DP_MAX(rows, DP_MAX(head, 1)), t->rows);
}

static dp_status move_rows(dp_mover *m, const dp_plan_tensor *t, uint64_t slice, uint64_t begin,
                           uint64_t end)
{
    const dp_plan_source *source =
        &m->plan->sources[t->source_first + (t->has_source_each ? slice : 0)];
    uint64_t first = t->view.first + slice * t->view.slice_step;
    uint64_t units_begin = first + begin * t->view.row_step;
    uint64_t count = (end - begin - 1) * t->view.row_step + row_span(t);
    struct units units;
    dp_status st;

    if (count > DP_MOVE_UNITS_MAX)
        return dp_fail(m->err, DP_E_LIMIT, "tensor '%s': %llu values at once, at most %llu",
                       t->name, (unsigned long long)count, (unsigned long long)DP_MOVE_UNITS_MAX);
    if (t->unit == DP_UNIT_MXFP4)
        st = read_blocks(m, source, units_begin, count, &units);
    else if (t->unit == DP_UNIT_FP8)
        st = read_fp8(m, t, source, units_begin, count, &units);
    else
        st = read_values(m, t, source, units_begin, count, &units);
    if (!st)
        st = pick_rows(m, t, first, begin, end, units_begin, &units);
    return st ? st : write_rows(m, t, end - begin, &units);
}

dp_status dp_move_tensor(dp_mover *m, const dp_plan_tensor *t)
{
    uint64_t step = chunk_rows(t);
    dp_status st = DP_OK;

    if (t->unit == DP_UNIT_READY)
        return dp_gguf_out_write(m->out, m->plan->values, (size_t)t->columns * sizeof(float),
                                 m->err);
    for (uint64_t slice = 0; slice < t->slices; slice++)
        for (uint64_t row = 0; row < t->rows && !st; row += step)
            st = move_rows(m, t, slice, row, DP_MIN(row + step, t->rows));
    return st;
}
