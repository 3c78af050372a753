/* One file of a store: opened with its map, brought to the drive, closed. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/file_rw.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/status.h"
#include "store/store_impl.h"

#define NEW_BYTES (16 * DP_KIB) /* a folder, a header, a record */
#define FLUSH_RUN 64            /* records of one write */

static bool name_is_valid(const char *name)
{
    size_t size = strlen(name), suffix = strlen(DP_PRESENCE_SUFFIX);

    if (size == 0 || size > DP_STORE_NAME_MAX || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (name[i] == '/' || (unsigned char)name[i] < 32 || name[i] == 127)
            return false;
    }
    return size < suffix || strcmp(name + size - suffix, DP_PRESENCE_SUFFIX) != 0;
}

static dp_status check_config(const dp_store_file_config *c, dp_error *err)
{
    if (!dp_store_key_is_valid(c->key))
        return dp_fail(err, DP_E_INVALID, "store: \"%.80s\" is no key: 1 to %d hex digits", c->key,
                       DP_STORE_KEY_MAX);
    if (!name_is_valid(c->name))
        return dp_fail(err, DP_E_INVALID, "store: a mirror cannot be named \"%.80s\"", c->name);
    if (c->pieces.file_size == 0 || c->pieces.file_size > INT64_MAX ||
        !dp_is_power_of_two(c->pieces.piece_size) || c->pieces.piece_size < DP_PIECE_SIZE_MIN ||
        c->pieces.piece_size > DP_PIECE_SIZE_MAX)
        return dp_fail(err, DP_E_INVALID, "store: %s: %llu bytes in pieces of %u", c->name,
                       (unsigned long long)c->pieces.file_size, c->pieces.piece_size);
    if ((c->pieces.file_size - 1) / c->pieces.piece_size >= DP_PRESENCE_PIECES_MAX)
        return dp_fail(err, DP_E_LIMIT, "store: %s: more than %u pieces", c->name,
                       DP_PRESENCE_PIECES_MAX);
    if (c->origin && strlen(c->origin) > DP_STORE_ORIGIN_MAX)
        return dp_fail(err, DP_E_LIMIT, "store: %s: an origin of more than %d bytes", c->name,
                       DP_STORE_ORIGIN_MAX);
    return DP_OK;
}

static void free_file(dp_store_file *f)
{
    if (!f)
        return;
    dp_file_close(&f->mirror);
    dp_file_close(&f->map);
    dp_free(f->path);
    dp_free(f->map_path);
    dp_free(f->hashes);
    dp_free(f->pieces);
    dp_free(f);
}

static dp_status make_file(dp_store_file **out, dp_store *store, const dp_store_file_config *c,
                           dp_error *err)
{
    dp_store_file *f = dp_alloc_zero(1, sizeof *f);
    dp_status st = DP_OK;

    *out = NULL;
    if (!f)
        return dp_fail(err, DP_E_NOMEM, "store: no memory for %s", c->name);
    f->store = store;
    f->mirror = f->map = (dp_file){ -1, -1, 0 };
    f->head.pieces = c->pieces;
    f->count = dp_pieces_count(c->pieces);
    f->hashes_are_known = c->hashes != NULL;
    f->hashes = dp_alloc_zero(f->count, sizeof *f->hashes);
    f->pieces = dp_alloc_zero(f->count, sizeof *f->pieces);
    f->path = c->whole_path
                  ? dp_strndup(c->whole_path, strlen(c->whole_path))
                  : dp_store_path(store->folder ? store->folder : "", c->key, c->name, "");
    f->map_path =
        dp_store_path(store->folder ? store->folder : "", c->key, c->name, DP_PRESENCE_SUFFIX);
    if (!f->hashes || !f->pieces || !f->path || !f->map_path) {
        st = dp_fail(err, DP_E_NOMEM, "store: no memory for %u pieces of %s", f->count, c->name);
        goto done;
    }
    if (c->hashes)
        memcpy(f->hashes, c->hashes, (size_t)f->count * sizeof *f->hashes);
    for (uint32_t i = 0; i < f->count; i++) {
        f->pieces[i].warmth = DP_EVICT_COLD;
        f->pieces[i].has_hash = c->hashes != NULL;
    }
    snprintf(f->name, sizeof f->name, "%s", c->name);
    snprintf(f->head.origin, sizeof f->head.origin, "%s", c->origin ? c->origin : "");
    st = dp_presence_identity(&f->head.identity, c->pieces, c->hashes, c->tag, err);
    if (st)
        goto done;

    *out = f;
    f = NULL;
done:
    free_file(f);
    return st;
}

