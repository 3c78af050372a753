/* file.h - positional reading. Platform: file_posix.c. Any thread. */
#ifndef DP_BASE_FILE_H
#define DP_BASE_FILE_H

#include "base/base.h"
#include "doppler/status.h"

typedef struct dp_file {
    int fd;        /* buffered */
    int fd_direct; /* O_DIRECT twin, -1 where the file system has none */
    uint64_t size; /* when opened */
} dp_file;

#define DP_FILE_SECTOR 4096 /* O_DIRECT offsets, sizes and addresses are multiples of this */

/* Opens for reading: a regular file or block device; anything else is
 * DP_E_INVALID. want_direct also opens the twin (failure to is not an error). */
dp_status dp_file_open(dp_file *out, const char *path, bool want_direct, dp_error *err);
void dp_file_close(dp_file *file); /* fd -1 is fine */

/* Exactly `size` bytes at `offset` by buffered reads. DP_E_IO; reading past the
 * end is DP_E_CORRUPT ("... ends at byte ..."). Passes the fault point "read". */
dp_status dp_file_read(const dp_file *file, const char *path, uint64_t offset, void *out,
                       size_t size, dp_error *err);

/* The whole file, NUL behind its end; the caller frees with dp_free. `path` "-"
 * reads standard input. DP_E_LIMIT above size_max. */
dp_status dp_file_read_all(char **out, size_t *out_size, const char *path, size_t size_max,
                           dp_error *err);

/* True when both paths lead to one file that is there. */
bool dp_file_is_same(const char *a, const char *b);

/* The first hole at `offset` or behind it: bytes [*first, *end) were never written and read as zeros.
 * False: none, or the file system does not tell. */
bool dp_file_next_hole(const dp_file *file, uint64_t offset, uint64_t *first, uint64_t *end);

/* Asks the system to start reading, so that a dp_file_read soon after need not wait.
 * Past the end is fine. */
void dp_file_read_ahead(const dp_file *file, uint64_t offset, uint64_t size);

/* Tells the system that reads will jump: it reads what is asked for, and nothing beyond. */
void dp_file_expect_jumps(const dp_file *file);

/* Asks the system to forget its cached pages of the file (cold benchmarks). */
void dp_file_drop_cache(const dp_file *file);
/* The same for a part of it; pages not written back yet stay. */
void dp_file_drop_range(const dp_file *file, uint64_t offset, uint64_t size);

#endif
