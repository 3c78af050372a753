#include "format/gguf_out.h"

#include <string.h>
#include "base/assert.h"
#include "base/file_out.h"
#include "base/mem.h"
#include "base/status.h"
#include "format/gguf_impl.h"

#define START_SIZE 24                  /* magic, version, two counts */
#define DATA_MAX   ((uint64_t)1 << 62) /* far from wrapping, header and padding included */

struct tensor {
    uint64_t size;
    uint64_t padded; /* with the zeros behind it */
};

struct dp_gguf_out {
    uint32_t version;
    uint32_t alignment;
    dp_buf keys;         /* as they will lie in the file */
    dp_buf descriptions; /* of tensors: likewise */
    uint64_t key_count;
    struct tensor *tensors;
    size_t tensor_count;
    size_t tensor_capacity;
    uint64_t data_size;
    dp_status st; /* the first error; later calls do nothing */
    dp_error err;
    dp_file_out file;
    size_t current;   /* the tensor being written */
    uint64_t lacking; /* bytes it still lacks */
};

dp_gguf_out *dp_gguf_out_open(uint32_t version, uint32_t alignment)
{
    dp_gguf_out *out = dp_alloc_zero(1, sizeof *out);

    DP_ASSERT(dp_is_power_of_two(alignment));
    if (!out)
        return NULL;
    out->version = version;
    out->alignment = alignment;
    dp_buf_init(&out->keys, DP_GGUF_HEADER_MAX);
    dp_buf_init(&out->descriptions, DP_GGUF_HEADER_MAX);
    if (alignment != DP_GGUF_OUT_ALIGNMENT)
        dp_gguf_out_u32(out, "general.alignment", alignment);
    return out;
}

void dp_gguf_out_close(dp_gguf_out *out)
{
    if (!out)
        return;
    dp_file_out_close(&out->file);
    dp_free(out->tensors);
    dp_buf_deinit(&out->descriptions);
    dp_buf_deinit(&out->keys);
    dp_free(out);
}

/* Little-endian, whatever the machine. */
static dp_status put_int(dp_buf *buf, uint64_t x, int size)
{
    uint8_t bytes[8];

    for (int i = 0; i < size; i++)
        bytes[i] = (uint8_t)(x >> 8 * i);
    return dp_buf_append(buf, bytes, (size_t)size);
}

static dp_status put_str(dp_buf *buf, dp_str text)
{
    dp_status st = put_int(buf, text.size, 8);

    return st ? st : dp_buf_append(buf, text.bytes, text.size);
}

static void fail_if(dp_gguf_out *out, dp_status st, const char *what)
{
    if (st && !out->st)
        out->st = dp_fail(&out->err, st, "GGUF writer: '%s' cannot be added: %s", what,
                          dp_status_text(st));
}

/* The name and type of a key. False when the writer has failed. */
static bool put_key(dp_gguf_out *out, const char *key, dp_gguf_type type)
{
    dp_status st;

    if (out->st)
        return false;
    st = put_str(&out->keys, dp_str_from(key));
    if (!st)
        st = put_int(&out->keys, type, 4);
    fail_if(out, st, key);
    out->key_count++;
    return !out->st;
}

static void put_number(dp_gguf_out *out, const char *key, dp_gguf_type type, uint64_t bits)
{
    if (put_key(out, key, type))
        fail_if(out, put_int(&out->keys, bits, (int)dp_gguf_type_size(type)), key);
}

void dp_gguf_out_u32(dp_gguf_out *out, const char *key, uint32_t value)
{
    put_number(out, key, DP_GGUF_U32, value);
}

void dp_gguf_out_u64(dp_gguf_out *out, const char *key, uint64_t value)
{
    put_number(out, key, DP_GGUF_U64, value);
}

void dp_gguf_out_f32(dp_gguf_out *out, const char *key, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    put_number(out, key, DP_GGUF_F32, bits);
}

void dp_gguf_out_bool(dp_gguf_out *out, const char *key, bool value)
{
    put_number(out, key, DP_GGUF_BOOL, value);
}

void dp_gguf_out_str(dp_gguf_out *out, const char *key, const char *value)
{
    dp_gguf_out_text(out, key, dp_str_from(value));
}

void dp_gguf_out_text(dp_gguf_out *out, const char *key, dp_str value)
{
    if (put_key(out, key, DP_GGUF_STRING))
        fail_if(out, put_str(&out->keys, value), key);
}

void dp_gguf_out_scalar(dp_gguf_out *out, const char *key, dp_gguf_type type, const void *value)
{
    DP_ASSERT(type < DP_GGUF_TYPE_COUNT && dp_gguf_type_size(type) != 0);
    if (put_key(out, key, type))
        fail_if(out, dp_buf_append(&out->keys, value, dp_gguf_type_size(type)), key);
}

