/* scratch.h - a file without a name, for measuring: gone when it is closed, or when the
 * program ends in any way. Platform: scratch_posix.c.
 *
 * Faults   DP_FAULT_WRITE: creating, each write (fails with ENOSPC).
 *
 * Threads  One at a time on one file.
 */
#ifndef DP_BASE_SCRATCH_H
#define DP_BASE_SCRATCH_H

#include "base/file.h"

/* An empty file in a folder, with a direct twin where the file system has it. DP_E_IO. Owned:
 * dp_file_close. */
dp_status dp_scratch_open(dp_file *out, const char *folder, dp_error *err);
/* Appends. DP_E_IO. */
dp_status dp_scratch_append(dp_file *file, const void *bytes, size_t size, dp_error *err);
/* All that was written is on the drive. DP_E_IO. */
dp_status dp_scratch_sync(dp_file *file, dp_error *err);

#endif
