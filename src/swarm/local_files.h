/* local_files.h - which files of this machine are those of a torrent. Any thread. */
#ifndef DP_SWARM_LOCAL_FILES_H
#define DP_SWARM_LOCAL_FILES_H

#include "swarm/metainfo.h"

typedef struct dp_local_files {
    char **paths; /* [count] in the order of the torrent's layout */
    uint32_t count;
} dp_local_files;

/* path: a file of the model, or the folder that holds its files or the torrent's folder.
 * Their sizes are the torrent's. DP_E_NOTFOUND, DP_E_CORRUPT, DP_E_NOMEM. */
dp_status dp_local_files_find(dp_local_files *out, const char *path, const dp_metainfo *metainfo,
                              dp_error *err);
void dp_local_files_free(dp_local_files *files); /* all zero is fine */

/* A whole .torrent. `path` is a file. */
dp_status dp_local_metainfo(dp_metainfo **out, const char *path, dp_error *err);

#endif
