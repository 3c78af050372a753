#include "tier/copies.h"

void dp_copy_sent(dp_copy *copy, uint64_t bytes, uint64_t now_ns)
{
    if (copy->flight_bytes == 0)
        copy->busy_begin_ns = now_ns;
    copy->flight_bytes += bytes;
}

void dp_copy_ended(dp_copy *copy, uint64_t bytes, bool is_there, uint64_t now_ns)
{
    copy->flight_bytes -= bytes;
    copy->busy_ns += (double)(now_ns - copy->busy_begin_ns);
    copy->busy_begin_ns = now_ns;
    copy->end_ns = now_ns;
    if (is_there)
        copy->bytes += (double)bytes;
    if (copy->bytes > DP_COPY_SEEN_MAX) {
        copy->bytes /= 2;
        copy->busy_ns /= 2;
    }
}

static bool is_known(const dp_copy *copy)
{
    return copy->bytes >= DP_COPY_SEEN_LEAST && copy->busy_ns > 0;
}

/* When the copy would have read what it was asked for, and `more`. */
static double end_ns(const dp_copy *copy, uint64_t more)
{
    return (double)(copy->flight_bytes + more) * copy->busy_ns / copy->bytes;
}

bool dp_copies_take(const dp_copy *copies, uint32_t count, uint32_t number, uint64_t bytes,
                    uint64_t waiting_bytes, uint64_t now_ns)
{
    const dp_copy *copy = &copies[number];

    if (copy->is_dead)
        return false;
    if (!is_known(copy) || (copy->flight_bytes == 0 && now_ns - copy->end_ns > DP_COPY_RETRY_NS))
        return true;
    for (uint32_t i = 0; i < count; i++)
        if (i != number && !copies[i].is_dead && is_known(&copies[i]) &&
            end_ns(&copies[i], waiting_bytes) < end_ns(copy, bytes))
            return false;
    return true;
}
