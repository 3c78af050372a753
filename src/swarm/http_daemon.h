/* http_daemon.h - a libmicrohttpd daemon as the servers of this layer want it.
 *
 * Room     Listening, TLS, threads and a guard (guard.h) in one thing that opens and closes.
 *          What is answered is the caller's. Targets arrive as they were sent, %HH and all.
 *
 * Threads  open and close from one; the callbacks run on `threads` threads side by side.
 *
 * Limits   A connection has DP_HTTP_CONNECTION_BYTES for a request's header and a response's.
 */
#ifndef DP_SWARM_HTTP_DAEMON_H
#define DP_SWARM_HTTP_DAEMON_H

#include "swarm/guard.h"

#define DP_HTTP_CONNECTION_BYTES ((size_t)16 << 10)
#define DP_HTTP_PEM_MAX          ((size_t)256 << 10) /* a chain of certificates */

typedef struct dp_http_daemon_config {
    const char *listen;                    /* "ADDRESS:PORT" */
    bool wants_bbr;                        /* listen.h */
    const char *tls_certificate, *tls_key; /* PEM files, both or neither */
    uint32_t threads;
    dp_guard_config guard;
    MHD_AccessHandlerCallback answer;
    MHD_RequestCompletedCallback completed; /* also for requests that were never answered */
    /* May be NULL. Sees the target before anything else; gives the request's context. */
    void *(*begin)(void *user, const char *target, struct MHD_Connection *connection);
    void *user;
} dp_http_daemon_config;

typedef struct dp_http_daemon dp_http_daemon;

/* DP_E_INVALID: address, certificate or key. DP_E_IO, DP_E_NOMEM, DP_E_NOTFOUND. */
dp_status dp_http_daemon_open(dp_http_daemon **out, const dp_http_daemon_config *config,
                              dp_error *err);
/* Cuts every connection; no callback runs any more when it returns. */
void dp_http_daemon_close(dp_http_daemon *http);

uint16_t dp_http_daemon_port(const dp_http_daemon *http);
dp_guard *dp_http_daemon_guard(dp_http_daemon *http);

#endif
