#include "convert/convert_names.h"

#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/status.h"
#include "convert/convert_tables.h"
#include "format/rope_scale.h"

#define NAME_SIZE    (DP_SAFETENSORS_NAME_MAX + 1)
#define BLOCK_VALUES 32 /* of an MXFP4 block */
#define BLOCK_BYTES  16 /* without its scale */
#define SCALE_SUFFIX "_scale_inv"
#define NO_LAYER     UINT32_MAX

struct planner {
    dp_plan *plan;
    dp_hf_dir *dir;
    const dp_hf_config *c;
    dp_dtype wanted; /* DP_DTYPE_END: as it is */
    dp_error *err;
};

/* ---- lists ---- */

/* Called "blk.LAYER.name", or just name where layer is NO_LAYER. */
static dp_plan_tensor *add_tensor(struct planner *p, uint32_t layer, const char *name)
{
    dp_plan *plan = p->plan;
    dp_plan_tensor *t;

    if (plan->tensor_count == plan->tensor_capacity) {
        size_t capacity = plan->tensor_capacity ? plan->tensor_capacity * 2 : 64;
        dp_plan_tensor *grown = dp_realloc(plan->tensors, capacity, sizeof *grown);

        if (!grown) {
            dp_fail(p->err, DP_E_NOMEM, "plan: no memory for %zu tensors", capacity);
            return NULL;
        }
        plan->tensors = grown;
        plan->tensor_capacity = capacity;
    }
    t = &plan->tensors[plan->tensor_count++];
    *t = (dp_plan_tensor){ .slices = 1, .source_first = plan->source_count };
    if (layer == NO_LAYER)
        snprintf(t->name, DP_PLAN_NAME_MAX, "%s", name);
    else
        snprintf(t->name, DP_PLAN_NAME_MAX, "blk.%u.%s", layer, name);
    return t;
}

static dp_status add_source(struct planner *p, dp_hf_tensor *data, dp_hf_tensor *scale)
{
    dp_plan *plan = p->plan;

    if (plan->source_count == plan->source_capacity) {
        size_t capacity = plan->source_capacity ? plan->source_capacity * 2 : 256;
        dp_plan_source *grown = dp_realloc(plan->sources, capacity, sizeof *grown);

        if (!grown)
            return dp_fail(p->err, DP_E_NOMEM, "plan: no memory for %zu sources", capacity);
        plan->sources = grown;
        plan->source_capacity = capacity;
    }
    data->is_used = true;
    if (scale)
        scale->is_used = true;
    plan->sources[plan->source_count++] = (dp_plan_source){ data, scale };
    return DP_OK;
}

/* ---- sources ---- */

static dp_status find(struct planner *p, const char *name, dp_hf_tensor **out)
{
    *out = dp_hf_dir_find(p->dir, name);
    if (*out)
        return DP_OK;
    return dp_fail(p->err, DP_E_NOTFOUND, "tensor '%s' is missing from the directory", name);
}

/* The tensor has these dimensions. */
static dp_status check_shape(struct planner *p, const dp_hf_tensor *t, uint32_t count,
                             const uint64_t *dims)
{
    char found[128] = "", wanted[128] = "";
    bool is_same = t->info->dim_count == count;

    for (uint32_t i = 0; i < t->info->dim_count; i++) {
        size_t at = strlen(found);

        snprintf(found + at, sizeof found - at, "%s%llu", i ? ", " : "",
                 (unsigned long long)t->info->dims[i]);
        is_same = is_same && t->info->dims[i] == dims[i];
    }
    if (is_same)
        return DP_OK;
    for (uint32_t i = 0; i < count; i++) {
        size_t at = strlen(wanted);

        snprintf(wanted + at, sizeof wanted - at, "%s%llu", i ? ", " : "",
                 (unsigned long long)dims[i]);
    }
    return dp_fail(p->err, DP_E_CORRUPT, "%s: tensor '%s' is [%s], the configuration says [%s]",
                   dp_hf_dir_shard_path(p->dir, t->shard), t->info->name.bytes, found, wanted);
}

