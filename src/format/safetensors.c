#include "format/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/status.h"

#define LENGTH_SIZE 8 /* the header's length, little-endian, in front of it */
#define SHOWN_MAX   80

/* How error sentences show a name from the file. */
#define SHOWN_FMT      "'%.*s'"
#define SHOWN_ARG(str) (int)DP_MIN((str).size, (size_t)SHOWN_MAX), (str).bytes

static const struct {
    const char *name;
    uint8_t size;
} types[DP_ST_TYPE_COUNT] = {
    [DP_ST_BOOL] = { "BOOL", 1 },       [DP_ST_U8] = { "U8", 1 },
    [DP_ST_I8] = { "I8", 1 },           [DP_ST_F8_E5M2] = { "F8_E5M2", 1 },
    [DP_ST_F8_E4M3] = { "F8_E4M3", 1 }, [DP_ST_F8_E8M0] = { "F8_E8M0", 1 },
    [DP_ST_U16] = { "U16", 2 },         [DP_ST_I16] = { "I16", 2 },
    [DP_ST_F16] = { "F16", 2 },         [DP_ST_BF16] = { "BF16", 2 },
    [DP_ST_U32] = { "U32", 4 },         [DP_ST_I32] = { "I32", 4 },
    [DP_ST_F32] = { "F32", 4 },         [DP_ST_U64] = { "U64", 8 },
    [DP_ST_I64] = { "I64", 8 },         [DP_ST_F64] = { "F64", 8 },
};

struct dp_safetensors {
    dp_safetensor *tensors;
    size_t count, capacity;
    dp_buf names; /* NUL behind each; tensors[i].name.bytes is an offset until all are in */
    dp_map_str by_name;
};

struct scan {
    dp_safetensors *s;
    const char *name;
    uint64_t data_start, file_size;
    dp_json json;
    dp_error *err;
};

const char *dp_st_type_name(dp_st_type type)
{
    return types[type].name;
}

uint32_t dp_st_type_size(dp_st_type type)
{
    return types[type].size;
}

static dp_status next(struct scan *c, dp_json_token *token)
{
    return dp_json_next(&c->json, token, c->err);
}

/* ---- one tensor ---- */

static dp_status read_type(struct scan *c, dp_safetensor *t, dp_str name)
{
    dp_json_token token;
    dp_status st = next(c, &token);

    if (st)
        return st;
    if (token.kind != DP_JSON_STRING)
        return dp_fail(c->err, DP_E_CORRUPT, "%s: tensor " SHOWN_FMT ": its dtype is not a string",
                       c->name, SHOWN_ARG(name));
    for (size_t i = 0; i < DP_ST_TYPE_COUNT; i++)
        if (dp_str_is(token.text, types[i].name)) {
            t->type = (dp_st_type)i;
            return DP_OK;
        }
    for (size_t i = 0; i < token.text.size; i++)
        if ((uint8_t)token.text.bytes[i] < 0x20 || token.text.bytes[i] == 0x7f)
            token.text.size = i;
    return dp_fail(c->err, DP_E_UNSUPPORTED,
                   "%s: tensor " SHOWN_FMT " has dtype " SHOWN_FMT ", which is unknown", c->name,
                   SHOWN_ARG(name), SHOWN_ARG(token.text));
}

/* An array of whole numbers into out[max]. */
static dp_status read_numbers(struct scan *c, dp_str name, const char *what, uint64_t *out,
                              uint32_t max, uint32_t *count)
{
    dp_json_token token;
    int64_t value;
    dp_status st = next(c, &token);

    *count = 0;
    if (!st && token.kind != DP_JSON_ARRAY_BEGIN)
        st = dp_fail(c->err, DP_E_CORRUPT, "%s: tensor " SHOWN_FMT ": its %s is not an array",
                     c->name, SHOWN_ARG(name), what);
    while (!st) {
        st = next(c, &token);
        if (st || token.kind == DP_JSON_ARRAY_END)
            break;
        if (token.kind != DP_JSON_NUMBER || !dp_json_i64(&token, &value) || value < 0)
            return dp_fail(c->err, DP_E_CORRUPT,
                           "%s: tensor " SHOWN_FMT ": its %s holds something else than whole "
                           "numbers from 0",
                           c->name, SHOWN_ARG(name), what);
        if (*count == max)
            return dp_fail(c->err, DP_E_LIMIT,
                           "%s: tensor " SHOWN_FMT ": its %s has more than %u numbers", c->name,
                           SHOWN_ARG(name), what, max);
        out[(*count)++] = (uint64_t)value;
    }
    return st;
}

