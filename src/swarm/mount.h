/* mount.h - one model of a node: its files in the store, who gives its pieces, its source.
 *
 * Room     mount.c opens and closes, mount_supply.c is what the source stands on,
 *          mount_peers.c keeps the pager's endpoints what the torrent's peers are, mount_fill.c
 *          fetches ahead of any wish. A share is a mount of files that are here: no pager,
 *          no source.
 *
 * Close    Backwards, each part ending the calls of the next: out of the node's list (no tick,
 *          no announcement), the check of a share, range server, torrent, source and with it the pager, store.
 *
 * Locks    The source's, then mount->lock, then those of torrent, store and pager. Nothing is
 *          called back with mount->lock held.
 *
 * Threads  Open, close and fetch as swarm.h says; the supply from any; the tick on the node's.
 */
#ifndef DP_SWARM_MOUNT_H
#define DP_SWARM_MOUNT_H

#include "base/list.h"
#include "base/thread.h"
#include "doppler/swarm.h"
#include "swarm/holders.h"
#include "swarm/identity.h"
#include "swarm/piece_check.h"
#include "swarm/source_swarm.h"
#include "swarm/swarm_impl.h"

#define DP_MOUNT_BAN_S    600 /* of a peer that gave wrong bytes */
#define DP_MOUNT_FILL_MAX 4   /* pieces under way that nobody waits for */

/* A peer of the torrent that answers range requests. */
typedef struct mount_peer {
    uint64_t id;       /* of its connection */
    uint32_t endpoint; /* of the pager */
    bool is_seen;      /* in the look under way */
} mount_peer;

/* A piece that is fetched so that it is here. */
typedef struct mount_fill {
    dp_source_read read;
    uint8_t *room; /* [piece_size]; NULL: not needed so far */
    _Atomic bool is_busy;
} mount_fill;

struct dp_mount {
    dp_swarm *swarm;
    dp_link link; /* in the node's list, under its lock */
    dp_identity id;
    dp_store_file **files;     /* [file_count] */
    dp_holders *holders;       /* NULL: of a share, or the header is not read yet */
    dp_pager *pager;           /* NULL: of a share */
    dp_source *source;         /* NULL: of a share */
    dp_piece_check *check;     /* of a share; NULL: not open yet */
    char *fetched_path;        /* what dp_mount_fetch gave last */
    _Atomic bool is_described; /* released when `holders` is set, acquired by the node's thread */
    bool is_served;            /* by the range server */
    bool is_uncached;          /* another process has its part of the cache */

    dp_mutex lock;       /* guards what follows */
    dp_torrent *torrent; /* NULL: from a URL, or going away */
    uint8_t *available;  /* piece bits: some peer has it */
    uint32_t peers_seen; /* of the torrent, at the last look */

    /* The node's thread's: */
    uint64_t generation; /* of the torrent's peers */
    mount_peer peers[DP_TORRENT_PEERS_MAX];
    uint32_t peer_count;
    uint64_t bans_ns; /* when bans were looked at */

    mount_fill fills[DP_MOUNT_FILL_MAX];
    uint32_t fill_next; /* pieces looked at: all for what every token needs, then all for the
                              rest */
    bool has_more;      /* since fill_ns, when the round began, others came or got more */
    uint64_t fill_ns;
    uint64_t fill_reads;   /* of the source's reads our own */
    uint64_t others_reads; /* the others', at the last look */
    uint64_t quiet_ns;     /* since when there were no others */
};

/* A model to load (swarm.h), or files to give: the files of this machine that
 * id->metainfo describes, [file_count]. */
dp_status dp_mount_open_share(dp_mount **out, dp_swarm *swarm, const char *path,
                              const char *torrent_path, dp_error *err);

/* On the node's thread, every 100 ms or so. */
void dp_mount_tick(dp_mount *m, uint64_t now_ns, bool is_canceled);

/* mount_supply.c */
dp_supply dp_mount_supply(dp_mount *m);
dp_torrent_content dp_mount_content(dp_mount *m);
/* The store let a piece of one of its files go; false: the file is not the mount's. */
bool dp_mount_note_gone(dp_mount *m, const dp_store_file *file, uint32_t piece);

/* mount_peers.c */
dp_status dp_mount_add_seeds(dp_mount *m, dp_error *err); /* web seeds, or the URL itself */
/* True: somebody came or has more than before. */
bool dp_mount_update_peers(dp_mount *m);
void dp_mount_ban_liars(dp_mount *m);

/* mount_fill.c: what every token needs, then the rest, while nobody else reads. */
void dp_mount_fill(dp_mount *m, uint64_t now_ns, bool is_changed);

#endif