static dp_status fail_type(struct planner *p, const dp_hf_tensor *t)
{
    return dp_fail(p->err, DP_E_UNSUPPORTED, "%s: tensor '%s' is %s, which is not converted",
                   dp_hf_dir_shard_path(p->dir, t->shard), t->info->name.bytes,
                   dp_st_type_name(t->info->type));
}

/* The type a matrix has when nobody asks for another. */
static bool own_type(dp_st_type type, dp_dtype *out)
{
    switch (type) {
    case DP_ST_F32:
        *out = DP_F32;
        return true;
    case DP_ST_F16:
        *out = DP_F16;
        return true;
    case DP_ST_BF16:
    case DP_ST_F8_E4M3:
        *out = DP_BF16;
        return true;
    default:
        return false;
    }
}

/* One F32 a tile of FP8. */
static dp_status find_scale(struct planner *p, const dp_hf_tensor *t, dp_hf_tensor **out)
{
    char name[NAME_SIZE + sizeof SCALE_SUFFIX];
    uint64_t dims[2];
    dp_dtype type;
    dp_status st;

    if (p->c->tile_rows == 0 || t->info->dim_count != 2)
        return fail_type(p, t);
    snprintf(name, sizeof name, "%s" SCALE_SUFFIX, t->info->name.bytes);
    st = find(p, name, out);
    if (st)
        return st;
    dims[0] = (t->info->dims[0] + p->c->tile_rows - 1) / p->c->tile_rows;
    dims[1] = (t->info->dims[1] + p->c->tile_cols - 1) / p->c->tile_cols;
    st = check_shape(p, *out, 2, dims);
    if (st)
        return st;
    if ((*out)->info->type == DP_ST_F8_E4M3 || !own_type((*out)->info->type, &type))
        return fail_type(p, *out);
    return DP_OK;
}

/* Adds a source of values in the given shape; the first decides the type, the
 * others must have it. */
static dp_status take_values(struct planner *p, dp_plan_tensor *out, const char *name,
                             uint32_t dim_count, const uint64_t *dims)
{
    dp_hf_tensor *t, *scale = NULL;
    const dp_hf_tensor *first;
    dp_dtype type;
    dp_status st = find(p, name, &t);

    if (!st)
        st = check_shape(p, t, dim_count, dims);
    if (st)
        return st;
    if (!own_type(t->info->type, &type))
        return fail_type(p, t);
    if (t->info->type == DP_ST_F8_E4M3)
        st = find_scale(p, t, &scale);
    if (!st)
        st = add_source(p, t, scale);
    if (st)
        return st;
    first = p->plan->sources[out->source_first].data;
    if (first->info->type != t->info->type)
        return dp_fail(p->err, DP_E_UNSUPPORTED, "tensors '%s' and '%s' have different types",
                       first->info->name.bytes, name);
    out->unit = scale ? DP_UNIT_FP8 : DP_UNIT_VALUE;
    out->type = p->wanted == DP_DTYPE_END ? type : p->wanted;
    out->source_columns = dims[dim_count - 1];
    return DP_OK;
}

/* Adds blocks and scales of [experts][rows][columns]. False: there are none. */
static bool take_blocks(struct planner *p, dp_plan_tensor *out, const char *name, uint64_t rows,
                        uint64_t columns, dp_status *st)
{
    uint64_t dims[4] = { p->c->dims[DP_DIM_EXPERTS], rows, columns / BLOCK_VALUES, BLOCK_BYTES };
    char part[NAME_SIZE + 8];
    dp_hf_tensor *data, *scale;

    snprintf(part, sizeof part, "%s_blocks", name);
    data = dp_hf_dir_find(p->dir, part);
    if (!data)
        return false;
    snprintf(part, sizeof part, "%s_scales", name);
    *st = find(p, part, &scale);
    if (!*st && columns % BLOCK_VALUES)
        *st = dp_fail(p->err, DP_E_CORRUPT, "tensor '%s': rows of %llu values are no whole blocks",
                      part, (unsigned long long)columns);
    if (!*st)
        *st = check_shape(p, data, 4, dims);
    if (!*st)
        *st = check_shape(p, scale, 3, dims);
    if (!*st && data->info->type != DP_ST_U8)
        *st = fail_type(p, data);
    if (!*st && scale->info->type != DP_ST_U8)
        *st = fail_type(p, scale);
    if (!*st)
        *st = add_source(p, data, scale);
    out->unit = DP_UNIT_MXFP4;
    out->type = DP_MXFP4;
    out->source_columns = columns / BLOCK_VALUES;
    return true;
}

