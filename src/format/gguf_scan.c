/* The scan: every number of a header is checked here, and nowhere else. */
#include "format/gguf_impl.h"

#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/status.h"

#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MIN     8 /* the format asks for a multiple of 8: floats are read in place */
#define ALIGNMENT_MAX     65536

/* The least a key and a tensor take in a file: bounds counts before allocating. */
#define KEY_BYTES_MIN    (8 + 1 + 4 + 1)
#define TENSOR_BYTES_MIN (8 + 1 + 4 + 8 + 4 + 8)

struct cursor {
    const char *file;
    const uint8_t *bytes;
    size_t size;        /* bytes at hand */
    uint64_t file_size; /* bytes that exist */
    uint64_t at;        /* (c1) at <= size <= file_size */
    dp_str subject;     /* the key or tensor being read, for sentences */
    size_t *need;
    dp_error *err;
};

/* The next `size` bytes, or why not. DP_E_BUSY: they exist, but not at hand. */
static dp_status take(struct cursor *c, const uint8_t **out, uint64_t size, const char *what)
{
    const char *mark = c->subject.size ? " '" : ""; /* before the subject; its end is the quote */
    uint64_t at = c->at;

    if (size > c->file_size - at)
        return dp_fail(c->err, DP_E_CORRUPT,
                       "%s: %s%s%.*s%s at byte %llu takes %llu bytes, but the file ends at byte "
                       "%llu",
                       c->file, what, mark, DP_NAME_ARG(c->subject), mark + (*mark != 0),
                       (unsigned long long)at, (unsigned long long)size,
                       (unsigned long long)c->file_size);
    if (at + size > DP_GGUF_HEADER_MAX)
        return dp_fail(c->err, DP_E_LIMIT,
                       "%s: %s%s%.*s%s at byte %llu takes %llu bytes; a header may have %zu",
                       c->file, what, mark, DP_NAME_ARG(c->subject), mark + (*mark != 0),
                       (unsigned long long)at, (unsigned long long)size, DP_GGUF_HEADER_MAX);
    if (size > c->size - at) {
        *c->need = (size_t)(at + size);
        return dp_fail(c->err, DP_E_BUSY, "%s: the header goes on past byte %zu", c->file, c->size);
    }
    *out = c->bytes + at;
    c->at += size;
    return DP_OK;
}

static dp_status take_u32(struct cursor *c, uint32_t *out, const char *what)
{
    const uint8_t *bytes;
    dp_status st = take(c, &bytes, 4, what);

    if (st)
        return st;
    *out = dp_load_u32(bytes);
    return DP_OK;
}

static dp_status take_u64(struct cursor *c, uint64_t *out, const char *what)
{
    const uint8_t *bytes;
    dp_status st = take(c, &bytes, 8, what);

    if (st)
        return st;
    *out = dp_load_u64(bytes);
    return DP_OK;
}

/* A key or a tensor's name: 1..DP_GGUF_NAME_MAX bytes without control bytes, so
 * that it can stand in any sentence and end at a NUL. */
static dp_status take_name(struct cursor *c, dp_str *out, const char *what)
{
    uint64_t start = c->at;
    const uint8_t *bytes;
    uint64_t size;
    dp_status st;

    c->subject = dp_str_from("");
    st = take_u64(c, &size, what);
    if (st)
        return st;
    if (size == 0)
        return dp_fail(c->err, DP_E_CORRUPT, "%s: %s at byte %llu is empty", c->file, what,
                       (unsigned long long)start);
    if (size > DP_GGUF_NAME_MAX)
        return dp_fail(c->err, DP_E_LIMIT, "%s: %s at byte %llu has %llu bytes, at most %d",
                       c->file, what, (unsigned long long)start, (unsigned long long)size,
                       DP_GGUF_NAME_MAX);
    st = take(c, &bytes, size, what);
    if (st)
        return st;
    for (uint64_t i = 0; i < size; i++)
        if (bytes[i] < 0x20 || bytes[i] == 0x7f)
            return dp_fail(c->err, DP_E_CORRUPT, "%s: %s at byte %llu has a control byte 0x%02x",
                           c->file, what, (unsigned long long)start, bytes[i]);
    out->bytes = (const char *)bytes;
    out->size = (size_t)size;
    c->subject = *out;
    return DP_OK;
}

