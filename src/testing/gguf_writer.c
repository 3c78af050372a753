#include "testing/gguf_writer.h"

#include <string.h>
#include "base/map.h"
#include "base/mem.h"
#include "base/status.h"
#include "format/gguf_out.h"
#include "testing/gguf_fill.h"

#define CHUNK_BYTES ((size_t)4 << 20) /* weights made and written at a time */

/* What the file's description does not say: where a tensor's bytes come from. */
struct source {
    uint64_t identity; /* hash of name, type and shape */
    uint64_t slice;    /* blocks of one matrix of the stack; 0: a vector */
    dp_dtype type;
    dp_fill fill;
    float std;
    const void *bytes; /* borrowed; NULL: filled */
};

struct dp_gguf_writer {
    dp_gguf_out *out;
    struct source *sources; /* one a tensor of out */
    size_t source_count;
    size_t source_capacity;
    uint64_t sparse_bytes;
    uint32_t added;                /* tensors seen, of all parts */
    uint32_t part_begin, part_end; /* of these, the part's own */
    dp_status st;                  /* the first error of ours; out keeps its own */
    dp_error err;
};

dp_gguf_writer *dp_gguf_writer_open(uint32_t version, uint32_t alignment)
{
    dp_gguf_writer *w = dp_alloc_zero(1, sizeof *w);

    if (!w)
        return NULL;
    w->part_end = UINT32_MAX;
    w->out = dp_gguf_out_open(version, alignment);
    if (!w->out) {
        dp_free(w);
        return NULL;
    }
    return w;
}

void dp_gguf_writer_close(dp_gguf_writer *w)
{
    if (!w)
        return;
    dp_gguf_out_close(w->out);
    dp_free(w->sources);
    dp_free(w);
}

void dp_gguf_writer_u32(dp_gguf_writer *w, const char *key, uint32_t value)
{
    dp_gguf_out_u32(w->out, key, value);
}

void dp_gguf_writer_u64(dp_gguf_writer *w, const char *key, uint64_t value)
{
    dp_gguf_out_u64(w->out, key, value);
}

void dp_gguf_writer_f32(dp_gguf_writer *w, const char *key, float value)
{
    dp_gguf_out_f32(w->out, key, value);
}

void dp_gguf_writer_bool(dp_gguf_writer *w, const char *key, bool value)
{
    dp_gguf_out_bool(w->out, key, value);
}

void dp_gguf_writer_str(dp_gguf_writer *w, const char *key, const char *value)
{
    dp_gguf_out_str(w->out, key, value);
}

void dp_gguf_writer_array(dp_gguf_writer *w, const char *key, dp_gguf_type type, uint64_t count,
                          const void *values)
{
    dp_gguf_out_array(w->out, key, type, count, values);
}

void dp_gguf_writer_str_array(dp_gguf_writer *w, const char *key, uint64_t count,
                              const char *const *values)
{
    dp_gguf_out_str_array(w->out, key, count, values);
}

static void fail(dp_gguf_writer *w, dp_status st, const char *what)
{
    if (!w->st)
        w->st =
            dp_fail(&w->err, st, "GGUF writer: '%s' cannot be added: %s", what, dp_status_text(st));
}

/* A stream of weights depends on all that its reader can see of the tensor. */
static uint64_t identity_of(const char *name, dp_dtype type, uint32_t dim_count, const uint64_t *ne)
{
    uint64_t hash = dp_hash_u64(dp_hash_bytes(name, strlen(name)) ^ type);

    for (uint32_t i = 0; i < DP_TENSOR_DIMS_MAX; i++)
        hash = dp_hash_u64(hash ^ (i < dim_count ? ne[i] : 1));
    return hash;
}

/* Describes the tensor and makes room for its source. NULL when the writer has failed. */
static struct source *add_tensor(dp_gguf_writer *w, const char *name, dp_dtype type,
                                 uint32_t dim_count, const uint64_t *ne)
{
    size_t before = dp_gguf_out_tensor_count(w->out);
    uint32_t index = w->added++;

    if (w->st || index < w->part_begin || index >= w->part_end)
        return NULL;
    if (w->source_count == w->source_capacity) {
        size_t capacity = w->source_capacity ? w->source_capacity * 2 : 64;
        struct source *sources = dp_realloc(w->sources, capacity, sizeof *sources);

        if (!sources) {
            fail(w, DP_E_NOMEM, name);
            return NULL;
        }
        w->sources = sources;
        w->source_capacity = capacity;
    }
    dp_gguf_out_tensor(w->out, name, type, dim_count, ne);
    if (dp_gguf_out_tensor_count(w->out) == before)
        return NULL;
    w->sources[w->source_count] = (struct source){
        .type = type,
        .identity = identity_of(name, type, dim_count, ne),
        .slice = dim_count > 1 ? ne[0] / dp_dtype_get(type)->block_elems * ne[1] : 0,
    };
    return &w->sources[w->source_count++];
}

