#include "testing/gguf_writer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/status.h"
#include "testing/gguf_fill.h"

#define CHUNK_BYTES ((size_t)4 << 20) /* weights made and written at a time */

struct tensor {
    char *name;
    dp_dtype type;
    uint32_t dim_count;
    uint64_t ne[DP_TENSOR_DIMS_MAX];
    uint64_t size;
    uint64_t offset; /* from the start of the data section */
    dp_fill fill;
    float std;
    const void *bytes; /* borrowed; NULL: filled */
};

struct dp_gguf_writer {
    uint32_t version;
    uint32_t alignment;
    dp_buf keys; /* as they will lie in the file */
    uint64_t key_count;
    struct tensor *tensors;
    size_t tensor_count;
    size_t tensor_capacity;
    uint64_t data_size;
    dp_status st; /* the first error; later calls do nothing */
    dp_error err;
};

dp_gguf_writer *dp_gguf_writer_open(uint32_t version, uint32_t alignment)
{
    dp_gguf_writer *w = dp_alloc_zero(1, sizeof *w);

    DP_ASSERT(dp_is_power_of_two(alignment));
    if (!w)
        return NULL;
    w->version = version;
    w->alignment = alignment;
    dp_buf_init(&w->keys, DP_GGUF_HEADER_MAX);
    if (alignment != 32)
        dp_gguf_writer_u32(w, "general.alignment", alignment);
    return w;
}

void dp_gguf_writer_close(dp_gguf_writer *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->tensor_count; i++)
        dp_free(w->tensors[i].name);
    dp_free(w->tensors);
    dp_buf_deinit(&w->keys);
    dp_free(w);
}

/* Little-endian, whatever the machine. */
static dp_status put_int(dp_buf *buf, uint64_t x, int size)
{
    uint8_t bytes[8];

    for (int i = 0; i < size; i++)
        bytes[i] = (uint8_t)(x >> 8 * i);
    return dp_buf_append(buf, bytes, (size_t)size);
}

static dp_status put_str(dp_buf *buf, const char *text)
{
    size_t size = strlen(text);
    dp_status st = put_int(buf, size, 8);

    return st ? st : dp_buf_append(buf, text, size);
}

static void fail_if(dp_gguf_writer *w, dp_status st, const char *what)
{
    if (st && !w->st)
        w->st =
            dp_fail(&w->err, st, "GGUF writer: '%s' cannot be added: %s", what, dp_status_text(st));
}

/* The name and type of a key, and its value when that is a number of `size`
 * bytes. False when the writer has failed. */
static bool put_key(dp_gguf_writer *w, const char *key, dp_gguf_type type, uint64_t bits, int size)
{
    dp_status st = DP_OK;

    if (w->st)
        return false;
    st = put_str(&w->keys, key);
    if (!st)
        st = put_int(&w->keys, type, 4);
    if (!st)
        st = put_int(&w->keys, bits, size);
    fail_if(w, st, key);
    w->key_count++;
    return !w->st;
}

void dp_gguf_writer_u32(dp_gguf_writer *w, const char *key, uint32_t value)
{
    put_key(w, key, DP_GGUF_U32, value, 4);
}

void dp_gguf_writer_u64(dp_gguf_writer *w, const char *key, uint64_t value)
{
    put_key(w, key, DP_GGUF_U64, value, 8);
}

void dp_gguf_writer_f32(dp_gguf_writer *w, const char *key, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    put_key(w, key, DP_GGUF_F32, bits, 4);
}

void dp_gguf_writer_bool(dp_gguf_writer *w, const char *key, bool value)
{
    put_key(w, key, DP_GGUF_BOOL, value, 1);
}

void dp_gguf_writer_str(dp_gguf_writer *w, const char *key, const char *value)
{
    if (put_key(w, key, DP_GGUF_STRING, 0, 0))
        fail_if(w, put_str(&w->keys, value), key);
}

static bool put_array(dp_gguf_writer *w, const char *key, dp_gguf_type type, uint64_t count)
{
    if (!put_key(w, key, DP_GGUF_ARRAY, type, 4))
        return false;
    fail_if(w, put_int(&w->keys, count, 8), key);
    return !w->st;
}

