#include "base/map.h"

#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#define COUNT_MAX    ((uint32_t)1 << 28) /* far above any vocabulary, and capacity fits 32 bits */
#define CAPACITY_MIN 8

/* Zeroed entries are free: value_plus_1 is 0 in no used one, because DP_MAP_NONE
 * is no value. Keys are never removed, so a probe ends at the first free entry. */
struct dp_map_str_entry {
    dp_str key;
    uint32_t hash;
    uint32_t value_plus_1;
};

struct dp_map_u64_entry {
    uint64_t key;
    uint32_t value_plus_1;
};

/* The finisher of splitmix64: every bit of x reaches every bit of the result. */
uint64_t dp_hash_u64(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Eight bytes at a time; the size goes in first, so that the zeros that fill the
 * last word do not make "a" and "a\0" the same. */
uint64_t dp_hash_bytes(const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    uint64_t hash = dp_hash_u64(size + 0x9e3779b97f4a7c15u);

    while (size > 0) {
        size_t part = DP_MIN(size, sizeof(uint64_t));
        uint64_t word = 0;

        memcpy(&word, at, part);
        hash = dp_hash_u64(hash ^ word) + 0x9e3779b97f4a7c15u;
        at += part;
        size -= part;
    }
    return hash;
}

static bool is_full(uint32_t count, uint32_t capacity)
{
    return (uint64_t)count * 4 >= (uint64_t)capacity * 3;
}

/* The least power of two that holds count keys and is not full. */
static uint32_t capacity_for(uint32_t count)
{
    uint32_t capacity = CAPACITY_MIN;

    while (is_full(count, capacity))
        capacity *= 2;
    return capacity;
}

/* Where key is, or the free entry where it belongs. */
static struct dp_map_str_entry *find_str(const dp_map_str *map, dp_str key, uint32_t hash)
{
    uint32_t mask = map->capacity - 1;
    uint32_t at = hash & mask;

    while (map->entries[at].value_plus_1 &&
           (map->entries[at].hash != hash || !dp_str_equal(map->entries[at].key, key)))
        at = (at + 1) & mask;
    return &map->entries[at];
}

static dp_status resize_str(dp_map_str *map, uint32_t capacity)
{
    dp_map_str bigger = { NULL, capacity, map->count };

    bigger.entries = dp_alloc_zero(capacity, sizeof *bigger.entries);
    if (!bigger.entries)
        return DP_E_NOMEM;
    for (uint32_t i = 0; i < map->capacity; i++) {
        const struct dp_map_str_entry *entry = &map->entries[i];
        if (entry->value_plus_1)
            *find_str(&bigger, entry->key, entry->hash) = *entry;
    }
    dp_free(map->entries);
    *map = bigger;
    return DP_OK;
}

dp_status dp_map_str_init(dp_map_str *map, uint32_t count_hint)
{
    *map = (dp_map_str){ 0 };
    if (count_hint > COUNT_MAX)
        return DP_E_LIMIT;
    return count_hint ? resize_str(map, capacity_for(count_hint)) : DP_OK;
}

void dp_map_str_deinit(dp_map_str *map)
{
    dp_free(map->entries);
    *map = (dp_map_str){ 0 };
}

dp_status dp_map_str_add(dp_map_str *map, dp_str key, uint32_t value, uint32_t *previous)
{
    uint32_t hash = (uint32_t)dp_hash_bytes(key.bytes, key.size);
    struct dp_map_str_entry *entry = map->capacity ? find_str(map, key, hash) : NULL;

    DP_ASSERT(value != DP_MAP_NONE);
    if (previous)
        *previous = entry ? entry->value_plus_1 - 1 : DP_MAP_NONE;
    if (entry && entry->value_plus_1)
        return DP_OK;
    if (map->count >= COUNT_MAX)
        return DP_E_LIMIT;
    if (is_full(map->count + 1, map->capacity)) {
        dp_status st = resize_str(map, capacity_for(map->count + 1));
        if (st)
            return st;
        entry = find_str(map, key, hash);
    }
    *entry = (struct dp_map_str_entry){ key, hash, value + 1 };
    map->count++;
    return DP_OK;
}

uint32_t dp_map_str_get(const dp_map_str *map, dp_str key)
{
    if (!map->capacity)
        return DP_MAP_NONE;
    return find_str(map, key, (uint32_t)dp_hash_bytes(key.bytes, key.size))->value_plus_1 - 1;
}

static struct dp_map_u64_entry *find_u64(const dp_map_u64 *map, uint64_t key)
{
    uint32_t mask = map->capacity - 1;
    uint32_t at = (uint32_t)dp_hash_u64(key) & mask;

    while (map->entries[at].value_plus_1 && map->entries[at].key != key)
        at = (at + 1) & mask;
    return &map->entries[at];
}

static dp_status resize_u64(dp_map_u64 *map, uint32_t capacity)
{
    dp_map_u64 bigger = { NULL, capacity, map->count };

    bigger.entries = dp_alloc_zero(capacity, sizeof *bigger.entries);
    if (!bigger.entries)
        return DP_E_NOMEM;
    for (uint32_t i = 0; i < map->capacity; i++)
        if (map->entries[i].value_plus_1)
            *find_u64(&bigger, map->entries[i].key) = map->entries[i];
    dp_free(map->entries);
    *map = bigger;
    return DP_OK;
}

dp_status dp_map_u64_init(dp_map_u64 *map, uint32_t count_hint)
{
    *map = (dp_map_u64){ 0 };
    if (count_hint > COUNT_MAX)
        return DP_E_LIMIT;
    return count_hint ? resize_u64(map, capacity_for(count_hint)) : DP_OK;
}

void dp_map_u64_deinit(dp_map_u64 *map)
{
    dp_free(map->entries);
    *map = (dp_map_u64){ 0 };
}

dp_status dp_map_u64_add(dp_map_u64 *map, uint64_t key, uint32_t value, uint32_t *previous)
{
    struct dp_map_u64_entry *entry = map->capacity ? find_u64(map, key) : NULL;

    DP_ASSERT(value != DP_MAP_NONE);
    if (previous)
        *previous = entry ? entry->value_plus_1 - 1 : DP_MAP_NONE;
    if (entry && entry->value_plus_1)
        return DP_OK;
    if (map->count >= COUNT_MAX)
        return DP_E_LIMIT;
    if (is_full(map->count + 1, map->capacity)) {
        dp_status st = resize_u64(map, capacity_for(map->count + 1));
        if (st)
            return st;
        entry = find_u64(map, key);
    }
    *entry = (struct dp_map_u64_entry){ key, value + 1 };
    map->count++;
    return DP_OK;
}

uint32_t dp_map_u64_get(const dp_map_u64 *map, uint64_t key)
{
    return map->capacity ? find_u64(map, key)->value_plus_1 - 1 : DP_MAP_NONE;
}
