#include "swarm/http_fake.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/thread.h"

#define CLIENTS_MAX   64
#define REQUEST_MAX   8192
#define SEND_SIZE     ((size_t)64 << 10)
#define SEND_SIZE_LOW ((size_t)4 << 10) /* of slow servers: bytes come evenly */

typedef struct client {
    http_fake *fake;
    pthread_t thread;
    int fd; /* -1: the slot is free or its thread has ended */
    bool has_thread;
} client;

struct http_fake {
    const http_fake_file *files;
    size_t file_count;
    int fd, stop[2]; /* stop[0] becomes readable when it is closed */
    uint16_t port;
    pthread_t acceptor; /* not base's: memory may be made to fail */

    dp_mutex lock;
    http_fake_rules rules;
    http_fake_stats stats;
    uint32_t live;
    uint64_t free_ns; /* when the line has sent all it was given */
    client clients[CLIENTS_MAX];
};

typedef struct ask {
    http_fake_rules rules;
    const http_fake_file *file;
    bool has_range, is_first;
    uint64_t first, last;
} ask;

/* False: closed, by the client (any input while it waits for bytes) or by the test. */
static bool wait_ms(const client *c, int64_t ms)
{
    uint64_t end = dp_clock_now_ns(&dp_clock_real) + (uint64_t)(ms < 0 ? 0 : ms) * 1000000;

    for (;;) {
        struct pollfd fds[] = { { c->fd, POLLRDHUP, 0 }, { c->fake->stop[0], POLLIN, 0 } };
        uint64_t now = dp_clock_now_ns(&dp_clock_real);
        int left = ms < 0 ? -1 : now >= end ? 0 : (int)((end - now + 999999) / 1000000);

        poll(fds, 2, left);
        if (fds[0].revents || fds[1].revents)
            return false;
        if (left == 0)
            return true;
    }
}

/* The line is shared: whoever sends gets its place behind what was sent before. */
static bool wait_turn(client *c, const ask *a, size_t size)
{
    http_fake *fake = c->fake;
    uint64_t now, at;

    if (a->rules.bytes_s == 0)
        return true;
    dp_mutex_lock(&fake->lock);
    now = dp_clock_now_ns(&dp_clock_real);
    at = DP_MAX(fake->free_ns, now);
    fake->free_ns = at + size * 1000000000 / a->rules.bytes_s;
    dp_mutex_unlock(&fake->lock);
    return at <= now || wait_ms(c, (int64_t)((at - now) / 1000000));
}

static bool send_all(client *c, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;

    while (size > 0) {
        struct pollfd fds[] = { { c->fd, POLLOUT, 0 }, { c->fake->stop[0], POLLIN, 0 } };
        ssize_t n = send(c->fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno != EAGAIN)
            return false;
        if (n > 0) {
            at += n;
            size -= (size_t)n;
            continue;
        }
        poll(fds, 2, -1);
        if (fds[1].revents)
            return false;
    }
    return true;
}

/* ---- requests ------------------------------------------------------------------------------ */

static const char *header_of(const char *request, const char *name)
{
    for (const char *line = strstr(request, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, strlen(name)) == 0)
            return line + 2 + strlen(name);
    }
    return NULL;
}

static void parse(http_fake *fake, ask *a, const char *request)
{
    const char *range = header_of(request, "Range: bytes="),
               *tag = header_of(request, "If-Range: ");
    const char *path = strchr(request, ' ');

    for (size_t i = 0; path && i < fake->file_count; i++) {
        size_t size = strlen(fake->files[i].path);

        if (strncmp(path + 1, fake->files[i].path, size) == 0 && path[1 + size] == ' ')
            a->file = &fake->files[i];
    }
    a->first = 0;
    a->last = a->file ? a->file->size - 1 : 0;
    if (range && a->file && sscanf(range, "%" SCNu64 "-%" SCNu64, &a->first, &a->last) == 2)
        a->has_range = a->first <= a->last && a->last < a->file->size;
    if (tag && (!a->rules.etag || strncmp(tag, a->rules.etag, strlen(a->rules.etag)) != 0))
        a->has_range = false;
    if (!a->has_range || a->rules.ignores_range) {
        a->has_range = false;
        a->first = 0;
        a->last = a->file ? a->file->size - 1 : 0;
    }
    if (a->rules.need && !strstr(request, a->rules.need))
        a->rules.status = 401;
    if (!a->file || (a->first >= a->rules.lacks_begin && a->first < a->rules.lacks_end))
        a->rules.status = 404;
    else if (a->first < a->rules.lacks_begin && a->last >= a->rules.lacks_begin && a->has_range)
        a->last = a->rules.lacks_begin - 1;
    if (a->rules.most && a->has_range)
        a->last = DP_MIN(a->last, a->first + a->rules.most - 1);
}

