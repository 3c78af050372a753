#include "convert/convert_dir.h"

#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "base/file.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/status.h"
#include "convert/convert_doc.h"

#define INDEX_NAME  "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"
#define OPEN_MAX    4 /* experts of a layer and their scales lie in two files at most */

struct shard {
    char *path;
    dp_safetensors *header;
};

struct open_file {
    dp_file file;
    uint32_t shard;
    bool is_open;
};

struct dp_hf_dir {
    const char *path; /* borrowed while opening */
    struct shard *shards;
    uint32_t shard_count, shard_capacity;
    dp_hf_tensor *tensors;
    size_t count;
    dp_map_str by_name;
    struct open_file files[OPEN_MAX];
    uint32_t file_next; /* the oldest one, which goes first */
};

/* ---- shards ---- */

/* The shard of that file name, opened when it is new. */
static dp_status take_shard(dp_hf_dir *d, dp_str file, uint32_t *out, dp_error *err)
{
    char path[DP_DOC_NAME_MAX];
    dp_error why = { 0 };
    int size;
    dp_status st;

    if (file.size == 0 || file.size > 255 || memchr(file.bytes, '/', file.size) ||
        memchr(file.bytes, '\0', file.size))
        return dp_fail(err, DP_E_CORRUPT, "%s/%s: names a file outside of its folder", d->path,
                       INDEX_NAME);
    size = snprintf(path, sizeof path, "%s/%.*s", d->path, (int)file.size, file.bytes);
    if (size < 0 || (size_t)size >= sizeof path)
        return dp_fail(err, DP_E_LIMIT, "%.80s...: a path of more than %zu bytes", d->path,
                       sizeof path - 1);
    for (*out = d->shard_count; (*out)-- > 0;) /* tensors of a file mostly follow each other */
        if (strcmp(d->shards[*out].path, path) == 0)
            return DP_OK;
    if (d->shard_count == DP_HF_SHARDS_MAX)
        return dp_fail(err, DP_E_LIMIT, "%s: more than %d files", d->path, DP_HF_SHARDS_MAX);
    if (d->shard_count == d->shard_capacity) {
        uint32_t capacity = d->shard_capacity ? d->shard_capacity * 2 : 8;
        struct shard *grown = dp_realloc(d->shards, capacity, sizeof *grown);

        if (!grown)
            return dp_fail(err, DP_E_NOMEM, "%s: no memory for %u files", d->path, capacity);
        d->shards = grown;
        d->shard_capacity = capacity;
    }
    *out = d->shard_count;
    d->shards[*out] = (struct shard){ dp_strndup(path, strlen(path)), NULL };
    if (!d->shards[*out].path)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory", path);
    d->shard_count++;
    st = dp_safetensors_open(&d->shards[*out].header, path, &why);
    if (st == DP_E_NOTFOUND)
        return dp_fail(err, st, "%s, which the index of the model names", why.text);
    return st ? dp_fail(err, st, "%s", why.text) : DP_OK;
}

/* One member of the index's weight_map: a tensor, and the file that has it. */
static dp_status read_mapping(dp_hf_dir *d, dp_json *json, dp_json_token *token, dp_error *err)
{
    char name[DP_SAFETENSORS_NAME_MAX + 1];
    uint32_t shard;
    dp_status st;

    if (token->text.size > DP_SAFETENSORS_NAME_MAX ||
        memchr(token->text.bytes, 0, token->text.size))
        return dp_fail(err, DP_E_LIMIT, "%s/%s: a name of %zu bytes", d->path, INDEX_NAME,
                       token->text.size);
    memcpy(name, token->text.bytes, token->text.size);
    name[token->text.size] = '\0';
    st = dp_json_next(json, token, err);
    if (st)
        return st;
    if (token->kind != DP_JSON_STRING)
        return dp_fail(err, DP_E_CORRUPT, "%s/%s: the file of '%s' is not a string", d->path,
                       INDEX_NAME, name);
    st = take_shard(d, token->text, &shard, err);
    if (!st && !dp_safetensors_find(d->shards[shard].header, name))
        st = dp_fail(err, DP_E_CORRUPT, "%s: lacks tensor '%s', which %s says is in it",
                     d->shards[shard].path, name, INDEX_NAME);
    return st;
}

static dp_status read_index(dp_hf_dir *d, bool *is_there, dp_error *err)
{
    dp_json json;
    dp_json_token token;
    dp_doc doc;
    bool is_found;
    dp_status st = dp_doc_open(&doc, d->path, INDEX_NAME, true, err);

    *is_there = !st && doc.text;
    if (st || !doc.text)
        return st;
    st = dp_doc_find(&doc, "weight_map", &json, &token, &is_found, err);
    if (!st && (!is_found || token.kind != DP_JSON_OBJECT_BEGIN))
        st = dp_fail(err, DP_E_CORRUPT, "%s: \"weight_map\" is not an object", doc.name);
    while (dp_doc_next(&json, &token, &st, err))
        st = read_mapping(d, &json, &token, err);
    dp_json_deinit(&json);
    dp_doc_close(&doc);
    return st;
}

