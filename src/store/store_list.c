/* A folder as a person sees it: what is in it, whether it is still right, and less of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file_rw.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/status.h"
#include "store/store_impl.h"

/* ---- listing ---- */

typedef struct listing {
    dp_store_entry *entries;
    size_t count, capacity;
} listing;

static void count_piece(void *user, uint32_t piece, const dp_presence_record *record)
{
    dp_store_entry *entry = user;

    entry->present += record->state == DP_PRESENCE_HERE;
}

/* What the map says; of one that is damaged its bytes alone are known. */
static dp_status describe_map(dp_store_entry *entry, const char *map_path, dp_error *err)
{
    dp_presence_head head;
    dp_file map;
    dp_status st = dp_file_open(&map, map_path, false, err);

    if (!st)
        st = dp_presence_head_read(&head, &map, map_path, err);
    if (!st) {
        entry->file_size = head.pieces.file_size;
        entry->piece_size = head.pieces.piece_size;
        entry->pieces = dp_pieces_count(head.pieces);
        memcpy(entry->origin, head.origin, sizeof entry->origin);
        st = dp_presence_walk(&map, map_path, &head, count_piece, entry, err);
    }
    dp_file_close(&map);
    return st == DP_E_NOMEM ? st : DP_OK;
}

static dp_status add_entry(listing *list, const char *folder, const char *key,
                           const dp_folder_entry *map, bool is_open, dp_error *err)
{
    size_t size = strlen(map->name) - strlen(DP_PRESENCE_SUFFIX);
    dp_store_entry *entry;
    char *path, *map_path;
    dp_folder_entry mirror;
    dp_status st = DP_OK;

    if (list->count == DP_STORE_ENTRIES_MAX)
        return dp_fail(err, DP_E_LIMIT, "%s: more than %d files", folder, DP_STORE_ENTRIES_MAX);
    if (list->count == list->capacity) {
        size_t wanted = list->capacity ? list->capacity * 2 : 16;
        dp_store_entry *grown = dp_realloc(list->entries, wanted, sizeof *grown);

        if (!grown)
            return dp_fail(err, DP_E_NOMEM, "store: no memory for %zu files", wanted);
        list->entries = grown;
        list->capacity = wanted;
    }
    entry = &list->entries[list->count];
    memset(entry, 0, sizeof *entry);
    snprintf(entry->key, sizeof entry->key, "%s", key);
    snprintf(entry->name, sizeof entry->name, "%.*s", (int)size, map->name);
    entry->is_open = is_open;
    entry->used_unix = map->changed_unix;
    entry->used_bytes = map->used_bytes;
    path = dp_store_path(folder, key, entry->name, "");
    map_path = dp_store_path(folder, key, map->name, "");
    if (!path || !map_path)
        st = dp_fail(err, DP_E_NOMEM, "store: no memory for %s", entry->name);
    else
        st = describe_map(entry, map_path, err);
    if (!st && dp_folder_look(&mirror, path, NULL) == DP_OK)
        entry->used_bytes += mirror.used_bytes;
    dp_free(path);
    dp_free(map_path);
    list->count += !st;
    return st;
}

static dp_status list_key(listing *list, const char *folder, const char *key, dp_error *err)
{
    char *path = dp_store_path(folder, key, NULL, "");
    dp_folder_entry *entries = NULL;
    size_t count = 0;
    int lock = -1;
    dp_status st, held;

    if (!path)
        return dp_fail(err, DP_E_NOMEM, "store: no memory for key %s", key);
    held = dp_folder_lock(&lock, path, 0, NULL);
    dp_folder_unlock(lock); /* at once: whoever opens it now is right */
    st = dp_folder_list(&entries, &count, path, DP_STORE_ENTRIES_MAX, err);
    if (st == DP_E_NOTFOUND) /* removed meanwhile */
        st = DP_OK;
    for (size_t i = 0; i < count && !st; i++) {
        if (entries[i].is_file && dp_store_is_map(entries[i].name))
            st = add_entry(list, folder, key, &entries[i], held == DP_E_BUSY, err);
    }
    dp_free(entries);
    dp_free(path);
    return st;
}

dp_status dp_store_list(const char *folder, dp_store_entry **out, size_t *count, dp_error *err)
{
    dp_folder_entry *entries = NULL;
    size_t entry_count = 0;
    listing list = { NULL, 0, 0 };
    dp_status st = dp_folder_list(&entries, &entry_count, folder, DP_STORE_ENTRIES_MAX, err);

    *out = NULL;
    *count = 0;
    for (size_t i = 0; i < entry_count && !st; i++) {
        if (entries[i].is_folder && dp_store_key_is_valid(entries[i].name))
            st = list_key(&list, folder, entries[i].name, err);
    }
    dp_free(entries);
    if (st) {
        dp_free(list.entries);
        return st;
    }
    *out = list.entries;
    *count = list.count;
    return DP_OK;
}

/* ---- verifying ---- */

typedef struct verifying {
    dp_store_closed_file file;
    dp_store_entry *entry;
    void *bytes;
    dp_error *err;
    dp_status st;
} verifying;

