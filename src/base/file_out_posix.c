#include "base/file_out.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/status.h"

#define WRITE_MAX ((size_t)1 << 30) /* one call; Linux stops a page short of 2 GiB */
#define SEND_SIZE ((uint64_t)8 << 20)

/* An answer of the system, or a failure on purpose. */
static int checked(int answer)
{
    if (!dp_fault_visit(DP_FAULT_WRITE))
        return answer;
    errno = ENOSPC;
    return -1;
}

static dp_status name_files(dp_file_out *out, const char *path, dp_error *err)
{
    const char *slash = strrchr(path, '/');
    size_t size = strlen(path);

    out->_folder = slash ? dp_strndup(path, (size_t)(slash - path) + 1) : dp_strndup(".", 1);
    out->path = dp_strndup(path, size);
    out->partial = dp_alloc(size + sizeof ".partial", 1);
    if (!out->_folder || !out->path || !out->partial)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory to write it", path);
    snprintf(out->partial, size + sizeof ".partial", "%s.partial", path);
    return DP_OK;
}

/* Whoever holds the lock on the file that is at `partial` now may write it: the
 * program that opened it a moment before its owner renamed it may not. */
static dp_status lock_partial(const dp_file_out *out, dp_error *err)
{
    struct stat mine, there;

    if (flock(out->_fd, LOCK_EX | LOCK_NB) != 0 || fstat(out->_fd, &mine) != 0 ||
        stat(out->partial, &there) != 0 || mine.st_ino != there.st_ino ||
        mine.st_dev != there.st_dev)
        return dp_fail(err, DP_E_BUSY, "%s: another program is writing it", out->partial);
    return DP_OK;
}

dp_status dp_file_out_open(dp_file_out *out, const char *path, dp_error *err)
{
    dp_file_out file = { ._fd = -1 };
    dp_status st = DP_OK;
    struct stat info;

    *out = file;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return dp_fail(err, DP_E_INVALID, "%s: is not a regular file", path);
    st = name_files(&file, path, err);
    if (st)
        goto done;
    file._fd = open(file.partial, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (file._fd < 0) {
        st = dp_fail_errno(err, DP_E_IO, errno, "%s: cannot create", file.partial);
        goto done;
    }
    st = lock_partial(&file, err);
    if (st) { /* not ours to remove */
        close(file._fd);
        file._fd = -1;
        goto done;
    }
    if (checked(ftruncate(file._fd, 0)) != 0) {
        st = dp_fail_errno(err, DP_E_IO, errno, "%s: cannot create", file.partial);
        goto done;
    }

    *out = file;
    file = (dp_file_out){ ._fd = -1 };
done:
    dp_file_out_close(&file);
    return st;
}

dp_status dp_file_out_write(dp_file_out *out, const void *bytes, size_t size, dp_error *err)
{
    const uint8_t *at = bytes;

    while (size > 0) {
        ssize_t put = checked(0) ? -1 : write(out->_fd, at, DP_MIN(size, WRITE_MAX));

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return dp_fail_errno(err, DP_E_IO, put ? errno : ENOSPC,
                                 "%s: cannot write at byte %llu", out->partial,
                                 (unsigned long long)out->size);
        at += put;
        size -= (size_t)put;
        out->size += (uint64_t)put;
    }
    if (out->size - out->_sent >= SEND_SIZE) { /* advice: an error comes back from fsync */
        sync_file_range(out->_fd, (off_t)out->_sent, (off_t)(out->size - out->_sent),
                        SYNC_FILE_RANGE_WRITE);
        out->_sent = out->size;
    }
    return DP_OK;
}

dp_status dp_file_out_skip(dp_file_out *out, uint64_t size, dp_error *err)
{
    off_t end = (off_t)(out->size + size);

    if (checked(ftruncate(out->_fd, end)) != 0 || lseek(out->_fd, end, SEEK_SET) < 0)
        return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot leave a hole of %llu bytes",
                             out->partial, (unsigned long long)size);
    out->size += size;
    return DP_OK;
}

/* The new name is on the disk when the folder is. Some file systems cannot say;
 * the file's own bytes are safe by then, so that is no failure. */
static void sync_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

dp_status dp_file_out_commit(dp_file_out *out, dp_error *err)
{
    if (checked(fsync(out->_fd)) != 0)
        return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot send it to the disk", out->partial);
    /* The lock goes with the descriptor, so it is closed after the rename. */
    if (checked(0) != 0 || rename(out->partial, out->path) != 0)
        return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot rename to %s", out->partial,
                             out->path);
    sync_folder(out->_folder);
    close(out->_fd);
    out->_fd = -1;
    dp_file_out_close(out);
    return DP_OK;
}

void dp_file_out_close(dp_file_out *out)
{
    if (out->_fd >= 0 && out->partial) {
        unlink(out->partial);
        close(out->_fd);
    }
    dp_free(out->_folder);
    dp_free(out->path);
    dp_free(out->partial);
    *out = (dp_file_out){ ._fd = -1 };
}
