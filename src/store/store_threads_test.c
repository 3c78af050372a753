/* Many threads at one store that is always full. */
#include "store/store_testing.h"

#include <stdatomic.h>
#include "base/rng.h"
#include "base/thread.h"

#define THREADS 6
#define FILES   3
#define COUNT   40
#define STEPS   5000

static const dp_pieces pieces = { COUNT * (uint64_t)PIECE - 5000, PIECE };
static const uint64_t budget = 50 * (uint64_t)PIECE;

static dp_store *store;
static dp_store_file *files[FILES];
static _Atomic uint64_t gone_count, got_count, kept_count, over_count, wrong_count;

static void count_gone(void *user, dp_store_file *file, uint32_t piece)
{
    uint8_t bits[(COUNT + 7) / 8];

    dp_store_have_bits(file, bits); /* no lock is held: calls are allowed */
    atomic_fetch_add(&gone_count, 1);
    atomic_fetch_add(&wrong_count, bits[piece / 8] >> (7 - piece % 8) & 1);
}

static bool is_right(const uint8_t *bytes, uint32_t which, uint64_t offset, uint64_t size)
{
    for (uint64_t i = 0; i < size; i += 11) {
        if (bytes[i] != content_at(which, offset + i))
            return false;
    }
    return true;
}

/* Assertions of cmocka are for the main thread: here mistakes are counted. */
static void hammer(void *user)
{
    static _Thread_local uint8_t bytes[4 * PIECE], scratch[PIECE];
    dp_rng rng;

    dp_rng_init(&rng, (uint64_t)(uintptr_t)user);
    for (int step = 0; step < STEPS; step++) {
        uint32_t which = (uint32_t)dp_rng_below(&rng, FILES);
        uint32_t piece = (uint32_t)dp_rng_below(&rng, COUNT);
        uint64_t offset = piece * (uint64_t)PIECE;
        dp_store_file *file = files[which];
        bool is_kept;
        dp_status st;

        switch (dp_rng_below(&rng, 16)) {
        case 0:
            dp_store_drop(file, piece);
            break;
        case 1:
            dp_store_set_class(file, piece, 1, (dp_piece_class)dp_rng_below(&rng, 3));
            break;
        case 2:
            atomic_fetch_add(&over_count, stats_of(store).used_bytes > budget);
            break;
        case 3: {
            uint64_t size = DP_MIN(pieces.file_size - offset, dp_rng_below(&rng, 3 * PIECE));

            st = dp_store_read_range(file, offset, size, bytes, scratch, NULL);
            atomic_fetch_add(&wrong_count, !st && !is_right(bytes, which, offset, size));
            break;
        }
        default:
            dp_store_touch(file, piece, 1);
            st = dp_store_read(file, piece, bytes, NULL);
            if (!st) {
                atomic_fetch_add(&got_count, 1);
                atomic_fetch_add(&wrong_count,
                                 !is_right(bytes, which, offset, dp_pieces_size(pieces, piece)));
                break;
            }
            atomic_fetch_add(&wrong_count, st != DP_E_NOTFOUND);
            fill_piece(bytes, which, pieces, piece);
            st = dp_store_write(file, piece, bytes, &is_kept, NULL);
            atomic_fetch_add(&wrong_count, st != DP_OK);
            atomic_fetch_add(&kept_count, is_kept);
        }
    }
}

/* Damages the mirrors while they are read; what it breaks must be found, and is counted. */
static void rot(void *user)
{
    char path[128];
    dp_rng rng;
    int fd;

    snprintf(path, sizeof path, "%s/0a/model.gguf", test_folder);
    fd = open(path, O_WRONLY);
    dp_rng_init(&rng, 77);
    for (int i = 0; i < 300 && fd >= 0; i++) {
        uint64_t at = dp_rng_below(&rng, pieces.file_size);
        uint8_t byte = (uint8_t)~content_at(0, at);

        if (pwrite(fd, &byte, 1, (off_t)at) != 1)
            break;
    }
    close(fd);
}

static void run_threads(uint32_t rots)
{
    dp_thread threads[THREADS + 1];
    dp_error err;

    gone_count = got_count = kept_count = over_count = wrong_count = 0;
    store = open_store_with(budget, &dp_clock_real, count_gone, NULL);
    for (uint32_t f = 0; f < FILES; f++) {
        const char *keys[] = { "0a", "0b", "0c" };

        files[f] = open_file(store, keys[f], pieces, NULL);
    }
    for (uint32_t t = 0; t < THREADS; t++)
        CHECK_OK(dp_thread_start(&threads[t], "hammer", hammer, (void *)(uintptr_t)(t + 1), &err),
                 err);
    if (rots)
        CHECK_OK(dp_thread_start(&threads[THREADS], "rot", rot, NULL, &err), err);
    for (uint32_t t = 0; t < THREADS + rots; t++)
        dp_thread_join(&threads[t]);
    CHECK(wrong_count == 0, "%d mistakes", (int)wrong_count);
    CHECK(rots || over_count == 0, "%d times over the budget", (int)over_count);
    CHECK(gone_count > 100 && got_count > 100 && kept_count > 100, "%d %d %d", (int)gone_count,
          (int)got_count, (int)kept_count);
    CHECK(rots || (du() <= budget && is_near_du(stats_of(store).used_bytes)), "%llu",
          (unsigned long long)du());
    CHECK(rots || stats_of(store).pieces_bad == 0, "nothing rots");
    CHECK(stats_of(store).is_writable, "%s", stats_of(store).problem);
    for (uint32_t f = 0; f < FILES; f++)
        get_all(files[f], f);
    for (uint32_t f = 0; f < FILES; f++)
        dp_store_file_close(files[f]);
    dp_store_close(store);
    check_no_leak();
}

static void threads_share_a_full_store(void **unused)
{
    run_threads(0);
}

static void threads_share_a_store_that_rots(void **unused)
{
    run_threads(1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, test_set_up_in_memory, test_tear_down)
    const struct CMUnitTest tests[] = {
        T(threads_share_a_full_store),
        T(threads_share_a_store_that_rots),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
