/* http.h - what every request of ours has in common: where it may go, what it may bring.
 *
 * Room     Options of a libcurl handle. Only http and https; no proxy, no cookies, no netrc;
 *          at most DP_HTTP_REDIRECTS redirects, of web seeds only; heads of at most
 *          DP_PAGER_HEADER_MAX bytes; certificates checked against the system's authorities
 *          and one file beside them.
 *
 * Private  A web server that a stranger named must not make us talk to machines behind our
 *          own firewall: addresses that are not public are refused before the connection is
 *          made, and again before a request goes over a kept one.
 *
 * Threads  One at a time on one dp_http_rules.
 */
#ifndef DP_SWARM_HTTP_H
#define DP_SWARM_HTTP_H

#include <curl/curl.h>

#include "swarm/http_head.h"
#include "swarm/pager.h"

#define DP_HTTP_REDIRECTS      5
#define DP_HTTP_CONNECT_MS_MAX 10000

struct sockaddr;

typedef enum dp_http_reach {
    DP_HTTP_PUBLIC,  /* no private address at all */
    DP_HTTP_ORIGIN,  /* a redirect may lead to one only if the first server is at one */
    DP_HTTP_ANYWHERE /* the person who runs this named it */
} dp_http_reach;

/* Of one handle; it refers to it. */
typedef struct dp_http_rules {
    CURL *easy;
    const char *tls_authority; /* PEM file; NULL: none */
    const char *user_agent;
    dp_http_reach reach;
    bool follows;
    /* outcome */
    dp_http_head head;
    bool is_origin_private;
    char problem[160]; /* why it was refused; "" */
} dp_http_rules;

/* Whether a request of that reach may go to an address. `redirects`: followed on the way there;
 * is_origin_private: the first server was at a private one. */
bool dp_http_may_go(dp_http_reach reach, long redirects, bool is_origin_private, bool is_private);

/* Loads libcurl once for the process, and never unloads it. DP_E_NOMEM. */
dp_status dp_http_begin(dp_error *err);
/* Sets all options on rules->easy, to be called once a handle. */
void dp_http_apply(dp_http_rules *rules);
/* Before each request: no head, no problem. */
void dp_http_reset(dp_http_rules *rules, dp_http_reach reach, bool follows);

/* Loopback, link-local, private, shared, documentation, multicast, and IPv6 that carries such
 * an IPv4 address. What is neither IPv4 nor IPv6 counts as private. */
bool dp_http_is_private(const struct sockaddr *address);

#endif