uint32_t dp_gguf_type_size(dp_gguf_type type)
{
    static const uint8_t sizes[DP_GGUF_TYPE_COUNT] = {
        [DP_GGUF_U8] = 1,  [DP_GGUF_I8] = 1,  [DP_GGUF_U16] = 2, [DP_GGUF_I16] = 2,
        [DP_GGUF_U32] = 4, [DP_GGUF_I32] = 4, [DP_GGUF_F32] = 4, [DP_GGUF_BOOL] = 1,
        [DP_GGUF_U64] = 8, [DP_GGUF_I64] = 8, [DP_GGUF_F64] = 8,
    };

    return sizes[type];
}

static dp_status scan_strings(struct cursor *c, uint64_t count)
{
    if (count > (c->file_size - c->at) / 8)
        return dp_fail(c->err, DP_E_CORRUPT,
                       "%s: key " DP_NAME_FMT " has %llu strings, more than the file's %llu bytes "
                       "can hold",
                       c->file, DP_NAME_ARG(c->subject), (unsigned long long)count,
                       (unsigned long long)c->file_size);
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *bytes;
        uint64_t size;
        dp_status st = take_u64(c, &size, "the string of key");

        if (st)
            return st;
        st = take(c, &bytes, size, "the string of key");
        if (st)
            return st;
    }
    return DP_OK;
}

static dp_status scan_type(struct cursor *c, dp_gguf_type *out, const char *what)
{
    uint32_t type;
    dp_status st = take_u32(c, &type, what);

    if (st)
        return st;
    if (type >= DP_GGUF_TYPE_COUNT)
        return dp_fail(c->err, DP_E_UNSUPPORTED, "%s: %s " DP_NAME_FMT " is %u, which is unknown",
                       c->file, what, DP_NAME_ARG(c->subject), type);
    *out = (dp_gguf_type)type;
    return DP_OK;
}

static dp_status scan_value(struct cursor *c, dp_gguf_value *value)
{
    uint64_t size;
    dp_status st;

    st = take_name(c, &value->key, "a key");
    if (st)
        return st;
    st = scan_type(c, &value->type, "the type of key");
    if (st)
        return st;
    value->count = 1;
    value->is_array = value->type == DP_GGUF_ARRAY;
    if (value->is_array) {
        st = scan_type(c, &value->type, "the element type of key");
        if (st)
            return st;
        if (value->type == DP_GGUF_ARRAY)
            return dp_fail(c->err, DP_E_UNSUPPORTED,
                           "%s: key " DP_NAME_FMT " is an array of arrays", c->file,
                           DP_NAME_ARG(c->subject));
        st = take_u64(c, &value->count, "the length of key");
        if (st)
            return st;
    }
    value->bytes = c->bytes + c->at;
    if (value->type == DP_GGUF_STRING)
        return scan_strings(c, value->count);
    if (!dp_u64_mul(value->count, dp_gguf_type_size(value->type), &size))
        return dp_fail(c->err, DP_E_CORRUPT, "%s: key " DP_NAME_FMT " has %llu elements", c->file,
                       DP_NAME_ARG(c->subject), (unsigned long long)value->count);
    return take(c, &value->bytes, size, "the value of key");
}

static dp_status check_alignment(struct cursor *c, const dp_gguf_value *value, uint64_t *out)
{
    uint64_t alignment;

    if (value->is_array || (value->type != DP_GGUF_U32 && value->type != DP_GGUF_U64))
        return dp_fail(c->err, DP_E_CORRUPT, "%s: general.alignment is not a number", c->file);
    alignment = value->type == DP_GGUF_U32 ? dp_load_u32(value->bytes) : dp_load_u64(value->bytes);
    if (!dp_is_power_of_two(alignment) || alignment < ALIGNMENT_MIN || alignment > ALIGNMENT_MAX)
        return dp_fail(c->err, DP_E_CORRUPT,
                       "%s: general.alignment is %llu, not a power of two from %d to %d", c->file,
                       (unsigned long long)alignment, ALIGNMENT_MIN, ALIGNMENT_MAX);
    *out = alignment;
    return DP_OK;
}

