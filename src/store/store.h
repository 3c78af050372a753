/* store.h - the disk tier: which pieces of remote files are here, inside a byte budget.
 *
 * Room     A folder of sparse mirrors. Of every file that a model needs there is a mirror
 *          (same bytes at the same places, holes where nothing is) and a presence map
 *          (presence.h) that says which pieces are there and what they hash to. Pieces
 *          arrive in any order, leave by a hole punched into the mirror, and are hashed
 *          whenever they are read: what comes out of a store is what was put in.
 *          A file may also be `whole`: a person's own file, all there but for holes where the
 *          hashes do not expect zeros, never written.
 *
 * Layout   FOLDER/KEY/NAME and FOLDER/KEY/NAME.pieces; KEY tells files apart that have one
 *          name (the info-hash, or a hash of the URL). FOLDER/KEY is locked while open;
 *          a second process gets DP_E_BUSY and may run without a store.
 *
 * Budget   Bytes allocated on the drive by all of FOLDER, maps included, stay within
 *          `budget_bytes`. Who leaves: the piece with the least value - its class first
 *          (DP_PIECE_EXPERT before DP_PIECE_ALWAYS before DP_PIECE_HEADER), then its heat,
 *          touches that fade - never one that is being read. Pieces of other keys that no
 *          process has open leave before pieces of open ones, coldest key first.
 *          A piece that is worth no more than all that is here is refused, not exchanged: one
 *          that was never touched is kept only while there is room. So touch what was
 *          wanted before writing it. Other processes that write into FOLDER are looked at
 *          before each write; what both have under way at one moment may pass the budget.
 *          File systems without holes: nothing is kept; with holes but no way to make
 *          them later: whole keys leave, and when none is left writing stops.
 *
 * Faults   A full disk, one turned read-only, a failing drive: writing stops, `problem`
 *          says why in one sentence (logged once), and reads go on. Power lost or kill -9 at
 *          any point: the next open finds every piece whose data and map entry were both
 *          written; anything else reads as absent. A piece whose bytes do not hash to
 *          its entry is dropped and counted, and reads as absent (DP_E_NOTFOUND).
 *
 * Threads  All calls on one store and its files from any thread. Files are opened by one thread
 *          at a time; a file, or the store, is closed when no call on it is under way.
 *          Reads and writes of different pieces run side by side.
 */
#ifndef DP_STORE_STORE_H
#define DP_STORE_STORE_H

#include "base/clock.h"
#include "store/piece_hash.h"

typedef struct dp_store dp_store;
typedef struct dp_store_file dp_store_file;

typedef enum dp_piece_class { DP_PIECE_EXPERT, DP_PIECE_ALWAYS, DP_PIECE_HEADER } dp_piece_class;

typedef struct dp_store_config {
    const char *folder;    /* made when it is not there; NULL: a store that keeps nothing */
    uint64_t budget_bytes; /* 0: nothing is kept */
    const dp_clock *clock;
    /* A piece is leaving (evicted or found bad): it reads as absent, and cannot be written
     * again before this returns. On the thread that caused it, no lock held; it may ask and
     * read, not write, which could wait for the very room that is being made. May be NULL. */
    void (*on_gone)(void *user, dp_store_file *file, uint32_t piece);
    void *user;
} dp_store_config;

/* DP_E_IO, DP_E_NOMEM, DP_E_INVALID. Owned: dp_store_close, after its files. */
dp_status dp_store_open(dp_store **out, const dp_store_config *config, dp_error *err);
void dp_store_close(dp_store *store);

#define DP_STORE_KEY_MAX    64  /* [0-9a-f]+ */
#define DP_STORE_NAME_MAX   200 /* of a mirror: no '/', not "." or "..", no control characters */
#define DP_STORE_ORIGIN_MAX 2048

typedef struct dp_store_file_config {
    const char *key, *name;
    dp_pieces pieces;
    /* [dp_pieces_count] hashes known from a torrent, copied; NULL: learned when a piece is
     * first written, and kept. A map made for other sizes or other hashes is discarded. */
    const dp_hash *hashes;
    const char *tag;        /* what else must match for the map to be used (an ETag); NULL: none */
    const char *origin;     /* what a person named the model by; for listings; NULL: unknown */
    const char *whole_path; /* a complete file at this path instead of a mirror; read-only */
} dp_store_file_config;

