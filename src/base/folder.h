/* folder.h - folders: made, listed, locked, emptied. Platform: folder_posix.c.
 *
 * Faults   DP_FAULT_WRITE (ENOSPC): making one. DP_FAULT_POWER (EIO): making and removing.
 *          DP_FAULT_READ (EIO): listing.
 *
 * Threads  Any.
 */
#ifndef DP_BASE_FOLDER_H
#define DP_BASE_FOLDER_H

#include "base/base.h"
#include "doppler/status.h"

#define DP_FOLDER_NAME_MAX 255

typedef struct dp_folder_entry {
    char name[DP_FOLDER_NAME_MAX + 1];
    bool is_folder, is_file;   /* neither: a link, a device, a pipe */
    uint64_t size, used_bytes; /* its length; what it takes on the drive */
    int64_t changed_unix;      /* seconds since 1970, of its bytes */
} dp_folder_entry;

/* The folder and those above it, where they are not there. DP_E_IO. */
dp_status dp_folder_make(const char *path, dp_error *err);

/* What is in a folder, without "." and "..", in no order. The caller frees *out with dp_free.
 * DP_E_NOTFOUND, DP_E_IO, DP_E_NOMEM; DP_E_LIMIT: more than count_max. */
dp_status dp_folder_list(dp_folder_entry **out, size_t *count, const char *path, size_t count_max,
                         dp_error *err);
/* One of them, or the folder itself. DP_E_NOTFOUND, DP_E_IO. */
dp_status dp_folder_look(dp_folder_entry *out, const char *path, dp_error *err);

/* Holds a folder for this owner alone, until it is given back or the process ends. Waits up to
 * wait_ms. DP_E_BUSY, DP_E_NOTFOUND, DP_E_IO. */
dp_status dp_folder_lock(int *out, const char *path, uint32_t wait_ms, dp_error *err);
void dp_folder_unlock(int lock); /* -1 is fine */

/* A file, or an empty folder. What is not there is fine. DP_E_IO. */
dp_status dp_folder_remove(const char *path, dp_error *err);
/* New names in it are on the drive: advice, for some file systems cannot. */
void dp_folder_sync(const char *path);

typedef struct dp_folder_ability {
    bool has_holes; /* a file may be longer than what it takes */
    bool can_punch; /* room comes back when a hole is made */
} dp_folder_ability;

/* Tried out with a file without a name. DP_E_IO: nothing can be written there. */
dp_status dp_folder_try(dp_folder_ability *out, const char *path, dp_error *err);

#endif