static dp_status find_shards(dp_hf_dir *d, dp_error *err)
{
    dp_error why = { 0 };
    bool has_index;
    uint32_t shard;
    dp_status st = read_index(d, &has_index, err);

    if (st || has_index)
        return st;
    st = take_shard(d, dp_str_from(SINGLE_NAME), &shard, &why);
    if (st == DP_E_NOTFOUND)
        return dp_fail(err, st, "%s: has neither %s nor %s", d->path, SINGLE_NAME, INDEX_NAME);
    return st ? dp_fail(err, st, "%s", why.text) : DP_OK;
}

/* ---- tensors ---- */

static dp_status list_tensors(dp_hf_dir *d, dp_error *err)
{
    uint32_t previous;
    size_t count = 0;
    dp_status st;

    for (uint32_t s = 0; s < d->shard_count; s++)
        count += dp_safetensors_count(d->shards[s].header);
    if (count > DP_SAFETENSORS_TENSORS_MAX)
        return dp_fail(err, DP_E_LIMIT, "%s: %zu tensors, at most %d", d->path, count,
                       DP_SAFETENSORS_TENSORS_MAX);
    d->tensors = dp_alloc_zero(count, sizeof *d->tensors);
    st = d->tensors ? dp_map_str_init(&d->by_name, (uint32_t)count) : DP_E_NOMEM;
    for (uint32_t s = 0; s < d->shard_count && !st; s++)
        for (size_t i = 0; i < dp_safetensors_count(d->shards[s].header) && !st; i++) {
            const dp_safetensor *info = dp_safetensors_at(d->shards[s].header, i);

            d->tensors[d->count] = (dp_hf_tensor){ .info = info, .shard = s };
            st = dp_map_str_add(&d->by_name, info->name, (uint32_t)d->count++, &previous);
            if (!st && previous != DP_MAP_NONE)
                return dp_fail(err, DP_E_CORRUPT, "%s: tensor '%.80s' is in %s too",
                               d->shards[s].path, info->name.bytes,
                               d->shards[d->tensors[previous].shard].path);
        }
    if (st)
        return dp_fail(err, st, "%s: no memory for %zu tensors", d->path, count);
    return DP_OK;
}

dp_status dp_hf_dir_open(dp_hf_dir **out, const char *path, dp_error *err)
{
    dp_hf_dir *d = dp_alloc_zero(1, sizeof *d);
    dp_status st;

    *out = NULL;
    if (!d)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory", path);
    d->path = path;
    st = find_shards(d, err);
    if (!st)
        st = list_tensors(d, err);
    if (st)
        goto done;
    d->path = NULL;

    *out = d;
    d = NULL;
done:
    dp_hf_dir_close(d);
    return st;
}

void dp_hf_dir_close(dp_hf_dir *d)
{
    if (!d)
        return;
    for (int i = 0; i < OPEN_MAX; i++)
        if (d->files[i].is_open)
            dp_file_close(&d->files[i].file);
    for (uint32_t s = 0; s < d->shard_count; s++) {
        dp_safetensors_close(d->shards[s].header);
        dp_free(d->shards[s].path);
    }
    dp_map_str_deinit(&d->by_name);
    dp_free(d->tensors);
    dp_free(d->shards);
    dp_free(d);
}

/* ---- questions ---- */

size_t dp_hf_dir_count(const dp_hf_dir *d)
{
    return d->count;
}

dp_hf_tensor *dp_hf_dir_at(dp_hf_dir *d, size_t i)
{
    return &d->tensors[i];
}

dp_hf_tensor *dp_hf_dir_find(dp_hf_dir *d, const char *name)
{
    uint32_t i = dp_map_str_get(&d->by_name, dp_str_from(name));

    return i == DP_MAP_NONE ? NULL : &d->tensors[i];
}

const char *dp_hf_dir_shard_path(const dp_hf_dir *d, uint32_t shard)
{
    return d->shards[shard].path;
}

/* The open file of a shard; the one opened longest ago gives its place. */
static dp_status take_file(dp_hf_dir *d, uint32_t shard, dp_file **out, dp_error *err)
{
    struct open_file *f;
    dp_status st;

    for (int i = 0; i < OPEN_MAX; i++)
        if (d->files[i].is_open && d->files[i].shard == shard) {
            *out = &d->files[i].file;
            return DP_OK;
        }
    f = &d->files[d->file_next];
    d->file_next = (d->file_next + 1) % OPEN_MAX;
    if (f->is_open)
        dp_file_close(&f->file);
    st = dp_file_open(&f->file, d->shards[shard].path, false, err);
    f->is_open = !st;
    f->shard = shard;
    *out = &f->file;
    return st;
}

dp_status dp_hf_dir_read(dp_hf_dir *d, const dp_hf_tensor *tensor, uint64_t offset, void *out,
                         size_t size, dp_error *err)
{
    dp_file *file;
    dp_status st;

    DP_CHECK(offset <= tensor->info->size && size <= tensor->info->size - offset);
    st = take_file(d, tensor->shard, &file, err);
    if (st)
        return st;
    return dp_file_read(file, d->shards[tensor->shard].path, tensor->info->offset + offset, out,
                        size, err);
}