void dp_gguf_writer_tensor(dp_gguf_writer *w, const char *name, dp_dtype type, uint32_t dim_count,
                           const uint64_t *ne, dp_fill fill, float std)
{
    struct source *source = add_tensor(w, name, type, dim_count, ne);
    dp_gguf_fill probe;

    if (!source)
        return;
    source->fill = fill;
    source->std = std;
    if (fill != DP_FILL_ZERO && !dp_gguf_fill_init(&probe, type, fill == DP_FILL_ONES, std))
        fail(w, DP_E_INVALID, name);
}

void dp_gguf_writer_tensor_bytes(dp_gguf_writer *w, const char *name, dp_dtype type,
                                 uint32_t dim_count, const uint64_t *ne, const void *bytes)
{
    struct source *source = add_tensor(w, name, type, dim_count, ne);

    if (source)
        source->bytes = bytes;
}

dp_status dp_gguf_writer_header(dp_gguf_writer *w, dp_buf *buf, dp_error *err)
{
    if (w->st)
        return dp_fail(err, w->st, "%s", w->err.text);
    return dp_gguf_out_header(w->out, buf, err);
}

void dp_gguf_writer_split(dp_gguf_writer *w, uint16_t no, uint16_t count, uint32_t tensor_count)
{
    dp_gguf_out_scalar(w->out, "split.no", DP_GGUF_U16, &no);
    dp_gguf_out_scalar(w->out, "split.count", DP_GGUF_U16, &count);
    dp_gguf_out_scalar(w->out, "split.tensors.count", DP_GGUF_I32, &tensor_count);
    w->part_begin = (uint32_t)((uint64_t)tensor_count * no / count);
    w->part_end = (uint32_t)((uint64_t)tensor_count * (no + 1u) / count);
}

void dp_gguf_writer_sparse(dp_gguf_writer *w, uint64_t bytes)
{
    w->sparse_bytes = bytes;
}

/* The first blocks of the first slice and of the last, and holes behind them. */
static dp_status write_sparse(const dp_gguf_writer *w, size_t i, const dp_gguf_fill *fill,
                              dp_rng *rng, uint8_t *chunk, dp_error *err)
{
    const struct source *source = &w->sources[i];
    uint64_t block = dp_dtype_get(source->type)->block_bytes;
    uint64_t slices = dp_gguf_out_tensor_size(w->out, i) / (block * source->slice);
    uint64_t filled = (DP_MIN(w->sparse_bytes, CHUNK_BYTES) + block - 1) / block;
    dp_status st = DP_OK;

    filled = source->fill == DP_FILL_ZERO ? 0 : DP_MIN(filled, source->slice);
    for (int is_last = 0; is_last <= (slices > 1) && !st; is_last++) {
        uint64_t hole = (slices > 1 && !is_last ? slices - 1 : 1) * source->slice - filled;

        if (filled)
            dp_gguf_fill_run(fill, rng, chunk, (size_t)filled);
        st = dp_gguf_out_write(w->out, chunk, (size_t)(filled * block), err);
        if (!st && hole)
            st = dp_gguf_out_skip(w->out, hole * block, err);
    }
    return st;
}

static dp_status write_tensor(const dp_gguf_writer *w, size_t i, uint64_t seed, uint8_t *chunk,
                              dp_error *err)
{
    const struct source *source = &w->sources[i];
    const dp_dtype_info *info = dp_dtype_get(source->type);
    uint64_t count = dp_gguf_out_tensor_size(w->out, i) / info->block_bytes, done = 0;
    uint64_t chunk_count = dp_align_down(CHUNK_BYTES / info->block_bytes, 8);
    dp_gguf_fill fill;
    dp_rng rng;
    dp_status st = DP_OK;

    dp_rng_init(&rng, dp_hash_u64(source->identity ^ seed));
    if (!source->bytes && source->fill != DP_FILL_ZERO)
        dp_gguf_fill_init(&fill, source->type, source->fill == DP_FILL_ONES, source->std);
    if (w->sparse_bytes && source->slice && !source->bytes)
        return write_sparse(w, i, &fill, &rng, chunk, err);
    while (done < count && !st) {
        size_t run = (size_t)DP_MIN(count - done, chunk_count);
        size_t size = run * info->block_bytes;

        if (source->bytes)
            memcpy(chunk, (const uint8_t *)source->bytes + done * info->block_bytes, size);
        else if (source->fill == DP_FILL_ZERO)
            memset(chunk, 0, size);
        else
            dp_gguf_fill_run(&fill, &rng, chunk, run);
        st = dp_gguf_out_write(w->out, chunk, size, err);
        done += run;
    }
    return st;
}

dp_status dp_gguf_writer_save(dp_gguf_writer *w, const char *path, uint64_t seed, dp_error *err)
{
    uint8_t *chunk = NULL;
    dp_status st;

    if (w->st)
        return dp_fail(err, w->st, "%s", w->err.text);
    st = dp_gguf_out_begin(w->out, path, err);
    if (st)
        return st;
    chunk = dp_alloc(CHUNK_BYTES, 1);
    if (!chunk)
        return dp_fail(err, DP_E_NOMEM, "%s: a buffer of %zu bytes", path, CHUNK_BYTES);
    for (size_t i = 0; i < w->source_count && !st; i++)
        st = write_tensor(w, i, seed, chunk, err);
    if (!st)
        st = dp_gguf_out_finish(w->out, err);
    dp_free(chunk);
    return st;
}
