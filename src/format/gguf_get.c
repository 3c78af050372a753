#include "format/gguf_impl.h"

#include <string.h>
#include "base/assert.h"
#include "base/status.h"

uint32_t dp_gguf_version(const dp_gguf *gguf)
{
    return gguf->version;
}

uint32_t dp_gguf_part_count(const dp_gguf *gguf)
{
    return gguf->part_count;
}

const char *dp_gguf_part_path(const dp_gguf *gguf, uint32_t part)
{
    DP_ASSERT(part < gguf->part_count);
    return gguf->parts[part].path;
}

uint64_t dp_gguf_part_size(const dp_gguf *gguf, uint32_t part)
{
    DP_ASSERT(part < gguf->part_count);
    return gguf->parts[part].size;
}

uint32_t dp_gguf_part_number(const dp_gguf *gguf, uint32_t part)
{
    DP_ASSERT(part < gguf->part_count);
    return gguf->parts[part].number;
}

size_t dp_gguf_tensor_count(const dp_gguf *gguf)
{
    return gguf->tensor_count;
}

const dp_tensor *dp_gguf_tensor(const dp_gguf *gguf, size_t i)
{
    DP_ASSERT(i < gguf->tensor_count);
    return &gguf->tensors[i];
}

const dp_tensor *dp_gguf_find_tensor(const dp_gguf *gguf, const char *name)
{
    uint32_t i = dp_map_str_get(&gguf->tensor_by_name, dp_str_from(name));

    return i == DP_MAP_NONE ? NULL : &gguf->tensors[i];
}

size_t dp_gguf_key_count(const dp_gguf *gguf)
{
    return gguf->value_count;
}

const dp_gguf_value *dp_gguf_key(const dp_gguf *gguf, size_t i)
{
    DP_ASSERT(i < gguf->value_count);
    return &gguf->values[i];
}

const dp_gguf_value *dp_gguf_find(const dp_gguf *gguf, const char *key)
{
    uint32_t i = dp_map_str_get(&gguf->value_by_key, dp_str_from(key));

    if (i == DP_MAP_NONE || !gguf->values[i].bytes)
        return NULL;
    return &gguf->values[i];
}

static const char *type_name(dp_gguf_type type)
{
    static const char *const names[DP_GGUF_TYPE_COUNT] = {
        "u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
        "bool", "string", "array", "u64", "i64", "f64",
    };

    return names[type];
}

/* The value of `key` and the bytes of its element i; those of a string are NULL. */
static dp_status find_element(const dp_gguf *gguf, const char *key, uint64_t i,
                              const dp_gguf_value **out, const uint8_t **bytes, dp_error *err)
{
    const dp_gguf_value *value = dp_gguf_find(gguf, key);

    if (!value)
        return dp_fail(err, DP_E_NOTFOUND, "%s: key '%s' is missing", gguf->parts[0].path, key);
    if (i >= value->count)
        return dp_fail(err, DP_E_CORRUPT, "%s: key '%s' has %llu values, number %llu is needed",
                       gguf->parts[0].path, key, (unsigned long long)value->count,
                       (unsigned long long)i);
    *out = value;
    *bytes =
        value->type == DP_GGUF_STRING ? NULL : value->bytes + i * dp_gguf_type_size(value->type);
    return DP_OK;
}

static dp_status fail_type(const dp_gguf *gguf, const char *key, const dp_gguf_value *value,
                           const char *want, dp_error *err)
{
    return dp_fail(err, DP_E_CORRUPT, "%s: key '%s' has type %s%s, expected %s",
                   gguf->parts[0].path, key, value->is_array ? "array of " : "",
                   type_name(value->type), want);
}

/* An integer of any type as its magnitude and sign; false for other types. */
static bool load_integer(dp_gguf_type type, const uint8_t *bytes, uint64_t *out, bool *is_negative)
{
    int64_t i = 0;

    *is_negative = false;
    switch (type) {
    case DP_GGUF_U8:
        *out = bytes[0];
        return true;
    case DP_GGUF_U16:
        *out = dp_load_u16(bytes);
        return true;
    case DP_GGUF_U32:
        *out = dp_load_u32(bytes);
        return true;
    case DP_GGUF_U64:
        *out = dp_load_u64(bytes);
        return true;
    case DP_GGUF_I8:
        i = (int8_t)bytes[0];
        break;
    case DP_GGUF_I16:
        i = (int16_t)dp_load_u16(bytes);
        break;
    case DP_GGUF_I32:
        i = (int32_t)dp_load_u32(bytes);
        break;
    case DP_GGUF_I64:
        i = (int64_t)dp_load_u64(bytes);
        break;
    default:
        return false;
    }
    *is_negative = i < 0;
    *out = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    return true;
}

