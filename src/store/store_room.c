/* Keeping to the budget: measuring, promising, evicting. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/file_rw.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/status.h"
#include "store/store_impl.h"

#define LOOK_NS       ((uint64_t)5000000000)
#define LOOK_BYTES    (64 * DP_MIB)
#define THIN_BYTES    (64 * DP_MIB) /* from a closed key at a time: its map is read each time */
#define FRUITLESS_MAX 256

/* ---- what others have in the folder ---- */

static bool has_key_locked(const dp_store *store, const char *name)
{
    for (const dp_store_key *key = store->keys; key; key = key->next) {
        if (strcmp(key->name, name) == 0)
            return true;
    }
    return false;
}

/* Whether FOLDER/key/name is mirror or map of a file that is open here. */
static bool is_own(void *user, const char *key, const char *name)
{
    dp_store *store = user;
    bool is = false;

    dp_mutex_lock(&store->lock);
    for (const dp_store_file *f = store->files; f && !is; f = f->next) {
        size_t size = strlen(f->name);

        is = f->key && strcmp(f->key->name, key) == 0 && strncmp(f->name, name, size) == 0 &&
             (name[size] == '\0' || strcmp(name + size, DP_PRESENCE_SUFFIX) == 0);
    }
    dp_mutex_unlock(&store->lock);
    return is;
}

static int compare_closed(const void *a, const void *b)
{
    int64_t x = ((const dp_store_closed *)a)->used_unix;
    int64_t y = ((const dp_store_closed *)b)->used_unix;

    return x < y ? -1 : x > y;
}

dp_status dp_store_look_locked(dp_store *store, dp_error *err)
{
    uint64_t foreign = 0, before = store->foreign_bytes;
    bool is_due = store->looked_ns != 0; /* not because we opened or closed something */
    dp_store_closed *keys = NULL;
    size_t count = 0, kept = 0;
    dp_status st;

    store->is_looking = true;
    dp_mutex_unlock(&store->lock);
    st = dp_store_survey(&keys, &count, &foreign, store->folder, is_own, store, err);
    dp_mutex_lock(&store->lock);
    store->is_looking = false;
    if (st)
        return st;
    for (size_t i = 0; i < count; i++) {
        foreign += keys[i].used_bytes;
        if (!has_key_locked(store, keys[i].key))
            keys[kept++] = keys[i];
    }
    if (kept)
        qsort(keys, kept, sizeof *keys, compare_closed);
    dp_free(store->closed);
    store->closed = keys;
    store->closed_count = kept;
    /* What changes without us is another process; then every write looks first. */
    store->has_company = is_due && foreign != before;
    store->foreign_bytes = foreign;
    store->looked_ns = dp_clock_now_ns(store->clock) + 1;
    store->written_since_look = 0;
    return DP_OK;
}

static void look_if_due_locked(dp_store *store)
{
    uint64_t now = dp_clock_now_ns(store->clock) + 1;
    dp_error err;

    if (store->is_looking ||
        (store->looked_ns && !store->has_company && now - store->looked_ns < LOOK_NS &&
         store->written_since_look < LOOK_BYTES))
        return;
    if (dp_store_look_locked(store, &err))
        dp_store_break_locked(store, err.text);
}

/* ---- who leaves ---- */

static dp_evict_item item_of(dp_store_file *file, uint32_t piece)
{
    const dp_store_piece *p = &file->pieces[piece];

    return (dp_evict_item){ p->warmth, file, piece, p->class_ };
}

void dp_store_colder_locked(dp_store_file *file, uint32_t piece)
{
    dp_store *store = file->store;
    dp_evict_item item;

    if (store->victims_are_stale || store->victim_at >= store->victims.count || !file->is_writable)
        return;
    item = item_of(file, piece);
    if (dp_evict_before(&item, &store->victims.items[store->victims.count - 1]))
        store->victims_are_stale = true;
}

