#include "swarm/http_daemon.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "swarm/listen.h"

/* Room in libmicrohttpd's own limit, which each thread has an equal part of, for connections
 * that were cut and not yet closed. A thread without room leaves new ones to the others. */
#define CLOSING_MAX 16

#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct dp_http_daemon {
    dp_guard *guard;
    struct MHD_Daemon *daemon;
    char *certificate, *key;
    size_t certificate_size, key_size;
    uint16_t port;
};

static size_t keep_escapes(void *user, struct MHD_Connection *connection, char *text)
{
    return strlen(text);
}

static void log_line(void *user, const char *format, va_list args) DP_PRINTF(2, 0);
static void log_line(void *user, const char *format, va_list args)
{
    char text[256];

    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\r\n")] = '\0';
    DP_LOG_DEBUG("http", "libmicrohttpd=\"%s\"", text);
}

static dp_status read_pem(dp_http_daemon *http, const dp_http_daemon_config *config, dp_error *err)
{
    dp_status st;

    if (!config->tls_certificate && !config->tls_key)
        return DP_OK;
    if (!config->tls_certificate || !config->tls_key)
        return dp_fail(err, DP_E_INVALID, "%s: TLS needs a certificate and a key",
                       config->tls_certificate ? config->tls_certificate : config->tls_key);
    st = dp_file_read_all(&http->certificate, &http->certificate_size, config->tls_certificate,
                          DP_HTTP_PEM_MAX, err);
    if (!st)
        st = dp_file_read_all(&http->key, &http->key_size, config->tls_key, DP_HTTP_PEM_MAX, err);
    return st;
}

/* A key is not left behind in freed memory. */
static void forget(char *pem, size_t size)
{
    if (pem)
        explicit_bzero(pem, size);
    dp_free(pem);
}

/* Signals are the program's: the daemon's threads are started with all of them blocked. */
static struct MHD_Daemon *start_daemon(dp_http_daemon *http, const dp_http_daemon_config *config,
                                       int fd)
{
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    unsigned limit = config->guard.connections_max + config->threads * CLOSING_MAX;
    struct MHD_OptionItem tls[] = {
        { MHD_OPTION_HTTPS_MEM_CERT, 0, http->certificate },
        { MHD_OPTION_HTTPS_MEM_KEY, 0, http->key },
        { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)TLS_PRIORITIES },
        { MHD_OPTION_END, 0, NULL },
    };
    struct MHD_OptionItem begin[] = {
        { MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)config->begin, config->user },
        { MHD_OPTION_END, 0, NULL },
    };
    struct MHD_OptionItem none[] = { { MHD_OPTION_END, 0, NULL } };
    struct MHD_Daemon *daemon;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    daemon = MHD_start_daemon(
        flags | (http->key ? MHD_USE_TLS : 0), 0, NULL, NULL, config->answer, config->user,
        MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_THREAD_POOL_SIZE, (unsigned)config->threads, MHD_OPTION_CONNECTION_LIMIT, limit,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, DP_HTTP_CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
        0u, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, dp_guard_notify, http->guard, MHD_OPTION_NOTIFY_COMPLETED,
        config->completed, config->user, MHD_OPTION_ARRAY, http->key ? tls : none, MHD_OPTION_ARRAY,
        config->begin ? begin : none, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return daemon;
}

dp_status dp_http_daemon_open(dp_http_daemon **out, const dp_http_daemon_config *config,
                              dp_error *err)
{
    dp_http_daemon *http = dp_alloc_zero(1, sizeof *http);
    dp_status st = DP_OK;
    int fd = -1;

    *out = NULL;
    if (!http)
        return dp_fail(err, DP_E_NOMEM, "a server at %s", config->listen);
    st = read_pem(http, config, err);
    if (st)
        goto done;
    st = dp_guard_open(&http->guard, &config->guard, err);
    if (st)
        goto done;
    st = dp_listen_open(&fd, config->listen, config->wants_bbr, err);
    if (st)
        goto done;
    http->port = dp_listen_port(fd);
    http->daemon = start_daemon(http, config, fd);
    fd = -1; /* the daemon's, started or not */
    if (!http->daemon) {
        st = http->key
                 ? dp_fail(err, DP_E_INVALID, "%s, %s: no certificate and key to serve TLS with",
                           config->tls_certificate, config->tls_key)
                 : dp_fail(err, DP_E_IO, "%s: the HTTP server did not start", config->listen);
        goto done;
    }
    *out = http;
    http = NULL;
done:
    dp_listen_close(fd);
    dp_http_daemon_close(http);
    return st;
}

void dp_http_daemon_close(dp_http_daemon *http)
{
    if (!http)
        return;
    if (http->guard)
        dp_guard_stop(http->guard);
    if (http->daemon)
        MHD_stop_daemon(http->daemon);
    dp_guard_close(http->guard);
    dp_free(http->certificate);
    forget(http->key, http->key_size);
    dp_free(http);
}

uint16_t dp_http_daemon_port(const dp_http_daemon *http)
{
    return http->port;
}

dp_guard *dp_http_daemon_guard(dp_http_daemon *http)
{
    return http->guard;
}
