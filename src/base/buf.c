#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define CAPACITY_MIN 64

void dp_buf_init(dp_buf *buf, size_t size_max)
{
    *buf = (dp_buf){ .size_max = size_max };
}

void dp_buf_deinit(dp_buf *buf)
{
    dp_free(buf->bytes);
    *buf = (dp_buf){ .size_max = buf->size_max };
}

void dp_buf_reset(dp_buf *buf)
{
    buf->size = 0;
    if (buf->bytes)
        buf->bytes[0] = 0;
}

/* capacity does not count the NUL: the block has one byte more. */
dp_status dp_buf_reserve(dp_buf *buf, size_t more)
{
    uint64_t wanted;
    size_t capacity;
    char *bytes;

    if (!dp_u64_add(buf->size, more, &wanted) || wanted > buf->size_max || wanted == SIZE_MAX)
        return DP_E_LIMIT;
    if (buf->bytes && wanted <= buf->capacity)
        return DP_OK;

    /* Doubling keeps the cost of n appends linear. */
    capacity = buf->capacity > SIZE_MAX / 2 ? SIZE_MAX - 1 : buf->capacity * 2;
    capacity = DP_MAX(capacity, CAPACITY_MIN);
    capacity = DP_MAX(capacity, (size_t)wanted);
    capacity = DP_MIN(capacity, buf->size_max);
    bytes = dp_realloc(buf->bytes, 1, capacity + 1);
    if (!bytes)
        return DP_E_NOMEM;
    bytes[buf->size] = 0;
    buf->bytes = bytes;
    buf->capacity = capacity;
    return DP_OK;
}

dp_status dp_buf_append(dp_buf *buf, const void *bytes, size_t size)
{
    dp_status st = dp_buf_reserve(buf, size);

    if (st)
        return st;
    if (size)
        memcpy(buf->bytes + buf->size, bytes, size);
    buf->size += size;
    buf->bytes[buf->size] = 0;
    return DP_OK;
}

dp_status dp_buf_text(dp_buf *buf, const char *text)
{
    return dp_buf_append(buf, text, strlen(text));
}

dp_status dp_buf_format(dp_buf *buf, const char *format, ...)
{
    dp_status st;
    va_list args;
    int size;

    va_start(args, format);
    size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (size < 0)
        return DP_E_INVALID;
    st = dp_buf_reserve(buf, (size_t)size);
    if (st)
        return st;
    va_start(args, format);
    vsnprintf(buf->bytes + buf->size, (size_t)size + 1, format, args);
    va_end(args);
    buf->size += (size_t)size;
    return DP_OK;
}
