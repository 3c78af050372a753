#include "format/gguf_impl.h"

#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"

#define FIRST_READ ((size_t)1 << 20) /* most headers without a vocabulary, in one read */

/* Split models are named PREFIX-00002-of-00005.gguf, numbers from 1. */
#define PART_SUFFIX_FMT  "-%05u-of-%05u.gguf"
#define PART_SUFFIX_SIZE 20

/* Reads and parses the header of one file, asking for twice the bytes until it
 * is whole. */
static dp_status open_file(dp_gguf **out, const char *path, dp_error *err)
{
    dp_file file = { .fd = -1, .fd_direct = -1 };
    uint8_t *bytes = NULL, *grown;
    size_t have = 0, want = FIRST_READ, need;
    dp_status st;

    *out = NULL;
    st = dp_file_open(&file, path, false, err);
    if (st)
        goto done;
    do {
        want = (size_t)DP_MIN((uint64_t)want, DP_MIN(file.size, (uint64_t)DP_GGUF_HEADER_MAX));
        grown = dp_realloc(bytes, want, 1);
        if (!grown) {
            st = dp_fail(err, DP_E_NOMEM, "%s: a header of %zu bytes", path, want);
            goto done;
        }
        bytes = grown;
        st = dp_file_read(&file, path, have, bytes + have, want - have, err);
        if (st)
            goto done;
        have = want;
        st = dp_gguf_parse(out, path, bytes, have, file.size, &need, err);
        DP_ASSERT(st != DP_E_BUSY || need > have);
        want = DP_MAX(need, have * 2);
    } while (st == DP_E_BUSY);
done:
    dp_free(bytes);
    dp_file_close(&file);
    return st;
}

/* A number of a split model: `fallback` when the key is missing. */
static dp_status split_number(const dp_gguf *g, const char *key, uint64_t fallback, uint64_t *out,
                              dp_error *err)
{
    if (!dp_gguf_find(g, key)) {
        *out = fallback;
        return DP_OK;
    }
    return dp_gguf_get_u64(g, key, 0, out, err);
}

static dp_status check_part(const dp_gguf *g, uint64_t part, uint64_t count, dp_error *err)
{
    uint64_t found_part, found_count;
    dp_status st;

    st = split_number(g, "split.no", 0, &found_part, err);
    if (st)
        return st;
    st = split_number(g, "split.count", 1, &found_count, err);
    if (st)
        return st;
    if (found_part != part || found_count != count)
        return dp_fail(err, DP_E_CORRUPT,
                       "%s: says it is part %llu of %llu (split.no, split.count), expected part "
                       "%llu of %llu",
                       g->parts[0].path, (unsigned long long)found_part + 1,
                       (unsigned long long)found_count, (unsigned long long)part + 1,
                       (unsigned long long)count);
    return DP_OK;
}

/* Moves the tensors of one part behind those of g; `part` is left to be closed. */
static dp_status append_part(dp_gguf *g, dp_gguf *part, dp_error *err)
{
    size_t count = g->tensor_count + part->tensor_count;
    uint32_t file_index = g->part_count;
    dp_tensor *tensors;

    if (count > DP_GGUF_TENSORS_MAX)
        return dp_fail(err, DP_E_LIMIT, "%s: %zu tensors so far, at most %d", part->parts[0].path,
                       count, DP_GGUF_TENSORS_MAX);
    tensors = dp_realloc(g->tensors, count, sizeof *tensors);
    if (!tensors)
        return dp_fail(err, DP_E_NOMEM, "%s: %zu tensors", part->parts[0].path, count);
    g->tensors = tensors;
    g->parts[file_index] = part->parts[0];
    part->parts[0] = (dp_gguf_part){ 0 };
    g->part_count++;
    for (size_t i = 0; i < part->tensor_count; i++) {
        dp_tensor *tensor = &g->tensors[g->tensor_count];
        uint32_t previous;
        dp_status st;

        *tensor = part->tensors[i];
        tensor->file_index = file_index;
        st = dp_map_str_add(&g->tensor_by_name, tensor->name, (uint32_t)g->tensor_count, &previous);
        if (st)
            return dp_fail(err, st, "%s: %zu tensors", g->parts[file_index].path, count);
        if (previous != DP_MAP_NONE)
            return dp_fail(err, DP_E_CORRUPT, "%s: tensor " DP_NAME_FMT " is already in %s",
                           g->parts[file_index].path, DP_NAME_ARG(tensor->name),
                           g->parts[g->tensors[previous].file_index].path);
        g->tensor_count++;
    }
    return DP_OK;
}

