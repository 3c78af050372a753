#include "base/file_rw.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/status.h"

#define WRITE_MAX ((size_t)1 << 30) /* one call; Linux stops a page short of 2 GiB */

/* 0: go on. Else the errno to fail with, after *done bytes. */
static int fault_of(dp_fault point, int otherwise, uint64_t *done)
{
    if (dp_fault_visit(DP_FAULT_POWER)) {
        point = DP_FAULT_POWER;
        otherwise = EIO;
    } else if (!dp_fault_visit(point)) {
        return 0;
    }
    *done = dp_fault_done(point);
    return dp_fault_error(point, otherwise);
}

dp_status dp_file_rw_open(dp_file *out, const char *path, dp_error *err)
{
    struct stat info;
    uint64_t done;
    int fd, error = fault_of(DP_FAULT_WRITE, ENOSPC, &done);

    *out = (dp_file){ -1, -1, 0 };
    if (error)
        return dp_fail_errno(err, DP_E_IO, error, "%s: cannot open for writing", path);
    /* O_NONBLOCK: a pipe is refused below instead of waited for; a regular file ignores it. */
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (fd < 0)
        return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot open for writing", path);
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return dp_fail(err, DP_E_INVALID, "%s: is not a regular file", path);
    }
    *out = (dp_file){ fd, -1, (uint64_t)info.st_size };
    return DP_OK;
}

/* All of it, or an errno. */
static int write_all(int fd, const uint8_t *bytes, size_t size, uint64_t offset)
{
    while (size > 0) {
        ssize_t put = pwrite(fd, bytes, DP_MIN(size, WRITE_MAX), (off_t)offset);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put ? errno : ENOSPC;
        bytes += put;
        size -= (size_t)put;
        offset += (uint64_t)put;
    }
    return 0;
}

dp_status dp_file_rw_write(const dp_file *file, const char *path, uint64_t offset,
                           const void *bytes, size_t size, dp_error *err)
{
    uint64_t end, done = size;
    int error;

    if (!dp_u64_add(offset, size, &end) || end > INT64_MAX)
        return dp_fail(err, DP_E_IO, "%s: cannot write %zu bytes at byte %llu", path, size,
                       (unsigned long long)offset);
    error = fault_of(DP_FAULT_WRITE, ENOSPC, &done);
    if (!error)
        error = write_all(file->fd, bytes, size, offset);
    else
        write_all(file->fd, bytes, DP_MIN(size, (size_t)done), offset);
    return error ? dp_fail_errno(err, DP_E_IO, error, "%s: cannot write at byte %llu", path,
                                 (unsigned long long)offset)
                 : DP_OK;
}

dp_status dp_file_rw_resize(dp_file *file, const char *path, uint64_t size, dp_error *err)
{
    uint64_t done;
    int error = fault_of(DP_FAULT_WRITE, ENOSPC, &done);

    if (!error && (size > INT64_MAX || ftruncate(file->fd, (off_t)size) != 0))
        error = size > INT64_MAX ? EFBIG : errno;
    if (error)
        return dp_fail_errno(err, DP_E_IO, error, "%s: cannot make it %llu bytes long", path,
                             (unsigned long long)size);
    file->size = size;
    return DP_OK;
}

dp_status dp_file_rw_punch(const dp_file *file, const char *path, uint64_t offset, uint64_t size,
                           dp_error *err)
{
    uint64_t done;
    int error = fault_of(DP_FAULT_PUNCH, EIO, &done);

    while (!error && fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                               (off_t)size) != 0) {
        if (errno != EINTR)
            error = errno;
    }
    if (!error)
        return DP_OK;
    return dp_fail_errno(err, error == EOPNOTSUPP || error == ENOSYS ? DP_E_UNSUPPORTED : DP_E_IO,
                         error, "%s: cannot make a hole of %llu bytes at byte %llu", path,
                         (unsigned long long)size, (unsigned long long)offset);
}

dp_status dp_file_rw_sync(const dp_file *file, const char *path, dp_error *err)
{
    uint64_t done;
    int error = fault_of(DP_FAULT_SYNC, EIO, &done);

    if (!error && fdatasync(file->fd) != 0)
        error = errno;
    return error ? dp_fail_errno(err, DP_E_IO, error, "%s: cannot send it to the drive", path)
                 : DP_OK;
}

void dp_file_rw_send(const dp_file *file, uint64_t offset, uint64_t size)
{
    sync_file_range(file->fd, (off_t)offset, (off_t)size, SYNC_FILE_RANGE_WRITE);
}

void dp_file_rw_settle(const dp_file *file, uint64_t offset, uint64_t size)
{
    sync_file_range(file->fd, (off_t)offset, (off_t)size,
                    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                        SYNC_FILE_RANGE_WAIT_AFTER);
    dp_file_drop_range(file, offset, size);
}

uint64_t dp_file_rw_used(const dp_file *file)
{
    struct stat info;

    return fstat(file->fd, &info) == 0 ? (uint64_t)info.st_blocks * 512 : 0;
}

void dp_file_rw_stamp(const dp_file *file)
{
    futimens(file->fd, NULL);
}
