/* swarm_setup.h - the options of the group "swarm" -> what a node is opened with. */
#ifndef DP_APP_CLI_SWARM_SETUP_H
#define DP_APP_CLI_SWARM_SETUP_H

#include "app/cli/userdir.h"
#include "app/common/args.h"
#include "doppler/swarm.h"

#define DP_SWARM_SETUP_PEERS_MAX 64 /* that a person names; a swarm finds the others */

/* A tenth of a large drive is still more than anybody expects a cache to take. */
#define DP_SWARM_SETUP_DISK_MAX ((uint64_t)64 << 30)

typedef struct dp_swarm_setup {
    dp_swarm_config config; /* its texts are the command line's and those below */
    const char *peers[DP_SWARM_SETUP_PEERS_MAX];
    char folder[DP_USERDIR_PATH_MAX];
} dp_swarm_setup;

/* shares: --share was given, or the command is one that shares. Looks at the cache's folder, to
 * tell how much it may hold. DP_E_INVALID: a value, too many peers, half of a certificate. */
dp_status dp_swarm_setup_read(dp_swarm_setup *out, const dp_args *args, bool shares, dp_error *err);

/* What --disk auto is: a tenth of what is free and of what the cache has of it already. */
uint64_t dp_swarm_setup_disk_bytes(uint64_t free_bytes, uint64_t used_bytes);

#endif
