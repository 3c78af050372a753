#include "app/cli/inspect_report.h"

#include "app/cli/json_text.h"

static bool put_model(json_t *object, const dp_inspect *inspect)
{
    dp_model_info m;

    dp_inspect_model(inspect, &m);
    return dp_json_put_text(object, "path", m.path) &&
           dp_json_put_text(object, "architecture", m.architecture) &&
           dp_json_put_text(object, "name", m.name) &&
           dp_json_put_flag(object, "is_supported", m.is_supported) &&
           dp_json_put_text(object, "unsupported", m.is_supported ? NULL : m.unsupported) &&
           dp_json_put_count(object, "part_count", m.part_count) &&
           dp_json_put_count(object, "file_bytes", m.file_bytes) &&
           dp_json_put_count(object, "tensor_bytes", m.tensor_bytes) &&
           dp_json_put_count(object, "parameter_count", m.parameter_count) &&
           dp_json_put_count(object, "tensor_count", m.tensor_count) &&
           dp_json_put_count(object, "key_count", m.key_count) &&
           dp_json_put_count(object, "layer_count", m.layer_count) &&
           dp_json_put_count(object, "embed_dim", m.embed_dim) &&
           dp_json_put_count(object, "vocab_size", m.vocab_size) &&
           dp_json_put_count(object, "context_max", m.context_max) &&
           dp_json_put_count(object, "head_count", m.head_count) &&
           dp_json_put_count(object, "kv_head_count", m.kv_head_count) &&
           dp_json_put_count(object, "key_dim", m.key_dim) &&
           dp_json_put_count(object, "value_dim", m.value_dim) &&
           dp_json_put_count(object, "ff_dim", m.ff_dim) &&
           dp_json_put_count(object, "expert_count", m.expert_count) &&
           dp_json_put_count(object, "expert_used", m.expert_used) &&
           dp_json_put_count(object, "expert_shared", m.expert_shared) &&
           dp_json_put_count(object, "expert_ff_dim", m.expert_ff_dim) &&
           dp_json_put_count(object, "kv_bytes_per_token", m.kv_bytes_per_token);
}

static json_t *page_group_json(const dp_page_group *group)
{
    json_t *object = json_object();

    if (object && dp_json_put_text(object, "kind", group->kind) &&
        dp_json_put_count(object, "page_count", group->page_count) &&
        dp_json_put_count(object, "bytes", group->bytes) &&
        dp_json_put_count(object, "bytes_min", group->bytes_min) &&
        dp_json_put_count(object, "bytes_max", group->bytes_max) &&
        dp_json_put_count(object, "bytes_per_token", group->bytes_per_token))
        return object;
    json_decref(object);
    return NULL;
}

json_t *dp_inspect_plan_json(const dp_plan_info *plan)
{
    json_t *object = json_object();

    if (object && dp_json_put_count(object, "budget_bytes", plan->budget_bytes) &&
        dp_json_put_count(object, "reserve_bytes", plan->reserve_bytes) &&
        dp_json_put_count(object, "context_tokens", plan->context_tokens) &&
        dp_json_put_count(object, "batch_tokens", plan->batch_tokens) &&
        dp_json_put_count(object, "tables_bytes", plan->tables_bytes) &&
        dp_json_put_count(object, "kv_bytes", plan->kv_bytes) &&
        dp_json_put_text(object, "kv_type", plan->kv_type) &&
        dp_json_put_count(object, "buffer_bytes", plan->buffer_bytes) &&
        dp_json_put_count(object, "slot_bytes", plan->slot_bytes) &&
        dp_json_put_count(object, "always_bytes", plan->always_bytes) &&
        dp_json_put_flag(object, "pins_always", plan->pins_always) &&
        dp_json_put_count(object, "experts_held", plan->experts_held) &&
        dp_json_put_count(object, "experts_total", plan->experts_total) &&
        dp_json_put_count(object, "kept_bytes", plan->kept_bytes) &&
        dp_json_put_count(object, "expert_bytes", plan->expert_bytes) &&
        dp_json_put_count(object, "least_bytes", plan->least_bytes) &&
        dp_json_put_flag(object, "fits", plan->fits))
        return object;
    json_decref(object);
    return NULL;
}

static json_t *tensor_json(const dp_tensor_info *tensor)
{
    json_t *object = json_object(), *shape = json_array();

    for (uint32_t d = 0; d < tensor->dim_count && d < 4 && shape; d++)
        if (json_array_append_new(shape, json_integer((json_int_t)tensor->ne[d])))
            goto failed;
    if (object && shape && dp_json_put_text(object, "name", tensor->name) &&
        dp_json_put_text(object, "type", tensor->type) &&
        dp_json_put_count(object, "part", tensor->part) &&
        dp_json_put_count(object, "offset", tensor->offset) &&
        dp_json_put_count(object, "size", tensor->size) &&
        !json_object_set(object, "shape", shape)) {
        json_decref(shape);
        return object;
    }
failed:
    json_decref(object);
    json_decref(shape);
    return NULL;
}

static json_t *key_json(const dp_key_info *key)
{
    json_t *object = json_object();

    if (object && dp_json_put_text(object, "key", key->key) &&
        dp_json_put_text(object, "type", key->type) &&
        dp_json_put_text(object, "value", key->value))
        return object;
    json_decref(object);
    return NULL;
}

/* A list under `key`, one element a row of the inspected model; false: no memory. */
typedef json_t *(*row_json)(const dp_inspect *inspect, uint32_t i, bool *is_end);

static json_t *page_row(const dp_inspect *inspect, uint32_t i, bool *is_end)
{
    dp_page_group group;

    *is_end = !dp_inspect_pages(inspect, i, &group);
    return *is_end ? NULL : page_group_json(&group);
}

static json_t *tensor_row(const dp_inspect *inspect, uint32_t i, bool *is_end)
{
    dp_tensor_info tensor;

    *is_end = !dp_inspect_tensor(inspect, i, &tensor);
    return *is_end ? NULL : tensor_json(&tensor);
}

static json_t *key_row(const dp_inspect *inspect, uint32_t i, bool *is_end)
{
    dp_key_info key;

    *is_end = !dp_inspect_key(inspect, i, &key);
    return *is_end ? NULL : key_json(&key);
}

static bool put_rows(json_t *object, const char *key, const dp_inspect *inspect, row_json row)
{
    json_t *list = json_array();

    if (!list || json_object_set_new(object, key, list))
        return false;
    for (uint32_t i = 0;; i++) {
        bool is_end;
        json_t *element = row(inspect, i, &is_end);

        if (is_end)
            return true;
        if (json_array_append_new(list, element))
            return false;
    }
}

json_t *dp_inspect_json(const dp_inspect_parts *parts)
{
    json_t *object = json_object();
    json_t *plan = parts->plan ? dp_inspect_plan_json(parts->plan) : json_null();

    if (object && put_model(object, parts->inspect) &&
        put_rows(object, "pages", parts->inspect, page_row) &&
        !json_object_set(object, "plan", plan) &&
        (!parts->has_tensors || put_rows(object, "tensors", parts->inspect, tensor_row)) &&
        (!parts->has_keys || put_rows(object, "keys", parts->inspect, key_row))) {
        json_decref(plan);
        return object;
    }
    json_decref(object);
    json_decref(plan);
    return NULL;
}
