/* store_impl.h - the inside of the store, shared by store*.c alone.
 *
 * States   of a piece:
 *
 *          ABSENT --write--> WRITING --done--> HERE --evict, drop, found bad--> DOOMED --> ABSENT
 *                               '---failed----> ABSENT
 *
 * Invariants
 *   (1) lease_count > 0 only in HERE and DOOMED; taken in HERE only.
 *   (2) The bytes of a piece in the mirror change in WRITING, and in DOOMED without leases, by the
 *       one thread that brought it there.
 *   (3) used + promised bytes <= budget before a write begins, as far as can be measured.
 *   (4) A record HERE is written after the data it speaks of; a record GONE before the hole.
 *   (5) A file whose lock is given up for I/O is entered (user_count), so that closing it waits.
 *
 * Threads  One lock a store guards all that changes here. It is not held across a read, a
 *          write, a hash or a callback; fstat, which reads no drive, is called under it.
 */
#ifndef DP_STORE_IMPL_H
#define DP_STORE_IMPL_H

#include "base/file.h"
#include "base/thread.h"
#include "store/evict.h"
#include "store/presence.h"
#include "store/store.h"

enum { PIECE_ABSENT, PIECE_WRITING, PIECE_HERE, PIECE_DOOMED };

typedef struct dp_store_piece {
    double warmth;
    uint32_t lease_count;
    uint8_t state, class_;
    bool has_hash;
    bool is_newer; /* than its record: touched, or of another class */
} dp_store_piece;

typedef struct dp_store_key {
    struct dp_store_key *next;
    uint32_t file_count;
    int lock;
    char name[DP_STORE_KEY_MAX + 1];
} dp_store_key;

struct dp_store_file {
    dp_store *store;
    dp_store_file *next;
    dp_store_key *key; /* NULL: nothing of it is on disk, or it is whole */
    char *path, *map_path;
    char name[DP_STORE_NAME_MAX + 1];
    dp_file mirror, map; /* fd -1: not there */
    dp_presence_head head;
    uint32_t count;
    dp_hash *hashes;        /* [count]; of a piece: valid when has_hash */
    dp_store_piece *pieces; /* [count] */
    uint64_t used_bytes;    /* of mirror and map, when last measured */
    uint64_t found_bytes;   /* ... and before it was opened */
    uint32_t user_count;    /* threads at I/O */
    bool is_whole, is_writable, hashes_are_known;
};

/* Bytes that were written and may still wait for the drive. */
typedef struct dp_store_behind {
    dp_store_file *file; /* NULL: was closed */
    uint64_t offset, size;
} dp_store_behind;

#define DP_STORE_BEHIND_MAX   128
#define DP_STORE_BEHIND_BYTES ((uint64_t)16 << 20) /* dirty or cached behind the writers */

/* A key of FOLDER that this store does not have open. */
typedef struct dp_store_closed {
    char key[DP_STORE_KEY_MAX + 1];
    uint64_t used_bytes;
    int64_t used_unix;
    bool is_busy; /* somebody else has it open */
} dp_store_closed;

#define DP_STORE_VICTIMS 1024 /* found by one look at all pieces */

struct dp_store {
    dp_mutex lock;
    dp_cond idle; /* user_count fell, or is_thinning ended */
    char *folder; /* NULL: nothing is kept */
    uint64_t budget_bytes;
    const dp_clock *clock;
    void (*on_gone)(void *user, dp_store_file *file, uint32_t piece);
    void *user;
    int64_t unix_at_open;
    uint64_t ns_at_open;

    dp_store_file *files;
    dp_store_key *keys;
    bool is_writable, can_punch;
    char problem[192];

    /* Room (store_room.c). */
    uint64_t foreign_bytes;  /* in FOLDER, not of our open files; when last looked at */
    uint64_t own_bytes;      /* of our open files */
    uint64_t promised_bytes; /* to writes under way */
    uint64_t leaving_bytes;  /* that evictions under way will give back */
    uint64_t looked_ns, written_since_look, written_since_sync;
    dp_store_closed *closed;
    size_t closed_count;
    bool is_thinning, is_looking, is_syncing, has_company; /* another process writes here too */
    uint32_t fruitless_count; /* holes in a row that gave nothing back */
    dp_evict_list victims;    /* sorted; stale when something colder may have come */
    uint32_t victim_at;
    bool victims_are_stale;

    dp_store_behind behind[DP_STORE_BEHIND_MAX]; /* ring */
    uint32_t behind_at, behind_count;
    uint64_t behind_bytes;

