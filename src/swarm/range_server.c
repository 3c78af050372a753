#include "swarm/range_server_impl.h"

#include <string.h>
#include "base/mem.h"
#include "base/status.h"

#define THREADS       4 /* a slow read holds back a quarter of the connections */
#define HEADER_NS     10000000000u
#define PROGRESS_NS   30000000000u /* 8.7 kB/s at least, or the client gives its place up */
#define PROGRESS      ((uint64_t)256 << 10)
#define IDLE_S        7200
#define CONNECTIONS   256
#define OF_ADDRESS    32
#define REQUESTS_S    200
#define RESPONSES_MAX (DP_RANGE_BUFFERS / 2) /* of one address: nobody has all the buffers */

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value ? value : otherwise;
}

static dp_status open_http(dp_range_server *server, const dp_range_server_config *config,
                           dp_error *err)
{
    dp_http_daemon_config http = {
        .listen = config->listen,
        .wants_bbr = true,
        .tls_certificate = config->tls_certificate,
        .tls_key = config->tls_key,
        .threads = THREADS,
        .guard = { .connections_max = or_default(config->connections_max, CONNECTIONS),
                   .per_address = { or_default(config->connections_per_address, OF_ADDRESS),
                                    RESPONSES_MAX,
                                    or_default(config->requests_s_per_address, REQUESTS_S) },
                   .header_ns = HEADER_NS,
                   .idle_ns = (uint64_t)or_default(config->idle_s, IDLE_S) * 1000000000u,
                   .progress_bytes = PROGRESS,
                   .progress_ns = PROGRESS_NS,
                   .clock = config->clock },
        .answer = dp_range_reply_answer,
        .completed = dp_range_reply_completed,
        .user = server,
    };

    if (http.guard.connections_max > DP_RANGE_CONNECTIONS_MAX)
        return dp_fail(err, DP_E_LIMIT, "%s: %u connections, at most %d", config->listen,
                       http.guard.connections_max, DP_RANGE_CONNECTIONS_MAX);
    return dp_http_daemon_open(&server->http, &http, err);
}

dp_status dp_range_server_open(dp_range_server **out, const dp_range_server_config *config,
                               dp_error *err)
{
    dp_range_server *server = dp_alloc_zero(1, sizeof *server);
    dp_status st = DP_OK;

    *out = NULL;
    if (!server)
        return dp_fail(err, DP_E_NOMEM, "a range server at %s", config->listen);
    dp_mutex_init(&server->lock);
    dp_cond_init(&server->changed);
    server->clock = config->clock;
    server->is_tls = config->tls_key != NULL;
    server->has_cap = config->upload_bytes_s > 0;
    dp_bucket_init(&server->upload, (double)config->upload_bytes_s,
                   (double)DP_MAX(config->upload_bytes_s, DP_RANGE_BLOCK),
                   dp_clock_now_ns(config->clock));
    if (config->token) {
        server->token = dp_strndup(config->token, strlen(config->token));
        if (!server->token) {
            st = dp_fail(err, DP_E_NOMEM, "a range server at %s", config->listen);
            goto done;
        }
    }
    st = open_http(server, config, err);
    if (st)
        goto done;

    *out = server;
    server = NULL;
done:
    dp_range_server_close(server);
    return st;
}

static void close_model(dp_range_model *model)
{
    if (model)
        dp_free(model->tags);
    dp_free(model);
}

void dp_range_server_close(dp_range_server *server)
{
    if (!server)
        return;
    dp_http_daemon_close(server->http);
    for (size_t i = 0; i < DP_RANGE_MODELS_MAX; i++)
        close_model(server->models[i]);
    for (size_t i = 0; i < DP_RANGE_BUFFERS; i++)
        dp_free(server->buffers[i].bytes);
    dp_free(server->token);
    dp_cond_deinit(&server->changed);
    dp_mutex_deinit(&server->lock);
    dp_free(server);
}

uint16_t dp_range_server_port(const dp_range_server *server)
{
    return dp_http_daemon_port(server->http);
}

bool dp_range_server_is_tls(const dp_range_server *server)
{
    return server->is_tls;
}

/* A tag names the bytes of a file wherever it is: its root. */
static dp_status make_tags(dp_range_model *model, dp_error *err)
{
    const dp_layout *layout = model->layout;
    dp_status st = DP_OK;

    model->tags = dp_alloc_zero(layout->file_count, sizeof *model->tags);
    if (!model->tags)
        return dp_fail(err, DP_E_NOMEM, "tags of %u files", layout->file_count);
    for (uint32_t i = 0; i < layout->file_count && !st; i++) {
        const dp_layout_file *file = &layout->files[i];
        dp_hash root;

        if (!file->hashes || !file->pieces.file_size)
            continue;
        st = dp_file_root(&root, file->pieces, file->hashes, err);
        if (st)
            break;
        dp_hash_hex(model->tags[i] + 1, &root);
        model->tags[i][0] = model->tags[i][DP_RANGE_TAG_SIZE - 2] = '"';
        model->tags[i][DP_RANGE_TAG_SIZE - 1] = '\0';
    }
    return st;
}

