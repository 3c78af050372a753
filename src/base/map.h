/* map.h - open-addressing tables: bytes -> u32 and u64 -> u32.
 *
 * Keys of a dp_map_str are borrowed: they must outlive the map. Built once,
 * then read by any number of threads; the load factor stays below 3/4.
 */
#ifndef DP_BASE_MAP_H
#define DP_BASE_MAP_H

#include "base/str.h"
#include "doppler/status.h"

#define DP_MAP_NONE UINT32_MAX /* not a value: what a failed lookup returns */

uint64_t dp_hash_bytes(const void *bytes, size_t size); /* table hash, not for security */
uint64_t dp_hash_u64(uint64_t x);

typedef struct dp_map_str {
    struct dp_map_str_entry *entries;
    uint32_t capacity; /* power of two, 0 while empty */
    uint32_t count;
} dp_map_str;

/* Room for count_hint keys without growing. DP_E_NOMEM, DP_E_LIMIT. */
dp_status dp_map_str_init(dp_map_str *map, uint32_t count_hint);
void dp_map_str_deinit(dp_map_str *map);
/* Adds key -> value. *previous (may be NULL) is what it had, DP_MAP_NONE if it
 * is new; an existing key keeps its value. DP_E_NOMEM. */
dp_status dp_map_str_add(dp_map_str *map, dp_str key, uint32_t value, uint32_t *previous);
uint32_t dp_map_str_get(const dp_map_str *map, dp_str key);

typedef struct dp_map_u64 {
    struct dp_map_u64_entry *entries;
    uint32_t capacity;
    uint32_t count;
} dp_map_u64;

dp_status dp_map_u64_init(dp_map_u64 *map, uint32_t count_hint);
void dp_map_u64_deinit(dp_map_u64 *map);
dp_status dp_map_u64_add(dp_map_u64 *map, uint64_t key, uint32_t value, uint32_t *previous);
uint32_t dp_map_u64_get(const dp_map_u64 *map, uint64_t key);

#endif
