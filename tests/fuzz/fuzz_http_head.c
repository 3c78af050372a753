/* Any bytes as the head of a response, line by line. */
#include <string.h>

#include "base/assert.h"
#include "fuzz.h"
#include "swarm/http_head.h"

static void check_range(const dp_http_head *head)
{
    DP_CHECK(head->range_first <= head->range_last);
    DP_CHECK(!head->has_total || head->range_last < head->total);
}

static void check_tag(const char *tag)
{
    DP_CHECK(strlen(tag) <= DP_HTTP_TAG_MAX);
    for (; *tag; tag++)
        DP_CHECK(*tag >= 0x20 && *tag <= 0x7e); /* nothing that could end a header of ours */
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    dp_http_head head = { 0 }, once = { 0 };
    const uint8_t *at = bytes, *end = bytes + size;

    while (at < end) {
        const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
        size_t line = stop ? (size_t)(stop - at) + 1 : (size_t)(end - at);

        dp_http_head_line(&head, (const char *)at, line);
        at += line;
        DP_CHECK(head.status == 0 || (head.status >= 100 && head.status <= 599));
        if (head.has_range)
            check_range(&head);
        check_tag(head.etag);
        check_tag(head.modified);
    }
    DP_CHECK(head.size == size);
    /* All bytes as one line: whatever it is, it is bounded too. */
    dp_http_head_line(&once, (const char *)bytes, size);
    check_tag(dp_http_head_tag(&once));
    return 0;
}