/* A bad piece is dropped as an eviction would. */
static void verify_piece(void *user, uint32_t piece, const dp_presence_record *record)
{
    verifying *v = user;
    dp_pieces pieces = v->file.head.pieces;
    dp_hash hash;

    if (record->state != DP_PRESENCE_HERE || v->st)
        return;
    v->st = dp_file_read(&v->file.mirror, v->file.path, (uint64_t)piece * pieces.piece_size,
                         v->bytes, dp_pieces_size(pieces, piece), v->err);
    if (!v->st)
        v->st = dp_piece_hash(&hash, pieces, piece, v->bytes, v->err);
    if (!v->st && dp_hash_equal(&hash, &record->hash)) {
        v->entry->present++;
        return;
    }
    if (v->st && v->st != DP_E_IO && v->st != DP_E_CORRUPT)
        return;
    v->entry->bad++;
    v->st = dp_store_closed_empty(&v->file, piece, v->err);
    if (v->st == DP_E_UNSUPPORTED)
        v->st = DP_OK; /* it keeps its room, but nobody takes it for good */
}

static dp_status verify_file(dp_store_entry *entry, const char *folder, dp_error *err)
{
    verifying v = { .entry = entry, .err = err };
    char name[DP_STORE_NAME_MAX + sizeof DP_PRESENCE_SUFFIX];
    dp_status st;

    snprintf(name, sizeof name, "%s%s", entry->name, DP_PRESENCE_SUFFIX);
    entry->present = entry->bad = 0;
    st = dp_store_closed_open(&v.file, folder, entry->key, name, err);
    if (!st && !v.file.is_good)
        st = dp_fail(err, DP_E_CORRUPT, "%s: is no map of pieces", v.file.map_path);
    if (!st) {
        v.bytes = dp_alloc(v.file.head.pieces.piece_size, 1);
        if (!v.bytes)
            st = dp_fail(err, DP_E_NOMEM, "store: no memory for a piece of %s", entry->name);
    }
    if (!st)
        st = dp_presence_walk(&v.file.map, v.file.map_path, &v.file.head, verify_piece, &v, err);
    if (!st)
        st = v.st;
    if (!st)
        entry->used_bytes = dp_store_closed_used(&v.file);
    dp_free(v.bytes);
    dp_store_closed_close(&v.file);
    return st;
}

/* FOLDER/KEY, locked for this process alone. */
static dp_status hold_key(int *lock, const char *folder, const char *key, dp_error *err)
{
    char *path;
    dp_status st;

    *lock = -1;
    if (!dp_store_key_is_valid(key))
        return dp_fail(err, DP_E_INVALID, "store: \"%.80s\" is no key: 1 to %d hex digits", key,
                       DP_STORE_KEY_MAX);
    path = dp_store_path(folder, key, NULL, "");
    if (!path)
        return dp_fail(err, DP_E_NOMEM, "store: no memory for key %s", key);
    st = dp_folder_lock(lock, path, DP_STORE_LOCK_WAIT_MS, err);
    dp_free(path);
    return st;
}

dp_status dp_store_verify(const char *folder, dp_store_entry *entry, dp_error *err)
{
    int lock;
    dp_status st = hold_key(&lock, folder, entry->key, err);

    if (!st)
        st = verify_file(entry, folder, err);
    dp_folder_unlock(lock);
    return st;
}

/* ---- less of it ---- */

static int compare_used(const void *a, const void *b)
{
    int64_t x = ((const dp_store_closed *)a)->used_unix;
    int64_t y = ((const dp_store_closed *)b)->used_unix;

    return x < y ? -1 : x > y;
}

dp_status dp_store_evict(const char *folder, const char *key, uint64_t bytes, uint64_t *freed,
                         dp_error *err)
{
    dp_folder_ability ability;
    dp_store_closed *keys = NULL;
    size_t count = 0;
    uint64_t other, more;
    dp_status st;

    *freed = 0;
    if (key && !dp_store_key_is_valid(key))
        return dp_fail(err, DP_E_INVALID, "store: \"%.80s\" is no key: 1 to %d hex digits", key,
                       DP_STORE_KEY_MAX);
    st = dp_folder_try(&ability, folder, err);
    if (!st && key)
        return dp_store_thin(folder, key, bytes, ability.can_punch, DP_STORE_LOCK_WAIT_MS, freed,
                             err);
    if (!st)
        st = dp_store_survey(&keys, &count, &other, folder, NULL, NULL, err);
    if (!st && count)
        qsort(keys, count, sizeof *keys, compare_used);
    for (size_t i = 0; i < count && !st && *freed < bytes; i++) {
        st = dp_store_thin(folder, keys[i].key, bytes - *freed, ability.can_punch, 0, &more, err);
        *freed += more;
        if (st == DP_E_BUSY || st == DP_E_NOTFOUND)
            st = DP_OK; /* open elsewhere, or gone */
    }
    dp_free(keys);
    return st;
}

dp_status dp_store_remove(const char *folder, const char *key, dp_error *err)
{
    uint64_t freed = 0;
    int lock;
    dp_status st = hold_key(&lock, folder, key, err);

    if (!st)
        st = dp_store_remove_folder(folder, key, &freed, err);
    dp_folder_unlock(lock);
    return st;
}
