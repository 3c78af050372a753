/* remembered.h - what a name led to the last time, so that a model that is here opens with
 * the network off.
 *
 * Room     FOLDER/HASH.origin, HASH of the name: a magnet link's or URL's .torrent, or what the
 *          servers of a URL said. Nothing here is believed more than the network would be: a
 *          .torrent is parsed and checked again, sizes and versions are compared with the cache's.
 *
 * Limits   DP_REMEMBERED_MAX files, the oldest go.
 *
 * Threads  One at a time on one name.
 */
#ifndef DP_SWARM_REMEMBERED_H
#define DP_SWARM_REMEMBERED_H

#include <stddef.h>
#include "base/base.h"
#include "doppler/status.h"

#define DP_REMEMBERED_MAX       256
#define DP_REMEMBERED_BYTES_MAX ((size_t)256 << 20)

/* NULL folder, and every failure: nothing is kept, nothing is there. */
void dp_remembered_write(const char *folder, const char *name, const void *bytes, size_t size);
/* [*size] and a NUL; the caller frees with dp_free. NULL: nothing. */
char *dp_remembered_read(const char *folder, const char *name, size_t *size);

#endif
