#include "base/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file_rw.h"
#include "base/mem.h"
#include "base/scratch.h"
#include "base/status.h"

#define LOCK_STEP_MS 10
#define TRIED_SIZE   ((size_t)64 << 10)

static int change_fault(bool is_making)
{
    if (dp_fault_visit(DP_FAULT_POWER))
        return dp_fault_error(DP_FAULT_POWER, EIO);
    if (is_making && dp_fault_visit(DP_FAULT_WRITE))
        return dp_fault_error(DP_FAULT_WRITE, ENOSPC);
    return 0;
}

/* An errno: 0 also where a folder is there. */
static int make_one(const char *path)
{
    struct stat info;
    int error;

    if (stat(path, &info) == 0)
        return S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
    error = change_fault(true);
    if (error)
        return error;
    return mkdir(path, 0777) == 0 || errno == EEXIST ? 0 : errno;
}

dp_status dp_folder_make(const char *path, dp_error *err)
{
    size_t size = strlen(path);
    char *part = dp_strndup(path, size);
    int error = 0;

    if (!part)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory to make it", path);
    for (size_t i = 1; i < size && !error; i++) {
        if (part[i] == '/') {
            part[i] = '\0';
            error = make_one(part);
            part[i] = '/';
        }
    }
    if (!error)
        error = make_one(part);
    dp_free(part);
    return error ? dp_fail_errno(err, DP_E_IO, error, "%s: cannot make the folder", path) : DP_OK;
}

static void describe(dp_folder_entry *out, const struct stat *info)
{
    out->is_folder = S_ISDIR(info->st_mode);
    out->is_file = S_ISREG(info->st_mode);
    out->size = (uint64_t)info->st_size;
    out->used_bytes = (uint64_t)info->st_blocks * 512;
    out->changed_unix = (int64_t)info->st_mtime;
}

/* One more at *out, which grows by doubling. What vanished meanwhile is left out. */
static dp_status add_entry(dp_folder_entry **out, size_t *count, size_t *capacity, DIR *dir,
                           const char *name)
{
    struct stat info;

    if (fstatat(dirfd(dir), name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return DP_OK;
    if (*count == *capacity) {
        size_t wanted = *capacity ? *capacity * 2 : 16;
        dp_folder_entry *grown = dp_realloc(*out, wanted, sizeof *grown);

        if (!grown)
            return DP_E_NOMEM;
        *out = grown;
        *capacity = wanted;
    }
    describe(&(*out)[*count], &info);
    snprintf((*out)[*count].name, sizeof(*out)[0].name, "%s", name);
    (*count)++;
    return DP_OK;
}

dp_status dp_folder_list(dp_folder_entry **out, size_t *count, const char *path, size_t count_max,
                         dp_error *err)
{
    dp_folder_entry *entries = NULL;
    size_t size = 0, capacity = 0;
    DIR *dir = dp_fault_visit(DP_FAULT_READ) ? (errno = EIO, NULL) : opendir(path);
    struct dirent *at;
    dp_status st = DP_OK;

    *out = NULL;
    *count = 0;
    if (!dir)
        return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot list the folder", path);
    while (!st && (errno = 0, at = readdir(dir)) != NULL) {
        if (strcmp(at->d_name, ".") == 0 || strcmp(at->d_name, "..") == 0)
            continue;
        if (size == count_max)
            st = dp_fail(err, DP_E_LIMIT, "%s: more than %zu files in it", path, count_max);
        else if (add_entry(&entries, &size, &capacity, dir, at->d_name))
            st = dp_fail(err, DP_E_NOMEM, "%s: no memory for %zu names", path, size);
    }
    if (!st && errno)
        st = dp_fail_errno(err, DP_E_IO, errno, "%s: cannot list the folder", path);
    closedir(dir);
    if (st) {
        dp_free(entries);
        return st;
    }
    *out = entries;
    *count = size;
    return DP_OK;
}

dp_status dp_folder_look(dp_folder_entry *out, const char *path, dp_error *err)
{
    struct stat info;

    *out = (dp_folder_entry){ .size = 0 };
    if (lstat(path, &info) != 0)
        return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot look at it", path);
    describe(out, &info);
    return DP_OK;
}

/* The folder that is at path now, not one that was removed while the lock was waited for. */
static bool is_there(int fd, const char *path)
{
    struct stat mine, there;

    return fstat(fd, &mine) == 0 && stat(path, &there) == 0 && mine.st_ino == there.st_ino &&
           mine.st_dev == there.st_dev;
}

dp_status dp_folder_lock(int *out, const char *path, uint32_t wait_ms, dp_error *err)
{
    const struct timespec step = { 0, LOCK_STEP_MS * 1000000 };
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    *out = -1;
    if (fd < 0)
        return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot open the folder", path);
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int error = errno;

        if (error == EINTR)
            continue;
        if (error == EWOULDBLOCK && wait_ms >= LOCK_STEP_MS) {
            wait_ms -= LOCK_STEP_MS;
            nanosleep(&step, NULL);
            continue;
        }
        close(fd);
        if (error == EWOULDBLOCK)
            return dp_fail(err, DP_E_BUSY, "%s: another process has it open", path);
        return dp_fail_errno(err, DP_E_IO, error, "%s: cannot lock the folder", path);
    }
    if (!is_there(fd, path)) {
        close(fd);
        return dp_fail(err, DP_E_BUSY, "%s: another process is removing it", path);
    }
    *out = fd;
    return DP_OK;
}

void dp_folder_unlock(int lock)
{
    if (lock >= 0)
        close(lock);
}

dp_status dp_folder_remove(const char *path, dp_error *err)
{
    int error = change_fault(false);

    if (!error && remove(path) != 0 && errno != ENOENT)
        error = errno;
    return error ? dp_fail_errno(err, DP_E_IO, error, "%s: cannot remove", path) : DP_OK;
}

void dp_folder_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

dp_status dp_folder_try(dp_folder_ability *out, const char *path, dp_error *err)
{
    static const uint8_t bytes[TRIED_SIZE];
    dp_file file;
    uint64_t before;
    dp_status st;

    *out = (dp_folder_ability){ false, false };
    st = dp_scratch_open(&file, path, err);
    if (!st)
        st = dp_file_rw_resize(&file, path, 16 * TRIED_SIZE, err);
    if (st)
        goto done;
    out->has_holes = dp_file_rw_used(&file) <= TRIED_SIZE;
    st = dp_file_rw_write(&file, path, 8 * TRIED_SIZE, bytes, TRIED_SIZE, err);
    if (st)
        goto done;
    before = dp_file_rw_used(&file);
    out->can_punch = out->has_holes &&
                     dp_file_rw_punch(&file, path, 8 * TRIED_SIZE, TRIED_SIZE, NULL) == DP_OK &&
                     dp_file_rw_used(&file) < before;
done:
    dp_file_close(&file);
    return st;
}