static bool put_array(dp_gguf_out *out, const char *key, dp_gguf_type type, uint64_t count)
{
    dp_status st;

    if (!put_key(out, key, DP_GGUF_ARRAY))
        return false;
    st = put_int(&out->keys, type, 4);
    if (!st)
        st = put_int(&out->keys, count, 8);
    fail_if(out, st, key);
    return !out->st;
}

void dp_gguf_out_array(dp_gguf_out *out, const char *key, dp_gguf_type type, uint64_t count,
                       const void *values)
{
    uint64_t size;

    DP_ASSERT(type < DP_GGUF_TYPE_COUNT && dp_gguf_type_size(type) != 0);
    if (!put_array(out, key, type, count))
        return;
    if (!dp_u64_mul(count, dp_gguf_type_size(type), &size))
        fail_if(out, DP_E_LIMIT, key);
    else
        fail_if(out, dp_buf_append(&out->keys, values, (size_t)size), key);
}

void dp_gguf_out_str_array(dp_gguf_out *out, const char *key, uint64_t count,
                           const char *const *values)
{
    dp_gguf_out_text_array(out, key, count);
    for (uint64_t i = 0; i < count; i++)
        dp_gguf_out_text_element(out, dp_str_from(values[i]));
}

void dp_gguf_out_text_array(dp_gguf_out *out, const char *key, uint64_t count)
{
    put_array(out, key, DP_GGUF_STRING, count);
}

void dp_gguf_out_text_element(dp_gguf_out *out, dp_str value)
{
    if (!out->st)
        fail_if(out, put_str(&out->keys, value), "an array's string");
}

void dp_gguf_out_copy(dp_gguf_out *out, const dp_gguf_value *value)
{
    const char *key = value->key.bytes;

    if (value->type != DP_GGUF_STRING) {
        if (value->is_array)
            dp_gguf_out_array(out, key, value->type, value->count, value->bytes);
        else
            dp_gguf_out_scalar(out, key, value->type, value->bytes);
        return;
    }
    if (!value->is_array) {
        dp_gguf_out_text(
            out, key,
            (dp_str){ (const char *)value->bytes + 8, (size_t)dp_load_u64(value->bytes) });
        return;
    }
    dp_gguf_out_text_array(out, key, value->count);
    for (uint64_t i = 0; i < value->count; i++)
        dp_gguf_out_text_element(out, value->strings[i]);
}

/* ---- tensors ---- */

static dp_status tensor_size(const dp_gguf_out *out, uint64_t *size, dp_dtype type,
                             uint32_t dim_count, const uint64_t *ne)
{
    if (!dp_dtype_row_bytes(type, ne[0], size))
        return DP_E_INVALID;
    for (uint32_t i = 1; i < dim_count; i++)
        if (!dp_u64_mul(*size, ne[i], size))
            return DP_E_INVALID;
    if (*size == 0 || *size > DATA_MAX - out->data_size)
        return DP_E_INVALID;
    return DP_OK;
}

/* Room for one more size. */
static dp_status grow_tensors(dp_gguf_out *out)
{
    size_t capacity = out->tensor_capacity ? out->tensor_capacity * 2 : 64;
    struct tensor *tensors;

    if (out->tensor_count < out->tensor_capacity)
        return DP_OK;
    if (out->tensor_count >= DP_GGUF_TENSORS_MAX)
        return DP_E_LIMIT;
    tensors = dp_realloc(out->tensors, capacity, sizeof *tensors);
    if (!tensors)
        return DP_E_NOMEM;
    out->tensors = tensors;
    out->tensor_capacity = capacity;
    return DP_OK;
}

static dp_status put_tensor(dp_buf *buf, const char *name, dp_dtype type, uint32_t dim_count,
                            const uint64_t *ne, uint64_t offset)
{
    dp_status st = put_str(buf, dp_str_from(name));

    if (!st)
        st = put_int(buf, dim_count, 4);
    for (uint32_t i = 0; i < dim_count && !st; i++)
        st = put_int(buf, ne[i], 8);
    if (!st)
        st = put_int(buf, type, 4);
    if (!st)
        st = put_int(buf, offset, 8);
    return st;
}

void dp_gguf_out_tensor(dp_gguf_out *out, const char *name, dp_dtype type, uint32_t dim_count,
                        const uint64_t *ne)
{
    struct tensor t;
    dp_status st;

    DP_ASSERT(dim_count >= 1 && dim_count <= DP_TENSOR_DIMS_MAX && dp_dtype_get(type));
    if (out->st)
        return;
    st = tensor_size(out, &t.size, type, dim_count, ne);
    if (!st)
        st = grow_tensors(out);
    if (!st)
        st = put_tensor(&out->descriptions, name, type, dim_count, ne, out->data_size);
    if (st) {
        fail_if(out, st, name);
        return;
    }
    t.padded = dp_align_up(t.size, out->alignment);
    out->tensors[out->tensor_count++] = t;
    out->data_size += t.padded;
}