void dp_gguf_writer_array(dp_gguf_writer *w, const char *key, dp_gguf_type type, uint64_t count,
                          const void *values)
{
    static const uint8_t sizes[DP_GGUF_TYPE_COUNT] = {
        [DP_GGUF_U8] = 1,  [DP_GGUF_I8] = 1,  [DP_GGUF_U16] = 2, [DP_GGUF_I16] = 2,
        [DP_GGUF_U32] = 4, [DP_GGUF_I32] = 4, [DP_GGUF_F32] = 4, [DP_GGUF_BOOL] = 1,
        [DP_GGUF_U64] = 8, [DP_GGUF_I64] = 8, [DP_GGUF_F64] = 8,
    };

    DP_ASSERT(type < DP_GGUF_TYPE_COUNT && sizes[type] != 0);
    if (put_array(w, key, type, count))
        fail_if(w, dp_buf_append(&w->keys, values, (size_t)count * sizes[type]), key);
}

void dp_gguf_writer_str_array(dp_gguf_writer *w, const char *key, uint64_t count,
                              const char *const *values)
{
    if (!put_array(w, key, DP_GGUF_STRING, count))
        return;
    for (uint64_t i = 0; i < count; i++)
        fail_if(w, put_str(&w->keys, values[i]), key);
}

/* Room for one more, with its name, shape and place. NULL when the writer has failed. */
static struct tensor *add_tensor(dp_gguf_writer *w, const char *name, dp_dtype type,
                                 uint32_t dim_count, const uint64_t *ne)
{
    struct tensor *tensors, t = { .type = type, .dim_count = dim_count };

    DP_ASSERT(dim_count >= 1 && dim_count <= DP_TENSOR_DIMS_MAX && dp_dtype_get(type));
    if (w->st)
        return NULL;
    for (uint32_t i = 0; i < DP_TENSOR_DIMS_MAX; i++)
        t.ne[i] = i < dim_count ? ne[i] : 1;
    if (!dp_dtype_row_bytes(type, t.ne[0], &t.size) || !dp_u64_mul(t.size, t.ne[1], &t.size) ||
        !dp_u64_mul(t.size, t.ne[2], &t.size) || !dp_u64_mul(t.size, t.ne[3], &t.size) ||
        t.size == 0 || t.size > INT64_MAX - w->data_size) {
        fail_if(w, DP_E_INVALID, name);
        return NULL;
    }
    if (w->tensor_count == w->tensor_capacity) {
        size_t capacity = w->tensor_capacity ? w->tensor_capacity * 2 : 64;

        tensors = dp_realloc(w->tensors, capacity, sizeof *tensors);
        if (!tensors) {
            fail_if(w, DP_E_NOMEM, name);
            return NULL;
        }
        w->tensors = tensors;
        w->tensor_capacity = capacity;
    }
    t.name = dp_strndup(name, strlen(name));
    if (!t.name) {
        fail_if(w, DP_E_NOMEM, name);
        return NULL;
    }
    t.offset = w->data_size;
    w->data_size = dp_align_up(t.offset + t.size, w->alignment);
    w->tensors[w->tensor_count] = t;
    return &w->tensors[w->tensor_count++];
}

void dp_gguf_writer_tensor(dp_gguf_writer *w, const char *name, dp_dtype type, uint32_t dim_count,
                           const uint64_t *ne, dp_fill fill, float std)
{
    struct tensor *t = add_tensor(w, name, type, dim_count, ne);
    dp_gguf_fill probe;

    if (!t)
        return;
    t->fill = fill;
    t->std = std;
    if (fill != DP_FILL_ZERO && !dp_gguf_fill_init(&probe, type, fill == DP_FILL_ONES, std))
        fail_if(w, DP_E_INVALID, name);
}

void dp_gguf_writer_tensor_bytes(dp_gguf_writer *w, const char *name, dp_dtype type,
                                 uint32_t dim_count, const uint64_t *ne, const void *bytes)
{
    struct tensor *t = add_tensor(w, name, type, dim_count, ne);

    if (t)
        t->bytes = bytes;
}

static dp_status put_tensor(dp_buf *buf, const struct tensor *t)
{
    dp_status st = put_str(buf, t->name);

    if (!st)
        st = put_int(buf, t->dim_count, 4);
    for (uint32_t i = 0; i < t->dim_count && !st; i++)
        st = put_int(buf, t->ne[i], 8);
    if (!st)
        st = put_int(buf, t->type, 4);
    if (!st)
        st = put_int(buf, t->offset, 8);
    return st;
}

