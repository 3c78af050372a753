#include "swarm/range_request.h"

#include <string.h>
#include <strings.h>
#include "base/str.h"
#include "swarm/percent.h"

/* Bytes of the target up to `end` (or the end of the path) into out[max + 1]; too long
 * ones are counted, not kept. */
static dp_status take_until(const char **at, char end, char *out, size_t max)
{
    size_t size = 0;

    while (**at && **at != '?' && **at != '#' && **at != end) {
        char c;

        if (!dp_percent_next(at, &c) || !c) /* a NUL would end the name early */
            return DP_E_INVALID;
        if (size < max)
            out[size] = c;
        size++;
    }
    out[DP_MIN(size, max)] = '\0';
    return size > 0 && size <= max ? DP_OK : DP_E_NOTFOUND;
}

dp_status dp_range_path_parse(dp_range_path *out, const char *target)
{
    dp_status key, path = DP_E_NOTFOUND;

    out->key[0] = out->path[0] = '\0';
    if (*target != '/')
        return DP_E_INVALID;
    target++;
    key = take_until(&target, '/', out->key, DP_STORE_KEY_MAX);
    if (*target == '/') {
        target++;
        path = take_until(&target, '\0', out->path, DP_RANGE_PATH_MAX);
    }
    return key == DP_E_INVALID || path == DP_E_INVALID ? DP_E_INVALID : DP_MAX(key, path);
}

static bool find_exactly(dp_range_name *out, const dp_layout *layout, const char *path)
{
    *out = (dp_range_name){ .is_padding = true };
    if (strncmp(path, ".pad/", 5) == 0)
        return dp_parse_u64(dp_str_from(path + 5), &out->size) && out->size < layout->piece_size;
    for (uint32_t i = 0; i < layout->file_count; i++) {
        if (strcmp(layout->files[i].path, path) == 0) {
            *out = (dp_range_name){ false, i, layout->files[i].pieces.file_size };
            return true;
        }
    }
    return false;
}

bool dp_range_find(dp_range_name *out, const dp_layout *layout, const char *path)
{
    const char *slash = strchr(path, '/');

    return find_exactly(out, layout, path) || (slash && find_exactly(out, layout, slash + 1));
}

static const char *skip_space(const char *at)
{
    while (*at == ' ' || *at == '\t')
        at++;
    return at;
}

/* Digits at *at; none is false. A number that does not fit is as good as the largest. */
static bool take_number(const char **at, uint64_t *out)
{
    const char *start = *at;

    *out = 0;
    while (**at >= '0' && **at <= '9') {
        uint64_t digit = (uint64_t)(*(*at)++ - '0');

        if (!dp_u64_mul(*out, 10, out) || !dp_u64_add(*out, digit, out))
            *out = UINT64_MAX;
    }
    return *at != start;
}

dp_range_kind dp_range_parse(const char *header, uint64_t file_size, uint64_t *first,
                             uint64_t *size)
{
    uint64_t from = 0, to = UINT64_MAX;
    bool has_from, has_to;
    const char *at = header ? skip_space(header) : NULL;

    *first = 0;
    *size = file_size;
    if (!at || strncasecmp(at, "bytes", 5) != 0)
        return DP_RANGE_WHOLE;
    at = skip_space(at + 5);
    if (*at != '=') /* some other unit that begins like this one */
        return DP_RANGE_WHOLE;
    at = skip_space(at + 1);
    has_from = take_number(&at, &from);
    if (*at++ != '-')
        return DP_RANGE_BAD;
    has_to = take_number(&at, &to);
    if (*skip_space(at) || (!has_from && !has_to)) /* a ',' and more ranges, too */
        return DP_RANGE_BAD;

    if (!has_from) { /* the last `to` bytes */
        from = to < file_size ? file_size - to : 0;
        to = UINT64_MAX;
    } else if (!has_to) {
        to = UINT64_MAX;
    }
    if (from > to || from >= file_size)
        return DP_RANGE_BAD;
    *first = from;
    *size = DP_MIN(to, file_size - 1) - from + 1;
    return DP_RANGE_PART;
}

bool dp_range_if_stands(const char *header, const char *tag)
{
    size_t size;

    if (!header)
        return true;
    header = skip_space(header);
    size = tag ? strlen(tag) : 0;
    return tag && strncmp(header, tag, size) == 0 && *skip_space(header + size) == '\0';
}

bool dp_range_is_authorized(const char *header, const char *token)
{
    size_t given, wanted = strlen(token);
    volatile unsigned char difference = 0; /* so that no compiler leaves the loop early */

    if (!header || strncasecmp(header, "Bearer ", 7) != 0)
        return false;
    header = skip_space(header + 7);
    given = strlen(header);
    for (size_t i = 0; i < given; i++) {
        unsigned char want = i < wanted ? (unsigned char)token[i] : 0;

        difference = difference | (unsigned char)((unsigned char)header[i] ^ want);
    }
    return given == wanted && wanted > 0 && difference == 0;
}
