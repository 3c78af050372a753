#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/status.h"

#define READ_MAX  ((size_t)1 << 30) /* one call; Linux stops a page short of 2 GiB */
#define CHUNK_MIN ((size_t)64 << 10)

/* Size of an open regular file or block device. */
static dp_status stat_size(uint64_t *out, int fd, const char *path, dp_error *err)
{
    struct stat info;
    off_t end;

    if (fstat(fd, &info) != 0)
        return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot read its size", path);
    if (S_ISDIR(info.st_mode))
        return dp_fail(err, DP_E_INVALID, "%s: is a folder, not a file", path);
    if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode))
        return dp_fail(err, DP_E_INVALID, "%s: is neither a regular file nor a disk", path);
    end = lseek(fd, 0, SEEK_END); /* st_size of a block device is 0 */
    if (end < 0)
        return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot read its size", path);
    *out = (uint64_t)end;
    return DP_OK;
}

dp_status dp_file_open(dp_file *out, const char *path, bool want_direct, dp_error *err)
{
    dp_file file = { -1, -1, 0 };
    dp_status st = DP_OK;

    *out = file;
    /* O_NONBLOCK: opening a pipe without a writer must fail, not wait. Taken off
     * again, because io_uring reports EAGAIN for such files. */
    file.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file.fd < 0) {
        st = dp_fail_errno(err, DP_E_IO, errno, "%s: cannot open", path);
        goto done;
    }
    st = stat_size(&file.size, file.fd, path, err);
    if (st)
        goto done;
    if (fcntl(file.fd, F_SETFL, 0) != 0) {
        st = dp_fail_errno(err, DP_E_IO, errno, "%s: cannot open", path);
        goto done;
    }
    if (want_direct)
        file.fd_direct = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);

    *out = file;
    file.fd = -1;
    file.fd_direct = -1;
done:
    dp_file_close(&file);
    return st;
}

void dp_file_close(dp_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    if (file->fd_direct >= 0)
        close(file->fd_direct);
    *file = (dp_file){ -1, -1, 0 };
}

/* One read that is not interrupted, at most READ_MAX bytes. Bytes read, 0 at the
 * end, or -errno. offset < 0: where the file stands (pipes). */
static ssize_t read_some(int fd, int64_t offset, void *out, size_t size)
{
    ssize_t got;

    if (dp_fault_visit(DP_FAULT_READ))
        return -EIO;
    size = DP_MIN(size, READ_MAX);
    do
        got = offset < 0 ? read(fd, out, size) : pread(fd, out, size, offset);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

dp_status dp_file_read(const dp_file *file, const char *path, uint64_t offset, void *out,
                       size_t size, dp_error *err)
{
    uint8_t *at = out;
    uint64_t end;

    if (!dp_u64_add(offset, size, &end) || end > INT64_MAX)
        return dp_fail(err, DP_E_CORRUPT, "%s: ends at byte %llu, %zu bytes from %llu were wanted",
                       path, (unsigned long long)file->size, size, (unsigned long long)offset);
    while (offset < end) {
        ssize_t got = read_some(file->fd, (int64_t)offset, at, (size_t)(end - offset));

        if (got < 0)
            return dp_fail_errno(err, DP_E_IO, (int)-got, "%s: cannot read at byte %llu", path,
                                 (unsigned long long)offset);
        if (got == 0)
            return dp_fail(err, DP_E_CORRUPT, "%s: ends at byte %llu, wanted up to byte %llu", path,
                           (unsigned long long)DP_MIN(file->size, offset), (unsigned long long)end);
        at += got;
        offset += (uint64_t)got;
    }
    return DP_OK;
}

/* The rest of fd into a growing block, NUL behind the end. */
static dp_status read_rest(char **out, size_t *out_size, int fd, const char *path, size_t size_max,
                           dp_error *err)
{
    dp_status st = DP_OK;
    char *bytes = NULL;
    size_t capacity = 0;
    size_t size = 0;
    ssize_t got;

    do {
        /* One byte past size_max is asked for, to tell "full" from "too long"; the
         * NUL takes its place in the end. */
        if (size == capacity) {
            size_t wanted = DP_MAX(capacity * 2, CHUNK_MIN);
            char *grown;

            wanted = DP_MIN(wanted, size_max + 1);
            grown = dp_realloc(bytes, 1, wanted);
            if (!grown) {
                st = dp_fail(err, DP_E_NOMEM, "%s: no memory for %zu bytes of it", path, wanted);
                goto done;
            }
            bytes = grown;
            capacity = wanted;
        }
        got = read_some(fd, -1, bytes + size, capacity - size);
        if (got < 0) {
            st = dp_fail_errno(err, DP_E_IO, (int)-got, "%s: cannot read at byte %zu", path, size);
            goto done;
        }
        size += (size_t)got;
        if (size > size_max) {
            st = dp_fail(err, DP_E_LIMIT, "%s: longer than %zu bytes", path, size_max);
            goto done;
        }
    } while (got > 0);

    /* The last read found the end with room left, so the NUL fits. */
    bytes[size] = 0;
    *out = bytes;
    *out_size = size;
    bytes = NULL;
done:
    dp_free(bytes);
    return st;
}

dp_status dp_file_read_all(char **out, size_t *out_size, const char *path, size_t size_max,
                           dp_error *err)
{
    dp_status st;
    int fd;

    *out = NULL;
    *out_size = 0;
    size_max = DP_MIN(size_max, (size_t)PTRDIFF_MAX - 1);
    if (strcmp(path, "-") == 0)
        return read_rest(out, out_size, STDIN_FILENO, "standard input", size_max, err);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot open", path);
    st = read_rest(out, out_size, fd, path, size_max, err);
    close(fd);
    return st;
}

bool dp_file_is_same(const char *a, const char *b)
{
    struct stat x, y;

    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool dp_file_next_hole(const dp_file *file, uint64_t offset, uint64_t *first, uint64_t *end)
{
#if defined(SEEK_HOLE) && defined(SEEK_DATA) /* reads are positional: the place may move */
    off_t hole = offset < file->size ? lseek(file->fd, (off_t)offset, SEEK_HOLE) : -1, data;

    if (hole < 0 || (uint64_t)hole >= file->size) /* the end counts as one */
        return false;
    data = lseek(file->fd, hole, SEEK_DATA);
    *first = (uint64_t)hole;
    *end = data < 0 ? file->size : (uint64_t)data;
    return *end > *first;
#else
    return false;
#endif
}

void dp_file_read_ahead(const dp_file *file, uint64_t offset, uint64_t size)
{
    if (offset <= INT64_MAX && size <= INT64_MAX)
        posix_fadvise(file->fd, (off_t)offset, (off_t)size, POSIX_FADV_WILLNEED);
}

void dp_file_expect_jumps(const dp_file *file)
{
    posix_fadvise(file->fd, 0, 0, POSIX_FADV_RANDOM);
}

void dp_file_drop_cache(const dp_file *file)
{
    /* Pages that were not written back yet are not dropped: write them first. */
    fdatasync(file->fd);
    posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
}

void dp_file_drop_range(const dp_file *file, uint64_t offset, uint64_t size)
{
    if (offset <= INT64_MAX && size <= INT64_MAX)
        posix_fadvise(file->fd, (off_t)offset, (off_t)size, POSIX_FADV_DONTNEED);
}
