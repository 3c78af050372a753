/* Pieces in and out. */
#include <string.h>

#include "base/assert.h"
#include "base/file_rw.h"
#include "base/status.h"
#include "store/store_impl.h"

#define BLOCK       4096
#define TREE_BYTES  (16 * DP_KIB) /* what a file system may add to a piece: extents, map's blocks */
#define SYNC_BYTES  DP_GIB        /* between syncs; every piece is verified, so they may be rare */
#define AHEAD_BYTES (8 * DP_MIB)

/* ---- reading ---- */

static dp_status not_here(const dp_store_file *file, uint32_t piece, dp_error *err)
{
    return dp_fail(err, DP_E_NOTFOUND, "store: piece %u of %s is not here", piece, file->name);
}

/* After the bytes were read with status st and hashed: what they are worth. */
static dp_status judge_locked(dp_store_file *file, uint32_t piece, dp_status st,
                              const dp_hash *hash, dp_error *err)
{
    dp_store_piece *p = &file->pieces[piece];
    bool is_bad;

    if (!st && !p->has_hash) { /* a whole file without known hashes: it must not change */
        file->hashes[piece] = *hash;
        p->has_hash = true;
    }
    is_bad = st == DP_E_CORRUPT || (!st && !dp_hash_equal(hash, &file->hashes[piece]));
    if (p->state == PIECE_HERE && (is_bad || st == DP_E_IO)) {
        file->store->stats.pieces_bad += is_bad;
        dp_store_doom_locked(file, piece);
    }
    return is_bad ? dp_fail(err, DP_E_NOTFOUND, "store: piece %u of %s was damaged on the drive",
                            piece, file->name)
                  : st;
}

dp_status dp_store_read(dp_store_file *file, uint32_t piece, void *out, dp_error *err)
{
    dp_store *store = file->store;
    dp_pieces pieces = file->head.pieces;
    uint32_t size;
    dp_hash hash;
    dp_status st;

    if (piece >= file->count)
        return dp_fail(err, DP_E_INVALID, "store: %s has %u pieces, %u was asked for", file->name,
                       file->count, piece);
    dp_mutex_lock(&store->lock);
    if (file->pieces[piece].state != PIECE_HERE) {
        dp_mutex_unlock(&store->lock);
        return not_here(file, piece, err);
    }
    file->pieces[piece].lease_count++; /* (1) */
    dp_mutex_unlock(&store->lock);

    size = dp_pieces_size(pieces, piece);
    /* As one request of the drive; a plain read would wait for it in small ones. */
    dp_file_read_ahead(&file->mirror, (uint64_t)piece * pieces.piece_size, size);
    st = dp_file_read(&file->mirror, file->path, (uint64_t)piece * pieces.piece_size, out, size,
                      err);
    if (!st)
        st = dp_piece_hash(&hash, pieces, piece, out, err);

    dp_mutex_lock(&store->lock);
    st = judge_locked(file, piece, st, &hash, err);
    dp_store_release_locked(file, piece);
    if (!st)
        store->stats.read_bytes += size;
    dp_mutex_unlock(&store->lock);
    return st;
}

/* The first piece of a range that is not here; first + count: all are. */
static uint32_t first_absent(const dp_store_file *file, uint32_t first, uint32_t count)
{
    uint32_t i = first;

    dp_mutex_lock(&file->store->lock);
    while (i < first + count && file->pieces[i].state == PIECE_HERE)
        i++;
    dp_mutex_unlock(&file->store->lock);
    return i;
}

