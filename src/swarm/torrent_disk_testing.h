/* torrent_disk_testing.h - the disk of torrent_disk.cpp as libtorrent has it, without libtorrent:
 * one torrent in it, jobs asked of it, and a network thread that is the test's own.
 *
 * Handlers hold what libtorrent's hold, an object that has to die on the network thread.
 *
 * Threads  One: the test's. The disk's workers call the content.
 */
#ifndef DP_SWARM_TORRENT_DISK_TESTING_H
#define DP_SWARM_TORRENT_DISK_TESTING_H

#include "swarm/torrent.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct disk_case disk_case;

typedef struct disk_counts {
    uint32_t answers, errors; /* handlers called; of them with an error */
    uint32_t alive;           /* objects that handlers hold, not dead yet */
    uint32_t strays;          /* that died on another thread */
} disk_counts;

disk_case *disk_case_open(const dp_metainfo *metainfo, const dp_torrent_content *content);
void disk_case_close(disk_case *c); /* as ~session does, with the network's work undone */

/* One job each, of whole pieces; hash2 and read are of the first block. */
void disk_case_write(disk_case *c, uint32_t piece, const void *bytes, uint32_t size);
void disk_case_hash(disk_case *c, uint32_t piece);
void disk_case_hash2(disk_case *c, uint32_t piece);
void disk_case_read(disk_case *c, uint32_t piece);
void disk_case_stop_torrent(disk_case *c);
/* The torrent is gone, with its list of files. Its number stays the one that jobs are asked by. */
void disk_case_remove(disk_case *c);
/* Another one; true: its number is a new one. */
bool disk_case_add_again(disk_case *c);
void disk_case_abort(disk_case *c); /* nothing will be asked any more, or nearly so */

/* Runs what is posted for so long. True: it ended before, nothing being left to wait for. */
bool disk_case_network(disk_case *c, uint32_t ms);
disk_counts disk_case_counts(const disk_case *c);

#ifdef __cplusplus
}
#endif
#endif
