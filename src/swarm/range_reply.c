/* Answers of the range server: which status, which headers, and the bytes piece by piece. */
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "swarm/range_server_impl.h"

/* What a response says, besides its bytes. */
typedef struct head {
    unsigned status;
    uint64_t total, first, size; /* of the file, of the range */
    const char *tag;             /* NULL: none */
    uint64_t wait_ns;            /* with 503 */
} head;

typedef struct header {
    const char *name, *value;
} header;

/* Browsers of any page may read, and may from public pages as well. */
static const header always[] = {
    { "Access-Control-Allow-Origin", "*" },
    { "Access-Control-Expose-Headers",
      "Content-Range, Content-Length, Accept-Ranges, ETag, Retry-After" },
};
static const header preflight[] = {
    { "Access-Control-Allow-Methods", "GET, HEAD, OPTIONS" },
    { "Access-Control-Allow-Headers", "Range, If-Range, Authorization" },
    { "Access-Control-Allow-Private-Network", "true" },
    { "Access-Control-Max-Age", "86400" },
    { "Allow", "GET, HEAD, OPTIONS" },
};

static bool add(struct MHD_Response *response, const char *name, const char *value)
{
    return MHD_add_response_header(response, name, value) == MHD_YES;
}

static bool add_all(struct MHD_Response *response, const header *headers, size_t count)
{
    bool is_added = true;

    for (size_t i = 0; i < count; i++)
        is_added = is_added && add(response, headers[i].name, headers[i].value);
    return is_added;
}

static bool add_file(struct MHD_Response *response, const head *h)
{
    char range[96];
    bool is_added = add(response, "Accept-Ranges", "bytes") &&
                    add(response, "Content-Type", "application/octet-stream") &&
                    (!h->tag || !*h->tag || add(response, "ETag", h->tag));

    if (h->status == MHD_HTTP_PARTIAL_CONTENT)
        snprintf(range, sizeof range, "bytes %llu-%llu/%llu", (unsigned long long)h->first,
                 (unsigned long long)(h->first + h->size - 1), (unsigned long long)h->total);
    else if (h->status == MHD_HTTP_RANGE_NOT_SATISFIABLE)
        snprintf(range, sizeof range, "bytes */%llu", (unsigned long long)h->total);
    else
        return is_added;
    return is_added && add(response, "Content-Range", range);
}

static bool add_headers(struct MHD_Response *response, const head *h)
{
    char seconds[32];
    bool is_added = add_all(response, always, DP_ARRAY_LEN(always));

    switch (h->status) {
    case MHD_HTTP_OK:
    case MHD_HTTP_PARTIAL_CONTENT:
    case MHD_HTTP_RANGE_NOT_SATISFIABLE:
        return is_added && add_file(response, h);
    case MHD_HTTP_NO_CONTENT:
    case MHD_HTTP_METHOD_NOT_ALLOWED:
        return is_added && add_all(response, preflight, DP_ARRAY_LEN(preflight));
    case MHD_HTTP_UNAUTHORIZED:
        return is_added && add(response, "WWW-Authenticate", "Bearer");
    case MHD_HTTP_SERVICE_UNAVAILABLE: /* whole seconds, rounded up from a millisecond on */
        snprintf(seconds, sizeof seconds, "%llu",
                 (unsigned long long)DP_MAX(1, (h->wait_ns + 999000000u) / 1000000000u));
        return is_added && add(response, "Retry-After", seconds);
    default:
        return is_added;
    }
}