dp_status dp_store_read_range(dp_store_file *file, uint64_t offset, uint64_t size, void *out,
                              void *scratch, dp_error *err)
{
    dp_pieces pieces = file->head.pieces;
    uint32_t first, count, absent;
    uint8_t *at = out;
    dp_status st = DP_OK;

    if (offset > pieces.file_size || size > pieces.file_size - offset)
        return dp_fail(err, DP_E_INVALID, "store: %llu bytes at %llu of %s, which has %llu",
                       (unsigned long long)size, (unsigned long long)offset, file->name,
                       (unsigned long long)pieces.file_size);
    if (size == 0)
        return DP_OK;
    count = dp_pieces_of_range(pieces, offset, size, &first);
    absent = first_absent(file, first, count);
    if (absent < first + count)
        return not_here(file, absent, err);
    if (count > 1) /* the drive reads on while a piece is hashed */
        dp_file_read_ahead(&file->mirror, offset, DP_MIN(size, AHEAD_BYTES));
    for (uint32_t i = first; i < first + count && !st; i++) {
        uint64_t begin = (uint64_t)i * pieces.piece_size;
        uint64_t from = DP_MAX(offset, begin);
        uint64_t to = DP_MIN(offset + size, begin + dp_pieces_size(pieces, i));
        bool is_all = to - from == dp_pieces_size(pieces, i);

        st = dp_store_read(file, i, is_all ? (void *)at : scratch, err);
        if (!st && !is_all)
            memcpy(at, (const uint8_t *)scratch + (from - begin), (size_t)(to - from));
        at += to - from;
    }
    return st;
}

/* ---- writing ---- */

/* Bytes behind the writers are sent to the drive at once and, past a few MiB, waited for and
 * forgotten by the system: a process in a small cgroup would else be throttled by its own
 * cache. Caller holds the lock, which is given up meanwhile. */
static void write_behind_locked(dp_store_file *file, uint64_t offset, uint64_t size)
{
    dp_store *store = file->store;

    if (store->behind_count < DP_STORE_BEHIND_MAX) {
        uint32_t at = (store->behind_at + store->behind_count++) % DP_STORE_BEHIND_MAX;

        store->behind[at] = (dp_store_behind){ file, offset, size };
        store->behind_bytes += size;
    }
    while (store->behind_bytes > DP_STORE_BEHIND_BYTES ||
           store->behind_count == DP_STORE_BEHIND_MAX) {
        dp_store_behind b = store->behind[store->behind_at];

        store->behind_at = (store->behind_at + 1) % DP_STORE_BEHIND_MAX;
        store->behind_count--;
        store->behind_bytes -= b.size;
        if (!b.file)
            continue;
        dp_store_enter_locked(b.file);
        dp_mutex_unlock(&store->lock);
        dp_file_rw_settle(&b.file->mirror, b.offset, b.size);
        dp_mutex_lock(&store->lock);
        dp_store_leave_locked(b.file);
    }
}

/* Data first, then the record that speaks of it (4). */
static dp_status put_piece(dp_store_file *file, uint32_t piece, const void *bytes,
                           const uint8_t *record, dp_error *err)
{
    dp_pieces pieces = file->head.pieces;
    uint64_t offset = (uint64_t)piece * pieces.piece_size;
    uint32_t size = dp_pieces_size(pieces, piece);
    dp_status st = dp_file_rw_write(&file->mirror, file->path, offset, bytes, size, err);

    if (!st)
        st = dp_file_rw_write(&file->map, file->map_path, dp_presence_record_at(piece), record,
                              DP_PRESENCE_RECORD_SIZE, err);
    if (!st)
        dp_file_rw_send(&file->mirror, offset, size);
    else /* gives back what a full disk took of it; if that fails too, nothing is worse */
        dp_file_rw_punch(&file->mirror, file->path, offset, pieces.piece_size, NULL);
    return st;
}

/* A piece in WRITING, for which there is room. Caller holds the lock, given up meanwhile. */
static bool keep_locked(dp_store_file *file, uint32_t piece, const void *bytes)
{
    dp_store *store = file->store;
    dp_store_piece *p = &file->pieces[piece];
    uint8_t record_bytes[DP_PRESENCE_RECORD_SIZE];
    dp_presence_record record = { file->hashes[piece], DP_PRESENCE_HERE, (dp_piece_class)p->class_,
                                  p->warmth };
    uint32_t size = dp_pieces_size(file->head.pieces, piece);
    dp_error err;
    dp_status st;

    dp_presence_record_encode(record_bytes, &file->head, piece, &record);
    p->is_newer = false;
    dp_mutex_unlock(&store->lock);
    st = put_piece(file, piece, bytes, record_bytes, &err);
    dp_mutex_lock(&store->lock);
    dp_store_measure_locked(file);
    if (st) {
        dp_store_break_locked(store, err.text);
        return false;
    }
    store->stats.pieces_written++;
    store->stats.written_bytes += size;
    store->written_since_look += size;
    store->written_since_sync += size;
    return true;
}

