/* The public face of what the store keeps: programs see no layer below the api. */
#include "doppler/cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "store/store.h"

_Static_assert(DP_CACHE_KEY_MAX == DP_STORE_KEY_MAX && DP_CACHE_NAME_MAX == DP_STORE_NAME_MAX &&
                   DP_CACHE_ORIGIN_MAX == DP_STORE_ORIGIN_MAX,
               "texts fit");

static void to_public(dp_cache_entry *out, const dp_store_entry *in)
{
    *out = (dp_cache_entry){ .file_bytes = in->file_size,
                             .used_bytes = in->used_bytes,
                             .piece_size = in->piece_size,
                             .pieces = in->pieces,
                             .present = in->present,
                             .bad = in->bad,
                             .used_unix = in->used_unix,
                             .is_open = in->is_open };
    memcpy(out->key, in->key, sizeof out->key);
    memcpy(out->name, in->name, sizeof out->name);
    memcpy(out->origin, in->origin, sizeof out->origin);
}

static int by_key_and_name(const void *a, const void *b)
{
    const dp_cache_entry *x = a, *y = b;
    int order = strcmp(x->key, y->key);

    return order ? order : strcmp(x->name, y->name);
}

dp_status dp_cache_list(const char *folder, dp_cache_entry **out, size_t *count, dp_error *err)
{
    dp_store_entry *found = NULL;
    dp_status st = dp_store_list(folder, &found, count, err);

    *out = NULL;
    if (st == DP_E_NOTFOUND) {
        *count = 0;
        st = DP_OK;
    }
    if (st)
        goto done;
    *out = dp_alloc(*count, sizeof **out);
    if (!*out) {
        st = dp_fail(err, DP_E_NOMEM, "%s: no memory for a list of %zu files", folder, *count);
        goto done;
    }
    for (size_t i = 0; i < *count; i++)
        to_public(&(*out)[i], &found[i]);
    qsort(*out, *count, sizeof **out, by_key_and_name);
done:
    if (st)
        *count = 0;
    dp_free(found);
    return st;
}

void dp_cache_free(dp_cache_entry *entries)
{
    dp_free(entries);
}

dp_status dp_cache_verify(const char *folder, dp_cache_entry *entry, dp_error *err)
{
    dp_store_entry *at = dp_alloc_zero(1, sizeof *at);
    dp_status st;

    if (!at)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory to look at %s", folder, entry->name);
    memcpy(at->key, entry->key, sizeof at->key);
    memcpy(at->name, entry->name, sizeof at->name);
    memcpy(at->origin, entry->origin, sizeof at->origin);
    at->file_size = entry->file_bytes;
    at->used_bytes = entry->used_bytes;
    at->piece_size = entry->piece_size;
    at->pieces = entry->pieces;
    at->present = entry->present;
    at->used_unix = entry->used_unix;
    at->is_open = entry->is_open;
    st = dp_store_verify(folder, at, err);
    if (!st)
        to_public(entry, at);
    dp_free(at);
    return st;
}

dp_status dp_cache_evict(const char *folder, const char *key, uint64_t bytes, uint64_t *freed,
                         dp_error *err)
{
    *freed = 0;
    return dp_store_evict(folder, key, bytes, freed, err);
}

dp_status dp_cache_remove(const char *folder, const char *key, dp_error *err)
{
    return dp_store_remove(folder, key, err);
}
