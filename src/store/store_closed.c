/* Keys that nobody has open: what they hold, and how their pieces leave. */
#include <stdio.h>
#include <string.h>

#include "base/file_rw.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/status.h"
#include "store/store_impl.h"

#define THIN_VICTIMS 16384 /* of one pass */

bool dp_store_is_map(const char *name)
{
    size_t size = strlen(name), suffix = strlen(DP_PRESENCE_SUFFIX);

    return size > suffix && size - suffix <= DP_STORE_NAME_MAX &&
           strcmp(name + size - suffix, DP_PRESENCE_SUFFIX) == 0;
}

static dp_status survey_key(dp_store_closed *out, const char *folder, const char *key,
                            bool (*skips)(void *user, const char *key, const char *name),
                            void *user, dp_error *err)
{
    char *path = dp_store_path(folder, key, NULL, "");
    dp_folder_entry *entries = NULL;
    size_t count = 0;
    dp_status st;

    *out = (dp_store_closed){ .used_bytes = 0 };
    snprintf(out->key, sizeof out->key, "%.*s", DP_STORE_KEY_MAX, key);
    if (!path)
        return dp_fail(err, DP_E_NOMEM, "store: no memory for key %s", key);
    st = dp_folder_list(&entries, &count, path, DP_STORE_ENTRIES_MAX, err);
    for (size_t i = 0; i < count; i++) {
        if (dp_store_is_map(entries[i].name))
            out->used_unix = DP_MAX(out->used_unix, entries[i].changed_unix);
        if (!skips || !skips(user, key, entries[i].name))
            out->used_bytes += entries[i].used_bytes;
    }
    dp_free(entries);
    dp_free(path);
    return st == DP_E_NOTFOUND ? DP_OK : st; /* removed meanwhile */
}

dp_status dp_store_survey(dp_store_closed **out, size_t *count, uint64_t *other_bytes,
                          const char *folder,
                          bool (*skips)(void *user, const char *key, const char *name), void *user,
                          dp_error *err)
{
    dp_folder_entry *entries = NULL, self;
    dp_store_closed *keys = NULL;
    size_t entry_count = 0, n = 0;
    dp_status st = dp_folder_look(&self, folder, err);

    *out = NULL;
    *count = 0;
    *other_bytes = self.used_bytes;
    if (!st)
        st = dp_folder_list(&entries, &entry_count, folder, DP_STORE_ENTRIES_MAX, err);
    if (st)
        return st;
    keys = dp_alloc(entry_count, sizeof *keys);
    if (!keys)
        st = dp_fail(err, DP_E_NOMEM, "store: no memory for %zu keys", entry_count);
    for (size_t i = 0; i < entry_count && !st; i++) {
        *other_bytes += entries[i].used_bytes;
        if (entries[i].is_folder && dp_store_key_is_valid(entries[i].name))
            st = survey_key(&keys[n++], folder, entries[i].name, skips, user, err);
    }
    dp_free(entries);
    if (st) {
        dp_free(keys);
        return st;
    }
    *out = keys;
    *count = n;
    return DP_OK;
}

/* ---- thinning ---- */

typedef struct offering {
    dp_store_closed_file *file;
    dp_evict_list *list;
} offering;

static void offer_piece(void *user, uint32_t piece, const dp_presence_record *record)
{
    offering *o = user;
    dp_evict_item item = { record->warmth, o->file, piece, (uint8_t)record->class_ };

    if (record->state != DP_PRESENCE_HERE)
        return;
    o->file->present++;
    dp_evict_offer(o->list, &item);
}

void dp_store_closed_close(dp_store_closed_file *f)
{
    dp_file_close(&f->mirror);
    dp_file_close(&f->map);
    dp_free(f->path);
    dp_free(f->map_path);
}

dp_status dp_store_closed_open(dp_store_closed_file *f, const char *folder, const char *key,
                               const char *map_name, dp_error *err)
{
    char name[DP_STORE_NAME_MAX + 1];
    dp_status st;

    *f = (dp_store_closed_file){ .mirror = { -1, -1, 0 }, .map = { -1, -1, 0 } };
    snprintf(name, sizeof name, "%.*s", (int)(strlen(map_name) - strlen(DP_PRESENCE_SUFFIX)),
             map_name);
    f->path = dp_store_path(folder, key, name, "");
    f->map_path = dp_store_path(folder, key, map_name, "");
    if (!f->path || !f->map_path)
        return dp_fail(err, DP_E_NOMEM, "store: no memory for %s", name);
    st = dp_file_rw_open(&f->mirror, f->path, err);
    if (!st)
        st = dp_file_rw_open(&f->map, f->map_path, err);
    if (!st)
        st = dp_presence_head_read(&f->head, &f->map, f->map_path, err);
    f->is_good = !st;
    return st == DP_E_CORRUPT ? DP_OK : st;
}

uint64_t dp_store_closed_used(const dp_store_closed_file *f)
{
    return dp_file_rw_used(&f->mirror) + dp_file_rw_used(&f->map);
}

/* As an eviction of an open file: the record first, then the hole. */
dp_status dp_store_closed_empty(dp_store_closed_file *f, uint32_t piece, dp_error *err)
{
    uint8_t bytes[DP_PRESENCE_RECORD_SIZE];
    dp_presence_record record;
    dp_status st =
        dp_file_read(&f->map, f->map_path, dp_presence_record_at(piece), bytes, sizeof bytes, err);

    if (st)
        return st;
    if (dp_presence_record_decode(&record, &f->head, piece, bytes)) {
        record.state = DP_PRESENCE_GONE;
        dp_presence_record_encode(bytes, &f->head, piece, &record);
        st = dp_file_rw_write(&f->map, f->map_path, dp_presence_record_at(piece), bytes,
                              sizeof bytes, err);
    }
    if (!st)
        st = dp_file_rw_punch(&f->mirror, f->path, (uint64_t)piece * f->head.pieces.piece_size,
                              f->head.pieces.piece_size, err);
    return st;
}

