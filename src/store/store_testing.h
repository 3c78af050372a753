/* store_testing.h - what the tests of the store share. Included by tests only.
 *
 * A folder of its own, contents by formula, the folder's size as the system sees it, and an
 * oracle: whatever the store gives must be the content. */
#ifndef DP_STORE_TESTING_H
#define DP_STORE_TESTING_H

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "store/store.h"
#include "testing/check.h"
#include "testing/remove_folder.h"

#define PIECE ((uint32_t)16384)

static char test_folder[64];
static uint64_t du_bytes;

static inline int du_visit(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    du_bytes += (uint64_t)info->st_blocks * 512;
    return 0;
}

/* What everything in the folder takes on the drive. */
static inline uint64_t du(void)
{
    du_bytes = 0;
    nftw(test_folder, du_visit, 16, FTW_PHYS);
    return du_bytes;
}

/* A file system may give a file a block of its own, for extents, or take it away, whenever it
 * writes back: between two looks a few such blocks may come or go, less than a piece. */
#define TREE_BLOCKS_BYTES 8192

static inline bool is_near_du(uint64_t bytes)
{
    uint64_t now = du();

    return bytes <= now + TREE_BLOCKS_BYTES && now <= bytes + TREE_BLOCKS_BYTES;
}

/* Where syncing costs nothing: for tests that open and close a store hundreds of times. */
static inline int test_set_up_in_memory(void **unused)
{
    snprintf(test_folder, sizeof test_folder, "/dev/shm/store_test.XXXXXX");
    if (mkdtemp(test_folder))
        return 0;
    snprintf(test_folder, sizeof test_folder, "store_test.XXXXXX");
    return mkdtemp(test_folder) ? 0 : -1;
}

static inline int test_set_up(void **unused)
{
    snprintf(test_folder, sizeof test_folder, "store_test.XXXXXX");
    return mkdtemp(test_folder) ? 0 : -1;
}

static inline int test_tear_down(void **unused)
{
    return remove_folder(test_folder);
}

/* Byte `at` of the file numbered `which`. */
static inline uint8_t content_at(uint32_t which, uint64_t at)
{
    uint64_t x = (at / 8 + 1) * 0x9e3779b97f4a7c15u + which * 0xd1342543de82ef95u;

    x ^= x >> 31;
    return (uint8_t)(x >> 8 * (at % 8));
}

static inline void fill_piece(uint8_t *out, uint32_t which, dp_pieces pieces, uint32_t piece)
{
    uint64_t begin = (uint64_t)piece * pieces.piece_size;
    uint32_t size = dp_pieces_size(pieces, piece);

    for (uint32_t i = 0; i < size; i++)
        out[i] = content_at(which, begin + i);
}

/* Known hashes of a content; the caller frees them with dp_free. */
static inline dp_hash *make_hashes(uint32_t which, dp_pieces pieces)
{
    uint32_t count = dp_pieces_count(pieces);
    dp_hash *hashes = dp_alloc_zero(count, sizeof *hashes);
    uint8_t *bytes = dp_alloc(pieces.piece_size, 1);
    dp_error err;

    CHECK(hashes && bytes, "memory");
    for (uint32_t i = 0; i < count; i++) {
        fill_piece(bytes, which, pieces, i);
        CHECK_OK(dp_piece_hash(&hashes[i], pieces, i, bytes, &err), err);
    }
    dp_free(bytes);
    return hashes;
}

static inline dp_store *open_store_with(uint64_t budget, const dp_clock *clock,
                                        void (*on_gone)(void *, dp_store_file *, uint32_t),
                                        void *user)
{
    dp_store_config config = { test_folder, budget, clock, on_gone, user };
    dp_store *store;
    dp_error err;

    CHECK_OK(dp_store_open(&store, &config, &err), err);
    return store;
}

static inline dp_store *open_store(uint64_t budget)
{
    return open_store_with(budget, &dp_clock_real, NULL, NULL);
}

static inline dp_store_file *open_file(dp_store *store, const char *key, dp_pieces pieces,
                                       const dp_hash *hashes)
{
    dp_store_file_config config = { .key = key,
                                    .name = "model.gguf",
                                    .pieces = pieces,
                                    .hashes = hashes,
                                    .origin = "model.torrent" };
    dp_store_file *file;
    dp_error err;

    CHECK_OK(dp_store_file_open(&file, store, &config, &err), err);
    return file;
}

static inline bool put_piece(dp_store_file *file, uint32_t which, uint32_t piece)
{
    dp_pieces pieces = dp_store_file_pieces(file);
    uint8_t *bytes = malloc(pieces.piece_size);
    bool is_kept;
    dp_error err;

    fill_piece(bytes, which, pieces, piece);
    CHECK_OK(dp_store_write(file, piece, bytes, &is_kept, &err), err);
    free(bytes);
    return is_kept;
}

/* Reads a piece: true and it is the content, or false and it is not here. Nothing else. */
static inline bool get_piece(dp_store_file *file, uint32_t which, uint32_t piece)
{
    dp_pieces pieces = dp_store_file_pieces(file);
    uint8_t *bytes = malloc(2 * (size_t)pieces.piece_size);
    uint8_t *want = bytes + pieces.piece_size;
    dp_error err;
    dp_status st = dp_store_read(file, piece, bytes, &err);

    CHECK(st == DP_OK || st == DP_E_NOTFOUND, "piece %u: %s", piece, err.text);
    if (!st) {
        fill_piece(want, which, pieces, piece);
        CHECK(memcmp(bytes, want, dp_pieces_size(pieces, piece)) == 0, "piece %u: wrong bytes",
              piece);
    }
    free(bytes);
    return !st;
}

/* How many pieces can be read, all of them right. */
static inline uint32_t get_all(dp_store_file *file, uint32_t which)
{
    uint32_t count = dp_pieces_count(dp_store_file_pieces(file)), got = 0;

    for (uint32_t i = 0; i < count; i++)
        got += get_piece(file, which, i);
    return got;
}

static inline dp_store_stats stats_of(dp_store *store)
{
    dp_store_stats stats;

    dp_store_stats_read(store, &stats);
    return stats;
}

static inline void check_no_leak(void)
{
    dp_mem_stats stats;

    dp_mem_stats_read(&stats);
    CHECK(stats.heap_blocks == 0, "%llu blocks leaked", (unsigned long long)stats.heap_blocks);
}

#endif
