/* Paths in a folder, and its keys: who has one locked. */
#include <stdio.h>
#include <string.h>

#include "base/folder.h"
#include "base/mem.h"
#include "base/status.h"
#include "store/store_impl.h"

char *dp_store_path(const char *folder, const char *key, const char *name, const char *suffix)
{
    size_t size = strlen(folder) + (key ? strlen(key) + 1 : 0) + (name ? strlen(name) + 1 : 0) +
                  strlen(suffix) + 1;
    char *path = dp_alloc(size, 1);

    if (path)
        snprintf(path, size, "%s%s%s%s%s%s", folder, key ? "/" : "", key ? key : "",
                 name ? "/" : "", name ? name : "", suffix);
    return path;
}

bool dp_store_key_is_valid(const char *key)
{
    size_t size = strlen(key);

    return size > 0 && size <= DP_STORE_KEY_MAX && strspn(key, "0123456789abcdef") == size;
}

static dp_store_key *find_key_locked(dp_store *store, const char *name)
{
    dp_store_key *key = store->keys;

    while (key && strcmp(key->name, name) != 0)
        key = key->next;
    return key;
}

/* Makes and locks FOLDER/KEY. Drives that fail give DP_E_IO, which is no reason to fail. */
static dp_status lock_key(int *lock, dp_store *store, const char *name, bool makes, dp_error *err)
{
    char *path = dp_store_path(store->folder, name, NULL, "");
    dp_status st = DP_OK;

    if (!path)
        return dp_fail(err, DP_E_NOMEM, "store: no memory for key %s", name);
    if (makes)
        st = dp_folder_make(path, err);
    if (!st)
        st = dp_folder_lock(lock, path, DP_STORE_LOCK_WAIT_MS, err);
    dp_free(path);
    return st;
}

dp_status dp_store_key_acquire(dp_store_key **out, dp_store *store, const char *name, dp_error *err)
{
    dp_store_key *key, *made = dp_alloc_zero(1, sizeof *made);
    bool is_writable;
    dp_status st = DP_OK;

    if (!made)
        return dp_fail(err, DP_E_NOMEM, "store: no memory for key %s", name);
    dp_mutex_lock(&store->lock);
    while (store->is_thinning) /* it holds the lock of a key that nobody has open */
        dp_cond_wait(&store->idle, &store->lock);
    key = find_key_locked(store, name);
    if (key)
        key->file_count++;
    is_writable = store->is_writable;
    if (!key) { /* linked before it is locked, so that no eviction takes it for closed */
        key = made;
        made = NULL;
        snprintf(key->name, sizeof key->name, "%s", name);
        key->lock = -1;
        key->file_count = 1;
        key->next = store->keys;
        store->keys = key;
        for (size_t i = 0; i < store->closed_count; i++) {
            if (strcmp(store->closed[i].key, name) == 0)
                store->closed[i].is_busy = true;
        }
    }
    dp_mutex_unlock(&store->lock);
    dp_free(made);
    *out = key;
    if (key->lock < 0)
        st = lock_key(&key->lock, store, name, is_writable, err);
    return st;
}

void dp_store_key_release(dp_store *store, dp_store_key *key)
{
    dp_store_key **at;

    if (!key)
        return;
    dp_mutex_lock(&store->lock);
    if (--key->file_count > 0)
        key = NULL;
    for (at = &store->keys; key && *at; at = &(*at)->next) {
        if (*at == key) {
            *at = key->next;
            break;
        }
    }
    store->looked_ns = 0; /* a closed key now: the next look finds it */
    dp_mutex_unlock(&store->lock);
    if (!key)
        return;
    dp_folder_unlock(key->lock);
    dp_free(key);
}
