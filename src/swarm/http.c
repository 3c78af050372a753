#include "swarm/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/status.h"

static pthread_once_t begin_once = PTHREAD_ONCE_INIT;
static CURLcode begin_code;

static void begin(void)
{
    begin_code = curl_global_init(CURL_GLOBAL_DEFAULT);
}

dp_status dp_http_begin(dp_error *err)
{
    pthread_once(&begin_once, begin);
    return begin_code ? dp_fail(err, DP_E_NOMEM, "http: %s", curl_easy_strerror(begin_code))
                      : DP_OK;
}

/* ---- addresses ------------------------------------------------------------------------------ */

static bool is_private_v4(uint32_t a)
{
    static const struct {
        uint32_t net;
        int bits;
    } nets[] = {
        { 0x00000000, 8 },  /* this network */
        { 0x0a000000, 8 },  /* private */
        { 0x64400000, 10 }, /* shared, behind carriers */
        { 0x7f000000, 8 },  /* loopback */
        { 0xa9fe0000, 16 }, /* link-local */
        { 0xac100000, 12 }, /* private */
        { 0xc0000000, 24 }, /* protocol assignments */
        { 0xc0000200, 24 }, /* documentation */
        { 0xc0a80000, 16 }, /* private */
        { 0xc6120000, 15 }, /* benchmarks */
        { 0xc6336400, 24 }, /* documentation */
        { 0xcb007100, 24 }, /* documentation */
        { 0xe0000000, 3 },  /* multicast, reserved, broadcast */
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(nets); i++) {
        if (a >> (32 - nets[i].bits) == nets[i].net >> (32 - nets[i].bits))
            return true;
    }
    return false;
}

static uint32_t v4_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool is_private_v6(const uint8_t a[16])
{
    static const uint8_t zero[12], mapped[12] = { [10] = 0xff, [11] = 0xff };
    static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };

    if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0)
        return is_private_v4(v4_at(a + 12));
    if (memcmp(a, zero, 12) == 0)
        return true; /* unspecified, loopback, and an old form of IPv4 */
    if (a[0] == 0x20 && a[1] == 0x02)
        return is_private_v4(v4_at(a + 2)); /* 6to4 */
    return (a[0] & 0xe0) != 0x20;           /* only 2000::/3 is public */
}

bool dp_http_is_private(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;

        memcpy(&in, address, sizeof in);
        return is_private_v4(ntohl(in.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in;

        memcpy(&in, address, sizeof in);
        return is_private_v6(in.sin6_addr.s6_addr);
    }
    return true;
}

bool dp_http_may_go(dp_http_reach reach, long redirects, bool is_origin_private, bool is_private)
{
    return !is_private || reach == DP_HTTP_ANYWHERE ||
           (reach == DP_HTTP_ORIGIN && (redirects == 0 || is_origin_private));
}

/* Whether the request that is under way may go there. */
static bool may_reach(dp_http_rules *rules, const struct sockaddr *address)
{
    bool is_private = dp_http_is_private(address);
    long redirects = 0;

    curl_easy_getinfo(rules->easy, CURLINFO_REDIRECT_COUNT, &redirects);
    if (redirects == 0 && is_private)
        rules->is_origin_private = true;
    if (dp_http_may_go(rules->reach, redirects, rules->is_origin_private, is_private))
        return true;
    snprintf(rules->problem, sizeof rules->problem, "%s leads to a private address",
             redirects > 0 ? "a redirect" : "the name");
    return false;
}

static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    if (purpose != CURLSOCKTYPE_IPCXN || !may_reach(user, &address->addr))
        return CURL_SOCKET_BAD;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* A kept connection opens no socket: its address is looked at before each request. */
static int before_request(void *user, char *ip, char *local_ip, int port, int local_port)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = { 0 };

    if (inet_pton(AF_INET, ip, &address.v4.sin_addr) == 1)
        address.any.sa_family = AF_INET;
    else if (inet_pton(AF_INET6, ip, &address.v6.sin6_addr) == 1)
        address.any.sa_family = AF_INET6;
    return may_reach(user, &address.any) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

/* ---- options ------------------------------------------------------------------------------- */

static size_t take_header(char *bytes, size_t size, size_t count, void *user)
{
    dp_http_rules *rules = user;

    dp_http_head_line(&rules->head, bytes, size * count);
    if (rules->head.size <= DP_PAGER_HEADER_MAX)
        return size * count;
    snprintf(rules->problem, sizeof rules->problem, "a head of more than %d bytes",
             DP_PAGER_HEADER_MAX);
    return 0;
}

/* The system's authorities are loaded already; ours come beside them. */
static CURLcode add_authority(CURL *easy, void *context, void *user)
{
    const dp_http_rules *rules = user;

    if (SSL_CTX_load_verify_locations(context, rules->tls_authority, NULL))
        return CURLE_OK;
    DP_LOG_WARN("swarm", "no certificates in %s", rules->tls_authority);
    return CURLE_SSL_CACERT_BADFILE;
}

void dp_http_apply(dp_http_rules *rules)
{
    CURL *easy = rules->easy;

    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* not from the environment either */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)DP_HTTP_REDIRECTS);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, 7200L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)DP_HTTP_CONNECT_MS_MAX);
    curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, rules->user_agent ? rules->user_agent : "doppler");
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, rules);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, rules);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, rules);
    if (rules->tls_authority) {
        curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, add_authority);
        curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, rules);
    }
}

void dp_http_reset(dp_http_rules *rules, dp_http_reach reach, bool follows)
{
    rules->reach = reach;
    rules->follows = follows;
    rules->head = (dp_http_head){ 0 };
    rules->is_origin_private = false;
    rules->problem[0] = '\0';
    curl_easy_setopt(rules->easy, CURLOPT_FOLLOWLOCATION, follows ? 1L : 0L);
}