size_t dp_gguf_out_tensor_count(const dp_gguf_out *out)
{
    return out->tensor_count;
}

uint64_t dp_gguf_out_tensor_size(const dp_gguf_out *out, size_t i)
{
    DP_ASSERT(i < out->tensor_count);
    return out->tensors[i].size;
}

static uint64_t header_size(const dp_gguf_out *out)
{
    return dp_align_up(START_SIZE + out->keys.size + out->descriptions.size, out->alignment);
}

uint64_t dp_gguf_out_file_size(const dp_gguf_out *out)
{
    return header_size(out) + out->data_size;
}

/* ---- writing ---- */

dp_status dp_gguf_out_header(dp_gguf_out *out, dp_buf *buf, dp_error *err)
{
    size_t start = buf->size;
    dp_status st;

    if (out->st)
        return dp_fail(err, out->st, "%s", out->err.text);
    st = dp_buf_text(buf, "GGUF");
    if (!st)
        st = put_int(buf, out->version, 4);
    if (!st)
        st = put_int(buf, out->tensor_count, 8);
    if (!st)
        st = put_int(buf, out->key_count, 8);
    if (!st)
        st = dp_buf_append(buf, out->keys.bytes, out->keys.size);
    if (!st)
        st = dp_buf_append(buf, out->descriptions.bytes, out->descriptions.size);
    while (!st && buf->size - start < header_size(out))
        st = put_int(buf, 0, 1);
    if (st)
        return dp_fail(err, st, "GGUF writer: a header of %zu keys and %zu tensors",
                       (size_t)out->key_count, out->tensor_count);
    return DP_OK;
}

/* (1) */
static dp_status check_header(const dp_gguf_out *out, const dp_buf *header, const char *path,
                              dp_error *err)
{
    dp_gguf *gguf;
    dp_status st = dp_gguf_parse(&gguf, path, (const uint8_t *)header->bytes, header->size,
                                 dp_gguf_out_file_size(out), NULL, err);

    dp_gguf_close(gguf);
    return st;
}

dp_status dp_gguf_out_begin(dp_gguf_out *out, const char *path, dp_error *err)
{
    dp_buf header;
    dp_status st;

    dp_buf_init(&header, DP_GGUF_HEADER_MAX);
    st = dp_gguf_out_header(out, &header, err);
    if (st)
        goto done;
    st = check_header(out, &header, path, err);
    if (st)
        goto done;
    st = dp_file_out_open(&out->file, path, err);
    if (st)
        goto done;
    st = dp_file_out_write(&out->file, header.bytes, header.size, err);
    if (st)
        goto done;
    out->current = 0;
    out->lacking = out->tensor_count ? out->tensors[0].size : 0;
done:
    dp_buf_deinit(&header);
    return st;
}

/* (2) The current tensor has its bytes: pads it and goes to the next. */
static dp_status end_tensor(dp_gguf_out *out, dp_error *err)
{
    static const uint8_t zeros[256];
    const struct tensor *t = &out->tensors[out->current];
    uint64_t padding = t->padded - t->size;
    dp_status st = DP_OK;

    while (padding > 0 && !st) {
        size_t run = (size_t)DP_MIN(padding, sizeof zeros);

        st = dp_file_out_write(&out->file, zeros, run, err);
        padding -= run;
    }
    out->current++;
    out->lacking = out->current < out->tensor_count ? out->tensors[out->current].size : 0;
    return st;
}

static dp_status advance(dp_gguf_out *out, uint64_t size, dp_error *err)
{
    out->lacking -= size;
    return size > 0 && out->lacking == 0 ? end_tensor(out, err) : DP_OK;
}

dp_status dp_gguf_out_write(dp_gguf_out *out, const void *bytes, size_t size, dp_error *err)
{
    dp_status st;

    DP_CHECK(size <= out->lacking);
    st = dp_file_out_write(&out->file, bytes, size, err);
    return st ? st : advance(out, size, err);
}

dp_status dp_gguf_out_skip(dp_gguf_out *out, uint64_t size, dp_error *err)
{
    dp_status st;

    DP_CHECK(size <= out->lacking);
    st = dp_file_out_skip(&out->file, size, err);
    return st ? st : advance(out, size, err);
}

bool dp_gguf_out_current(const dp_gguf_out *out, size_t *i, uint64_t *lacking)
{
    *i = out->current;
    *lacking = out->lacking;
    return out->current < out->tensor_count;
}

dp_status dp_gguf_out_finish(dp_gguf_out *out, dp_error *err)
{
    if (out->current < out->tensor_count)
        return dp_fail(err, DP_E_INVALID, "%s: tensor %zu of %zu lacks %llu bytes", out->file.path,
                       out->current + 1, out->tensor_count, (unsigned long long)out->lacking);
    return dp_file_out_commit(&out->file, err);
}
