/* range_server_impl.h - inside of the range server: models, buffers, responses under way.
 *
 * Invariants
 *   (1) A response that reads a model is in the model's list until it is completed, which
 *       libmicrohttpd tells before it closes the connection; so a listed response's connection
 *       may be cut.
 *   (2) A buffer belongs to one response, and there are DP_RANGE_BUFFERS.
 *
 * Threads  `lock` guards what is marked; it is taken before the guard's, and never held
 *          while a piece is read.
 */
#ifndef DP_SWARM_RANGE_SERVER_IMPL_H
#define DP_SWARM_RANGE_SERVER_IMPL_H

#include "base/thread.h"
#include "swarm/http_daemon.h"
#include "swarm/range_request.h"
#include "swarm/range_server.h"

#define DP_RANGE_TAG_SIZE (2 * DP_HASH_SIZE + 3) /* "\"hex\"" */

typedef struct dp_range_buffer {
    void *bytes;
    size_t size;
    bool is_used;
} dp_range_buffer;

typedef struct dp_range_model {
    char key[DP_STORE_KEY_MAX + 1];
    const dp_layout *layout;
    dp_store_file *const *files;
    char (*tags)[DP_RANGE_TAG_SIZE]; /* [file_count], "" where hashes are not known */
    struct dp_range_reply *replies;  /* under lock */
    bool is_leaving;                 /* under lock: no new replies, and the old ones fail */
} dp_range_model;

/* A request, from its header to the last byte of its response. */
typedef struct dp_range_reply {
    dp_range_server *server;
    dp_guard_connection *connection;
    struct dp_range_reply *previous, *next;
    dp_range_model *model;   /* NULL: none yet */
    dp_store_file *file;     /* NULL: padding */
    uint64_t first;          /* byte of the file that the response begins with */
    uint64_t wait_ns;        /* its address should wait */
    dp_range_buffer *buffer; /* NULL: none */
    uint32_t piece;          /* in the buffer */
    bool has_piece;
} dp_range_reply;

struct dp_range_server {
    dp_http_daemon *http;
    const dp_clock *clock;
    char *token; /* NULL: everybody */
    bool is_tls;
    dp_mutex lock;
    dp_cond changed;                             /* a reply ended */
    dp_range_model *models[DP_RANGE_MODELS_MAX]; /* under lock, as all below */
    dp_range_buffer buffers[DP_RANGE_BUFFERS];
    bool has_cap;
    dp_bucket upload;
    dp_range_server_stats stats;
};

/* Callbacks of the daemon: range_reply.c. */
enum MHD_Result dp_range_reply_answer(void *user, struct MHD_Connection *connection,
                                      const char *url, const char *method, const char *version,
                                      const char *upload, size_t *upload_size, void **context);
void dp_range_reply_completed(void *user, struct MHD_Connection *connection, void **context,
                              enum MHD_RequestTerminationCode code);

/* What replies hold, range_server.c. The model stays until the reply's end. */
dp_range_model *dp_range_server_enter(dp_range_server *server, const char *key,
                                      dp_range_reply *reply);
void dp_range_server_leave(dp_range_server *server, dp_range_reply *reply);
dp_range_buffer *dp_range_server_take_buffer(dp_range_server *server, size_t size);

#endif