/* response NULL, or a header that found no memory: the connection is closed. */
static enum MHD_Result queue(struct MHD_Connection *connection, struct MHD_Response *response,
                             const head *h)
{
    enum MHD_Result result = MHD_NO;

    if (!response)
        return MHD_NO;
    if (add_headers(response, h))
        result = MHD_queue_response(connection, h->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result queue_empty(struct MHD_Connection *connection, const head *h)
{
    return queue(connection, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT), h);
}

static enum MHD_Result queue_status(struct MHD_Connection *connection, unsigned status)
{
    return queue_empty(connection, &(head){ .status = status });
}

static enum MHD_Result refuse(dp_range_server *server, struct MHD_Connection *connection,
                              uint64_t wait_ns)
{
    dp_mutex_lock(&server->lock);
    server->stats.refused++;
    dp_mutex_unlock(&server->lock);
    return queue_empty(connection,
                       &(head){ .status = MHD_HTTP_SERVICE_UNAVAILABLE, .wait_ns = wait_ns });
}

/* Whether the reply may go on with `amount` bytes; else *wait_ns says when. */
static bool may_send(dp_range_reply *reply, size_t amount, uint64_t *wait_ns, bool *is_leaving)
{
    dp_range_server *server = reply->server;
    uint64_t now = dp_clock_now_ns(server->clock);
    bool may;

    dp_mutex_lock(&server->lock);
    *is_leaving = reply->model->is_leaving;
    may =
        !*is_leaving && (!server->has_cap || dp_bucket_take(&server->upload, (double)amount, now));
    if (may)
        server->stats.bytes += amount;
    else
        *wait_ns = dp_bucket_wait_ns(&server->upload, (double)amount, now);
    dp_mutex_unlock(&server->lock);
    return may;
}

/* Makes `piece` the one in the buffer. A piece that has left since the response began is a
 * failure: the connection is closed, and the client asks somebody else for the rest. */
static dp_status load_piece(dp_range_reply *reply, uint32_t piece)
{
    dp_error err;
    dp_status st = DP_OK;

    if (reply->has_piece && reply->piece == piece)
        return DP_OK;
    reply->has_piece = false;
    st = dp_store_read(reply->file, piece, reply->buffer->bytes, &err);
    if (st) {
        DP_LOG_DEBUG("range", "absent piece=%u reason=\"%s\"", piece, err.text);
        return st;
    }
    reply->piece = piece;
    reply->has_piece = true;
    return DP_OK;
}

/* The content reader: bytes of the response from `position` on. */
static ssize_t read_bytes(void *user, uint64_t position, char *out, size_t max)
{
    dp_range_reply *reply = user;
    uint32_t piece_size = reply->model->layout->piece_size;
    uint64_t at = reply->first + position, in_piece = at % piece_size;
    size_t amount = (size_t)DP_MIN(max, piece_size - in_piece);
    uint64_t wait_ns = 0;
    bool is_leaving;

    if (!may_send(reply, amount, &wait_ns, &is_leaving))
        return !is_leaving && dp_guard_pause(reply->connection, wait_ns)
                   ? 0
                   : MHD_CONTENT_READER_END_WITH_ERROR;
    if (!reply->file) {
        memset(out, 0, amount);
        return (ssize_t)amount;
    }
    if (load_piece(reply, (uint32_t)(at / piece_size)))
        return MHD_CONTENT_READER_END_WITH_ERROR;
    memcpy(out, (const char *)reply->buffer->bytes + in_piece, amount);
    return (ssize_t)amount;
}

/* How many of the range's bytes are here before the first piece that is not. */
static uint64_t here_size(const dp_range_reply *reply, dp_pieces pieces, uint64_t size)
{
    uint32_t first, count = dp_pieces_of_range(pieces, reply->first, size, &first), n = 0;

    while (n < count && dp_store_has(reply->file, first + n))
        n++;
    if (n == count)
        return size;
    return n ? (uint64_t)(first + n) * pieces.piece_size - reply->first : 0;
}

static enum MHD_Result say_absent(dp_range_server *server, struct MHD_Connection *connection)
{
    dp_mutex_lock(&server->lock);
    server->stats.absent++;
    dp_mutex_unlock(&server->lock);
    return queue_status(connection, MHD_HTTP_NOT_FOUND);
}

static uint64_t cap_wait_ns(dp_range_server *server, uint64_t size)
{
    uint64_t wait_ns = 0;

    dp_mutex_lock(&server->lock);
    if (server->has_cap)
        wait_ns = dp_bucket_wait_ns(&server->upload, (double)DP_MIN(size, DP_RANGE_BLOCK),
                                    dp_clock_now_ns(server->clock));
    dp_mutex_unlock(&server->lock);
    return wait_ns;
}

/* A response with bytes: it needs room under the cap, for its address, and a buffer. Its first
 * piece is read before its head: so one that turns out to be damaged is no broken answer. */
static enum MHD_Result send_bytes(dp_range_reply *reply, struct MHD_Connection *connection,
                                  const head *h)
{
    dp_range_server *server = reply->server;
    uint64_t wait_ns = cap_wait_ns(server, h->size);

    if (wait_ns || !dp_guard_take(reply->connection))
        return refuse(server, connection, wait_ns);
    if (reply->file) {
        reply->buffer = dp_range_server_take_buffer(server, reply->model->layout->piece_size);
        if (!reply->buffer)
            return refuse(server, connection, 0);
        if (load_piece(reply, (uint32_t)(h->first / reply->model->layout->piece_size)))
            return say_absent(server, connection);
    }
    return queue(connection,
                 MHD_create_response_from_callback(h->size, (size_t)DP_MIN(h->size, DP_RANGE_BLOCK),
                                                   read_bytes, reply, NULL),
                 h);
}

/* Of a HEAD nothing is read. */
static ssize_t read_nothing(void *user, uint64_t position, char *out, size_t max)
{
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

static const char *header_of(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static enum MHD_Result answer_file(dp_range_reply *reply, struct MHD_Connection *connection,
                                   const dp_range_name *name, bool is_head)
{
    dp_range_server *server = reply->server;
    head h = { .status = MHD_HTTP_OK, .total = name->size, .size = name->size };
    dp_pieces pieces = { name->size, reply->model->layout->piece_size };
    const char *range = NULL;

    if (!name->is_padding) {
        h.tag = reply->model->tags[name->file];
        reply->file = reply->model->files[name->file];
    }
    if (is_head)
        return queue(connection,
                     MHD_create_response_from_callback(name->size, 1, read_nothing, NULL, NULL),
                     &h);
    if (dp_range_if_stands(header_of(connection, "If-Range"), h.tag))
        range = header_of(connection, "Range");
    switch (dp_range_parse(range, name->size, &h.first, &h.size)) {
    case DP_RANGE_BAD:
        h.status = MHD_HTTP_RANGE_NOT_SATISFIABLE;
        return queue_empty(connection, &h);
    case DP_RANGE_PART:
        h.status = MHD_HTTP_PARTIAL_CONTENT;
        break;
    case DP_RANGE_WHOLE:
        break;
    }
    reply->first = h.first;
    if (h.size == 0)
        return queue_empty(connection, &h);
    if (reply->file) {
        uint64_t size = here_size(reply, pieces, h.size);

        if (size == 0 || (size < h.size && h.status == MHD_HTTP_OK))
            return say_absent(server, connection);
        h.size = size;
    }
    return send_bytes(reply, connection, &h);
}

static enum MHD_Result answer_path(dp_range_reply *reply, struct MHD_Connection *connection,
                                   const char *target, bool is_head)
{
    dp_range_path path;
    dp_range_name name;

    switch (dp_range_path_parse(&path, target)) {
    case DP_OK:
        break;
    case DP_E_INVALID:
        return queue_status(connection, MHD_HTTP_BAD_REQUEST);
    default:
        return queue_status(connection, MHD_HTTP_NOT_FOUND);
    }
    if (!dp_range_server_enter(reply->server, path.key, reply) ||
        !dp_range_find(&name, reply->model->layout, path.path))
        return queue_status(connection, MHD_HTTP_NOT_FOUND);
    return answer_file(reply, connection, &name, is_head);
}

static enum MHD_Result answer(dp_range_reply *reply, struct MHD_Connection *connection,
                              const char *target, const char *method)
{
    dp_range_server *server = reply->server;

    if (reply->wait_ns)
        return refuse(server, connection, reply->wait_ns);
    if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0) /* browsers ask without a token */
        return queue_status(connection, MHD_HTTP_NO_CONTENT);
    if (server->token &&
        !dp_range_is_authorized(header_of(connection, "Authorization"), server->token))
        return queue_status(connection, MHD_HTTP_UNAUTHORIZED);
    return answer_path(reply, connection, target, strcmp(method, MHD_HTTP_METHOD_HEAD) == 0);
}

/* Answered as soon as the header is there, which makes libmicrohttpd close the connection
 * after it: methods that may have a body, and bodies. They are never read. */
static unsigned status_at_once(struct MHD_Connection *connection, const char *method)
{
    const char *length = header_of(connection, "Content-Length");

    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0 &&
        strcmp(method, MHD_HTTP_METHOD_OPTIONS) != 0)
        return MHD_HTTP_METHOD_NOT_ALLOWED;
    if (header_of(connection, "Transfer-Encoding") || (length && strcmp(length, "0") != 0))
        return MHD_HTTP_BAD_REQUEST;
    return 0;
}

enum MHD_Result dp_range_reply_answer(void *user, struct MHD_Connection *connection,
                                      const char *url, const char *method, const char *version,
                                      const char *upload, size_t *upload_size, void **context)
{
    dp_range_server *server = user;
    dp_range_reply *reply = *context;
    dp_guard_connection *c = NULL;
    unsigned status;

    /* The second call: the request is whole, keep-alive holds. */
    if (reply)
        return *upload_size ? MHD_NO : answer(reply, connection, url, method);

    c = dp_guard_of(connection);
    reply = c ? dp_alloc_zero(1, sizeof *reply) : NULL;
    if (!reply)
        return MHD_NO;
    reply->server = server;
    reply->connection = c;
    reply->wait_ns = dp_guard_begin(c);
    *context = reply;
    dp_mutex_lock(&server->lock);
    server->stats.requests++;
    dp_mutex_unlock(&server->lock);
    status = status_at_once(connection, method);
    return status ? queue_status(connection, status) : MHD_YES;
}

void dp_range_reply_completed(void *user, struct MHD_Connection *connection, void **context,
                              enum MHD_RequestTerminationCode code)
{
    dp_range_reply *reply = *context;

    if (!reply)
        return;
    dp_guard_end(reply->connection);
    dp_range_server_leave(reply->server, reply);
    dp_free(reply);
    *context = NULL;
}
