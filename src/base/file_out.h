/* file_out.h - a file that appears whole or not at all. Platform: file_out_posix.c.
 *
 * Room     Bytes go, one after the other, to "PATH.partial"; commit makes them
 *          durable and gives the file its name, replacing what had it. Anything
 *          else that ends the writing removes the partial file. One that a
 *          killed program left is overwritten; one that a running program
 *          writes is refused.
 *
 * Faults   DP_FAULT_WRITE: creating, each write, each hole, syncing, renaming (fails with
 *          ENOSPC).
 *
 * Threads  One at a time on one file.
 */
#ifndef DP_BASE_FILE_OUT_H
#define DP_BASE_FILE_OUT_H

#include "base/base.h"
#include "doppler/status.h"

typedef struct dp_file_out {
    char *path;
    char *partial;
    char *_folder; /* of path: synced last */
    uint64_t size; /* written so far */
    int _fd;
    uint64_t _sent; /* handed to the disk so far: see dp_file_out_write */
} dp_file_out;

/* DP_E_INVALID where path is there and is no regular file; DP_E_BUSY where
 * another program writes the same file; DP_E_IO, DP_E_NOTFOUND, DP_E_NOMEM. */
dp_status dp_file_out_open(dp_file_out *out, const char *path, dp_error *err);

/* Appends. Every few MiB the system is asked to start sending them to the disk,
 * so that memory never fills with them and the commit has little left to do. */
dp_status dp_file_out_write(dp_file_out *out, const void *bytes, size_t size, dp_error *err);

/* Appends zeros that take no room on file systems that know holes. */
dp_status dp_file_out_skip(dp_file_out *out, uint64_t size, dp_error *err);

/* On DP_OK the file is at path, on the disk, and closed. */
dp_status dp_file_out_commit(dp_file_out *out, dp_error *err);

/* Removes what was not committed. All zero, and twice, are fine. */
void dp_file_out_close(dp_file_out *out);

#endif