static dp_status check_place(struct scan *c, dp_safetensor *t, dp_str name, uint64_t begin,
                             uint64_t end)
{
    uint64_t size = types[t->type].size, data_size = c->file_size - c->data_start;

    for (uint32_t i = 0; i < t->dim_count; i++)
        if (!dp_u64_mul(size, t->dims[i], &size))
            return dp_fail(c->err, DP_E_CORRUPT,
                           "%s: tensor " SHOWN_FMT " has a shape of more bytes than 64 bits count",
                           c->name, SHOWN_ARG(name));
    if (begin > end || end > data_size)
        return dp_fail(c->err, DP_E_CORRUPT,
                       "%s: tensor " SHOWN_FMT " lies at bytes %llu to %llu of %llu", c->name,
                       SHOWN_ARG(name), (unsigned long long)begin, (unsigned long long)end,
                       (unsigned long long)data_size);
    if (end - begin != size)
        return dp_fail(c->err, DP_E_CORRUPT,
                       "%s: tensor " SHOWN_FMT " has %llu bytes, its shape and dtype take %llu",
                       c->name, SHOWN_ARG(name), (unsigned long long)(end - begin),
                       (unsigned long long)size);
    t->offset = c->data_start + begin;
    t->size = size;
    return DP_OK;
}

/* The object behind a tensor's name. Unknown members are skipped: nothing that is
 * needed to find the bytes can be in them. */
static dp_status read_tensor(struct scan *c, dp_safetensor *t, dp_str name)
{
    uint64_t offsets[2] = { 0, 0 };
    uint32_t offset_count = 0;
    bool has_type = false, has_shape = false;
    dp_json_token token;
    dp_status st = next(c, &token);

    if (!st && token.kind != DP_JSON_OBJECT_BEGIN)
        st = dp_fail(c->err, DP_E_CORRUPT, "%s: tensor " SHOWN_FMT " is not described by an object",
                     c->name, SHOWN_ARG(name));
    while (!st) {
        st = next(c, &token);
        if (st || token.kind == DP_JSON_OBJECT_END)
            break;
        if (dp_str_is(token.text, "dtype")) {
            has_type = true;
            st = read_type(c, t, name);
        } else if (dp_str_is(token.text, "shape")) {
            has_shape = true;
            st = read_numbers(c, name, "shape", t->dims, DP_SAFETENSORS_DIMS_MAX, &t->dim_count);
        } else if (dp_str_is(token.text, "data_offsets")) {
            st = read_numbers(c, name, "data_offsets", offsets, 2, &offset_count);
        } else {
            st = dp_json_skip(&c->json, &token, c->err);
        }
    }
    if (st)
        return st;
    if (!has_type || !has_shape || offset_count != 2)
        return dp_fail(c->err, DP_E_CORRUPT, "%s: tensor " SHOWN_FMT " lacks its %s", c->name,
                       SHOWN_ARG(name),
                       !has_type ? "dtype" : (!has_shape ? "shape" : "two data_offsets"));
    return check_place(c, t, name, offsets[0], offsets[1]);
}

/* ---- all of them ---- */

static dp_status keep_name(struct scan *c, dp_safetensor *t, dp_str name)
{
    size_t at = c->s->names.size;
    dp_status st;

    if (name.size == 0 || name.size > DP_SAFETENSORS_NAME_MAX)
        return dp_fail(c->err, DP_E_LIMIT, "%s: a tensor's name has %zu bytes, expected 1 to %d",
                       c->name, name.size, DP_SAFETENSORS_NAME_MAX);
    for (size_t i = 0; i < name.size; i++)
        if ((uint8_t)name.bytes[i] < 0x20 || name.bytes[i] == 0x7f)
            return dp_fail(c->err, DP_E_CORRUPT, "%s: a tensor's name has a control byte in it",
                           c->name);
    st = dp_buf_append(&c->s->names, name.bytes, name.size);
    if (!st)
        st = dp_buf_append(&c->s->names, "", 1);
    if (st)
        return dp_fail(c->err, st, "%s: no memory for names of tensors", c->name);
    /* The buffer may still move: the place in it counts until the end. */
    t->name = (dp_str){ (const char *)(uintptr_t)at, name.size };
    return DP_OK;
}