/* ---- the map ---- */

static void take_record(void *user, uint32_t piece, const dp_presence_record *record)
{
    dp_store_file *f = user;
    dp_store_piece *p = &f->pieces[piece];
    double latest = dp_store_now_s(f->store) + 64 * DP_EVICT_HALF_S;

    if (f->hashes_are_known && !dp_hash_equal(&f->hashes[piece], &record->hash))
        return;
    f->hashes[piece] = record->hash;
    p->has_hash = true;
    p->warmth = DP_MIN(record->warmth, latest); /* a clock that was wrong makes nothing eternal */
    p->class_ = (uint8_t)record->class_;
    p->state = record->state == DP_PRESENCE_HERE ? PIECE_HERE : PIECE_ABSENT;
}

/* The map that is there, if it is one of this file. DP_E_CORRUPT: it is none. */
static dp_status load_map(dp_store_file *f, dp_error *err)
{
    dp_presence_head head;
    dp_status st = dp_presence_head_read(&head, &f->map, f->map_path, err);

    if (st)
        return st;
    if (!dp_hash_equal(&head.identity, &f->head.identity) ||
        f->mirror.size != f->head.pieces.file_size)
        return dp_fail(err, DP_E_CORRUPT, "%s: is of another file", f->map_path);
    if (!f->head.origin[0])
        memcpy(f->head.origin, head.origin, sizeof head.origin);
    st = dp_presence_walk(&f->map, f->map_path, &f->head, take_record, f, err);
    if (!st && f->is_writable && strcmp(head.origin, f->head.origin) != 0) {
        uint8_t bytes[DP_PRESENCE_HEADER_SIZE];

        dp_presence_head_encode(bytes, &f->head);
        st = dp_file_rw_write(&f->map, f->map_path, 0, bytes, sizeof bytes, err);
    }
    return st;
}

/* Nothing is there: an empty mirror first, then an empty map, its header last. */
static dp_status start_afresh(dp_store_file *f, dp_error *err)
{
    uint8_t bytes[DP_PRESENCE_HEADER_SIZE];
    dp_status st = dp_file_rw_resize(&f->map, f->map_path, 0, err);

    if (!st)
        st = dp_file_rw_resize(&f->mirror, f->path, 0, err);
    if (!st)
        st = dp_file_rw_resize(&f->mirror, f->path, f->head.pieces.file_size, err);
    if (!st)
        st = dp_file_rw_resize(&f->map, f->map_path, dp_presence_record_at(f->count), err);
    dp_presence_head_encode(bytes, &f->head);
    if (!st)
        st = dp_file_rw_write(&f->map, f->map_path, 0, bytes, sizeof bytes, err);
    return st;
}

/* Opens mirror and map as far as the drive allows. DP_E_IO: it does not. */
static dp_status open_mirror(dp_store_file *f, bool is_writable, dp_error *err)
{
    dp_status st;

    f->is_writable = is_writable;
    if (is_writable) {
        st = dp_file_rw_open(&f->mirror, f->path, err);
        if (!st)
            st = dp_file_rw_open(&f->map, f->map_path, err);
    } else {
        st = dp_file_open(&f->mirror, f->path, false, err);
        if (!st)
            st = dp_file_open(&f->map, f->map_path, false, err);
    }
    if (!st)
        f->found_bytes = dp_file_rw_used(&f->mirror) + dp_file_rw_used(&f->map);
    if (!st)
        st = load_map(f, err);
    if (st == DP_E_CORRUPT && is_writable)
        st = start_afresh(f, err);
    if (!st && is_writable)
        dp_file_rw_stamp(&f->map);
    return st;
}

/* Without a mirror: a drive that fails, or no room for even an empty one. */
static void do_without(dp_store_file *f)
{
    dp_file_close(&f->mirror);
    dp_file_close(&f->map);
    f->is_writable = false;
    f->found_bytes = 0;
    for (uint32_t i = 0; i < f->count; i++)
        f->pieces[i].state = PIECE_ABSENT;
}