/* The hash of a piece whose hash nobody published. Other bytes than those that came first are
 * a file that changed where it comes from. Caller holds the lock, given up meanwhile. */
static dp_status learn_hash_locked(dp_store_file *file, uint32_t piece, const void *bytes,
                                   dp_error *err)
{
    dp_store_piece *p = &file->pieces[piece];
    dp_hash hash;
    dp_status st;

    dp_mutex_unlock(&file->store->lock);
    st = dp_piece_hash(&hash, file->head.pieces, piece, bytes, err);
    dp_mutex_lock(&file->store->lock);
    if (st)
        return st;
    if (p->has_hash && !dp_hash_equal(&hash, &file->hashes[piece]))
        return dp_fail(err, DP_E_CORRUPT,
                       "store: piece %u of %s is not what it was when it first came", piece,
                       file->name);
    file->hashes[piece] = hash;
    p->has_hash = true;
    return DP_OK;
}

static void sync_if_due(dp_store_file *file)
{
    dp_store *store = file->store;
    bool is_due;
    dp_error err;

    dp_mutex_lock(&store->lock);
    is_due = store->written_since_sync >= SYNC_BYTES;
    if (is_due)
        store->written_since_sync = 0;
    dp_mutex_unlock(&store->lock);
    if (is_due && dp_store_flush(file, &err)) {
        dp_mutex_lock(&store->lock);
        dp_store_break_locked(store, err.text);
        dp_mutex_unlock(&store->lock);
    }
}

dp_status dp_store_write(dp_store_file *file, uint32_t piece, const void *bytes, bool *is_kept,
                         dp_error *err)
{
    dp_store *store = file->store;
    dp_store_piece *p = &file->pieces[piece];
    uint64_t need;
    bool kept = false;
    dp_status st = DP_OK;

    DP_ASSERT(piece < file->count);
    if (is_kept)
        *is_kept = false;
    need = dp_align_up(dp_pieces_size(file->head.pieces, piece), BLOCK) + TREE_BYTES;
    dp_mutex_lock(&store->lock);
    if (p->state != PIECE_ABSENT || !file->is_writable || !store->is_writable) {
        kept = p->state == PIECE_HERE;
        store->stats.pieces_refused += p->state == PIECE_ABSENT;
        goto done;
    }
    p->state = PIECE_WRITING;
    if (!file->hashes_are_known)
        st = learn_hash_locked(file, piece, bytes, err);
    if (!st) {
        const dp_evict_item worth = { p->warmth, file, piece, p->class_ };
        bool has_room = dp_store_reserve_locked(store, need, &worth);

        kept = has_room && keep_locked(file, piece, bytes);
        if (has_room)
            dp_store_settle_locked(store, need);
        store->stats.pieces_refused += !kept;
    }
    p->state = kept ? PIECE_HERE : PIECE_ABSENT;
    if (kept) {
        dp_store_colder_locked(file, piece);
        write_behind_locked(file, (uint64_t)piece * file->head.pieces.piece_size,
                            dp_pieces_size(file->head.pieces, piece));
    }
done:
    dp_mutex_unlock(&store->lock);
    if (is_kept)
        *is_kept = kept;
    if (kept)
        sync_if_due(file);
    return st;
}

bool dp_store_drop(dp_store_file *file, uint32_t piece)
{
    dp_store *store = file->store;
    dp_store_piece *p = &file->pieces[piece];
    bool is_free;

    DP_ASSERT(piece < file->count);
    dp_mutex_lock(&store->lock);
    is_free = p->state == PIECE_HERE && p->lease_count == 0 && !file->is_whole;
    if (is_free) {
        store->stats.pieces_evicted++;
        dp_store_doom_locked(file, piece);
        dp_store_clear_locked(file, piece);
    }
    dp_mutex_unlock(&store->lock);
    return is_free;
}
