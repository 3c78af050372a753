/* source_file.h - pages straight from the model's files, by base/aio.h.
 *
 * Direct reads (O_DIRECT) bypass the page cache, so that a model larger than
 * memory does not push everything else out; ranges shorter than
 * DP_SOURCE_DIRECT_MIN and file systems without O_DIRECT are read buffered.
 *
 * Copies   The same files may lie on more drives. Each copy has a queue of its own and
 *          takes requests as fast as it ends them (copies.h), so that a page comes from
 *          several drives at once. A copy that fails a read is never asked again, with
 *          one warning, and what it was asked for is read from another.
 */
#ifndef DP_TIER_SOURCE_FILE_H
#define DP_TIER_SOURCE_FILE_H

#include "base/aio.h"
#include "tier/copies.h"
#include "tier/source.h"

#define DP_SOURCE_DIRECT_MIN                                                                       \
    ((uint64_t)128 << 10) /* below, widening to sectors costs > 6 % memory */

typedef enum dp_io_mode { DP_IO_AUTO, DP_IO_DIRECT, DP_IO_BUFFERED } dp_io_mode;

typedef struct dp_source_file_config {
    const char *const *paths; /* [file_count], borrowed for the call */
    uint32_t file_count;
    dp_io_mode mode; /* DIRECT widens every range and fails where the file system can't */
    dp_aio_engine engine;
    uint32_t depth;       /* reads with the system at a time */
    uint64_t request_max; /* longer ranges are split into requests of this size */
    /* [mirror_count][file_count] paths of further copies, checked by the caller to hold the
     * same; at most DP_COPIES_MAX - 1 */
    const char *const *mirrors;
    uint32_t mirror_count;
    uint32_t file_first; /* index of the first: those below are another source's (source_join.h) */
} dp_source_file_config;

#define DP_SOURCE_FILES_MORE 64 /* added while it runs: adapters of one engine */

/* Owned: s->ops->close. DP_E_NOTFOUND, DP_E_IO, DP_E_UNSUPPORTED, DP_E_NOMEM. */
dp_status dp_source_file_open(dp_source **out, const dp_source_file_config *config, dp_error *err);

/* One more file, by the same config, at index *index until it is removed. The errors
 * of open; DP_E_LIMIT past DP_SOURCE_FILES_MORE. One thread adds and removes. */
dp_status dp_source_file_add(dp_source *s, const char *path, uint32_t *index, dp_error *err);
/* No read of it is under way. */
void dp_source_file_remove(dp_source *s, uint32_t index);

#endif