static bool send_page(client *c, const ask *a)
{
    char page[512];
    int size = snprintf(
        page, sizeof page, "HTTP/1.1 %u Said\r\nContent-Length: 5\r\n%s%.200s%s%s%.0u%s\r\npage\n",
        a->rules.status, a->rules.location ? "Location: " : "",
        a->rules.location ? a->rules.location : "", a->rules.location ? "\r\n" : "",
        a->rules.retry_s ? "Retry-After: " : "", a->rules.retry_s, a->rules.retry_s ? "\r\n" : "");

    return send_all(c, page, (size_t)size);
}

static bool send_head(client *c, const ask *a)
{
    char head[1024], *more;
    int size = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %" PRIu64 "\r\n",
                        a->has_range ? "206 Partial Content" : "200 OK", a->last - a->first + 1);
    bool is_sent;

    if (a->has_range && a->rules.range)
        size += snprintf(head + size, sizeof head - (size_t)size, "Content-Range: %s\r\n",
                         a->rules.range);
    else if (a->has_range)
        size += snprintf(head + size, sizeof head - (size_t)size,
                         "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%zu\r\n", a->first, a->last,
                         a->file->size);
    if (a->rules.etag)
        size += snprintf(head + size, sizeof head - (size_t)size, "ETag: %s\r\n", a->rules.etag);
    is_sent = send_all(c, head, (size_t)size);
    if (a->rules.head_bytes && is_sent) {
        more = calloc(1, a->rules.head_bytes + 16);
        memset(more, 'x', a->rules.head_bytes);
        memcpy(more, "X-More: ", 8);
        memcpy(more + a->rules.head_bytes, "\r\n", 2);
        is_sent = send_all(c, more, a->rules.head_bytes + 2);
        free(more);
    }
    return is_sent && send_all(c, "\r\n", 2);
}

static void spoil(const ask *a, uint8_t *bytes, uint64_t at, size_t size)
{
    for (size_t i = 0; i < size && a->rules.lies; i++) {
        if ((at + i) % 16384 == 77 && at + i >= a->rules.lies_from)
            bytes[i] ^= 1;
    }
}

static bool send_body(client *c, const ask *a)
{
    static _Thread_local uint8_t chunk[SEND_SIZE];
    uint64_t at = a->first, sent = 0;
    size_t step = a->rules.bytes_s && a->rules.bytes_s < 4000000 ? SEND_SIZE_LOW : SEND_SIZE;

    while (at <= a->last) {
        size_t n = (size_t)DP_MIN(a->last - at + 1, step);

        if (a->rules.stall_at > sent)
            n = (size_t)DP_MIN(n, a->rules.stall_at - sent);
        if (a->rules.cut_at > sent)
            n = (size_t)DP_MIN(n, a->rules.cut_at - sent);
        memcpy(chunk, a->file->bytes + at, n);
        spoil(a, chunk, at, n);
        if (!wait_turn(c, a, n) || !send_all(c, chunk, n))
            return false;
        at += n;
        sent += n;
        dp_mutex_lock(&c->fake->lock);
        c->fake->stats.bytes += n;
        dp_mutex_unlock(&c->fake->lock);
        if (sent == a->rules.cut_at)
            return false;
        if (sent == a->rules.stall_at &&
            !wait_ms(c, a->rules.stall_ms ? (int64_t)a->rules.stall_ms : -1))
            return false;
    }
    return true;
}

static bool answer(client *c, const char *request, bool is_first)
{
    ask a = { .is_first = is_first };
    bool is_sent, is_head = strncmp(request, "HEAD ", 5) == 0;

    dp_mutex_lock(&c->fake->lock);
    *(is_head ? &c->fake->stats.heads : &c->fake->stats.requests) += 1;
    a.rules = c->fake->rules;
    dp_mutex_unlock(&c->fake->lock);
    parse(c->fake, &a, request);
    if (a.rules.is_silent && !wait_ms(c, -1))
        return false;
    if (a.rules.delay_ms || (is_first && a.rules.connect_ms)) {
        if (!wait_ms(c, a.rules.delay_ms + (is_first ? a.rules.connect_ms : 0)))
            return false;
    }
    if (is_head)
        return send_all(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 38);
    is_sent = a.rules.status ? send_page(c, &a) : send_head(c, &a) && send_body(c, &a);
    if (!is_sent && a.rules.cut_at == 0) {
        dp_mutex_lock(&c->fake->lock);
        c->fake->stats.broken++;
        dp_mutex_unlock(&c->fake->lock);
    }
    return is_sent;
}