static void find_victims_locked(dp_store *store)
{
    store->victims.count = 0;
    store->victims.is_cut = false;
    store->victim_at = 0;
    store->victims_are_stale = false;
    for (dp_store_file *f = store->files; f; f = f->next) {
        if (!f->is_writable)
            continue;
        for (uint32_t i = 0; i < f->count; i++) {
            dp_evict_item item;

            if (f->pieces[i].state != PIECE_HERE || f->pieces[i].lease_count > 0)
                continue;
            item = item_of(f, i);
            dp_evict_offer(&store->victims, &item);
        }
    }
    dp_evict_sort(&store->victims);
}

/* The piece to leave next, NULL: there is none. */
static const dp_evict_item *next_victim_locked(dp_store *store)
{
    bool is_fresh = false;

    for (;;) {
        if (store->victims_are_stale) {
            find_victims_locked(store);
            is_fresh = true;
        }
        for (; store->victim_at < store->victims.count; store->victim_at++) {
            const dp_evict_item *item = &store->victims.items[store->victim_at];
            const dp_store_file *f = item->owner;
            const dp_store_piece *p = &f->pieces[item->piece];

            if (p->state == PIECE_HERE && p->lease_count == 0 && p->warmth == item->warmth &&
                p->class_ == item->class_)
                return item;
        }
        if (is_fresh)
            return NULL;
        store->victims_are_stale = true;
    }
}

void dp_store_doom_locked(dp_store_file *file, uint32_t piece)
{
    dp_store *store = file->store;

    DP_ASSERT(file->pieces[piece].state == PIECE_HERE);
    file->pieces[piece].state = PIECE_DOOMED;
    if (!store->on_gone)
        return;
    dp_mutex_unlock(&store->lock);
    store->on_gone(store->user, file, piece);
    dp_mutex_lock(&store->lock);
}

/* The record says GONE before the bytes go, so that a map never promises a hole (4). */
static void empty_piece(dp_store_file *file, const uint8_t *record, uint32_t piece)
{
    dp_pieces pieces = file->head.pieces;
    dp_store *store = file->store;
    dp_error err;
    dp_status st;

    st = dp_file_rw_write(&file->map, file->map_path, dp_presence_record_at(piece), record,
                          DP_PRESENCE_RECORD_SIZE, &err);
    if (!st && store->can_punch)
        st = dp_file_rw_punch(&file->mirror, file->path, (uint64_t)piece * pieces.piece_size,
                              pieces.piece_size, &err);
    if (!st)
        return;
    dp_mutex_lock(&store->lock);
    if (st == DP_E_UNSUPPORTED)
        store->can_punch = false;
    dp_store_break_locked(store, err.text);
    dp_mutex_unlock(&store->lock);
}

void dp_store_clear_locked(dp_store_file *file, uint32_t piece)
{
    dp_store *store = file->store;
    dp_store_piece *p = &file->pieces[piece];
    uint8_t bytes[DP_PRESENCE_RECORD_SIZE];
    dp_presence_record record = { file->hashes[piece], DP_PRESENCE_GONE, (dp_piece_class)p->class_,
                                  p->warmth };

    DP_ASSERT(p->state == PIECE_DOOMED && p->lease_count == 0);
    if (file->is_writable && store->is_writable) {
        dp_presence_record_encode(bytes, &file->head, piece, &record);
        dp_store_enter_locked(file);
        dp_mutex_unlock(&store->lock);
        empty_piece(file, bytes, piece);
        dp_mutex_lock(&store->lock);
        dp_store_measure_locked(file);
        dp_store_leave_locked(file);
    }
    p->state = PIECE_ABSENT;
    dp_cond_broadcast(&store->idle);
}

void dp_store_release_locked(dp_store_file *file, uint32_t piece)
{
    dp_store_piece *p = &file->pieces[piece];

    DP_ASSERT(p->lease_count > 0);
    if (--p->lease_count > 0)
        return;
    if (p->state == PIECE_DOOMED)
        dp_store_clear_locked(file, piece);
    else
        dp_store_colder_locked(file, piece); /* a look at the pieces may have passed it by */
}

/* ---- room ---- */