static dp_status add_tensor(struct scan *c, dp_str key)
{
    char name_bytes[DP_SAFETENSORS_NAME_MAX];
    dp_safetensors *s = c->s;
    dp_safetensor t = { 0 };
    dp_str name;
    dp_status st;

    st = keep_name(c, &t, key);
    if (st)
        return st;
    memcpy(name_bytes, key.bytes, key.size); /* the reader's buffer is about to be reused */
    name = (dp_str){ name_bytes, key.size };
    st = read_tensor(c, &t, name);
    if (st)
        return st;
    if (s->count == DP_SAFETENSORS_TENSORS_MAX)
        return dp_fail(c->err, DP_E_LIMIT, "%s: more than %d tensors", c->name,
                       DP_SAFETENSORS_TENSORS_MAX);
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? s->capacity * 2 : 64;
        dp_safetensor *grown = dp_realloc(s->tensors, capacity, sizeof *grown);

        if (!grown)
            return dp_fail(c->err, DP_E_NOMEM, "%s: no memory for %zu tensors", c->name, capacity);
        s->tensors = grown;
        s->capacity = capacity;
    }
    s->tensors[s->count++] = t;
    return DP_OK;
}

static dp_status read_header(struct scan *c)
{
    dp_json_token token;
    dp_status st = next(c, &token);

    if (!st && token.kind != DP_JSON_OBJECT_BEGIN)
        st = dp_fail(c->err, DP_E_CORRUPT, "%s: the header is not a JSON object", c->name);
    while (!st) {
        st = next(c, &token);
        if (st || token.kind == DP_JSON_OBJECT_END)
            break;
        st = dp_str_is(token.text, "__metadata__") ? dp_json_skip(&c->json, &token, c->err)
                                                   : add_tensor(c, token.text);
    }
    if (!st) /* spaces may follow, so that data is aligned, and nothing else */
        st = next(c, &token);
    return st;
}

/* Names no longer move: point at them, and look for one that comes twice. */
static dp_status index_names(struct scan *c)
{
    dp_safetensors *s = c->s;
    uint32_t previous;
    dp_status st = dp_map_str_init(&s->by_name, (uint32_t)s->count);

    for (size_t i = 0; i < s->count && !st; i++) {
        dp_str *name = &s->tensors[i].name;

        name->bytes = s->names.bytes + (uintptr_t)name->bytes;
        st = dp_map_str_add(&s->by_name, *name, (uint32_t)i, &previous);
        if (!st && previous != DP_MAP_NONE)
            return dp_fail(c->err, DP_E_CORRUPT, "%s: tensor " SHOWN_FMT " comes twice", c->name,
                           SHOWN_ARG(*name));
    }
    if (st)
        return dp_fail(c->err, st, "%s: no memory for an index of %zu tensors", c->name, s->count);
    return DP_OK;
}

static int compare_place(const void *a, const void *b)
{
    const dp_safetensor *x = *(const dp_safetensor *const *)a;
    const dp_safetensor *y = *(const dp_safetensor *const *)b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->size < y->size ? -1 : x->size > y->size;
}

static dp_status check_overlap(struct scan *c)
{
    const dp_safetensors *s = c->s;
    const dp_safetensor **order = dp_alloc(s->count, sizeof(const dp_safetensor *));
    dp_status st = DP_OK;

    if (!order)
        return dp_fail(c->err, DP_E_NOMEM, "%s: no memory to check %zu tensors", c->name, s->count);
    for (size_t i = 0; i < s->count; i++)
        order[i] = &s->tensors[i];
    qsort(order, s->count, sizeof(const dp_safetensor *), compare_place);
    for (size_t i = 1; i < s->count && !st; i++)
        if (order[i - 1]->offset + order[i - 1]->size > order[i]->offset)
            st =
                dp_fail(c->err, DP_E_CORRUPT, "%s: tensors " SHOWN_FMT " and " SHOWN_FMT " overlap",
                        c->name, SHOWN_ARG(order[i - 1]->name), SHOWN_ARG(order[i]->name));
    dp_free(order);
    return st;
}

