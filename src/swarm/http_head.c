#include "swarm/http_head.h"

#include <string.h>
#include <strings.h>

#include "base/str.h"

static dp_str trim(dp_str s)
{
    while (s.size > 0 && strchr(" \t\r\n", s.bytes[s.size - 1]))
        s.size--;
    while (s.size > 0 && (s.bytes[0] == ' ' || s.bytes[0] == '\t')) {
        s.bytes++;
        s.size--;
    }
    return s;
}

/* What is before `separator`; *rest is what is behind it. False: it is not there. */
static bool split(dp_str *rest, dp_str *out, char separator)
{
    const char *at = rest->size ? memchr(rest->bytes, separator, rest->size) : NULL;

    if (!at)
        return false;
    *out = (dp_str){ rest->bytes, (size_t)(at - rest->bytes) };
    *rest = (dp_str){ at + 1, rest->size - out->size - 1 };
    return true;
}

static bool is_named(dp_str name, const char *want)
{
    return name.size == strlen(want) && strncasecmp(name.bytes, want, name.size) == 0;
}

/* "HTTP/1.1 206 Partial Content" */
static void read_status(dp_http_head *head, dp_str line)
{
    uint64_t size = head->size;
    dp_str version, code;
    uint64_t status;

    *head = (dp_http_head){ .size = size };
    if (!split(&line, &version, ' '))
        return;
    if (!split(&line, &code, ' '))
        code = line;
    if (dp_parse_u64(trim(code), &status) && status >= 100 && status <= 599)
        head->status = (uint32_t)status;
}

/* "bytes 0-499/1234"; the size may be a star, and of a 416 the range. */
static void read_range(dp_http_head *head, dp_str value)
{
    uint64_t first, last, total = 0;
    dp_str unit, range, from;
    bool is_open;

    if (!split(&value, &unit, ' ') || !is_named(unit, "bytes") || !split(&value, &range, '/'))
        return;
    is_open = dp_str_is(trim(value), "*");
    if (!is_open && !dp_parse_u64(trim(value), &total))
        return;
    range = trim(range);
    if (dp_str_is(range, "*")) {
        head->has_total = !is_open;
        head->total = total;
        return;
    }
    if (!split(&range, &from, '-') || !dp_parse_u64(from, &first) || !dp_parse_u64(range, &last))
        return;
    if (first > last || (!is_open && last >= total))
        return;
    head->has_range = true;
    head->range_first = first;
    head->range_last = last;
    head->has_total = !is_open;
    head->total = total;
}

/* Printable and not too long, as it goes back to the server in If-Range. */
static void read_tag(char out[DP_HTTP_TAG_MAX + 1], dp_str value)
{
    out[0] = '\0';
    if (value.size > DP_HTTP_TAG_MAX)
        return;
    for (size_t i = 0; i < value.size; i++) {
        if (value.bytes[i] < 0x20 || value.bytes[i] > 0x7e)
            return;
    }
    memcpy(out, value.bytes, value.size);
    out[value.size] = '\0';
}

void dp_http_head_line(dp_http_head *head, const char *line, size_t size)
{
    dp_str value = { line, size }, name;
    uint64_t number;

    head->size += size;
    if (size >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        read_status(head, trim(value));
        return;
    }
    if (!split(&value, &name, ':'))
        return;
    value = trim(value);
    if (is_named(name, "content-range")) {
        head->has_range = head->has_total = false; /* said twice: the last one counts */
        read_range(head, value);
    } else if (is_named(name, "content-length")) {
        head->has_length = dp_parse_u64(value, &head->length);
    } else if (is_named(name, "retry-after")) {
        head->retry_s = dp_parse_u64(value, &number) ? (uint32_t)DP_MIN(number, 86400) : 0;
    } else if (is_named(name, "etag")) {
        read_tag(head->etag, value);
    } else if (is_named(name, "last-modified")) {
        read_tag(head->modified, value);
    }
}

const char *dp_http_head_tag(const dp_http_head *head)
{
    return head->etag[0] ? head->etag : head->modified;
}

bool dp_http_tag_is_strong(const char *tag)
{
    return tag[0] && strncmp(tag, "W/", 2) != 0;
}