/* Element i of a key of any integer type. */
static dp_status get_integer(const dp_gguf *gguf, const char *key, uint64_t i, uint64_t *magnitude,
                             bool *is_negative, dp_error *err)
{
    const dp_gguf_value *value;
    const uint8_t *bytes;
    dp_status st = find_element(gguf, key, i, &value, &bytes, err);

    if (st)
        return st;
    if (!load_integer(value->type, bytes, magnitude, is_negative))
        return fail_type(gguf, key, value, "an integer", err);
    return DP_OK;
}

dp_status dp_gguf_get_u64(const dp_gguf *gguf, const char *key, uint64_t i, uint64_t *out,
                          dp_error *err)
{
    uint64_t magnitude;
    bool is_negative;
    dp_status st;

    *out = 0;
    st = get_integer(gguf, key, i, &magnitude, &is_negative, err);
    if (st)
        return st;
    if (is_negative)
        return dp_fail(err, DP_E_CORRUPT, "%s: key '%s' is -%llu, expected 0 or more",
                       gguf->parts[0].path, key, (unsigned long long)magnitude);
    *out = magnitude;
    return DP_OK;
}

dp_status dp_gguf_get_i64(const dp_gguf *gguf, const char *key, uint64_t i, int64_t *out,
                          dp_error *err)
{
    uint64_t magnitude;
    bool is_negative;
    dp_status st;

    *out = 0;
    st = get_integer(gguf, key, i, &magnitude, &is_negative, err);
    if (st)
        return st;
    if (!is_negative && magnitude > INT64_MAX)
        return dp_fail(err, DP_E_CORRUPT, "%s: key '%s' is %llu, above 2^63 - 1",
                       gguf->parts[0].path, key, (unsigned long long)magnitude);
    *out = (int64_t)(is_negative ? 0 - magnitude : magnitude);
    return DP_OK;
}

dp_status dp_gguf_get_f64(const dp_gguf *gguf, const char *key, uint64_t i, double *out,
                          dp_error *err)
{
    const dp_gguf_value *value;
    const uint8_t *bytes;
    uint64_t bits;
    bool is_negative;
    dp_status st;

    *out = 0;
    st = find_element(gguf, key, i, &value, &bytes, err);
    if (st)
        return st;
    if (value->type == DP_GGUF_F32) {
        uint32_t bits32 = dp_load_u32(bytes);
        float f;

        memcpy(&f, &bits32, sizeof f);
        *out = (double)f;
        return DP_OK;
    }
    if (value->type == DP_GGUF_F64) {
        bits = dp_load_u64(bytes);
        memcpy(out, &bits, sizeof *out);
        return DP_OK;
    }
    if (!load_integer(value->type, bytes, &bits, &is_negative))
        return fail_type(gguf, key, value, "a number", err);
    *out = is_negative ? -(double)bits : (double)bits;
    return DP_OK;
}

dp_status dp_gguf_get_bool(const dp_gguf *gguf, const char *key, bool *out, dp_error *err)
{
    const dp_gguf_value *value;
    const uint8_t *bytes;
    dp_status st;

    *out = false;
    st = find_element(gguf, key, 0, &value, &bytes, err);
    if (st)
        return st;
    if (value->type != DP_GGUF_BOOL || value->is_array)
        return fail_type(gguf, key, value, "bool", err);
    if (bytes[0] > 1)
        return dp_fail(err, DP_E_CORRUPT, "%s: key '%s' is a bool of value %u", gguf->parts[0].path,
                       key, bytes[0]);
    *out = bytes[0] == 1;
    return DP_OK;
}

dp_status dp_gguf_get_str(const dp_gguf *gguf, const char *key, dp_str *out, dp_error *err)
{
    const dp_gguf_value *value;
    const uint8_t *bytes;
    dp_status st;

    *out = dp_str_from("");
    st = find_element(gguf, key, 0, &value, &bytes, err);
    if (st)
        return st;
    if (value->type != DP_GGUF_STRING || value->is_array)
        return fail_type(gguf, key, value, "string", err);
    *out = (dp_str){ (const char *)value->bytes + 8, (size_t)dp_load_u64(value->bytes) };
    return DP_OK;
}
