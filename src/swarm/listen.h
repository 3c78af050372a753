/* listen.h - a listening TCP socket, and what the system knows of a connection.
 *
 * Threads  Any.
 */
#ifndef DP_SWARM_LISTEN_H
#define DP_SWARM_LISTEN_H

#include "base/base.h"
#include "doppler/status.h"

/* "192.0.2.1:8080", "[2001:db8::1]:8080", port 0: any free one. Connections taken from it use
 * the congestion control bbr if wants_bbr and the system has it for everybody, else what the
 * system does. DP_E_INVALID: not an address. DP_E_IO: it is not to be had. */
dp_status dp_listen_open(int *out, const char *address_port, bool wants_bbr, dp_error *err);
void dp_listen_close(int fd);
uint16_t dp_listen_port(int fd);

/* Bytes of a connection that came, and that the other end acknowledged; whether it said that
 * no more will come. False: the system does not tell. */
typedef struct dp_tcp_counts {
    uint64_t received, acknowledged;
    bool has_ended;
} dp_tcp_counts;
bool dp_tcp_counts_read(int fd, dp_tcp_counts *out);

/* Ends a connection both ways; its socket stays open. */
void dp_tcp_cut(int fd);

#endif
