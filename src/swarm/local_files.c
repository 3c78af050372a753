#include "swarm/local_files.h"

#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"

#define PATH_BYTES_MAX 8192

/* "FOLDER/A/B" in fresh memory; NULL when it is short. Empty parts are left out. */
static char *joined(dp_str folder, const char *a, const char *b)
{
    dp_buf buf;
    dp_status st;

    dp_buf_init(&buf, PATH_BYTES_MAX);
    st = dp_buf_format(&buf, "%.*s%s%s%s%s", (int)folder.size, folder.bytes, folder.size ? "/" : "",
                       a, *a ? "/" : "", b);
    if (st) {
        dp_buf_deinit(&buf);
        return NULL;
    }
    return buf.bytes;
}

/* Where the torrent's files lie: in `folder`, or in its folder NAME. */
static dp_str folder_of(const char *path, bool is_folder)
{
    const char *slash = strrchr(path, '/');

    if (is_folder)
        return dp_str_from(path);
    return slash ? (dp_str){ path, slash == path ? 1 : (size_t)(slash - path) }
                 : (dp_str){ ".", 1 };
}

static bool is_file(const char *path)
{
    dp_folder_entry entry;

    return dp_folder_look(&entry, path, NULL) == DP_OK && entry.is_file;
}

static dp_status check_size(const char *path, uint64_t expected, dp_error *err)
{
    dp_file file;
    uint64_t size;
    dp_status st = dp_file_open(&file, path, false, err);

    if (st)
        return st;
    size = file.size;
    dp_file_close(&file);
    if (size != expected)
        return dp_fail(err, DP_E_CORRUPT, "%s has %llu bytes, the torrent's file %llu", path,
                       (unsigned long long)size, (unsigned long long)expected);
    return DP_OK;
}

static dp_status find_one(char **out, const char *path, bool is_folder, const dp_metainfo *metainfo,
                          const dp_layout_file *file, dp_error *err)
{
    dp_str folder = folder_of(path, is_folder);
    bool is_alone = dp_metainfo_layout(metainfo)->file_count == 1;

    if (is_alone && !is_folder) { /* whatever it is called here */
        *out = dp_strndup(path, strlen(path));
    } else {
        *out = joined(folder, "", file->path);
        if (*out && !is_file(*out)) {
            dp_free(*out);
            *out = joined(folder, dp_metainfo_name(metainfo), file->path);
        }
    }
    if (!*out)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for a path", path);
    return check_size(*out, file->pieces.file_size, err);
}

dp_status dp_local_files_find(dp_local_files *out, const char *path, const dp_metainfo *metainfo,
                              dp_error *err)
{
    const dp_layout *layout = dp_metainfo_layout(metainfo);
    dp_folder_entry entry;
    dp_status st;

    *out = (dp_local_files){ .count = layout->file_count };
    st = dp_folder_look(&entry, path, err);
    if (st)
        goto done;
    out->paths = dp_alloc_zero(layout->file_count, sizeof *out->paths);
    if (!out->paths) {
        st = dp_fail(err, DP_E_NOMEM, "%s: no memory for %u paths", path, layout->file_count);
        goto done;
    }
    for (uint32_t i = 0; i < layout->file_count && !st; i++)
        st = find_one(&out->paths[i], path, entry.is_folder, metainfo, &layout->files[i], err);
done:
    if (st)
        dp_local_files_free(out);
    return st;
}

void dp_local_files_free(dp_local_files *files)
{
    for (uint32_t i = 0; files->paths && i < files->count; i++)
        dp_free(files->paths[i]);
    dp_free(files->paths);
    *files = (dp_local_files){ .count = 0 };
}

dp_status dp_local_metainfo(dp_metainfo **out, const char *path, dp_error *err)
{
    char *bytes = NULL;
    size_t size;
    dp_status st = dp_file_read_all(&bytes, &size, path, DP_METAINFO_BYTES_MAX, err);

    *out = NULL;
    if (!st)
        st = dp_metainfo_parse(out, path, bytes, size, err);
    dp_free(bytes);
    return st;
}
