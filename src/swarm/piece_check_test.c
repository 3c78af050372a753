#include "swarm/piece_check.h"

#include <stdatomic.h>

#include "store/store_testing.h"

#define COUNT 40
#define BAD   23

static _Atomic uint32_t gone_count, gone_piece;

static void note_gone(void *user, dp_store_file *file, uint32_t piece)
{
    atomic_store(&gone_piece, piece);
    atomic_fetch_add(&gone_count, 1);
}

/* Content 4 with a wrong byte in one piece; *file of a store that tells what goes. */
static dp_store *open_share(dp_store_file **file, dp_pieces pieces, const dp_hash *hashes)
{
    dp_store_config config = { .clock = &dp_clock_real, .on_gone = note_gone };
    dp_store_file_config own = { .key = "aa", .name = "m", .pieces = pieces, .hashes = hashes };
    uint8_t *bytes = malloc(PIECE);
    char path[128];
    dp_store *store;
    dp_error err;
    FILE *out;

    snprintf(path, sizeof path, "%s/own.gguf", test_folder);
    out = fopen(path, "wb");
    for (uint32_t i = 0; i < COUNT; i++) {
        fill_piece(bytes, 4, pieces, i);
        bytes[17] ^= i == BAD;
        fwrite(bytes, 1, dp_pieces_size(pieces, i), out);
    }
    fclose(out);
    free(bytes);
    own.whole_path = path;
    CHECK_OK(dp_store_open(&store, &config, &err), err);
    CHECK_OK(dp_store_file_open(file, store, &own, &err), err);
    return store;
}

static void damage_is_told_before_it_is_asked_for(void **unused)
{
    const dp_pieces pieces = { COUNT * (uint64_t)PIECE - 700, PIECE };
    dp_hash *hashes = make_hashes(4, pieces);
    dp_layout_file part = { "m", pieces, 0, hashes };
    dp_layout layout = { &part, 1, PIECE, COUNT };
    uint64_t end_ns = dp_clock_now_ns(&dp_clock_real) + 10000000000u;
    dp_piece_check *check;
    dp_store_file *file;
    dp_store *store;
    dp_error err;

    store = open_share(&file, pieces, hashes);
    CHECK(dp_store_has(file, BAD), "nobody looked");
    CHECK_OK(dp_piece_check_open(&check, &layout, &file, &dp_clock_real, &err), err);
    while (atomic_load(&gone_count) == 0) {
        CHECK(dp_clock_now_ns(&dp_clock_real) < end_ns, "nobody was told");
        usleep(1000); /* another thread's reading: there is no event to wait for */
    }
    dp_piece_check_close(check);
    CHECK(atomic_load(&gone_count) == 1 && atomic_load(&gone_piece) == BAD, "another piece");
    for (uint32_t i = 0; i < COUNT; i++)
        CHECK(dp_store_has(file, i) == (i != BAD), "piece %u", i);

    CHECK_OK(dp_piece_check_open(&check, &layout, &file, &dp_clock_real, &err), err);
    dp_piece_check_close(check); /* wherever it is */
    dp_piece_check_close(NULL);
    dp_store_file_close(file);
    dp_store_close(store);
    dp_free(hashes);
    check_no_leak();
}

static void it_opens_or_leaves_nothing(void **unused)
{
    const dp_pieces pieces = { 5, PIECE };
    dp_layout_file part = { "m", pieces, 0, NULL };
    dp_layout layout = { &part, 1, PIECE, 1 };
    dp_store_file *file = NULL;
    dp_store *store = open_store(DP_GIB);
    dp_store_file_config config = { .key = "aa", .name = "m", .pieces = pieces };
    dp_piece_check *check;
    dp_status st = DP_E_NOMEM;
    dp_error err;

    CHECK_OK(dp_store_file_open(&file, store, &config, &err), err);
    for (uint64_t n = 0; st; n++) {
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_piece_check_open(&check, &layout, &file, &dp_clock_real, &err);
        dp_fault_disarm(DP_FAULT_MEM);
        CHECK(!st || (st == DP_E_NOMEM && !check), "visit %d: %s", (int)n, err.text);
    }
    dp_piece_check_close(check);
    dp_store_file_close(file);
    dp_store_close(store);
    check_no_leak();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(damage_is_told_before_it_is_asked_for, test_set_up,
                                        test_tear_down),
        cmocka_unit_test_setup_teardown(it_opens_or_leaves_nothing, test_set_up, test_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
