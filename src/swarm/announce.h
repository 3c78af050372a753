/* announce.h - what a BitTorrent client tells a tracker, who is told back, and how.
 *
 * Room     Reading of announces, and a table of who announced what. A peer's address is the
 *          connection's, whatever the announce says; it is forgotten when it says goodbye or
 *          is silent for two and a half intervals. Time is a parameter.
 *
 * Limits   DP_ANNOUNCE_*_MAX. A peer that finds no room is answered all the same, only others
 *          do not hear of it.
 *
 * Threads  The caller's lock.
 *
 * Source   BEP 3, 7 (IPv6), 23 (compact; asked for or not), 52 (cut v2 info-hashes).
 */
#ifndef DP_SWARM_ANNOUNCE_H
#define DP_SWARM_ANNOUNCE_H

#include "base/buf.h"
#include "swarm/limits.h"

#define DP_ANNOUNCE_INFO_SIZE    20    /* v1, or the first bytes of v2 */
#define DP_ANNOUNCE_TORRENTS_MAX 1024  /* a linear search: 20 KiB to look at */
#define DP_ANNOUNCE_PEERS_MAX    2048  /* of one torrent */
#define DP_ANNOUNCE_TABLE_MAX    32768 /* of all */
#define DP_ANNOUNCE_ADDRESS_MAX  64    /* of one torrent and one address: ports behind a router */
#define DP_ANNOUNCE_WANTED       50    /* peers in an answer, unless numwant says */
#define DP_ANNOUNCE_WANTED_MAX   200
#define DP_ANNOUNCE_REPLY_MAX    8192 /* 200 peers of 18 bytes, and a little around them */

typedef struct dp_announce {
    uint8_t info[DP_ANNOUNCE_INFO_SIZE];
    uint16_t port;
    uint32_t wanted;
    bool is_complete, is_leaving;
} dp_announce;

/* target: "/announce?info_hash=...&port=...". DP_E_NOTFOUND: another path. DP_E_INVALID: err
 * says what is missing or wrong. */
dp_status dp_announce_parse(dp_announce *out, const char *target, dp_error *err);
/* 40 or 64 hex digits, as people write them. */
bool dp_announce_info_from_hex(uint8_t out[DP_ANNOUNCE_INFO_SIZE], const char *hex);

/* An IP as it came; IPv4 as ::ffff:a.b.c.d. */
typedef struct dp_announce_peer {
    uint8_t ip[16];
    uint16_t port;
} dp_announce_peer;

typedef struct dp_announces dp_announces;

/* allowed: the torrents that are tracked, copied; NULL: every one. */
dp_status dp_announces_open(dp_announces **out, const uint8_t (*allowed)[DP_ANNOUNCE_INFO_SIZE],
                            size_t allowed_count, uint32_t interval_s, dp_error *err);
void dp_announces_close(dp_announces *table);

/* Notes the announce and appends the bencoded answer: other peers of the torrent. A torrent
 * that is not tracked gets a "failure reason". DP_E_LIMIT, DP_E_NOMEM: of reply. */
dp_status dp_announces_answer(dp_announces *table, const dp_announce *announce,
                              const uint8_t ip[16], uint64_t now_ns, dp_buf *reply);
/* "d14:failure reason...e" */
dp_status dp_announce_failure(dp_buf *reply, const char *reason);

void dp_announces_count(dp_announces *table, uint64_t now_ns, uint32_t *torrents, uint32_t *peers);

#endif