dp_status dp_safetensors_parse(dp_safetensors **out, const char *name, const char *header,
                               size_t size, uint64_t file_size, dp_error *err)
{
    struct scan c = { .name = name, .file_size = file_size, .err = err };
    dp_status st;

    *out = NULL;
    if (!dp_u64_add(size, LENGTH_SIZE, &c.data_start) || c.data_start > file_size)
        return dp_fail(err, DP_E_CORRUPT, "%s: a header of %zu bytes in a file of %llu", name, size,
                       (unsigned long long)file_size);
    dp_json_init(&c.json, name, header, size);
    c.s = dp_alloc_zero(1, sizeof *c.s);
    if (!c.s) {
        st = dp_fail(err, DP_E_NOMEM, "%s: no memory", name);
        goto done;
    }
    dp_buf_init(&c.s->names, DP_SAFETENSORS_HEADER_MAX);
    st = read_header(&c);
    if (!st)
        st = index_names(&c);
    if (!st)
        st = check_overlap(&c);
    if (st)
        goto done;

    *out = c.s;
    c.s = NULL;
done:
    dp_json_deinit(&c.json);
    dp_safetensors_close(c.s);
    return st;
}

/* ---- from disk ---- */

static dp_status read_length(uint64_t *out, const dp_file *file, const char *path, dp_error *err)
{
    uint8_t bytes[LENGTH_SIZE];
    dp_status st = DP_OK;

    *out = 0;
    if (file->size < LENGTH_SIZE)
        return dp_fail(err, DP_E_CORRUPT, "%s: %llu bytes are no safetensors file", path,
                       (unsigned long long)file->size);
    st = dp_file_read(file, path, 0, bytes, sizeof bytes, err);
    for (int i = 0; i < LENGTH_SIZE && !st; i++)
        *out |= (uint64_t)bytes[i] << 8 * i;
    if (!st && *out > file->size - LENGTH_SIZE)
        st = dp_fail(err, DP_E_CORRUPT, "%s: says that its header has %llu bytes, but has %llu",
                     path, (unsigned long long)*out, (unsigned long long)file->size);
    if (!st && *out > DP_SAFETENSORS_HEADER_MAX)
        st = dp_fail(err, DP_E_LIMIT, "%s: a header of %llu bytes, at most %llu", path,
                     (unsigned long long)*out, (unsigned long long)DP_SAFETENSORS_HEADER_MAX);
    return st;
}

dp_status dp_safetensors_open(dp_safetensors **out, const char *path, dp_error *err)
{
    dp_file file;
    char *header = NULL;
    uint64_t size;
    dp_status st = dp_file_open(&file, path, false, err);

    *out = NULL;
    if (st)
        return st;
    st = read_length(&size, &file, path, err);
    if (st)
        goto done;
    header = dp_alloc((size_t)size, 1);
    if (!header) {
        st = dp_fail(err, DP_E_NOMEM, "%s: no memory for a header of %llu bytes", path,
                     (unsigned long long)size);
        goto done;
    }
    st = dp_file_read(&file, path, LENGTH_SIZE, header, (size_t)size, err);
    if (!st)
        st = dp_safetensors_parse(out, path, header, (size_t)size, file.size, err);
done:
    dp_free(header);
    dp_file_close(&file);
    return st;
}

void dp_safetensors_close(dp_safetensors *s)
{
    if (!s)
        return;
    dp_map_str_deinit(&s->by_name);
    dp_buf_deinit(&s->names);
    dp_free(s->tensors);
    dp_free(s);
}

/* ---- questions ---- */

size_t dp_safetensors_count(const dp_safetensors *s)
{
    return s->count;
}

const dp_safetensor *dp_safetensors_at(const dp_safetensors *s, size_t i)
{
    return &s->tensors[i];
}

const dp_safetensor *dp_safetensors_find(const dp_safetensors *s, const char *name)
{
    uint32_t i = dp_map_str_get(&s->by_name, dp_str_from(name));

    return i == DP_MAP_NONE ? NULL : &s->tensors[i];
}