/* ---- layouts ---- */

static void set_shape(dp_plan_tensor *t, uint64_t slices, uint64_t rows, uint64_t columns)
{
    t->slices = slices;
    t->rows = rows;
    t->columns = columns;
}

static dp_status plan_plain(struct planner *p, dp_plan_tensor *t, const dp_name_row *row,
                            const char *in)
{
    uint64_t rows = p->c->dims[row->rows], columns = p->c->dims[row->columns];
    const uint64_t dims[2] = { rows, columns };
    bool is_vector = row->rows == DP_DIM_ONE;

    set_shape(t, 1, rows, columns);
    t->view = (dp_plan_view){ .row_step = columns, .column_step = 1 };
    if (row->layout == DP_LAYOUT_PAIRS)
        t->view.head_rows = (uint32_t)p->c->dims[DP_DIM_HEAD];
    t->dim_count = is_vector ? 1 : 2;
    return take_values(p, t, in, is_vector ? 1 : 2, dims + is_vector);
}

static dp_status plan_each(struct planner *p, dp_plan_tensor *t, const dp_name_row *row,
                           const char *in)
{
    uint64_t rows = p->c->dims[row->rows], columns = p->c->dims[row->columns];
    const uint64_t dims[2] = { rows, columns };
    const char *number = strstr(in, "%u");
    char name[NAME_SIZE];
    dp_status st = DP_OK;

    set_shape(t, p->c->dims[DP_DIM_EXPERTS], rows, columns);
    t->view = (dp_plan_view){ .row_step = columns, .column_step = 1 };
    t->has_source_each = true;
    t->dim_count = 3;
    for (uint64_t e = 0; e < t->slices && !st; e++) {
        snprintf(name, sizeof name, "%.*s%llu%s", (int)(number - in), in, (unsigned long long)e,
                 number + 2);
        st = take_values(p, t, name, 2, dims);
    }
    return st;
}

/* gpt-oss: of every expert in one tensor. step 2: gate and up take turns. */
static dp_status plan_stack(struct planner *p, dp_plan_tensor *t, const dp_name_row *row,
                            const char *in)
{
    uint64_t rows = p->c->dims[row->rows], columns = p->c->dims[row->columns];
    uint64_t step = row->layout == DP_LAYOUT_DOWN ? 1 : 2, odd = row->layout == DP_LAYOUT_UP;
    const uint64_t dims[3] = { p->c->dims[DP_DIM_EXPERTS], columns, step * rows };
    dp_status st = DP_OK;

    t->dim_count = 3;
    if (take_blocks(p, t, in, step * rows, columns, &st)) {
        columns /= BLOCK_VALUES;
        set_shape(t, dims[0], rows, columns);
        t->view = (dp_plan_view){ .first = odd * columns,
                                  .slice_step = step * rows * columns,
                                  .row_step = step * columns,
                                  .column_step = 1 };
        return st;
    }
    set_shape(t, dims[0], rows, columns);
    t->view = (dp_plan_view){ .first = odd,
                              .slice_step = columns * step * rows,
                              .row_step = step,
                              .column_step = step * rows };
    return take_values(p, t, in, 3, dims);
}

static dp_status plan_stack_bias(struct planner *p, dp_plan_tensor *t, const dp_name_row *row,
                                 const char *in)
{
    uint64_t rows = p->c->dims[row->rows], columns = p->c->dims[row->columns];
    const uint64_t dims[2] = { rows, 2 * columns };

    t->dim_count = 2;
    set_shape(t, 1, rows, columns);
    t->view = (dp_plan_view){ .first = row->layout == DP_LAYOUT_UP_BIAS,
                              .row_step = 2 * columns,
                              .column_step = 2 };
    return take_values(p, t, in, 2, dims);
}