static dp_status scan_dims(struct cursor *c, dp_tensor *tensor)
{
    uint64_t dims;
    dp_status st;

    st = take_u32(c, &tensor->dim_count, "the dimensions of tensor");
    if (st)
        return st;
    if (tensor->dim_count < 1 || tensor->dim_count > DP_TENSOR_DIMS_MAX)
        return dp_fail(c->err, DP_E_CORRUPT,
                       "%s: tensor " DP_NAME_FMT " has %u dimensions, expected 1 to %d", c->file,
                       DP_NAME_ARG(tensor->name), tensor->dim_count, DP_TENSOR_DIMS_MAX);
    for (uint32_t i = 0; i < DP_TENSOR_DIMS_MAX; i++) {
        dims = 1;
        if (i < tensor->dim_count) {
            st = take_u64(c, &dims, "the dimensions of tensor");
            if (st)
                return st;
        }
        if (dims == 0)
            return dp_fail(c->err, DP_E_CORRUPT,
                           "%s: tensor " DP_NAME_FMT " is empty: dimension %u is 0", c->file,
                           DP_NAME_ARG(tensor->name), i);
        tensor->ne[i] = dims;
    }
    return DP_OK;
}

static dp_status scan_tensor_type(struct cursor *c, dp_tensor *tensor)
{
    const dp_dtype_info *info;
    uint64_t size;
    uint32_t id;
    dp_status st;

    st = take_u32(c, &id, "the type of tensor");
    if (st)
        return st;
    info = dp_dtype_get(id);
    if (!info)
        return dp_fail(c->err, DP_E_UNSUPPORTED,
                       "%s: tensor " DP_NAME_FMT " has unknown type id %u", c->file,
                       DP_NAME_ARG(tensor->name), id);
    tensor->dtype = (dp_dtype)id;
    if (tensor->ne[0] % info->block_elems)
        return dp_fail(c->err, DP_E_CORRUPT,
                       "%s: tensor " DP_NAME_FMT " has rows of %llu values, which are not whole "
                       "blocks of %u (%s)",
                       c->file, DP_NAME_ARG(tensor->name), (unsigned long long)tensor->ne[0],
                       info->block_elems, info->name);
    if (!dp_dtype_row_bytes(tensor->dtype, tensor->ne[0], &size) ||
        !dp_u64_mul(size, tensor->ne[1], &size) || !dp_u64_mul(size, tensor->ne[2], &size) ||
        !dp_u64_mul(size, tensor->ne[3], &size))
        return dp_fail(c->err, DP_E_CORRUPT,
                       "%s: the dimensions of tensor " DP_NAME_FMT " multiply past 2^64 bytes",
                       c->file, DP_NAME_ARG(tensor->name));
    tensor->size = size;
    return DP_OK;
}

static dp_status scan_tensor(struct cursor *c, dp_tensor *tensor)
{
    dp_status st;

    st = take_name(c, &tensor->name, "a tensor's name");
    if (st)
        return st;
    st = scan_dims(c, tensor);
    if (st)
        return st;
    st = scan_tensor_type(c, tensor);
    if (st)
        return st;
    return take_u64(c, &tensor->offset, "the offset of tensor");
}

/* Magic, version and counts; allocates the two tables. */
static dp_status scan_start(struct cursor *c, dp_gguf *g)
{
    const uint8_t *magic;
    uint64_t tensor_count, value_count;
    dp_status st;

    st = take(c, &magic, 4, "the magic");
    if (st)
        return st;
    if (memcmp(magic, "GGUF", 4) != 0)
        return dp_fail(c->err, DP_E_CORRUPT,
                       "%s: not a GGUF file (starts with %02x %02x %02x %02x)", c->file, magic[0],
                       magic[1], magic[2], magic[3]);
    st = take_u32(c, &g->version, "the version");
    if (st)
        return st;
    if (g->version != 0 && (g->version & 0xffff) == 0)
        return dp_fail(c->err, DP_E_UNSUPPORTED, "%s: the file is big-endian", c->file);
    if (g->version < 2 || g->version > 3)
        return dp_fail(c->err, DP_E_UNSUPPORTED, "%s: GGUF version %u, expected 2 or 3", c->file,
                       g->version);
    st = take_u64(c, &tensor_count, "the number of tensors");
    if (st)
        return st;
    st = take_u64(c, &value_count, "the number of keys");
    if (st)
        return st;
    if (tensor_count > DP_GGUF_TENSORS_MAX || value_count > DP_GGUF_KEYS_MAX)
        return dp_fail(c->err, DP_E_LIMIT, "%s: %llu tensors and %llu keys, at most %d and %d",
                       c->file, (unsigned long long)tensor_count, (unsigned long long)value_count,
                       DP_GGUF_TENSORS_MAX, DP_GGUF_KEYS_MAX);
    if (tensor_count * TENSOR_BYTES_MIN + value_count * KEY_BYTES_MIN > c->file_size - c->at)
        return dp_fail(c->err, DP_E_CORRUPT,
                       "%s: %llu tensors and %llu keys do not fit in a file of %llu bytes", c->file,
                       (unsigned long long)tensor_count, (unsigned long long)value_count,
                       (unsigned long long)c->file_size);
    g->values = dp_alloc_zero((size_t)value_count, sizeof *g->values);
    g->tensors = dp_alloc_zero((size_t)tensor_count, sizeof *g->tensors);
    if (!g->values || !g->tensors)
        return dp_fail(c->err, DP_E_NOMEM, "%s: %llu tensors and %llu keys", c->file,
                       (unsigned long long)tensor_count, (unsigned long long)value_count);
    g->value_count = (size_t)value_count;
    g->tensor_count = (size_t)tensor_count;
    return DP_OK;
}

