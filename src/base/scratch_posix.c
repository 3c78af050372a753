#include "base/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/status.h"

dp_status dp_scratch_open(dp_file *out, const char *folder, dp_error *err)
{
    dp_file file = { -1, -1, 0 };
    char path[PATH_MAX];
    int errnum = 0;

    *out = file;
    if (snprintf(path, sizeof path, "%s/.doppler-probe-XXXXXX", folder) >= (int)sizeof path)
        return dp_fail(err, DP_E_LIMIT, "%.200s...: too long a path", folder);
    if (dp_fault_visit(DP_FAULT_WRITE))
        errnum = dp_fault_error(DP_FAULT_WRITE, ENOSPC);
    else
        file.fd = mkostemp(path, O_CLOEXEC);
    if (file.fd < 0)
        return dp_fail_errno(err, DP_E_IO, errnum ? errnum : errno,
                             "%s: cannot make a temporary file there", folder);
    /* The name goes as soon as both ways to the file are open. */
    file.fd_direct = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    unlink(path);
    *out = file;
    return DP_OK;
}

dp_status dp_scratch_append(dp_file *file, const void *bytes, size_t size, dp_error *err)
{
    const uint8_t *at = bytes;

    while (size > 0) {
        ssize_t put;

        if (dp_fault_visit(DP_FAULT_WRITE))
            return dp_fail_errno(err, DP_E_IO, ENOSPC, "temporary file: cannot write");
        put = pwrite(file->fd, at, size, (off_t)file->size);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return dp_fail_errno(err, DP_E_IO, put < 0 ? errno : ENOSPC,
                                 "temporary file: cannot write");
        at += put;
        size -= (size_t)put;
        file->size += (uint64_t)put;
    }
    return DP_OK;
}

dp_status dp_scratch_sync(dp_file *file, dp_error *err)
{
    if (fdatasync(file->fd) != 0)
        return dp_fail_errno(err, DP_E_IO, errno, "temporary file: cannot write");
    return DP_OK;
}