dp_status dp_gguf_writer_header(dp_gguf_writer *w, dp_buf *buf, dp_error *err)
{
    size_t start = buf->size;
    dp_status st;

    if (w->st)
        return dp_fail(err, w->st, "%s", w->err.text);
    st = dp_buf_text(buf, "GGUF");
    if (!st)
        st = put_int(buf, w->version, 4);
    if (!st)
        st = put_int(buf, w->tensor_count, 8);
    if (!st)
        st = put_int(buf, w->key_count, 8);
    if (!st)
        st = dp_buf_append(buf, w->keys.bytes, w->keys.size);
    for (size_t i = 0; i < w->tensor_count && !st; i++)
        st = put_tensor(buf, &w->tensors[i]);
    while (!st && (buf->size - start) % w->alignment)
        st = put_int(buf, 0, 1);
    if (st)
        return dp_fail(err, st, "GGUF writer: a header of %zu keys and %zu tensors",
                       (size_t)w->key_count, w->tensor_count);
    return DP_OK;
}

/* The stream of a tensor's weights depends on all that its reader can see of it. */
static uint64_t tensor_seed(const struct tensor *t, uint64_t seed)
{
    uint64_t hash = dp_hash_u64(seed ^ dp_hash_bytes(t->name, strlen(t->name)));

    hash = dp_hash_u64(hash ^ t->type);
    for (int i = 0; i < DP_TENSOR_DIMS_MAX; i++)
        hash = dp_hash_u64(hash ^ t->ne[i]);
    return hash;
}

static dp_status write_bytes(FILE *file, const char *path, const void *bytes, size_t size,
                             dp_error *err)
{
    if (fwrite(bytes, 1, size, file) != size)
        return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot write %zu bytes", path, size);
    return DP_OK;
}

static dp_status write_tensor(const dp_gguf_writer *w, const struct tensor *t, FILE *file,
                              const char *path, uint64_t seed, uint8_t *chunk, dp_error *err)
{
    const dp_dtype_info *info = dp_dtype_get(t->type);
    uint64_t count = t->size / info->block_bytes, done = 0;
    uint64_t chunk_count = dp_align_down(CHUNK_BYTES / info->block_bytes, 8);
    uint64_t padding = dp_align_up(t->size, w->alignment) - t->size;
    dp_gguf_fill fill;
    dp_rng rng;
    dp_status st = DP_OK;

    dp_rng_init(&rng, tensor_seed(t, seed));
    if (!t->bytes && t->fill != DP_FILL_ZERO)
        dp_gguf_fill_init(&fill, t->type, t->fill == DP_FILL_ONES, t->std);
    while (done < count && !st) {
        size_t run = (size_t)DP_MIN(count - done, chunk_count);
        size_t size = run * info->block_bytes;

        if (t->bytes)
            memcpy(chunk, (const uint8_t *)t->bytes + done * info->block_bytes, size);
        else if (t->fill == DP_FILL_ZERO)
            memset(chunk, 0, size);
        else
            dp_gguf_fill_run(&fill, &rng, chunk, run);
        st = write_bytes(file, path, chunk, size, err);
        done += run;
    }
    memset(chunk, 0, (size_t)padding);
    return st ? st : write_bytes(file, path, chunk, (size_t)padding, err);
}

dp_status dp_gguf_writer_save(dp_gguf_writer *w, const char *path, uint64_t seed, dp_error *err)
{
    dp_status st;
    FILE *file = NULL;
    uint8_t *chunk = NULL;
    dp_buf header;

    dp_buf_init(&header, DP_GGUF_HEADER_MAX);
    st = dp_gguf_writer_header(w, &header, err);
    if (st)
        goto done;
    chunk = dp_alloc(CHUNK_BYTES, 1);
    if (!chunk) {
        st = dp_fail(err, DP_E_NOMEM, "%s: a buffer of %zu bytes", path, CHUNK_BYTES);
        goto done;
    }
    file = fopen(path, "wb");
    if (!file) {
        st = dp_fail_errno(err, DP_E_IO, errno, "%s: cannot create", path);
        goto done;
    }
    setvbuf(file, NULL, _IONBF, 0); /* chunks are large; libc's copy would only cost */
    st = write_bytes(file, path, header.bytes, header.size, err);
    for (size_t i = 0; i < w->tensor_count && !st; i++)
        st = write_tensor(w, &w->tensors[i], file, path, seed, chunk, err);
done:
    if (file && fclose(file) != 0 && !st)
        st = dp_fail_errno(err, DP_E_IO, errno, "%s: cannot close", path);
    dp_free(chunk);
    dp_buf_deinit(&header);
    return st;
}
