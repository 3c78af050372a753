/* The tracker of doppler/swarm.h: announces (announce.h) answered by HTTP. */
#include "doppler/swarm.h"

#include <netinet/in.h>
#include <string.h>
#include "base/mem.h"
#include "base/status.h"
#include "base/thread.h"
#include "swarm/announce.h"
#include "swarm/http_daemon.h"

#define CONNECTIONS_MAX 256 /* answered at once and closed, so a group of thousands is served */
#define INTERVAL_S      1800
#define INTERVAL_S_MAX  86400
#define TARGET_MAX      4096

struct dp_tracker {
    dp_http_daemon *http;
    dp_mutex lock; /* of all below */
    dp_announces *table;
    uint64_t announces, refused;
};

/* The target, copied: MHD hands out parameters that it decoded in its own way. */
static void *keep_target(void *user, const char *target, struct MHD_Connection *connection)
{
    size_t size = strlen(target);

    return size <= TARGET_MAX ? dp_strndup(target, size) : NULL;
}

static void address_of(struct MHD_Connection *connection, uint8_t ip[16])
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *from = info->client_addr;

    if (from->sa_family == AF_INET6) {
        memcpy(ip, &((const struct sockaddr_in6 *)from)->sin6_addr, 16);
    } else {
        dp_address address;

        (void)dp_address_from(&address, from);
        memcpy(ip, address.bytes, 16);
    }
}

/* The text of an answer; the HTTP status of it is returned. */
static unsigned announce(dp_tracker *tracker, const char *target, struct MHD_Connection *connection,
                         dp_buf *reply)
{
    dp_announce said;
    dp_error err;
    uint8_t ip[16];
    dp_status st = dp_announce_parse(&said, target, &err);

    if (st) {
        dp_mutex_lock(&tracker->lock);
        tracker->refused++;
        dp_mutex_unlock(&tracker->lock);
        st = dp_announce_failure(reply, err.text);
        return st                            ? MHD_HTTP_INTERNAL_SERVER_ERROR
               : err.status == DP_E_NOTFOUND ? MHD_HTTP_NOT_FOUND
                                             : MHD_HTTP_OK;
    }
    address_of(connection, ip);
    dp_mutex_lock(&tracker->lock);
    tracker->announces++;
    st = dp_announces_answer(tracker->table, &said, ip, dp_clock_now_ns(&dp_clock_real), reply);
    dp_mutex_unlock(&tracker->lock);
    return st ? MHD_HTTP_INTERNAL_SERVER_ERROR : MHD_HTTP_OK;
}

static enum MHD_Result answer(void *user, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **context)
{
    dp_tracker *tracker = user;
    dp_guard_connection *c = dp_guard_of(connection);
    struct MHD_Response *response;
    enum MHD_Result result;
    unsigned status;
    dp_buf reply;

    if (!c || !*context)
        return MHD_NO;
    dp_buf_init(&reply, DP_ANNOUNCE_REPLY_MAX);
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0)
        status = MHD_HTTP_METHOD_NOT_ALLOWED;
    else if (dp_guard_begin(c))
        status = MHD_HTTP_SERVICE_UNAVAILABLE;
    else
        status = announce(tracker, *context, connection, &reply);

    response = MHD_create_response_from_buffer(reply.size, reply.bytes, MHD_RESPMEM_MUST_COPY);
    dp_buf_deinit(&reply);
    if (!response)
        return MHD_NO;
    (void)MHD_add_response_header(response, "Content-Type", "text/plain");
    (void)MHD_add_response_header(response, "Connection", "close");
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static void completed(void *user, struct MHD_Connection *connection, void **context,
                      enum MHD_RequestTerminationCode code)
{
    dp_free(*context);
    *context = NULL;
}

static dp_status open_table(dp_tracker *tracker, const dp_tracker_config *config, dp_error *err)
{
    uint8_t(*infos)[DP_ANNOUNCE_INFO_SIZE] = NULL;
    dp_status st = DP_OK;

    if (config->info_count > DP_ANNOUNCE_TORRENTS_MAX)
        return dp_fail(err, DP_E_LIMIT, "a tracker of %zu torrents, at most %d", config->info_count,
                       DP_ANNOUNCE_TORRENTS_MAX);
    if (config->info_count) {
        infos = dp_alloc(config->info_count, sizeof *infos);
        if (!infos)
            return dp_fail(err, DP_E_NOMEM, "a tracker of %zu torrents", config->info_count);
    }
    for (size_t i = 0; i < config->info_count && !st; i++) {
        if (!dp_announce_info_from_hex(infos[i], config->infos[i]))
            st = dp_fail(err, DP_E_INVALID, "\"%s\": not an info-hash of 40 or 64 hex digits",
                         config->infos[i]);
    }
    if (!st)
        st = dp_announces_open(&tracker->table, infos, config->info_count,
                               config->interval_s ? config->interval_s : INTERVAL_S, err);
    dp_free(infos);
    return st;
}

dp_status dp_tracker_open(dp_tracker **out, const dp_tracker_config *config, dp_error *err)
{
    dp_tracker *tracker = NULL;
    dp_http_daemon_config http = {
        .listen = config->listen,
        .threads = 1,
        .guard = { .connections_max = CONNECTIONS_MAX,
                   .per_address = { 64, 64, 50 },
                   .header_ns = 10000000000u,
                   .idle_ns = 10000000000u,
                   .progress_bytes = DP_ANNOUNCE_REPLY_MAX,
                   .progress_ns = 10000000000u,
                   .clock = &dp_clock_real },
        .answer = answer,
        .completed = completed,
        .begin = keep_target,
    };
    dp_status st;

    *out = NULL;
    if (config->interval_s > INTERVAL_S_MAX)
        return dp_fail(err, DP_E_LIMIT, "an interval of %u s, at most %d", config->interval_s,
                       INTERVAL_S_MAX);
    tracker = dp_alloc_zero(1, sizeof *tracker);
    if (!tracker)
        return dp_fail(err, DP_E_NOMEM, "a tracker at %s", config->listen);
    dp_mutex_init(&tracker->lock);
    http.user = tracker;
    st = open_table(tracker, config, err);
    if (!st)
        st = dp_http_daemon_open(&tracker->http, &http, err);
    if (!st) {
        *out = tracker;
        tracker = NULL;
    }
    dp_tracker_close(tracker);
    return st;
}

void dp_tracker_close(dp_tracker *tracker)
{
    if (!tracker)
        return;
    dp_http_daemon_close(tracker->http);
    dp_announces_close(tracker->table);
    dp_mutex_deinit(&tracker->lock);
    dp_free(tracker);
}

uint16_t dp_tracker_port(const dp_tracker *tracker)
{
    return dp_http_daemon_port(tracker->http);
}

void dp_tracker_stats_read(dp_tracker *tracker, dp_tracker_stats *out)
{
    dp_mutex_lock(&tracker->lock);
    out->announces = tracker->announces;
    out->refused = tracker->refused;
    dp_announces_count(tracker->table, dp_clock_now_ns(&dp_clock_real), &out->torrents,
                       &out->peers);
    dp_mutex_unlock(&tracker->lock);
}