/* err is not NULL. */
static dp_status open_kept(dp_store_file *f, const char *key, dp_error *err)
{
    const dp_evict_item best = { INFINITY, NULL, 0, UINT8_MAX };
    dp_store *store = f->store;
    bool is_writable;
    dp_status st;

    dp_mutex_lock(&store->lock);
    is_writable = dp_store_reserve_locked(store, NEW_BYTES, &best);
    if (!is_writable && store->is_writable)
        dp_store_break_locked(store, "the disk budget is too small to keep anything");
    dp_mutex_unlock(&store->lock);

    st = dp_store_key_acquire(&f->key, store, key, err);
    if (!st)
        st = open_mirror(f, is_writable, err);
    dp_mutex_lock(&store->lock);
    if (is_writable)
        dp_store_settle_locked(store, NEW_BYTES);
    if (st && st != DP_E_NOMEM && st != DP_E_BUSY) {
        if (is_writable)
            dp_store_break_locked(store, err->text);
        do_without(f);
        st = DP_OK;
    }
    dp_mutex_unlock(&store->lock);
    return st;
}

/* What pieces of zeros hash to: any but the last, and the last. */
static dp_status hash_zeros(dp_hash out[2], const dp_store_file *f, dp_error *err)
{
    uint8_t *zeros = dp_alloc_zero(f->head.pieces.piece_size, 1);
    dp_status st;

    if (!zeros)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for a piece", f->path);
    st = dp_piece_hash(&out[0], f->head.pieces, 0, zeros, err);
    if (!st)
        st = dp_piece_hash(&out[1], f->head.pieces, f->count - 1, zeros, err);
    dp_free(zeros);
    return st;
}

/* A piece that lies in a hole is not there, unless zeros are what it should be. Said before anybody
 * asks; the system knows its holes without reading. */
static dp_status find_holes(dp_store_file *f, dp_error *err)
{
    dp_pieces pieces = f->head.pieces;
    uint64_t first, end = 0;
    dp_hash zeros[2];
    dp_status st = DP_OK;

    if (!dp_file_next_hole(&f->mirror, 0, &first, &end))
        return DP_OK;
    st = hash_zeros(zeros, f, err);
    if (st)
        return st;
    do {
        uint32_t i = (uint32_t)((first + pieces.piece_size - 1) / pieces.piece_size);
        uint32_t last = end == pieces.file_size ? f->count : (uint32_t)(end / pieces.piece_size);

        for (; i < last; i++) {
            if (!dp_hash_equal(&zeros[i == f->count - 1], &f->hashes[i]))
                f->pieces[i].state = PIECE_ABSENT;
        }
    } while (dp_file_next_hole(&f->mirror, end, &first, &end));
    return DP_OK;
}

static dp_status open_whole(dp_store_file *f, dp_error *err)
{
    dp_status st = dp_file_open(&f->mirror, f->path, false, err);

    if (st)
        return st;
    if (f->mirror.size != f->head.pieces.file_size)
        return dp_fail(err, DP_E_INVALID, "%s: has %llu bytes, %llu were expected", f->path,
                       (unsigned long long)f->mirror.size,
                       (unsigned long long)f->head.pieces.file_size);
    f->is_whole = true;
    for (uint32_t i = 0; i < f->count; i++)
        f->pieces[i].state = PIECE_HERE;
    return f->hashes_are_known ? find_holes(f, err) : DP_OK;
}

static bool is_open(dp_store *store, const dp_store_file_config *c)
{
    bool is = false;

    dp_mutex_lock(&store->lock);
    for (const dp_store_file *f = store->files; f && !is; f = f->next)
        is = f->key && strcmp(f->key->name, c->key) == 0 && strcmp(f->name, c->name) == 0;
    dp_mutex_unlock(&store->lock);
    return is;
}

dp_status dp_store_file_open(dp_store_file **out, dp_store *store,
                             const dp_store_file_config *config, dp_error *err)
{
    dp_store_file *f = NULL;
    dp_error why = { 0 };
    dp_status st = check_config(config, &why);

    *out = NULL;
    if (!st && !config->whole_path && is_open(store, config))
        st = dp_fail(&why, DP_E_BUSY, "store: %s of key %s is open already", config->name,
                     config->key);
    if (!st)
        st = make_file(&f, store, config, &why);
    if (!st && config->whole_path)
        st = open_whole(f, &why);
    else if (!st && store->folder)
        st = open_kept(f, config->key, &why);
    if (st) {
        if (f)
            dp_store_key_release(store, f->key);
        free_file(f);
        if (err)
            *err = why;
        return st;
    }
    if (f->mirror.fd >= 0)
        dp_file_expect_jumps(&f->mirror);
    dp_mutex_lock(&store->lock);
    f->next = store->files;
    store->files = f;
    if (f->map.fd >= 0)
        dp_store_measure_locked(f);
    store->victims_are_stale = true;
    /* What is ours now was foreign; of a new key its folder is to be counted, too. */
    if (f->key && f->key->file_count > 1)
        store->foreign_bytes -= DP_MIN(f->found_bytes, store->foreign_bytes);
    else if (f->key && dp_store_look_locked(store, &why))
        dp_store_break_locked(store, why.text);
    dp_mutex_unlock(&store->lock);
    *out = f;
    return DP_OK;
}

