/* limits.h - how much a server gives to one address, and to all of them.
 *
 * Room     Buckets of tokens, and a table of addresses with what each holds: connections,
 *          responses under way, a bucket of requests. The table is bounded: an entry without
 *          connections makes room for another address, and so an address that left may come
 *          back with a full bucket. Those that have connections are never forgotten.
 *
 * Address  IPv4 and IPv4 written as IPv6 are one; of IPv6 the first 64 bits count,
 *          because one household has that many addresses.
 *
 * Threads  The caller's lock. Time is a parameter and never goes backwards.
 */
#ifndef DP_SWARM_LIMITS_H
#define DP_SWARM_LIMITS_H

#include "base/base.h"
#include "doppler/status.h"

struct sockaddr;

/* rate_s tokens a second flow in, at most `burst` are kept. */
typedef struct dp_bucket {
    double rate_s, burst, level;
    uint64_t at_ns;
} dp_bucket;

void dp_bucket_init(dp_bucket *bucket, double rate_s, double burst, uint64_t now_ns); /* full */
/* False and nothing taken: there are fewer. */
bool dp_bucket_take(dp_bucket *bucket, double amount, uint64_t now_ns);
/* Until `amount` (at most burst) can be taken; 0: now. At least 1 us otherwise. */
uint64_t dp_bucket_wait_ns(dp_bucket *bucket, double amount, uint64_t now_ns);

typedef struct dp_address {
    uint8_t bytes[16]; /* IPv4 as ::ffff:a.b.c.d; of IPv6 the last 8 are 0 */
} dp_address;

/* False: neither IPv4 nor IPv6. */
bool dp_address_from(dp_address *out, const struct sockaddr *from);

#define DP_LIMITS_ADDRESSES_MAX 1024 /* a linear search, once a connection: 16 KiB to look at */
#define DP_LIMITS_NONE          UINT32_MAX

typedef struct dp_limits_config {
    uint32_t connections, responses; /* of one address, at a time */
    uint32_t requests_s;             /* of one address; as many at once */
} dp_limits_config;

typedef struct dp_limits dp_limits;

dp_status dp_limits_open(dp_limits **out, const dp_limits_config *config, dp_error *err);
void dp_limits_close(dp_limits *limits);

/* A connection of an address: its slot, valid until the leave, or DP_LIMITS_NONE: it has too many,
 * or every slot is held. */
uint32_t dp_limits_enter(dp_limits *limits, const dp_address *address, uint64_t now_ns);
void dp_limits_leave(dp_limits *limits, uint32_t slot);
/* 0: the request may be answered. Else after how long the next may be; nothing is counted. */
uint64_t dp_limits_request(dp_limits *limits, uint32_t slot, uint64_t now_ns);
/* One more response under way, until its end. False: there are too many. */
bool dp_limits_begin(dp_limits *limits, uint32_t slot);
void dp_limits_end(dp_limits *limits, uint32_t slot);

#endif
