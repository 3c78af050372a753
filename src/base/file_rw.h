/* file_rw.h - a file that is written at any place and has holes. Platform: file_rw_posix.c.
 *
 * Room     What a cache on disk needs beside file.h, whose dp_file_read reads it and whose
 *          dp_file_close closes it: positional writes, holes, how much the file takes on the
 *          drive, and writing behind, so that memory does not fill with pages that
 *          wait for the drive.
 *
 * Faults   DP_FAULT_WRITE (ENOSPC): opening, each write, each resize; with "done" bytes a write
 *          is torn. DP_FAULT_PUNCH (EIO), DP_FAULT_SYNC (EIO). DP_FAULT_POWER (EIO): all of
 *          these, so that a sweep over it ends a sequence of changes at each of its steps.
 *
 * Threads  Any; two writes to the same bytes at a time leave either or a mixture.
 */
#ifndef DP_BASE_FILE_RW_H
#define DP_BASE_FILE_RW_H

#include "base/file.h"

/* Made when it is not there; no link is followed. DP_E_INVALID where it is no regular file,
 * DP_E_IO. */
dp_status dp_file_rw_open(dp_file *out, const char *path, dp_error *err);

/* DP_E_IO: any part may have been written. */
dp_status dp_file_rw_write(const dp_file *file, const char *path, uint64_t offset,
                           const void *bytes, size_t size, dp_error *err);
/* Longer by a hole, or shorter; file->size follows. DP_E_IO. */
dp_status dp_file_rw_resize(dp_file *file, const char *path, uint64_t size, dp_error *err);
/* Bytes become zeros that take no room; the size stays. DP_E_UNSUPPORTED where the file system
 * cannot, DP_E_IO. */
dp_status dp_file_rw_punch(const dp_file *file, const char *path, uint64_t offset, uint64_t size,
                           dp_error *err);
/* All that was written is on the drive. DP_E_IO. */
dp_status dp_file_rw_sync(const dp_file *file, const char *path, dp_error *err);

/* Advice, waiting for nothing: begin to send these bytes to the drive. */
void dp_file_rw_send(const dp_file *file, uint64_t offset, uint64_t size);
/* Waits until these bytes are on the drive and lets the system forget its copy. */
void dp_file_rw_settle(const dp_file *file, uint64_t offset, uint64_t size);

/* Bytes that the file takes on the drive; 0 where the system does not say. */
uint64_t dp_file_rw_used(const dp_file *file);
/* The file was last changed now: what dp_folder_list tells. */
void dp_file_rw_stamp(const dp_file *file);

#endif