/* DP_E_BUSY: another process has KEY open, or this store that NAME of it. DP_E_CORRUPT is
 * never: bad maps start afresh. */
dp_status dp_store_file_open(dp_store_file **out, dp_store *store,
                             const dp_store_file_config *config, dp_error *err);
void dp_store_file_close(dp_store_file *file);

dp_pieces dp_store_file_pieces(const dp_store_file *file);
const char *dp_store_file_name(const dp_store_file *file);

bool dp_store_has(const dp_store_file *file, uint32_t piece);
/* bits[piece / 8] bit 7 - piece % 8 (BitTorrent's order), [(count + 7) / 8] bytes. */
void dp_store_have_bits(const dp_store_file *file, uint8_t *bits);

/* The bytes of a piece, checked. DP_E_NOTFOUND: not here (any more). DP_E_IO: the drive
 * failed; the piece counts as absent from now on. */
dp_status dp_store_read(dp_store_file *file, uint32_t piece, void *out, dp_error *err);
/* Any range, all pieces of it checked; `scratch` holds one piece. */
dp_status dp_store_read_range(dp_store_file *file, uint64_t offset, uint64_t size, void *out,
                              void *scratch, dp_error *err);

/* Keeps a piece if there is room for one of its worth. `bytes` have been checked by the
 * caller against known hashes; learned ones are computed here. DP_OK also when it was not kept:
 * having no room, or a broken drive, is no error of who fetched a piece. *is_kept may be NULL.
 * DP_E_CORRUPT: a hash was learned from other bytes than these: what the file came from has
 * changed under the same tag. DP_E_NOMEM. */
dp_status dp_store_write(dp_store_file *file, uint32_t piece, const void *bytes, bool *is_kept,
                         dp_error *err);

/* What a piece is for (EXPERT until said otherwise) and that it was wanted once more; of absent
 * pieces too. */
void dp_store_set_class(dp_store_file *file, uint32_t first, uint32_t count, dp_piece_class class_);
void dp_store_touch(dp_store_file *file, uint32_t first, uint32_t count);
/* Lets a piece go now; on_gone runs. False: it was not there, is being read, or is whole. */
bool dp_store_drop(dp_store_file *file, uint32_t piece);

typedef struct dp_store_stats {
    uint64_t used_bytes, budget_bytes; /* allocated on the drive */
    uint64_t read_bytes, written_bytes;
    uint64_t pieces_written, pieces_evicted, pieces_refused, pieces_bad;
    bool is_writable;
    char problem[192]; /* why not; "" while it is */
} dp_store_stats;

void dp_store_stats_read(dp_store *store, dp_store_stats *out);

/* For doppler cache: what a folder holds, open or not. */
typedef struct dp_store_entry {
    char key[DP_STORE_KEY_MAX + 1], name[DP_STORE_NAME_MAX + 1], origin[DP_STORE_ORIGIN_MAX + 1];
    uint64_t file_size, used_bytes;
    uint32_t piece_size, pieces, present, bad; /* bad: found by dp_store_verify */
    int64_t used_unix;                         /* seconds, when it was last open */
    bool is_open;                              /* by some process */
} dp_store_entry;

#define DP_STORE_ENTRIES_MAX 65536

/* Every file of the folder; the caller frees *out with dp_free. */
dp_status dp_store_list(const char *folder, dp_store_entry **out, size_t *count, dp_error *err);
/* Hashes what is there; bad pieces are dropped. entry->present and ->bad say the outcome.
 * DP_E_BUSY: it is open; DP_E_CORRUPT: its map is none; DP_E_IO. */
dp_status dp_store_verify(const char *folder, dp_store_entry *entry, dp_error *err);
/* Frees at least `bytes`, coldest first; of one key, or NULL: of all that are not open. *freed
 * says how much it was. DP_E_BUSY: that key is open. */
dp_status dp_store_evict(const char *folder, const char *key, uint64_t bytes, uint64_t *freed,
                         dp_error *err);
/* Removes a key and all its files. DP_E_BUSY while a process has it open. */
dp_status dp_store_remove(const char *folder, const char *key, dp_error *err);

#endif
