/* http_fake.h - a web server that does as it is told, for tests: on 127.0.0.1, on threads.
 *
 * Every request takes the rules of the moment it came. What a rule says is done to the
 * response of a range; everything else is as a good server does it: 206 and keep-alive.
 */
#ifndef DP_SWARM_HTTP_FAKE_H
#define DP_SWARM_HTTP_FAKE_H

#include "base/base.h"

typedef struct http_fake http_fake;

typedef struct http_fake_file {
    const char *path; /* "/a/b" */
    const uint8_t *bytes;
    size_t size;
} http_fake_file;

typedef struct http_fake_rules {
    uint32_t status;      /* 0: as asked; else this, with a short page */
    uint32_t retry_s;     /* Retry-After beside it */
    const char *location; /* and Location */
    const char *etag;     /* with quotes; NULL: none. An If-Range that differs gives 200 */
    uint32_t delay_ms;    /* before each head: the round trip */
    uint32_t connect_ms;  /* before the first head of a connection */
    uint64_t bytes_s;     /* of all connections together; 0: no limit */
    uint64_t stall_at;    /* body bytes of a response after which nothing comes; 0: never ... */
    uint32_t stall_ms;    /* ... for so long; 0: for ever */
    bool is_silent;       /* no head either */
    uint64_t cut_at;      /* body bytes after which the connection is closed; 0: never */
    bool lies;            /* one byte of each 16 KiB is another */
    uint64_t lies_from;   /* ... from that byte of the file on */
    bool ignores_range;   /* 200 and everything */
    const char *range;    /* instead of the right Content-Range */
    uint32_t head_bytes;  /* of one more header */
    const char *need;     /* a header line without which the answer is 401 */
    uint64_t lacks_begin, lacks_end; /* 404 to ranges that begin there, others end before */
    uint64_t most;                   /* bytes of a range that are given; 0: all of it */
} http_fake_rules;

typedef struct http_fake_stats {
    uint32_t connections, requests, heads; /* heads: HEAD, not counted as requests */
    uint32_t broken;                       /* closed by the client in the middle */
    uint32_t live_max;                     /* connections at a time */
    uint64_t bytes;                        /* of bodies */
} http_fake_stats;

/* files [count] are borrowed while it is open; a failure aborts. */
http_fake *http_fake_open(const http_fake_file *files, size_t count, const http_fake_rules *rules);
void http_fake_close(http_fake *fake);
uint16_t http_fake_port(const http_fake *fake);
void http_fake_set(http_fake *fake, const http_fake_rules *rules);
http_fake_stats http_fake_stats_read(http_fake *fake);

#endif
