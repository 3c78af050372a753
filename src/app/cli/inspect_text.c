#include "app/cli/inspect_report.h"

#include <stdio.h>
#include <string.h>
#include "base/str.h"

#define SIZE(bytes) dp_format_size((char[16]){ 0 }, bytes) /* lives as long as its block */

/* 19.0 M, 8.03 B: parameters are counted in powers of ten. */
static const char *format_count(char out[16], uint64_t count)
{
    static const char *const units[] = { "", " K", " M", " B", " T" };
    double value = (double)count;
    size_t unit = 0;

    for (; value >= 1000 && unit + 1 < DP_ARRAY_LEN(units); unit++)
        value /= 1000;
    snprintf(out, 16, "%.*f%s",
             unit == 0 || value >= 100 ? 0
             : value >= 10             ? 1
                                       : 2,
             value, units[unit]);
    return out;
}

static dp_status write_model(const dp_model_info *model, dp_buf *out)
{
    char parameters[16];
    dp_status st;

    st = dp_buf_format(out, "file          %s (%s%s)\n", model->path, SIZE(model->file_bytes),
                       model->part_count > 1 ? ", split" : "");
    if (!st)
        st =
            dp_buf_format(out, "architecture  %s%s%s%s\n", model->architecture,
                          model->name && model->name[0] ? " (" : "", model->name ? model->name : "",
                          model->name && model->name[0] ? ")" : "");
    if (!st)
        st = dp_buf_format(out, "runs          %s%s\n", model->is_supported ? "yes" : "no: ",
                           model->is_supported || !model->unsupported ? "" : model->unsupported);
    if (!st)
        st = dp_buf_format(out, "parameters    %s in %u tensors, %s; %u keys\n",
                           format_count(parameters, model->parameter_count), model->tensor_count,
                           SIZE(model->tensor_bytes), model->key_count);
    return st;
}

static dp_status write_shape(const dp_model_info *model, dp_buf *out)
{
    dp_status st;

    st = dp_buf_format(out,
                       "shape         %u layers, width %u, feed-forward %u, vocabulary %u, "
                       "context %u\n",
                       model->layer_count, model->embed_dim, model->ff_dim, model->vocab_size,
                       model->context_max);
    if (!st)
        st = dp_buf_format(out,
                           "attention     %u heads, %u of keys and values, key %u, value %u; %s a "
                           "token in f16\n",
                           model->head_count, model->kv_head_count, model->key_dim,
                           model->value_dim, SIZE(model->kv_bytes_per_token));
    if (!st && model->expert_count)
        st = dp_buf_format(out, "experts       %u a layer, %u used, %u shared, width %u\n",
                           model->expert_count, model->expert_used, model->expert_shared,
                           model->expert_ff_dim);
    return st;
}

static dp_status write_pages(const dp_inspect *inspect, dp_buf *out)
{
    dp_page_group group;
    dp_status st = DP_OK;

    for (uint32_t i = 0; dp_inspect_pages(inspect, i, &group) && !st; i++) {
        if (group.page_count == 0)
            continue;
        st = dp_buf_format(out, "pages         %-9s %u, %s; one ", group.kind, group.page_count,
                           SIZE(group.bytes));
        if (!st && group.bytes_min < group.bytes_max)
            st = dp_buf_format(out, "%s to ", SIZE(group.bytes_min));
        if (!st)
            st = dp_buf_format(out, "%s; a token uses %s\n", SIZE(group.bytes_max),
                               SIZE(group.bytes_per_token));
    }
    return st;
}

dp_status dp_inspect_plan_text(const dp_plan_info *plan, dp_buf *out)
{
    dp_status st;

    st = dp_buf_format(out, "budget        %s", SIZE(plan->budget_bytes));
    if (!st && plan->reserve_bytes)
        st = dp_buf_format(out, " (auto, leaving %s to the system)", SIZE(plan->reserve_bytes));
    if (!st)
        st = dp_buf_format(
            out,
            ": tables %s, keys and values %s (--ctx %u, --kv-type %s), buffers %s (--batch %u), "
            "weights %s\n",
            SIZE(plan->tables_bytes), SIZE(plan->kv_bytes), plan->context_tokens, plan->kv_type,
            SIZE(plan->buffer_bytes), plan->batch_tokens, SIZE(plan->slot_bytes));
    if (st)
        return st;
    if (!plan->fits)
        return dp_buf_format(out, "does not fit  the smallest --ram that runs is %llu (%s)\n",
                             (unsigned long long)plan->least_bytes, SIZE(plan->least_bytes));
    st = dp_buf_format(out, "holds         the always-used part (%s) %s", SIZE(plan->always_bytes),
                       plan->pins_always ? "stays in memory" : "streams from disk");
    if (!st && plan->experts_total)
        st = dp_buf_format(out, "; %u of %u experts", plan->experts_held, plan->experts_total);
    return st ? st
              : dp_buf_format(out, "; least --ram %llu (%s)\n",
                              (unsigned long long)plan->least_bytes, SIZE(plan->least_bytes));
}

static dp_status write_tensors(const dp_inspect *inspect, dp_buf *out)
{
    dp_tensor_info tensor;
    dp_status st = dp_buf_text(out, "\ntensors\n");

    for (uint32_t i = 0; dp_inspect_tensor(inspect, i, &tensor) && !st; i++) {
        char shape[96] = "";
        size_t used = 0;

        for (uint32_t d = 0; d < tensor.dim_count && d < 4; d++)
            used += (size_t)snprintf(shape + used, sizeof shape - used, "%s%llu", d ? " x " : "",
                                     (unsigned long long)tensor.ne[d]);
        st = dp_buf_format(out, "  %-32s %-8s %-24s %12llu bytes, part %u at %llu\n", tensor.name,
                           tensor.type, shape, (unsigned long long)tensor.size, tensor.part,
                           (unsigned long long)tensor.offset);
    }
    return st;
}

static dp_status write_keys(const dp_inspect *inspect, dp_buf *out)
{
    dp_key_info key;
    dp_status st = dp_buf_text(out, "\nkeys\n");

    for (uint32_t i = 0; dp_inspect_key(inspect, i, &key) && !st; i++)
        st = dp_buf_format(out, "  %-40s %-8s %s\n", key.key, key.type, key.value);
    return st;
}

dp_status dp_inspect_text(const dp_inspect_parts *parts, dp_buf *out)
{
    dp_model_info model;
    dp_status st;

    dp_inspect_model(parts->inspect, &model);
    st = write_model(&model, out);
    if (!st)
        st = model.layer_count ? write_shape(&model, out) : DP_OK; /* an adapter has none */
    if (!st)
        st = write_pages(parts->inspect, out);
    if (!st && parts->plan)
        st = dp_inspect_plan_text(parts->plan, out);
    if (!st && parts->has_keys)
        st = write_keys(parts->inspect, out);
    if (!st && parts->has_tensors)
        st = write_tensors(parts->inspect, out);
    return st;
}
