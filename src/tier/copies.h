/* copies.h - drives that hold the same bytes: which of them reads the next request.
 *
 * Room     Each copy takes requests while it has room for one, so that a faster one takes
 *          more of them, in proportion to what it gives. But the last requests decide
 *          when a page is there: a copy leaves one alone when another would have read all
 *          that waits before this one had read that. Rates are measured as reads end,
 *          old ones fade; one that has rested for a while is tried again.
 *
 * Rest     At least one living copy takes any request: the one that would be through with
 *          all that waits first. It has room, or something under way that will end.
 *
 * Threads  The caller's lock. No I/O.
 */
#ifndef DP_TIER_COPIES_H
#define DP_TIER_COPIES_H

#include "base/base.h"

#define DP_COPIES_MAX      8
#define DP_COPY_SEEN_MAX   (256 * DP_MIB) /* bytes remembered, then all counts are halved */
#define DP_COPY_SEEN_LEAST (4 * DP_MIB)   /* before that a rate is not known */
#define DP_COPY_RETRY_NS   1000000000ull

typedef struct dp_copy {
    bool is_dead;                   /* a read failed: never asked again */
    uint64_t flight_bytes;          /* asked for and not here */
    uint64_t busy_begin_ns, end_ns; /* something is under way: since then; the last end */
    double bytes, busy_ns;          /* read, in so much time that something was under way; fading */
} dp_copy;

void dp_copy_sent(dp_copy *copy, uint64_t bytes, uint64_t now_ns);
/* bytes that were sent have come, or failed (is_there false). */
void dp_copy_ended(dp_copy *copy, uint64_t bytes, bool is_there, uint64_t now_ns);

/* Whether the copy of that number takes a request of `bytes`, one of the waiting_bytes. */
bool dp_copies_take(const dp_copy *copies, uint32_t count, uint32_t number, uint64_t bytes,
                    uint64_t waiting_bytes, uint64_t now_ns);

#endif