void dp_store_measure_locked(dp_store_file *file)
{
    uint64_t used = dp_file_rw_used(&file->mirror) + dp_file_rw_used(&file->map);

    file->store->own_bytes += used - file->used_bytes;
    file->used_bytes = used;
}

static bool is_over_locked(const dp_store *store, uint64_t leaving)
{
    uint64_t used = store->foreign_bytes + store->own_bytes + store->promised_bytes;

    return used > leaving && used - leaving > store->budget_bytes;
}

/* Something left a closed key, or will soon: look again. False: they have no more to give. */
static bool thin_closed_locked(dp_store *store)
{
    uint64_t used = store->foreign_bytes + store->own_bytes + store->promised_bytes, freed = 0;
    uint64_t wanted =
        DP_MAX(used - store->budget_bytes, DP_MIN(THIN_BYTES, store->budget_bytes / 64));
    char key[DP_STORE_KEY_MAX + 1];
    size_t at = 0;
    dp_status st;
    dp_error err;

    while (at < store->closed_count && store->closed[at].is_busy)
        at++;
    if (at == store->closed_count || !store->is_writable)
        return false;
    if (store->is_thinning) {
        dp_cond_wait(&store->idle, &store->lock);
        return true;
    }
    store->is_thinning = true;
    memcpy(key, store->closed[at].key, sizeof key);
    dp_mutex_unlock(&store->lock);
    st = dp_store_thin(store->folder, key, wanted, store->can_punch, 0, &freed, &err);
    dp_mutex_lock(&store->lock);
    store->is_thinning = false;
    store->foreign_bytes -= DP_MIN(freed, store->foreign_bytes);
    for (at = 0; at < store->closed_count; at++) { /* the list may be another one by now */
        if (strcmp(store->closed[at].key, key) == 0)
            store->closed[at].is_busy = st != DP_OK || freed == 0;
    }
    dp_cond_broadcast(&store->idle);
    return true;
}

static bool evict_one_locked(dp_store *store, const dp_evict_item *worth)
{
    const dp_evict_item *victim;
    dp_store_file *file;
    uint64_t before, size;
    uint32_t piece;

    if (!store->is_writable)
        return false;
    victim = next_victim_locked(store);
    if (!victim || !dp_evict_is_worth_more(worth, victim))
        return false;
    if (!store->can_punch) {
        char text[sizeof store->problem];

        snprintf(text, sizeof text, "%s is full, and files there cannot get holes", store->folder);
        dp_store_break_locked(store, text);
        return false;
    }
    store->victim_at++;
    file = victim->owner;
    piece = victim->piece;
    size = dp_pieces_size(file->head.pieces, piece);
    before = file->used_bytes;
    store->leaving_bytes += size;
    store->stats.pieces_evicted++;
    dp_store_enter_locked(file);
    dp_store_doom_locked(file, piece);
    dp_store_clear_locked(file, piece);
    store->leaving_bytes -= size;
    /* A file system that gives nothing back would let us evict everything in vain. */
    store->fruitless_count = file->used_bytes < before ? 0 : store->fruitless_count + 1;
    if (store->fruitless_count > FRUITLESS_MAX)
        dp_store_break_locked(store, "evicting gives nothing back on this file system");
    dp_store_leave_locked(file);
    return true;
}

bool dp_store_reserve_locked(dp_store *store, uint64_t need, const dp_evict_item *worth)
{
    look_if_due_locked(store);
    if (!store->is_writable || need > store->budget_bytes)
        return false;
    store->promised_bytes += need;
    while (is_over_locked(store, 0)) {
        if (!is_over_locked(store, store->leaving_bytes)) {
            dp_cond_wait(&store->idle, &store->lock); /* others' evictions are enough */
            continue;
        }
        if (!thin_closed_locked(store) && !evict_one_locked(store, worth)) {
            dp_store_settle_locked(store, need);
            return false;
        }
    }
    return true;
}

void dp_store_settle_locked(dp_store *store, uint64_t need)
{
    DP_ASSERT(store->promised_bytes >= need);
    store->promised_bytes -= need;
}