/* Where the model called key is, or NULL. Caller holds the lock. */
static dp_range_model **find_locked(dp_range_server *server, const char *key)
{
    for (size_t i = 0; i < DP_RANGE_MODELS_MAX; i++) {
        if (server->models[i] && strcmp(server->models[i]->key, key) == 0)
            return &server->models[i];
    }
    return NULL;
}

static dp_status put_model(dp_range_server *server, dp_range_model *model, dp_error *err)
{
    dp_status st = DP_E_LIMIT;

    dp_mutex_lock(&server->lock);
    if (find_locked(server, model->key))
        st = DP_E_INVALID;
    for (size_t i = 0; i < DP_RANGE_MODELS_MAX && st == DP_E_LIMIT; i++) {
        if (!server->models[i]) {
            server->models[i] = model;
            st = DP_OK;
        }
    }
    dp_mutex_unlock(&server->lock);
    if (st == DP_E_INVALID)
        return dp_fail(err, st, "%s is served already", model->key);
    if (st)
        return dp_fail(err, st, "at most %d models are served", DP_RANGE_MODELS_MAX);
    return st;
}

dp_status dp_range_server_add(dp_range_server *server, const char *key, const dp_layout *layout,
                              dp_store_file *const *files, dp_error *err)
{
    size_t size = strlen(key);
    dp_range_model *model;
    dp_status st;

    if (size == 0 || size > DP_STORE_KEY_MAX)
        return dp_fail(err, DP_E_INVALID, "\"%s\": a key has 1 to %d characters", key,
                       DP_STORE_KEY_MAX);
    model = dp_alloc_zero(1, sizeof *model);
    if (!model)
        return dp_fail(err, DP_E_NOMEM, "a served model");
    memcpy(model->key, key, size);
    model->layout = layout;
    model->files = files;
    st = make_tags(model, err);
    if (!st)
        st = put_model(server, model, err);
    if (st)
        close_model(model);
    return st;
}

void dp_range_server_remove(dp_range_server *server, const char *key)
{
    dp_range_model **place, *model = NULL;

    dp_mutex_lock(&server->lock);
    place = find_locked(server, key);
    if (place) {
        model = *place;
        model->is_leaving = true;
        for (dp_range_reply *r = model->replies; r; r = r->next)
            dp_guard_cut(r->connection); /* (1); a client that does not read is no reason to wait */
        while (model->replies)
            dp_cond_wait(&server->changed, &server->lock);
        *place = NULL;
    }
    dp_mutex_unlock(&server->lock);
    close_model(model);
}

dp_range_model *dp_range_server_enter(dp_range_server *server, const char *key,
                                      dp_range_reply *reply)
{
    dp_range_model **place, *model = NULL;

    dp_mutex_lock(&server->lock);
    place = find_locked(server, key);
    if (place && !(*place)->is_leaving) {
        model = *place;
        reply->model = model;
        reply->next = model->replies;
        if (reply->next)
            reply->next->previous = reply;
        model->replies = reply;
    }
    dp_mutex_unlock(&server->lock);
    return model;
}

void dp_range_server_leave(dp_range_server *server, dp_range_reply *reply)
{
    dp_mutex_lock(&server->lock);
    if (reply->buffer)
        reply->buffer->is_used = false;
    if (reply->model) {
        if (reply->next)
            reply->next->previous = reply->previous;
        if (reply->previous)
            reply->previous->next = reply->next;
        else
            reply->model->replies = reply->next;
        dp_cond_broadcast(&server->changed);
    }
    dp_mutex_unlock(&server->lock);
}

/* Of those that are free, one that is large enough already, else any that is then made so. */
static dp_range_buffer *choose_buffer_locked(dp_range_server *server, size_t size)
{
    dp_range_buffer *chosen = NULL;

    for (size_t i = 0; i < DP_RANGE_BUFFERS; i++) {
        dp_range_buffer *buffer = &server->buffers[i];

        if (!buffer->is_used && (!chosen || (chosen->size < size && buffer->size >= size)))
            chosen = buffer;
    }
    return chosen;
}

dp_range_buffer *dp_range_server_take_buffer(dp_range_server *server, size_t size)
{
    dp_range_buffer *buffer;

    dp_mutex_lock(&server->lock);
    buffer = choose_buffer_locked(server, size);
    if (buffer && buffer->size < size) {
        dp_free(buffer->bytes);
        buffer->bytes = dp_alloc(size, 1);
        buffer->size = buffer->bytes ? size : 0;
        if (!buffer->bytes)
            buffer = NULL;
    }
    if (buffer)
        buffer->is_used = true; /* (2) */
    dp_mutex_unlock(&server->lock);
    return buffer;
}

void dp_range_server_stats_read(dp_range_server *server, dp_range_server_stats *out)
{
    dp_guard_stats guard;

    dp_guard_stats_read(dp_http_daemon_guard(server->http), &guard);
    dp_mutex_lock(&server->lock);
    *out = server->stats;
    dp_mutex_unlock(&server->lock);
    out->refused += guard.refused;
    out->connections = guard.connections;
    out->responses = guard.responses;
}