    dp_store_stats stats; /* counters alone */
};

/* store.c */
double dp_store_now_s(const dp_store *store);
/* Writing ends: the first reason is kept and logged. Caller holds the lock. */
void dp_store_break_locked(dp_store *store, const char *reason);
void dp_store_enter_locked(dp_store_file *file); /* (5) */
void dp_store_leave_locked(dp_store_file *file);

/* store_key.c */
/* FOLDER, /KEY, /NAME, suffix; NULL parts are left out. The caller frees it; NULL: memory. */
char *dp_store_path(const char *folder, const char *key, const char *name, const char *suffix);
bool dp_store_key_is_valid(const char *key);
/* As long as a listing or an eviction of another process may hold a key. */
#define DP_STORE_LOCK_WAIT_MS 500
/* Made and locked for this process. Whatever the outcome, *out (NULL: memory) is released with
 * dp_store_key_release. DP_E_BUSY, DP_E_NOMEM; DP_E_IO, DP_E_NOTFOUND: the drive's. */
dp_status dp_store_key_acquire(dp_store_key **out, dp_store *store, const char *name,
                               dp_error *err);
void dp_store_key_release(dp_store *store, dp_store_key *key); /* NULL is fine */

/* store_file.c */
/* Writes what is newer than its record, and has the drive take all of it. Takes the lock. */
dp_status dp_store_flush(dp_store_file *file, dp_error *err);

/* store_room.c; all of these: the caller holds the lock, which is given up meanwhile. */
/* Promises `need` bytes to a piece of this worth, evicting others if it must. False: there is no
 * room. True: the promise ends with dp_store_settle_locked. */
bool dp_store_reserve_locked(dp_store *store, uint64_t need, const dp_evict_item *worth);
void dp_store_settle_locked(dp_store *store, uint64_t need);
void dp_store_measure_locked(dp_store_file *file);
/* A piece that is HERE reads as absent from now on; on_gone runs. */
void dp_store_doom_locked(dp_store_file *file, uint32_t piece);
/* What is DOOMED and has no lease leaves the map and the mirror. */
void dp_store_clear_locked(dp_store_file *file, uint32_t piece);
/* One lease less; the last one clears what was doomed meanwhile. */
void dp_store_release_locked(dp_store_file *file, uint32_t piece);
/* This piece may leave earlier than what was found so far. */
void dp_store_colder_locked(dp_store_file *file, uint32_t piece);
/* Looks at FOLDER again: what is there that is not ours. DP_E_IO, DP_E_NOMEM. */
dp_status dp_store_look_locked(dp_store *store, dp_error *err);

/* store_closed.c: keys that nobody has open. */
/* What lies in a folder: of every key its bytes and when it was used last; *other_bytes: the
 * rest. Files that `skips` names (NULL: none) are not counted. The caller frees *out with
 * dp_free. */
dp_status dp_store_survey(dp_store_closed **out, size_t *count, uint64_t *other_bytes,
                          const char *folder,
                          bool (*skips)(void *user, const char *key, const char *name), void *user,
                          dp_error *err);
bool dp_store_is_map(const char *name); /* of a file in the folder of a key */

/* A mirror with its map, under the lock of its key. */
typedef struct dp_store_closed_file {
    char *path, *map_path;
    dp_file mirror, map;
    dp_presence_head head;
    uint32_t present;
    bool is_good; /* has a map that says what it is of */
} dp_store_closed_file;

/* By the name of its map. DP_E_IO: the drive failed; with any outcome: dp_store_closed_close. */
dp_status dp_store_closed_open(dp_store_closed_file *f, const char *folder, const char *key,
                               const char *map_name, dp_error *err);
void dp_store_closed_close(dp_store_closed_file *f);
uint64_t dp_store_closed_used(const dp_store_closed_file *f);
/* As an eviction of an open file: the record first, then the hole. DP_E_UNSUPPORTED: no hole. */
dp_status dp_store_closed_empty(dp_store_closed_file *f, uint32_t piece, dp_error *err);

/* Pieces leave until `bytes` came back; empty files and keys vanish. DP_E_BUSY: it is open. */
dp_status dp_store_thin(const char *folder, const char *key, uint64_t bytes, bool can_punch,
                        uint32_t wait_ms, uint64_t *freed, dp_error *err);
/* Whatever is in the folder of a key, and the folder. Under its lock. */
dp_status dp_store_remove_folder(const char *folder, const char *key, uint64_t *freed,
                                 dp_error *err);

#endif