/* DeepSeek: a head's rows are those that make the plain part of its key from the
 * compressed one, then those that make its value. The first are kept transposed,
 * since they are multiplied with the query instead. */
static dp_status plan_kv_b(struct planner *p, dp_plan_tensor *t, const dp_name_row *row,
                           const char *in)
{
    const uint64_t *d = p->c->dims;
    uint64_t lora = d[DP_DIM_KV_LORA], plain = d[DP_DIM_PLAIN], value = d[DP_DIM_VALUE];
    const uint64_t dims[2] = { d[row->rows], d[row->columns] };

    t->dim_count = 3;
    t->view.slice_step = (plain + value) * lora;
    if (row->layout == DP_LAYOUT_K_B) {
        set_shape(t, d[DP_DIM_HEADS], lora, plain);
        t->view.row_step = 1;
        t->view.column_step = lora;
    } else {
        set_shape(t, d[DP_DIM_HEADS], value, lora);
        t->view.first = plain * lora;
        t->view.row_step = lora;
        t->view.column_step = 1;
    }
    return take_values(p, t, in, 2, dims);
}

/* Read as floats by every engine: they are small, and precision counts there. */
static bool is_kept_f32(const dp_plan_tensor *t)
{
    return t->dim_count == 1 || strstr(t->name, ".ffn_gate_inp.") ||
           !dp_str_ends_with(dp_str_from(t->name), ".weight");
}

static dp_status plan_row(struct planner *p, const dp_name_row *row, uint32_t layer, const char *in)
{
    dp_plan_tensor *t = add_tensor(p, layer, row->out);
    dp_status st;

    if (!t)
        return DP_E_NOMEM;
    switch (row->layout) {
    case DP_LAYOUT_EACH:
        st = plan_each(p, t, row, in);
        break;
    case DP_LAYOUT_GATE:
    case DP_LAYOUT_UP:
    case DP_LAYOUT_DOWN:
        st = plan_stack(p, t, row, in);
        break;
    case DP_LAYOUT_GATE_BIAS:
    case DP_LAYOUT_UP_BIAS:
        st = plan_stack_bias(p, t, row, in);
        break;
    case DP_LAYOUT_K_B:
    case DP_LAYOUT_V_B:
        st = plan_kv_b(p, t, row, in);
        break;
    default:
        st = plan_plain(p, t, row, in);
    }
    if (st)
        return st;
    if (is_kept_f32(t))
        t->type = DP_F32;
    else if (t->type == DP_Q8_0 && t->columns % DP_QK) /* rows that are no whole blocks */
        own_type(p->plan->sources[t->source_first].data->info->type, &t->type);
    t->ne[0] = t->unit == DP_UNIT_MXFP4 ? t->columns * BLOCK_VALUES : t->columns;
    t->ne[1] = t->rows;
    t->ne[2] = t->slices;
    t->ne[3] = 1;
    return DP_OK;
}

/* ---- the whole model ---- */

static bool counts(const dp_hf_config *c, dp_when when, uint32_t layer)
{
    bool has_experts = layer >= c->dense_count;

    switch (when) {
    case DP_WHEN_Q_LORA:
        return c->dims[DP_DIM_Q_LORA] != 0;
    case DP_WHEN_NO_Q_LORA:
        return c->dims[DP_DIM_Q_LORA] == 0;
    case DP_WHEN_DENSE:
        return !has_experts;
    case DP_WHEN_EXPERTS:
        return has_experts;
    case DP_WHEN_SHARED:
        return has_experts && c->shared_count != 0;
    case DP_WHEN_BIAS:
        return has_experts && c->has_bias;
    default:
        return true;
    }
}

static dp_status plan_layers(struct planner *p)
{
    char in[NAME_SIZE];
    dp_status st = DP_OK;

    for (uint32_t layer = 0; layer < p->c->layer_count; layer++)
        for (const dp_name_row *row = dp_name_tables[p->c->family]; row->out && !st; row++) {
            if (!counts(p->c, row->when, layer))
                continue;
            snprintf(in, sizeof in, "model.layers.%u.%s", layer, row->in);
            st = plan_row(p, row, layer, in);
        }
    return st;
}