/* ---- to the drive ---- */

/* The next run of records that are older than their pieces, from *piece on; leased. */
static uint32_t next_run_locked(dp_store_file *f, uint32_t *piece,
                                uint8_t bytes[FLUSH_RUN * DP_PRESENCE_RECORD_SIZE])
{
    uint32_t n = 0;

    while (*piece < f->count &&
           !(f->pieces[*piece].state == PIECE_HERE && f->pieces[*piece].is_newer))
        (*piece)++;
    for (; n < FLUSH_RUN && *piece + n < f->count; n++) {
        dp_store_piece *p = &f->pieces[*piece + n];
        dp_presence_record record = { f->hashes[*piece + n], DP_PRESENCE_HERE,
                                      (dp_piece_class)p->class_, p->warmth };

        if (p->state != PIECE_HERE || !p->is_newer)
            break;
        p->is_newer = false;
        p->lease_count++; /* else an eviction's record could be written over */
        dp_presence_record_encode(bytes + (size_t)n * DP_PRESENCE_RECORD_SIZE, &f->head, *piece + n,
                                  &record);
    }
    return n;
}

dp_status dp_store_flush(dp_store_file *f, dp_error *err)
{
    uint8_t bytes[FLUSH_RUN * DP_PRESENCE_RECORD_SIZE];
    dp_store *store = f->store;
    uint32_t piece = 0, n;
    dp_status st = DP_OK;

    dp_mutex_lock(&store->lock);
    while (!st && f->is_writable && store->is_writable &&
           (n = next_run_locked(f, &piece, bytes)) > 0) {
        dp_mutex_unlock(&store->lock);
        st = dp_file_rw_write(&f->map, f->map_path, dp_presence_record_at(piece), bytes,
                              (size_t)n * DP_PRESENCE_RECORD_SIZE, err);
        dp_mutex_lock(&store->lock);
        for (uint32_t i = 0; i < n; i++)
            dp_store_release_locked(f, piece + i);
        piece += n;
    }
    dp_mutex_unlock(&store->lock);
    if (!f->is_writable)
        return DP_OK;
    if (!st)
        st = dp_file_rw_sync(&f->mirror, f->path, err);
    if (!st)
        st = dp_file_rw_sync(&f->map, f->map_path, err);
    return st;
}

static void forget_behind_locked(dp_store_file *f)
{
    dp_store *store = f->store;

    for (uint32_t i = 0; i < store->behind_count; i++) {
        dp_store_behind *b = &store->behind[(store->behind_at + i) % DP_STORE_BEHIND_MAX];

        if (b->file == f)
            b->file = NULL;
    }
}

void dp_store_file_close(dp_store_file *f)
{
    dp_store_file **at;
    dp_store *store;
    dp_error err;

    if (!f)
        return;
    store = f->store;
    if (dp_store_flush(f, &err)) {
        dp_mutex_lock(&store->lock);
        dp_store_break_locked(store, err.text);
        dp_mutex_unlock(&store->lock);
    }
    dp_mutex_lock(&store->lock);
    for (at = &store->files; *at != f; at = &(*at)->next)
        ;
    *at = f->next;
    store->victims.count = 0; /* they point to it */
    store->victim_at = 0;
    store->victims_are_stale = true;
    forget_behind_locked(f);
    while (f->user_count > 0)
        dp_cond_wait(&store->idle, &store->lock);
    if (f->map.fd >= 0)
        dp_store_measure_locked(f);
    store->own_bytes -= f->used_bytes;
    store->foreign_bytes += f->used_bytes;
    dp_mutex_unlock(&store->lock);
    if (f->is_writable) {
        dp_file_rw_stamp(&f->map);
        dp_file_drop_range(&f->mirror, 0, f->mirror.size); /* synced above */
    }
    dp_store_key_release(store, f->key);
    free_file(f);
}
