#include "engine/pins.h"

#include "model/step.h"

#define AHEAD_LEAST 3 /* attention and feed-forward of the next layer, and one under way */

static uint32_t gcd(uint32_t a, uint32_t b)
{
    return b ? gcd(b, a % b) : a;
}

/* Strides of about 0.618 of a round spread any number of choices evenly; a stride
 * without a common divisor visits all. */
static uint32_t stride_of(uint32_t count)
{
    uint32_t stride = (uint32_t)(0.6180339887 * count) | 1;

    while (gcd(stride, count) != 1)
        stride += 2;
    return stride;
}

/* Place of page i in the order in which pages are chosen to stay. */
static uint32_t rank_of(const dp_pins *pins, uint32_t i)
{
    uint32_t count = pins->count - pins->last_first;

    return i >= count ? i - count
                      : pins->last_first + (uint32_t)((uint64_t)i * pins->stride % count);
}

bool dp_pins_has(const dp_pins *pins, uint32_t i)
{
    return rank_of(pins, i) < pins->kept;
}

/* Most bytes of ahead + 1 neighbours among the pages that pass, over the end of the
 * order as well. */
static uint64_t window_of(const dp_pins *pins, const uint64_t *bytes, uint32_t ahead)
{
    uint32_t passing = pins->count - pins->kept;
    uint32_t length = DP_MIN(ahead + 1, passing);
    uint64_t sum = 0, most = 0;
    uint32_t head = 0, tail = 0, held = 0; /* pages of the window: the passing of [tail, head) */

    for (uint32_t slid = 0; length && slid < passing + length; slid++, head++) {
        while (dp_pins_has(pins, head % pins->count))
            head++;
        sum += bytes[head % pins->count];
        if (++held > length) {
            while (dp_pins_has(pins, tail % pins->count))
                tail++;
            sum -= bytes[tail++ % pins->count];
            held--;
        }
        most = DP_MAX(most, sum);
    }
    return most;
}

/* The largest page that may be asked for beside the order. */
static uint64_t beside(const dp_pins *pins, const dp_pins_request *r)
{
    uint64_t most = r->other_bytes;

    if (pins->kept < pins->last_first)
        for (uint32_t i = r->count - r->last_first; i < r->count; i++)
            most = DP_MAX(most, r->bytes[i]);
    return most;
}

/* Gives pages up, last chosen first, until window and kept pages fit. */
static void fit(dp_pins *pins, const dp_pins_request *r, uint32_t ahead)
{
    pins->ahead = ahead;
    pins->kept = r->count;
    pins->kept_bytes = 0;
    for (uint32_t i = 0; i < r->count; i++)
        pins->kept_bytes += r->bytes[i];
    for (;;) {
        pins->window_bytes = window_of(pins, r->bytes, ahead) + beside(pins, r);
        if (pins->kept == 0 || pins->kept_bytes + pins->window_bytes <= r->slot_bytes)
            return;
        pins->kept--;
        for (uint32_t i = 0; i < r->count; i++)
            if (rank_of(pins, i) == pins->kept)
                pins->kept_bytes -= r->bytes[i];
    }
}

void dp_pins_choose(dp_pins *out, const dp_pins_request *r)
{
    *out = (dp_pins){ .count = r->count, .last_first = r->last_first };
    out->stride = stride_of(r->count - r->last_first);
    fit(out, r, 0);
    if (out->kept == r->count || !r->streams)
        return;
    for (uint32_t ahead = 1; ahead <= DP_AHEAD_MAX; ahead++) {
        dp_pins longer = *out;

        fit(&longer, r, ahead);
        if (longer.window_bytes > r->slot_bytes / (ahead < AHEAD_LEAST ? 1 : 4))
            break;
        *out = longer;
        if (ahead >= AHEAD_LEAST && longer.window_bytes >= DP_WINDOW_BYTES)
            break;
    }
}
