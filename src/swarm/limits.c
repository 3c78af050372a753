#include "swarm/limits.h"

#include <netinet/in.h>
#include <string.h>
#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

void dp_bucket_init(dp_bucket *bucket, double rate_s, double burst, uint64_t now_ns)
{
    *bucket = (dp_bucket){ rate_s, burst, burst, now_ns };
}

static void bucket_fill(dp_bucket *bucket, uint64_t now_ns)
{
    if (now_ns <= bucket->at_ns)
        return;
    bucket->level += (double)(now_ns - bucket->at_ns) * 1e-9 * bucket->rate_s;
    bucket->level = DP_MIN(bucket->level, bucket->burst);
    bucket->at_ns = now_ns;
}

bool dp_bucket_take(dp_bucket *bucket, double amount, uint64_t now_ns)
{
    bucket_fill(bucket, now_ns);
    if (bucket->level < amount)
        return false;
    bucket->level -= amount;
    return true;
}

uint64_t dp_bucket_wait_ns(dp_bucket *bucket, double amount, uint64_t now_ns)
{
    double wait_ns;

    bucket_fill(bucket, now_ns);
    if (bucket->level >= amount)
        return 0;
    wait_ns = (amount - bucket->level) / bucket->rate_s * 1e9;
    return wait_ns < 1e18 ? (uint64_t)wait_ns + 1000 : (uint64_t)1e18;
}

bool dp_address_from(dp_address *out, const struct sockaddr *from)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

    memset(out, 0, sizeof *out);
    if (from && from->sa_family == AF_INET) {
        memcpy(out->bytes, mapped, sizeof mapped);
        memcpy(out->bytes + 12, &((const struct sockaddr_in *)from)->sin_addr, 4);
        return true;
    }
    if (!from || from->sa_family != AF_INET6)
        return false;
    memcpy(out->bytes, &((const struct sockaddr_in6 *)from)->sin6_addr, 16);
    if (memcmp(out->bytes, mapped, sizeof mapped) != 0)
        memset(out->bytes + 8, 0, 8);
    return true;
}

typedef struct limits_entry {
    dp_address address;
    uint32_t connections, responses;
    uint64_t used_ns;
    dp_bucket requests;
} limits_entry;

struct dp_limits {
    dp_limits_config config;
    uint32_t count; /* entries that are or were used */
    limits_entry entries[DP_LIMITS_ADDRESSES_MAX];
};

dp_status dp_limits_open(dp_limits **out, const dp_limits_config *config, dp_error *err)
{
    dp_limits *limits = dp_alloc_zero(1, sizeof *limits);

    *out = limits;
    if (!limits)
        return dp_fail(err, DP_E_NOMEM, "limits: %d addresses", DP_LIMITS_ADDRESSES_MAX);
    limits->config = *config;
    return DP_OK;
}

void dp_limits_close(dp_limits *limits)
{
    dp_free(limits);
}

/* The entry of an address, else one to give it: a fresh one, or the one without connections
 * that was used longest ago. NULL: all are held. */
static limits_entry *find_entry(dp_limits *limits, const dp_address *address, bool *is_known)
{
    limits_entry *free_entry = NULL;

    *is_known = true;
    for (uint32_t i = 0; i < limits->count; i++) {
        limits_entry *entry = &limits->entries[i];

        if (memcmp(&entry->address, address, sizeof *address) == 0)
            return entry;
        if (!entry->connections && (!free_entry || entry->used_ns < free_entry->used_ns))
            free_entry = entry;
    }
    *is_known = false;
    if (limits->count < DP_LIMITS_ADDRESSES_MAX)
        return &limits->entries[limits->count++];
    return free_entry;
}

uint32_t dp_limits_enter(dp_limits *limits, const dp_address *address, uint64_t now_ns)
{
    bool is_known;
    limits_entry *entry = find_entry(limits, address, &is_known);

    if (!entry)
        return DP_LIMITS_NONE;
    if (!is_known) {
        *entry = (limits_entry){ .address = *address };
        dp_bucket_init(&entry->requests, limits->config.requests_s, limits->config.requests_s,
                       now_ns);
    }
    if (entry->connections >= limits->config.connections)
        return DP_LIMITS_NONE;
    entry->connections++;
    entry->used_ns = now_ns;
    return (uint32_t)(entry - limits->entries);
}

void dp_limits_leave(dp_limits *limits, uint32_t slot)
{
    DP_ASSERT(slot < limits->count && limits->entries[slot].connections > 0);
    limits->entries[slot].connections--;
}

uint64_t dp_limits_request(dp_limits *limits, uint32_t slot, uint64_t now_ns)
{
    limits_entry *entry = &limits->entries[slot];

    entry->used_ns = now_ns;
    if (dp_bucket_take(&entry->requests, 1, now_ns))
        return 0;
    return dp_bucket_wait_ns(&entry->requests, 1, now_ns);
}

bool dp_limits_begin(dp_limits *limits, uint32_t slot)
{
    if (limits->entries[slot].responses >= limits->config.responses)
        return false;
    limits->entries[slot].responses++;
    return true;
}

void dp_limits_end(dp_limits *limits, uint32_t slot)
{
    DP_ASSERT(limits->entries[slot].responses > 0);
    limits->entries[slot].responses--;
}