/* ---- connections ----------------------------------------------------------------------------- */

static bool read_request(client *c, char *request, size_t *size)
{
    while (!strstr(request, "\r\n\r\n")) {
        struct pollfd fds[] = { { c->fd, POLLIN, 0 }, { c->fake->stop[0], POLLIN, 0 } };
        ssize_t n;

        poll(fds, 2, -1);
        if (fds[1].revents)
            return false;
        n = recv(c->fd, request + *size, REQUEST_MAX - 1 - *size, 0);
        if (n <= 0)
            return false;
        *size += (size_t)n;
        request[*size] = '\0';
    }
    return true;
}

static void *client_main(void *user)
{
    client *c = user;
    char request[REQUEST_MAX] = "";
    size_t size = 0;
    bool is_first = true;

    while (read_request(c, request, &size) && answer(c, request, is_first)) {
        request[0] = '\0';
        size = 0;
        is_first = false;
    }
    dp_mutex_lock(&c->fake->lock);
    close(c->fd);
    c->fd = -1;
    c->fake->live--;
    dp_mutex_unlock(&c->fake->lock);
    return NULL;
}

static void add_client(http_fake *fake, int fd)
{
    client *c = fake->clients;
    int one = 1;

    dp_mutex_lock(&fake->lock);
    while (c < fake->clients + CLIENTS_MAX && c->fd >= 0)
        c++;
    DP_CHECK(c < fake->clients + CLIENTS_MAX);
    fake->stats.connections++;
    fake->live++;
    fake->stats.live_max = DP_MAX(fake->stats.live_max, fake->live);
    c->fd = fd;
    dp_mutex_unlock(&fake->lock);
    if (c->has_thread)
        pthread_join(c->thread, NULL);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->fake = fake;
    c->has_thread = pthread_create(&c->thread, NULL, client_main, c) == 0;
    DP_CHECK(c->has_thread);
}

static void *acceptor_main(void *user)
{
    http_fake *fake = user;

    for (;;) {
        struct pollfd fds[] = { { fake->fd, POLLIN, 0 }, { fake->stop[0], POLLIN, 0 } };
        int fd;

        poll(fds, 2, -1);
        if (fds[1].revents)
            return NULL;
        fd = accept4(fake->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            add_client(fake, fd);
    }
}

http_fake *http_fake_open(const http_fake_file *files, size_t count, const http_fake_rules *rules)
{
    http_fake *fake = calloc(1, sizeof *fake);
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof in;

    fake->files = files;
    fake->file_count = count;
    fake->rules = rules ? *rules : (http_fake_rules){ 0 };
    dp_mutex_init(&fake->lock);
    for (int i = 0; i < CLIENTS_MAX; i++)
        fake->clients[i].fd = -1;
    fake->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    DP_CHECK(fake->fd >= 0 && bind(fake->fd, (struct sockaddr *)&in, sizeof in) == 0 &&
             listen(fake->fd, 64) == 0 &&
             getsockname(fake->fd, (struct sockaddr *)&in, &size) == 0 && pipe(fake->stop) == 0);
    fake->port = ntohs(in.sin_port);
    DP_CHECK(pthread_create(&fake->acceptor, NULL, acceptor_main, fake) == 0);
    return fake;
}

void http_fake_close(http_fake *fake)
{
    if (!fake)
        return;
    close(fake->stop[1]); /* hangs up: everybody who waits sees it */
    pthread_join(fake->acceptor, NULL);
    for (int i = 0; i < CLIENTS_MAX; i++) {
        if (fake->clients[i].has_thread)
            pthread_join(fake->clients[i].thread, NULL);
    }
    close(fake->stop[0]);
    close(fake->fd);
    dp_mutex_deinit(&fake->lock);
    free(fake);
}

uint16_t http_fake_port(const http_fake *fake)
{
    return fake->port;
}

void http_fake_set(http_fake *fake, const http_fake_rules *rules)
{
    dp_mutex_lock(&fake->lock);
    fake->rules = *rules;
    dp_mutex_unlock(&fake->lock);
}

http_fake_stats http_fake_stats_read(http_fake *fake)
{
    http_fake_stats stats;

    dp_mutex_lock(&fake->lock);
    stats = fake->stats;
    dp_mutex_unlock(&fake->lock);
    return stats;
}
