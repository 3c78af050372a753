#include "swarm/http_head.h"

#include "testing/check.h"

#define NONE UINT64_MAX

static const struct {
    const char *lines;
    uint32_t status;
    uint64_t first, last, total, length; /* NONE: not told */
    uint32_t retry_s;
    const char *tag;
} rows[] = {
    { "HTTP/1.1 206 Partial Content\nContent-Range: bytes 0-499/1234\nContent-Length: 500\n", 206,
      0, 499, 1234, 500, 0, "" },
    { "HTTP/2 206 \ncontent-range: bytes 5-5/*\n", 206, 5, 5, NONE, NONE, 0, "" },
    { "HTTP/1.1 206\ncontent-range:\tBYTES  7-9 / 10 \n", 206, 7, 9, 10, NONE, 0, "" },
    { "HTTP/1.1 416 No\nContent-Range: bytes */1234\n", 416, NONE, NONE, 1234, NONE, 0, "" },
    /* not ranges */
    { "HTTP/1.1 206 P\nContent-Range: bytes 9-3/10\n", 206, NONE, NONE, NONE, NONE, 0, "" },
    { "HTTP/1.1 206 P\nContent-Range: bytes 0-10/10\n", 206, NONE, NONE, NONE, NONE, 0, "" },
    { "HTTP/1.1 206 P\nContent-Range: bytes 0-9\n", 206, NONE, NONE, NONE, NONE, 0, "" },
    { "HTTP/1.1 206 P\nContent-Range: bytes -9/10\n", 206, NONE, NONE, NONE, NONE, 0, "" },
    { "HTTP/1.1 206 P\nContent-Range: bytes 0x1-9/10\n", 206, NONE, NONE, NONE, NONE, 0, "" },
    { "HTTP/1.1 206 P\nContent-Range: pieces 0-9/10\n", 206, NONE, NONE, NONE, NONE, 0, "" },
    { "HTTP/1.1 206 P\nContent-Range: bytes 0-18446744073709551616/*\n", 206, NONE, NONE, NONE,
      NONE, 0, "" },
    { "HTTP/1.1 206 P\nContent-Range: bytes 0-9/99999999999999999999\n", 206, NONE, NONE, NONE,
      NONE, 0, "" },
    /* said twice: the last one */
    { "HTTP/1.1 206 P\nContent-Range: bytes 0-4/10\nContent-Range: junk\n", 206, NONE, NONE, NONE,
      NONE, 0, "" },
    /* a later response starts afresh */
    { "HTTP/1.1 302 F\nETag: \"a\"\nContent-Length: 3\nHTTP/1.1 200 OK\n", 200, NONE, NONE, NONE,
      NONE, 0, "" },
    { "HTTP/1.1 999 X\n", 0, NONE, NONE, NONE, NONE, 0, "" },
    { "HTTP/1.1\n", 0, NONE, NONE, NONE, NONE, 0, "" },
    { "HTTP/1.1 503 Later\nRetry-After: 17\n", 503, NONE, NONE, NONE, NONE, 17, "" },
    { "HTTP/1.1 503 Later\nRetry-After: 99999999999\n", 503, NONE, NONE, NONE, NONE, 86400, "" },
    { "HTTP/1.1 503 Later\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\n", 503, NONE, NONE, NONE,
      NONE, 0, "" },
    /* versions */
    { "HTTP/1.1 200 OK\nETag: \"x-1\"\nLast-Modified: today\n", 200, NONE, NONE, NONE, NONE, 0,
      "\"x-1\"" },
    { "HTTP/1.1 200 OK\nlast-modified:today\n", 200, NONE, NONE, NONE, NONE, 0, "today" },
    { "HTTP/1.1 200 OK\nETag: \"\001\"\n", 200, NONE, NONE, NONE, NONE, 0, "" },
    { "HTTP/1.1 200 OK\nContent-Length: -3\nno colon\n:\n\n", 200, NONE, NONE, NONE, NONE, 0, "" },
};

static void test_rows(void **state)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dp_http_head head = { 0 };
        const char *line = rows[i].lines;

        for (size_t size; *line; line += size) {
            size = strcspn(line, "\n") + 1;
            dp_http_head_line(&head, line, size);
        }
        CHECK(head.status == rows[i].status, "row %zu: status %u", i, head.status);
        CHECK(head.size == strlen(rows[i].lines), "row %zu: size", i);
        CHECK(head.has_range == (rows[i].first != NONE) &&
                  (!head.has_range ||
                   (head.range_first == rows[i].first && head.range_last == rows[i].last)),
              "row %zu: range", i);
        CHECK(head.has_total == (rows[i].total != NONE) &&
                  (!head.has_total || head.total == rows[i].total),
              "row %zu: total", i);
        CHECK(head.has_length == (rows[i].length != NONE) &&
                  (!head.has_length || head.length == rows[i].length),
              "row %zu: length", i);
        CHECK(head.retry_s == rows[i].retry_s, "row %zu: retry %u", i, head.retry_s);
        CHECK(strcmp(dp_http_head_tag(&head), rows[i].tag) == 0, "row %zu: tag %s", i,
              dp_http_head_tag(&head));
    }
}

static void test_long_tag(void **state)
{
    for (size_t size = DP_HTTP_TAG_MAX - 1; size <= DP_HTTP_TAG_MAX + 1; size++) {
        dp_http_head head = { 0 };
        char line[DP_HTTP_TAG_MAX + 32] = "ETag: ";

        memset(line + 6, 'e', size);
        dp_http_head_line(&head, line, 6 + size);
        CHECK(strlen(head.etag) == (size <= DP_HTTP_TAG_MAX ? size : 0), "%zu bytes", size);
    }
}

static void test_strong(void **state)
{
    CHECK(dp_http_tag_is_strong("\"a\""), "strong");
    CHECK(dp_http_tag_is_strong("Tue, 15 Nov 1994 12:45:26 GMT"), "a date");
    CHECK(!dp_http_tag_is_strong("W/\"a\""), "weak");
    CHECK(!dp_http_tag_is_strong(""), "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_long_tag),
        cmocka_unit_test(test_strong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