/* The map goes last: what a kill leaves behind is found by it. */
static dp_status remove_closed(dp_store_closed_file *f, dp_error *err)
{
    dp_status st = dp_folder_remove(f->path, err);

    return st ? st : dp_folder_remove(f->map_path, err);
}

/* One pass over the maps of a key. *is_empty: nothing is left in it. */
static dp_status thin_files(const char *folder, const char *key, dp_store_closed_file *files,
                            size_t count, uint64_t bytes, bool can_punch, dp_evict_list *list,
                            uint64_t *freed, bool *is_empty, dp_error *err)
{
    dp_status st = DP_OK;

    dp_evict_sort(list);
    for (uint32_t i = 0; can_punch && i < list->count && *freed < bytes && !st; i++) {
        dp_store_closed_file *f = list->items[i].owner;
        uint64_t before = dp_store_closed_used(f);

        st = dp_store_closed_empty(f, list->items[i].piece, err);
        f->present -= !st;
        *freed += before - DP_MIN(before, dp_store_closed_used(f));
    }
    for (size_t i = 0; i < count && !st; i++) {
        if (can_punch && files[i].is_good && files[i].present > 0) {
            *is_empty = false;
            continue;
        }
        *freed += dp_store_closed_used(&files[i]);
        st = remove_closed(&files[i], err);
    }
    return st;
}

dp_status dp_store_remove_folder(const char *folder, const char *key, uint64_t *freed,
                                 dp_error *err)
{
    char *path = dp_store_path(folder, key, NULL, "");
    dp_folder_entry *entries = NULL, self;
    size_t count = 0;
    dp_status st = path ? dp_folder_look(&self, path, err)
                        : dp_fail(err, DP_E_NOMEM, "store: no memory for key %s", key);

    if (!st)
        st = dp_folder_list(&entries, &count, path, DP_STORE_ENTRIES_MAX, err);
    for (size_t i = 0; i < count && !st; i++) {
        char *file = dp_store_path(folder, key, entries[i].name, "");

        st = file ? dp_folder_remove(file, err) : dp_fail(err, DP_E_NOMEM, "store: no memory");
        if (!st)
            *freed += entries[i].used_bytes;
        dp_free(file);
    }
    if (!st)
        st = dp_folder_remove(path, err);
    if (!st)
        *freed += self.used_bytes;
    dp_free(entries);
    dp_free(path);
    return st;
}

/* Once through the key, whose lock is held. */
static dp_status thin_pass(const char *folder, const char *key, const char *path, uint64_t bytes,
                           bool can_punch, uint64_t *freed, bool *is_empty, dp_error *err)
{
    dp_evict_list list = { dp_alloc(THIN_VICTIMS, sizeof *list.items), 0, THIN_VICTIMS, false };
    dp_folder_entry *entries = NULL;
    dp_store_closed_file *files = NULL;
    size_t entry_count = 0, count = 0;
    dp_status st = dp_folder_list(&entries, &entry_count, path, DP_STORE_ENTRIES_MAX, err);

    if (!st) {
        files = dp_alloc(entry_count, sizeof *files);
        if (!files || !list.items)
            st = dp_fail(err, DP_E_NOMEM, "store: no memory to thin out %s", path);
    }
    for (size_t i = 0; i < entry_count && !st; i++) {
        offering o = { &files[count], &list };

        if (!entries[i].is_file || !dp_store_is_map(entries[i].name))
            continue;
        count++;
        st = dp_store_closed_open(o.file, folder, key, entries[i].name, err);
        if (!st && o.file->is_good)
            st = dp_presence_walk(&o.file->map, o.file->map_path, &o.file->head, offer_piece, &o,
                                  err);
    }
    *is_empty = count > 0 || entry_count == 0; /* a folder without maps is not ours */
    if (!st)
        st = thin_files(folder, key, files, count, bytes, can_punch, &list, freed, is_empty, err);
    for (size_t i = 0; i < count; i++)
        dp_store_closed_close(&files[i]);
    dp_free(files);
    dp_free(entries);
    dp_free(list.items);
    return st;
}

dp_status dp_store_thin(const char *folder, const char *key, uint64_t bytes, bool can_punch,
                        uint32_t wait_ms, uint64_t *freed, dp_error *err)
{
    char *path = dp_store_path(folder, key, NULL, "");
    bool is_empty = false;
    uint64_t before;
    int lock = -1;
    dp_status st;

    *freed = 0;
    if (!path)
        return dp_fail(err, DP_E_NOMEM, "store: no memory for key %s", key);
    st = dp_folder_lock(&lock, path, wait_ms, err);
    do { /* a pass sees so many pieces; each frees something or is the last */
        before = *freed;
        if (!st)
            st = thin_pass(folder, key, path, bytes, can_punch, freed, &is_empty, err);
    } while (!st && !is_empty && before < *freed && *freed < bytes);
    if (!st && is_empty)
        st = dp_store_remove_folder(folder, key, freed, err);
    dp_folder_unlock(lock);
    dp_free(path);
    return st;
}
