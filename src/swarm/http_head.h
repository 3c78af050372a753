/* http_head.h - what the head of a response says about ranges and versions.
 *
 * Room     Lines in, facts out. Bytes from outside: what is malformed reads as absent, what is
 *          too long is not kept. A later response (after 100 or a redirect) starts afresh.
 *
 * Threads  One at a time.
 *
 * Source   RFC 9110: 8.8.2 Last-Modified, 8.8.3 ETag, 10.2.3 Retry-After, 14.4 Content-Range.
 */
#ifndef DP_SWARM_HTTP_HEAD_H
#define DP_SWARM_HTTP_HEAD_H

#include "base/base.h"

#define DP_HTTP_TAG_MAX 255

typedef struct dp_http_head {
    uint32_t status; /* 0: no status line yet */
    uint64_t size;   /* bytes of all lines, earlier responses included */
    bool has_range, has_length, has_total;
    uint64_t range_first, range_last; /* Content-Range: both included */
    uint64_t total;                   /* of the whole; the range may leave it open ("*") */
    uint64_t length;                  /* Content-Length */
    uint32_t retry_s;                 /* Retry-After in seconds; 0: none, or a date */
    char etag[DP_HTTP_TAG_MAX + 1];   /* with its quotes and W/; "" */
    char modified[DP_HTTP_TAG_MAX + 1];
} dp_http_head;

/* One line as it came, with or without its line end. */
void dp_http_head_line(dp_http_head *head, const char *line, size_t size);

/* What tells the version: ETag, else Last-Modified, else "". */
const char *dp_http_head_tag(const dp_http_head *head);
/* Whether a tag may be sent in If-Range: a strong ETag or a date. */
bool dp_http_tag_is_strong(const char *tag);

#endif
