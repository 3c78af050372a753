#include "format/gguf_impl.h"

#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"

/* Files as an input. One is open at a time: a model may have more parts than the system
 * lets a program open. */
typedef struct files {
    char *paths; /* [count][path_size] */
    size_t path_size;
    uint32_t count;
    uint64_t *sizes; /* [count] */
    dp_file file;    /* of part `open` */
    uint32_t open;
} files;

static const char *files_name(void *user, uint32_t part)
{
    const files *f = user;

    return f->paths + part * f->path_size;
}

static uint64_t files_size(void *user, uint32_t part)
{
    return ((const files *)user)->sizes[part];
}

static dp_status files_turn_to(files *f, uint32_t part, dp_error *err)
{
    dp_status st;

    if (f->open == part)
        return DP_OK;
    dp_file_close(&f->file);
    f->open = UINT32_MAX;
    f->file = (dp_file){ .fd = -1, .fd_direct = -1 };
    st = dp_file_open(&f->file, files_name(f, part), false, err);
    if (!st)
        f->open = part;
    return st;
}

static dp_status files_read(void *user, uint32_t part, uint64_t offset, void *out, size_t size,
                            dp_error *err)
{
    files *f = user;
    dp_status st = files_turn_to(f, part, err);

    return st ? st : dp_file_read(&f->file, files_name(f, part), offset, out, size, err);
}

/* Every file is there, or which is not. */
static dp_status files_look(files *f, dp_error *err)
{
    dp_status st = DP_OK;

    for (uint32_t i = 0; i < f->count && !st; i++) {
        st = files_turn_to(f, i, err);
        f->sizes[i] = f->file.size;
    }
    return st;
}

static dp_gguf_input files_input(files *f)
{
    return (dp_gguf_input){ f, f->count, files_name, files_size, files_read };
}

/* Rewrites the suffix of path, which has one, for part 0..count - 1. */
static void name_part(char *path, uint32_t part, uint32_t count)
{
    char suffix[32];

    snprintf(suffix, sizeof suffix, DP_GGUF_PART_SUFFIX, part + 1, count);
    DP_ASSERT(strlen(suffix) == DP_GGUF_PART_SUFFIX_SIZE);
    memcpy(path + strlen(path) - DP_GGUF_PART_SUFFIX_SIZE, suffix, DP_GGUF_PART_SUFFIX_SIZE);
}

/* Room for `count` paths like `path`, each a copy of it. */
static dp_status files_init(files *f, const char *path, uint32_t count, dp_error *err)
{
    *f = (files){ .path_size = strlen(path) + 1,
                  .count = count,
                  .file = { .fd = -1, .fd_direct = -1 },
                  .open = UINT32_MAX };
    f->paths = dp_alloc(count, f->path_size);
    f->sizes = dp_alloc_zero(count, sizeof *f->sizes);
    if (!f->paths || !f->sizes)
        return dp_fail(err, DP_E_NOMEM, "%s: the names of %u files", path, count);
    for (uint32_t i = 0; i < count; i++)
        memcpy(f->paths + i * f->path_size, path, f->path_size);
    return DP_OK;
}

static void files_deinit(files *f)
{
    dp_file_close(&f->file);
    dp_free(f->paths);
    dp_free(f->sizes);
}

/* `path` must be named as part `part` of `count`. */
static dp_status check_name(const char *path, uint64_t part, uint64_t count, dp_error *err)
{
    size_t size = strlen(path);
    char suffix[32];

    if (count > DP_GGUF_PARTS_MAX || part >= count)
        return dp_fail(err, part >= count ? DP_E_CORRUPT : DP_E_LIMIT,
                       "%s: part %llu of %llu (split.no, split.count), at most %d parts", path,
                       (unsigned long long)part + 1, (unsigned long long)count, DP_GGUF_PARTS_MAX);
    snprintf(suffix, sizeof suffix, DP_GGUF_PART_SUFFIX, (unsigned)part + 1, (unsigned)count);
    if (size < DP_GGUF_PART_SUFFIX_SIZE ||
        strcmp(path + size - DP_GGUF_PART_SUFFIX_SIZE, suffix) != 0)
        return dp_fail(err, DP_E_INVALID,
                       "%s: the file is part %llu of %llu and its name must end in %s", path,
                       (unsigned long long)part + 1, (unsigned long long)count, suffix);
    return DP_OK;
}

/* All the parts of the model that g, at `path`, says it is part of. */
static dp_status open_split(dp_gguf **out, const dp_gguf *g, const char *path, dp_error *err)
{
    files f = { .file = { .fd = -1, .fd_direct = -1 } };
    uint64_t part = 0, count = 0;
    dp_gguf_input input;
    dp_status st = dp_gguf_split_number(g, "split.no", 0, &part, err);

    if (!st)
        st = dp_gguf_split_number(g, "split.count", 1, &count, err);
    if (!st)
        st = check_name(path, part, count, err);
    if (st)
        return st;
    st = files_init(&f, path, (uint32_t)count, err);
    for (uint32_t i = 0; i < count && !st; i++)
        name_part(f.paths + i * f.path_size, i, (uint32_t)count);
    if (!st)
        st = files_look(&f, err);
    input = files_input(&f);
    if (!st)
        st = dp_gguf_open_input(out, &input, err);
    files_deinit(&f);
    return st;
}

dp_status dp_gguf_open(dp_gguf **out, const char *path, dp_error *err)
{
    dp_gguf *g = NULL;
    dp_gguf_input input;
    uint64_t count;
    files f;
    dp_status st;

    *out = NULL;
    st = files_init(&f, path, 1, err);
    if (!st)
        st = files_look(&f, err);
    if (st)
        goto done;
    input = files_input(&f);
    st = dp_gguf_read_part(&g, &input, 0, err);
    if (st)
        goto done;
    st = dp_gguf_split_number(g, "split.count", 1, &count, err);
    if (st)
        goto done;
    if (count > 1) {
        st = open_split(out, g, path, err);
        goto done;
    }

    *out = g; /* the caller owns it now */
    g = NULL;
done:
    files_deinit(&f);
    dp_gguf_close(g);
    return st;
}