/* Rewrites the suffix of path, which has one, for part 0..count - 1. */
static void name_part(char *path, uint32_t part, uint32_t count)
{
    char suffix[32];

    snprintf(suffix, sizeof suffix, PART_SUFFIX_FMT, part + 1, count);
    DP_ASSERT(strlen(suffix) == PART_SUFFIX_SIZE);
    memcpy(path + strlen(path) - PART_SUFFIX_SIZE, suffix, PART_SUFFIX_SIZE);
}

/* A copy of `path`, which must be named as part `part` of `count`. */
static dp_status copy_part_path(char **out, const char *path, uint64_t part, uint64_t count,
                                dp_error *err)
{
    size_t size = strlen(path);
    char *copy;

    if (count > DP_GGUF_PARTS_MAX || part >= count)
        return dp_fail(err, part >= count ? DP_E_CORRUPT : DP_E_LIMIT,
                       "%s: part %llu of %llu (split.no, split.count), at most %d parts", path,
                       (unsigned long long)part + 1, (unsigned long long)count, DP_GGUF_PARTS_MAX);
    copy = dp_strndup(path, size);
    if (!copy)
        return dp_fail(err, DP_E_NOMEM, "%s: its name", path);
    if (size >= PART_SUFFIX_SIZE)
        name_part(copy, (uint32_t)part, (uint32_t)count);
    if (size < PART_SUFFIX_SIZE || strcmp(copy, path) != 0) {
        dp_free(copy);
        return dp_fail(
            err, DP_E_INVALID,
            "%s: the file is part %llu of %llu and its name must end in " PART_SUFFIX_FMT, path,
            (unsigned long long)part + 1, (unsigned long long)count, (uint32_t)part + 1,
            (uint32_t)count);
    }
    *out = copy;
    return DP_OK;
}

/* Adds parts 1..count - 1 to g, which is part 0 and lies at `path`. */
static dp_status append_parts(dp_gguf *g, char *path, uint32_t count, dp_error *err)
{
    dp_gguf_part *parts = dp_realloc(g->parts, count, sizeof *parts);
    uint64_t tensor_count;
    dp_status st;

    if (!parts)
        return dp_fail(err, DP_E_NOMEM, "%s: %u parts", path, count);
    g->parts = parts;
    for (uint32_t i = 1; i < count; i++) {
        dp_gguf *part = NULL;

        name_part(path, i, count);
        st = open_file(&part, path, err);
        if (!st)
            st = check_part(part, i, count, err);
        if (!st)
            st = append_part(g, part, err);
        dp_gguf_close(part);
        if (st)
            return st;
    }
    st = split_number(g, "split.tensors.count", g->tensor_count, &tensor_count, err);
    if (st)
        return st;
    if (tensor_count != g->tensor_count)
        return dp_fail(err, DP_E_CORRUPT,
                       "%s: the %u parts have %zu tensors, split.tensors.count is %llu",
                       g->parts[0].path, count, g->tensor_count, (unsigned long long)tensor_count);
    return DP_OK;
}

dp_status dp_gguf_open(dp_gguf **out, const char *path, dp_error *err)
{
    dp_status st;
    dp_gguf *g = NULL;
    char *part_path = NULL;
    uint64_t part, count;

    *out = NULL;
    st = open_file(&g, path, err);
    if (st)
        goto done;
    st = split_number(g, "split.count", 1, &count, err);
    if (st)
        goto done;
    if (count > 1) {
        st = split_number(g, "split.no", 0, &part, err);
        if (st)
            goto done;
        st = copy_part_path(&part_path, path, part, count, err);
        if (st)
            goto done;
        if (part != 0) { /* metadata is the first part's */
            dp_gguf_close(g);
            g = NULL;
            name_part(part_path, 0, (uint32_t)count);
            st = open_file(&g, part_path, err);
            if (st)
                goto done;
            st = check_part(g, 0, count, err);
            if (st)
                goto done;
        }
        st = append_parts(g, part_path, (uint32_t)count, err);
        if (st)
            goto done;
    }

    *out = g; /* the caller owns it now */
    g = NULL;
done:
    dp_free(part_path);
    dp_gguf_close(g);
    return st;
}
