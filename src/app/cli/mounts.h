/* mounts.h - a MODEL of the command line: a file, or something to mount (doppler/swarm.h).
 *
 * Room     One node for a command, opened with the first name that asks for one, and its
 *          mounts: the model and adapters. A line on standard error says what was mounted and
 *          how its bytes are checked (not with --quiet).
 *
 * Order    What was opened from a place is closed before dp_mounts_close.
 *
 * Threads  The main thread. Ctrl-C ends what waits here.
 */
#ifndef DP_APP_CLI_MOUNTS_H
#define DP_APP_CLI_MOUNTS_H

#include "app/common/args.h"
#include "doppler/adapter.h"
#include "doppler/source.h"
#include "doppler/swarm.h"

#define DP_MOUNTS_MAX (1 + DP_SESSION_ADAPTERS_MAX)

typedef struct dp_mounts {
    const dp_args *args; /* set by the command; all else zero */
    bool shares;         /* whatever --share says: set by commands that share */
    bool is_lazy;        /* fetches what is looked at and no more: set by commands that look */
    dp_swarm *swarm;     /* NULL: nothing asked for one */
    bool keeps;          /* the node was given a cache */
    dp_mount *mounts[DP_MOUNTS_MAX];
    uint32_t count;
    dp_mount *model; /* the mount of dp_mounts_find; borrowed; NULL: a file */
} dp_mounts;

/* Where a model's bytes are: one of both. Borrowed until dp_mounts_close. */
typedef struct dp_place {
    const char *path;
    dp_source *source;
} dp_place;

/* The place of a model. Refuses a directory that has to be converted first. The errors of
 * dp_mount_open. */
dp_status dp_mounts_find(dp_mounts *m, const char *name, dp_place *out, dp_error *err);

/* The path of a small file: as it is, or fetched whole. The errors of dp_mount_fetch. */
dp_status dp_mounts_fetch(dp_mounts *m, const char *name, const char **path, dp_error *err);

/* The node, for commands that need one whatever the names are. */
dp_status dp_mounts_open_swarm(dp_mounts *m, dp_error *err);

/* Zeroed is fine. Says what was wrong with the cache, if something was. */
void dp_mounts_close(dp_mounts *m);

#endif