static dp_status plan_rope(struct planner *p)
{
    const dp_llama3_scaling scaling = { .factor = p->c->rope_factor,
                                        .low = p->c->rope_low,
                                        .high = p->c->rope_high,
                                        .original_context = (double)p->c->rope_original };
    uint64_t count = p->c->dims[DP_DIM_HEAD] / 2;
    dp_plan_tensor *t;

    if (p->c->rope != DP_HF_ROPE_LLAMA3)
        return DP_OK;
    p->plan->values = dp_alloc(count, sizeof(float));
    if (!p->plan->values)
        return dp_fail(p->err, DP_E_NOMEM, "plan: no memory");
    dp_llama3_divisors(p->plan->values, (uint32_t)count, p->c->rope_theta, &scaling);
    t = add_tensor(p, NO_LAYER, "rope_freqs.weight");
    if (!t)
        return DP_E_NOMEM;
    set_shape(t, 1, 1, count);
    t->unit = DP_UNIT_READY;
    t->type = DP_F32;
    t->dim_count = 1;
    t->ne[0] = count;
    t->ne[1] = t->ne[2] = t->ne[3] = 1;
    return DP_OK;
}

static dp_status plan_ends(struct planner *p)
{
    static const dp_name_row rows[] = {
        { "token_embd.weight", "model.embed_tokens.weight", DP_DIM_VOCAB, DP_DIM_EMBED, 0, 0 },
        { "output_norm.weight", "model.norm.weight", DP_DIM_ONE, DP_DIM_EMBED, 0, 0 },
        { "output.weight", "lm_head.weight", DP_DIM_VOCAB, DP_DIM_EMBED, 0, 0 },
    };
    dp_status st = DP_OK;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows) && !st; i++)
        if (i != 2 || !p->c->is_tied)
            st = plan_row(p, &rows[i], NO_LAYER, rows[i].in);
    return st ? st : plan_rope(p);
}

/* Not a part of the model: tables that follow from the configuration, a head that
 * is the embedding, DeepSeek's layers that predict further tokens. */
static bool is_left_out(const struct planner *p, const char *name)
{
    unsigned layer;

    if (dp_str_ends_with(dp_str_from(name), ".rotary_emb.inv_freq"))
        return true;
    if (p->c->is_tied && strcmp(name, "lm_head.weight") == 0)
        return true;
    return p->c->family == DP_HF_DEEPSEEK && sscanf(name, "model.layers.%9u.", &layer) == 1 &&
           layer >= p->c->layer_count;
}

static dp_status check_surplus(struct planner *p)
{
    for (size_t i = 0; i < dp_hf_dir_count(p->dir); i++) {
        const dp_hf_tensor *t = dp_hf_dir_at(p->dir, i);

        if (!t->is_used && !is_left_out(p, t->info->name.bytes))
            return dp_fail(p->err, DP_E_UNSUPPORTED,
                           "%s: tensor '%s' has no place in a model of architecture %s",
                           dp_hf_dir_shard_path(p->dir, t->shard), t->info->name.bytes, p->c->arch);
    }
    return DP_OK;
}

dp_status dp_plan_open(dp_plan **out, dp_hf_dir *dir, const dp_hf_config *config, dp_dtype wanted,
                       dp_error *err)
{
    struct planner p = { dp_alloc_zero(1, sizeof(dp_plan)), dir, config, wanted, err };
    dp_status st;

    *out = NULL;
    if (!p.plan)
        return dp_fail(err, DP_E_NOMEM, "plan: no memory");
    st = plan_ends(&p);
    if (!st)
        st = plan_layers(&p);
    if (!st)
        st = check_surplus(&p);
    if (st)
        goto done;

    *out = p.plan;
    p.plan = NULL;
done:
    dp_plan_close(p.plan);
    return st;
}

void dp_plan_close(dp_plan *plan)
{
    if (!plan)
        return;
    dp_free(plan->values);
    dp_free(plan->sources);
    dp_free(plan->tensors);
    dp_free(plan);
}
