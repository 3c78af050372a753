/* guard.h - watches over the connections of an HTTP server: who may connect, who is too slow.
 *
 * Room     libmicrohttpd answers; this room decides whom it goes on answering. It counts
 *          connections by address (limits.h), and a thread of its own ends those that are
 *          too slow. Its clock is a parameter, so that tests can wait for hours.
 *
 * States   of a connection:  HEADER --begin--> RESPONSE --end--> IDLE --a byte--> HEADER
 *
 *          HEADER    a whole header has to come within header_ns, however many bytes
 *                    drip meanwhile. That one began is read from the system's count of received
 *                    bytes, since libmicrohttpd does not tell.
 *          RESPONSE  the client takes progress_bytes in every progress_ns, or all there is.
 *          IDLE      at most idle_ns, header_ns once the client said goodbye; when all
 *                    connections are in use, the one that waited longest makes room.
 *
 * Invariants
 *   (1) At most connections_max connections that were not cut.
 *   (2) A socket is cut only while libmicrohttpd has it open: between STARTED and CLOSED,
 *       under the lock.
 *   (3) Only the guard resumes what it paused.
 *
 * Threads  notify, begin, end and pause on libmicrohttpd's; the rest from any.
 */
#ifndef DP_SWARM_GUARD_H
#define DP_SWARM_GUARD_H

#include <microhttpd.h>
#include "base/clock.h"
#include "swarm/limits.h"

typedef struct dp_guard dp_guard;
typedef struct dp_guard_connection dp_guard_connection;

#define DP_GUARD_TICK_NS ((uint64_t)250000000) /* how late it may notice */

typedef struct dp_guard_config {
    uint32_t connections_max;
    dp_limits_config per_address;
    uint64_t header_ns, idle_ns;
    uint64_t progress_bytes, progress_ns;
    const dp_clock *clock;
} dp_guard_config;

dp_status dp_guard_open(dp_guard **out, const dp_guard_config *config, dp_error *err);
/* Cuts all, and from now on everything: what must come before MHD_stop_daemon. */
void dp_guard_stop(dp_guard *guard);
void dp_guard_close(dp_guard *guard); /* after MHD_stop_daemon */

/* For MHD_OPTION_NOTIFY_CONNECTION; user: the guard. */
void dp_guard_notify(void *user, struct MHD_Connection *connection, void **context,
                     enum MHD_ConnectionNotificationCode code);
/* NULL: no connection to answer. */
dp_guard_connection *dp_guard_of(struct MHD_Connection *connection);

/* A header is complete. 0: it may be answered; else how long its address should wait. */
uint64_t dp_guard_begin(dp_guard_connection *c);
void dp_guard_end(dp_guard_connection *c); /* its response went out, or will not */

/* One more long response of this address, until dp_guard_end. False: it has too many. */
bool dp_guard_take(dp_guard_connection *c);

/* In a content reader that returns 0 afterwards: asks it again after wait_ns. False: the
 * connection was cut, the reader has to fail. */
bool dp_guard_pause(dp_guard_connection *c, uint64_t wait_ns);

void dp_guard_cut(dp_guard_connection *c); /* between its begin and end */

typedef struct dp_guard_stats {
    uint32_t connections;  /* now */
    uint32_t responses;    /* of these, under way */
    uint64_t refused, cut; /* at once; later, for being slow or in the way */
} dp_guard_stats;
void dp_guard_stats_read(dp_guard *guard, dp_guard_stats *out);

#endif
