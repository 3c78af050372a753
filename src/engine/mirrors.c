#include "engine/mirrors.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"

#define BLOCK (256 * DP_KIB)

/* Where the weights of a part begin; its size when it has none. */
static uint64_t weights_begin(const dp_gguf *model, uint32_t part)
{
    uint64_t begin = dp_gguf_part_size(model, part);

    for (size_t i = 0; i < dp_gguf_tensor_count(model); i++) {
        const dp_tensor *t = dp_gguf_tensor(model, i);
        if (t->file_index == part)
            begin = DP_MIN(begin, t->offset);
    }
    return begin;
}

/* The first `size` bytes of two open files are the same. blocks: [2][BLOCK]. */
static dp_status compare_bytes(const dp_file files[2], const char *const paths[2], uint64_t size,
                               uint8_t *blocks, dp_error *err)
{
    for (uint64_t at = 0; at < size; at += BLOCK) {
        size_t part = (size_t)DP_MIN(size - at, BLOCK);

        for (int i = 0; i < 2; i++) {
            dp_status st = dp_file_read(&files[i], paths[i], at, blocks + i * BLOCK, part, err);
            if (st)
                return st;
        }
        if (memcmp(blocks, blocks + BLOCK, part))
            return dp_fail(err, DP_E_INVALID,
                           "%s is no copy of %s: what they say of their weights differs", paths[1],
                           paths[0]);
    }
    return DP_OK;
}

static dp_status compare_headers(const char *const paths[2], uint64_t size, dp_error *err)
{
    dp_file files[2] = { { .fd = -1, .fd_direct = -1 }, { .fd = -1, .fd_direct = -1 } };
    uint8_t *blocks = dp_alloc(2, BLOCK);
    dp_status st = DP_OK;

    if (!blocks)
        st = dp_fail(err, DP_E_NOMEM, "%s: no memory to compare it", paths[1]);
    for (int i = 0; i < 2 && !st; i++)
        st = dp_file_open(&files[i], paths[i], false, err);
    if (!st)
        st = compare_bytes(files, paths, size, blocks, err);
    for (int i = 0; i < 2; i++)
        if (files[i].fd >= 0)
            dp_file_close(&files[i]);
    dp_free(blocks);
    return st;
}

static dp_status check_part(const dp_gguf *model, const dp_gguf *copy, uint32_t part, dp_error *err)
{
    const char *const paths[] = { dp_gguf_part_path(model, part), dp_gguf_part_path(copy, part) };
    uint64_t sizes[] = { dp_gguf_part_size(model, part), dp_gguf_part_size(copy, part) };

    if (sizes[0] != sizes[1])
        return dp_fail(err, DP_E_INVALID, "%s has %llu bytes, %s has %llu: it is no copy of it",
                       paths[1], (unsigned long long)sizes[1], paths[0],
                       (unsigned long long)sizes[0]);
    if (dp_file_is_same(paths[0], paths[1]))
        return dp_fail(err, DP_E_INVALID, "%s is the model itself, no copy of it", paths[1]);
    return compare_headers(paths, weights_begin(model, part), err);
}

/* One more copy, of the path at text[0..size). */
static dp_status add(dp_mirrors *m, const char *text, size_t size, const dp_gguf *model,
                     dp_error *err)
{
    uint32_t parts = dp_gguf_part_count(model);
    char *path = dp_strndup(text, size);
    dp_gguf *copy = NULL;
    dp_status st;

    if (!path)
        return dp_fail(err, DP_E_NOMEM, "--model-mirror: no memory for a path");
    st = dp_gguf_open(&copy, path, err);
    if (!st) {
        m->models[m->count++] = copy;
        if (dp_gguf_part_count(copy) != parts)
            st =
                dp_fail(err, DP_E_INVALID, "%s has %u parts, the model has %u: it is no copy of it",
                        path, dp_gguf_part_count(copy), parts);
    }
    dp_free(path);
    for (uint32_t p = 0; p < parts && !st; p++) {
        m->paths[(m->count - 1) * parts + p] = dp_gguf_part_path(copy, p);
        st = check_part(model, copy, p, err);
    }
    return st;
}

dp_status dp_mirrors_open(dp_mirrors *out, const char *list, const dp_gguf *model, dp_error *err)
{
    dp_status st = DP_OK;

    *out = (dp_mirrors){ 0 };
    if (!list[0])
        return DP_OK;
    out->paths = dp_alloc_zero((size_t)DP_MIRRORS_MAX * dp_gguf_part_count(model), sizeof(char *));
    if (!out->paths)
        return dp_fail(err, DP_E_NOMEM, "--model-mirror: no memory for paths");
    while (*list && !st) {
        size_t size = strcspn(list, "\n");

        st = out->count < DP_MIRRORS_MAX
                 ? add(out, list, size, model, err)
                 : dp_fail(err, DP_E_LIMIT, "--model-mirror: more than %d copies", DP_MIRRORS_MAX);
        list += size + (list[size] == '\n');
    }
    return st;
}

void dp_mirrors_close(dp_mirrors *mirrors)
{
    for (uint32_t i = 0; i < mirrors->count; i++)
        dp_gguf_close(mirrors->models[i]);
    dp_free(mirrors->paths);
    *mirrors = (dp_mirrors){ 0 };
}