/* Offsets in a file count from its data section; ours from its first byte. */
static dp_status place_tensor(struct cursor *c, dp_tensor *tensor, uint64_t data,
                              uint64_t alignment)
{
    uint64_t end;

    if (tensor->offset % alignment)
        return dp_fail(c->err, DP_E_CORRUPT,
                       "%s: tensor " DP_NAME_FMT " has offset %llu, not a multiple of %llu",
                       c->file, DP_NAME_ARG(tensor->name), (unsigned long long)tensor->offset,
                       (unsigned long long)alignment);
    if (!dp_u64_add(data, tensor->offset, &tensor->offset) ||
        !dp_u64_add(tensor->offset, tensor->size, &end) || end > c->file_size)
        return dp_fail(c->err, DP_E_CORRUPT,
                       "%s: tensor " DP_NAME_FMT " (%llu bytes at byte %llu) reaches past the end "
                       "of the file at byte %llu",
                       c->file, DP_NAME_ARG(tensor->name), (unsigned long long)tensor->size,
                       (unsigned long long)tensor->offset, (unsigned long long)c->file_size);
    return DP_OK;
}

static int compare_offsets(const void *a, const void *b)
{
    const dp_tensor *x = *(const dp_tensor *const *)a, *y = *(const dp_tensor *const *)b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x < y ? -1 : x > y;
}

static dp_status check_overlap(struct cursor *c, const dp_gguf *g)
{
    const dp_tensor **sorted = dp_alloc(g->tensor_count, sizeof *sorted);
    dp_status st = DP_OK;

    if (!sorted)
        return dp_fail(c->err, DP_E_NOMEM, "%s: %zu tensors", c->file, g->tensor_count);
    for (size_t i = 0; i < g->tensor_count; i++)
        sorted[i] = &g->tensors[i];
    qsort(sorted, g->tensor_count, sizeof *sorted, compare_offsets);
    for (size_t i = 1; i < g->tensor_count && !st; i++) {
        const dp_tensor *a = sorted[i - 1], *b = sorted[i];

        if (a->offset + a->size > b->offset)
            st = dp_fail(c->err, DP_E_CORRUPT,
                         "%s: tensors " DP_NAME_FMT " and " DP_NAME_FMT " overlap at byte %llu",
                         c->file, DP_NAME_ARG(a->name), DP_NAME_ARG(b->name),
                         (unsigned long long)b->offset);
    }
    dp_free(sorted);
    return st;
}

static dp_status scan(struct cursor *c, dp_gguf *g)
{
    uint64_t alignment = ALIGNMENT_DEFAULT;
    dp_status st;

    st = scan_start(c, g);
    if (st)
        return st;
    for (size_t i = 0; i < g->value_count; i++) {
        st = scan_value(c, &g->values[i]);
        if (st)
            return st;
        if (dp_str_is(g->values[i].key, "general.alignment")) {
            st = check_alignment(c, &g->values[i], &alignment);
            if (st)
                return st;
        }
    }
    for (size_t i = 0; i < g->tensor_count; i++) {
        st = scan_tensor(c, &g->tensors[i]);
        if (st)
            return st;
    }
    for (size_t i = 0; i < g->tensor_count; i++) {
        st = place_tensor(c, &g->tensors[i], dp_align_up(c->at, alignment), alignment);
        if (st)
            return st;
    }
    return check_overlap(c, g);
}

dp_status dp_gguf_scan(dp_gguf *g, const char *name, const uint8_t *bytes, size_t size,
                       uint64_t file_size, size_t *need, dp_error *err)
{
    struct cursor c = { .file = name,
                        .bytes = bytes,
                        .size = size,
                        .file_size = file_size,
                        .subject = dp_str_from(""),
                        .need = need,
                        .err = err };

    return scan(&c, g);
}
